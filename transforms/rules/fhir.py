"""FHIR R4 resources to facts: Encounter, EpisodeOfCare, Appointment, Patient (Consent: `fhir_consent`).

Statuses become milestones by the tables below; a status that names none is unrouted. Only what a recipe may read is
decoded: no name, address, telecom or text of a resource reaches a fact. A modifier that is not understood rejects the
resource (FHIR R4, 2.20 modifierExtension; implicitRules).
"""

from collections.abc import Callable, Mapping

import msgspec

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Kind, Made, Milestone, Person, digest
from schemas.instant import FOREVER, from_fhir
from schemas.outcome import Reason, Verdict
from transforms.rules.fhir_parts import Concept, FhirIdentifier, Meta, Part, Participant, Reference, Resource
from transforms.rules.identity import (
    NEVER,
    Identifier,
    Reading,
    idempotency_key,
    national_provider,
    patient_key,
    preferred,
)
from transforms.rules.sensitivity import Sensitivity, adult_at, labelled, served
from transforms.rules.vocabulary import unrouted

NPI_SYSTEM = "http://hl7.org/fhir/sid/us-npi"
CONDITIONAL_NPI = f"Practitioner?identifier={NPI_SYSTEM}|"

# Encounter.class, v3-ActCode, to the closed service classes (shared with PV1-2 by `hl7_events`).
SERVICE_CLASSES = {
    "IMP": "inpatient",
    "ACUTE": "inpatient",
    "NONAC": "inpatient",
    "AMB": "outpatient",
    "EMER": "emergency",
}
ENCOUNTER = {"finished": Kind.DISCHARGED}
STAY = (Kind.DISCHARGED, Kind.ADMITTED, Kind.REGISTERED)  # what an Encounter that never was takes back
EPISODE = {"finished": Kind.EPISODE_COMPLETED}
APPOINTMENT = {"booked": Kind.BOOKED, "fulfilled": Kind.ATTENDED}
WITHDRAWN = frozenset({"cancelled", "entered-in-error"})


class Around(Part, frozen=True, gc=False):
    """What surrounds a resource: how to read it, the envelope that carried it, and the Bundle it lies in.

    `patients` maps a reference (fullUrl, Type/id, #id) to the patient key that the identifiers of that Patient give: ""
    where they give none, None where it means two patients or one that cannot be read. `providers` maps one to an NPI.
    """

    reading: Reading
    source: str = ""  # CloudEvents `source`; "" outside one
    native: str = ""  # CloudEvents `id`
    envelope: str = ""  # CloudEvents `type`
    patients: Mapping[str, str | None] = {}
    providers: Mapping[str, str] = {}


# --- who -----------------------------------------------------------------------------------------------------------


def identifiers(found: list[FhirIdentifier] | None) -> list[Identifier]:
    """FHIR identifiers with their type as an HL7 table 0203 code; "" where untyped, "?" where of another system.

    One of use `old` is left out: Identifier.use is a modifier, and the number may be somebody else's by now.
    """
    return [
        Identifier(one.system or "", (one.value or "").strip(), _identifier_type(one.type))
        for one in found or ()
        if one.use != "old"
    ]


def _identifier_type(concept: Concept | None) -> str:
    if concept is None or not concept.coding:
        return ""
    codes = [coding.code for coding in concept.coding if coding.code and (coding.system or "").endswith("v2-0203")]
    return next((code for code in codes if code in NEVER), codes[0] if codes else "?")


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
    """The patient key that a reference stands for, "" where it stands for no patient or could stand for two."""
    if reference is None or (reference.type or "Patient") != "Patient":
        return ""
    if not reference.reference:  # the usual case in a feed: known by identifier alone
        return (
            preferred(identifiers([reference.identifier]), around.reading.identity_types)
            if reference.identifier
            else ""
        )
    text = (reference.reference or "").partition("/_history/")[0]
    base, local = split_reference(text)
    literal = local.startswith("Patient/") and local != "Patient/"
    if text and not literal and text not in around.patients and not text.startswith(("urn:", "#", "Patient?")):
        return ""  # of another type: a group, a device
    if reference.identifier is not None:
        if key := preferred(identifiers([reference.identifier]), around.reading.identity_types):
            return key
    if text in around.patients and (held := around.patients[text]) != "":
        return held or ""
    source = around.source or around.reading.source
    if text.startswith("urn:"):
        return patient_key(source, text)
    if text.startswith("Patient?"):
        return _conditional(text)
    return patient_key(base or source, local) if literal else ""


