"""The facts read from HL7 v2 against published pairs of message and expected FHIR, made by three other projects.

Facts are compared, not structure, and only where the expected resources state them. Each message is read as an
admission or a booking, whatever its trigger, so that every one gives its facts.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from schemas.event import Milestone
from schemas.instant import DAY, MINUTE, from_fhir, from_hl7
from transforms.rules import fhir_events, hl7
from transforms.rules.hl7_events import read
from transforms.rules.identity import SEPARATOR
from transforms.rules.reading import Reading

CORPUS = os.environ.get("LIMEN_CORPUS")
pytestmark = pytest.mark.skipif(CORPUS is None, reason="LIMEN_CORPUS is not set")
FOLDER = Path(CORPUS or "")
Json = Any

ZONES = {"adt_a01": timezone(timedelta(hours=3)), "adt_a01_ex2": timezone(timedelta(hours=5))}  # as expected there

# (pair, fact) → why ours is another value.
DIFFERENT = {
    ("adt_a01", "admitted"): "expected in 2009, where PV1-44 of the published message says 2019",
    ("adt_a01", "gender"): "PID-8 is 2, a code of the sender's own that the mapping translates",
}


class Compared(NamedTuple):
    pair: str
    fact: str
    ours: object
    expected: object


def resources(bundle: Json, kind: str) -> list[Json]:
    return [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == kind]


def instant(text: str | None) -> int | None:
    """The first microsecond that a FHIR text can mean."""
    found = from_fhir(text)
    return found.time if found else None


def pairs() -> Iterator[tuple[str, bytes, Json]]:
    for folder in ("hl7v2-ms-fhir-converter", "hl7v2-google-hdh"):
        for path in sorted((FOLDER / folder / "expected-fhir").glob("*.json")):
            body = (FOLDER / folder / "messages" / f"{path.stem}.hl7").read_bytes()
            yield path.stem, body, json.loads(path.read_text("utf-8-sig"))


def facts(pair: str, body: bytes, bundle: Json) -> Iterator[Compared]:
    """What the expected Bundle states, beside what we read."""
    by_google = pair[0].islower()
    reading = Reading("ehr", "UTF-8", ZONES.get(pair, UTC), ("MR", "MRN", "PI", ""))
    message = hl7.read(body, "UTF-8")
    header, person, visited = message.first("MSH"), message.first("PID"), message.first("PV1")
    assert header and person
    kind = f"{header.value(9, 1)}^{header.value(9, 2)}"
    [event] = resources(bundle, "MessageHeader")
    yield Compared(pair, "trigger", header.value(9, 2), event["eventCoding"]["code"])

    read_as = "SIU^S12" if kind.startswith("SIU") else "ADT^A01"
    body = b"PID|".join(body.split(b"PID|")[:2])  # a merge may be about two patients, what it is read as about one
    (fact, *_) = read(body.replace(kind.encode(), read_as.encode(), 1), reading)
    assert isinstance(fact, Milestone)
    if not by_google:  # whose time is when its service took the message
        yield Compared(pair, "sent", _time(header.value(7), reading), instant(bundle["timestamp"]))
        told = resources(bundle, "Provenance")[-1]  # of EVN, if there is one
        yield Compared(pair, "event time", fact.time, instant(told.get("occurredDateTime") or told["recorded"]))

    for encounter in resources(bundle, "Encounter")[:1]:
        assert visited
        if not fact.cancels:
            coded = encounter["class"]["code"]
            yield Compared(pair, "class", fact.values["service_class"], fhir_events.SERVICE_CLASSES.get(coded, "other"))
        stated = [one.get("value", "").strip() for one in encounter["identifier"] if one.get("value", "").strip()]
        if stated and read_as != "SIU^S12":
            yield Compared(pair, "visit", fact.visit, stated[0])
        for name, field, side in (("admitted", 44, "start"), ("discharged", 45, "end")):
            if visited.value(field) and (when := encounter.get("period", {}).get(side)):
                yield Compared(pair, name, _time(visited.value(field), reading), instant(when))
    for appointment in resources(bundle, "Appointment"):
        yield Compared(pair, "visit", fact.visit, appointment["identifier"][0]["value"])

    for patient in resources(bundle, "Patient")[:1]:
        if "gender" in patient:
            yield Compared(pair, "gender", {"M": "male", "F": "female"}.get(person.value(8)), patient["gender"])
        expected = [_identifier(one) for one in patient["identifier"]]
        for place, cx in enumerate(person.repeats(3)):
            # One converter names a system by the namespace, or by the type of the universal id (CX.4.3).
            ours = [(cx.value(1), cx.value(5), name) for name in (cx.value(4, 1), cx.value(4, 3), "")]
            found = next((one for one in ours if one in expected), None)
            yield Compared(pair, f"identifier {place}", found or ours[0], found or "none of the expected")
        system, value = fact.patient.split(SEPARATOR)
        yield Compared(pair, "patient", any(value == one[0] for one in expected), True)
        assert system.startswith(("urn:id:", "urn:oid:"))


def _identifier(one: Json) -> tuple[str, str, str]:
    """Value, type and the name of the assigning authority, "" where the expected resource states none."""
    code = one.get("type", {}).get("coding", [{}])[0].get("code", "")
    _, stated, authority = one.get("system", "").rpartition("/Identifier/")
    return one.get("value", ""), code, authority if stated else ""


def _time(text: str, reading: Reading) -> int | None:
    found = from_hl7(text, reading.zone)
    return found.time if found else None


def test_facts_agree_with_the_published_pairs() -> None:
    compared = [one for pair, body, bundle in pairs() for one in facts(pair, body, bundle)]
    different = {(one.pair, one.fact): one for one in compared if one.ours != one.expected}
    assert set(different) == set(DIFFERENT), different.values()
    assert len(different) <= 0.02 * len(compared)
    counted = Counter(re.sub(r" \d+$", "", one.fact) for one in compared)
    assert len(compared) > 300
    least = {"trigger": 41, "sent": 36, "event time": 36, "class": 29, "visit": 34, "identifier": 70, "patient": 37}
    assert {name: counted[name] >= number for name, number in least.items()} == dict.fromkeys(least, True), counted


# --- Precision ----------------------------------------------------------------------------------------------------

PLACES: dict[
    str, tuple[str, int, Callable[[Json], str | None]]
] = {  # folder → where the date stands, and where the expected resources have it
    "dt": ("NK1", 8, lambda bundle: resources(bundle, "Patient")[0]["contact"][0]["period"].get("start")),
    "dtm_date": ("PID", 7, lambda bundle: _born(resources(bundle, "Patient")[0])),
    "dtm_dateTime": ("PID", 29, lambda bundle: resources(bundle, "Patient")[0].get("deceasedDateTime")),
    "dtm_instant": ("OBR", 22, lambda bundle: resources(bundle, "DiagnosticReport")[0].get("issued")),
}
SPANS = {8: DAY, 12: MINUTE, 14: 0, 16: 0, 17: 0}  # by the length of the HL7 text


def _born(patient: Json) -> str | None:
    extensions = patient.get("_birthDate", {}).get("extension", [])
    exact = [one["valueDateTime"] for one in extensions if "valueDateTime" in one]
    born: str | None = exact[0] if exact else patient.get("birthDate")
    return born


@pytest.mark.parametrize("folder", PLACES)
def test_dates_mean_what_they_say_and_no_more(folder: str) -> None:
    name, field, place = PLACES[folder]
    files = sorted((FOLDER / "hl7v2-cdc-reportstream/datatype-pairs" / folder).glob("*.hl7"))
    for path in files:
        bundle = json.loads(path.with_suffix(".fhir.json").read_text("utf-8-sig"))
        message = hl7.read(path.read_bytes(), "UTF-8")
        segment, header = message.first(name), message.first("MSH")
        assert segment and header
        sent = from_hl7(header.value(7))
        assert sent and (sent.time, sent.span) == (instant(bundle["timestamp"]), 0)
        text, stated = segment.value(field), place(bundle)
        ours, expected = from_hl7(text), from_fhir(stated)
        assert (ours is None) == (expected is None), path.name
        if ours and expected:
            assert (ours.time, ours.span) == (expected.time, SPANS[len(text)]), path.name
        else:
            assert len(text) in (4, 6) and len(stated or "") in (0, 4, 7), path.name  # a year, a month, no year
    assert len(files) >= 2 and (folder == "dt" or len(files) == 6)
