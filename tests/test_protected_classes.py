"""Of what specially protected information an event is, and that only a permit which names all of it lets it out."""

from pathlib import Path
from typing import Any

import pytest
from builders import CRM, WAIT, a_consent, a_judgement, a_milestone, a_person, a_route, a_scope, at, the_rules
from hospital_files import admission, by_identifier, decide, ndjson, payloads, permit
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from msgspec.structs import replace
from pydantic import ValidationError

from schemas.event import AnyFact, Kind, Milestone, Says
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy, Sensitivity
from schemas.timeline import Outcome, Timeline, pack, unpack
from transforms.decode import reader
from transforms.rules import hl7_events
from transforms.rules.fhir import Around
from transforms.rules.fhir_events import read
from transforms.rules.sensitivity import compiled, diagnosed, labelled, served
from transforms.rules.timeline import advance

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


# --- nothing is unmarked ------------------------------------------------------------------------------------------

# What the default policy marked before it knew classes.
LABELS = (
    "ETH ETHUD OPIOIDUD SUD PSY PSYTHPN BH MH COGN DVD EMOTDIS HIV SCA SDV SEX SICKLE SPI STD GDIS TABOO VIO IDS LGBTQ"
    " GENDER ABORTION REPRO"
).split()
SERVICES = "PSY PSYCH SUD SUBSTANCE DETOX BH MH HIV OBGYN-TERM STD".split()
LOCATIONS = "PSYCH DETOX BEHAVIORAL SUD".split()
DIAGNOSES = "F O993 T40 Z714 Z715 B20 B9735 O987 R75 Z206 Z21 Z717 A5 A60 A63 A64 O0 Z332 D57 T74 T76".split()


def test_every_label_service_and_location_still_marks(policy: Policy) -> None:
    known = compiled(policy.sensitivity)
    for system, codes in ((ACT_CODE, LABELS), (CONFIDENTIALITY, ["R", "V"])):
        for code in codes:
            assert labelled([(system, code)], known) and labelled([(None, code)], known), code
    assert [code for code in SERVICES if not served([code], known) or not served([code.lower()], known)] == []
    assert [place for place in LOCATIONS if not known.locations.get(place)] == []


@given(st.sampled_from(DIAGNOSES), st.text("0123456789ABCFXZ.", max_size=4))
def test_every_diagnosis_still_marks(policy: Policy, begin: str, rest: str) -> None:
    assert diagnosed([begin + rest], compiled(policy.sensitivity))


# --- of which classes it is ---------------------------------------------------------------------------------------


def encounter(**fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "Encounter", "id": "e", "status": "finished", "period": {"end": "2026-01-01T08:00:00Z"},
        "subject": {"identifier": {"system": "urn:id:GENERAL", "value": "M1"}}, **fields,
    }  # fmt: skip


def labels(*codes: str) -> dict[str, Any]:
    """R and V are of confidentiality, the others of v3-ActCode."""
    return {"meta": {"security": [{"system": CONFIDENTIALITY if c in "RVN" else ACT_CODE, "code": c} for c in codes]}}


def reason(code: str) -> dict[str, Any]:
    return {"reasonCode": [{"coding": [{"code": code}]}]}


