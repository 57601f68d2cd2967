"""The policy's tables, ready to be looked up in: programmes and their tiers, studies and their approvals, refills.

What one patient's timeline cannot know enters as dated tables only; a missing row withholds.
Rule sources: DESIGN section 3 (laws of the drivers), 45 CFR 164.508 and 21 CFR 56.103 (no recruitment before the IRB's
approval).
"""

from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from schemas.instant import DAY, from_fhir, zone
from schemas.policy import Policy


class Tables(NamedTuple):
    """What a reader looks up. `programmes`: "system|code" of an EpisodeOfCare.type → support tier. `studies`: a study
    as its source names it → protocol code. `gap` and `first_fill` in microseconds."""

    programmes: Mapping[str, str] = {}
    studies: Mapping[str, str] = {}
    gap: int = 0
    first_fill: int = 0


class Recruiting(NamedTuple):
    """From when (protocol and site approved) until when a study may recruit."""

    begins: int
    ends: int


def tables(policy: Policy) -> Tables:
    """The tables of the readers."""
    studies = {name: study.protocol for study in policy.studies for name in study.names}
    return Tables(policy.programmes, studies, policy.refill.gap_days * DAY, policy.refill.first_fill_days * DAY)


def recruiting(policy: Policy) -> dict[str, Recruiting]:
    """Protocol code → when it may recruit."""

    def midnight(day: date) -> int:
        found = from_fhir(day.isoformat(), zone(policy.zone))
        assert found is not None  # noqa: S101  a date that pydantic read
        return found.time

    return {
        study.protocol: Recruiting(midnight(max(study.protocol_approved, study.site_approved)), midnight(study.closes))
        for study in policy.studies
    }
