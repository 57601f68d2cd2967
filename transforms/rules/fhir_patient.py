"""FHIR R4 Patient: demographics that bear on every release (death, majority, labels), and links to other identities.

Nothing of a Patient crosses. Sources: FHIR R4 Patient.link, .deceased[x], .birthDate, Meta.security.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Made, Person, digest
from schemas.instant import BEGINNING, FOREVER, from_fhir
from schemas.outcome import Reason, Verdict
from transforms.rules import fhir_marks
from transforms.rules.fhir import every_key, further, identifiers, is_related, key_of, named, patient_of
from transforms.rules.fhir_parts import Around, FhirIdentifier, Meta, Patient, Reference, objects
from transforms.rules.identity import beside, patient_key, preferred
from transforms.rules.sensitivity import adult_at, mark


def read(resource: Patient, around: Around) -> list[AnyFact]:
    """A Patient is demographics: nothing of it crosses, but that a patient died or is no adult bears on every release.
    One that links to another changes identity, for both sides, and stays linked in every later version: the same links
    told again are the same change. What is told is told by all of its numbers, and by the names that a Bundle gives
    besides."""
    own = Reference(f"Patient/{resource.id}") if resource.id else None
    local = patient_key(around.feed, own.reference or "") if own else ""
    known = identifiers(resource.identifier)
    number = preferred(known, around.reading.identity_types)
    keys = {number, local} - {""}
    beyond = {*every_key(known, around), *further(own, number, around)} - keys
    adult, died = _bearing(resource.birthDate, resource.deceasedBoolean, resource.deceasedDateTime, around)
    links = [link for link in resource.link or () if link.other is None or not is_related(link.other)]
    if not links:
        if not keys:
            return [Made(b"", "", "Patient", Verdict.CONTROL, Reason.DEMOGRAPHICS)]
        told = tuple(sorted(keys))
        name = key_of("Patient", resource.id, resource.meta, around, told[0], digest(told, adult, died)[:16])
        everyone = (*told, *sorted(beyond))
        people = [Person(name, side, "Patient", adult, died, place == 0) for place, side in enumerate(everyone)]
        return [*people, *_marked(resource, everyone, around)]
    others = [patient_of(link.other, around) for link in links]
    told = tuple(sorted({*keys, *others} - {""}))
    if not told:
        raise MessageError(Reason.NO_PATIENT)
    when = from_fhir((resource.meta or Meta()).lastUpdated, around.reading.zone)
    time = when.time + when.span if when else FOREVER  # of unknown date: no consent is known to come after it
    kinds = tuple(sorted(f"{link.type}|{other}" for link, other in zip(links, others, strict=True)))
    name = digest("link", tuple(sorted(keys)), kinds)
    beyond_others = {name for link, key in zip(links, others, strict=True) for name in further(link.other, key, around)}
    everyone = (*told, *sorted((beyond | beyond_others) - {*told}))
    facts: list[AnyFact] = [Identity(name, side, "Patient", time, place == 0) for place, side in enumerate(everyone)]
    if died or adult != BEGINNING:
        facts += [beside(side, "Patient", adult, died) for side in sorted(keys | beyond)]
    return facts + _marked(resource, everyone, around)


def contained(tree: Mapping[str, Any], patients: Iterable[str], around: Around) -> list[AnyFact]:
    """What the Patients that a resource contains say of themselves, beside what it is counted as: by each of their
    numbers, and by the one that a reference to them has. One that nothing refers to may be any of `patients`, whom the
    resource is about. Of what cannot be read nothing is known."""
    inside = tree["contained"] if isinstance(tree["contained"], list) else []
    people = [one for one in inside if isinstance(one, dict) and one.get("resourceType") == "Patient"]
    referred: defaultdict[str, list[FhirIdentifier]] = defaultdict(list)  # reference → the identifiers beside it
    for part in objects(tree) if people else ():
        if isinstance(text := part.get("reference"), str):
            referred[text] += named({"identifier": [part.get("identifier")]}) or ()
    called = {name: every_key(identifiers(beside_it), around) for name, beside_it in referred.items()}
    facts: list[AnyFact] = []
    for one in people:
        adult, died = _bearing(one.get("birthDate"), one.get("deceasedBoolean"), one.get("deceasedDateTime"), around)
        classes = fhir_marks.of_labels_in(one, around.reading.sensitivity)
        name = f"#{one.get('id')}"
        keys = every_key(identifiers(named(one)), around) | called.get(name, frozenset())
        for key in sorted(keys.union(() if name in referred else patients) - {""}):
            facts += [beside(key, "Patient", adult, died)] if died or adult != BEGINNING else []
            facts += [mark(key, (), classes)] if classes else []
    return facts


def _bearing(born: object, dead: object, when: object, around: Around) -> tuple[int, bool]:
    """When a Patient is of age (birthDate), and whether it died (deceased[x])."""
    adult = adult_at(str(born or ""), around.reading.sensitivity, around.reading.zone)
    return adult, dead not in (None, False) or str(when)[:4].isdigit()


def _marked(resource: Patient, sides: tuple[str, ...], around: Around) -> list[AnyFact]:
    """What the labels of a Patient say of everything that is known of it (Meta.security)."""
    classes = fhir_marks.of_label(resource.meta, around.reading.sensitivity) if resource.meta else ()
    return [mark(side, (), classes) for side in sides] if classes else []
