"""Which FHIR resources are specially protected: by label, service, place or diagnosis, or by a Condition that says so.

Nothing here has to have the form of the standard: a code is looked for wherever it stands, since a mark only tightens.
Sources: FHIR R4 Meta.security, serviceType, serviceCategory, specialty, location, reasonCode, reasonReference,
diagnosis; Condition.code, .encounter; EpisodeOfCare.type; Appointment.participant.actor; Location.identifier, .partOf.
"""

import re
from collections.abc import Mapping

from transforms.rules.fhir_parts import Appointment, EpisodeOfCare, Meta, Resource
from transforms.rules.sensitivity import Classes, Sensitivity, diagnosed, labelled, placed, served

_BAR = re.compile(r"\||%7C", re.IGNORECASE)  # between the system and the value of an identifier in a URL


def stated(tree: object, *names: str) -> list[str]:
    """Every text that stands under one of these names anywhere in a part of a resource."""
    found: list[str] = []
    parts = [tree]
    for part in parts:  # which grows on the way
        if isinstance(part, dict):
            for name, value in part.items():
                if not isinstance(value, str):
                    parts.append(value)
                elif name in names:
                    found.append(value)
        elif isinstance(part, list):
            parts += part
    return found


def marked(resource: Resource, known: Sensitivity, elsewhere: Mapping[str, Classes]) -> Classes:
    """Of which classes a resource is, sorted. `elsewhere`: the names that Conditions and Locations around it mark."""
    found = () if resource.meta is None else of_label(resource.meta, known)
    for services in (resource.serviceType, resource.serviceCategory, resource.specialty):
        if services is not None:
            found += served(stated(services, "code"), known)
    if isinstance(resource, EpisodeOfCare) and resource.type:
        codes = [coding.code for kind in resource.type for coding in kind.coding or ()]
        found += served([code for code in codes if code], known)
    places = _places(resource) if known.locations or elsewhere else ()
    if places:
        found += placed(places, known)
    for reasons in (resource.reasonCode, resource.diagnosis):
        if reasons is not None:
            found += diagnosed(stated(reasons, "code"), known)
    if elsewhere:
        names = (*own_names(resource), *_referred(resource), *places)
        found += tuple(c for name in names for c in elsewhere.get(name.partition("/_history/")[0], ()))
    return tuple(sorted(set(found))) if found else found


def of_label(meta: Meta, known: Sensitivity) -> Classes:
    """Of which classes the security labels of a resource make it."""
    return labelled([(label.system, label.code) for label in meta.security], known) if meta.security else ()


def _places(resource: Resource) -> list[str]:
    """Where it happened: the references and identifiers of Encounter.location and of an Appointment's Locations, and
    the numbers in them."""
    found = [] if resource.location is None else stated(resource.location, "reference", "value")
    for one in (resource.participant or ()) if isinstance(resource, Appointment) else ():
        if (actor := one.actor) and (actor.type == "Location" or "Location" in (actor.reference or "")):
            found += (actor.reference or "", (actor.identifier.value or "") if actor.identifier else "")
    return [name for text in found for name in (text, _place(text)) if name]


def _place(text: str) -> str:
    return number(text) if "?" in text else text.partition("/_history/")[0].rpartition("/")[2]


def _referred(resource: Resource) -> list[str]:
    """What a resource refers to, or contains, that may mark it."""
    found = stated([resource.reasonReference, resource.diagnosis], "reference")
    if isinstance(resource, Appointment):
        found += [one.actor.reference or "" for one in resource.participant or () if one.actor]
    return found + [f"#{one.get('id')}" for one in resource.contained or () if one.get("resourceType") == "Location"]


def own_names(resource: Resource) -> tuple[str, ...]:
    """The names by which another resource may refer to this one."""
    name = resource.id
    return (f"{resource.resourceType}/{name}", f"urn:uuid:{name}") if name else ()


def condition(tree: Mapping[str, object], known: Sensitivity) -> tuple[Classes, list[str]]:
    """Of which classes a Condition is, and what it makes so besides itself: its encounter."""
    found = diagnosed(stated(tree.get("code"), "code"), known) + of_labels_in(tree, known)
    return found, stated(tree.get("encounter"), "reference")


def location(tree: Mapping[str, object], known: Sensitivity) -> tuple[Classes, list[str]]:
    """Of which classes a Location is, by what it is called and what it is part of, and its identifiers, by which
    another resource may refer to it."""
    values = [value for value in stated(tree.get("identifier"), "value") if value]
    whole = [_place(text) for text in stated(tree.get("partOf"), "reference", "value")]
    return placed([_text(tree.get("id")) or "", *values, *whole], known) + of_labels_in(tree, known), values


def of_labels_in(tree: Mapping[str, object], known: Sensitivity) -> Classes:
    """Of which classes the security labels in a tree of any form make it."""
    meta = tree.get("meta")
    security = meta.get("security") if isinstance(meta, dict) else None
    listed = security if isinstance(security, list) else ()
    return labelled(
        [(_text(one.get("system")), _text(one.get("code"))) for one in listed if isinstance(one, dict)], known
    )


def conditions(resource: Resource) -> tuple[str, ...]:
    """The names of the Conditions that a resource refers to, which may be told of elsewhere; sorted."""
    if resource.reasonReference is None and resource.diagnosis is None:
        return ()
    referred = stated([resource.reasonReference, resource.diagnosis], "reference")
    named = {number(text) for text in referred if "Condition" in text or text.startswith("urn:")}
    return tuple(sorted(f"Condition/{name}" for name in named if name))


def number(reference: str) -> str:
    """The number of what a reference names, by its id or by the identifier that is searched for; "" where it
    is not understood.

    >>> [number(name) for name in ("Encounter/7/_history/2", "Encounter?identifier=urn:a|9", "#e", "urn:oid:1.2")]
    ['7', '9', '', '']
    """
    literal, _, sought = reference.partition("/_history/")[0].partition("?identifier=")
    found = _BAR.split(sought)[-1] if sought else literal.removeprefix("urn:uuid:").rpartition("/")[2]
    return "" if {*found} & {*"#?:&%"} else found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
