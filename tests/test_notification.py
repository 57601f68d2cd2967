"""Subscription notifications in their three shapes: what each status comes to, and which events were missed."""

import json
from collections.abc import Callable
from datetime import UTC
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hospital_files import by_identifier, debug_log, decide, ndjson, payloads, permit, records, tree
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Made
from transforms.rules import hl7_events
from transforms.rules.envelope import Envelopes
from transforms.rules.envelope_parts import Counted
from transforms.rules.notification import Gaps
from transforms.rules.reading import Reading

Json = dict[str, Any]
ENVELOPES = Envelopes(Reading("ehr", "UTF-8", UTC, ("MR", "")), {}, hl7_events.read)
WORD = "ZQNOTICE"  # in what must be neither read nor repeated
BASE = "https://ehr/fhir"
XVER = "http://hl7.org/fhir/5.0/StructureDefinition/extension-SubscriptionStatus"


class Happened:
    """An event as a status tells of it."""

    def __init__(self, number: object, focus: str = "") -> None:
        self.number, self.focus = number, focus


def parameters(kind: str, since: object, *events: Happened, subscription: str = f"{BASE}/Subscription/s") -> Json:
    """As published for R4."""
    parts = []
    for event in events:
        told = [{"name": "event-number", "valueString": event.number}]
        told += [{"name": "focus", "valueReference": {"reference": event.focus}}] if event.focus else []
        hint = [{"name": "value", "valueString": f"{WORD}token"}]
        told += [{"name": "authorization-hint", "part": hint}]
        query = [{"name": "query", "valueString": f"{BASE}/$example?patient={WORD}1"}]
        told += [{"name": "related-query", "part": query}]
        parts.append({"name": "notification-event", "part": told})
    named = [
        {"name": "subscription", "valueReference": {"reference": subscription}},
        {"name": "topic", "valueCanonical": "urn:topic"},
        {"name": "status", "valueCode": "active"},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": since},
    ]
    return {"resourceType": "Parameters", "parameter": named + parts}


def status(kind: str, since: object, *events: Happened, subscription: str = f"{BASE}/Subscription/s") -> Json:
    """As in R4B and R5."""
    hint = {"url": "urn:authorization-hint", "extension": [{"url": "value", "valueString": f"{WORD}token"}]}
    return {
        "resourceType": "SubscriptionStatus",
        "type": kind,
        "status": "active",
        "subscription": {"reference": subscription},
        "eventsSinceSubscriptionStart": since,
        "notificationEvent": [
            {
                "eventNumber": one.number,
                "extension": [hint],
                **({"focus": {"reference": one.focus}} if one.focus else {}),
            }
            for one in events
        ],
    }


def _extensions(kind: str, since: object, events: tuple[Happened, ...], subscription: str, prefix: str) -> list[Json]:
    told = []
    for one in events:
        within: list[Json] = [{"url": "eventNumber", "valueString": one.number}]
        within += [{"url": "focus", "valueReference": {"reference": one.focus}}] if one.focus else []
        told.append({"url": f"{prefix}notificationEvent", "extension": within})
    return [
        {"url": f"{prefix}subscription", "valueReference": {"reference": subscription}},
        {"url": f"{prefix}type", "valueCode": kind},
        {"url": f"{prefix}eventsSinceSubscriptionStart", "valueString": since},
        *told,
    ]


def basic(kind: str, since: object, *events: Happened, subscription: str = f"{BASE}/Subscription/s") -> Json:
    """One modifier extension around all of it."""
    inner = _extensions(kind, since, events, subscription, "")
    return {"resourceType": "Basic", "modifierExtension": [{"url": XVER, "extension": inner}]}


def flat(kind: str, since: object, *events: Happened, subscription: str = f"{BASE}/Subscription/s") -> Json:
    """An extension for each element, and the type as a modifier."""
    subscribed, typed, *others = _extensions(kind, since, events, subscription, f"{XVER}.")
    return {"resourceType": "Basic", "extension": [subscribed, *others], "modifierExtension": [typed]}


