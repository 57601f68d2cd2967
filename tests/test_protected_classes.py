"""Of what specially protected information an event is, and that only a permit which names all of it lets it out."""

from pathlib import Path
from typing import Any

import pytest
from hospital_files import AS_OF, TERMINOLOGY, admission, by_identifier, decide, ndjson, payloads, permit
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from pydantic import ValidationError

from pipelines import options
from pipelines.run import run as do
from schemas.event import AnyFact, Kind, Made, Mark, Milestone
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy, Sensitivity
from transforms.decode import reader
from transforms.rules import hl7_events
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.sensitivity import compiled, diagnosed, labelled, served

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


# --- nothing is unmarked ------------------------------------------------------------------------------------------

# What the default policy marked before it knew classes, and what v3-ActCode of FHIR R4 has besides.
LABELS = (
    "ETH ETHUD OPIOIDUD SUD PSY PSYTHPN BH MH COGN DVD EMOTDIS HIV SCA SDV SEX SICKLE SPI STD GDIS TABOO VIO IDS LGBTQ"
    " GENDER ABORTION REPRO TBOO MST PRS CEL VIP 42CFRPart2 HIPAAPsyNotes Title38Section7332"
).split()
SERVICES = "PSY PSYCH SUD SUBSTANCE DETOX BH MH HIV OBGYN-TERM STD".split()
LOCATIONS = "PSYCH DETOX BEHAVIORAL SUD".split()
DIAGNOSES = (
    "F O993 T40 Z714 Z715 B20 B21 B22 B23 B24 B9735 O987 R75 Z206 Z21 Z717 A5 A60 A63 A64 O0 Z332 D57 T74 T76".split()
)


def test_every_label_service_and_location_still_marks(policy: Policy) -> None:
    known = compiled(policy)
    for system, codes in ((ACT_CODE, LABELS), (CONFIDENTIALITY, ["R", "V"])):
        for code in codes:
            assert labelled([(system, code)], known) and labelled([(None, code)], known), code
    assert [code for code in SERVICES if not served([code], known) or not served([code.lower()], known)] == []
    assert [place for place in LOCATIONS if not known.locations.get(place)] == []


@given(
    st.sampled_from(DIAGNOSES), st.text("0123456789ABCFXZ", max_size=4), st.sampled_from(["", ".-", "+", " alcohol"])
)
def test_every_diagnosis_still_marks(policy: Policy, begin: str, rest: str, behind: str) -> None:
    """As a category or as a code below it, with its dot or without, and whatever is written behind it."""
    code = (begin + "10"[len(begin) - 1 :] + rest)[:7]
    for written in (code, f"{code[:3]}.{code[3:]}"):
        for text in (written, written.lower(), f" {written} ", written + behind):
            assert diagnosed([text], compiled(policy)), text


@pytest.mark.parametrize("word", "F FALL FEVER FLU FX12 FD F-10 FOLLOWUP F1 ABUSE T40123456 F10201234 O0".split())
def test_a_word_is_no_diagnosis(policy: Policy, word: str) -> None:
    assert not diagnosed([word, word.lower(), f"{word} 10", f"{word.capitalize()} up visit"], compiled(policy))


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
    ("taboo, as FHIR R4 writes it", labels("TBOO"), ("restricted",)),
    ("the words of a law", labels("42CFRPart2", "HIPAAPsyNotes"), (NOTES, SUBSTANCE)),
    ("one of four, nobody knows which", labels("Title38Section7332"), ("genetic", "hiv", SUBSTANCE)),
    ("military sexual trauma", labels("MST"), ("violence",)),
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


# --- what is marked though it states no milestone ------------------------------------------------------------------


