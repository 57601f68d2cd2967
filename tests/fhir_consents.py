"""FHIR Consents for tests of their reader: spell only the field that matters. And each place in one, to spoil it."""

import copy
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import pytest

from schemas.event import Consent
from transforms.rules.fhir_consent import consent
from transforms.rules.fhir_parts import Around
from transforms.rules.reading import Reading

Json = dict[str, Any]
Place = tuple[str | int, ...]
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
PURPOSES = dict.fromkeys(("PATSUPPORT", "HCPVISIBLE", "HMARKT", "TREAT", "CAREMGT", "BTG"))
MODIFIER = [{"url": "urn:example:not", "valueBoolean": True}]
CODED = {"coding": [{"id": "1", "system": f"{TERMINOLOGY}/x", "version": "1", "code": "y", "display": "Y",
                     "_display": {"extension": MODIFIER}, "userSelected": False}], "text": "Y"}  # fmt: skip
PERIOD = {"start": "2024-05-02", "end": "2034-06-01"}
CALLED = {
    "reference": "Organization/h", "type": "Organization", "display": "The hospital",
    "identifier": {"use": "official", "type": CODED, "system": "urn:x", "value": "1", "period": PERIOD,
                   "assigner": {"display": "The state"}},
}  # fmt: skip
UNREAD = {"extension", "contained", "text", "_language", "_display"}


def around(**fields: Any) -> Around:
    """A feed called `ehr`, in UTC."""
    return Around(Reading("ehr", "UTF-8", UTC, ("MR", "")), **fields)


def coded(system: str, *codes: str) -> Json:
    """A CodeableConcept."""
    return {"coding": [{"system": f"{TERMINOLOGY}/{system}", "code": code} for code in codes]}


def an_actor(reference: Json | str = "Organization/crm", role: str = "PRCP", **fields: Any) -> Json:
    who = {"reference": reference} if isinstance(reference, str) else reference
    return {"role": coded("v3-ParticipationType", role), "reference": who, **fields}


def a_provision(**fields: Any) -> Json:
    """A permit of support to the CRM; a field of None is left out."""
    provision = {
        "type": "permit",
        "actor": [an_actor()],
        "action": [coded("consentaction", "disclose")],
        "purpose": [{"system": "urn:limen:purpose", "code": "PATSUPPORT"}],
        **fields,
    }
    return {name: value for name, value in provision.items() if value is not None}


def a_document(**fields: Any) -> Json:
    """An active Consent of such a permit; a field of None is left out."""
    document = {
        "resourceType": "Consent",
        "id": "c1",
        "meta": {"versionId": "1"},
        "status": "active",
        "scope": coded("consentscope", "patient-privacy"),
        "patient": {"reference": "Patient/7"},
        "dateTime": "2024-05-01T10:00:00Z",
        "provision": a_provision(),
        **fields,
    }
    return {name: value for name, value in document.items() if value is not None}


def read(document: Json, **fields: Any) -> Consent:
    return consent(document, around(**fields), PURPOSES)[0]


def case(name: str, expected: object, **fields: Any) -> object:
    return pytest.param(fields, expected, id=name)


def places(tree: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Everything in a document that is read or could be, and where it stands."""
    yield path, tree
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in inner:
        if name not in UNREAD or isinstance(value, str):
            yield from places(value, (*path, name))


def with_(document: Json, path: Place, value: object) -> Json:
    """The document with something else at a place, or with one thing more."""
    whole = copy.deepcopy(document)
    part: Any = whole
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return whole
