"""FHIR R4 resources to facts: visits, programmes, medication, studies. `fhir_patient` reads a Patient, `fhir_consent`
a Consent.

What a status means stands in `fhir_statuses`. Only what a recipe may read is decoded: no name, address, telecom or text
of a resource reaches a fact. A modifier that is not understood rejects the resource (FHIR R4, 2.20 modifierExtension;
implicitRules).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from schemas.errors import MessageError
from schemas.event import AnyFact, Kind, Milestone, content_of, digest
from schemas.instant import BEGINNING, from_fhir
from schemas.outcome import Reason
from transforms.rules import fhir_marks, fhir_patient, filters
from transforms.rules.fhir import (
    NPI_SYSTEM,
    containing,
    further,
    is_numbered,
    is_patient,
    key_of,
    patient_of,
    visit_numbers,
)
from transforms.rules.fhir_medication import course, supplied
from transforms.rules.fhir_parts import (
    Appointment,
    AppointmentResponse,
    Around,
    Encounter,
    EpisodeOfCare,
    FhirIdentifier,
    MedicationDispense,
    MedicationRequest,
    Meta,
    Participant,
    Patient,
    Period,
    Reference,
    ResearchSubject,
    Resource,
    split_reference,
)
from transforms.rules.fhir_statuses import STATUSES
from transforms.rules.hl7_events import DIED
from transforms.rules.identity import beside, national_provider
from transforms.rules.sensitivity import Classes, mark
from transforms.rules.vocabulary import unrouted

CONDITIONAL_NPI = f"Practitioner?identifier={NPI_SYSTEM}|"

# Encounter.class, v3-ActCode, to the closed service classes (shared with PV1-2 by `hl7_events`).
SERVICE_CLASSES = {
    "IMP": "inpatient",
    "ACUTE": "inpatient",
    "NONAC": "inpatient",
    "AMB": "outpatient",
    "EMER": "emergency",
}
TEST = "HTEST"  # v3-ActReason: test health data
EXPIRED = DIED | {"exp"}  # discharge dispositions: HL7 table 0112 and NUBC's alike, and FHIR's own
ORDERS = frozenset({"order", "original-order", "reflex-order", "filler-order", "instance-order"})  # request-intent
NOTHING: dict[str, str] = {}
UNKNOWN = {"service_class": "unknown"}


def read(tree: Mapping[str, object], around: Around) -> list[AnyFact]:
    """The facts of one clinical resource, given as what its JSON holds. Raises MessageError."""
    form, reader = READERS[str(tree["resourceType"])]
    try:
        resource = msgspec.convert(tree, form)
    except msgspec.ValidationError:
        raise MessageError(Reason.MALFORMED) from None
    if resource.contained:
        around = containing(resource.contained, around)
    if resource.modifierExtension is not None or resource.implicitRules is not None:
        raise MessageError(Reason.UNKNOWN_MODIFIER)
    if around.reading.production and form is not Patient and resource.meta is not None and _is_test(resource.meta):
        raise MessageError(Reason.WRONG_ENVIRONMENT)
    return reader(resource, around)


def _is_test(meta: Meta) -> bool:
    """Is it labelled or tagged as test data? As MSH-11 says it of an HL7 message."""
    return any(coding.code == TEST for coding in (*(meta.security or ()), *(meta.tag or ())))


def encounter(resource: Encounter, around: Around) -> list[AnyFact]:
    """Encounter.status `finished` is a discharge at `period.end`."""
    coded = resource.class_.code if resource.class_ else None
    values = {"service_class": SERVICE_CLASSES.get(coded, "other") if coded else "unknown"}
    npi, own = _provider(resource.participant, around)
    told = {"npi": npi} if npi and not own else NOTHING
    if npi and own:
        values["npi"] = npi
    ended = resource.period.end if resource.period else None
    facts = _stated(resource, around, resource.subject, ended, values, told)
    if resource.hospitalization is None:
        return facts
    return facts + _death(facts, resource, around)


def _death(facts: list[AnyFact], resource: Encounter, around: Around) -> list[AnyFact]:
    """A patient whose stay ended so (hospitalization.dischargeDisposition) died, by every name."""
    stay = resource.hospitalization
    one, ended = facts[0], stay.get("dischargeDisposition") if isinstance(stay, dict) else None
    if not isinstance(one, Milestone) or one.cancels or EXPIRED.isdisjoint(fhir_marks.stated(ended, "code")):
        return []  # what is taken back may be that very end
    names = (one.patient, *further(resource.subject, one.patient, around))
    return [beside(name, one.type, BEGINNING, died=True) for name in names]


def _provider(participants: list[Participant] | None, around: Around) -> tuple[str, bool]:
    """The first clinician's NPI that is stated to be one; and whether it is so here, by the identifier's system, and
    not elsewhere in the Bundle."""
    for one in participants or ():
        person = one.individual
        if person is None or one.modifierExtension is not None:
            continue
        text, stated = person.reference or "", ""
        if person.identifier is not None and person.identifier.system == NPI_SYSTEM:
            stated = person.identifier.value or ""
        elif text.startswith(CONDITIONAL_NPI):
            stated = text.removeprefix(CONDITIONAL_NPI)
        if own := national_provider(stated):
            return own, True
        if npi := around.providers.get(text, ""):
            return npi, False
    return "", True


def episode_of_care(resource: EpisodeOfCare, around: Around) -> list[AnyFact]:
    """EpisodeOfCare: enrolled at `period.start`, completed at `period.end`; the support tier of its programme."""
    period, known = resource.period or Period(), around.reading.tables.programmes
    codes = [f"{coding.system}|{coding.code}" for kind in resource.type or () for coding in kind.coding or ()]
    tiers = {known[code] for code in codes if code in known}
    values = {**UNKNOWN, "enrolment": resource.status or ""}
    if len(tiers) == 1:
        values["tier"] = tiers.pop()
    when = period.start if resource.status == "active" else period.end
    return _stated(resource, around, resource.patient, when, values)


def appointment(resource: Appointment, around: Around) -> list[AnyFact]:
    """Appointment: booked at `created` (when the booking was made), attended at `end`.

    The patient is the participant whose actor is a Patient (Appointment.participant.actor); where none says so, one who
    is known by a patient's number alone.
    """
    people = [p.actor for p in resource.participant or () if p.actor and p.modifierExtension is None]
    patients = [person for person in people if is_patient(person, around)]
    patients = patients or [person for person in people if is_numbered(person, around)]
    if len({patient_of(person, around) for person in patients}) > 1:
        raise MessageError(Reason.NO_PATIENT)  # of two patients, neither is meant alone
    subject = patients[0] if patients else None
    when = resource.end if resource.status == "fulfilled" else resource.created
    return _stated(resource, around, subject, when, UNKNOWN)


def appointment_response(resource: AppointmentResponse, around: Around) -> list[AnyFact]:
    """AppointmentResponse: a patient who declines takes the booking back, when it was said (meta.lastUpdated)."""
    actor, booked = resource.actor, resource.appointment or Reference()
    if actor is None or not (is_patient(actor, around) or is_numbered(actor, around)):
        return [unrouted(resource.resourceType, Reason.NO_MILESTONE)]
    named = booked.identifier.value if booked.identifier else None
    numbers = (named, split_reference(booked.reference or "")[1].rpartition("/")[2])
    return _stated(resource, around, actor, None, status=resource.participantStatus or "", numbers=numbers)


def medication_request(resource: MedicationRequest, around: Around) -> list[AnyFact]:
    """MedicationRequest: prescribed at `authoredOn`, if it is an order to do something. A gap falls due if nothing is
    dispensed on it."""
    if resource.status == "active" and (resource.intent not in ORDERS or resource.doNotPerform not in (None, False)):
        return _stated(resource, around, resource.subject, None, status="")
    name = course(resource, around.feed)
    facts = _stated(resource, around, resource.subject, resource.authoredOn, course=name)
    return facts + _lapse(facts, around.reading.tables.first_fill)


def medication_dispense(resource: MedicationDispense, around: Around) -> list[AnyFact]:
    """MedicationDispense: dispensed at `whenHandedOver`. A gap falls due when `daysSupply` and the policy's days of
    grace have passed."""
    name = course(resource, around.feed)
    facts = _stated(resource, around, resource.subject, resource.whenHandedOver, course=name)
    lasts = supplied(resource.daysSupply)
    return facts if lasts is None else facts + _lapse(facts, lasts + around.reading.tables.gap)


def _lapse(facts: list[AnyFact], after: int) -> list[AnyFact]:
    """The gap that falls due so long after a milestone, unless its medication or its time is not known."""
    one = facts[0]
    if not isinstance(one, Milestone) or one.cancels or one.time is None or not one.course:
        return []
    time, since = one.time + after, one.time
    what = content_of(one.patient, Kind.REFILL_GAP, one.visit, time, 0, NOTHING, (), one.course, since)
    return [
        Milestone(
            digest("refill-gap", one.key), one.patient, one.type, what, Kind.REFILL_GAP, one.visit, time, 0, NOTHING,
            (), None, one.classes, one.course, since, one.also, one.related,
        )
    ]  # fmt: skip


def research_subject(resource: ResearchSubject, around: Around) -> list[AnyFact]:
    """ResearchSubject: eligible at `period.start`, else when last touched; of its study only the policy's own protocol
    code is kept."""
    study, known = resource.study or Reference(), around.reading.tables.studies
    stated = study.identifier or FhirIdentifier()
    text = (study.reference or "").partition("/_history/")[0]
    protocols = {known[name] for name in (f"{stated.system}|{stated.value}", text) if name in known}
    values = {"protocol": protocols.pop()} if len(protocols) == 1 else NOTHING
    when = resource.period.start if resource.period else None
    return _stated(resource, around, resource.individual, when, values)


def _stated(
    resource: Resource,
    around: Around,
    subject: Reference | None,
    when: str | None,
    values: dict[str, str] = NOTHING,
    told: dict[str, str] = NOTHING,
    *,
    course: str = "",
    status: str | None = None,
    numbers: tuple[str | None, ...] | None = None,
) -> list[AnyFact]:
    """The milestone that a status states or takes back, by the table of its type. `told`: values that another resource
    of the Bundle states. `numbers` of the visit: those of the resource itself, if no other ones are given."""
    status = resource.status or "" if status is None else status
    table = STATUSES[resource.resourceType]
    cancels = table.withdraws if status in table.ends else ()
    if not cancels and status not in table.states:
        aside = [unrouted(resource.resourceType, Reason.NO_MILESTONE)]
        classes = fhir_marks.marked(resource, around.reading.sensitivity, around.marks)
        own = (*[one.value for one in resource.identifier or ()], resource.id)
        return aside + _marks(classes, subject, own if numbers is None else numbers, around)
    patient = patient_of(subject, around)
    if not patient:
        raise MessageError(Reason.NO_PATIENT)
    zone = around.reading.zone
    found = from_fhir(when, zone)
    if cancels or when is None:  # a time that is stated and cannot be read to the day has no other one in its place
        touched = from_fhir(resource.meta.lastUpdated, zone) if resource.meta else None
        # taken back when it was last touched, at the earliest when it happened
        found = max(found, touched) if found and touched else found or touched
    if cancels:
        values = told = NOTHING
    else:
        if around.channels and subject is not None and (channel := around.channels.get(subject.reference or "")):
            told = {**told, "channel": channel}
        if around.reading.filtered:
            values = {**values, **filters.of_fhir(resource, around)}
    kind = cancels[0] if cancels else table.states[status]
    if numbers is None:
        numbers = (*visit_numbers(resource.identifier), resource.id)
    visit, *also = [number for number in numbers if number] or [""]
    time, span = found or (None, 0)
    stated, what = b"", content_of(patient, kind, visit, time, span, values, cancels, course)
    key = key_of(resource.resourceType, resource.id, resource.meta, around, patient, what)
    if told:
        values = {**values, **told}
        stated, what = what, content_of(patient, kind, visit, time, span, values, cancels, course)
    classes = fhir_marks.marked(resource, around.reading.sensitivity, around.marks)
    milestone = Milestone(
        key, patient, resource.resourceType, what, kind, visit, time, span, values, cancels, None, classes, course,
        None, tuple(also), fhir_marks.conditions(resource), stated,
    )  # fmt: skip
    others = further(subject, patient, around) if classes else ()
    return [milestone, *(mark(other, (visit, *also), classes) for other in others)]


def _marks(classes: Classes, subject: Reference | None, numbers: Iterable[str | None], around: Around) -> list[AnyFact]:
    """What is marked though it states no milestone: a visit, or a patient as a whole."""
    if not classes:
        return []
    numbers = [*numbers]
    patient = patient_of(subject, around)
    return [mark(key, numbers, classes) for key in (patient, *further(subject, patient, around)) if key]


def condition(tree: Mapping[str, object], around: Around) -> list[AnyFact]:
    """A Condition states no milestone. One that is specially protected marks its encounter and what refers to it,
    wherever they are told of; if it names no encounter that is understood, its patient."""
    classes, encounters = fhir_marks.condition(tree, around.reading.sensitivity)
    try:
        subject = msgspec.convert(tree.get("subject"), Reference | None)
    except msgspec.ValidationError:
        return []
    numbers = [*map(fhir_marks.number, encounters), *fhir_marks.stated(tree.get("encounter"), "value")]
    if any(numbers):
        numbers.append(f"Condition/{tree.get('id')}")
    return _marks(classes, subject, numbers, around)


# Type → its parts that are read, and their reader
READERS: dict[str, tuple[type[Resource], Callable[[Any, Around], list[AnyFact]]]] = {
    "Encounter": (Encounter, encounter),
    "EpisodeOfCare": (EpisodeOfCare, episode_of_care),
    "Appointment": (Appointment, appointment),
    "AppointmentResponse": (AppointmentResponse, appointment_response),
    "MedicationRequest": (MedicationRequest, medication_request),
    "MedicationDispense": (MedicationDispense, medication_dispense),
    "ResearchSubject": (ResearchSubject, research_subject),
    "Patient": (Patient, fhir_patient.read),
}
