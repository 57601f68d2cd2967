"""FHIR R4 resources to facts: Encounter, EpisodeOfCare, Appointment, Patient (Consent: `fhir_consent`).

Statuses become milestones by the tables below; a status that names none is unrouted. Only what a recipe may read is
decoded: no name, address, telecom or text of a resource reaches a fact. A modifier that is not understood rejects the
resource (FHIR R4, 2.20 modifierExtension; implicitRules).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Kind, Made, Milestone, digest
from schemas.instant import FOREVER, from_fhir
from schemas.outcome import Reason, Verdict
from transforms.rules.identity import (
    Identifier,
    Reading,
    idempotency_key,
    national_provider,
    patient_key,
    preferred,
)

NPI_SYSTEM = "http://hl7.org/fhir/sid/us-npi"

# Encounter.class, v3-ActCode, to the closed service classes (shared with PV1-2 by `hl7_events`).
SERVICE_CLASSES = {
    "IMP": "inpatient",
    "ACUTE": "inpatient",
    "NONAC": "inpatient",
    "AMB": "outpatient",
    "EMER": "emergency",
}
ENCOUNTER = {"finished": Kind.DISCHARGED}
EPISODE = {"finished": Kind.EPISODE_COMPLETED}
APPOINTMENT = {"booked": Kind.BOOKED, "fulfilled": Kind.ATTENDED}
ABSENT = msgspec.Raw()  # an element that is not there; Raw reads any value of one that is
WITHDRAWN = frozenset({"cancelled", "entered-in-error"})


# --- the parts of a resource that are read -------------------------------------------------------------------------


class Part(msgspec.Struct, frozen=True, gc=False):
    """Root of the partial resources; prints nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Coding(Part, frozen=True, gc=False):
    system: str | None = None
    code: str | None = None


class Concept(Part, frozen=True, gc=False):
    coding: list[Coding] | None = None
    text: str | None = None


class FhirIdentifier(Part, frozen=True, gc=False):
    system: str | None = None
    value: str | None = None
    type: Concept | None = None


class Reference(Part, frozen=True, gc=False):
    reference: str | None = None
    type: str | None = None
    identifier: FhirIdentifier | None = None


class Period(Part, frozen=True, gc=False):
    start: str | None = None
    end: str | None = None


class Meta(Part, frozen=True, gc=False):
    versionId: str | None = None
    lastUpdated: str | None = None


class Participant(Part, frozen=True, gc=False):
    individual: Reference | None = None  # Encounter
    actor: Reference | None = None  # Appointment


class Contained(Part, frozen=True, gc=False):
    resourceType: str | None = None
    id: str | None = None
    identifier: list[FhirIdentifier] | None = None


class Resource(Part, frozen=True, gc=False):
    """The union of what the four clinical types need; elements of other types stay unread."""

    resourceType: str
    id: str | None = None
    meta: Meta | None = None
    implicitRules: str | None = None
    modifierExtension: msgspec.Raw = ABSENT
    contained: list[Contained] | None = None
    identifier: list[FhirIdentifier] | None = None
    status: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    class_: Coding | None = msgspec.field(default=None, name="class")
    period: Period | None = None
    participant: list[Participant] | None = None
    created: str | None = None
    end: str | None = None
    link: list[dict[str, msgspec.Raw]] | None = None


class Around(NamedTuple):
    """What surrounds a resource: how to read it, the envelope that carried it, and the Bundle it lies in.

    `patients` maps a reference (fullUrl, Type/id, #id) to the identifiers of that Patient, `providers` to an NPI.
    """

    reading: Reading
    source: str = ""  # CloudEvents `source`; "" outside one
    native: str = ""  # CloudEvents `id`
    envelope: str = ""  # CloudEvents `type`
    patients: Mapping[str, list[FhirIdentifier]] = {}
    providers: Mapping[str, str] = {}


_resource = msgspec.json.Decoder(Resource)


# --- who -----------------------------------------------------------------------------------------------------------


