"""How the simulated hospital's systems write what happened: HL7 v2.5.1, FHIR R4 and CloudEvents 1.0, as bytes.

Pure functions of `hospital`'s values. HL7 messages come out in the standard's own framing (segments end in CR, ch. 2);
`framed` gives them the others that occur. Each message carries what must never cross: names, addresses, numbers, notes.
"""

import json
from datetime import datetime, timedelta, timezone
from typing import Any

from pipelines.simulated.chart import Clinician, Milestone, Patient, Visit

SYSTEM = "urn:id:GENERAL"
ADT = {"admitted": ("A01", "ADT_A01"), "registered": ("A04", "ADT_A01"), "discharged": ("A03", "ADT_A03")}
CANCELS = {"admitted": ("A11", "ADT_A09"), "discharged": ("A13", "ADT_A01"), "booked": ("S15", "SIU_S12")}
FHIR_CLASS = {"I": "IMP", "O": "AMB", "E": "EMER"}
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
PROGRAMMES = "urn:limen:programme"
TIERS = ("SUPPORT-CORE", "SUPPORT-PLUS", "SUPPORT-NURSE")
NPI = "http://hl7.org/fhir/sid/us-npi"
PV1_FIELD = {"ATND": 7, "REF": 8, "ADM": 17}  # attending, referring, admitting doctor

Json = dict[str, Any]

# --- HL7 v2 -------------------------------------------------------------------------------------------------------


def dtm(at: datetime, hours: int = 0) -> str:
    """An instant as a sender so many hours from UTC writes it."""
    return at.astimezone(timezone(timedelta(hours=hours))).strftime("%Y%m%d%H%M%S%z")


def hl7(*segments: str) -> bytes:
    return "".join(segment + "\r" for segment in segments).encode()


def framed(message: bytes, framing: str) -> bytes:
    """One message as a file of that framing holds it: cr, crlf, lf or mllp (HL7 MLLP release 1: VT … FS CR)."""
    if framing == "mllp":
        return b"\x0b" + message + b"\x1c\r"
    return message.replace(b"\r", {"cr": b"\r", "crlf": b"\r\n", "lf": b"\n"}[framing])


def msh(kind: str, structure: str, control: str, at: datetime) -> str:
    """Processing id T: what is simulated is never taken for production."""
    code = f"{kind}^{structure}" if structure else kind
    return rf"MSH|^~\&|EPIC|GENERAL|LIMEN|CRM|{dtm(at)}||{code}|{control}|T|2.5.1||||||UNICODE UTF-8"


def pid(p: Patient) -> str:
    """PID-30 says that the patient died."""
    return (
        f"PID|1||{p.mrn}^^^GENERAL^MR~{p.ssn}^^^SSA^SS||{p.family}^{p.given}^^^^^L||{p.born:%Y%m%d}|{p.sex}|||"
        f"{p.street}^^{p.city}^VT^{p.postcode}^USA||{p.phone}|||||{p.account}|{p.ssn}" + "|||||||||||Y" * p.died
    )


def pv1(visit: Visit, numbered: bool = True) -> str:
    """PV1-2 class, one XCN with its NPI (XCN.13) in the field of the clinician's role, PV1-19 visit number."""
    c = visit.clinician
    fields = ["PV1", "1", visit.patient_class, *[""] * 16, f"{visit.number}^^^GENERAL^VN" if numbered else ""]
    fields[PV1_FIELD[visit.role]] = f"{c.npi}^{c.family}^{c.given}^^^^^^CMS^^^^NPI"
    return "|".join(fields)


