"""FHIR R4: who a resource is about, and what lies around it. What happened is read by `fhir_events`.

Sources: FHIR R4 Reference (literal, logical, conditional), Identifier, Bundle, contained resources.
"""

from collections.abc import Iterable, Mapping

import msgspec

from transforms.rules import contact, fhir_marks
from transforms.rules.fhir_parts import (
    Around,
    Concept,
    FhirIdentifier,
    Meta,
    Reference,
    modified,
    split_reference,
)
from transforms.rules.identity import (
    MOST_NUMBERS,
    NEVER,
    Identifier,
    idempotency_key,
    national_provider,
    patient_key,
    preferred,
    usable,
)

NPI_SYSTEM = "http://hl7.org/fhir/sid/us-npi"
TABLE_0203 = ("v2-0203", "v2/0203")  # how its system ends; the second is STU3's
OWN_NUMBERS = frozenset({"VN", "PLAC"})  # HL7 table 0203: visit number, placer identifier


# --- who -----------------------------------------------------------------------------------------------------------


def identifiers(found: list[FhirIdentifier] | None) -> list[Identifier]:
    """FHIR identifiers with their type as an HL7 table 0203 code; "" where untyped, "?" where of another system.

    One of use `old` is left out: Identifier.use is a modifier, and the number may be somebody else's by now.
    """
    return [
        Identifier(one.system or "", (one.value or "").strip(), _identifier_type(one.type))
        for one in found or ()
        if one.use != "old"
    ]


def _identifier_type(concept: Concept | None) -> str:
    if concept is None or not concept.coding:
        return ""
    codes = _of_table_0203(concept)
    return next((code for code in codes if code in NEVER), codes[0] if codes else "?")


def _of_table_0203(concept: Concept) -> list[str]:
    return [
        coding.code for coding in concept.coding or () if coding.code and (coding.system or "").endswith(TABLE_0203)
    ]


def visit_numbers(found: list[FhirIdentifier] | None) -> list[str | None]:
    """The numbers of a visit or booking, its own first, whatever their order: one typed as such, as HL7 has it in
    PV1-19 and SCH-1, then one of use `official`, then by their text; one of use `old` last."""
    return [one.value for one in (sorted(found, key=_rank) if found and len(found) > 1 else found or ())]


def _rank(one: FhirIdentifier) -> tuple[bool, bool, bool, str]:
    own = one.type is not None and not OWN_NUMBERS.isdisjoint(_of_table_0203(one.type))
    return one.use == "old", not own, one.use != "official", one.value or ""


def patient_of(reference: Reference | None, around: Around) -> str:
    """The patient key that a reference stands for, "" where it stands for no patient or could stand for two."""
    if reference is None or (reference.type or "Patient") != "Patient":
        return ""
    if not reference.reference:  # the usual case in a feed: known by identifier alone
        return _by_identifier(reference, around)
    text = reference.reference.partition("/_history/")[0]
    base, local = split_reference(text)
    literal = local.startswith("Patient/") and local != "Patient/"
    if text and not literal and text not in around.patients and not text.startswith(("urn:", "#", "Patient?")):
        return ""  # of another type: a group, a device
    if key := _by_identifier(reference, around):
        return key
    if text in around.patients and (held := around.patients[text]) != "":
        return held or ""
    source = around.feed
    if text.startswith("urn:"):
        return patient_key(source, text)
    if text.startswith("Patient?"):
        return _conditional(text)
    return patient_key(base or source, local) if literal else ""


def further(reference: Reference | None, patient: str, around: Around) -> list[str]:
    """The other keys of a patient who has this key, or is meant by this reference, sorted: those of the further numbers
    of a Patient around; and of a literal reference in a Bundle the other one, since a relative one means what is there
    under the base URL of its entry's fullUrl, and is what a feed without fullUrls calls the same patient (FHIR R4
    2.36.4). For what only ever withholds: it binds by whichever of them an event goes.
    """
    if not around.numbers and not around.base:  # the usual case
        return []
    text = (reference.reference or "") if reference is not None else ""
    found = {*around.numbers.get(patient, ()), *around.numbers.get(text.partition("/_history/")[0], ())}
    base, local = split_reference(text)
    if local.startswith("Patient/") and local != "Patient/" and around.base:
        if not base:
            found.add(patient_key(around.base, local))
        elif base == around.base:
            found.add(patient_key(around.feed, local))
    return sorted(found - {"", patient})


def every_key(known: list[Identifier], around: Around) -> frozenset[str]:
    """The patient key of each identifier that may be used; none of too many, which are no one's."""
    found = usable(known, around.reading.identity_types)
    return found if len(found) <= MOST_NUMBERS else frozenset()


def _by_identifier(reference: Reference, around: Around) -> str:
    """The patient key by the identifier that a reference carries, "" if it has none to use."""
    one = reference.identifier
    return "" if one is None else preferred(identifiers([one]), around.reading.identity_types)


def is_patient(reference: Reference, around: Around) -> bool:
    """Does it name a patient, whether or not it is known which?"""
    text = reference.reference or ""
    named = text.startswith("Patient?") or split_reference(text)[1].startswith("Patient/") or text in around.patients
    return named or reference.type == "Patient"


