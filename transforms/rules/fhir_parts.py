"""The parts of FHIR R4 resources that are read, typed; everything else stays unread. None of them prints its values."""

import msgspec

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


class Participant(Part, frozen=True, gc=False):
    modifierExtension: object = None
    individual: Reference | None = None  # Encounter
    actor: Reference | None = None  # Appointment


class Link(Part, frozen=True, gc=False):
    other: Reference | None = None


class Resource(Part, frozen=True, gc=False):
    """The union of what the four clinical types need; elements of other types stay unread."""

    resourceType: str
    id: str | None = None
    meta: Meta | None = None
    implicitRules: str | None = None
    modifierExtension: object = None
    contained: list[dict[str, object]] | None = None
    identifier: list[FhirIdentifier] | None = None
    status: str | None = None
    subject: Reference | None = None
    patient: Reference | None = None
    class_: Coding | None = msgspec.field(default=None, name="class")
    period: Period | None = None
    participant: list[Participant] | None = None
    created: str | None = None
    end: str | None = None
    serviceType: Concept | list[Concept] | None = None
    link: list[Link] | None = None
    birthDate: object = None  # these three of any type: a Patient that is half broken may be a child, or dead
    deceasedBoolean: object = None
    deceasedDateTime: object = None
