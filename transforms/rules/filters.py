"""Route filters: which milestones a route takes, by the service and the place that they state.

A filter is an allow-list. A milestone may state several services or places, and one of them may go by several names (a
code and its translation, a point of care and its facility). It passes if each of them goes by a name that is listed:
one that is listed does not carry out another that is not. What states none does not pass.

    service    HL7 PV1-10 and AIS-3 (system and code, and the alternate ones); FHIR Encounter.serviceType,
               Appointment.serviceType, EpisodeOfCare.type: "system|code", the code alone where no system is stated
    location   HL7 PV1-3 and AIL-3 (point of care, facility, building); FHIR Encounter.location,
               MedicationDispense.location, Appointment.participant: the reference, its id, the identifier's value

Programmes are what the timeline knows of the patient: `enrolment`.
Sources: DESIGN section 6 (closed filters); 45 CFR 164.502(b) (minimum necessary).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from transforms.rules.fhir import is_numbered, is_patient
from transforms.rules.fhir_parts import (
    Appointment,
    Around,
    Concept,
    EpisodeOfCare,
    Located,
    Reference,
    Resource,
    split_reference,
)
from transforms.rules.hl7 import Hl7Message, Repetition, Segment
from transforms.rules.vocabulary import RESOURCE_TYPES

AND, OR = "\x1e", "\x1f"  # between the things that are stated, and between the names of one
PLACED = (1, 4, 7)  # of a PL: point of care, facility, building
CODED = ((1, 3), (4, 6))  # of a CWE: the code and its system, and the alternate ones

Names = Iterable[str]
Read = TypeVar("Read")


class Filters(NamedTuple):
    """What a route takes; an empty set filters nothing."""

    programmes: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()


# --- what passes ---------------------------------------------------------------------------------------------------


def takes(filters: Filters, values: dict[str, str]) -> bool:
    """Does a route with these filters take what states these values?"""
    return _listed(filters.services, values.get("service", "")) and _listed(
        filters.locations, values.get("location", "")
    )


def _listed(allowed: frozenset[str], stated: str) -> bool:
    """Does each thing that is stated go by a name that is listed? If nothing is listed, nothing is filtered."""
    return not allowed or all(not allowed.isdisjoint(one.split(OR)) for one in stated.split(AND))


def stated(things: Iterable[Names]) -> str:
    """Things and their names as one value, in an order of its own. What has no name that can be printed is stated all
    the same, and no list has it.

    >>> stated([["b", "a"], ["c"]]) == f"a{OR}b{AND}c"
    True
    """
    found = {tuple(sorted({name.strip() for name in names if name.isprintable()} - {""})) for names in things}
    return AND.join(OR.join(names) for names in sorted(found))


# --- HL7 v2 --------------------------------------------------------------------------------------------------------


def of_hl7(message: Hl7Message, visited: Segment | None, wanted: frozenset[str]) -> dict[str, str]:
    """The values of a message, those of `wanted` that it states."""
    found = {}
    if "service" in wanted:
        found["service"] = stated(_codes(one) for one in _repeats(message, visited, 10, "AIS"))
    if "location" in wanted:
        places = _repeats(message, visited, 3, "AIL")
        found["location"] = stated([one.value(part) for part in PLACED] for one in places)
    return {name: value for name, value in found.items() if value}


def _repeats(message: Hl7Message, visited: Segment | None, field: int, booked: str) -> Iterator[Repetition]:
    """What stands in a field of PV1 and in the third one of each segment of a booking."""
    yield from visited.repeats(field) if visited is not None else ()
    for segment in message.every(booked):
        yield from segment.repeats(3)


def _codes(one: Repetition) -> list[str]:
    return [_code(one.value(system), one.value(code)) for code, system in CODED]


def _code(system: str | None, code: str | None) -> str:
    return f"{system}|{code}" if system and code else code or ""


# --- FHIR R4 -------------------------------------------------------------------------------------------------------


def of_fhir(resource: Resource, around: Around) -> dict[str, str]:
    """The values of a resource, those that some route filters on and that it states."""
    found, wanted = {}, around.reading.filtered
    if "service" in wanted:
        kinds = resource.type if isinstance(resource, EpisodeOfCare) else resource.serviceType
        found["service"] = stated(_concepts(kinds))
    if "location" in wanted:
        found["location"] = stated(_places(resource, around))
    return {name: value for name, value in found.items() if value}


def _concepts(tree: object) -> Iterator[Names]:
    """The codes of each concept; none of one that cannot be read."""
    for concept in _several(tree, Concept):
        codings = concept.coding or () if concept else ()
        yield [_code(coding.system, coding.code) for coding in codings]


def _places(resource: Resource, around: Around) -> Iterator[Names]:
    if isinstance(resource, Appointment):
        for one in resource.participant or ():
            if one.actor is not None and _is_place(one.actor, around):
                yield _named(one.actor) if one.modifierExtension is None else ()
    elif resource.resourceType == "Encounter":
        for stay in _several(resource.location, Located):
            yield _named(stay.location) if stay and stay.modifierExtension is None else ()
    else:
        for place in _several(resource.location, Reference):
            yield _named(place)


def _several(tree: object, form: type[Read]) -> list[Read | None]:
    """The parts of an element that may be repeated; None for what is of another form."""
    parts = tree if isinstance(tree, list) else [] if tree is None else [tree]
    return [_converted(part, form) for part in parts]


def _converted(part: object, form: type[Read]) -> Read | None:
    try:
        return part if isinstance(part, form) else msgspec.convert(part, form)
    except msgspec.ValidationError:
        return None


def _named(place: Reference | None) -> Names:
    """How a Location is called: its reference, the id in it, its identifier."""
    if place is None:
        return ()
    text = (place.reference or "").partition("/_history/")[0]
    return text, text.rpartition("/")[2], (place.identifier.value or "") if place.identifier else ""


def _is_place(actor: Reference, around: Around) -> bool:
    """Is a participant a Location? One that does not say what it is may be one."""
    text = actor.reference or ""
    sort = split_reference(text.partition("?")[0])[1].partition("/")[0]
    sorts = {actor.type, sort} & RESOURCE_TYPES
    if sorts:
        return "Location" in sorts
    return not is_patient(actor, around) and not is_numbered(actor, around) and text not in around.providers
