"""Route filters: what a message states, what a route takes, and from when until when a patient is in a programme."""

from datetime import UTC
from typing import Any

import pytest
from builders import TIME_TO_LIVE, a_consent, a_judgement, a_milestone, a_route, a_scope, at, the_rules
from msgspec.structs import replace

from schemas.event import AnyFact, Kind, Milestone
from schemas.instant import DAY, HOUR
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.timeline import Timeline, pack, unpack
from transforms.decode import reader
from transforms.rules import fhir_events, hl7_events
from transforms.rules.fhir_parts import Around
from transforms.rules.filters import AND, OR, Filters, stated, takes
from transforms.rules.reading import Reading
from transforms.rules.timeline import advance

BOTH = frozenset({"service", "location"})
READING = Reading("ehr", "UTF-8", UTC, ("MR", ""), filtered=BOTH)
UNFILTERED = READING._replace(filtered=frozenset())
HELD, RELEASED, SUPPRESSED, RETRACTED = Verdict.HELD, Verdict.RELEASED, Verdict.SUPPRESSED, Verdict.RETRACTED
Json = dict[str, Any]


# --- what is stated -----------------------------------------------------------------------------------------------

HL7: list[tuple[str, list[str], str, str]] = [
    ("nothing", ["PV1|1|I"], "", ""),
    ("no PV1", [], "", ""),
    ("null", ['PV1|1|I|""|||||||""'], "", ""),
    ("a service", ["PV1|1|I||||||||CAR"], "CAR", ""),
    ("a service with its system", ["PV1|1|I||||||||CAR^Cardiology^HL70069"], "HL70069|CAR", ""),
    ("and the alternate one", ["PV1|1|I||||||||CAR^^L^C2^^X"], f"L|CAR{OR}X|C2", ""),
    ("two services", ["PV1|1|I||||||||PSY~CAR"], f"CAR{AND}PSY", ""),
    ("one of them without a code", ["PV1|1|I||||||||^Psychiatry~CAR"], f"{AND}CAR", ""),
    ("an escaped code", [r"PV1|1|I||||||||C\T\R"], "C&R", ""),
    ("a code that says two names", ["PV1|1|I||||||||PSY\x1fCAR"], "", ""),
    ("a unit", ["PV1|1|I|CARD"], "", "CARD"),
    ("unit, room, bed, facility, building", ["PV1|1|I|CARD^101^A^GEN&1.2&ISO^^^MAIN"], "", f"CARD{OR}GEN{OR}MAIN"),
    ("a bed alone", ["PV1|1|I|^^A"], "", ""),
    ("two units", ["PV1|1|I|CARD~PSYCH"], "", f"CARD{AND}PSYCH"),
    ("a transfer's other fields", ["PV1|1|I|CARD|||PSYCH"], "", "CARD"),
]
BOOKING: list[tuple[str, list[str], str, str]] = [
    ("a booking", ["AIS|1||ECHO^^L", "AIL|1||CARD^101"], "L|ECHO", "CARD"),
    ("a booking of two", ["AIS|1||ECHO", "AIS|2||ECT", "AIL|1||CARD", "AIL|2||PSYCH"], f"ECHO{AND}ECT",
     f"CARD{AND}PSYCH"),
    ("a visit and its booking", ["PV1|1|O|GEN|||||||CAR", "AIS|1||ECHO", "AIL|1||CARD"], f"CAR{AND}ECHO",
     f"CARD{AND}GEN"),
]  # fmt: skip


def hl7(kind: str, segments: list[str], reading: Reading = READING) -> Milestone:
    header = [rf"MSH|^~\&|A|B|C|D|20260301||{kind}|1|T|2.5.1", "PID|1||7^^^H^MR"]
    [fact] = hl7_events.read("\r".join([*header, *segments]).encode(), reading)
    assert isinstance(fact, Milestone)
    return fact


