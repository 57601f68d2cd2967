"""HL7 v2 messages to facts: ADT A01, A03, A04, A11, A13, SIU S12, S15 and every merge trigger, by one table.

    time     EVN-6 (event occurred), else EVN-2 (recorded), else MSH-7 (sent)
    visit    PV1-19; for SIU the placer SCH-1, else the filler SCH-2
    patient  PID-3 in the order of the policy's identifier types; system from CX.4, else the sender (MSH-4, else MSH-3)
    class    PV1-2 (HL7 table 0004)
    npi      PV1-7, -8, -17 (attending, referring, admitting), only where stated to be a National Provider Identifier

Every other type is unrouted. Sources: HL7 v2.8 chapters 3 (ADT) and 10 (SIU); DESIGN section 3, Identity.
"""

from typing import NamedTuple

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Kind, Milestone, digest
from schemas.instant import FOREVER, Instant, from_hl7
from schemas.outcome import Reason
from transforms.rules import hl7
from transforms.rules.fhir import unrouted
from transforms.rules.hl7 import Hl7Message, Repetition, Segment
from transforms.rules.identity import Identifier, Reading, idempotency_key, national_provider, preferred
from transforms.rules.vocabulary import hl7_type


class Trigger(NamedTuple):
    """What a message type means: the milestone that it states, or those that it takes back."""

    kind: Kind
    cancels: tuple[Kind, ...] = ()


TRIGGERS = {
    "ADT^A01": Trigger(Kind.ADMITTED),
    "ADT^A04": Trigger(Kind.REGISTERED),
    "ADT^A03": Trigger(Kind.DISCHARGED),
    "ADT^A11": Trigger(Kind.ADMITTED, (Kind.ADMITTED, Kind.REGISTERED)),  # cancels A01 and A04 alike
    "ADT^A13": Trigger(Kind.DISCHARGED, (Kind.DISCHARGED,)),
    "SIU^S12": Trigger(Kind.BOOKED),
    "SIU^S15": Trigger(Kind.BOOKED, (Kind.BOOKED, Kind.ATTENDED)),
}
# Merge, move, link, unlink, identifier change (chapter 3): which of two records a patient is, is no longer certain.
MERGES = frozenset(f"ADT^A{n}" for n in (18, 24, 30, 34, 35, 36, 37, *range(39, 52)))
SERVICE_CLASSES = {"I": "inpatient", "O": "outpatient", "E": "emergency"}
NPI_AUTHORITIES = frozenset({"NPI", "NPPES"})
NPI_OID = "2.16.840.1.113883.4.6"


def read(body: bytes, reading: Reading, source: str = "", native: str = "", envelope: str = "") -> list[AnyFact]:
    """The facts of one message. `source`, `native` and `envelope` are those of a CloudEvent that carried it.

    Raises MessageError. The type is judged before anything else: what no route could take needs no patient.
    """
    message = hl7.read(body, reading.charset)
    header = message.first("MSH")
    if header is None:
        raise MessageError(Reason.MALFORMED)
    recorded = message.first("EVN")
    code, trigger = header.value(9, 1), header.value(9, 2)
    if not code:
        raise MessageError(Reason.NO_TYPE)
    if not trigger and recorded is not None:
        trigger = recorded.value(1)
    kind = hl7_type(code, trigger)
    meaning = TRIGGERS.get(kind)
    if meaning is None and kind not in MERGES:
        return [unrouted(kind, Reason.NO_ROUTE)]

    sender = header.value(4, 1) or header.value(3, 1)
    if source:
        origin, kept, version = (source, envelope), native, ""
    else:
        origin, kept, version = (
            (f"{reading.source}|{header.value(3)}|{header.value(4)}", kind),
            header.value(10),
            header.value(7),
        )
    if meaning is None:
        return _merge(message, kind, _time(header, recorded, reading), sender, origin, kept, version, reading)
    person = message.first("PID")
    patient = _patient(person.repeats(3), sender, reading) if person else ""
    if not patient:
        raise MessageError(Reason.NO_PATIENT)
    visited = message.first("PV1")
    visit = _visit(message, visited, kind)
    found = _time(header, recorded, reading)
    time, span = found or (None, 0)
    if meaning.cancels:
        service_class = npi = ""
    else:
        coded = visited.value(2) if visited else ""
        service_class = SERVICE_CLASSES.get(coded, "other") if coded else "unknown"
        npi = _provider(visited) if visited else ""
    what = digest(patient, meaning.kind, visit, time, span, service_class, npi, meaning.cancels)[:16]
    key = idempotency_key(*origin, patient, kept, version, what)
    return [Milestone(key, patient, kind, what, meaning.kind, visit, time, span, service_class, npi, meaning.cancels)]


def _merge(
    message: Hl7Message,
    kind: str,
    when: Instant | None,
    sender: str,
    origin: tuple[str, str],
    native: str,
    version: str,
    reading: Reading,
) -> list[AnyFact]:
    """Both sides of a merge: every PID-3 and every MRG-1 that the message names."""
    sides = [
        _patient(segment.repeats(3 if segment.field(0) == "PID" else 1), sender, reading)
        for segment in message.every("PID", "MRG")
    ]
    told = tuple(sorted({side for side in sides if side}))
    if not told:
        raise MessageError(Reason.NO_PATIENT)
    time = when.time + when.span if when else FOREVER  # of unknown date: no consent is known to come after it
    key = idempotency_key(*origin, told[0], native, version, digest(told, time)[:16])
    return [Identity(key, side, kind, time, place == 0) for place, side in enumerate(told)]


def _time(header: Segment, recorded: Segment | None, reading: Reading) -> Instant | None:
    if recorded is not None:
        for field in (6, 2):
            if (text := recorded.value(field)) and (found := from_hl7(text, reading.zone)):
                return found
    return from_hl7(header.value(7), reading.zone)


def _visit(message: Hl7Message, visited: Segment | None, kind: str) -> str:
    if kind.startswith("SIU"):
        schedule = message.first("SCH")
        return (schedule.value(1) or schedule.value(2)) if schedule else ""
    return visited.value(19) if visited else ""


def _patient(repetitions: list[Repetition], sender: str, reading: Reading) -> str:
    """The patient key out of CX repetitions: CX.1 value, CX.4 assigning authority (HD), CX.5 type."""
    found = []
    for one in repetitions:
        if value := one.value(1).strip():
            namespace, universal = one.value(4, 1), one.value(4, 2)
            system = f"urn:id:{namespace}" if namespace else f"urn:oid:{universal}" if universal else f"urn:id:{sender}"
            found.append(Identifier(system if namespace or universal or sender else "", value, one.value(5)))
    return preferred(found, reading.identity_types)


def _provider(visited: Segment) -> str:
    """The first clinician whose id is stated to be a National Provider Identifier (XCN.9 authority, XCN.13 type)."""
    for field in (7, 8, 17):
        if visited.field(field):
            for one in visited.repeats(field):
                stated = one.value(13) == "NPI" or one.value(9, 1) in NPI_AUTHORITIES or one.value(9, 2) == NPI_OID
                if stated and (npi := national_provider(one.value(1))):
                    return npi
    return ""
