"""What facts may hold: no text of a message but patient key, visit number, NPI and what a consent criterion names.

Every text of a message is a marker that says where it stands; what is left in the bytes of the facts is listed here.
"""

import re
from datetime import UTC

import pytest

from schemas.event import AnyFact, Says, encode
from schemas.policy import Policy
from transforms.rules import fhir_consent, fhir_criteria, fhir_events, hl7_events
from transforms.rules.envelope_parts import Counted
from transforms.rules.fhir import NPI_SYSTEM
from transforms.rules.fhir_parts import Around
from transforms.rules.reading import Reading

READING = Reading("ehr", "UTF-8", UTC, ("MR", "MRN", "EPI", "PI", ""))
AROUND = Around(READING)
NPI = "1234567893"
ENDED = "2024-05-01T12:00:00Z"


def marked(tree: object, keep: dict[str, str], path: str = "") -> object:
    """The tree with each text replaced by its own path, but for those that must be what they are."""
    if isinstance(tree, dict):
        return {name: marked(value, keep, f"{path}.{name}" if path else name) for name, value in tree.items()}
    if isinstance(tree, list):
        return [marked(value, keep, path) for value in tree]
    return keep.get(path, f"<{path}>") if isinstance(tree, str) else tree


def remaining(facts: list[AnyFact]) -> set[str]:
    """The paths whose text is in the bytes of the facts."""
    return set(re.findall(r"<([A-Za-z0-9.]+)>", encode(facts).decode("latin-1")))


RICH = {
    "meta": {"versionId": "", "lastUpdated": "", "source": "", "tag": [{"code": "", "display": ""}]},
    "text": {"status": "", "div": ""}, "language": "",
    "identifier": [{"use": "", "system": "", "value": "", "assigner": {"display": ""}}],
    "subject": {"reference": "", "display": "", "identifier": {"system": "", "value": "", "assigner": {"display": ""}}},
    "extension": [{"url": "", "valueString": ""}], "contained": [{"resourceType": "", "id": "", "text": {"div": ""}}],
}  # fmt: skip


def test_of_an_encounter_a_fact_holds_patient_visit_and_npi_only() -> None:
    tree = {
        **RICH, "resourceType": "", "id": "", "status": "", "class": {"system": "", "code": "", "display": ""},
        "type": [{"text": "", "coding": [{"code": "", "display": ""}]}], "reasonCode": [{"text": ""}],
        "participant": [{"individual": {"reference": "", "display": "", "identifier": {"system": "", "value": ""}}}],
        "period": {"start": "", "end": ""}, "location": [{"location": {"reference": "", "display": ""}}],
        "serviceProvider": {"reference": "", "display": ""}, "hospitalization": {"dischargeDisposition": {"text": ""}},
    }  # fmt: skip
    npi = {"participant.individual.identifier.system": NPI_SYSTEM, "participant.individual.identifier.value": NPI}
    keep = {
        "resourceType": "Encounter",
        "status": "finished",
        "period.end": ENDED,
        "subject.reference": "Patient/7",
        **npi,
    }
    facts = fhir_events.read(marked(tree, keep), AROUND)
    assert NPI.encode() in encode(facts)
    assert remaining(facts) == {"subject.identifier.system", "subject.identifier.value", "identifier.value", "id"}


def test_of_an_appointment_a_fact_holds_patient_and_visit_only() -> None:
    tree = {
        **RICH, "resourceType": "", "id": "", "status": "", "created": "", "start": "", "end": "", "comment": "",
        "description": "", "patientInstruction": "", "reasonCode": [{"text": ""}], "serviceType": [{"text": ""}],
        "participant": [{"actor": {"type": "", "display": "", "identifier": {"system": "", "value": ""}}}],
    }  # fmt: skip
    keep = {"resourceType": "Appointment", "status": "booked", "participant.actor.type": "Patient", "created": ENDED}
    facts = fhir_events.read(marked(tree, keep), AROUND)
    path = "participant.actor.identifier"
    assert remaining(facts) == {f"{path}.system", f"{path}.value", "identifier.value", "id"}


