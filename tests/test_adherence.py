"""Adherence: what an order and a dispense say, and the gap that falls due by itself and comes to pass or not."""

from datetime import UTC
from typing import Any

import pytest
from builders import CRM, a_consent, a_route, at, micros, the_rules

from schemas.event import AnyFact, Kind, Made, Milestone
from schemas.instant import DAY, FOREVER, HOUR, text_of
from schemas.outcome import Reason, Verdict
from schemas.timeline import Timeline
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.reading import Reading
from transforms.rules.tables import Tables
from transforms.rules.timeline import advance

TABLES = Tables(gap=7 * DAY, first_fill=14 * DAY)
AROUND = Around(Reading("ehr", "UTF-8", UTC, ("MR", ""), tables=TABLES))
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
PATIENT = {"reference": "Patient/7"}
MONTH = {"value": 30, "unit": "days", "system": "http://unitsofmeasure.org", "code": "d"}
HANDED = "2026-03-01T09:00:00Z"


def drug(code: str = "197361", system: str | None = RXNORM) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def dispense(**fields: Any) -> dict[str, Any]:
    """A month's supply, handed over; a field of None is left out."""
    known = {
        "resourceType": "MedicationDispense", "id": "d1", "status": "completed", "subject": PATIENT,
        "medicationCodeableConcept": drug(), "whenHandedOver": HANDED, "daysSupply": MONTH,
    }  # fmt: skip
    return {name: value for name, value in (known | fields).items() if value is not None}


def order(**fields: Any) -> dict[str, Any]:
    known = {
        "resourceType": "MedicationRequest", "id": "r1", "status": "active", "intent": "order", "subject": PATIENT,
        "medicationCodeableConcept": drug(), "authoredOn": HANDED,
    }  # fmt: skip
    return {name: value for name, value in (known | fields).items() if value is not None}


def told(tree: dict[str, Any]) -> list[Milestone]:
    facts = read(tree, AROUND)
    assert all(isinstance(fact, Milestone) for fact in facts)
    return [fact for fact in facts if isinstance(fact, Milestone)]


# --- what is read ---------------------------------------------------------------------------------------------------

STOPPED = ("cancelled", "entered-in-error", "stopped")
WITHDRAWN = {
    "MedicationRequest": (Kind.PRESCRIBED, Kind.REFILL_GAP),
    "MedicationDispense": (Kind.DISPENSED, Kind.REFILL_GAP),
}
STATUSES: list[tuple[dict[str, Any], Kind | None, bool]] = [
    (order(), Kind.PRESCRIBED, False),
    *[(order(status=status), Kind.PRESCRIBED, True) for status in (*STOPPED, "completed")],
    *[(order(status=status), None, False) for status in ("draft", "on-hold", "unknown", "ACTIVE")],
    *[(order(intent=intent), None, False) for intent in ("proposal", "plan", "option", None)],
    *[(order(doNotPerform=word), None, False) for word in (True, "false")],
    (order(doNotPerform=False), Kind.PRESCRIBED, False),
    (dispense(), Kind.DISPENSED, False),
    *[(dispense(status=status), Kind.DISPENSED, True) for status in (*STOPPED, "declined")],
    *[(dispense(status=status), None, False) for status in ("preparation", "in-progress", "on-hold", "unknown", None)],
]  # fmt: skip


@pytest.mark.parametrize("tree, kind, cancels", STATUSES)
def test_statuses(tree: dict[str, Any], kind: Kind | None, cancels: bool) -> None:
    fact, *more = read(tree, AROUND)
    if kind is None:
        assert isinstance(fact, Made) and not more
        assert (fact.verdict, fact.reason) == (Verdict.UNROUTED, Reason.NO_MILESTONE)
    else:
        assert isinstance(fact, Milestone)
        assert (fact.kind, fact.cancels) == (kind, WITHDRAWN[tree["resourceType"]] if cancels else ())
        assert bool(more) is not cancels, "what is taken back has no gap"


