"""Payload lines: byte for byte what the encoder writes of a Payload, and of a Retraction, whatever the words are."""

import json

import msgspec
import pytest
from test_stages import Keys

from schemas.contract import payload_type, retraction_type
from schemas.crossing import Alike, Crossing, Deidentified, Entries, Payload, Retraction
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from transforms.rules.payload import SOURCE, Desk

ODD = 'a "word", 100 %s \\u0000 of Zürich\n'  # all that JSON could trip over


def crossing(route: str, *days: str, retracts: bool = False) -> Crossing:
    """Releases, one a day, each of an event of its own and under a consent of its own; or what takes them back."""
    rows = len(days)
    names = [bytes([place]) * 16 for place in range(rows)]
    alike = [
        Alike("ADT", Verdict.RELEASED, Reason.PERMITTED, "", (names[place],) if place else (), 0, place + 1)
        for place in range(rows)
    ]
    entries = Entries(route, names, names, alike, range(rows))
    data = json.dumps({"milestone": ODD}).encode()
    made = [Deidentified({"time": day, "milestone": ODD}, "", data, "") for day in days]
    words = ["b" * 32 + str(place) for place in range(rows)]
    taken = [place + 40 for place in range(rows)] if retracts else []
    return Crossing(entries, made, words, [word + "r" for word in words], range(50, 50 + rows), taken, {})


def with_words(policy: Policy, word: str) -> Policy:
    """The policy, with a word of its own where a payload shows one."""
    route = policy.routes[0]
    destination = route.destination.model_copy(update={"name": word})
    changed = route.model_copy(update={"destination": destination, "purpose": word, "route": word})
    return policy.model_copy(update={"policy": word, "routes": (changed,)})


@pytest.mark.parametrize("retracts", [False, True])
@pytest.mark.parametrize("word", ["crm", ODD.replace("\\u0000", ""), "{}"])
def test_lines_are_what_the_encoder_writes(policy: Policy, word: str, retracts: bool) -> None:
    odd = with_words(policy, word)
    (route,) = odd.routes
    one = crossing(word, "2026-01-01", ODD, "2026-01-02", *["2026-01-03"] * 9, retracts=retracts)
    desk = Desk(route, odd, Keys().open())
    written = desk.lines(one)
    lines = {json.loads(line)["id"]: line for line in sorted(written.lines)}
    assert list(lines) == sorted(written.ids)
    assert {name.endswith("-retraction") for name in lines} == {retracts}
    assert len(set(written.ids)) == len(set(written.correlations)) == 12
    assert written.correlations == desk.correlations(one.entries.whats)
    for place, (name, made) in enumerate(zip(written.ids, one.made, strict=True)):
        type_ = retraction_type(word) if retracts else payload_type(route)
        values = (
            name, SOURCE, type_, f"{made.values['time']}T00:00:00Z", one.subjects[place],
            one.records[place], place + 50, word, word, json.loads(lines[name])["consentref"],
            odd.level(route).label, odd.name, route.recipe_name, written.correlations[place],
            msgspec.Raw(made.data),
        )  # fmt: skip
        payload = Retraction(*values, retracts=place + 40) if retracts else Payload(*values)
        assert lines[name] == msgspec.json.encode(payload) + b"\n"
    references = [json.loads(lines[name])["consentref"] for name in written.ids]
    assert references[0] == ""
    assert len(set(references)) == (1 if retracts else 12)  # a retraction names no cause
