"""Which FHIR resources are specially protected: by label, by service, by diagnosis, or by a Condition that says so.

Nothing here has to have the form of the standard: a code is looked for wherever it stands, since a mark only tightens.
Sources: FHIR R4 Meta.security, serviceType, reasonCode, reasonReference, diagnosis; Condition.code, .encounter.
"""

from collections.abc import Collection, Mapping

from transforms.rules.fhir_parts import Resource
from transforms.rules.sensitivity import Sensitivity, diagnosed, labelled, served


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


def marked(resource: Resource, known: Sensitivity, elsewhere: Collection[str]) -> bool:
    """Is a resource marked? `elsewhere` are the names that Conditions around it mark."""
    if resource.meta is not None and resource.meta.security:
        if labelled([(label.system, label.code) for label in resource.meta.security], known):
            return True
    if resource.serviceType is not None and served(stated(resource.serviceType, "code"), known):
        return True
    for reasons in (resource.reasonCode, resource.diagnosis):
        if reasons is not None and diagnosed(stated(reasons, "code"), known):
            return True
    if not elsewhere:
        return False
    referred = stated([resource.reasonReference, resource.diagnosis], "reference")
    return any(name in elsewhere for name in (*own_names(resource), *referred))


def own_names(resource: Resource) -> tuple[str, ...]:
    """The names by which another resource may refer to this one."""
    name = resource.id
    return (f"{resource.resourceType}/{name}", f"urn:uuid:{name}") if name else ()


def condition(tree: Mapping[str, object], known: Sensitivity) -> list[str] | None:
    """What a Condition marks besides itself, its encounter; None if it is no mark."""
    meta = tree.get("meta")
    security = meta.get("security") if isinstance(meta, dict) else None
    found = security if isinstance(security, list) else ()
    labels = [(_text(one.get("system")), _text(one.get("code"))) for one in found if isinstance(one, dict)]
    if not diagnosed(stated(tree.get("code"), "code"), known) and not labelled(labels, known):
        return None
    return [*stated(tree.get("encounter"), "reference")]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
