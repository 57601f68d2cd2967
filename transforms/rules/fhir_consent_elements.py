"""The elements of a FHIR R4 Consent and of its parts, as closed lists: what is on none of them is not understood.

Such a key may be of another release and turn the meaning round (R5 `decision`, STU3 `except`), stand in a place where
nobody reads it (`period` at the root), be misspelt (`ende`), or say of an element that is read why it has no value
(`_end`, with a data-absent-reason). A modifierExtension is on no list. An extension is no modifier and may be there, as
may the language of a text that nobody reads.

Source: FHIR R4 (4.0.1) Consent, Element, Meta, Narrative, Identifier, Reference, CodeableConcept, Coding, Period,
Attachment; 2.6.2, JSON representation: an element that is there is never null and never empty.
"""

from collections.abc import Mapping
from typing import Any

from transforms.rules.fhir_parts import modified

Elements = Mapping[str, Any]  # each to those of its own, None where nothing in it is read


def _elements(names: str, **parts: Elements) -> dict[str, Any]:
    return {**dict.fromkeys(["id", "extension", "fhir_comments", *names.split()]), **parts}


CODING = _elements("system version code display _display userSelected")
CONCEPT = _elements("text _text", coding=CODING)
PERIOD = _elements("start end")
IDENTIFIER = _elements("use system value", type=CONCEPT, period=PERIOD)
REFERENCE = _elements("reference type display _display", identifier=IDENTIFIER)
IDENTIFIER["assigner"] = REFERENCE
META = _elements("versionId lastUpdated source profile", security=CODING, tag=CODING)
ATTACHMENT = _elements("contentType language data url size hash title _title creation")
POLICY = _elements("authority _authority uri _uri")
VERIFICATION = _elements("verified verificationDate _verificationDate", verifiedWith=REFERENCE)
ACTOR = _elements("", role=CONCEPT, reference=REFERENCE)
DATA = _elements("meaning", reference=REFERENCE)
PROVISION = _elements(
    "type", period=PERIOD, actor=ACTOR, action=CONCEPT, securityLabel=CODING, purpose=CODING, code=CONCEPT,
    dataPeriod=PERIOD, data=DATA, **{"class": CODING},
)  # fmt: skip
PROVISION["provision"] = PROVISION
CONSENT = _elements(
    "resourceType implicitRules language _language text contained status dateTime",
    meta=META, identifier=IDENTIFIER, scope=CONCEPT, category=CONCEPT, patient=REFERENCE, performer=REFERENCE,
    organization=REFERENCE, sourceAttachment=ATTACHMENT, sourceReference=REFERENCE, policy=POLICY, policyRule=CONCEPT,
    verification=VERIFICATION, provision=PROVISION,
)  # fmt: skip


def understood(tree: Mapping[str, object]) -> bool:
    """Has a Consent, however deep, no element but those of FHIR R4, none of them empty, and no modifier?"""
    return _known(tree, CONSENT)


def _known(part: Mapping[str, object], elements: Elements) -> bool:
    for name, value in part.items():
        if name not in elements or not (value if isinstance(value, str) else _each(value, elements[name])):
            return False
    return bool(part)


def _each(value: object, elements: Elements | None) -> bool:
    """The same of an element that is no text: of one part, or of each in a list."""
    if isinstance(value, dict):
        return bool(value) and not modified(value) if elements is None else _known(value, elements)
    if isinstance(value, list):
        for one in value:
            if not _each(one, elements):
                return False
        return bool(value)
    return value is not None and value != ""
