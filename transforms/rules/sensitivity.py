"""Before consent: what is specially protected, and who is of age.

A mark is read from where, by whom and under which label something happened, never from free text. One mark on any copy
binds. Rule sources: 42 CFR Part 2 (substance use disorder), 45 CFR 164.508(a)(2) (psychotherapy notes), state rules on
HIV, reproductive health and minors; all of them as the policy's sensitivity.yaml words them.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import date, tzinfo
from functools import lru_cache
from typing import NamedTuple

from schemas.instant import BEGINNING, from_fhir
from schemas.policy import Sensitivity as Written

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?", re.ASCII)
_YEAR = re.compile(r"(?:18|19|20)\d\d", re.ASCII)


class Sensitivity(NamedTuple):
    """The policy's lists, ready to be looked up in. `labels` are (system, code), the others in capitals; `diagnoses` by
    their first letter."""

    labels: frozenset[tuple[str | None, str]] = frozenset()
    services: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()
    facilities: frozenset[str] = frozenset()
    diagnoses: Mapping[str, tuple[str, ...]] = {}
    majority_age: int = 18


def compiled(written: Written) -> Sensitivity:
    """The lists of a policy."""
    # a code without its system is taken at its word
    labels = frozenset(
        (known, code) for system, codes in written.labels.items() for code in codes for known in (system, None)
    )
    services, locations, facilities = (
        frozenset(map(str.upper, codes)) for codes in (written.services, written.locations, written.facilities)
    )
    letters = {code[0] for code in written.diagnoses}
    diagnoses = {letter: tuple(code for code in written.diagnoses if code[0] == letter) for letter in letters}
    return Sensitivity(labels, services, locations, facilities, diagnoses, written.majority_age)


def labelled(codings: Iterable[tuple[str | None, str | None]], known: Sensitivity) -> bool:
    """Does a security label mark it? FHIR Meta.security."""
    return any(coding in known.labels for coding in codings)


def served(codes: Iterable[str | None], known: Sensitivity) -> bool:
    """Does the service mark it? FHIR serviceType, HL7 PV1-10."""
    return any(code.upper() in known.services for code in codes if code)


def diagnosed(codes: Iterable[str], known: Sensitivity) -> bool:
    """Does a diagnosis mark it? HL7 DG1-3, PV2-3; FHIR reasonCode, diagnosis, Condition.code. Of whatever code system:
    a code of another one that begins alike is marked too."""
    begins = known.diagnoses
    return any(
        code.upper().replace(".", "").startswith(begins[letter])
        for code in codes
        if (letter := code[:1].upper()) in begins
    )


def adult_at(born: str, known: Sensitivity, local: tzinfo) -> int:
    """The instant of majority of who was born on that date (YYYY, YYYY-MM or YYYY-MM-DD).

    Of a date that is not whole the last day counts, and of any other text the last year in it. Without one it is not
    known: BEGINNING.

    >>> from datetime import UTC
    >>> adult_at("2008-02-29", Sensitivity(), UTC) == from_fhir("2026-03-01").time
    True
    """
    majority = _of_a_date if len(born) <= 10 else _majority
    return majority(born, known.majority_age, local)


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