def identifiers(found: list[FhirIdentifier] | None) -> list[Identifier]:
    """FHIR identifiers with their type as an HL7 table 0203 code; "" where untyped, "?" where of another system."""
    return [Identifier(one.system or "", one.value or "", _identifier_type(one.type)) for one in found or ()]


def _identifier_type(concept: Concept | None) -> str:
    if concept is None or not concept.coding:
        return ""
    for coding in concept.coding:
        if coding.code and (coding.system or "").endswith("v2-0203"):
            return coding.code
    return "?"


def split_reference(reference: str) -> tuple[str, str]:
    """(base URL, Type/id) of a literal reference; the base of a relative one is "".

    >>> split_reference("https://ehr.example/fhir/Patient/7/_history/2")
    ('https://ehr.example/fhir', 'Patient/7')
    """
    parts = reference.split("/_history/", 1)[0].rsplit("/", 2)
    if len(parts) < 2:
        return "", reference
    return (parts[0] if len(parts) == 3 else ""), f"{parts[-2]}/{parts[-1]}"


def patient_of(reference: Reference | None, around: Around) -> str:
    """The patient key that a reference stands for, "" where it stands for no patient."""
    if reference is None or (reference.type or "Patient") != "Patient":
        return ""
    types = around.reading.identity_types
    if reference.identifier is not None and (key := preferred(identifiers([reference.identifier]), types)):
        return key
    text = reference.reference
    if not text:
        return ""
    if (held := around.patients.get(text)) is not None and (key := preferred(identifiers(held), types)):
        return key
    if text.startswith("Patient?identifier="):  # a conditional reference names its target by identifier
        system, _, value = text.removeprefix("Patient?identifier=").partition("|")
        return preferred([Identifier(system, value, "")], ("",))
    if text.startswith(("urn:uuid:", "urn:oid:")):
        return patient_key(around.source or around.reading.source, text)
    base, local = split_reference(text)
    if not local.startswith("Patient/") or local == "Patient/":
        return ""
    return patient_key(base or around.source or around.reading.source, local)


def _provider(participants: list[Participant] | None, around: Around) -> str:
    for one in participants or ():
        person = one.individual
        if person is None:
            continue
        if person.identifier is not None and person.identifier.system == NPI_SYSTEM:
            if npi := national_provider(person.identifier.value or ""):
                return npi
        if person.reference:
            conditional = person.reference.removeprefix(f"Practitioner?identifier={NPI_SYSTEM}|")
            if npi := national_provider(conditional) or around.providers.get(person.reference, ""):
                return npi
    return ""


# --- what ----------------------------------------------------------------------------------------------------------