@pytest.mark.parametrize(
    ("kind", "segments", "service", "location"),
    [pytest.param("ADT^A01", *one[1:], id=one[0]) for one in HL7]
    + [pytest.param("SIU^S12", ["SCH|V1", *one[1]], *one[2:], id=one[0]) for one in BOOKING],
)
def test_what_hl7_states(kind: str, segments: list[str], service: str, location: str) -> None:
    values = hl7(kind, segments).values
    assert (values.get("service", ""), values.get("location", "")) == (service, location)
    assert not BOTH & set(hl7(kind, segments, UNFILTERED).values)


def test_a_cancellation_states_nothing() -> None:
    assert hl7("ADT^A11", ["PV1|1|I|CARD|||||||CAR"]).values == {}


def coded(*codes: str) -> Json:
    pairs = [code.rpartition("|") for code in codes]
    return {"coding": [{**({"system": system} if system else {}), "code": code} for system, _, code in pairs]}


def at_place(reference: str | None, **fields: Any) -> Json:
    return {"location": {"reference": reference, **fields.pop("of", {})}, **fields}


ENCOUNTER: list[tuple[str, Json, str, str]] = [
    ("nothing", {}, "", ""),
    ("a service", {"serviceType": coded("urn:s|CAR")}, "urn:s|CAR", ""),
    ("a service without a system", {"serviceType": coded("CAR")}, "CAR", ""),
    ("and its translation", {"serviceType": coded("urn:s|CAR", "CARDIO")}, f"CARDIO{OR}urn:s|CAR", ""),
    ("of another form", {"serviceType": ["CAR"]}, "", ""),
    ("one more of another form", {"serviceType": [coded("CAR"), "PSY"]}, f"{AND}CAR", ""),
    ("a text alone", {"serviceType": {"text": "CAR"}}, "", ""),
    ("a place", {"location": [at_place("Location/c1")]}, "", f"Location/c1{OR}c1"),
    ("a version of it", {"location": [at_place("Location/c1/_history/2")]}, "", f"Location/c1{OR}c1"),
    ("by identifier", {"location": [{"location": {"identifier": {"system": "urn:l", "value": "CARD"}}}]}, "", "CARD"),
    ("two places", {"location": [at_place("Location/c"), at_place("Location/p")]}, "",
     f"Location/c{OR}c{AND}Location/p{OR}p"),
    ("under a modifier", {"location": [at_place("Location/c", modifierExtension=[{"url": "urn:not"}])]}, "", ""),
    ("a place of another form", {"location": [at_place("Location/c"), "PSYCH"]}, "", f"{AND}Location/c{OR}c"),
]  # fmt: skip


def fhir(kind: str, reading: Reading = READING, **fields: Any) -> Milestone:
    known: Json = {"resourceType": kind, "id": "e1", "status": "finished", "subject": {"reference": "Patient/7"}}
    facts = fhir_events.read({**known, "meta": {"lastUpdated": "2026-03-01T08:00:00Z"}, **fields}, Around(reading))
    assert isinstance(facts[0], Milestone)
    return facts[0]


@pytest.mark.parametrize(("fields", "service", "location"), [pytest.param(*one[1:], id=one[0]) for one in ENCOUNTER])
def test_what_an_encounter_states(fields: Json, service: str, location: str) -> None:
    values = fhir("Encounter", **fields).values
    assert (values.get("service", ""), values.get("location", "")) == (service, location)
    assert not BOTH & set(fhir("Encounter", UNFILTERED, **fields).values)
    assert fhir("Encounter", **{**fields, "status": "cancelled"}).values == {}


