"""The parts of FHIR R4 resources that are read, typed; everything else stays unread. None of them prints its values."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from transforms.rules.reading import Reading
from transforms.rules.sensitivity import Classes

_NONE: Mapping[str, Any] = MappingProxyType({})  # shared: a new dict for each message costs more
ABSENT = msgspec.Raw()  # an element that is not there; Raw reads any value of one that is


class Part(msgspec.Struct, frozen=True, gc=False):
    """Root of the partial resources; prints nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Coding(Part, frozen=True, gc=False):
    system: str | None = None
    code: str | None = None


class Concept(Part, frozen=True, gc=False):
    coding: list[Coding] | None = None


class FhirIdentifier(Part, frozen=True, gc=False):
    use: str | None = None
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
    security: list[Coding] | None = None
    tag: list[Coding] | None = None


class Participant(Part, frozen=True, gc=False):
    modifierExtension: object = None
    individual: Reference | None = None  # Encounter
    actor: Reference | None = None  # Appointment


class Located(Part, frozen=True, gc=False):
    """Encounter.location."""

    modifierExtension: object = None
    location: Reference | None = None


class Quantity(Part, frozen=True, gc=False):
    value: int | float | None = None
    comparator: str | None = None
    unit: str | None = None
    system: str | None = None
    code: str | None = None


class Link(Part, frozen=True, gc=False):
    type: object = None
    other: Reference | None = None


class Resource(Part, frozen=True, gc=False):
    """What is read of every clinical type. The elements that only mark a resource as sensitive may have any form."""

    resourceType: str
    id: str | None = None
    meta: Meta | None = None
    implicitRules: str | None = None
    modifierExtension: object = None
    contained: list[dict[str, object]] | None = None
    identifier: list[FhirIdentifier] | None = None
    status: str | None = None
    reasonCode: object = None
    reasonReference: object = None
    diagnosis: object = None
    serviceType: object = None
    serviceCategory: object = None
    specialty: object = None
    location: object = None


class Encounter(Resource, frozen=True, gc=False):
    subject: Reference | None = None
    class_: Coding | None = msgspec.field(default=None, name="class")
    period: Period | None = None
    participant: list[Participant] | None = None
    hospitalization: object = None


class EpisodeOfCare(Resource, frozen=True, gc=False):
    patient: Reference | None = None
    period: Period | None = None
    type: list[Concept] | None = None


class Appointment(Resource, frozen=True, gc=False):
    participant: list[Participant] | None = None
    created: str | None = None
    end: str | None = None


class AppointmentResponse(Resource, frozen=True, gc=False):
    appointment: Reference | None = None
    actor: Reference | None = None
    participantStatus: str | None = None


class Medicated(Resource, frozen=True, gc=False):
    """What an order and a dispense have in common."""

    subject: Reference | None = None
    medicationCodeableConcept: Concept | None = None
    medicationReference: Reference | None = None


class MedicationRequest(Medicated, frozen=True, gc=False):
    intent: str | None = None
    doNotPerform: object = None  # a modifier: of whatever form, unless it is false
    authoredOn: str | None = None


class MedicationDispense(Medicated, frozen=True, gc=False):
    whenHandedOver: str | None = None
    daysSupply: Quantity | None = None


class ResearchSubject(Resource, frozen=True, gc=False):
    individual: Reference | None = None
    study: Reference | None = None
    period: Period | None = None


class Patient(Resource, frozen=True, gc=False):
    link: list[Link] | None = None
    birthDate: object = None  # these three of any type: a Patient that is half broken may be a child, or dead
    deceasedBoolean: object = None
    deceasedDateTime: object = None


class Around(Part, frozen=True, gc=False):
    """What surrounds a resource: how to read it, the envelope that carried it, and the Bundle it lies in.

    `patients` maps a reference (fullUrl, Type/id, #id) to the patient key that the identifiers of that Patient give: ""
    where they give none, None where it means two patients or one that cannot be read. `providers` maps one to an NPI,
    `channels` to how that Patient would rather be reached. `marks` maps one to the classes of specially protected
    information that a Condition makes it of, or that a Location is of; so it does the identifiers of that Location.
    `documents` maps one to a resource that may be the source of a Consent, None where it means two. `organisations`
    maps one to the identifier of that Organization, system|value, "" where it has none or several. `numbers` maps one
    of a Patient, and the patient key of each identifier that it has to use, to all these keys.
    """

    reading: Reading
    source: str = ""  # CloudEvents `source`; "" outside one
    native: str = ""  # CloudEvents `id`
    envelope: str = ""  # CloudEvents `type`
    base: str = ""  # to what the fullUrl of its entry makes relative references relative; "" where it says nothing
    patients: Mapping[str, str | None] = _NONE
    providers: Mapping[str, str] = _NONE
    channels: Mapping[str, str] = _NONE
    marks: Mapping[str, Classes] = _NONE
    documents: Mapping[str, Mapping[str, Any] | None] = _NONE
    organisations: Mapping[str, str] = _NONE
    numbers: Mapping[str, frozenset[str]] = _NONE

    @property
    def feed(self) -> str:
        """Whose ids these are: the CloudEvents `source`, else the policy's name for the feed."""
        return self.source or self.reading.source


def split_reference(reference: str) -> tuple[str, str]:
    """(base URL, Type/id) of a literal reference; the base of a relative one is "".

    >>> split_reference("https://ehr.example/fhir/Patient/7/_history/2")
    ('https://ehr.example/fhir', 'Patient/7')
    """
    text = reference.partition("/_history/")[0]
    parts = text.rsplit("/", 2)
    if len(parts) == 2:  # the usual case
        return "", text
    return (parts[0], f"{parts[1]}/{parts[2]}") if len(parts) == 3 else ("", reference)


def base_of(url: str | None, kind: str) -> str:
    """The base URL that the fullUrl of a Bundle's entry gives the relative references in it, where it is RESTful (FHIR
    R4 2.36.4, Resolving references in Bundles); "" where it is not.

    >>> base_of("https://ehr.example/fhir/Consent/9", "Consent"), base_of("urn:uuid:9", "Consent")
    ('https://ehr.example/fhir', '')
    """
    if not url or not url.startswith(("http://", "https://")):
        return ""
    base, local = split_reference(url)
    return base if local.startswith(f"{kind}/") else ""


def modified(part: object) -> bool:
    """Does a modifier that nobody here knows stand anywhere in it (FHIR R4 2.20, modifierExtension)?"""
    return any("modifierExtension" in one for one in objects(part))


def objects(part: object) -> Iterator[dict[str, Any]]:
    """Every object in a part of a resource, itself too."""
    parts = [part]
    for one in parts:  # which grows on the way
        if isinstance(one, dict):
            yield one
            parts += one.values()
        elif isinstance(one, list):
            parts += one
