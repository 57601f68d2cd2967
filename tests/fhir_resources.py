"""FHIR resources for tests of their readers: a feed called `ehr`, an identifier, two times, and what a refusal says."""

from datetime import UTC
from typing import Any

import pytest

from schemas.errors import MessageError
from schemas.outcome import Reason
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.reading import Reading

READING = Reading("ehr", "UTF-8", UTC, ("MR", "MRN", "EPI", "PI", ""))
AROUND = Around(READING)
TABLE_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
ENDED = "2024-05-01T12:00:00Z"
TOUCHED = "2024-05-02T08:00:00Z"
KEY = "ehr\x1fPatient/7"


def typed(*codes: str, value: str = "42", system: str = "urn:id:MAIN", **more: str) -> dict[str, Any]:
    """An identifier of these types."""
    return {
        "type": {"coding": [{"system": TABLE_0203, "code": c} for c in codes]},
        "system": system,
        "value": value,
    } | more


def refusal(tree: object, around: Around = AROUND) -> Reason:
    with pytest.raises(MessageError) as caught:
        read(tree, around)
    return caught.value.reason
