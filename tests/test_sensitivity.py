"""Before consent: what is specially protected, the dead, and minors. In every case a permit for all is in hand."""

from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import PATIENT, a_consent, a_milestone, at
from hospital_files import decide, lines, ndjson, permit

from schemas.event import AnyFact, Identity, Kind, Made, Milestone, Person, digest
from schemas.instant import BEGINNING, FOREVER, from_fhir
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy, ProtectedClass
from schemas.timeline import Timeline
from transforms.decode import reader
from transforms.rules import hl7_events
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.identity import beside
from transforms.rules.routing import rules
from transforms.rules.sensitivity import Sensitivity, adult_at, compiled
from transforms.rules.timeline import advance

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def encounter(**fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter", "id": "e", "status": "finished", "period": {"end": "2026-01-01T08:00:00Z"},
        "subject": {"identifier": {"system": "urn:id:GENERAL", "value": "M1"}}, **fields,
    }  # fmt: skip


def labelled(system: str, code: str) -> dict[str, Any]:
    return {"meta": {"security": [{"system": system, "code": code}]}}


ICD = "http://hl7.org/fhir/sid/icd-10-cm"
REASON = {"coding": [{"system": ICD, "code": "I10"}]}
CONDITION = {"resourceType": "Condition", "id": "c", "code": {"coding": [{"system": ICD, "code": "F11.1"}]}}
MARKED: list[tuple[str, dict[str, Any], bool]] = [
    ("no label", {}, False),
    ("restricted", labelled(CONFIDENTIALITY, "R"), True),
    ("very restricted", labelled(CONFIDENTIALITY, "V"), True),
    ("normal", labelled(CONFIDENTIALITY, "N"), False),
    ("substance use", labelled(ACT_CODE, "ETH"), True),
    ("HIV", labelled(ACT_CODE, "HIV"), True),
    ("the same letters of another system", labelled("urn:other", "HIV"), True),
    ("a label in small letters", labelled(ACT_CODE, "hiv"), True),
    ("restricted, as FHIR STU3 names the system", labelled("http://hl7.org/fhir/v3/Confidentiality", "R"), True),
    ("restricted, by its OID", labelled("urn:oid:2.16.840.1.113883.5.25", "V"), True),
    ("a label without a system", {"meta": {"security": [{"code": "HIV"}]}}, True),
    ("a harmless label without a system", {"meta": {"security": [{"code": "N"}]}}, False),
    ("a service in small letters", {"serviceType": {"coding": [{"code": "psy"}]}}, True),
    ("a service", {"serviceType": {"coding": [{"code": "PSY"}]}}, True),
    ("one of several services", {"serviceType": [{"coding": [{"code": "GP"}, {"code": "DETOX"}]}]}, True),
    ("another service", {"serviceType": {"coding": [{"code": "CARD"}]}}, False),
    ("a reason in words", {"reasonCode": [{"coding": [{"code": "FOLLOWUP"}, {"code": "Fever"}]}]}, False),
    ("the use of a diagnosis", {"diagnosis": [{"use": {"coding": [{"code": "F"}]}}]}, False),
    ("a reason", {"reasonCode": [{"coding": [{"system": ICD, "code": "F10.20"}]}]}, True),
    ("without its dot, in small letters", {"reasonCode": [{"coding": [{"code": "f1020"}]}]}, True),
    ("the second reason's second code", {"reasonCode": [REASON, {"coding": [{"code": "1"}, {"code": "B20"}]}]}, True),
    ("another reason", {"reasonCode": [REASON]}, False),
    ("a code that begins like none", {"reasonCode": [{"coding": [{"code": "B2"}]}]}, False),
    ("a code after a blank", {"reasonCode": [{"coding": [{"code": " F10.20"}]}]}, True),
    ("a text is no code", {"reasonCode": [{"text": "F10.20"}]}, False),
    ("a service before a blank", {"serviceType": {"coding": [{"code": "PSY "}]}}, True),
    ("a specialty", {"specialty": [{"coding": [{"code": "PSY"}]}]}, True),
    ("a category of services", {"serviceCategory": [{"coding": [{"code": "SUD"}]}]}, True),
    ("a place", {"location": [{"location": {"reference": "Location/PSYCH"}}]}, True),
    ("a place elsewhere", {"location": [{"location": {"reference": "https://b/Location/detox/_history/1"}}]}, True),
    ("a place by its identifier", {"location": [{"location": {"identifier": {"value": "PSYCH"}}}]}, True),
    ("a contained place", {"contained": [{"resourceType": "Location", "identifier": [{"value": "PSYCH"}]}]}, True),
    ("a place by a long identifier", {"location": [{"location": {"identifier": {"value": "x/PSYCH"}}}]}, True),
    ("another place", {"location": [{"location": {"reference": "Location/W1"}}]}, False),
    ("a diagnosis as R5 writes it", {"diagnosis": [{"condition": [{"concept": {"coding": [{"code": "Z21"}]}}]}]}, True),
    ("a contained Condition", {"contained": [CONDITION], "diagnosis": [{"condition": {"reference": "#c"}}]}, True),
    ("one that it does not name", {"contained": [CONDITION]}, False),
    ("a reason that it contains", {"contained": [CONDITION], "reasonReference": [{"reference": "#c"}]}, True),
    ("a contained Condition of another code",
     {"contained": [{**CONDITION, "code": REASON}], "reasonReference": [{"reference": "#c"}]}, False),
    ("nonsense", {"reasonCode": 5, "diagnosis": {"code": []}, "reasonReference": "Condition/c"}, False),
]  # fmt: skip