def about(p: Patient) -> tuple[str, ...]:
    """Next of kin, guarantor, insurance and a note: segments that no route asks for."""
    return (
        f"NK1|1|{p.family}^Robin|SPO^Spouse|{p.street}^^{p.city}|{p.phone}",
        rf"NTE|1||{p.note} \T\ leaves the key with the neighbour",
        f"GT1|1||{p.family}^{p.given}||{p.street}^^{p.city}|{p.phone}",
        f"IN1|1|BASIC^Basic plan|INS1|Meadow Mutual||||||||||||{p.family}^{p.given}|SEL|{p.born:%Y%m%d}|{p.street}"
        + "|" * 17 + p.policy,
    )  # fmt: skip


def adt(p: Patient, m: Milestone, control: str, evn: str) -> bytes:
    """A01, A03 or A04. `evn` says where the event's time stands, and what the sender's clock is like: in a fast or slow
    clock's message MSH-7 is minutes ahead of or behind EVN-2, and one from abroad writes its own zone."""
    trigger, structure = ADT[m.kind]
    minutes, recorded = {
        "EVN-6": (7, f"EVN||{dtm(m.at + timedelta(minutes=7))}||||{dtm(m.at)}"),
        "EVN-2": (7, f"EVN||{dtm(m.at)}"),
        "MSH-7": (0, "EVN|"),
        "fast clock": (41, f"EVN||{dtm(m.at)}"),
        "slow clock": (-38, f"EVN||{dtm(m.at)}"),
        "abroad": (7, f"EVN||{dtm(m.at, hours=-8)}"),
    }[evn]
    head = msh(f"ADT^{trigger}", structure, control, m.at + timedelta(minutes=minutes))
    return hl7(head, recorded, pid(p), pv1(m.visit), *about(p))


def demographic_update(p: Patient, control: str, at: datetime) -> bytes:
    """A08: who the patient is, without a visit."""
    return hl7(msh("ADT^A08", "ADT_A01", control, at), f"EVN||{dtm(at)}", pid(p), "PV1|1|N")


def siu(p: Patient, m: Milestone, control: str) -> bytes:
    """S12: booked at MSH-7. The visit number stands in SCH-1 (placer), if it ends in 0, 4, 8 in SCH-2 (filler)."""
    return hl7(msh("SIU^S12", "SIU_S12", control, m.at), *_schedule(p, m, m.at))


def cancellation(p: Patient, m: Milestone, control: str) -> bytes:
    """A11, A13 or S15, forty minutes after what it takes back."""
    at = m.at + timedelta(minutes=40)
    trigger, structure = CANCELS[m.kind]
    if trigger == "S15":
        return hl7(msh("SIU^S15", structure, control, at), *_schedule(p, m, at))
    return hl7(msh(f"ADT^{trigger}", structure, control, at), f"EVN||{dtm(at)}", pid(p), pv1(m.visit))


def _schedule(p: Patient, m: Milestone, at: datetime) -> tuple[str, ...]:
    number = f"{m.visit.number}^GENERAL"
    either = f"{number}|" if int(number[9]) % 4 else f"|{number}"
    takes_place = dtm(at + timedelta(days=21))
    sch = f"SCH|{either}||||ROUTINE^Routine|||30|min|^^30^{takes_place}"
    return sch, f"NTE|1||{p.note}", pid(p), pv1(m.visit, numbered=False), "RGS|1", "AIL|1||4WEST^412^A"


def merge(kept: Patient, retired: Patient, control: str, at: datetime) -> bytes:
    head = msh("ADT^A40", "ADT_A39", control, at), f"EVN||{dtm(at)}"
    return hl7(*head, pid(kept), f"MRG|{retired.mrn}^^^GENERAL^MR||||||{retired.family}^{retired.given}")


def laboratory(p: Patient, control: str, at: datetime) -> bytes:
    obx = "OBX|1|NM|718-7^Hemoglobin^LN||13.4|g/dL|||||F"
    return hl7(msh("ORU^R01", "ORU_R01", control, at), pid(p), "OBR|1|||CBC^Blood count", obx, f"NTE|1||{p.note}")


