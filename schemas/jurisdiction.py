"""What the law of a jurisdiction asks of an authorization beyond the federal floor, as people write it: one row each.

A row holds what a program can enforce and nothing else; what its law asks besides is for the hospital's forms and its
counsel. Rule source: DESIGN section 3, Consent (scopes: jurisdiction); 45 CFR 160.203(b): state law that is more
stringent stands beside the federal rule.
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.recipe import Strict

Place = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]  # ISO 3166-1 or 3166-2
Lasts = Annotated[int, Field(ge=1, le=36_500)]  # days


class Jurisdiction(Strict):
    """One jurisdiction. `law` is where its rules stand, in words. `within`: it inherits the rules of that one, and its
    consent forms are forms here too; of two limits the stricter holds.

    `majority_years`: the age at which a patient is of age; without it that of the one it lies within. The limits are
    those of permits, never of denials: `permit_needs_end`: one that states no end grounds nothing; `permit_days`: none
    is valid for longer, from when it was given, whatever it says; `silent_permit_days`: how long one is valid that
    states no end.
    """

    law: str = Field(min_length=1)
    within: Place | None = None
    majority_years: int | None = Field(default=None, ge=14, le=21)
    permit_needs_end: bool = False
    permit_days: Lasts | None = None
    silent_permit_days: Lasts | None = None


def lineage(place: str, known: Mapping[str, Jurisdiction]) -> tuple[str, ...]:
    """A jurisdiction and those that it lies within, from the inside out. Raises ValueError where one is unknown, or
    lies within itself."""
    found: list[str] = []
    around: str | None = place
    while around is not None:
        if around in found:
            raise ValueError(f"jurisdictions.yaml: {around} lies within itself")
        if around not in known:
            raise ValueError(f"unknown jurisdiction {around}; jurisdictions.yaml knows {', '.join(sorted(known))}")
        found.append(around)
        around = known[around].within
    return tuple(found)