@pytest.mark.parametrize("fields, marked", [case[1:] for case in MARKED], ids=[case[0] for case in MARKED])
def test_what_marks_a_resource(policy: Policy, fields: dict[str, Any], marked: bool) -> None:
    (fact,) = read(encounter(**fields), Around(reader(policy)._reading))
    assert isinstance(fact, Milestone)
    assert bool(fact.classes) is marked


def test_where_an_appointment_takes_place_marks_it(policy: Policy) -> None:
    patient, place = encounter()["subject"], {"reference": "Location/PSYCH"}
    booked = {"resourceType": "Appointment", "id": "a", "status": "booked", "created": "2026-01-01"}
    named = {"type": "Location", "identifier": {"value": "DETOX"}}
    for actors, classes in (([], ()), ([place], ("mental-health",)), ([named], ("substance-use",))):
        people = [{"actor": one} for one in ({**patient, "type": "Patient"}, *actors)]
        (fact,) = read({**booked, "participant": people}, Around(reader(policy)._reading))
        assert isinstance(fact, Milestone) and fact.classes == classes


@pytest.mark.parametrize("code, classes", [("SUD", ("substance-use",)), ("HACC", ())])
@pytest.mark.parametrize("status", ["active", "finished", "planned"])
def test_what_an_episode_is_of_marks_it(policy: Policy, status: str, code: str, classes: tuple[str, ...]) -> None:
    """EpisodeOfCare.type is the service that filters read of one."""
    kinds = [{"text": "of no code"}, {"coding": [{"code": code}]}]
    episode = {**encounter(status=status, type=kinds), "resourceType": "EpisodeOfCare"}
    facts = read({**episode, "patient": episode["subject"]}, Around(reader(policy)._reading))
    assert [fact.classes for fact in facts if not isinstance(fact, Made) and fact.classes] == [classes] * bool(classes)


def test_what_a_bundle_is_labelled_with_marks_what_lies_in_it(policy: Policy) -> None:
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": encounter()}]}
    for more, classes in (({}, ()), (labelled(ACT_CODE, "HIV"), ("hiv",))):
        (one,) = reader(policy)._envelopes.line(msgspec.json.encode({**bundle, **more}))
        assert [fact.classes for fact in one.facts if isinstance(fact, Milestone)] == [classes]


@pytest.mark.parametrize(
    "code, died", [("home", False), ("01", False), *((code, True) for code in ("exp", "20", "40", "41", "42"))]
)
def test_a_stay_that_ended_in_death_is_told_of_the_patient(policy: Policy, code: str, died: bool) -> None:
    """By the codes of FHIR and by those of PV1-36, of whatever system: US Core has the National Uniform Billing
    Committee's."""
    for system in ("https://www.nubc.org/CodeSystem/PatDischargeStatus", None):
        stay = {"dischargeDisposition": {"coding": [{"system": system, "code": code}]}}
        _, *beside = read(encounter(hospitalization=stay), Around(reader(policy)._reading))
        people = [(one.died, one.counted) for one in beside if isinstance(one, Person)]
        assert people == ([(True, False)] if died else [])