def _conditional(text: str) -> str:
    """The patient key of a conditional reference, which names its target by one identifier (FHIR R4, 3.1.0.11.3)."""
    system, _, value = text.removeprefix("Patient?identifier=").partition("|")
    return "" if {"?", "&"} & {*system, *value} else preferred([Identifier(system, value, "")], ("",))


def _provider(participants: list[Participant] | None, around: Around) -> str:
    """The first clinician's NPI that is stated to be one: by the identifier's system, or in the same Bundle."""
    for one in participants or ():
        person = one.individual
        if person is None or one.modifierExtension is not None:
            continue
        text, stated = person.reference or "", ""
        if person.identifier is not None and person.identifier.system == NPI_SYSTEM:
            stated = person.identifier.value or ""
        elif text.startswith(CONDITIONAL_NPI):
            stated = text.removeprefix(CONDITIONAL_NPI)
        if npi := national_provider(stated) or around.providers.get(text, ""):
            return npi
    return ""


# --- what ----------------------------------------------------------------------------------------------------------


def read(tree: object, around: Around) -> list[AnyFact]:
    """The facts of one clinical resource, given as what its JSON holds. Raises MessageError."""
    try:
        resource = msgspec.convert(tree, Resource)
    except msgspec.ValidationError:
        raise MessageError(Reason.MALFORMED) from None
    if resource.contained:
        around = containing(resource.contained, around)
    if resource.modifierExtension is not None or resource.implicitRules is not None:
        raise MessageError(Reason.UNKNOWN_MODIFIER)
    return READERS[resource.resourceType](resource, around)


def containing(resources: list[dict[str, object]], around: Around) -> Around:
    """With the Patients that a resource contains, which it calls by #id."""
    local = {f"#{one.get('id')}": patient_in(one, around) for one in resources if one.get("resourceType") == "Patient"}
    return msgspec.structs.replace(around, patients={**around.patients, **local})


def patient_in(tree: Mapping[str, object], around: Around) -> str | None:
    """The patient key by the identifiers of a Patient: "" if it has none to use, None if they cannot be read."""
    found = named(tree)
    return None if found is None else preferred(identifiers(found), around.reading.identity_types)


def named(tree: Mapping[str, object]) -> list[FhirIdentifier] | None:
    """The identifiers of a resource that may have several; None if they cannot be read."""
    try:
        return msgspec.convert(tree.get("identifier"), list[FhirIdentifier] | None) or []
    except msgspec.ValidationError:
        return None


def encounter(resource: Resource, around: Around) -> list[AnyFact]:
    """Encounter.status `finished` is a discharge at `period.end`."""
    coded = resource.class_.code if resource.class_ else None
    service_class = SERVICE_CLASSES.get(coded, "other") if coded else "unknown"
    ended = resource.period.end if resource.period else None
    npi = _provider(resource.participant, around)
    return _milestone(resource, around, ENCOUNTER, resource.subject, ended, service_class, npi)


def episode_of_care(resource: Resource, around: Around) -> list[AnyFact]:
    """EpisodeOfCare.status `finished` completes the episode at `period.end`."""
    ended = resource.period.end if resource.period else None
    return _milestone(resource, around, EPISODE, resource.patient, ended)


def appointment(resource: Resource, around: Around) -> list[AnyFact]:
    """Appointment: booked at `created` (when the booking was made), attended at `end`.

    The patient is the participant whose actor is a Patient (Appointment.participant.actor).
    """
    people = [p.actor for p in resource.participant or () if p.actor and p.modifierExtension is None]
    patients = [person for person in people if _is_patient(person, around)]
    if len({patient_of(person, around) for person in patients}) > 1:
        raise MessageError(Reason.NO_PATIENT)  # of two patients, neither is meant alone
    subject = patients[0] if patients else None
    when = resource.end if resource.status == "fulfilled" else resource.created
    return _milestone(resource, around, APPOINTMENT, subject, when)