CODED = {"text": "", "coding": [{"system": "", "code": "", "display": ""}]}
NAMED = {"reference": "", "display": "", "identifier": {"system": "", "value": ""}}
OTHERS: dict[str, tuple[dict[str, object], dict[str, str], str]] = {
    "EpisodeOfCare": (
        {"patient": NAMED, "type": [CODED], "diagnosis": [{"condition": NAMED}], "careManager": NAMED, "team": [NAMED]},
        {"status": "active", "patient.reference": "Patient/7"}, "patient",
    ),
    "AppointmentResponse": (
        {"actor": NAMED, "appointment": NAMED, "participantStatus": "", "comment": ""},
        {"participantStatus": "declined", "actor.reference": "Patient/7"}, "actor",
    ),
    "MedicationRequest": (
        {"intent": "", "medicationCodeableConcept": CODED, "authoredOn": "", "requester": NAMED, "reasonCode": [CODED],
         "note": [{"text": ""}], "dosageInstruction": [{"text": "", "patientInstruction": ""}]},
        {"status": "active", "intent": "order", "authoredOn": ENDED, "subject.reference": "Patient/7"}, "subject",
    ),
    "MedicationDispense": (
        {"medicationReference": NAMED, "whenHandedOver": "", "performer": [{"actor": NAMED}], "destination": NAMED,
         "daysSupply": {"value": 30, "unit": "", "system": "", "code": ""}, "receiver": [NAMED]},
        {"status": "completed", "whenHandedOver": ENDED, "subject.reference": "Patient/7",
         "daysSupply.system": "http://unitsofmeasure.org", "daysSupply.code": "d"}, "subject",
    ),
    "ResearchSubject": (
        {"individual": NAMED, "study": NAMED, "assignedArm": "", "actualArm": "", "consent": NAMED},
        {"status": "candidate", "individual.reference": "Patient/7"}, "individual",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHERS)
def test_of_any_other_resource_a_fact_holds_patient_and_visit_only(kind: str) -> None:
    fields, keep, path = OTHERS[kind]
    tree = {**RICH, "resourceType": "", "id": "", "status": "", **fields}
    facts = fhir_events.read(marked(tree, {**keep, "resourceType": kind}), AROUND)  # type: ignore[arg-type]
    answer = kind == "AppointmentResponse"
    visit = {"appointment.identifier.value", "appointment.reference"} if answer else {"identifier.value", "id"}
    assert remaining(facts) == {f"{path}.identifier.system", f"{path}.identifier.value", *visit}
    assert len(facts) == 2 if kind.startswith("Medication") else 1


def test_of_a_patient_a_fact_holds_identity_only() -> None:
    tree = {
        **RICH, "resourceType": "", "id": "", "name": [{"family": "", "given": [""], "text": ""}], "birthDate": "",
        "gender": "", "telecom": [{"value": ""}], "address": [{"line": [""], "city": "", "postalCode": "", "text": ""}],
        "contact": [{"name": {"family": ""}}], "photo": [{"data": ""}], "maritalStatus": {"text": ""},
    }  # fmt: skip
    keep = {"resourceType": "Patient"}
    assert remaining(fhir_events.read(marked(tree, keep), AROUND)) == {"id", "identifier.system", "identifier.value"}
    linked = marked({**tree, "link": [{"other": {"identifier": {"system": "", "value": ""}, "display": ""}}]}, keep)
    sides = {
        "identifier.system",
        "identifier.value",
        "id",
        "link.other.identifier.system",
        "link.other.identifier.value",
    }
    assert remaining(fhir_events.read(linked, AROUND)) == sides


def test_of_a_consent_a_fact_holds_patient_name_and_criteria_only(policy: Policy) -> None:
    coded = [{"system": "", "code": "", "display": ""}]
    tree = {
        **RICH, "resourceType": "", "id": "", "status": "", "scope": {"coding": coded, "text": ""}, "dateTime": "",
        "category": [{"coding": coded, "text": ""}], "patient": {"reference": "", "display": ""},
        "performer": [{"reference": "", "display": ""}], "organization": [{"display": ""}],
        "sourceAttachment": {"data": "", "title": ""}, "policy": [{"authority": "", "uri": ""}],
        "verification": [{"verified": True, "verifiedWith": {"display": ""}}],
        "provision": {
            "type": "", "period": {"start": "", "end": ""}, "action": [{"coding": coded, "text": ""}], "purpose": coded,
            "actor": [{"role": {"coding": coded, "text": ""}, "reference": {"reference": "", "display": ""}}],
        },
    }  # fmt: skip
    del tree["subject"]  # which a Consent of R4 has not
    keep = {
        "resourceType": "Consent", "status": "active", "dateTime": ENDED, "provision.type": "permit",
        "provision.period.start": ENDED, "provision.period.end": ENDED,
        "scope.coding.system": fhir_consent.SCOPES, "scope.coding.code": "patient-privacy",
        "provision.action.coding.system": fhir_criteria.ACTIONS, "provision.action.coding.code": "disclose",
        "provision.purpose.system": fhir_criteria.ACT_REASON, "provision.purpose.code": "HMARKT",
        "provision.actor.role.coding.system": fhir_criteria.ROLES, "provision.actor.role.coding.code": "PRCP",
        "patient.reference": "Patient/7", "provision.actor.reference.reference": "Organization/crm",
    }  # fmt: skip
    [fact] = fhir_consent.consent(marked(tree, keep), AROUND, policy.purposes)
    assert fact.says is Says.PERMIT
    assert remaining([fact]) == {"id", "meta.versionId"}
    assert (fact.patient, fact.recipients) == ("ehr\x1fPatient/7", ("Organization/crm",))


SEGMENTS = (
    "EVN",
    "PID",
    "PD1",
    "NK1",
    "PV1",
    "PV2",
    "MRG",
    "GT1",
    "IN1",
    "IN2",
    "AL1",
    "DG1",
    "PR1",
    "OBX",
    "NTE",
    "ZXX",
)


def hl7(trigger: str, keep: dict[str, str]) -> bytes:
    """A message with all segments; a field holds two repetitions of four components, each a marker of its place."""
    lines = ["|".join(["MSH", "^~\\&", *[keep.get(f"MSH.{n}", f"<MSH.{n}>") for n in range(3, 18)], "", "<MSH.19>"])]
    lines[0] = lines[0].replace("<MSH.9>", f"ADT^{trigger}")
    for name in SEGMENTS:
        for place in (1,) if name == "PID" and trigger != "A40" else (1, 2):  # only a merge is of two patients
            fields = [
                keep.get(
                    f"{name}.{n}", "~".join("^".join(f"<{name}.{n}.{r}.{c}>" for c in range(1, 5)) for r in (1, 2))
                )
                for n in range(1, 60)
            ]
            lines.append(
                "|".join([name, *fields]) if place == 1 else f"{name}|" + "|".join(f"<{name}.second>" for _ in fields)
            )
    return "\r".join(lines).encode()


IDENTIFIERS = "<SSN>^^^USSSA^SS~<PID.3.value>^^^<PID.3.authority>&<PID.3.oid>&ISO^MR^<PID.3.facility>"
KEEP = {
    "EVN.6": "20240501",
    "PID.3": IDENTIFIERS,
    "PV1.7": f"{NPI}^<family>^<given>^^^^^^NPI",
    "PV1.19": "<PV1.19.visit>^^^<V>",
}


def test_of_an_admission_a_fact_holds_patient_visit_and_npi_only() -> None:
    facts = hl7_events.read(hl7("A01", KEEP), READING)
    assert NPI.encode() in encode(facts)
    assert remaining(facts) == {"PID.3.value", "PID.3.authority", "PV1.19.visit"}


def test_of_a_merge_a_fact_holds_both_sides_only() -> None:
    facts = hl7_events.read(hl7("A40", {**KEEP, "MRG.1": "<MRG.1.value>^^^<MRG.1.authority>^PI"}), READING)
    named = {"PID.3.value", "PID.3.authority", "MRG.1.value", "MRG.1.authority"}
    also = {"PID.second", "MRG.second", "MSH.4"}  # the second ones name no authority
    assert named | also <= remaining(facts)
    assert all(one.startswith(("MRG.2.", "MRG.4.")) for one in remaining(facts) - named - also)


def test_of_an_unrouted_message_nothing_is_held() -> None:
    assert remaining(hl7_events.read(hl7("A08", KEEP), READING)) == {"PID.3.authority", "PID.3.value"}  # demographics
    assert remaining(hl7_events.read(hl7("<trigger>", KEEP), READING)) == set()


def test_what_is_read_prints_nothing_of_it() -> None:
    (fact,) = hl7_events.read(hl7("A01", KEEP), READING)
    shown = [repr(x) for x in (fact, AROUND, Counted(b"body", [fact], None))]
    assert shown == ["Milestone()", "Around()", "Counted()"]