PATIENT = {"actor": {"reference": "Patient/7"}}
NUMBER = {"type": coded("http://terminology.hl7.org/CodeSystem/v2-0203|MR"), "system": "urn:id:MAIN", "value": "42"}
CARD = {"actor": {"reference": "Location/c"}}
NAMED = f"Location/c{OR}c"
PARTICIPANTS: list[tuple[str, list[Json], str]] = [
    ("nobody else", [], ""),
    ("a place", [CARD], NAMED),
    ("by its type", [{"actor": {"type": "Location", "identifier": {"value": "CARD"}}}], "CARD"),
    ("at a server", [{"actor": {"reference": "https://ehr.example/fhir/Location/c"}}],
     f"c{OR}https://ehr.example/fhir/Location/c"),
    ("people", [CARD, {"actor": {"reference": "Practitioner/1"}}, {"actor": {"type": "Device"}}], NAMED),
    ("people by condition", [CARD, {"actor": {"reference": "Practitioner?identifier=http://a.example/b/c|1"}}], NAMED),
    ("a patient by number alone", [CARD, {"actor": {"identifier": NUMBER}}], NAMED),
    ("two places", [CARD, {"actor": {"reference": "Location/p"}}], f"{NAMED}{AND}Location/p{OR}p"),
    ("something that may be a place", [CARD, {"actor": {"reference": "urn:uuid:1"}}], f"{NAMED}{AND}urn:uuid:1"),
    ("something without a name", [CARD, {"actor": {}}], f"{AND}{NAMED}"),
    ("a place under a modifier", [CARD, {"actor": {"reference": "Location/p"}, "modifierExtension": [{}]}],
     f"{AND}{NAMED}"),
]  # fmt: skip


@pytest.mark.parametrize(("people", "location"), [pytest.param(*one[1:], id=one[0]) for one in PARTICIPANTS])
def test_where_an_appointment_is(people: list[Json], location: str) -> None:
    one = fhir("Appointment", status="booked", participant=[PATIENT, *people], serviceType=[coded("CAR")])
    assert (one.values["service"], one.values.get("location", "")) == ("CAR", location)


def test_who_is_known_by_the_bundle_is_no_place() -> None:
    around = Around(READING, patients={"urn:uuid:p": "ehr\x1f7"}, providers={"urn:uuid:d": ""})
    people = [{"actor": {"reference": name}} for name in ("urn:uuid:p", "urn:uuid:d", "Location/c")]
    [one] = fhir_events.read({"resourceType": "Appointment", "status": "booked", "participant": people}, around)
    assert isinstance(one, Milestone) and one.values["location"] == NAMED


def test_what_other_resources_state() -> None:
    episode = fhir("EpisodeOfCare", patient={"reference": "Patient/7"}, type=[coded("urn:p|A"), coded("urn:p|B")])
    assert episode.values["service"] == f"urn:p|A{AND}urn:p|B"
    drug = {"medicationCodeableConcept": coded("urn:d|1"), "whenHandedOver": "2026-03-01T08:00:00Z"}
    given = fhir("MedicationDispense", status="completed", location={"reference": "Location/c"}, **drug)
    assert given.values == {"location": NAMED}


def test_only_what_a_route_filters_on_is_read(policy: Policy) -> None:
    def reading(filters: Json) -> frozenset[str]:
        first, *others = policy.model_dump(by_alias=True, exclude={"routes": {"__all__": {"filters"}}})["routes"]
        tree = policy.model_dump(by_alias=True, exclude={"routes"})
        changed = Policy.model_validate({**tree, "routes": [{**first, **filters}, *others]})
        return reader(changed)._reading.filtered

    assert reading({}) == reading({"filters": {"programmes": ["core"]}}) == frozenset()
    assert reading({"filters": {"services": ["CAR"]}}) == {"service"}
    assert reading({"filters": {"services": ["CAR"], "locations": ["CARD"]}}) == BOTH


# --- what a route takes -------------------------------------------------------------------------------------------

CAR, PLACE = Filters(services=frozenset({"CAR", "urn:s|CAR"})), Filters(locations=frozenset({"CARD"}))


