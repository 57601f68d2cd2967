"""`limen story`: one invented patient's way, from what the hospital said to what the CRM got, each with file and line.

    feeds ── reader ──▶ the patient's messages ── keyed name ──▶ audit records ── payload id ──▶ lines of crm/

The truth of a simulated hospital names the patient; nothing that Limen writes does. Whoever holds the keyset can name a
message as the audit log does, and so go from one to the other. What is printed holds no identifier of a patient: words
of closed lists, instants, what payloads say, and places in files.
"""

import gzip
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import keys, published
from pipelines import policy as policies
from pipelines.inputs import find
from pipelines.sources import Span, read, spans
from schemas.errors import ConfigurationError, LawBroken
from schemas.event import AnyFact, Consent, Identity, Made, Mark, Milestone, Person, Says
from schemas.instant import FOREVER, text_of
from schemas.keyset import KeyPurpose, Keyset
from schemas.manifest import Signed
from schemas.opaque import opaque
from schemas.outcome import Verdict
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules.digests import Mac, keyed
from transforms.rules.envelope_parts import Counted
from transforms.rules.identity import patient_key

_SAYS = {
    Says.PERMIT: "consent given",
    Says.DENY: "consent denied",
    Says.ENDS: "consent revoked",
    Says.VOID: "consent entered in error",
    Says.UNCLEAR: "consent that is not clear",
    Says.NOTHING: "consent that nobody signed",
}


class Told(NamedTuple):
    """A message about the patient: what it says, when that was ("": it does not say), and where its copies stand, each
    with the digest of its file."""

    what: str
    when: str
    places: list[tuple[str, str]]


class Became(NamedTuple):
    """What a run made of a message, on one route ("": on none). `payload` is the line that left, `place` where it
    stands; both are empty where nothing left."""

    route: str
    verdict: str
    reason: str
    payload: Mapping[str, Any]
    place: str


class Entry(NamedTuple):
    """A message in a run: where this run read it (nowhere, if an earlier one did), and what became of it."""

    told: Told
    places: list[str]
    became: list[Became]


class Story(NamedTuple):
    """What each run did, by the instant of its decision, oldest first: over what it read itself, then over the rest."""

    runs: list[tuple[str, list[Entry]]]

    @property
    def became(self) -> Iterator[Became]:
        """All that became of the patient's messages."""
        return (one for _, entries in self.runs for entry in entries for one in entry.became)


def story(folder: Path, truth: Path, state: Path) -> Story:
    """Raises ConfigurationError if runs, truth and feeds do not belong together, LawBroken if what was published is not
    as its manifest says, or does not account for a message."""
    keyset, policy = keys.load(state), policies.load(policies.default())
    runs = sorted(published.runs(folder, keyset.public_key), key=lambda run: str(run.facts["as_of"]))
    if {run.facts["policy_digest"] for run in runs} != {policy.digest}:
        raise ConfigurationError("DIR", "not decided by the default policy", "decide with it, into a new folder")
    told = _told(truth, runs, policy, keyset)
    payloads = _payloads(folder, runs)
    found: list[tuple[str, list[Entry]]] = []
    explained: set[str] = set()
    for run in runs:
        became = _became(folder, run, told.keys(), payloads)
        explained |= became.keys()
        places = {event: [place for file, place in told[event].places if file in run.inputs] for event in became}
        entries = [Entry(told[event], places[event], became[event]) for event in told if event in became]
        found.append((run.facts["as_of"], sorted(entries, key=lambda one: not one.places)))
    if explained != told.keys():
        raise LawBroken("a_message_without_a_record")
    return Story(found)


# --- what the hospital said ---------------------------------------------------------------------------------------