CONDITION = {"resourceType": "Condition", "id": "c", "code": {"coding": [{"code": "B20"}]}, **labels("GDIS")}
SUBSTANCE, MENTAL, NOTES = "substance-use", "mental-health", "psychotherapy-notes"
RESOURCES: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("one label", labels("ETH"), (SUBSTANCE,)),
    ("two labels", labels("SUD", "HIV"), ("hiv", SUBSTANCE)),
    ("two labels of one class", labels("SUD", "ETH"), (SUBSTANCE,)),
    ("a label of several classes", labels("BH"), (MENTAL, NOTES, SUBSTANCE)),
    ("psychotherapy notes", labels("PSYTHPN"), (NOTES,)),
    ("restricted", labels("R"), ("restricted",)),
    ("restricted, and why", labels("R", "ETH"), (SUBSTANCE,)),
    ("restricted, and a label that means nothing", labels("R", "XYZ"), ("restricted",)),
    ("very restricted, and why", labels("V", "ETH"), ("restricted", SUBSTANCE)),
    ("taboo, and a class", labels("TABOO", "ETH"), ("restricted", SUBSTANCE)),
    ("F10-F19", reason("F10.20"), (SUBSTANCE,)),
    ("any other F", reason("F32.1"), (MENTAL,)),
    ("in two classes", reason("O99.3"), (MENTAL, SUBSTANCE)),
    ("a service", {"serviceType": {"coding": [{"code": "detox"}]}}, (SUBSTANCE,)),
    ("restricted, and a service", {**labels("R"), "serviceType": {"coding": [{"code": "HIV"}]}}, ("hiv", "restricted")),
    ("a label, a service, a reason", {**labels("HIV"), **reason("Z21"), "serviceType": {"coding": [{"code": "STD"}]}},
     ("hiv", "sexually-transmitted")),
    ("a Condition that it names", {"contained": [CONDITION], "reasonReference": [{"reference": "#c"}]},
     ("genetic", "hiv")),
]  # fmt: skip


@pytest.mark.parametrize("fields, classes", [case[1:] for case in RESOURCES], ids=[case[0] for case in RESOURCES])
def test_the_classes_of_a_resource(policy: Policy, fields: dict[str, Any], classes: tuple[str, ...]) -> None:
    (fact,) = read(encounter(**fields), Around(reader(policy)._reading))
    assert isinstance(fact, Milestone) and fact.classes == classes


def test_a_gap_is_of_the_classes_of_what_it_falls_due_after(policy: Policy) -> None:
    dispensed = {
        "resourceType": "MedicationDispense", "id": "d", "status": "completed",
        "whenHandedOver": "2026-01-01T08:00:00Z", "daysSupply": {"value": 30, "code": "d"},
        "subject": encounter()["subject"], "medicationCodeableConcept": {"coding": [{"code": "1"}]},
    }  # fmt: skip
    facts = read({**dispensed, **labels("HIV")}, Around(reader(policy)._reading))
    found = [(fact.kind, fact.classes) for fact in facts if isinstance(fact, Milestone)]
    assert found == [(Kind.DISPENSED, ("hiv",)), (Kind.REFILL_GAP, ("hiv",))]


def test_conditions_beside_an_encounter_add_up(policy: Policy) -> None:
    about = {"encounter": {"reference": "Encounter/e"}}
    other = {"resourceType": "Condition", "id": "d", "code": {"coding": [{"code": "A51"}]}}
    entries = [{"resource": one} for one in ({**CONDITION, **about}, encounter(**labels("ETH")), {**other, **about})]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    found = [fact for one in reader(policy)._envelopes.line(json.encode(bundle)) for fact in one.facts]
    [fact] = [one for one in found if isinstance(one, Milestone)]
    assert fact.classes == ("genetic", "hiv", "sexually-transmitted", SUBSTANCE)


MESSAGES: list[tuple[str, dict[str, str], tuple[str, ...]]] = [
    ("nothing", {}, ()),
    ("the place", {"place": "DETOX^1"}, (SUBSTANCE,)),
    ("a place of two classes", {"place": "W1^1^1^^^^Behavioral"}, (MENTAL, SUBSTANCE)),
    ("the service", {"service": "HIV"}, ("hiv",)),
    ("two places and a service", {"place": "PSYCH^1^1^DETOX", "service": "STD"},
     (MENTAL, "sexually-transmitted", SUBSTANCE)),
    ("a diagnosis", {"more": "DG1|1||F10.20^Alcohol^I10\r"}, (SUBSTANCE,)),
    ("two diagnoses", {"more": "DG1|1||F10.20\rDG1|2||D57.1\r"}, ("genetic", SUBSTANCE)),
    ("an access restriction", {"more": "ARV||A|DEM\r"}, ("restricted",)),
    ("visit protection", {"protection": "Y"}, ("restricted",)),
    ("visit protection at a unit", {"protection": "Y", "place": "DETOX"}, ("restricted", SUBSTANCE)),
]  # fmt: skip
ADMISSION = (
    "MSH|^~\\&|EPIC|GENERAL|||202601010800||ADT^A01|1|P|2.5\rEVN|A01|202601010800\rPID|1||M1^^^GENERAL^MR||DOE\r"
    "PV1|1|I|{place}|||||||{service}|||||||||V1\rPV2||||||||||||||||||||||{protection}\r{more}"
)