SUPPLIES: list[tuple[str, Any, float | None]] = [
    ("days by UCUM", MONTH, 30),
    ("plain", {"value": 30}, 30),
    ("days by name", {"value": 30, "unit": "Days"}, 30),
    ("weeks", {"value": 2, "system": "http://unitsofmeasure.org", "code": "wk"}, 14),
    ("half a day", {"value": 0.5, "code": "d"}, 0.5),
    ("months: of how many days?", {"value": 1, "system": "http://unitsofmeasure.org", "code": "mo"}, None),
    ("another system", {"value": 30, "system": "urn:local", "code": "d"}, None),
    ("tablets", {"value": 30, "unit": "tbl"}, None),
    ("at least", {"value": 30, "comparator": ">=", "code": "d"}, None),
    ("none", {"value": 0, "code": "d"}, None),
    ("less than none", {"value": -1, "code": "d"}, None),
    ("more than a year", {"value": 366, "code": "d"}, None),
    ("no value", {"code": "d"}, None),
    ("not said", None, None),
]


@pytest.mark.parametrize("supply, days", [pytest.param(*case, id=name) for name, *case in SUPPLIES])
def test_a_gap_falls_due_when_supply_and_grace_are_over(supply: Any, days: float | None) -> None:
    stated, *gaps = told(dispense(daysSupply=supply))
    assert (stated.kind, stated.time, stated.counted) == (Kind.DISPENSED, micros(HANDED), True)
    if days is None:
        assert not gaps
    else:
        (gap,) = gaps
        assert (gap.kind, gap.time, gap.since) == (
            Kind.REFILL_GAP,
            micros(HANDED) + round((days + 7) * DAY),
            stated.time,
        )
        assert (gap.visit, gap.patient, gap.course) == (stated.visit, stated.patient, stated.course)
        assert not gap.counted and gap.key != stated.key and gap.values == {}


def test_an_order_is_to_be_filled() -> None:
    stated, gap = told(order())
    assert (stated.kind, stated.time) == (Kind.PRESCRIBED, micros(HANDED))
    assert (gap.time, gap.since) == (micros(HANDED) + 14 * DAY, micros(HANDED))


@pytest.mark.parametrize("tree", [dispense(whenHandedOver=None), order(authoredOn=None)])
def test_without_a_time_there_is_no_gap(tree: dict[str, Any]) -> None:
    (fact,) = told(tree)
    assert fact.time is None


CONTAINED = [{"resourceType": "Medication", "id": "m", "code": drug()}]
MEDICATIONS: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("one code", {}, {}, True),
    ("another code", {}, {"medicationCodeableConcept": drug("1")}, False),
    ("another system", {}, {"medicationCodeableConcept": drug(system="urn:local")}, False),
    ("RxNorm among others", {}, {"medicationCodeableConcept": {"coding": [{"code": "x"}, *drug()["coding"]]}}, True),
    ("contained", {}, {"medicationCodeableConcept": None, "medicationReference": {"reference": "#m"},
                       "contained": CONTAINED}, True),
    *[
        (name, {"medicationCodeableConcept": None, "medicationReference": one},
         {"medicationCodeableConcept": None, "medicationReference": other}, same)
        for name, one, other, same in [
            ("one reference", {"reference": "Medication/1"}, {"reference": "Medication/1/_history/2"}, True),
            ("another reference", {"reference": "Medication/1"}, {"reference": "Medication/2"}, False),
            ("one identifier", {"identifier": {"value": "1"}}, {"identifier": {"value": "1"}, "reference": "#x"}, True),
        ]
    ],
]  # fmt: skip


@pytest.mark.parametrize("one, other, same", [pytest.param(*case, id=name) for name, *case in MEDICATIONS])
def test_which_medication_is_meant(one: dict[str, Any], other: dict[str, Any], same: bool) -> None:
    first, second = told(order(**one))[0].course, told(dispense(**other))[0].course
    assert first and second
    assert (first == second) is same


@pytest.mark.parametrize(
    "reference",
    [None, {"reference": "#gone"}, {"reference": "urn:uuid:1"}, {"display": "pills"}, {"reference": "Medication"}],
)
def test_a_medication_that_cannot_be_told_has_no_gap(reference: Any) -> None:
    (fact,) = told(dispense(medicationCodeableConcept={"text": "some pills"}, medicationReference=reference))
    assert fact.course == ""


def test_nothing_of_the_medication_is_in_the_facts() -> None:
    tree = dispense(
        medicationCodeableConcept={"coding": [{"system": RXNORM, "code": "DRUGX", "display": "DRUGX 5 mg"}]}
    )
    assert not any("DRUGX" in str(value) for fact in told(tree) for value in (fact.course, fact.values, fact.visit))