@pytest.mark.parametrize(
    ("things", "taken"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([["CAR"]], True, id="listed"),
        pytest.param([["car"]], False, id="in other letters"),
        pytest.param([[" CAR "]], True, id="with blanks around"),
        pytest.param([["CARD"]], False, id="beginning alike"),
        pytest.param([["urn:t|CAR"]], False, id="of another system"),
        pytest.param([["PSY"]], False, id="not listed"),
        pytest.param([["PSY", "CAR"]], True, id="listed under one of its names"),
        pytest.param([["PSY"], ["CAR"]], False, id="one listed, one not"),
        pytest.param([["CAR"], ["urn:s|CAR"]], True, id="two listed"),
        pytest.param([["CAR"], []], False, id="one listed, one without a name"),
        pytest.param([["CAR\n"]], False, id="not printable"),
        pytest.param([[""], [" "]], False, id="blank"),
    ],
)
def test_what_is_taken(things: list[list[str]], taken: bool) -> None:
    for order in (things, things[::-1]):
        assert takes(CAR, {"service": stated(order)}) is taken
    assert takes(PLACE, {"location": stated([["CARD", "GEN"]])})
    assert not takes(PLACE, {"service": stated([["CARD"]])}), "a service is no place"
    assert takes(Filters(), {}), "no list filters nothing"
    both = Filters(services=CAR.services, locations=PLACE.locations)
    assert not takes(both, {"service": "CAR"}) and takes(both, {"service": "CAR", "location": "CARD"})


# --- in a timeline ------------------------------------------------------------------------------------------------

FREE = a_scope("HMARKT", recipients=(), needs_permit=False)
ROUTES = (
    a_route("state", filters=CAR),
    a_route("event", by_patient=False, filters=CAR),
    a_route("all", by_patient=False),
    a_route("free", scope=FREE, by_patient=False, filters=CAR),
)
IN, OUT = {"service": "CAR"}, {"service": "PSY"}
PERMIT, SUPERSEDED, FILTERED = a_consent(), Reason.SUPERSEDED, Reason.FILTERED
NOT_ENROLLED = Reason.NOT_ENROLLED
Said = dict[tuple[str, bytes], tuple[Verdict, Reason]]


def calls(*steps: tuple[list[AnyFact], float], routes: tuple[Any, ...] = ROUTES, keeps: bool = True) -> list[Said]:
    """(route, content) → what became of the pair, call by call. Between calls a timeline is bytes."""
    timeline, found = Timeline(), []
    known = the_rules(*routes, keeps=keeps)
    for arrivals, hour in steps:
        timeline, outcomes, counts, _ = advance(unpack(pack(timeline)), arrivals, at(hour), known)
        found.append(
            {(o.route, o.event.what): (o.verdict, o.reason) for o in outcomes if isinstance(o.event, Milestone)}
        )
        assert counts.pairs == len(routes) * counts.events_routed
    return found


@pytest.mark.parametrize("keeps", [True, False])
def test_what_is_filtered_never_waits_and_outranks_nothing(keeps: bool) -> None:
    old, new = a_milestone(at(4), values=IN), a_milestone(at(5), values=OUT)
    [said] = calls(([PERMIT, old, new], 6), keeps=keeps)
    for route in ("state", "event", "free"):
        assert said[route, old.what][0] is RELEASED and said[route, new.what] == (SUPPRESSED, FILTERED)
    assert said["all", old.what] == (SUPPRESSED, SUPERSEDED) and said["all", new.what][0] is RELEASED
    first, second = calls(([PERMIT, old], 5), ([new], 6))
    assert first["state", old.what][0] is RELEASED
    assert {verdict for (route, _), (verdict, _) in second.items() if route == "state"} == {SUPPRESSED}


def test_the_newest_that_is_taken_decides_whatever_becomes_of_it() -> None:
    """Without a permit for the newer one, the older one does not come out instead."""
    late = a_consent(given=at(1), data_end=at(4.5))
    old, new = a_milestone(at(4), values=IN), a_milestone(at(5), values=IN)
    [said] = calls(([late, old, new], 20))
    assert said["state", old.what] == (SUPPRESSED, SUPERSEDED)
    assert said["state", new.what] == (SUPPRESSED, Reason.NOT_COVERED)