def marks(facts: list[AnyFact]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(patient, visits, classes) of the marks; none is what its message is counted as."""
    assert not isinstance(facts[0], Mark)
    return [(f.patient, f.visits, f.classes) for f in facts if isinstance(f, Mark)]


M1, M2, V1 = "urn:id:GENERAL\x1fM1", "urn:id:GENERAL\x1fM2", ("V1",)
F10, ARV = "DG1|1||F10.20\r", "ARV||A|DEM\r"
NO_PATIENT = ("PID|1||M1^^^GENERAL^MR", "PID|1||1^^^GENERAL^SS")
UPDATES: list[tuple[str, str, dict[str, str], tuple[str, str], list[tuple[str, tuple[str, ...], tuple[str, ...]]]]] = [
    ("an update", "ADT^A08", {"more": F10}, ("", ""), [(M1, V1, (SUBSTANCE,))]),
    ("an update, protected", "ADT^A08", {"service": "PSY", "protection": "Y"}, ("", ""),
     [(M1, V1, (MENTAL, "restricted"))]),
    ("an update of nobody known", "ADT^A08", {"more": F10}, NO_PATIENT, []),
    ("an update that nothing marks", "ADT^A08", {}, ("", ""), []),
    ("an update without a visit", "ADT^A08", {"more": F10}, ("|V1\r", "|\r"), [(M1, (), (SUBSTANCE,))]),
    ("another number of the visit", "ADT^A08", {"more": F10}, ("|V1\r", "|V1" + "|" * 31 + "ALT\r"),
     [(M1, ("ALT", "V1"), (SUBSTANCE,))]),
    ("the person, whatever PV1 says", "ADT^A31", {"more": ARV}, ("", ""), [(M1, (), ("restricted",))]),
    ("a new person", "ADT^A28", {"more": ARV}, ("", ""), [(M1, (), ("restricted",))]),
    ("a transfer", "ADT^A02", {"place": "PSYCH^1"}, ("", ""), [(M1, V1, (MENTAL,))]),
    ("a transfer of nobody known", "ADT^A02", {"place": "PSYCH^1"}, NO_PATIENT, []),
    ("a trigger that nobody knows", "ADT^A99", {"more": F10}, ("", ""), [(M1, V1, (SUBSTANCE,))]),
    ("an order", "ORM^O01", {"more": F10}, ("", ""), [(M1, V1, (SUBSTANCE,))]),
    ("a death", "ADT^A02", {"more": F10}, ("||DOE", "||DOE" + "|" * 25 + "Y"), [(M1, V1, (SUBSTANCE,))]),
    ("a merge", "ADT^A40", {"more": ARV + "MRG|M2^^^GENERAL^MR\r"}, ("", ""),
     [(M1, V1, ("restricted",)), (M2, V1, ("restricted",))]),
    ("beds swapped", "ADT^A17", {"more": "PID|2||M2^^^GENERAL^MR\rPV1|2|I|PSYCH^1|||||||||||||||V2\r"}, ("", ""),
     [(M1, (), (MENTAL,)), (M2, (), (MENTAL,))]),
    ("a consent", "ORU^R01", {"more": F10 + "CON|1||||||||||Y|20260101||||||\r"}, ("", ""), [(M1, V1, (SUBSTANCE,))]),
    ("a booking that waits", "SIU^S12", {"more": F10 + "SCH|S1|S2" + "|" * 23 + "Pending\r"}, ("|V1\r", "|\r"),
     [(M1, ("S1", "S2"), (SUBSTANCE,))]),
    ("a booking that waits, of a visit", "SIU^S12", {"more": F10 + "SCH|S1|S2" + "|" * 23 + "Pending\r"}, ("", ""),
     [(M1, ("S1", "S2", "V1"), (SUBSTANCE,))]),
]  # fmt: skip


def update(trigger: str, fields: dict[str, str], old: str, new: str) -> str:
    blank = {"place": "", "service": "", "protection": "", "more": ""}
    return ADMISSION.format(**{**blank, **fields}).replace("ADT^A01", trigger).replace(old, new)


@pytest.mark.parametrize(
    "trigger, fields, edit, expected", [one[1:] for one in UPDATES], ids=[one[0] for one in UPDATES]
)
def test_what_a_message_marks_that_states_no_milestone(
    policy: Policy, trigger: str, fields: dict[str, str], edit: tuple[str, str], expected: list[Any]
) -> None:
    facts = hl7_events.read(update(trigger, fields, *edit), reader(policy)._reading)
    assert marks(facts) == expected
    without = {**fields, "more": fields.get("more", "").replace(F10, "").replace(ARV, ""), "service": "", "place": ""}
    plain = hl7_events.read(update(trigger, {**without, "protection": ""}, *edit), reader(policy)._reading)
    told = [(type(f), f.key, f.patient, f.type) for f in facts if not isinstance(f, Mark)]
    assert told == [(type(f), f.key, f.patient, f.type) for f in plain if not isinstance(f, Mark)], "as without a mark"


def test_a_booking_and_the_visit_that_it_prepares_are_marked_together(policy: Policy) -> None:
    """A mark on the visit binds the booking, and one on the booking the visit; no cancellation passes between them."""
    booking = {"more": "SCH|S1|S2" + "|" * 23 + "Booked\r"}
    [plain] = hl7_events.read(update("SIU^S12", booking, "", ""), reader(policy)._reading)
    assert isinstance(plain, Milestone) and (plain.visit, plain.also, plain.related) == ("S1", ("S2",), ("V1",))
    facts = hl7_events.read(update("SIU^S12", {**booking, "place": "PSYCH^1"}, "", ""), reader(policy)._reading)
    assert marks(facts) == [(M1, V1, (MENTAL,))]


def test_one_of_several_visits_without_a_number_marks_the_patient(policy: Policy) -> None:
    facts = hl7_events.read(update("ADT^A08", {"more": "PV1|2|I|PSYCH^1\r"}, "", ""), reader(policy)._reading)
    assert marks(facts) == [(M1, (), (MENTAL,))]


def test_test_data_marks_nothing_in_production(policy: Policy) -> None:
    production = reader(policy)._reading._replace(production=True)
    message = update("ADT^A02", {"place": "PSYCH^1"}, "", "")
    assert marks(hl7_events.read(message, production))
    assert not marks(hl7_events.read(message.replace("|P|2.5", "|T|2.5"), production))


def test_triggers_that_a_source_does_not_send_mark_too(policy: Policy) -> None:
    narrow = reader(policy)._reading._replace(triggers=frozenset({"ADT^A03"}))
    for trigger in ("ADT^A01", "ADT^A08"):
        assert marks(hl7_events.read(update(trigger, {"more": F10}, "", ""), narrow)) == [(M1, V1, (SUBSTANCE,))]


def test_a_distinguished_patient(policy: Policy) -> None:
    """PV1-16, by the words that the policy lists."""
    for word, classes in (
        ("VIP", ("restricted",)),
        ("vip", ("restricted",)),
        ("Y", ("restricted",)),
        ("N", ()),
        ("", ()),
    ):
        message = update("ADT^A01", {}, "|" * 9 + "V1\r", "|" * 6 + word + "|||V1\r")
        fact, *_ = hl7_events.read(message, reader(policy)._reading)
        assert isinstance(fact, Milestone) and (fact.visit, fact.classes) == ("V1", classes)


WHO = {"subject": encounter()["subject"]}
B20 = {"code": {"coding": [{"code": "B20"}]}}
BUSY = {"status": "in-progress", "period": {"start": "2026-01-01T08:00:00Z"}}
MR = {"type": {"coding": [{"system": f"{TERMINOLOGY}/v2-0203", "code": "MR"}]}}
MARKED_RESOURCES: list[tuple[str, dict[str, Any], list[tuple[str, tuple[str, ...], tuple[str, ...]]]]] = [
    ("a stay that goes on", encounter(**BUSY, **reason("F10.20")), [(M1, ("e",), (SUBSTANCE,))]),
    ("by all of its numbers", encounter(**BUSY, **labels("R"), identifier=[{"value": "V1"}, {"value": "V2"}]),
     [(M1, ("V1", "V2", "e"), ("restricted",))]),
    ("that nothing marks", encounter(**BUSY), []),
    ("of nobody known", encounter(**BUSY, **reason("F10.20")) | {"subject": {"display": "DOE"}}, []),
    ("an order that is a plan",
     {"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "plan", **WHO, **labels("HIV")},
     [(M1, ("m",), ("hiv",))]),
    ("an answer", {"resourceType": "AppointmentResponse", "id": "r", "participantStatus": "accepted", **labels("HIV"),
                   "actor": {**WHO["subject"], "type": "Patient"}, "appointment": {"reference": "Appointment/a"}},
     [(M1, ("a",), ("hiv",))]),
    ("a patient", {"resourceType": "Patient", "identifier": [{"system": "urn:id:GENERAL", "value": "M1", **MR}],
                   **labels("R")}, [(M1, (), ("restricted",))]),
    ("a patient who is another",
     {"resourceType": "Patient", "identifier": [{"system": "urn:id:GENERAL", "value": "M1", **MR}], **labels("R"),
      "link": [{"type": "replaces", "other": by_identifier("urn:id:GENERAL", "M2")}]},
     [(M1, (), ("restricted",)), (M2, (), ("restricted",))]),
    ("a patient of no number", {"resourceType": "Patient", **labels("R")}, []),
    ("a Condition", {"resourceType": "Condition", **WHO, **B20}, [(M1, (), ("hiv",))]),
    ("a Condition of nobody known", {"resourceType": "Condition", **B20}, []),
    ("a Condition of what is no patient", {"resourceType": "Condition", "subject": "M1", **B20}, []),
    ("a Condition that nothing marks", {"resourceType": "Condition", **WHO, "code": {"coding": [{"code": "I10"}]}}, []),
    ("a Condition of a stay", {"resourceType": "Condition", "id": "c", **WHO, **B20,
                               "encounter": {"reference": "https://ehr.example/fhir/Encounter/e/_history/2"}},
     [(M1, ("Condition/c", "e"), ("hiv",))]),
    ("a Condition of a stay by its number",
     {"resourceType": "Condition", "id": "c", **WHO, **B20, "encounter": {"identifier": {"value": "2026/1"}}},
     [(M1, ("2026/1", "Condition/c"), ("hiv",))]),
    ("a Condition of a stay that is sought",
     {"resourceType": "Condition", "id": "c", **WHO, **B20, "encounter": {"reference": "Encounter?identifier=urn:v|7"}},
     [(M1, ("7", "Condition/c"), ("hiv",))]),
    ("a Condition of a stay that is not understood",
     {"resourceType": "Condition", "id": "c", **WHO, **B20, "encounter": {"reference": "Encounter?_id=7"}},
     [(M1, (), ("hiv",))]),
]  # fmt: skip


@pytest.mark.parametrize(
    "resource, expected", [one[1:] for one in MARKED_RESOURCES], ids=[one[0] for one in MARKED_RESOURCES]
)
def test_what_a_resource_marks_that_states_no_milestone(
    policy: Policy, resource: dict[str, Any], expected: list[Any]
) -> None:
    [one] = reader(policy)._envelopes.line(json.encode(resource))
    assert marks(one.facts) == expected
    if isinstance(counted := one.facts[0], Made):
        control = resource["resourceType"] == "Patient"
        assert counted.verdict is (Verdict.CONTROL if control else Verdict.UNROUTED)
        of_no_route = resource["resourceType"] == "Condition"
        assert control or counted.reason is (Reason.NO_ROUTE if of_no_route else Reason.NO_MILESTONE)


@pytest.mark.parametrize("status", ["finished", "in-progress"])
def test_what_marks_in_a_bundle_marks_by_the_absolute_name_too(policy: Policy, status: str) -> None:
    who, when = {"reference": "Patient/7"}, {"end": "2026-01-01T08:00:00Z"}
    stay = {"resourceType": "Encounter", "id": "e", "status": status, "subject": who, "period": when, **labels("HIV")}
    bundle = {
        "resourceType": "Bundle",
        "entry": [{"fullUrl": "https://ehr.example/fhir/Encounter/e", "resource": stay}],
    }
    [one] = reader(policy)._envelopes.line(json.encode(bundle))
    assert ("https://ehr.example/fhir\x1fPatient/7", ("e",), ("hiv",)) in marks(one.facts)


def test_what_names_a_condition_can_be_marked_by_it(policy: Policy) -> None:
    """Encounter.diagnosis, MedicationRequest.reasonReference; the gap that falls due after it too."""
    around, link = Around(reader(policy)._reading), {"reference": "Condition/c/_history/2"}
    (stay,) = read(encounter(diagnosis=[{"condition": link}, {"condition": {"reference": "Procedure/p"}}]), around)
    order = {"resourceType": "MedicationRequest", "id": "m", "status": "active", "intent": "order", **WHO}
    dated = {"authoredOn": "2026-01-01T08:00:00Z", "medicationCodeableConcept": {"coding": [{"code": "1"}]}}
    found = [stay, *read({**order, **dated, "reasonReference": [link]}, around)]
    assert [fact.related for fact in found if isinstance(fact, Milestone)] == [("Condition/c",)] * 3
    assert not any(isinstance(fact, Milestone) and fact.related for fact in read(encounter(), around))


@pytest.mark.parametrize(
    "changed",
    [{"labels": {}}, {"classes": {"HIV": {}}}, {"classes": {"hiv": {"codes": []}}}, {"classes": {"hiv": {"x": 1}}}],
)
def test_a_policy_of_another_form_does_not_load(changed: dict[str, Any]) -> None:
    sound = {"classes": {"hiv": {"services": ["HIV"]}}}
    assert Sensitivity.model_validate(sound).classes["hiv"].diagnoses == ()
    with pytest.raises(ValidationError):
        Sensitivity.model_validate({**sound, **changed})


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


def test_a_mark_through_the_whole_job_takes_back_what_was_released(tmp_path: Path) -> None:
    """Four stays that left; then an update, a Condition and a Patient mark one each, and nothing of these leaves."""
    who = {mrn: by_identifier("urn:id:GENERAL", mrn) for mrn in ("M1", "M2", "M3", "M4")}
    feed = ndjson(tmp_path / "1/in.ndjson", [*map(permit, who.values()), encounter(id="e2", subject=who["M2"])]).parent
    stays = [admission(mrn, f"V{mrn}", "20260101080000", kind="ADT^A03") for mrn in ("M1", "M3", "M4")]
    (feed / "in.hl7").write_bytes(b"".join(stays))
    ledger = tmp_path / "ledger"

    def run(feed: Path, as_of: str) -> dict[str, Any]:
        done = do(options.request([str(feed)], tmp_path / "out", tmp_path / "state", None, as_of, [], ledger=ledger))
        return dict(done.summary)

    assert run(feed, "2026-01-02T00:00:00Z")["released"] == 8, "four stays on two routes to the CRM"
    person = {"resourceType": "Patient", "identifier": [{"system": "urn:id:GENERAL", "value": "M3", **MR}]}
    about = {"subject": who["M2"], "encounter": {"reference": "Encounter/e2"}}
    told = ndjson(tmp_path / "2/in.ndjson", [{"resourceType": "Condition", **B20, **about}, {**person, **labels("R")}])
    changed = admission("M1", "VM1", "20260103080000", kind="ADT^A08") + b"DG1|1||F10.20^Alcohol^I10\rARV|1|A|DEM\r"
    other = admission("M4", "V9", "20260103080000", kind="ADT^A08") + b"DG1|1||F10.20\r"
    (told.parent / "in.hl7").write_bytes(changed + other)
    marked = run(told.parent, "2026-01-04T00:00:00Z")
    assert (marked["retracted"], marked["control"], marked["unrouted"], marked["received"]) == (6, 3, 1, 4)
    assert marked["reasons"]["sensitive"] >= 6
    taken = [one for one in payloads(tmp_path / "out") if "retracts" in one]
    assert len(taken) == 6
    late = admission("M1", "VM1", "20260401080000", kind="ADT^A01") + admission("M3", "V8", "20260401080000")
    (tmp_path / "3").mkdir()
    (tmp_path / "3/in.hl7").write_bytes(late)
    later = run(tmp_path / "3", AS_OF)
    assert (later["released"], later["reasons"]["sensitive"]) == (0, 8)
