"""What no system should send, and what some send to be careful: broken messages, and marks of sensitivity.

Pure functions of `hospital`'s values, as bytes or JSON.
"""

from typing import NamedTuple

from pipelines.simulated.chart import Fate, Milestone, Patient
from pipelines.simulated.feeds import TERMINOLOGY, Json, adt, cloud_event, coded, line, resource
from schemas.outcome import Reason

# defect: the feed it comes in, and why it is rejected
DEFECTS = {
    "truncated JSON": ("fhir.ndjson", Reason.MALFORMED),
    "unknown resource type": ("fhir.ndjson", Reason.UNKNOWN_KIND),
    "no subject": ("fhir.ndjson", Reason.NO_PATIENT),
    "unknown modifier": ("fhir.ndjson", Reason.UNKNOWN_MODIFIER),
    "a name twice": ("fhir.ndjson", Reason.DUPLICATE_JSON_KEY),
    "no source": ("events.ndjson", Reason.INVALID_ENVELOPE),
    "broken delimiters": ("adt-1.hl7", Reason.BAD_DELIMITERS),
    "not UTF-8": ("adt-2.hl7", Reason.BAD_ENCODING),
    "no PID": ("adt-3.hl7", Reason.NO_PATIENT),
    "truncated HL7": ("adt-4.hl7", Reason.NO_PATIENT),
    "unknown charset": ("adt-1.hl7", Reason.BAD_CHARSET),
    "no type": ("adt-2.hl7", Reason.NO_TYPE),
}


def malformed(defect: str, p: Patient, m: Milestone, control: str) -> bytes:
    """One message that cannot be read, or routed to a patient. `defect` is one of `DEFECTS`."""
    admission = adt(p, m._replace(kind="admitted"), control, "EVN-2")
    encounter = resource(p, m._replace(kind="discharged"), 1) | {"id": control}
    match defect:
        case "truncated JSON":
            return line(encounter)[:-20]
        case "unknown resource type":
            return line(encounter | {"resourceType": "Spaceship"})
        case "no subject":
            return line({name: value for name, value in encounter.items() if name != "subject"})
        case "unknown modifier":
            return line(encounter | {"implicitRules": "urn:rules:of-our-own"})
        case "a name twice":
            return line(encounter).replace(b'"status":', b'"status":"planned","status":', 1)
        case "no source":  # required by CloudEvents 1.0
            return line({k: v for k, v in cloud_event(p, control, m.at, encounter).items() if k != "source"})
        case "broken delimiters":
            return admission.replace(rb"|^~\&|", b"|&&&&|", 1)
        case "not UTF-8":  # though MSH-18 says so
            return admission.replace(p.family.encode(), b"\xff\xfe" + p.family.encode())
        case "truncated HL7":  # within PID, before its identifiers
            return admission[: admission.index(b"PID|") + 6] + b"\r"
        case "unknown charset":
            return admission.replace(b"UNICODE UTF-8", b"KLINGON", 1)
        case "no type":
            return admission.replace(b"|ADT^A01^ADT_A01|", b"||", 1)
    return b"".join(segment for segment in admission.splitlines(keepends=True) if not segment.startswith(b"PID"))


# --- marks of sensitivity -----------------------------------------------------------------------------------------


class Marks(NamedTuple):
    """What may mark a message, of HL7 and of FHIR (where the first is a label); behind a colon the code."""

    hl7: tuple[str, ...]
    fhir: tuple[str, str]


MARKS = {
    Fate.SENSITIVE: Marks(("place:PSYCH", "service:PSY", "protected", "restricted"), ("label:", "service:PSY")),
    Fate.NAMED: Marks(("place:DETOX", "service:SUD", "diagnosis:F10.20"), ("label:ETH", "service:DETOX")),
}


def marked_hl7(message: bytes, mark: str) -> bytes:
    """Marked by its place (PV1-3), service (PV1-10), visit protection (PV2-22), an access restriction (ARV) or a
    diagnosis (DG1-3)."""
    segments = message.decode().split("\r")
    at = next(place for place, segment in enumerate(segments) if segment.startswith("PV1"))
    fields = segments[at].split("|")
    how, _, code = mark.partition(":")
    match how:
        case "place":
            fields[3] = f"{code}^12^A"
        case "service":
            fields[10] = code
        case "protected":
            segments.insert(at + 1, "PV2" + "|" * 22 + "Y")
        case "diagnosis":
            segments.insert(at + 1, f"DG1|1||{code}^^I10")
        case _:
            segments.insert(at, "ARV|1|A^Add^HL70206|DIA^Diagnosis|PHY^Physician")
            at += 1
    segments[at] = "|".join(fields)
    return "\r".join(segments).encode()


def marked_fhir(document: Json, mark: str) -> Json:
    """Marked by security labels (as restricted, and why), or by its service type."""
    how, _, code = mark.partition(":")
    if how == "label":
        labels = [{"system": f"{TERMINOLOGY}/v3-Confidentiality", "code": "R"}]
        labels += [{"system": f"{TERMINOLOGY}/v3-ActCode", "code": code}] if code else []
        return document | {"meta": document["meta"] | {"security": labels}}
    kind = coded(f"{TERMINOLOGY}/service-type", code)  # serviceType: of Encounter one, of Appointment several
    return document | {"serviceType": [kind] if document["resourceType"] == "Appointment" else kind}