def test_a_cancellation_is_never_filtered() -> None:
    one, back = a_milestone(at(4), values=IN), a_milestone(at(5), values={}, cancels=(Kind.ADMITTED,))
    _, said = calls(([PERMIT, one], 4.5), ([back], 6))
    for route in ("state", "event"):
        assert said[route, one.what] == (RETRACTED, Reason.CANCELLED)
        assert said[route, back.what] == (SUPPRESSED, Reason.CANCELLATION)


def test_what_comes_before_and_after_stays() -> None:
    """Doubt comes first; what is specially protected is filtered like all else and stays where it is."""
    one, other = a_milestone(key="k", values=OUT), a_milestone(key="k", values=IN)
    [said] = calls(([PERMIT, one, other], 6))
    assert {reason for _, reason in said.values()} == {Reason.CONFLICTING_COPY}
    marked = replace(a_milestone(values=IN), classes=("hiv",))
    [said] = calls(([PERMIT, marked], 30))
    assert {reason for _, reason in said.values()} == {Reason.SENSITIVE}


def test_no_reviewer_lets_in_what_is_filtered() -> None:
    late = a_milestone(at(4), values=OUT, published=at(5 + TIME_TO_LIVE))
    timely = a_milestone(at(3), values=IN)
    rules = the_rules(*ROUTES, keeps=True)
    timeline, outcomes, _, _ = advance(Timeline(), [PERMIT, late, timely], at(16), rules)
    asked = {o.route: o.question for o in outcomes if o.verdict is Verdict.REVIEW}
    yes = [a_judgement(late.what, route, question, said=at(16)) for route, question in asked.items()]
    _, outcomes, _, _ = advance(timeline, yes, at(16), rules)
    assert {(o.route, o.verdict, o.reason) for o in outcomes if o.route in ("state", "event")} == {
        (route, Verdict.REVIEW_CLOSED, FILTERED) for route in ("state", "event")
    }


# --- programmes ---------------------------------------------------------------------------------------------------

PROGRAMME = (a_route("state", filters=Filters(programmes=frozenset({"core", "plus"}))),)
EVENT = a_milestone(at(5))


def begins(time: float | None = 2, tier: str = "core", visit: str = "e", **fields: Any) -> Milestone:
    values = {"enrolment": "active", **({"tier": tier} if tier else {})}
    return a_milestone(None if time is None else at(time), kind=Kind.ENROLLED, visit=visit, values=values, **fields)


def ends(time: float | None = 8, visit: str = "e", **fields: Any) -> Milestone:
    moment = None if time is None else at(time)
    return a_milestone(moment, kind=Kind.EPISODE_COMPLETED, visit=visit, values={"enrolment": "finished"}, **fields)


def never(time: float = 9, visit: str = "e", **fields: Any) -> Milestone:
    return a_milestone(
        at(time), kind=Kind.EPISODE_COMPLETED, visit=visit, cancels=(Kind.EPISODE_COMPLETED, Kind.ENROLLED), **fields
    )