def test_a_condition_may_name_its_encounter_by_the_place_of_its_entry(policy: Policy) -> None:
    condition = {**CONDITION, "encounter": {"reference": "urn:uuid:2"}}
    entries = [{"resource": condition}, {"fullUrl": "urn:uuid:2", "resource": encounter()}]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    found = [fact for one in reader(policy)._envelopes.line(msgspec.json.encode(bundle)) for fact in one.facts]
    assert [fact.classes for fact in found if isinstance(fact, Milestone)] == [("substance-use",)]


BESIDE: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("that it names", CONDITION, {"diagnosis": [{"condition": {"reference": "Condition/c"}}]}, True),
    ("that it names by its place", CONDITION, {"reasonReference": [{"reference": "urn:uuid:1"}]}, True),
    ("that names it", {**CONDITION, "encounter": {"reference": "Encounter/e"}}, {}, True),
    ("that names another", {**CONDITION, "encounter": {"reference": "Encounter/f"}}, {}, False),
    ("of another code", {**CONDITION, "code": REASON, "encounter": {"reference": "Encounter/e"}}, {}, False),
    ("that is labelled", {**CONDITION, "code": REASON, "encounter": {"reference": "Encounter/e"},
                          **labelled(CONFIDENTIALITY, "R")}, {}, True),
    ("of no form", {**CONDITION, "meta": {"security": 5}, "encounter": 5, "code": 5}, {}, False),
]  # fmt: skip


@pytest.mark.parametrize("condition, fields, marked", [case[1:] for case in BESIDE], ids=[case[0] for case in BESIDE])
@pytest.mark.parametrize("order", [1, -1])
def test_a_condition_marks_the_encounter_beside_it(
    policy: Policy, condition: dict[str, Any], fields: dict[str, Any], marked: bool, order: int
) -> None:
    entries = [{"fullUrl": "urn:uuid:1", "resource": condition}, {"resource": encounter(**fields)}][::order]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    found = [fact for one in reader(policy)._envelopes.line(msgspec.json.encode(bundle)) for fact in one.facts]
    assert [bool(fact.classes) for fact in found if isinstance(fact, Milestone)] == [marked]
    assert [(fact.type, fact.reason) for fact in found if isinstance(fact, Made)] == [("Condition", Reason.NO_ROUTE)]


def answers(policy: Policy, *facts: AnyFact) -> dict[str, tuple[Verdict, Reason]]:
    """Route → answer for the admission among the facts, under permits for all routes."""
    allowed = [a_consent(of=code, purposes=(code,)) for code in ("PATSUPPORT", "HCPVISIBLE")]
    _, outcomes, _, _ = advance(Timeline(), [*allowed, *facts], at(24), rules(policy, keeps=False))
    return {o.route: (o.verdict, o.reason) for o in outcomes if o.route}


def a_person(adult: int = BEGINNING, *, died: bool = False) -> Person:
    return Person(digest("person", adult, died), PATIENT, "Patient", adult, died, True)


def test_all_routes_release_what_nothing_marks(policy: Policy) -> None:
    assert {verdict for verdict, _ in answers(policy, a_milestone(), a_person()).values()} == {Verdict.RELEASED}


@pytest.mark.parametrize("order", [1, -1])
def test_one_marked_copy_binds_on_every_route(policy: Policy, order: int) -> None:
    plain = a_milestone(key="a")
    marked = msgspec.structs.replace(a_milestone(key="b"), classes=("hiv",))
    found = answers(policy, *[plain, marked][::order])
    assert set(found.values()) == {(Verdict.SUPPRESSED, Reason.SENSITIVE)}
    assert set(found) == {route.route for route in policy.routes if Kind.ADMITTED in route.kinds}