def is_numbered(reference: Reference, around: Around) -> bool:
    """Is it named by nothing but an identifier of a type that patients have, such as a medical record number?"""
    if reference.reference or reference.type is not None or reference.identifier is None:
        return False
    typed = [one for one in around.reading.identity_types if one]
    return preferred(identifiers([reference.identifier]), typed) != ""


def is_related(reference: Reference) -> bool:
    """Does it clearly name a RelatedPerson (a mother, a guardian)? Patient.link may: no other record of the patient."""
    text = (reference.reference or "").partition("?")[0]
    return split_reference(text)[1].partition("/")[0] == "RelatedPerson" or (
        not text and reference.type == "RelatedPerson"
    )


def same_patient(one: Reference, other: Reference | None, patient: str, around: Around) -> bool:
    """Is it the patient, by the patient's key or by the very reference that the document has for its patient?"""
    same = other is not None and one.reference is not None and one.reference == other.reference
    return same or patient_of(one, around) == patient


def _conditional(text: str) -> str:
    """The patient key of a conditional reference, which names its target by one identifier (FHIR R4, 3.1.0.11.3). In a
    URL the mark between system and value may be percent-encoded."""
    written = text.removeprefix("Patient?identifier=").replace("%7C", "|").replace("%7c", "|")
    system, _, value = written.partition("|")
    return "" if {"?", "&"} & {*system, *value} else preferred([Identifier(system, value, "")], ("",))


def key_of(kind: str, name: str | None, meta: Meta | None, around: Around, patient: str, what: bytes) -> bytes:
    """Which message a resource of that type is: by the envelope that carried it, else by its id and version."""
    if around.native:
        return idempotency_key(around.source, around.envelope, patient, around.native, "", what)
    meta = meta or Meta()
    version = meta.versionId or meta.lastUpdated or what.hex()
    return idempotency_key(around.feed, kind, patient, f"{kind}/{name}" if name else "", version, what)


# --- what lies around it -------------------------------------------------------------------------------------------


def containing(resources: list[dict[str, object]], around: Around) -> Around:
    """With what a resource contains and calls by #id."""
    return within([([f"#{one.get('id')}"], one) for one in resources], around)


SOURCES = frozenset({"DocumentReference", "QuestionnaireResponse", "Contract", "Consent"})  # Consent.sourceReference
# of which others in a Bundle may speak
REFERRED = SOURCES | {"Patient", "Practitioner", "Condition", "Location", "Organization"}


def within(resources: Iterable[tuple[list[str], Mapping[str, object]]], around: Around) -> Around:
    """With what resources that lie together say of one another; each comes with the names that others call it by. A
    name that means two patients means none."""
    patients, providers = dict(around.patients), dict(around.providers)
    channels, marks, documents = dict(around.channels), dict(around.marks), dict(around.documents)
    organisations, numbers = dict(around.organisations), dict(around.numbers)
    for names, tree in resources:
        kind = tree.get("resourceType")
        if kind == "Patient":
            key, keys = patient_in(tree, around)
            channel = contact.of_fhir(tree.get("telecom"))
            for name in names:
                patients[name] = key if patients.get(name, key) == key else None
                channels[name] = channel if channels.get(name, channel) == channel else ""
            for name in (*names, *keys):  # one set for all of them, unless two Patients share a name
                known = numbers.get(name, keys)
                numbers[name] = known if known is keys or len(known) > MOST_NUMBERS else known | keys
        elif kind == "Practitioner":
            stated = [i.value or "" for i in named(tree) or () if i.system == NPI_SYSTEM]
            providers.update({name: national_provider(stated[0]) if stated else "" for name in names})
        elif kind in ("Condition", "Location"):
            marking = fhir_marks.condition if kind == "Condition" else fhir_marks.location
            classes, others = marking(tree, around.reading.sensitivity)
            if classes:
                marks.update({name: tuple({*marks.get(name, ()), *classes}) for name in (*names, *others)})
        elif kind == "Organization":
            number = _sole_identifier(tree)
            organisations.update({name: number if organisations.get(name, number) == number else "" for name in names})
        elif isinstance(kind, str) and kind in SOURCES:
            documents.update({name: tree if documents.get(name, tree) is tree else None for name in names})
    return msgspec.structs.replace(
        around, patients=patients, providers=providers, channels=channels, marks=marks, documents=documents,
        organisations=organisations, numbers=numbers,
    )  # fmt: skip


def patient_in(tree: Mapping[str, object], around: Around) -> tuple[str | None, frozenset[str]]:
    """The patient key by the identifiers of a Patient, "" if it has none to use, None if they cannot be read; and the
    keys of all that may be used."""
    found = named(tree)
    known = identifiers(found)
    return None if found is None else preferred(known, around.reading.identity_types), every_key(known, around)


def _sole_identifier(tree: Mapping[str, object]) -> str:
    """system|value of what has exactly one identifier, is in use, and has no modifier that nobody here knows."""
    found = named(tree) or []
    if len(found) != 1 or tree.get("active", True) is not True or "implicitRules" in tree or modified(tree):
        return ""
    [one] = found
    return f"{one.system}|{one.value}" if one.system and one.value and one.use != "old" else ""


def named(tree: Mapping[str, object]) -> list[FhirIdentifier] | None:
    """The identifiers of a resource that may have several; None if they cannot be read."""
    try:
        return msgspec.convert(tree.get("identifier"), list[FhirIdentifier] | None) or []
    except msgspec.ValidationError:
        return None