LATE = {"published": at(5 + TIME_TO_LIVE + 4)}
ENROLMENTS: list[tuple[str, list[AnyFact], bool]] = [
    ("no enrolment", [], False),
    ("enrolled before", [begins()], True),
    ("enrolled at that instant", [begins(5)], True),
    ("enrolled after", [begins(5.1)], False),
    ("enrolled on that day", [begins(0, span=DAY)], True),
    ("in another programme of the list", [begins(tier="plus")], True),
    ("in a programme that is not listed", [begins(tier="nurse-led")], False),
    ("in no known programme", [begins(tier="")], False),
    ("enrolled at no known time", [begins(None)], False),
    ("enrolled, told too late", [begins(**LATE)], False),
    ("enrolled, in time and too late", [begins(), begins(key="again", **LATE)], True),
    ("enrolled, in two ways", [begins(key="k"), begins(3, key="k")], False),
    ("enrolled, in two ways, and once more", [begins(key="k"), begins(3, key="k"), begins(visit="f")], True),
    ("completed after", [begins(), ends()], True),
    ("completed at that instant", [begins(), ends(5)], False),
    ("completed before", [begins(), ends(4)], False),
    ("completed before it began", [begins(), ends(1)], False),
    ("completed at no known time", [begins(), ends(None)], False),
    ("completed on that day", [begins(), ends(4, span=DAY)], False),
    ("completed, told too late", [begins(), ends(4, **LATE)], False),
    ("completed, in two ways", [begins(), ends(4, key="k"), ends(8, key="k")], False),
    ("completed twice", [begins(), ends(8), ends(4)], False),
    ("another episode completed", [begins(), ends(4, visit="f")], True),
    ("an unnamed episode completed", [begins(), ends(4, visit="")], False),
    ("enrolled in an unnamed one", [begins(visit=""), ends(4, visit="f")], False),
    ("enrolled in an unnamed one, none completed", [begins(visit="")], True),
    ("completed under another number", [replace(begins(), also=("g",)), ends(4, visit="g")], False),
    ("completed under another number of its own", [begins(visit="g"), replace(ends(4), also=("g",))], False),
    ("one completed, enrolled in another", [begins(), ends(4), begins(4.5, visit="f")], True),
    ("taken back", [begins(), never()], False),
    ("taken back before it began", [begins(), never(1)], True),
    ("another one taken back", [begins(), never(visit="f")], True),
    ("taken back, enrolled in another", [begins(), never(), begins(visit="f")], True),
    ("its completion taken back with it", [begins(), ends(4), never()], False),
]


@pytest.mark.parametrize(("told", "enrolled"), [pytest.param(*one[1:], id=one[0]) for one in ENROLMENTS])
def test_who_is_enrolled(told: list[AnyFact], enrolled: bool) -> None:
    expected = (RELEASED, Reason.PERMITTED) if enrolled else (SUPPRESSED, NOT_ENROLLED)
    kinds = {kind: () if kind in (Kind.ENROLLED, Kind.EPISODE_COMPLETED) else PROGRAMME for kind in Kind}
    quiet = the_rules(kinds={**kinds, Kind.ENROLLED: (a_route("other"),), Kind.EPISODE_COMPLETED: (a_route("other"),)})
    for arrivals in ([PERMIT, EVENT, *told], [*told[::-1], EVENT, PERMIT]):
        _, outcomes, _, _ = advance(Timeline(), arrivals, at(20), quiet)
        [said] = [o for o in outcomes if o.route == "state"]
        assert (said.verdict, said.reason) == expected


def test_begin_and_end_of_an_episode_are_part_of_it() -> None:
    for day in (0, 24 * HOUR):
        [said] = calls(([PERMIT, begins(span=day)], 6), routes=PROGRAMME)
        assert [verdict for verdict, _ in said.values()] == [RELEASED]
        [said] = calls(([PERMIT, begins(), ends(span=day)], 40), routes=PROGRAMME)
        assert said["state", ends(span=day).what][0] is RELEASED
        [said] = calls(([PERMIT, begins(), ends(visit="f", span=day), ends(7)], 40), routes=PROGRAMME)
        assert said["state", ends(visit="f", span=day).what] == (SUPPRESSED, NOT_ENROLLED)


def test_an_event_of_a_day_must_lie_in_it_whole() -> None:
    day = a_milestone(at(5), span=HOUR)
    for end, expected in ((6, RELEASED), (5.9, SUPPRESSED)):
        [said] = calls(([PERMIT, begins(), ends(end), day], 12), routes=PROGRAMME)
        assert said["state", day.what][0] in (expected, SUPPRESSED)
        assert (said["state", day.what][1] is NOT_ENROLLED) == (expected is SUPPRESSED)


