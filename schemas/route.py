"""A route as people write it: one purpose of one destination, what it takes, on which basis, by which recipe."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from schemas.event import Kind
from schemas.instant import DAY
from schemas.recipe import Action, Code, Name, Row, Strict


class Destination(Strict):
    """Where a route leads, and how a consent may name that organisation as recipient (45 CFR 164.508(c)(1)(iii)).

    `object`, `external_id`, `status_field`: the CRM's object, its unique key, and the field that says whether a record
    is active, frozen or retained; none where records that are taken back are deleted.
    """

    name: Name
    object: str = ""
    external_id: str = ""
    status_field: str = ""
    recipients: tuple[str, ...] = ()


class Waiver(Strict):
    """A waiver of authorization by an IRB or privacy board, 45 CFR 164.512(i)(1)(i), (2): for which protocol, by which
    board, on which days it may be relied on (both included), who receives what. Its disclosures are accounted for
    (164.528) in the audit log."""

    protocol: str = Field(min_length=1)
    board: str = Field(min_length=1)
    approved: date
    expires: date
    recipient: str
    elements: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.expires < self.approved:
            raise ValueError("a waiver expires after it was approved")
        return self


Stated = Annotated[str, StringConstraints(pattern=r"^\S(.*\S)?$")]  # as the source states it


class Filters(Strict):
    """Which milestones a route takes: only those of these programmes, services and places. A list that is left out
    filters nothing.

    `programmes`: names of tables/programmes.yaml; the patient was in one of them when it happened. `services`:
    "system|code", the code alone where the source names no system: HL7 PV1-10, AIS-3; FHIR serviceType,
    EpisodeOfCare.type. `locations`: HL7 PV1-3 and AIL-3 (point of care, facility, building), FHIR Locations by id,
    reference or identifier. What states no service (no place) is not taken where these are filtered.
    """

    programmes: frozenset[Name] = Field(default=frozenset(), min_length=1)
    services: frozenset[Stated] = Field(default=frozenset(), min_length=1)
    locations: frozenset[Stated] = Field(default=frozenset(), min_length=1)

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("filters name programmes, services or locations; leave them out to take every milestone")
        return self


class Route(Strict):
    """One purpose of one destination. The unit of decision is (event, route). `apart`: the records of a second state
    route of one destination and purpose, which the patient's record key cannot name too."""

    route: Name
    purpose: Code
    basis: Literal["authorization", "de-identified", "operations", "irb-waiver"]
    waiver: Waiver | None = None
    destination: Destination
    delivers: Literal["payloads", "aggregates"]
    record: Literal["state", "event"]
    apart: bool = False
    level: str
    data_use_agreement: str = ""
    kinds: tuple[Kind, ...]
    filters: Filters = Filters.model_construct()
    scopes: tuple[str, ...] = ("patient-privacy",)
    wait_days: int = Field(ge=0, le=90)
    enabled: bool
    shadow: bool
    after_revocation: Literal["delete", "freeze", "retain"]
    recipe_revision: int = Field(ge=1)
    recipe: tuple[Row, ...]

    @property
    def wait(self) -> int:
        """How long an event may wait for its permit, in microseconds."""
        return self.wait_days * DAY

    @property
    def recipe_name(self) -> str:
        """Which recipe in which revision, as payload and audit say it."""
        return f"{self.route}@{self.recipe_revision}"

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.basis not in ("authorization", "irb-waiver") and self.delivers != "aggregates":
            raise ValueError("without an authorization or its waiver a route may deliver aggregates only")
        if (self.basis == "irb-waiver") != (self.waiver is not None):
            raise ValueError("a route whose basis is irb-waiver states its waiver, and no other route does")
        if self.waiver is not None:
            if self.waiver.recipient not in self.destination.recipients:
                raise ValueError("the waiver was given for another recipient")
            if unnamed := sorted({row.field for row in self.recipe if row.to} - set(self.waiver.elements)):
                raise ValueError(f"its recipe lets elements pass that the waiver does not name: {', '.join(unnamed)}")
        if self.basis == "authorization" and not self.destination.recipients:
            raise ValueError("an authorization must be able to name the recipient")
        if self.purpose in ("TREAT", "CAREMGT", "BTG", "ETREAT"):
            raise ValueError("treatment, care management and break-glass never ground a disclosure here")
        outbound = [row.to for row in self.recipe if row.to]
        if len(set(outbound)) != len(outbound):
            raise ValueError("two rows of the recipe write the same outbound field")
        if self.delivers == "payloads" and not {"subject", "time"} <= set(outbound):
            raise ValueError("a payload needs a row for its subject and one for its time")
        if any(row.to == "time" and row.action is not Action.TRUNCATE for row in self.recipe):
            raise ValueError("the time of a payload is cut to its day")
        if self.delivers == "aggregates" and "day" not in outbound:
            raise ValueError("aggregates need a row for the day, which is counted when it is over")
        if self.delivers == "aggregates" and not {"route", "run", "policy", "patients"}.isdisjoint(outbound):
            raise ValueError("a table of aggregates has columns route, run, policy and patients of its own")
        return self