# --- what becomes of it ---------------------------------------------------------------------------------------------

ROUTE = a_route("adherence")
RULES = the_rules(ROUTE)
PERMIT = a_consent(given=at(-2000), purposes=("PATSUPPORT",), recipients=(CRM,))
STATE = the_rules(ROUTE, keeps=True)


def supply(day: int, days: int = 30, *, name: str = "", code: str = "197361", **fields: Any) -> list[Milestone]:
    return told_of(dispense(id=name or f"d{day}", whenHandedOver=stamp(day), daysSupply={"value": days},
                            medicationCodeableConcept=drug(code), **fields))  # fmt: skip


def told_of(tree: dict[str, Any]) -> list[Milestone]:
    return [msg for msg in told({**tree, "subject": {"identifier": {"system": "urn:id:MRN", "value": "1"}}})]


def stamp(day: int) -> str:
    """Midnight of a day on the test clock."""
    return text_of(at(24 * day))


def shown(facts: list[AnyFact], day: float, rules: Any = RULES) -> tuple[str, int] | None:
    """Kind and day of the milestone that the record shows when everything is decided at once."""
    _, outcomes, _, _ = advance(Timeline(), [PERMIT, *facts], at(24 * day), rules)
    released = [o.event for o in outcomes if o.verdict is Verdict.RELEASED and isinstance(o.event, Milestone)]
    assert len(released) <= 1
    return next(((e.kind.value, round(((e.time or 0) - at(0)) / DAY)) for e in released), None)


def stopped(day: int, **fields: Any) -> list[Milestone]:
    return told_of(order(id="r9", status="stopped", meta={"lastUpdated": stamp(day)}, authoredOn=None, **fields))


ON_TRACK, LAPSED = ("dispensed", 0), ("refill-gap", 37)
CASES: list[tuple[str, list[Any], float, tuple[str, int] | None]] = [
    ("on the day", [supply(0)], 0, ON_TRACK),
    ("until the grace is over", [supply(0)], 36.9, ON_TRACK),
    ("then it lapsed", [supply(0)], 37, LAPSED),
    ("and stays so", [supply(0)], 300, LAPSED),
    ("refilled in time", [supply(0), supply(30)], 60, ("dispensed", 30)),
    ("refilled at the last moment", [supply(0), supply(37)], 60, ("dispensed", 37)),
    ("refilled too late, which puts the flag back", [supply(0), supply(40)], 60, ("dispensed", 40)),
    ("lapsed again", [supply(0), supply(40)], 77, ("refill-gap", 77)),
    ("of another medication", [supply(0), supply(30, 60, code="1")], 60, ("refill-gap", 37)),
    ("of no medication that is known", [supply(0), supply(30, code="")], 60, ("dispensed", 30)),
    ("undated: it may have been in time", [supply(0), told_of(dispense(id="d9", whenHandedOver=None))], 60, ON_TRACK),
    ("the order was stopped", [supply(0), stopped(20)], 60, None),
    ("the order was stopped before", [supply(1), stopped(0)], 60, ("refill-gap", 38)),
    ("the order of another medication", [supply(0), stopped(20, medicationCodeableConcept=drug("1"))], 60, LAPSED),
    ("an order of no medication that is known", [supply(0), stopped(20, medicationCodeableConcept=None)], 60, None),
    ("stopped after it lapsed", [supply(0), stopped(50)], 60, None),
    ("the dispense was an error", [supply(0), supply(0, status="entered-in-error")], 60, None),
    ("another dispense was an error", [supply(0), supply(50, name="d7", status="entered-in-error")], 60, LAPSED),
    ("ordered", [told_of(order(authoredOn=stamp(0)))], 10, ("prescribed", 0)),
    ("ordered and never filled", [told_of(order(authoredOn=stamp(0)))], 20, ("refill-gap", 14)),
    ("ordered and filled", [told_of(order(authoredOn=stamp(0))), supply(3)], 20, ("dispensed", 3)),
]  # fmt: skip


@pytest.mark.parametrize("groups, day, expected", [pytest.param(*case, id=name) for name, *case in CASES])
def test_the_flag(groups: list[list[Milestone]], day: float, expected: tuple[str, int] | None) -> None:
    facts: list[AnyFact] = [fact for group in groups for fact in group]
    assert shown(facts, day) == expected
    assert shown(facts[::-1], day) == expected