@pytest.mark.parametrize("fields, classes", [case[1:] for case in MESSAGES], ids=[case[0] for case in MESSAGES])
def test_the_classes_of_a_message(policy: Policy, fields: dict[str, str], classes: tuple[str, ...]) -> None:
    blank = {"place": "", "service": "", "protection": "", "more": ""}
    fact, *_ = hl7_events.read(ADMISSION.format(**{**blank, **fields}), reader(policy)._reading)
    assert isinstance(fact, Milestone) and fact.classes == classes


@pytest.mark.parametrize(
    "changed",
    [{"labels": {}}, {"classes": {"HIV": {}}}, {"classes": {"hiv": {"codes": []}}}, {"classes": {"hiv": {"x": 1}}}],
)
def test_a_policy_of_another_form_does_not_load(changed: dict[str, Any]) -> None:
    sound = {"majority_age": 18, "classes": {"hiv": {"services": ["HIV"]}}}
    assert Sensitivity.model_validate(sound).classes["hiv"].diagnoses == ()
    with pytest.raises(ValidationError):
        Sensitivity.model_validate({**sound, **changed})


# --- from call to call --------------------------------------------------------------------------------------------

FREE = a_scope("HMARKT", recipients=(), needs_permit=False)
RULES = the_rules(a_route("event", by_patient=False), a_route("free", scope=FREE, by_patient=False), keeps=True)
EVENT = a_milestone(at(5), key="e")
MARKED = replace(EVENT, classes=("hiv",))
GENERAL = a_consent()
NAMED = a_consent(of="hiv", classes=("hiv",))
HELD, RELEASED, SUPPRESSED = Verdict.HELD, Verdict.RELEASED, Verdict.SUPPRESSED
SENSITIVE = Reason.SENSITIVE


def calls(*steps: tuple[list[AnyFact], float]) -> list[dict[str, tuple[Verdict, Reason]]]:
    """Route → what became of its pairs, call by call. Between calls a timeline is bytes."""
    timeline, found = Timeline(), []
    for arrivals, hour in steps:
        timeline, outcomes, _, _ = advance(unpack(pack(timeline)), arrivals, at(hour), RULES)
        found.append({o.route: (o.verdict, o.reason) for o in outcomes if o.route})
    return found


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(MARKED, id="the same message"),
        pytest.param(replace(MARKED, key=b"another"), id="another message that says the same"),
        pytest.param(a_milestone(at(4), kind=Kind.DISCHARGED, classes=("hiv",)), id="of the same visit"),
        pytest.param(replace(MARKED, published=at(16)), id="one that came too late"),
        pytest.param(a_milestone(at(4), kind=Kind.DISCHARGED, classes=("hiv",), published=at(16)),
                     id="of the same visit, too late"),
    ],
)  # fmt: skip
def test_a_mark_that_comes_later_takes_back_and_is_never_forgotten(again: Milestone) -> None:
    plain, marked, *later = calls(
        ([GENERAL, EVENT], 6),
        ([again], 6.5),
        ([], 7),
        ([a_milestone(at(6), kind=Kind.REGISTERED)], 30),
        ([a_milestone(at(31), kind=Kind.BOOKED)], 60),
    )
    assert plain["event"] == (RELEASED, Reason.PERMITTED)
    assert marked["event"] == (Verdict.RETRACTED, SENSITIVE) if again.kind is EVENT.kind else True
    assert not any(verdict in (RELEASED, Verdict.RESTORED) for one in later for verdict, _ in one.values())
    assert later[1]["event"] == later[2]["event"] == later[2]["free"] == (SUPPRESSED, SENSITIVE)