MARK = a_milestone(at(4), visit="v1", kind=Kind.REGISTERED)
NAMELESS = a_milestone(at(4), visit="", kind=Kind.REGISTERED)
CARRIED: list[tuple[str, Milestone, Milestone, bool]] = [
    ("another kind", MARK, a_milestone(at(5)), True),
    ("another feed", MARK, msgspec.structs.replace(a_milestone(at(5), kind=Kind.DISCHARGED), type="Encounter"), True),
    ("from a cancellation", a_milestone(at(4), cancels=(Kind.REGISTERED,)), a_milestone(at(5)), True),
    ("another visit", MARK, a_milestone(at(5), visit="v2"), False),
    ("no visit number there", MARK, a_milestone(at(5), visit=""), True),
    ("no visit number here", NAMELESS, a_milestone(at(5)), True),
    ("no visit number on both", NAMELESS, a_milestone(at(5), visit=""), True),
]


@pytest.mark.parametrize("mark, other, bound", [case[1:] for case in CARRIED], ids=[case[0] for case in CARRIED])
@pytest.mark.parametrize("order", [1, -1])
def test_a_mark_binds_its_visit(policy: Policy, mark: Milestone, other: Milestone, bound: bool, order: int) -> None:
    """All milestones of the visit, whatever their kind or feed; without a visit number on either side it may be that
    visit."""
    marked = msgspec.structs.replace(mark, classes=("hiv",))
    allowed = [a_consent(of=code, purposes=(code,)) for code in ("PATSUPPORT", "HCPVISIBLE")]
    arrivals = [*allowed, *[marked, other][::order]]
    _, outcomes, _, _ = advance(Timeline(), arrivals, at(24), rules(policy, keeps=False))
    reasons = {o.reason for o in outcomes if o.route and o.event == other}
    assert (reasons == {Reason.SENSITIVE}) if bound else (reasons and Reason.SENSITIVE not in reasons)
    if not mark.cancels:
        own = {o.reason for o in outcomes if o.route and o.event == marked}
        assert own <= {Reason.SENSITIVE, Reason.SUPERSEDED} and Reason.SENSITIVE in own


@pytest.mark.parametrize("unit, marked", [("Unit2", True), ("UNIT2", True), ("unit2", True), ("unit3", False)])
def test_the_unit_marks_a_message(policy: Policy, unit: str, marked: bool) -> None:
    part_2 = ProtectedClass(facilities=frozenset({"Unit2"}))
    sensitivity = policy.sensitivity.model_copy(update={"classes": {"substance-use": part_2}})
    known = compiled(policy.model_copy(update={"sensitivity": sensitivity}))
    reading = reader(policy)._reading._replace(sensitivity=known)
    fact, *_ = hl7_events.read(ADMISSION.format(**{"more": "", **QUIET, "unit": unit}).encode(), reading)
    assert isinstance(fact, Milestone) and bool(fact.classes) is marked


def test_nobody_reaches_out_to_the_dead(policy: Policy) -> None:
    found = answers(policy, a_milestone(), a_person(died=True))
    assert found["patient-support"] == found["hcp-notification"] == (Verdict.SUPPRESSED, Reason.DECEASED)
    assert found["operations"][0] is Verdict.RELEASED


@pytest.mark.parametrize("adult, reason", [(at(5), Reason.PERMITTED), (at(6), Reason.MINOR), (FOREVER, Reason.MINOR)])
def test_a_minor_goes_to_review(policy: Policy, adult: int, reason: Reason) -> None:
    assert answers(policy, a_milestone(at(5)), a_person(adult))["patient-support"][1] is reason


MAJORITY = [
    pytest.param({"guardian": True}, at(5), Reason.EXPIRED, id="a parent's, and the patient is of age since"),
    pytest.param({"guardian": True}, at(-1), Reason.PERMITTED, id="of one who was of age when somebody signed"),
    pytest.param({"guardian": True}, BEGINNING, Reason.PERMITTED, id="nobody knows how old the patient is"),
    pytest.param({"guardian": True}, at(7), Reason.MINOR, id="a minor's still"),
    pytest.param({}, at(5), Reason.PERMITTED, id="the patient's own"),
]