def test_a_gap_is_a_pair_but_no_event() -> None:
    facts = supply(0)
    _, outcomes, counts, _ = advance(Timeline(), [PERMIT, *facts, *facts], at(24), RULES)
    assert counts == (1, 2)
    said = [(o.verdict, o.reason) for o in outcomes if o.event != PERMIT]
    assert sorted(said) == [
        (Verdict.RELEASED, Reason.PERMITTED),
        (Verdict.REPEATED, Reason.SAME_MESSAGE),
        (Verdict.SUPPRESSED, Reason.AFTER_HORIZON),
    ]
    _, outcomes, counts, _ = advance(Timeline(), facts, at(24), the_rules(kinds={Kind.DISPENSED: (ROUTE,)}))
    assert counts == (1, 1) and len(outcomes) == 1, "a gap that no route takes leaves no trace"


def test_reasons() -> None:
    facts: list[AnyFact] = [*supply(0), *supply(30)]
    _, outcomes, _, _ = advance(Timeline(), [PERMIT, *facts], at(24 * 60), RULES)
    assert {o.event.key: o.reason for o in outcomes if o.route} == dict(
        zip([fact.key for fact in facts],
            [Reason.SUPERSEDED, Reason.REFILLED, Reason.PERMITTED, Reason.AFTER_HORIZON], strict=True)
    )  # fmt: skip


def test_a_refill_that_came_too_late_does_not_undo_the_gap() -> None:
    late: list[AnyFact] = [*supply(0), *supply(38)]
    _, outcomes, _, _ = advance(Timeline(), [PERMIT, *late], at(24 * 60), the_rules(a_route(by_patient=False)))
    assert {o.reason for o in outcomes if o.event == late[1]} == {Reason.PERMITTED}


def test_it_falls_due_without_an_arrival() -> None:
    """With a ledger the next call is due when the gap is, and writes the flag without any message."""
    timeline, outcomes, _, due = advance(Timeline(), [PERMIT, *supply(0)], at(25), STATE)
    assert [o.verdict for o in outcomes if o.route] == [Verdict.RELEASED, Verdict.HELD], "the gap is yet to come"
    while due < at(24 * 37):
        timeline, outcomes, _, due = advance(timeline, [], due, STATE)
        assert not outcomes
    assert due == at(24 * 37)
    timeline, outcomes, counts, due = advance(timeline, [], due, STATE)
    assert [(o.verdict, o.event.kind) for o in outcomes if isinstance(o.event, Milestone)] == [
        (Verdict.RELEASED, Kind.REFILL_GAP)
    ]
    assert counts == (0, 0)
    timeline, outcomes, _, _ = advance(timeline, list(supply(40)), at(24 * 41), STATE)
    assert [o.verdict for o in outcomes if o.route] == [Verdict.HELD, Verdict.RELEASED], "the flag is put back"


def test_what_was_dispensed_is_known_as_long_as_its_gap_matters() -> None:
    """The keys of a message are forgotten after its time to live; a gap may fall due later."""
    short = the_rules(ROUTE, keeps=True, time_to_live=5 * HOUR)
    known: list[AnyFact] = [PERMIT, *supply(0), *supply(30), *supply(35, 90, code="1")]
    timeline, *_ = advance(Timeline(), known, at(24 * 36), short)
    for day in (36.5, 37, 38):
        timeline, outcomes, _, _ = advance(timeline, [], at(24 * day), short)
        assert not outcomes
    (gap,) = [o for o in advance(timeline, [], at(24 * 67), short)[1] if o.verdict is Verdict.RELEASED]
    assert isinstance(gap.event, Milestone) and gap.event.time == at(24 * 67)


@pytest.mark.parametrize("given", [at(24 * 40), FOREVER])
def test_without_a_permit_in_time_there_is_no_flag(given: int) -> None:
    late = a_consent(given=given, purposes=("PATSUPPORT",), recipients=(CRM,))
    _, outcomes, _, _ = advance(Timeline(), [late, *supply(0)], at(24 * 60), RULES)
    assert not [o for o in outcomes if o.verdict is Verdict.RELEASED]