SHAPES: list[Callable[..., Json]] = [parameters, status, basic, flat]
shapes = pytest.mark.parametrize("shape", SHAPES)


def encounter(name: str = "e", **fields: Any) -> Json:
    known = {"resourceType": "Encounter", "id": name, "status": "finished", "subject": {"reference": "Patient/7"}}
    return known | fields


def notification(first: Json, *resources: Json, kind: str = "history") -> Json:
    entries = [{"fullUrl": f"{BASE}/{one['resourceType']}/{one['id']}", "resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": [{"fullUrl": "urn:uuid:1", "resource": first}, *entries]}


def opened(tree: Json) -> list[Counted]:
    return ENVELOPES.document(json.dumps(tree).encode())


def said(counted: list[Counted]) -> list[str]:
    first = [one.facts[0] if one.facts else None for one in counted]
    return [
        str(one.reason or (fact.reason if isinstance(fact, Made) else type(fact).__name__))
        for one, fact in zip(counted, first, strict=True)
    ]


HERE = Happened("3", f"{BASE}/Encounter/e")
ELSEWHERE = Happened("4", f"{BASE}/Encounter/f")
CASES = [
    ("a handshake", ("handshake", "0"), [], ["notification"]),
    ("a heartbeat", ("heartbeat", "2"), [], ["notification"]),
    ("an answer to a question", ("query-status", "2"), [], ["notification"]),
    ("empty", ("event-notification", "3", Happened("3")), [], ["fetch_needed"]),
    ("id-only", ("event-notification", "3", HERE), [], ["fetch_needed"]),
    ("events that were asked for, id-only", ("query-event", "3", HERE), [], ["fetch_needed"]),
    ("full", ("event-notification", "3", HERE), [encounter()], ["notification", "Milestone"]),
    ("full, without a word about it", ("event-notification", "3", Happened("3")), [encounter()],
     ["notification", "Milestone"]),
    ("full, by a relative reference", ("event-notification", "3", Happened("3", "Encounter/e")), [encounter()],
     ["notification", "Milestone"]),
    ("full, of one version", ("event-notification", "3", Happened("3", f"{BASE}/Encounter/e/_history/2")),
     [encounter()], ["notification", "Milestone"]),
    ("two events", ("event-notification", "4", HERE, ELSEWHERE), [encounter(), encounter("f")],
     ["notification", "Milestone", "Milestone"]),
    ("two events, one of them full", ("event-notification", "4", HERE, ELSEWHERE), [encounter()],
     ["fetch_needed", "Milestone"]),
    ("a resource of another kind", ("event-notification", "3", HERE), [encounter(resourceType="Observation")],
     ["fetch_needed", "no_route"]),
    ("an event-notification of nothing", ("event-notification", "3"), [], ["fetch_needed"]),
    ("an unknown type", ("event", "3", HERE), [encounter()], ["malformed", "Milestone"]),
    ("no type", (None, "3", HERE), [encounter()], ["malformed", "Milestone"]),
    ("an object for a type", ({}, "3", HERE), [], ["malformed"]),
    ("a word for a number", ("event-notification", "3", Happened("three")), [], ["malformed"]),
    ("a number below all", ("event-notification", "-1"), [], ["malformed"]),
    ("a number beyond all", ("event-notification", "9" * 5000), [], ["malformed"]),
    ("true for a number", ("event-notification", True), [], ["malformed"]),
    ("no number at all", ("event-notification", None, Happened(None)), [], ["fetch_needed"]),
    ("numbers as numbers", ("event-notification", 3, Happened(3)), [], ["fetch_needed"]),
]  # fmt: skip


@shapes
@pytest.mark.parametrize("told, resources, words", [pytest.param(*case, id=name) for name, *case in CASES])
def test_what_a_notification_comes_to(
    shape: Callable[..., Json], told: tuple[Any, ...], resources: list[Json], words: list[str]
) -> None:
    for kind in ("history", "subscription-notification"):
        whole = notification(shape(*told), *resources, kind=kind)
        assert said(opened(whole)) == words
        carried = {"specversion": "1.0", "id": "1", "source": BASE, "type": "t", "data": whole}
        assert said(opened(carried)) == words, "in a CloudEvent"
    alone = "notification" if not told[0] or told[0] in ("handshake", "heartbeat", "query-status") else "fetch_needed"
    assert said(opened(shape(*told))) == (words[:1] if words[0] == "malformed" else [alone]), "without a Bundle"


@shapes
def test_the_answer_about_several_subscriptions(shape: Callable[..., Json]) -> None:
    tree = {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": shape("query-status", "2")}] * 3}
    assert said(opened(tree)) == ["notification"] * 3


@shapes
def test_what_was_deleted_cannot_be_fetched(shape: Callable[..., Json]) -> None:
    gone = {"fullUrl": HERE.focus, "request": {"method": "DELETE", "url": "Encounter/e"}}
    whole = notification(shape("event-notification", "3", HERE))
    assert said(opened({**whole, "entry": [*whole["entry"], gone]})) == ["notification", "deletion"]
    pointer = {"fullUrl": HERE.focus, "request": {"method": "GET", "url": "Encounter/e"}}
    assert said(opened({**whole, "entry": [*whole["entry"], pointer]})) == ["fetch_needed", "notification"]


@shapes
def test_a_notification_in_a_bundle_keeps_its_own(shape: Callable[..., Json]) -> None:
    inner = notification(shape("event-notification", "3", HERE))
    outer = {"resourceType": "Bundle", "entry": [{"resource": inner}, {"resource": encounter()}]}
    assert said(opened(outer)) == ["fetch_needed", "Milestone"], "what another Bundle holds did not come with it"
    assert opened(outer)[0].body == json.dumps(inner["entry"][0]["resource"]).encode()


BROKEN = [
    ("subscribed twice", parameters("heartbeat", "1") | {
        "parameter": parameters("heartbeat", "1")["parameter"] + parameters("handshake", "1")["parameter"]
    }, "malformed"),
    ("an event that is a text", status("heartbeat", "1") | {"notificationEvent": ["x"]}, "notification"),
    ("events that are an object", status("heartbeat", "1") | {"notificationEvent": {"eventNumber": "1"}},
     "notification"),
    ("an event without parts", {"resourceType": "Parameters", "parameter": [
        *parameters("heartbeat", "1")["parameter"], {"name": "notification-event", "valueString": "x"}
    ]}, "malformed"),
    ("no subscription", {"resourceType": "SubscriptionStatus", "type": "heartbeat"}, "notification"),
    ("a status of nothing", {"resourceType": "SubscriptionStatus"}, "malformed"),
    ("parameters that are a text", {"resourceType": "Parameters", "parameter": "x"}, "no_route"),
    ("another Basic", {"resourceType": "Basic", "extension": [{"url": "urn:x", "valueString": "y"}, 5]}, "no_route"),
    ("a name that is a number", {"resourceType": "Parameters", "parameter": [{"name": 5}]}, "no_route"),
]  # fmt: skip


@pytest.mark.parametrize("tree, word", [pytest.param(*case, id=name) for name, *case in BROKEN])
def test_what_is_nearly_a_status(tree: Json, word: str) -> None:
    assert said(opened(tree)) == [word]


def test_the_published_examples(corpus: Path) -> None:
    found = {
        path.stem: said(ENVELOPES.document(path.read_bytes()))
        for folder in ("fhir-subscription-backport", "fhir-subscription-inferno")
        for path in sorted((corpus / folder).glob("*.json"))
    }
    assert found == {
        "r4-notification-empty": ["fetch_needed"],
        "r4-notification-full-resource": ["notification", "no_milestone"],
        "r4-notification-handshake": ["notification"],
        "r4-notification-heartbeat": ["notification"],
        "r4-notification-id-only": ["fetch_needed"],
        "r4-notification-multi-resource": ["notification", "no_milestone", "Person"],
        "subscription-admission": ["no_route"],
        "handshake_bundle_example": ["notification"],
    }


# --- What was missed ------------------------------------------------------------------------------------------------

MISSED = [
    ("nothing told", [], 0),
    ("a heartbeat alone", [("s", 7, [])], 0),
    ("one after the other", [("s", 1, [1]), ("s", 2, [2])], 0),
    ("the first that is known of is not the first", [("s", 8, [8]), ("s", 9, [9])], 0),
    ("one left out", [("s", 1, [1]), ("s", 3, [3])], 1),
    ("the last not told", [("s", 1, [1]), ("s", 4, [])], 3),
    ("the first after the handshake not told", [("s", 0, []), ("s", 2, [2])], 1),
    ("told again", [("s", 1, [1]), ("s", 1, [1]), ("s", 3, [3, 3])], 1),
    ("several in one", [("s", 5, [1, 2, 5])], 2),
    ("asked for and got", [("s", 5, [1, 2, 5]), ("s", None, [3, 4])], 0),
    ("no numbers", [("s", None, [])], 0),
    ("two subscriptions", [("s", 1, [1]), ("t", 3, [3]), ("t", 6, [6])], 2),
    ("a number beyond all", [("s", 1, [1]), ("s", 2**62, [])], 2**62 - 1),
]


@pytest.mark.parametrize("told, missed", [pytest.param(*case, id=name) for name, *case in MISSED])
def test_missed(told: list[tuple[str, int | None, list[int]]], missed: int) -> None:
    for order in permutations(told):
        gaps = Gaps()
        for one in order:
            gaps.add(*one)
        assert gaps.missed == missed


@given(st.sets(st.integers(0, 40), max_size=20), st.integers(1, 30))
def test_what_is_left_out_between_the_first_and_the_last_is_missed(left_out: set[int], start: int) -> None:
    numbers = range(start, start + 43)
    gaps = Gaps()
    for number in numbers:
        if number - start - 1 not in left_out:
            gaps.add("s", number, [number])
    assert gaps.missed == len(left_out)


# --- The whole job --------------------------------------------------------------------------------------------------

MRN = by_identifier("urn:id:GENERAL", "1")


def visit(name: str) -> Json:
    return encounter(name, subject=MRN, period={"end": "2026-05-20T12:00:00Z"}, meta={"versionId": "1"})


@shapes
def test_a_run_over_notifications(tmp_path: Path, state: Path, shape: Callable[..., Json]) -> None:
    def told(number: int) -> Json:
        event = Happened(str(number), f"{BASE}/Encounter/{number}")
        return notification(shape("event-notification", str(number), event), visit(str(number)))

    feed = [
        notification(shape("handshake", "0")), told(1), told(2), told(5), told(5),
        notification(shape("heartbeat", "6")),
        notification(shape("event-notification", "9", Happened("9", "Encounter/9"), subscription="Subscription/t")),
        notification(shape("event-notification", "11", Happened("11"), subscription="Subscription/t")),
    ]  # fmt: skip
    ndjson(tmp_path / "feeds" / "a.ndjson", [permit(MRN), *feed[:4]])
    ndjson(tmp_path / "feeds" / "b.ndjson", feed[4:])
    with debug_log() as log:
        summary = decide([tmp_path / "feeds"], tmp_path / "out", state).summary
    assert summary["missed_notifications"] == 4, "3, 4 and 6 of the one, 10 of the other"
    assert (summary["received"], summary["control"], summary["events_routed"]) == (13, 8, 3)
    assert (summary["reasons"]["notification"], summary["reasons"]["fetch_needed"]) == (6, 2)
    assert (summary["repeated"], summary["reasons"]["same_message"]) == (1, 1), "event 5 was told twice"
    assert payloads(tmp_path / "out")
    left = "\n".join([*log, *map(str, tree(tmp_path / "out").items()), *map(str, records(tmp_path / "out"))])
    assert WORD not in left and "Subscription/" not in left and "ehr/fhir" not in left