@pytest.mark.parametrize("consent, adult, reason", MAJORITY)
def test_a_parent_s_permit_ends_at_majority(
    policy: Policy, consent: dict[str, Any], adult: int, reason: Reason
) -> None:
    facts = [a_consent(**consent), a_milestone(at(6)), a_person(adult)]
    _, outcomes, _, _ = advance(Timeline(), facts, at(24), rules(policy, keeps=False))
    assert {o.route: o.reason for o in outcomes}["patient-support"] is reason


def test_with_a_ledger_majority_falls_due(policy: Policy) -> None:
    """Nothing arrives on a birthday, and what a parent permitted for the grown-up years before is taken back."""
    timeline, _, _, due = advance(
        Timeline(), [a_consent(guardian=True), a_person(at(40))], at(8), rules(policy, keeps=True)
    )
    assert (due, len(timeline.people)) == (at(40), 1)


BORN = [
    ("2008-03-01", "2026-03-01"),
    ("2008-02-29", "2026-03-01"),
    ("2008", "2026-12-31"),
    ("2008-02", "2026-02-28"),
    ("2008-13-01", "2026-12-31"),
    ("2008-00", "2026-12-31"),
    ("01/02/2008", "2026-12-31"),
    ("20081399", "2026-12-31"),
]


@pytest.mark.parametrize("born, adult", BORN)
def test_of_age(born: str, adult: str) -> None:
    found = from_fhir(adult)
    assert found is not None
    assert adult_at(born, Sensitivity(), UTC) == found.time


@pytest.mark.parametrize("born", ["", "unknown", "-1", "99999", "9999-01-01", "1"])
def test_a_birth_date_that_cannot_be_read_is_not_known(born: str) -> None:
    assert adult_at(born, Sensitivity(), UTC) == BEGINNING


def test_through_the_whole_job(tmp_path: Path) -> None:
    """A Patient resource of a feed, known by the same identifier, stops what its Encounter would have released."""

    def people(**fields: Any) -> list[dict[str, Any]]:
        known = {"identifier": {"system": "urn:id:GENERAL", "value": "M1"}}
        typed = {**known["identifier"], "type": {"coding": [{"system": "http://x/v2-0203", "code": "MR"}]}}
        return [encounter(), {"resourceType": "Patient", "id": "p", "identifier": [typed], **fields}, permit(known)]

    for name, fields, released in [
        ("adult", {"birthDate": "1970-01-01", "deceasedBoolean": False}, 1),
        ("dead", {"deceasedDateTime": "2026-01-02"}, 0),
        ("child", {"birthDate": "2015-01-01"}, 0),
    ]:
        (tmp_path / name).mkdir()
        decide([ndjson(tmp_path / name / "in.ndjson", people(**fields))], tmp_path / name / "out", tmp_path / "state")
        assert len(lines(tmp_path / name / "out")) == 2 * released, name


