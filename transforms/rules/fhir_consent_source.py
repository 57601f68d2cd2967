"""The source document of a FHIR R4 Consent: that there is one, which form it is, and whether it is in force.

    sourceAttachment     a scan, or where it lies: that there is one, never what it holds
    sourceReference      a document of one of the `TYPES`. One that lies in the Consent or in the same Bundle names its
                         form, and must be understood, in force, and of this patient: else it is not sound

A document that did not come with the message says nothing: the Consent stands for itself. The words of each status are
closed lists; Contract.status `renewed` may mean the old contract or the new one, hence neither.
Rule source: 45 CFR 164.508(b)(6), (c)(1)(vi); FHIR R4 Consent.source[x], Reference, canonical; the value sets
document-reference-status, composition-status, questionnaire-answers-status, contract-status, consent-state-codes.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from transforms.rules.consent_forms import CANONICAL, ROOT_IS_BASE_DENY
from transforms.rules.fhir import same_patient
from transforms.rules.fhir_consent_elements import understood
from transforms.rules.fhir_parts import Around, Coding, Concept, Meta, Part, Reference, modified, split_reference

ATTACHED = ("data", "url", "hash")  # by what an Attachment names a document
SETTLED = (None, "final", "amended")  # DocumentReference.docStatus, which need not be there
NOTHING: tuple[object, ...] = (None, "", [], {})  # what no element of FHIR's JSON is


class Source(NamedTuple):
    """What the source of a Consent says. `stated`: it names a document; `codings`: how the document names its form;
    `sound`: nothing in the message speaks against it."""

    stated: bool = False
    codings: tuple[Coding, ...] = ()
    sound: bool = True


class Type(NamedTuple):
    """A type of document: the elements that name its form by code, the one that says whom it is about, the words of its
    status that say that it is in force, and the element that names its form by a URL."""

    form: tuple[str, ...]
    subject: str
    in_force: tuple[str, ...]
    canonical: str = ""


TYPES = {
    "DocumentReference": Type(("type", "category"), "subject", ("current",)),
    "QuestionnaireResponse": Type((), "subject", ("completed", "amended"), "questionnaire"),
    "Contract": Type(("type", "subType"), "subject", ("executed", "amended", "appended", "resolved")),
    "Consent": Type(("category", "policyRule"), "patient", ("active",)),
}
Tree = Mapping[str, Any]
NONE = Source()
UNSOUND = Source(sound=False)


class Root(Part, frozen=True, gc=False):
    """The root provision of a Consent that is a source."""

    type: str | None = None


def source(consent: Tree, named: Reference | None, patient: str, around: Around) -> Source:
    """What the source of a Consent says, given as its JSON; `named` is its Consent.patient and `patient` whose key that
    gives. Never raises: what cannot be read is not sound."""
    attached, referred = consent.get("sourceAttachment"), consent.get("sourceReference")
    if referred is None:
        if attached is None:
            return NONE
        return Source(isinstance(attached, dict) and any(isinstance(attached.get(part), str) for part in ATTACHED))
    if attached is not None:  # of a choice of types FHIR R4 has one
        return UNSOUND
    try:
        one = msgspec.convert(referred, Reference)
        document = _found(one, consent, around)
        return document if isinstance(document, Source) else _read(document, _local(one), named, patient, around)
    except (msgspec.ValidationError, RecursionError):
        return UNSOUND


def _found(one: Reference, consent: Tree, around: Around) -> Tree | Source:
    """The document that a reference stands for; what the reference says by itself where there is none."""
    text, _, version = (one.reference or "").partition("/_history/")
    local = split_reference(text)[1]
    placed = bool(text) and not text.startswith(("#", "urn:"))  # it names its type, and can be looked for elsewhere
    kind = local.partition("/")[0].partition("?")[0] if placed else one.type
    itself = local == f"Consent/{consent.get('id')}"
    if kind not in (None, *TYPES) or one.type not in (None, kind) or itself:
        return UNSOUND
    if text not in around.documents:
        called = one.identifier is not None and bool(one.identifier.value)
        return Source(called or placed, sound=not _local(one))
    document = around.documents[text]
    if document is None or document is consent or kind not in (None, document["resourceType"]):
        return UNSOUND
    meta = msgspec.convert(document.get("meta"), Meta | None) or Meta()
    return document if version in ("", meta.versionId) else UNSOUND


def _read(document: Tree, inside: bool, named: Reference | None, patient: str, around: Around) -> Source:
    """What a document says that came with the message. `inside`: the Consent contains it, so that both mean the same by
    #id; what lies beside it means something of its own."""
    kind = TYPES[document["resourceType"]]
    concepts = [msgspec.convert(one, Concept) for element in kind.form for one in _listed(document, element)]
    subjects = [msgspec.convert(one, Reference) for one in _listed(document, kind.subject)]
    codings = [coding for concept in concepts for coding in concept.coding or ()]
    if kind.canonical and (canonical := document.get(kind.canonical)):
        codings.append(_canonical(msgspec.convert(canonical, str)))
    sound = (
        document.get("status") in kind.in_force
        and document.get("docStatus") in SETTLED
        and all(same_patient(one, named, patient, around) and (inside or not _local(one)) for one in subjects)
        and "implicitRules" not in document
        and not modified(document)
        and not any(value in NOTHING for value in document.values())
    )
    if document["resourceType"] == "Consent" and sound:
        root = msgspec.convert(document.get("provision"), Root | None) or Root()
        sound = understood(document) and (root.type != "deny" or around.reading.consents.root == ROOT_IS_BASE_DENY)
    return Source(True, tuple(codings), sound)


def _canonical(stated: str) -> Coding:
    """A questionnaire as the policy's forms write it: url|version, without a version urn:canonical|url."""
    url, _, version = stated.partition("|")
    return Coding(url, version) if version else Coding(CANONICAL, url)


def _local(one: Reference) -> bool:
    return (one.reference or "").startswith("#")


def _listed(document: Tree, element: str) -> list[Any]:
    """The values of an element that is a list in one type and none in another."""
    value = document.get(element)
    return value if isinstance(value, list) else [] if value is None else [value]
