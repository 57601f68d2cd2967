"""What reading costs: microseconds a message, by type, as the job reads it and as common libraries do.

    python benchmarks/decode.py [--messages 2000] [--rounds 9]

`limen` is the function that the job calls for each message, from bytes to facts with their keys and digests. `library`
is python-hl7's parse with the handful of fields that a milestone needs, or the standard library's json with a pydantic
model of the elements that are read; neither checks what `limen` checks (names given twice, modifiers, charsets) nor
makes keys. Processor time of the best of several rounds, taken in turn, which a busy neighbour disturbs least. The
goals are 15 µs for an HL7 message and 8 µs for a FHIR resource of 1 KB.
"""

import argparse
import base64
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import hl7
from pydantic import BaseModel, ConfigDict

from pipelines import policy
from schemas.message import Format, Message
from transforms.decode import reader

Json = dict[str, Any]
AT = "20260520120000+0000"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"


def main() -> None:
    """Parse, make the messages, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    read = reader(policy.load(policy.default())).read
    best: dict[str, list[float]] = {}
    sizes: dict[str, float] = {}
    for _ in range(chosen.rounds):
        for name, (form, make, library, each) in KINDS.items():
            bodies = [make(n) for n in range(chosen.messages // each)]
            count = len(bodies) * each
            sizes[name] = sum(map(len, bodies)) / count
            ours = partial(read, form)
            took = [spent(ours, [Message(body, 0) for body in bodies]) / count, spent(library, bodies) / count]
            best[name] = [min(one) for one in zip(best.get(name, took), took, strict=True)]
    print(f"{'µs a message':28} {'bytes':>6} {'limen':>7} {'library':>8}")
    for name, (took, theirs) in best.items():
        print(f"{name:28} {sizes[name]:6.0f} {took * 1e6:7.2f} {theirs * 1e6:8.2f}  {theirs / took:4.1f} ×")


def spent(body: Callable[[Any], object], items: list[Any]) -> float:
    """Processor seconds for all of them."""
    started = time.process_time()
    for item in items:
        body(item)
    return time.process_time() - started


# --- The libraries ---------------------------------------------------------------------------------------------------


def by_python_hl7(body: bytes) -> tuple[str, ...]:
    """Type, control id, patient and visit; a field that is not there is ""."""
    message = hl7.parse(body.decode())
    wanted = ("MSH.F9.R1.C2", "MSH.F10", "EVN.F2", "PID.F3.R1.C1", "PV1.F2", "PV1.F19", "SCH.F1")
    return tuple(value(message, path) for path in wanted)


def value(message: hl7.Message, path: str) -> str:
    try:
        return str(message[path])
    except (KeyError, IndexError):
        return ""


class Read(BaseModel):
    """Only what is named is kept. Elements have their FHIR names."""

    model_config = ConfigDict(extra="ignore")


class Coding(Read):
    system: str | None = None
    code: str | None = None


class Concept(Read):
    coding: list[Coding] | None = None


class Identifier(Read):
    use: str | None = None
    system: str | None = None
    value: str | None = None
    type: Concept | None = None


class Reference(Read):
    reference: str | None = None
    type: str | None = None
    identifier: Identifier | None = None


class Period(Read):
    start: str | None = None
    end: str | None = None


class Meta(Read):
    versionId: str | None = None
    lastUpdated: str | None = None
    security: list[Coding] | None = None


class Participant(Read):
    individual: Reference | None = None
    actor: Reference | None = None


class Provision(Read):
    type: str | None = None
    period: Period | None = None
    purpose: list[Coding] | None = None
    action: list[Concept] | None = None
    actor: list[dict[str, Any]] | None = None


class Resource(Read):
    resourceType: str
    id: str | None = None
    meta: Meta | None = None
    identifier: list[Identifier] | None = None
    status: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    period: Period | None = None
    participant: list[Participant] | None = None
    created: str | None = None
    end: str | None = None
    dateTime: str | None = None
    scope: Concept | None = None
    provision: Provision | None = None


class Entry(Read):
    fullUrl: str | None = None
    resource: Resource


class Bundle(Read):
    entry: list[Entry]


class CloudEvent(Read):
    id: str
    source: str
    type: str
    data: Resource


def by_pydantic(model: type[Read]) -> Callable[[bytes], object]:
    return lambda body: model.model_validate(json.loads(body))


def hl7_in_event(body: bytes) -> object:
    return by_python_hl7(base64.b64decode(json.loads(body)["data_base64"]))


# --- The messages ----------------------------------------------------------------------------------------------------


def adt(number: int) -> bytes:
    """An admission, with the segments that usually come along."""
    return "\r".join(
        (
            rf"MSH|^~\&|EPIC|GENERAL|LIMEN|CRM|{AT}||ADT^A01^ADT_A01|{number}|T|2.5.1|||AL|NE||UNICODE UTF-8",
            f"EVN|A01|{AT}|||1234567893^Doe^Ann^^^^^^NPI|{AT}",
            f"PID|1||{number}^^^GENERAL^MR~{number}9^^^GENERAL^PI||Roe^Jane^Q||19700101|F|||1 Main St^^Town^MA^02101",
            "PD1|||GENERAL CLINIC^^10|1245319599^Doe^Ann",
            "NK1|1|Roe^John|SPO|1 Main St^^Town^MA^02101|(555)555-0100",
            f"PV1|1|I|4E^12^A^GENERAL|R|||1234567893^Doe^Ann^^^^^^NPI||||||||||||{number}^^^GENERAL^VN" + "|" * 25 + AT,
            "PV2||P|^Chest pain||||||||2||||||||||N",
            "DG1|1||R07.9^Chest pain, unspecified^I10|||A",
            "IN1|1|PPO|123|Insurer|PO Box 1^^Town^MA^02101",
        )
    ).encode()


def siu(number: int) -> bytes:
    """A booking."""
    return "\r".join(
        (
            rf"MSH|^~\&|EPIC|GENERAL|LIMEN|CRM|{AT}||SIU^S12^SIU_S12|{number}|T|2.5.1",
            f"SCH|{number}^EPIC|{number}^EPIC|||NEW|Follow-up|FU|OFFICE|30|MIN|^^^{AT}^20260520123000+0000|||||||||||BOOKED",
            f"PID|1||{number}^^^GENERAL^MR||Roe^Jane^Q^^^^L||19700101|F|||1 Main St^^Town^MA^02101",
            "PV1|1|O|CLINIC^1^^GENERAL||||1234567893^Doe^Ann^^^^^^NPI",
            "RGS|1",
            f"AIS|1||FU^Follow-up|{AT}|||30|MIN",
            f"AIP|1||1234567893^Doe^Ann^^^^^^NPI|D|||{AT}|||30|MIN",
            f"AIL|1||CLINIC^1^^GENERAL|||{AT}|||30|MIN",
        )
    ).encode()


def coded(system: str, code: str) -> Json:
    return {"coding": [{"system": f"{TERMINOLOGY}/{system}", "code": code, "display": code.title()}]}


def who(number: int) -> Json:
    return {"reference": f"Patient/{number}", "identifier": {"system": "urn:id:GENERAL", "value": f"{number}"}}


def told(kind: str, number: int, **more: Any) -> Json:
    """A resource as a server gives it, with its narrative."""
    text = f'<div xmlns="http://www.w3.org/1999/xhtml"><p><b>{kind}</b> of a patient; made by the server</p></div>'
    meta = {"versionId": "1", "lastUpdated": "2026-05-20T12:00:00.000Z", "profile": [f"http://hl7.org/fhir/{kind}"]}
    return {"resourceType": kind, "id": f"{number}", "meta": meta, "text": {"status": "generated", "div": text}, **more}


def encounter(number: int) -> Json:
    clinician = {
        "reference": "Practitioner/1",
        "identifier": {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1234567893"},
    }
    return told(
        "Encounter", number, status="finished",
        identifier=[{"system": "urn:id:VISIT", "value": f"v{number}"}],
        **{"class": {"system": f"{TERMINOLOGY}/v3-ActCode", "code": "IMP"}},
        type=[coded("encounter-type", "ADMS")], subject=who(number),
        participant=[{"type": [coded("v3-ParticipationType", "ATND")], "individual": clinician}],
        period={"start": "2026-05-18T08:00:00Z", "end": "2026-05-20T12:00:00Z"},
        location=[{"location": {"reference": "Location/4E"}, "status": "completed"}],
        serviceProvider={"reference": "Organization/1"},
    )  # fmt: skip


def appointment(number: int) -> Json:
    return told(
        "Appointment", number, status="booked", created="2026-05-20T12:00:00Z",
        serviceType=[coded("service-type", "124")], appointmentType=coded("v2-0276", "FOLLOWUP"),
        start="2026-06-20T12:00:00Z", end="2026-06-20T12:30:00Z", minutesDuration=30,
        participant=[
            {"actor": who(number) | {"type": "Patient"}, "required": "required", "status": "accepted"},
            {"actor": {"reference": "Practitioner/1"}, "required": "required", "status": "accepted"},
            {"actor": {"reference": "Location/4E"}, "required": "required", "status": "accepted"},
        ],
    )  # fmt: skip


def consent(number: int) -> Json:
    recipient = {"reference": "Organization/crm", "identifier": {"system": "urn:limen:organization", "value": "crm"}}
    return told(
        "Consent", number, status="active", scope=coded("consentscope", "patient-privacy"),
        category=[coded("consentcategorycodes", "59284-0")], patient=who(number), dateTime="2026-01-01T00:00:00Z",
        policyRule=coded("consentpolicycodes", "hipaa-auth"),
        provision={
            "type": "permit", "period": {"start": "2026-01-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"},
            "actor": [{"role": coded("v3-ParticipationType", "PRCP"), "reference": recipient}],
            "action": [coded("consentaction", "disclose")],
            "purpose": [{"system": "urn:limen:purpose", "code": "PATSUPPORT"}],
        },
    )  # fmt: skip


def patient(number: int) -> Json:
    return told(
        "Patient", number,
        identifier=[{"type": coded("v2-0203", "MR"), "system": "urn:id:GENERAL", "value": f"{number}"}],
        active=True, name=[{"use": "official", "family": "Roe", "given": ["Jane", "Q"]}], gender="female",
        telecom=[{"system": "phone", "value": "(555)555-0100", "use": "home", "rank": 1}], birthDate="1970-01-01",
        address=[{"line": ["1 Main St"], "city": "Town", "state": "MA", "postalCode": "02101"}],
    )  # fmt: skip


def observation(number: int) -> Json:
    return told("Observation", number, status="final", code=coded("x", "8867-4"), subject=who(number), valueInteger=72)


def written(make: Callable[[int], Json]) -> Callable[[int], bytes]:
    return lambda number: json.dumps(make(number), separators=(",", ":")).encode()


def event(number: int, **data: Any) -> Json:
    return {"specversion": "1.0", "id": f"{number}", "source": "urn:epic", "type": "org.hl7.fhir", **data}


IN_BUNDLE = 50


def bundle(number: int) -> Json:
    """A Patient and visits of it."""
    first = IN_BUNDLE * number
    resources = [patient(first), *(encounter(first + n) for n in range(1, IN_BUNDLE))]
    entries = [{"fullUrl": f"https://ehr/{one['resourceType']}/{one['id']}", "resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def hl7_event(number: int) -> Json:
    return event(number, datacontenttype="application/hl7-v2", data_base64=base64.b64encode(adt(number)).decode())


# (format, how to make one, how a library reads it, messages in each)
KINDS: dict[str, tuple[Format, Callable[[int], bytes], Callable[[bytes], object], int]] = {
    "ADT^A01": (Format.HL7, adt, by_python_hl7, 1),
    "SIU^S12": (Format.HL7, siu, by_python_hl7, 1),
    "Encounter": (Format.NDJSON, written(encounter), by_pydantic(Resource), 1),
    "Appointment": (Format.NDJSON, written(appointment), by_pydantic(Resource), 1),
    "Consent": (Format.NDJSON, written(consent), by_pydantic(Resource), 1),
    "Patient": (Format.NDJSON, written(patient), by_pydantic(Resource), 1),
    "Observation, of no route": (Format.NDJSON, written(observation), by_pydantic(Resource), 1),
    "CloudEvent, Encounter": (
        Format.NDJSON, written(lambda n: event(n, data=encounter(n))), by_pydantic(CloudEvent), 1,
    ),
    "CloudEvent, ADT in base64": (Format.NDJSON, written(hl7_event), hl7_in_event, 1),
    f"Bundle, each of {IN_BUNDLE}": (Format.JSON, written(bundle), by_pydantic(Bundle), IN_BUNDLE),
}  # fmt: skip


if __name__ == "__main__":
    main()