ADMISSION = (
    "MSH|^~\\&|EPIC|{unit}|||202601010800||ADT^A01|1|P|2.5\rEVN|A01|202601010800\r"
    "PID|1||M1^^^GENERAL^MR||DOE||{born}||||||||||||||||||||||{died}|{dead}\r"
    "PV1|1|I|{place}|||||||{service}|||||||||V1|||||||||||||||||{disposition}\rPV2|||{reason}|||||||||||||||||||{protected}\r{more}"
)
QUIET = {
    "unit": "SITE",
    "born": "",
    "died": "",
    "dead": "",
    "place": "W1^2",
    "service": "MED",
    "disposition": "",
    "protected": "",
    "reason": "",
}
HL7 = [
    ("nothing", {}, False, None),
    ("the service", {"service": "PSY"}, True, None),
    ("the service in small letters", {"service": "psy"}, True, None),
    ("the service with a blank", {"service": " PSY"}, True, None),
    ("the second service", {"service": "MED~PSY"}, True, None),
    ("the place", {"place": "DETOX^1"}, True, None),
    ("the place between blanks", {"place": " psych ^1"}, True, None),
    ("the place in mixed letters", {"place": "Detox^1"}, True, None),
    ("the facility in small letters", {"place": "W1^2^3^psych"}, True, None),
    ("the building", {"place": "W1^2^3^^^^PSYCH"}, True, None),
    ("visit protection", {"protected": "Y"}, True, None),
    ("an access restriction", {"more": "ARV||A|DEM\r"}, True, None),
    ("a diagnosis", {"more": "DG1|1||F10.20^Alcohol^I10\r"}, True, None),
    ("a diagnosis without its dot", {"more": "DG1|1||f1020\r"}, True, None),
    ("the other code of a diagnosis", {"more": "DG1|1||7^^L^B20^^I10\r"}, True, None),
    ("a diagnosis after a blank", {"more": "DG1|1|| F10.20^^I10\r"}, True, None),
    ("a diagnosis after a blank that does not break", {"more": "DG1|1||\u00a0F10.20^^I10\r"}, True, None),
    ("the second diagnosis of one segment", {"more": "DG1|1||I10~F10.20\r"}, True, None),
    ("the second diagnosis", {"more": "DG1|1||I10^^I10\rDG1|2||Z21^^I10\r"}, True, None),
    ("another diagnosis", {"more": "DG1|1||I10^^I10\rDG1|2||B2^^I10\r"}, False, None),
    ("a text is no code", {"more": "DG1|1|||F10.20\r"}, False, None),
    ("the reason of an admission", {"reason": "F32.1^^I10"}, True, None),
    ("visit protection with a blank", {"protected": "Y "}, True, None),
    ("another reason", {"reason": "I10^^I10"}, False, None),
    ("a reason in words", {"reason": "FALL^Fall from a ladder"}, False, None),
    ("a reason of several words", {"reason": "Follow up visit"}, False, None),
    ("a local code", {"more": "DG1|1||FX12^Fracture^L\r"}, False, None),
    ("a date of death", {"died": "20260102"}, False, (BEGINNING, True)),
    ("the indicator", {"dead": "Y"}, False, (BEGINNING, True)),
    ("the indicator in small letters", {"dead": "y"}, False, (BEGINNING, True)),
    ("expired, as the discharge disposition", {"more": "", "disposition": "20"}, False, (BEGINNING, True)),
    ("a date of death after a blank", {"died": " 20260102"}, False, (BEGINNING, True)),
    ("the indicator with a blank", {"dead": "Y "}, False, (BEGINNING, True)),
    ("the discharge disposition with a blank", {"disposition": "20 "}, False, (BEGINNING, True)),
    ("gone home", {"disposition": "01"}, False, None),
    ("no death", {"dead": "N"}, False, None),
    ("a text is no date of death", {"died": "unknown"}, False, None),
    ("zeros are no date of death", {"died": "00000000"}, False, None),
    ("a year of death", {"died": "2026"}, False, (BEGINNING, True)),
    ("a child", {"born": "20150101"}, False, ("2033-01-01", False)),
    ("a child, after a blank", {"born": " 20150101"}, False, ("2033-01-01", False)),
    ("a year of birth", {"born": "2010"}, False, ("2028-12-31", False)),
    ("a grown-up", {"born": "19700101"}, False, ("1988-01-01", False)),
    ("no date of birth", {"born": ""}, False, None),
]


@pytest.mark.parametrize(
    "trigger, fields, told",
    [
        ("A02", {}, False),
        ("A02", {"dead": "Y"}, True),
        ("A60", {"disposition": "41"}, True),
        ("Z99", {"dead": "Y"}, False),
    ],
)
def test_a_message_of_no_milestone_may_tell_of_a_death(
    policy: Policy, trigger: str, fields: dict[str, str], told: bool
) -> None:
    body = ADMISSION.format(**{"more": "", **QUIET, **fields}).replace("ADT^A01", f"ADT^{trigger}").encode()
    (fact,) = hl7_events.read(body, reader(policy)._reading)
    assert isinstance(fact, Person) is told
    assert not told or (isinstance(fact, Person) and fact.died and fact.counted)


