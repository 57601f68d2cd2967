"""Where something happened marks it, however the resource comes to its Location: in place, contained, in its Bundle."""

from typing import Any

import msgspec
import pytest

from schemas.event import AnyFact, Mark, Milestone
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules.fhir_marks import number

Json = dict[str, Any]
WHO = {"identifier": {"system": "urn:id:GENERAL", "value": "M1"}}
LABELLED = {"meta": {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "PSY"}]}}
ENCOUNTER = {
    "resourceType": "Encounter", "id": "e", "status": "finished", "period": {"end": "2026-01-01T08:00:00Z"},
    "subject": WHO,
}  # fmt: skip
APPOINTMENT = {"resourceType": "Appointment", "id": "a", "status": "booked", "created": "2026-01-01"}


def at(place: Json) -> Json:
    return {**ENCOUNTER, "location": [{"location": place}]}


def booked(place: Json) -> Json:
    return {**APPOINTMENT, "participant": [{"actor": {**WHO, "type": "Patient"}}, {"actor": place}]}


def ward(**fields: Any) -> Json:
    return {"resourceType": "Location", "id": "l1", "name": "Ward", **fields}


def known_as(value: str) -> Json:
    return {"identifier": [{"system": "urn:x", "value": value}]}


def facts(policy: Policy, document: Json) -> list[AnyFact]:
    return [fact for one in reader(policy)._envelopes.line(msgspec.json.encode(document)) for fact in one.facts]


def classes(found: list[AnyFact]) -> set[str]:
    return {name for fact in found if isinstance(fact, Milestone | Mark) for name in fact.classes}


LOCATIONS: list[tuple[str, Json, bool]] = [
    ("by its identifier", ward(**known_as("PSYCH")), True),
    ("by one of its identifiers", ward(identifier=[{"value": "7"}, {"value": "psych"}]), True),
    ("by its id", ward(id="PSYCH"), True),
    ("by its label", ward(**LABELLED), True),
    ("by what it is part of", ward(partOf={"reference": "Location/PSYCH"}), True),
    ("by nothing", ward(**known_as("4E")), False),
    ("of no form", ward(id=7, identifier=7, partOf=[], meta={"security": 5}), False),
]


@pytest.mark.parametrize("happening", [at, booked])
@pytest.mark.parametrize("place, marked", [one[1:] for one in LOCATIONS], ids=[one[0] for one in LOCATIONS])
def test_a_location_that_lies_beside_marks_what_refers_to_it(
    policy: Policy, place: Json, marked: bool, happening: Any
) -> None:
    for reference in ("urn:uuid:7", f"Location/{place['id']}/_history/2"):
        entries = [
            {"resource": happening({"reference": reference})},
            {"fullUrl": "urn:uuid:7", "resource": place},
        ]
        bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
        assert classes(facts(policy, bundle)) == ({"mental-health"} if marked else set()), reference
    inside = happening({"reference": f"#{place['id']}"}) | {"contained": [place]}
    assert classes(facts(policy, inside)) == ({"mental-health"} if marked else set())


def test_a_location_beside_marks_nothing_that_does_not_refer_to_it(policy: Policy) -> None:
    entries = [{"resource": at({"reference": "Location/l2"})}, {"resource": ward(**known_as("PSYCH"))}]
    assert classes(facts(policy, {"resourceType": "Bundle", "type": "collection", "entry": entries})) == set()


def test_a_stay_that_goes_on_is_marked_by_its_location(policy: Policy) -> None:
    going = {**at({"reference": "#l1"}), "status": "in-progress", "contained": [ward(**LABELLED)]}
    [mark] = [fact for fact in facts(policy, going) if isinstance(fact, Mark)]
    assert (mark.visits, mark.classes) == (("e",), ("mental-health",))


@pytest.mark.parametrize("happening", [at, booked])
@pytest.mark.parametrize("text", ["urn:x|PSYCH", "urn:x%7CPSYCH", "urn:x%7cpsych", "PSYCH"])
def test_a_location_that_is_sought_by_its_identifier(policy: Policy, text: str, happening: Any) -> None:
    """As Synthea names every Location."""
    for reference in (f"Location?identifier={text}", f"https://ehr.example/fhir/Location?identifier={text}"):
        assert classes(facts(policy, happening({"reference": reference}))) == {"mental-health"}
    assert classes(facts(policy, happening({"reference": f"Location?identifier={text}2"}))) == set()


def test_a_location_beside_may_be_meant_by_its_identifier(policy: Policy) -> None:
    place = {"resource": ward(**known_as("4E"), **LABELLED)}
    for meant in ({"reference": "Location?identifier=urn:x|4E"}, {"identifier": {"system": "urn:x", "value": "4E"}}):
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": at(meant)}, place]}
        assert classes(facts(policy, bundle)) == {"mental-health"}


def test_the_number_of_what_is_sought() -> None:
    assert [number(f"Encounter?identifier={text}") for text in ("urn:a%7C9", "urn:a%7c9", "9", "a|b%20c")] == [
        "9", "9", "9", "",
    ]  # fmt: skip