def test_a_mark_on_a_second_copy_that_came_too_late_is_never_forgotten() -> None:
    late, other = replace(EVENT, published=at(16)), a_milestone(at(30), kind=Kind.REGISTERED)
    asked, _, then = calls(
        ([GENERAL, late], 16), ([replace(late, key=b"another", classes=("hiv",))], 17), ([other], 40)
    )
    assert asked["event"] == (Verdict.REVIEW, Reason.TOO_LATE)
    assert then["event"] == then["free"] == (SUPPRESSED, SENSITIVE)


def test_a_second_copy_that_adds_a_class_takes_back() -> None:
    both = replace(EVENT, key=b"another", classes=(SUBSTANCE,))
    first, second, third = calls(([NAMED, MARKED], 6), ([both], 7), ([], 20))
    assert first == {"event": (RELEASED, Reason.PERMITTED), "free": (SUPPRESSED, SENSITIVE)}
    assert second == {"event": (Verdict.RETRACTED, SENSITIVE)} and third == {}
    wide = a_consent(of="both", classes=("hiv", SUBSTANCE))
    assert calls(([wide, MARKED], 6), ([both], 7))[1] == {}


def test_a_mark_under_a_permit_that_names_it_changes_nothing_there() -> None:
    later = calls(([GENERAL, NAMED, EVENT], 6), ([replace(MARKED, key=b"another")], 7))[1]
    assert later == {"free": (Verdict.RETRACTED, SENSITIVE)}


def test_what_is_marked_waits_for_its_permit() -> None:
    held = {"event": (HELD, SENSITIVE), "free": (SUPPRESSED, SENSITIVE)}
    late = replace(NAMED, given=at(8))
    assert calls(([GENERAL, MARKED], 6), ([late], 8)) == [held, {"event": (RELEASED, Reason.PERMITTED)}]
    assert calls(([GENERAL, MARKED], 6), ([], 5 + WAIT)) == [held, {"event": (SUPPRESSED, SENSITIVE)}]
    assert calls(([GENERAL, MARKED], 5 + WAIT))[0]["event"] == (SUPPRESSED, SENSITIVE)


def test_what_ends_the_permit_takes_back() -> None:
    ended = a_consent(Says.ENDS, of="hiv", version=2, given=at(7))
    assert calls(([GENERAL, NAMED, MARKED], 6), ([ended], 7))[1] == {"event": (Verdict.RETRACTED, SENSITIVE)}
    denied = a_consent(Says.DENY, of="no", given=at(7), classes=(SUBSTANCE,))
    assert calls(([GENERAL, NAMED, MARKED], 6), ([denied], 7))[1] == {}
    denied = a_consent(Says.DENY, of="no", given=at(7), classes=("hiv", SUBSTANCE))
    assert calls(([GENERAL, NAMED, MARKED], 6), ([denied], 7))[1] == {"event": (Verdict.RETRACTED, SENSITIVE)}
    assert calls(([GENERAL, EVENT], 6), ([denied], 7))[1] == {}


@pytest.mark.parametrize("keys", [(b"1", b"2", b"3"), (b"2", b"3", b"1"), (b"3", b"1", b"2")])
def test_each_visit_of_a_patient_is_of_its_own_classes(keys: tuple[bytes, bytes, bytes]) -> None:
    visits = [
        a_milestone(at(5), visit=name, classes=of) for name, of in (("a", ()), ("b", ("hiv",)), ("c", ("violence",)))
    ]
    events = [replace(one, key=key) for one, key in zip(visits, keys, strict=True)]
    _, outcomes, _, _ = advance(Timeline(), [GENERAL, NAMED, *events], at(12), RULES)
    found = {o.event.visit: o.reason for o in outcomes if o.route == "event" and isinstance(o.event, Milestone)}
    assert found == {"a": Reason.PERMITTED, "b": Reason.PERMITTED, "c": SENSITIVE}
    _, outcomes, _, _ = advance(Timeline(), [GENERAL, *events], at(12), RULES)
    found = {o.event.visit: o.reason for o in outcomes if o.route == "event" and isinstance(o.event, Milestone)}
    assert found == {"a": Reason.PERMITTED, "b": SENSITIVE, "c": SENSITIVE}