@pytest.mark.parametrize(
    "trigger, fields, adult",
    [
        ("A02", {"born": "20150101"}, "2033-01-01"),
        ("A05", {"born": "2015"}, "2033-12-31"),
        ("A60", {"born": " 20150101"}, "2033-01-01"),
        ("A40", {"born": "20150101"}, "2033-01-01"),
        ("A02", {"born": "3 May 2015"}, "2033-12-31"),
        ("A02", {"born": "20080201"}, "2026-02-01"),
        ("A02", {"born": "19700101"}, None),
        ("A40", {"born": "19700101"}, None),
        ("A02", {}, None),
        ("Z99", {"born": "20150101"}, None),
    ],
)
def test_a_message_of_no_milestone_may_tell_of_a_child(
    policy: Policy, trigger: str, fields: dict[str, str], adult: str | None
) -> None:
    """A later admission need not say again when the patient was born."""
    body = ADMISSION.format(**{"more": "", **QUIET, **fields}).replace("ADT^A01", f"ADT^{trigger}").encode()
    reading = reader(policy)._reading
    counted, *told = hl7_events.read(body, reading)
    assert isinstance(counted, Identity if trigger == "A40" else Made)
    found = from_fhir(adult)
    expected = [] if found is None else [beside("urn:id:GENERAL\x1fM1", f"ADT^{trigger}", found.time, died=False)]
    assert told == expected
    if isinstance(counted, Made):
        test = body.replace(b"|1|P|", b"|1|T|")
        assert hl7_events.read(test, reading._replace(production=True)) == [counted], "production takes no test"


def test_of_two_patients_who_are_linked_each_has_an_age_of_their_own(policy: Policy) -> None:
    child = "PID|2||C1^^^GENERAL^MR||||20250101\r"
    body = ADMISSION.format(**{**QUIET, "born": "19900101", "more": child}).replace("ADT^A01", "ADT^A24").encode()
    told = [fact for fact in hl7_events.read(body, reader(policy)._reading) if isinstance(fact, Person)]
    assert [fact.patient for fact in told] == ["urn:id:GENERAL\x1fC1"]


def test_and_what_is_merged_is_of_one_patient(policy: Policy) -> None:
    merged = {"born": "20150101", "more": "MRG|M2^^^GENERAL^MR\r"}
    body = ADMISSION.format(**{**QUIET, **merged}).replace("ADT^A01", "ADT^A40").encode()
    told = [fact for fact in hl7_events.read(body, reader(policy)._reading) if isinstance(fact, Person)]
    assert [fact.patient for fact in told] == [f"urn:id:GENERAL\x1fM{number}" for number in "12"]


BOOKING = (
    "MSH|^~\\&|EPIC|SITE|||202601010800||SIU^S12|1|P|2.5\rSCH|A1||||||{reason}|{type}\rPID|1||M1^^^GENERAL^MR\r{more}"
)
BOOKED = [
    ("nothing", {}, ()),
    ("the place", {"more": "AIL|1|A|PSYCH^1\r"}, ("mental-health",)),
    ("the second place", {"more": "AIL|1|A|W1\rAIL|2|A|W2^^^DETOX\r"}, ("substance-use",)),
    ("the service", {"more": "AIS|1|A|HIV^Clinic\r"}, ("hiv",)),
    ("the reason", {"reason": "STD^x"}, ("sexually-transmitted",)),
    ("the type", {"type": "PSYCH^x"}, ("mental-health",)),
]


@pytest.mark.parametrize("fields, classes", [case[1:] for case in BOOKED], ids=[case[0] for case in BOOKED])
def test_what_marks_a_booking(policy: Policy, fields: dict[str, str], classes: tuple[str, ...]) -> None:
    body = BOOKING.format(**{"reason": "", "type": "", "more": "", **fields}).encode()
    (fact,) = hl7_events.read(body, reader(policy)._reading)
    assert isinstance(fact, Milestone) and fact.classes == classes


@pytest.mark.parametrize("fields, marked, person", [case[1:] for case in HL7], ids=[case[0] for case in HL7])
def test_what_marks_a_message(
    policy: Policy, fields: dict[str, str], marked: bool, person: tuple[str | int, bool] | None
) -> None:
    body = ADMISSION.format(**{"more": "", **QUIET, **fields}).encode()
    fact, *beside = hl7_events.read(body, reader(policy)._reading)
    assert isinstance(fact, Milestone)
    assert bool(fact.classes) is marked
    assert [type(one).__name__ for one in beside] == ["Person"] * (person is not None)
    for one in beside:
        assert isinstance(one, Person) and person is not None
        adult = from_fhir(person[0]) if isinstance(person[0], str) else None
        assert (one.died, one.counted) == (person[1], False)
        assert adult is None or one.adult_at == adult.time
