"""Which FHIR resources are specially protected: by label, by service, by diagnosis, or by a Condition that says so.

Nothing here has to have the form of the standard: a code is looked for wherever it stands, since a mark only tightens.
Sources: FHIR R4 Meta.security, serviceType, reasonCode, reasonReference, diagnosis; Condition.code, .encounter.
"""

from collections.abc import Mapping

from transforms.rules.fhir_parts import Resource
from transforms.rules.sensitivity import Classes, Sensitivity, diagnosed, labelled, served


def stated(tree: object, name: str) -> list[str]:
    """Every text that stands under this name anywhere in a part of a resource."""
    found, parts = [], [tree]
    for part in parts:  # which grows on the way
        if isinstance(part, dict):
            text = part.get(name)
            if isinstance(text, str):
                found.append(text)
            parts += [one for one in part.values() if not isinstance(one, str)]
        elif isinstance(part, list):
            parts += part
    return found


def marked(resource: Resource, known: Sensitivity, elsewhere: Mapping[str, Classes]) -> Classes:
    """Of which classes a resource is, sorted. `elsewhere` are the names that Conditions around it mark."""
    found: Classes = ()
    if resource.meta is not None and resource.meta.security:
        found = labelled([(label.system, label.code) for label in resource.meta.security], known)
    if resource.serviceType is not None:
        found += served(stated(resource.serviceType, "code"), known)
    for reasons in (resource.reasonCode, resource.diagnosis):
        if reasons is not None:
            found += diagnosed(stated(reasons, "code"), known)
    if elsewhere:
        referred = stated([resource.reasonReference, resource.diagnosis], "reference")
        found += tuple(c for name in (*own_names(resource), *referred) for c in elsewhere.get(name, ()))
    return tuple(sorted(set(found))) if found else found


def own_names(resource: Resource) -> tuple[str, ...]:
    """The names by which another resource may refer to this one."""
    name = resource.id
    return (f"{resource.resourceType}/{name}", f"urn:uuid:{name}") if name else ()


def condition(tree: Mapping[str, object], known: Sensitivity) -> tuple[Classes, list[str]]:
    """Of which classes a Condition is, and what it makes so besides itself: its encounter."""
    meta = tree.get("meta")
    security = meta.get("security") if isinstance(meta, dict) else None
    listed = security if isinstance(security, list) else ()
    labels = [(_text(one.get("system")), _text(one.get("code"))) for one in listed if isinstance(one, dict)]
    found = diagnosed(stated(tree.get("code"), "code"), known) + labelled(labels, known)
    return found, stated(tree.get("encounter"), "reference")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
