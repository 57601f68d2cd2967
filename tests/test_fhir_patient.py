"""FHIR Patient resources to facts: demographics, who died, and links, which change an identity."""

from typing import Any

import pytest
from builders import micros
from fhir_resources import AROUND, ENDED, KEY, READING, TOUCHED, refusal, typed

from schemas.event import Identity, Made, Person
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around


def test_demographics_are_control() -> None:
    cases: list[dict[str, Any]] = [{}, {"link": []}, {"identifier": [typed("MR")], "name": [{"family": "DOE"}]}]
    for fields in cases:
        facts = read({"resourceType": "Patient", "id": "7", **fields}, AROUND)
        assert [fact.counted for fact in facts if isinstance(fact, Person)] == [True, False][: len(facts)]
    (nobody,) = read({"resourceType": "Patient", "name": [{"family": "DOE"}]}, AROUND)
    assert isinstance(nobody, Made)
    assert (nobody.verdict, nobody.reason) == (Verdict.CONTROL, Reason.DEMOGRAPHICS)


DECEASED: list[tuple[str, dict[str, Any], bool]] = [
    ("nothing said", {}, False),
    ("no", {"deceasedBoolean": False}, False),
    ("null", {"deceasedBoolean": None}, False),
    ("yes", {"deceasedBoolean": True}, True),
    ("yes in a text", {"deceasedBoolean": "true"}, True),
    ("a number", {"deceasedBoolean": 1}, True),
    ("a date", {"deceasedDateTime": "2024-05-01"}, True),
    ("a year that is a number", {"deceasedDateTime": 2024}, True),
    ("a text", {"deceasedDateTime": "unknown"}, False),
]


@pytest.mark.parametrize("fields, died", [case[1:] for case in DECEASED], ids=[case[0] for case in DECEASED])
def test_who_died(fields: dict[str, Any], died: bool) -> None:
    facts = read({"resourceType": "Patient", "id": "7", **fields}, AROUND)
    assert [fact.died for fact in facts if isinstance(fact, Person)] == [died]


def test_a_link_is_told_to_all_sides_and_counted_once() -> None:
    tree = {
        "resourceType": "Patient", "id": "7", "meta": {"lastUpdated": ENDED}, "identifier": [typed("MR")],
        "link": [{"other": {"reference": name}, "type": "replaced-by"} for name in ("Patient/8", "RelatedPerson/1")],
    }  # fmt: skip
    facts = read(tree, AROUND)
    assert all(isinstance(fact, Identity) and fact.time == micros(ENDED) for fact in facts)
    assert {fact.patient for fact in facts} == {"urn:id:MAIN\x1f42", KEY, "ehr\x1fPatient/8"}
    assert len({fact.key for fact in facts}) == 1
    assert [fact.counted for fact in facts if isinstance(fact, Identity)] == [True, False, False]


def test_a_link_without_a_date_is_later_than_any_consent() -> None:
    facts = read({"resourceType": "Patient", "id": "7", "link": [{"other": None}]}, AROUND)
    assert [fact.time for fact in facts if isinstance(fact, Identity)] == [FOREVER]
    assert refusal({"resourceType": "Patient", "link": [{}]}) is Reason.NO_PATIENT


def linked(*links: dict[str, Any], **fields: Any) -> list[Any]:
    return [*read({"resourceType": "Patient", "id": "7", "link": list(links), **fields}, AROUND)]


MERGED = {"other": {"reference": "Patient/8"}, "type": "replaces"}


def test_a_link_is_the_same_change_in_every_version() -> None:
    first, *_ = linked(MERGED, meta={"versionId": "2", "lastUpdated": ENDED})
    again, *_ = linked(MERGED, meta={"versionId": "3", "lastUpdated": TOUCHED}, address=[{"city": "BOSTON"}])
    carried, *_ = read({"resourceType": "Patient", "id": "7", "link": [MERGED]}, Around(READING, "ehr", "m1", "type"))
    assert first.key == again.key == carried.key and first.time < again.time
    both, back = (
        linked(MERGED, {"other": {"reference": "Patient/9"}, "type": "replaces"}),
        linked({"other": {"reference": "Patient/9"}, "type": "replaces"}, MERGED),
    )
    others = [both, linked({**MERGED, "type": "seealso"}), linked(MERGED, id="9"), linked({"type": "replaces"})]
    assert both == back
    assert len({first.key, *(facts[0].key for facts in others)}) == 5


@pytest.mark.parametrize(
    "other",
    [{"reference": "RelatedPerson/1"}, {"reference": "https://b/r4/RelatedPerson/1/_history/2"},
     {"type": "RelatedPerson", "identifier": typed("MR")}, {"reference": "RelatedPerson?identifier=a|b"}],
)  # fmt: skip
def test_a_link_to_a_related_person_alone_is_demographics(other: dict[str, Any]) -> None:
    facts = linked({"other": other, "type": "seealso"}, deceasedBoolean=True)
    assert [(type(fact), fact.died) for fact in facts] == [(Person, True)]


@pytest.mark.parametrize(
    "other", [{"reference": "Patient/8", "type": "RelatedPerson"}, {"reference": "urn:uuid:8"}, {"display": "x"}, {}]
)
def test_a_link_to_whoever_it_may_be_changes_identity(other: dict[str, Any]) -> None:
    assert {type(fact) for fact in linked({"other": other, "type": "seealso"})} == {Identity}


def test_who_is_linked_may_be_dead_or_a_minor_all_the_same() -> None:
    for fields, died in (({"deceasedBoolean": True}, True), ({"birthDate": "2020-01-01"}, False)):
        change, other, person = linked(MERGED, **fields)
        assert isinstance(change, Identity) and isinstance(other, Identity) and isinstance(person, Person)
        assert (person.patient, person.died, person.counted) == (KEY, died, False)
        assert (person.adult_at > BEGINNING) is not died
