"""Of what specially protected information an event is, and that only a permit which names all of it lets it out."""

from pathlib import Path
from typing import Any

import pytest
from hospital_files import admission, by_identifier, decide, ndjson, payloads, permit
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json
from pydantic import ValidationError

from schemas.event import Kind, Milestone
from schemas.policy import Policy, Sensitivity
from transforms.decode import reader
from transforms.rules import hl7_events
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.sensitivity import compiled, diagnosed, labelled, served

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
