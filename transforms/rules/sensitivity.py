"""Before consent: what is specially protected, and who is of age.

A mark is read from where, by whom and under which label something happened, never from free text. It says of which
class the event is: only a permit that names the class lets it out. One mark on any copy binds. Rule sources: 42 CFR
Part 2 (substance use disorder), 45 CFR 164.508(a)(2) (psychotherapy notes), state rules on HIV and reproductive health,
as the policy's sensitivity.yaml words them; the age of majority is that of its jurisdiction.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, tzinfo
from functools import lru_cache
from typing import NamedTuple, TypeVar

from schemas.event import Mark, digest
from schemas.instant import BEGINNING, from_fhir
from schemas.policy import Policy

# HL7 sets this confidentiality on whatever a sensitivity code marks (DS4P): beside one it adds nothing
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
RESTRICTED_LABEL = (CONFIDENTIALITY, "R")
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
# What follows decides nothing: the dash, dagger, asterisk or words of those who write more than the code.
_ICD_10 = re.compile(r"[A-Z][0-9][0-9A-Z]\.?[0-9A-Z]{0,4}(?![0-9A-Z])")
_YEAR = re.compile(r"(?:18|19|20)\d\d", re.ASCII)

Classes = tuple[str, ...]  # of specially protected information; as marks are gathered one may come twice
Label = tuple[str | None, str | None]  # the system and code of a security label
Key = TypeVar("Key")


class Sensitivity(NamedTuple):
    """The policy's lists, ready to be looked up in: what stands in them → its classes. `services`, `vips`, `locations`
    and `facilities` in capitals; `diagnoses` by their first letter, longest first; `alone`: classes whose permit must
    stand alone. `majority_years`: who is of age."""

    labels: Mapping[Label, Classes] = {}
    services: Mapping[str, Classes] = {}
    vips: Mapping[str, Classes] = {}
    locations: Mapping[str, Classes] = {}
    facilities: Mapping[str, Classes] = {}
    diagnoses: Mapping[str, Sequence[tuple[str, Classes]]] = {}
    alone: frozenset[str] = frozenset()
    majority_years: int = 18


def compiled(policy: Policy) -> Sensitivity:
    """The lists of a policy, of those classes that are protected in its jurisdiction."""
    places = set(policy.lineage)
    classes = [
        (name, one)
        for name, one in sorted(policy.sensitivity.classes.items())
        if one.jurisdictions is None or places & set(one.jurisdictions)
    ]
    # a code without its system is taken at its word
    labels = [
        (label, name)
        for name, one in classes
        for system, codes in one.labels.items()
        for code in codes
        for label in ((system, code), (None, code.upper()))
    ]
    begins = _gathered((code, name) for name, one in classes for code in one.diagnoses)
    diagnoses = {
        letter: sorted((one for one in begins.items() if one[0][0] == letter), key=lambda one: -len(one[0]))
        for letter in {code[0] for code in begins}
    }
    return Sensitivity(
        _gathered(labels),
        _gathered((code.upper(), name) for name, one in classes for code in one.services),
        _gathered((code.upper(), name) for name, one in classes for code in one.vips),
        _gathered((code.upper(), name) for name, one in classes for code in one.locations),
        _gathered((code.upper(), name) for name, one in classes for code in one.facilities),
        diagnoses,
        frozenset(name for name, one in classes if one.alone),
        policy.majority_years,
    )


def _gathered(rows: Iterable[tuple[Key, str]]) -> dict[Key, Classes]:
    found: defaultdict[Key, Classes] = defaultdict(tuple)
    for key, name in rows:
        if name not in found[key]:
            found[key] += (name,)
    return dict(found)


def labelled(labels: Sequence[Label], known: Sensitivity) -> Classes:
    """Of which classes security labels make it, of whatever system: the same code has had several. FHIR
    Meta.security."""
    codes = {(None, (code or "").strip().upper()) for _, code in labels}
    restricted = (None, RESTRICTED_LABEL[1])
    stated = [name for code in codes if code != restricted for name in known.labels.get(code, ())]
    return tuple(stated) or (known.labels.get(restricted, ()) if restricted in codes else ())


def served(codes: Iterable[str], known: Sensitivity) -> Classes:
    """Of which classes the service makes it. FHIR serviceType, serviceCategory, specialty; HL7 PV1-10, AIS-3."""
    return _listed(codes, known.services)


def distinguished(codes: Iterable[str], known: Sensitivity) -> Classes:
    """Of which classes it is because of who the patient is. HL7 PV1-16."""
    return _listed(codes, known.vips)


def placed(codes: Iterable[str], known: Sensitivity) -> Classes:
    """Of which classes the place makes it. FHIR Encounter.location, Appointment.participant; HL7 PV1-3, AIL-3."""
    return _listed(codes, known.locations)


def _listed(codes: Iterable[str], table: Mapping[str, Classes]) -> Classes:
    return tuple([name for code in codes for name in table.get(code.strip().upper(), ())])


def diagnosed(codes: Iterable[str], known: Sensitivity) -> Classes:
    """Of which classes diagnoses make it. HL7 DG1-3, PV2-3; FHIR reasonCode, diagnosis, Condition.code. Of whatever
    code system: what has the shape of ICD-10 and begins alike is marked too, a word that begins alike is not."""
    found: Classes = ()
    for stated in codes:
        code = stated.strip().upper()
        listed = known.diagnoses.get(code[:1], ())
        for begins, classes in listed if listed and _ICD_10.match(code) else ():
            if code.replace(".", "").startswith(begins):
                found += classes
                break
    return found


def mark(patient: str, numbers: Iterable[str | None], classes: Iterable[str]) -> Mark:
    """What a message that states no milestone says of a visit, by these of its numbers; without one, of the patient."""
    visits, of = tuple(sorted({number for number in numbers if number})), tuple(sorted({*classes}))
    return Mark(digest("mark", patient, visits, of), patient, "", visits, of)


def adult_at(born: str, known: Sensitivity, local: tzinfo) -> int:
    """The instant of majority of who was born on that date (YYYY, YYYY-MM or YYYY-MM-DD).

    Of a date that is not whole the last day counts, and of any other text the last year in it. Without one it is not
    known: BEGINNING.

    >>> from datetime import UTC
    >>> adult_at("2008-02-29", Sensitivity(), UTC) == from_fhir("2026-03-01").time
    True
    """
    majority = _of_a_date if len(born) <= 10 else _majority
    return majority(born, known.majority_years, local)


def _majority(born: str, age: int, local: tzinfo) -> int:
    parts = born.split("-") if _DATE.fullmatch(born) else _YEAR.findall(born)[-1:]
    if not parts:
        return BEGINNING
    try:
        year, month = int(parts[0]), int(parts[1]) if len(parts) > 1 else 12
        day = int(parts[2]) if len(parts) > 2 else 31
        year += age
        while day > 28 and not _exists(year, month, day):
            year, month, day = (year, month + 1, 1) if len(parts) > 2 else (year, month, day - 1)
        found = from_fhir(date(year, month, day).isoformat(), local)
    except (ValueError, OverflowError):  # no such month or day: the year counts
        return _majority(parts[0], age, local) if len(parts) > 1 else BEGINNING
    return found.time if found else BEGINNING


_of_a_date = lru_cache(maxsize=65536)(_majority)  # there are fewer days on which the living were born


def _exists(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True