def _told(truth: Path, runs: Sequence[Signed], policy: Policy, keyset: Keyset) -> dict[str, Told]:
    """The patient's messages by their names in the audit log, in the order of what they tell."""
    try:
        one = json.loads(truth.read_bytes())["story"]
        patient, value = patient_key(one["system"], one["value"]), one["value"].encode()
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise ConfigurationError("--truth", "no truth there", "name the truth.json that limen simulate wrote") from None
    feeds = truth.parent / "feeds"
    inputs = find([str(feeds)]) if feeds.is_dir() else []
    if {one.file for one in inputs} != {file for run in runs for file in run.inputs}:
        raise ConfigurationError("--truth", "the runs read other files than lie in feeds beside it", "decide over them")
    messages, sealed = Mac(keyset.derive(KeyPurpose.AUDIT, "message")), keyset.derive(KeyPurpose.QUARANTINE_NAME)
    reads = reader(policy).read
    told: dict[str, Told] = {}
    for span in spans(inputs):
        file = feeds / Path(span.path).relative_to(feeds.resolve())
        for form, message in ((block.form, message) for block in read(span) for message in block.messages):
            for counted in reads(form, message):
                if fact := _about(counted, patient, value):
                    made = isinstance(fact, Made)
                    event = opaque((fact.key or keyed(sealed, counted.body)) if made else messages.name(fact.key))
                    place = (span.file, f"{file}:{_line(span, message.position)}")
                    told.setdefault(event, Told(*_words(fact), [])).places.append(place)
    return dict(sorted(told.items(), key=lambda item: (item[1].when, item[1].places)))


def _about(counted: Counted, patient: str, value: bytes) -> AnyFact | None:
    """What a message says of the patient. One that is decoded to nobody is known by the identifier in its bytes."""
    rejected = Made(b"", "", "", Verdict.REJECTED, counted.reason) if counted.reason else None
    for fact in [rejected] if rejected else counted.facts:
        if fact.patient == patient or (isinstance(fact, Made) and value in counted.body):
            return None if isinstance(fact, Mark) else fact  # what it is counted as does not name the patient
    return None


def _words(fact: AnyFact) -> tuple[str, str]:
    """(what, when) of a fact, in words of closed lists."""
    match fact:
        case Milestone():
            return "cancellation" if fact.cancels else fact.kind, "" if fact.time is None else text_of(fact.time)
        case Consent():
            return _SAYS[fact.says], "" if fact.given == FOREVER else text_of(fact.given)
        case Identity():
            return "merge", text_of(fact.time)
        case Person():
            return "death" if fact.died else "demographics", ""
    return fact.type or "not readable", ""


def _line(span: Span, position: int) -> int:
    """The line, in any framing, in which a message begins; of a gzip file when unpacked."""
    content = Path(span.path).read_bytes()
    return len(re.findall(rb"\r\n|\r|\n", (gzip.decompress(content) if span.gzipped else content)[:position])) + 1


# --- what became of it --------------------------------------------------------------------------------------------


def _payloads(folder: Path, runs: Sequence[Signed]) -> dict[str, tuple[Mapping[str, Any], str]]:
    """All lines for the CRM, and where each stands, by id."""
    found = {}
    for path, content in published.files(folder, runs, "crm", ".jsonl"):
        for number, line in enumerate(content.splitlines(), 1):
            payload = json.loads(line)
            found[payload["id"]] = (payload, f"{folder / path}:{number}")
    return found


def _became(
    folder: Path, run: Signed, events: Collection[str], payloads: Mapping[str, tuple[Mapping[str, Any], str]]
) -> dict[str, list[Became]]:
    """The outcomes that a run recorded of some messages, by the messages' names."""
    columns = ["event", "route", "verdict", "reason", "payload"]
    found: dict[str, list[Became]] = {}
    for _, content in published.files(folder, [run], "audit", ".parquet"):
        table = pq.read_table(pa.BufferReader(content), columns=columns, filters=[("event", "in", list(events))])
        for event, route, verdict, reason, identifier in zip(*table.to_pydict().values(), strict=True):
            if identifier and identifier not in payloads:
                raise LawBroken("a_record_without_its_payload")
            left = payloads[identifier] if identifier else ({}, "")
            found.setdefault(event, []).append(Became(route, verdict, reason, *left))
    return {event: sorted(became, key=lambda one: one[:3]) for event, became in found.items()}