PERSONS = [
    pytest.param([NAMED, a_person(died=True)], (SUPPRESSED, Reason.DECEASED), id="permitted, dead"),
    pytest.param([NAMED, a_person(at(6))], (Verdict.REVIEW, Reason.MINOR), id="permitted, a minor"),
    pytest.param([GENERAL, a_person(died=True)], (SUPPRESSED, SENSITIVE), id="not permitted, dead"),
    pytest.param([GENERAL, a_person(at(6))], (SUPPRESSED, SENSITIVE), id="not permitted, a minor: nobody is asked"),
]


@pytest.mark.parametrize("facts, expected", PERSONS)
def test_the_dead_and_minors(facts: list[AnyFact], expected: tuple[Verdict, Reason]) -> None:
    assert calls(([*facts, MARKED], 12))[0]["event"] == expected


def outcome(*facts: AnyFact) -> Outcome:
    _, outcomes, _, _ = advance(Timeline(), facts, at(12), RULES)
    [found] = [one for one in outcomes if one.route == "event"]
    return found


def test_no_reviewer_is_asked_and_none_can_overrule() -> None:
    vague = a_consent(Says.UNCLEAR, of="vague", given=at(1))
    asked = outcome(GENERAL, vague, EVENT)
    assert (asked.reason, asked.verdict) == (Reason.CONSENT_UNCLEAR, Verdict.REVIEW)
    yes = a_judgement(EVENT.what, "event", asked.question, said=at(11))
    assert outcome(GENERAL, vague, EVENT, yes).verdict is RELEASED
    for permits in ([GENERAL], [NAMED], [GENERAL, NAMED]):
        marked = outcome(*permits, vague, MARKED, yes)
        assert (marked.verdict, marked.reason, marked.question) == (SUPPRESSED, SENSITIVE, "")


def test_a_study_that_is_not_approved_comes_first() -> None:
    candidate = replace(a_milestone(at(5), kind=Kind.TRIAL_ELIGIBLE, values={"protocol": "NONE"}), classes=("hiv",))
    assert outcome(NAMED, candidate).reason is Reason.STUDY_NOT_APPROVED


# --- through the whole job ----------------------------------------------------------------------------------------


def named(patient: dict[str, Any], *codes: str) -> dict[str, Any]:
    """A permit for all that carries one of these labels, as a document of its own."""
    provision = permit(patient)["provision"] | {"securityLabel": labels(*codes)["meta"]["security"]}
    return permit(patient, "c2", provision=provision)


@pytest.mark.parametrize("form", ["fhir", "hl7"])
def test_through_the_whole_job(tmp_path: Path, form: str) -> None:
    """Five patients in detoxification; the two whose consent names substance use reach the CRM, on both its routes."""
    documents: list[dict[str, Any]] = []
    messages = []
    for mrn, codes in (("M1", ()), ("M2", ("ETH",)), ("M3", ("HIV",)), ("M4", ("HIV", "SUD")), ("M5", ("R",))):
        who = by_identifier("urn:id:GENERAL", mrn)
        documents += [permit(who), *([named(who, *codes)] if codes else [])]
        if form == "fhir":
            documents.append(encounter(id=mrn, subject=who, **labels("R", "ETH")))
        else:
            messages.append(admission(mrn, f"V{mrn}", "20260101080000").replace(b"PV1|1|I|", b"PV1|1|I|DETOX^1"))
    feed = ndjson(tmp_path / "feed/in.ndjson", documents).parent
    if messages:
        (feed / "in.hl7").write_bytes(b"".join(messages))
    done = decide([feed], tmp_path / "out", tmp_path / "state")
    assert (done.summary["released"], done.summary["reasons"]["sensitive"]) == (4, 16)
    assert done.summary["routes"]["operations"]["released"] == 0
    assert len(payloads(tmp_path / "out")) == 4 and len({one["subject"] for one in payloads(tmp_path / "out")}) == 4


def test_the_recipient_of_a_named_permit_counts_as_of_any() -> None:
    other = a_consent(of="hiv", classes=("hiv",), recipients=("Organization/other",))
    assert outcome(other, MARKED).reason is SENSITIVE
    assert outcome(replace(other, recipients=(CRM,)), MARKED).verdict is RELEASED