def _is_patient(reference: Reference, around: Around) -> bool:
    text = reference.reference or ""
    named = text.startswith("Patient?") or split_reference(text)[1].startswith("Patient/") or text in around.patients
    return named or reference.type == "Patient"


def _milestone(
    resource: Resource,
    around: Around,
    table: Mapping[str, Kind],
    subject: Reference | None,
    when: str | None,
    service_class: str = "unknown",
    npi: str = "",
) -> list[AnyFact]:
    status = resource.status or ""
    cancels = (STAY if table is ENCOUNTER else tuple(table.values())) if status in WITHDRAWN else ()
    if not cancels and status not in table:
        return [unrouted(resource.resourceType, Reason.NO_MILESTONE)]
    patient = patient_of(subject, around)
    if not patient:
        raise MessageError(Reason.NO_PATIENT)
    zone = around.reading.zone
    found = from_fhir(when, zone)
    if cancels or not found:
        touched = from_fhir(resource.meta.lastUpdated, zone) if resource.meta else None
        # taken back when it was last touched, at the earliest when it happened
        found = max(found, touched) if found and touched else found or touched
    if cancels:
        npi, service_class = "", ""
    kind = cancels[0] if cancels else table[status]
    visit = next((i.value for i in resource.identifier if i.value), None) if resource.identifier else None
    visit = visit or resource.id or ""
    time, span = found or (None, 0)
    what = digest(patient, kind, visit, time, span, service_class, npi, cancels)[:16]
    key = _key(resource, around, patient, what)
    return [
        Milestone(
            key, patient, resource.resourceType, what, kind, visit, time, span, service_class, npi, cancels,
            None, _sensitive(resource, around.reading.sensitivity),
        )
    ]  # fmt: skip


def _sensitive(resource: Resource, known: Sensitivity) -> bool:
    """Is it marked by a security label (Meta.security) or by its service (serviceType)?"""
    security, service = resource.meta.security if resource.meta else None, resource.serviceType
    if security and labelled([(label.system, label.code) for label in security], known):
        return True
    if service is None:
        return False
    concepts = service if isinstance(service, list) else [service]
    return served([coding.code for concept in concepts for coding in concept.coding or ()], known)


def _key(resource: Resource, around: Around, patient: str, what: bytes) -> bytes:
    if around.native:
        return idempotency_key(around.source, around.envelope, patient, around.native, "", what)
    meta = resource.meta or Meta()
    version = meta.versionId or meta.lastUpdated or what.hex()
    native = f"{resource.resourceType}/{resource.id}" if resource.id else ""
    return idempotency_key(around.reading.source, resource.resourceType, patient, native, version, what)


def patient(resource: Resource, around: Around) -> list[AnyFact]:
    """A Patient is demographics: nothing of it crosses, but that a patient died or is no adult bears on every release.
    One that links to another changes identity, for both sides."""
    key, source = preferred(identifiers(resource.identifier), around.reading.identity_types), around.source
    own = patient_key(source or around.reading.source, f"Patient/{resource.id}") if resource.id else ""
    sides = [key, own, *(patient_of(link.other, around) for link in resource.link or ())]
    told = tuple(sorted({side for side in sides if side}))
    if not resource.link:
        if not told:
            return [Made(b"", "", "Patient", Verdict.CONTROL, Reason.DEMOGRAPHICS)]
        adult = adult_at(str(resource.birthDate or ""), around.reading.sensitivity, around.reading.zone)
        died = resource.deceasedBoolean not in (None, False) or str(resource.deceasedDateTime)[:4].isdigit()
        name = _key(resource, around, told[0], digest(told, adult, died)[:16])
        return [Person(name, side, "Patient", adult, died, place == 0) for place, side in enumerate(told)]
    when = from_fhir((resource.meta or Meta()).lastUpdated, around.reading.zone)
    if not told:
        raise MessageError(Reason.NO_PATIENT)
    time = when.time + when.span if when else FOREVER  # of unknown date: no consent is known to come after it
    name = _key(resource, around, told[0], digest(told, time)[:16])
    return [Identity(name, side, "Patient", time, place == 0) for place, side in enumerate(told)]


READERS: dict[str, Callable[[Resource, Around], list[AnyFact]]] = {
    "Encounter": encounter,
    "EpisodeOfCare": episode_of_care,
    "Appointment": appointment,
    "Patient": patient,
}
