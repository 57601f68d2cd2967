"""What only tightens is told to every number by which a message may name its patient, and nothing else is."""

from datetime import UTC

import pytest

from schemas.event import AnyFact, Consent, Identity, Made, Mark, Milestone, Person, Says
from schemas.instant import BEGINNING, DAY
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules.consent_forms import Form, Profile
from transforms.rules.hl7_events import read
from transforms.rules.reading import Reading

FORM = Form(("HCPVISIBLE", "PATSUPPORT"), ("Organization/crm",), ("disclose",), None, 365 * DAY)
NUMBERS = "1^^^MAIN^MR~2^^^MAIN^PI~3^^^LAB~4^^^MAIN^AN~123456789^^^USSSA^SS~123456789^^^ssa^PI"
MR, PI, UNTYPED = "urn:id:MAIN\x1f1", "urn:id:MAIN\x1f2", "urn:id:LAB\x1f3"
ADULT, CHILD, DEAD = "19700101", "20200101", "19700101" + "|" * 23 + "Y"
DRINKS = "DG1|1||F10.20"


@pytest.fixture
def reading(policy: Policy) -> Reading:
    return reader(policy)._reading._replace(zone=UTC, consents=Profile(forms={"LIMEN|support": FORM}))


def message(trigger: str, *segments: str, born: str = ADULT, numbers: str = NUMBERS, visit: str = "V1") -> bytes:
    header = f"MSH|^~\\&|EPIC|SITE|||20260305100000||{trigger}|M1|P|2.8"
    visited = "PV1|1|I" + "|" * 17 + visit
    lines = (header, "EVN||20260305090000", f"PID|1||{numbers}||||{born}", visited, *segments)
    return "\r".join(lines).encode()


def told(facts: list[AnyFact], kind: type) -> list[str]:
    return [fact.patient for fact in facts if isinstance(fact, kind) and not isinstance(fact, Made)]


TRIGGERS = ["ADT^A01", "ADT^A02", "ADT^A05", "ADT^A08", "ADT^A11", "ADT^A31", "SIU^S12"]


@pytest.mark.parametrize("born", [CHILD, DEAD])
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_death_and_a_child(reading: Reading, trigger: str, born: str) -> None:
    first, *facts = read(message(trigger, born=born), reading)
    people = [fact for fact in (first, *facts) if isinstance(fact, Person)]
    assert {fact.patient for fact in people} == {MR, PI, UNTYPED}
    assert len({(fact.adult_at, fact.died) for fact in people}) == 1
    assert all(fact.died is (born == DEAD) and fact.adult_at > BEGINNING for fact in people)
    assert all(isinstance(fact, Person) and not fact.counted for fact in facts)


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_of_a_usual_adult_nothing_more_is_told(reading: Reading, trigger: str) -> None:
    facts, fewer = (read(message(trigger, numbers=numbers), reading) for numbers in (NUMBERS, "1^^^MAIN^MR"))
    assert facts == fewer
    assert {fact.patient for fact in facts} <= {"", MR}


@pytest.mark.parametrize("trigger", [*TRIGGERS[:-2], "SIU^S12", "ORU^R01"])
def test_a_mark(reading: Reading, trigger: str) -> None:
    schedule = "SCH|A1" if trigger.startswith("SIU") else "ZZZ|"
    facts = read(message(trigger, schedule, DRINKS), reading)
    others = [fact for fact in facts if isinstance(fact, Mark) and fact.patient != MR]
    visits = ("A1", "V1") if trigger.startswith("SIU") else ("V1",)
    assert [(fact.patient, fact.visits) for fact in others] == [(UNTYPED, visits), (PI, visits)]
    assert all(fact.classes for fact in others)
    counted = facts[0]
    assert isinstance(counted, Made) or counted.patient == MR
    assert len([fact for fact in facts if isinstance(fact, Milestone)]) == (
        trigger in ("ADT^A01", "ADT^A11", "SIU^S12")
    )


def test_a_milestone_of_no_visit_marks_the_patient_as_a_whole(reading: Reading) -> None:
    """By its own number it does so itself, by the others a mark does."""
    facts = read(message("ADT^A01", DRINKS, visit=""), reading)
    assert {fact.visits for fact in facts if isinstance(fact, Mark)} == {()}
    assert told(facts, Mark) and MR not in told(facts, Mark)


@pytest.mark.parametrize("trigger", ["ADT^A01", "ADT^A08", "ORU^R01", "ADT^A05"])
def test_a_refusal(reading: Reading, trigger: str) -> None:
    """And what may be one. A permit, and a consent that is not given yet, stay with the one number."""
    for status, says in {
        "R": Says.DENY,
        "X": Says.DENY,
        "L": Says.UNCLEAR,
        "A": Says.PERMIT,
        "P": Says.NOTHING,
    }.items():
        signed = f"CON|1|support^^LIMEN|F1|77|||||||{status}||20260301"
        facts = [fact for fact in read(message(trigger, signed), reading) if isinstance(fact, Consent)]
        further = [UNTYPED, PI] if says in (Says.DENY, Says.UNCLEAR) else []
        assert [(fact.patient, fact.says) for fact in facts] == [(one, says) for one in (MR, *further)]
        assert not any(fact.counted for fact in facts[1:])
        direct = [read(message(trigger, signed, numbers=number), reading) for number in ("3^^^LAB", "2^^^MAIN^PI")]
        for fact, whole in zip(facts[1:], direct, strict=bool(further)):
            [alone] = [one for one in whole if isinstance(one, Consent)]
            assert (fact.key, fact.what) == (alone.key, alone.what), "the same consent, if it is told to it alone"


def test_of_two_segments_only_the_refusal(reading: Reading) -> None:
    both = [f"CON|1|support^^LIMEN|F1|{number}|||||||{status}||20260301" for number, status in ((1, "A"), (2, "R"))]
    facts = [fact for fact in read(message("ORU^R01", *both), reading) if isinstance(fact, Consent)]
    assert [(fact.patient, fact.says, fact.counted) for fact in facts] == [
        (MR, Says.PERMIT, True),
        (MR, Says.DENY, False),
        (UNTYPED, Says.DENY, False),
        (PI, Says.DENY, False),
    ]


def test_a_merge_tells_all_of_its_sides(reading: Reading) -> None:
    refused = "CON|1|support^^LIMEN|F1|77|||||||R||20260301"
    facts = read(message("ADT^A40", "MRG|9^^^MAIN^MR", refused, born=CHILD), reading)
    sides = told(facts, Identity)
    assert {MR, PI, UNTYPED, "urn:id:MAIN\x1f9"} <= {*sides}
    assert told(facts, Person) == sides
    assert {*told(facts, Consent)} == {MR, PI, UNTYPED}
