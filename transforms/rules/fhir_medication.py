"""Which medication is meant, and for how many days it lasts.

The medication stays inside: only its digest is kept, so that what was dispensed can be told from what was not.
Sources: FHIR R4 MedicationRequest, MedicationDispense (medication[x], daysSupply); UCUM (d, wk).
"""

import msgspec

from schemas.event import digest
from schemas.instant import DAY
from transforms.rules.fhir_parts import Concept, Medicated, Quantity

RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM = "http://unitsofmeasure.org"
LONGEST = 365  # days; what is said to last longer is taken for a mistake
_DAYS = {"d": 1, "day": 1, "days": 1, "wk": 7}


def supplied(stated: Quantity | None) -> int | None:
    """How long a supply lasts, in microseconds; None where it does not say so in days or weeks.

    >>> supplied(Quantity(value=30, unit="days")) == 30 * DAY
    True
    """
    if stated is None or stated.value is None or stated.comparator is not None:
        return None
    if stated.system is not None and stated.system != UCUM:
        return None
    unit = _DAYS.get(stated.code if stated.code is not None else (stated.unit or "d").lower())
    if unit is None or not 0 < stated.value * unit <= LONGEST:
        return None
    return round(stated.value * unit * DAY)


def course(resource: Medicated, source: str) -> str:
    """Which medication, as text that tells nothing; "" where it cannot be told apart from others."""
    if name := _coded(resource.medicationCodeableConcept):
        return name
    reference = resource.medicationReference
    if reference is None:
        return ""
    if reference.identifier is not None and reference.identifier.value:
        return _named(reference.identifier.system or "", reference.identifier.value)
    text = (reference.reference or "").partition("/_history/")[0]
    if text.startswith("#"):
        return _contained(resource, text[1:])
    if text.startswith(("Medication/", "http://", "https://")):
        return _named(source if text.startswith("Medication/") else "", text)
    return ""


def _coded(concept: Concept | None) -> str:
    """By RxNorm where it is coded so, else by the first code."""
    codings = [one for one in (concept.coding if concept else None) or () if one.code]
    chosen = next((one for one in codings if one.system == RXNORM), codings[0] if codings else None)
    return "" if chosen is None else _named(chosen.system or "", chosen.code or "")


def _contained(resource: Medicated, name: str) -> str:
    for one in resource.contained or ():
        if one.get("resourceType") == "Medication" and one.get("id") == name:
            try:
                return _coded(msgspec.convert(one.get("code"), Concept | None))
            except msgspec.ValidationError:
                return ""
    return ""


def _named(system: str, value: str) -> str:
    return digest("medication", system, value)[:16].hex()