def test_an_enrolment_may_come_while_the_wait_runs() -> None:
    first, second = calls(([PERMIT, EVENT], 6), ([begins()], 8), routes=PROGRAMME)
    assert first["state", EVENT.what] == (HELD, NOT_ENROLLED)
    assert second["state", EVENT.what] == (RELEASED, Reason.PERMITTED)
    _, over, late = calls(([PERMIT, EVENT], 6), ([], 9), ([begins()], 9.5), routes=PROGRAMME)
    assert over["state", EVENT.what] == (SUPPRESSED, NOT_ENROLLED) and ("state", EVENT.what) not in late
    [without] = calls(([PERMIT, EVENT], 6), routes=PROGRAMME, keeps=False)
    assert without["state", EVENT.what] == (SUPPRESSED, NOT_ENROLLED)


@pytest.mark.parametrize("back", [never(), begins(3, key="k"), ends(None)])
def test_what_left_is_taken_back_with_its_enrolment(back: Milestone) -> None:
    _, said = calls(([PERMIT, begins(key="k"), EVENT], 6), ([back], 10), routes=PROGRAMME)
    assert said["state", EVENT.what] == (RETRACTED, NOT_ENROLLED)


def test_an_end_that_is_told_later_takes_the_record_over() -> None:
    """What was out never was of the programme; its end is the newest that was."""
    [_, said] = calls(([PERMIT, begins(), EVENT], 6), ([ends(4)], 7), routes=PROGRAMME)
    assert said == {("state", ends(4).what): (RELEASED, Reason.PERMITTED)}


def test_what_comes_after_the_programme_takes_nothing_back() -> None:
    """A later stay outside of it is not the record's newest milestone."""
    stay, later = a_milestone(at(5)), a_milestone(at(12), visit="v9")
    _, said = calls(([PERMIT, begins(), stay], 6), ([ends(8), later], 20), routes=PROGRAMME)
    assert said["state", later.what] == (SUPPRESSED, NOT_ENROLLED)
    assert RETRACTED not in {verdict for verdict, _ in said.values()}


@pytest.mark.parametrize("forgets", [None, a_route("state")])
def test_an_enrolment_is_remembered_while_it_stands_and_its_end_for_good(forgets: Any) -> None:
    """Long after its time to live; and its end even by a policy that filters nothing."""
    routes = PROGRAMME if forgets is None else (forgets,)
    far = 10 * TIME_TO_LIVE

    def after(*told: AnyFact) -> tuple[Verdict, Reason]:
        timeline, stay = Timeline(), a_milestone(at(far + 1))
        for arrivals, hour in (([PERMIT, *told], 9.0), ([], far / 2), ([], far + 0.0)):
            timeline, _, _, _ = advance(timeline, arrivals, at(hour), the_rules(*routes, keeps=True))
        _, outcomes, _, _ = advance(timeline, [stay], at(far + 20), the_rules(*PROGRAMME, keeps=True))
        [said] = [o for o in outcomes if isinstance(o.event, Milestone) and o.event.what == stay.what]
        return said.verdict, said.reason

    if forgets is None:
        assert after(begins()) == (RELEASED, Reason.PERMITTED)
        assert after(begins(), EVENT) == (RELEASED, Reason.PERMITTED)  # no record shows that the patient was enrolled
        assert after(begins(key="k"), begins(3, key="k")) == (SUPPRESSED, NOT_ENROLLED)
        of_another_kind = a_milestone(at(1), key="k")
        assert after(begins(key="k"), of_another_kind) == (SUPPRESSED, NOT_ENROLLED)
    shown = a_milestone(at(7), kind=Kind.ENROLLED, visit="e", values={"tier": "core"})
    for told in ((begins(), ends()), (shown, ends(6.5)), (begins(), ends(8, published=at(30)))):
        assert after(*told) == (SUPPRESSED, NOT_ENROLLED)