def read(body: bytes | msgspec.Raw, around: Around) -> list[AnyFact]:
    """The facts of one clinical resource. Raises MessageError."""
    try:
        resource = _resource.decode(body)
    except RecursionError:
        raise MessageError(Reason.TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MessageError(Reason.MALFORMED) from None
    if resource.modifierExtension or resource.implicitRules is not None:
        raise MessageError(Reason.UNKNOWN_MODIFIER)
    if resource.contained:
        local = {f"#{c.id}": c.identifier or [] for c in resource.contained if c.resourceType == "Patient" and c.id}
        around = around._replace(patients={**around.patients, **local})
    return READERS[resource.resourceType](resource, around)


def encounter(resource: Resource, around: Around) -> list[AnyFact]:
    """Encounter.status `finished` is a discharge at `period.end`."""
    coded = resource.class_.code if resource.class_ else None
    service_class = SERVICE_CLASSES.get(coded, "other") if coded else "unknown"
    ended = resource.period.end if resource.period else None
    npi = _provider(resource.participant, around)
    return _milestone(resource, around, ENCOUNTER, resource.subject, (ended,), service_class, npi)


def episode_of_care(resource: Resource, around: Around) -> list[AnyFact]:
    """EpisodeOfCare.status `finished` completes the episode at `period.end`."""
    ended = resource.period.end if resource.period else None
    return _milestone(resource, around, EPISODE, resource.patient, (ended,))


def appointment(resource: Resource, around: Around) -> list[AnyFact]:
    """Appointment: booked at `created` (when the booking was made), attended at `end`.

    The patient is the participant whose actor is a Patient (Appointment.participant.actor).
    """
    people = [p.actor for p in resource.participant or () if p.actor is not None]
    subject = next((p for p in people if (p.reference or "").rpartition("/")[0].endswith("Patient")), None)
    if subject is None:
        subject = next((p for p in people if p.type == "Patient" or (p.reference or "") in around.patients), None)
    when = resource.end if resource.status == "fulfilled" else resource.created
    return _milestone(resource, around, APPOINTMENT, subject, (when,))


def _milestone(
    resource: Resource,
    around: Around,
    table: Mapping[str, Kind],
    subject: Reference | None,
    times: tuple[str | None, ...],
    service_class: str = "unknown",
    npi: str = "",
) -> list[AnyFact]:
    reading, meta = around.reading, resource.meta or Meta()
    status = resource.status or ""
    cancels = tuple(table.values()) if status in WITHDRAWN else ()
    if not cancels and status not in table:
        return [unrouted(resource.resourceType, Reason.NO_MILESTONE)]
    patient = patient_of(subject, around)
    if not patient:
        raise MessageError(Reason.NO_PATIENT)
    if cancels:  # taken back when it was last touched, at the earliest when it happened
        found = max((t for text in (meta.lastUpdated, *times) if (t := from_fhir(text, reading.zone))), default=None)
        npi, service_class = "", ""
    else:
        found = next((t for text in (*times, meta.lastUpdated) if (t := from_fhir(text, reading.zone))), None)
    kind = cancels[0] if cancels else table[status]
    visit = next((i.value for i in resource.identifier or () if i.value), resource.id or "")
    time, span = found or (None, 0)
    what = digest(patient, kind, visit, time, span, service_class, npi, cancels)[:16]
    key = _key(resource, around, patient, what)
    return [Milestone(key, patient, resource.resourceType, what, kind, visit, time, span, service_class, npi, cancels)]


def _key(resource: Resource, around: Around, patient: str, what: bytes) -> bytes:
    if around.native:
        return idempotency_key(around.source, around.envelope, patient, around.native, "", what)
    meta = resource.meta or Meta()
    version = meta.versionId or meta.lastUpdated or what.hex()
    native = f"{resource.resourceType}/{resource.id}" if resource.id else ""
    return idempotency_key(around.reading.source, resource.resourceType, patient, native, version, what)


def patient(resource: Resource, around: Around) -> list[AnyFact]:
    """A Patient is demographics: nothing of it crosses. One that links to another changes identity, for both sides."""
    if not resource.link:
        key = digest("Patient", resource.id, (resource.meta or Meta()).versionId, (resource.meta or Meta()).lastUpdated)
        return [Made(key, "", "Patient", Verdict.CONTROL, Reason.DEMOGRAPHICS)]
    sides = [preferred(identifiers(resource.identifier), around.reading.identity_types)]
    if resource.id:
        sides.append(patient_key(around.source or around.reading.source, f"Patient/{resource.id}"))
    for link in resource.link:
        if "other" in link:
            sides.append(patient_of(msgspec.json.decode(link["other"], type=Reference), around))
    when = from_fhir((resource.meta or Meta()).lastUpdated, around.reading.zone)
    told = tuple(sorted({side for side in sides if side}))
    if not told:
        raise MessageError(Reason.NO_PATIENT)
    time = when.time + when.span if when else FOREVER  # of unknown date: no consent is known to come after it
    key = _key(resource, around, told[0], digest(told, time)[:16])
    return [Identity(key, side, "Patient", time, place == 0) for place, side in enumerate(told)]


def unrouted(kind: str, reason: Reason) -> Made:
    """A message that no purpose asks for: its type is counted, nothing of it is kept."""
    return Made(b"", "", kind, Verdict.UNROUTED, reason)


READERS: dict[str, Callable[[Resource, Around], list[AnyFact]]] = {
    "Encounter": encounter,
    "EpisodeOfCare": episode_of_care,
    "Appointment": appointment,
    "Patient": patient,
}
