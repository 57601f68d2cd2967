"""Recipes: closed tables that say, per route, what becomes of each inbound field, and how identifying the result is.

A field without a row is dropped. The level is computed from the rows and never claimed by hand; a route states the
level that it requires, and a recipe that does not reach it fails when the policy loads.
Sources: 45 CFR 164.514(b)(2) (Safe Harbor), 164.514(e) (limited data set), 164.514(c) (re-identification codes).
"""

from enum import IntEnum, StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator


class Strict(BaseModel):
    """Root of everything that people write: unknown keys are errors, values never change, errors hide their input."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{1,19}$")]


class Action(StrEnum):
    """What may be done to a field. Closed: an action that is not here does not load."""

    KEEP = "keep"  # as it is; only for what identifies no patient
    DROP = "drop"  # the same as no row, said aloud
    TOKEN = "token"  # noqa: S105  a random, revocable stand-in for the patient
    YEAR = "year"  # the calendar year of a date
    TRUNCATE = "truncate"  # a date to its day
    ENUMERATE = "enumerate"  # one word of a closed set; a value outside of it becomes nothing


class Level(IntEnum):
    """How identifying a recipe's result is, from worst to best."""

    IDENTIFIED = 0
    LIMITED_DATA_SET = 1  # dates finer than a year: 45 CFR 164.514(e), under a data use agreement
    PSEUDONYMISED = 2  # a token stands for the patient
    SAFE_HARBOR = 3  # 45 CFR 164.514(b)(2)
    AGGREGATE = 4  # counts of at least k patients

    @property
    def label(self) -> str:
        """The word in policy, payload and audit.

        >>> Level.LIMITED_DATA_SET.label
        'limited-data-set'
        """
        return self.name.lower().replace("_", "-")


class FieldClass(StrEnum):
    """The classes of fields.yaml."""

    PHI = "phi"
    DERIVED_CLINICAL = "derived-clinical"
    OPERATIONAL = "operational"
    CONSENT_STATE = "consent-state"
    COMMERCIAL = "commercial"


class Identifies(StrEnum):
    """In which way a field points at a patient."""

    DIRECTLY = "directly"  # one of the identifiers of 164.514(b)(2)(i)
    BY_DATE = "by-date"  # (C): all elements of dates except the year
    NOT = "not"


class Field_(Strict):  # noqa: N801  pydantic's own `Field` is used beside it
    """One row of fields.yaml: an inbound field, classified before it is used."""

    field: str
    classification: FieldClass = Field(alias="class")
    identifies: Identifies
    owner: str
    reason: str
    retention: str
    consumers: tuple[str, ...]


class Row(Strict):
    """One row of a recipe: inbound field → action → outbound field."""

    field: str
    action: Action
    to: str = Field(default="", pattern=r"^([a-z][a-z_]{0,39})?$")
    values: dict[str, str] = {}
    precision: Literal["day"] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.action is Action.DROP) != (not self.to):
            raise ValueError("a row that is not dropped names the outbound field in `to`, and a dropped one does not")
        if (self.action is Action.ENUMERATE) != bool(self.values):
            raise ValueError("`values` belongs to the action enumerate, and enumerate needs it")
        if (self.action is Action.TRUNCATE) != (self.precision is not None):
            raise ValueError("`precision: day` belongs to the action truncate, and truncate needs it")
        return self


# (how a field points at a patient, what is done to it) → the best level that the result can have.
_LEVELS = {
    (Identifies.DIRECTLY, Action.TOKEN): Level.PSEUDONYMISED,
    (Identifies.BY_DATE, Action.TRUNCATE): Level.LIMITED_DATA_SET,
    (Identifies.BY_DATE, Action.KEEP): Level.LIMITED_DATA_SET,
    (Identifies.BY_DATE, Action.YEAR): Level.SAFE_HARBOR,
    (Identifies.NOT, Action.KEEP): Level.SAFE_HARBOR,
    (Identifies.NOT, Action.ENUMERATE): Level.SAFE_HARBOR,
}


def level_of(rows: tuple[Row, ...], fields: dict[str, Identifies], *, aggregated: bool) -> Level:
    """The level of a recipe: that of its worst row. A combination that is not in the table identifies.

    Counting makes dates harmless (no cell below k is published) but never an identifier.
    """
    kept = [row for row in rows if row.action is not Action.DROP]
    if aggregated:
        direct = any(fields[row.field] is Identifies.DIRECTLY for row in kept)
        return Level.IDENTIFIED if direct else Level.AGGREGATE
    return min((_LEVELS.get((fields[r.field], r.action), Level.IDENTIFIED) for r in kept), default=Level.SAFE_HARBOR)