def vaccination(p: Patient, control: str, at: datetime) -> bytes:
    rxa = f"RXA|0|1|{dtm(at)}|{dtm(at)}|140^Influenza^CVX|0.5|mL"
    return hl7(msh("VXU^V04", "VXU_V04", control, at), pid(p), "ORC|RE", rxa)


# --- FHIR R4 ------------------------------------------------------------------------------------------------------


def instant(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def line(document: Json) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": system, "code": code}]}


def mrn(p: Patient) -> Json:
    return {"type": coded(f"{TERMINOLOGY}/v2-0203", "MR"), "system": SYSTEM, "value": p.mrn}


def subject(p: Patient) -> Json:
    display = f"{p.given} {p.family}"
    return {"reference": f"Patient/{p.resource}", "type": "Patient", "identifier": mrn(p), "display": display}


def practitioner(c: Clinician) -> Json:
    return {"identifier": {"system": NPI, "value": c.npi}, "display": f"{c.given} {c.family}"}


def demographics(p: Patient) -> Json:
    """A Patient without id: the feed adds its own, a Bundle names it by its fullUrl."""
    others = [
        {"type": coded(f"{TERMINOLOGY}/v2-0203", code), "system": f"{SYSTEM}:{code}", "value": value}
        for code, value in (("SS", p.ssn), ("AN", p.account), ("MB", p.policy))
    ]
    return {
        "resourceType": "Patient",
        "text": {"status": "additional", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{p.note}</div>'},
        "identifier": [mrn(p), *others],
        "name": [{"use": "official", "family": p.family, "given": [p.given]}],
        "gender": "female" if p.sex == "F" else "male",
        "birthDate": p.born.isoformat(),
        **({"deceasedBoolean": True} if p.died else {}),
        "telecom": [{"system": "phone", "value": p.phone, "use": "home"}],
        "address": [{"line": [p.street], "city": p.city, "state": "VT", "postalCode": p.postcode}],
    }


def resource(p: Patient, m: Milestone, version: int, patient: Json | None = None) -> Json:
    """The Encounter, EpisodeOfCare or Appointment that says so. `patient` refers to the patient in another way."""
    visit, who, doctor = m.visit, patient or subject(p), practitioner(m.visit.clinician)
    head = {
        "id": f"r-{visit.number}",
        "meta": {"versionId": str(version), "lastUpdated": instant(m.at + timedelta(minutes=9))},
        "identifier": [{"system": f"{SYSTEM}:visits", "value": visit.number}],
    }
    period = {"start": instant(m.at - timedelta(hours=5)), "end": instant(m.at)}
    if m.kind == "discharged":
        role = coded(f"{TERMINOLOGY}/v3-ParticipationType", visit.role)
        return {
            "resourceType": "Encounter", **head, "status": "finished",
            "class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": FHIR_CLASS[visit.patient_class]},
            "subject": who, "participant": [{"type": [role], "individual": doctor}], "period": period,
        }  # fmt: skip
    if m.kind in ("enrolled", "episode-completed"):
        status, period = ("active", {"start": instant(m.at)}) if m.kind == "enrolled" else ("finished", period)
        return {"resourceType": "EpisodeOfCare", **head, "status": status, "patient": who, "period": period,
                "type": [coded(PROGRAMMES, TIERS[int(visit.number[-1]) % 3])], "careManager": doctor}  # fmt: skip
    if m.kind in TREATMENTS:
        return head | TREATMENTS[m.kind](m, who, doctor)
    booked = m.kind == "booked"
    end = m.at + timedelta(days=21) if booked else m.at
    return {
        "resourceType": "Appointment", **head, "status": "booked" if booked else "fulfilled",
        "created": instant(m.at if booked else m.at - timedelta(days=30)),
        "start": instant(end - timedelta(minutes=30)), "end": instant(end), "comment": p.note,
        "participant": [{"actor": who, "status": "accepted"}, {"actor": doctor, "status": "accepted"}],
    }  # fmt: skip


def _order(m: Milestone, who: Json, doctor: Json) -> Json:
    return {
        "resourceType": "MedicationRequest", "status": "active", "intent": "order", "subject": who,
        "medicationCodeableConcept": coded(RXNORM, m.detail), "authoredOn": instant(m.at), "requester": doctor,
        "dosageInstruction": [{"text": "one at supper"}],
    }  # fmt: skip


def _dispense(m: Milestone, who: Json, _: Json) -> Json:
    supply = {"value": m.supply, "unit": "days", "system": "http://unitsofmeasure.org", "code": "d"}
    return {
        "resourceType": "MedicationDispense", "status": "completed", "subject": who, "daysSupply": supply,
        "medicationCodeableConcept": coded(RXNORM, m.detail), "whenHandedOver": instant(m.at),
    }  # fmt: skip


def _candidate(m: Milestone, who: Json, _: Json) -> Json:
    """The study by identifier (system|value), or by reference."""
    system, value = m.detail.rpartition("|")[::2]
    study: Json = {"identifier": {"system": system, "value": value}} if system else {"reference": value}
    return {"resourceType": "ResearchSubject", "status": "candidate", "period": {"start": instant(m.at)},
            "study": study, "individual": who}  # fmt: skip


TREATMENTS = {"prescribed": _order, "dispensed": _dispense, "trial-eligible": _candidate}
ENDS = {"booked": "cancelled", "prescribed": "stopped", "trial-eligible": "ineligible"}


def withdrawn(p: Patient, m: Milestone) -> Json:
    """The resource taken back, forty minutes later if nothing else is said: what has no way to end was an error."""
    told = resource(p, m, 50)
    touched = {"versionId": "50", "lastUpdated": instant(m.until or m.at + timedelta(minutes=40))}
    return told | {"status": ENDS.get(m.kind, "entered-in-error"), "meta": touched}


def timeless(p: Patient, m: Milestone) -> Json:
    """An Encounter that says neither when it ended nor when it was touched."""
    told = resource(p, m, 1) | {"meta": {"versionId": "1"}}
    return {name: value for name, value in told.items() if name != "period"}


def replaced(kept: Patient, retired: Patient, at: datetime) -> Json:
    """The Patient of a record that was merged into another: FHIR's way to say A40."""
    link = {"other": subject(kept), "type": "replaced-by"}
    meta = {"versionId": "2", "lastUpdated": instant(at)}
    return demographics(retired) | {"id": retired.resource, "meta": meta, "active": False, "link": [link]}


def bundle(p: Patient, m: Milestone, url: str) -> Json:
    encounter = resource(p, m, 1, {"reference": url})
    entries = [
        {"fullUrl": url, "resource": demographics(p)},
        {"fullUrl": f"https://ehr.example/fhir/Encounter/{encounter['id']}", "resource": encounter},
    ]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def observation(p: Patient, number: str, at: datetime) -> Json:
    return {"resourceType": "Observation", "id": number, "status": "final", "code": coded("http://loinc.org", "8867-4"),
            "subject": subject(p), "effectiveDateTime": instant(at), "note": [{"text": p.note}]}  # fmt: skip


# --- CloudEvents 1.0, structured ----------------------------------------------------------------------------------


def cloud_event(p: Patient, number: str, at: datetime, data: Json | bytes) -> Json:
    """The `subject` holds the MRN, as careless producers do: it must not cross either."""
    body: Json | str
    if isinstance(data, bytes):
        kind, content, body = "org.hl7.v2", "application/hl7-v2", data.decode()
    else:
        kind, content, body = f"org.hl7.fhir.{data['resourceType'].lower()}", "application/fhir+json", data
    return {
        "specversion": "1.0",
        "id": number,
        "source": "urn:hospital:general:integration",
        "type": kind,
        "subject": p.mrn,
        "time": instant(at),
        "datacontenttype": content,
        "data": body,
    }
