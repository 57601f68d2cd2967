"""The policy bundle as people write it: purposes, routes, recipes, sources, limits. pydantic, unknown keys refused.

`Policy` is the whole bundle, checked against itself: recipes read known fields, reach the level that their route
requires, and name purposes and kinds that exist. Reading the YAML is `pipelines.policy`.
"""

from collections.abc import Collection
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from schemas.consent_form import ConsentForm
from schemas.event import Kind
from schemas.instant import zone
from schemas.jurisdiction import Jurisdiction, Place, lineage
from schemas.outcome import ALLOWABLE, Reason
from schemas.recipe import Action, Code, Field_, Identifies, Level, Name, Strict, level_of
from schemas.route import Route
from schemas.source import IdentityTerms, Source

# What a recipe may read of every event, and how it points at a patient, whatever fields.yaml says of it. All else that
# fields.yaml classifies is a value that the readers give, or not, under that name.
OF_EVERY_EVENT = {
    "patient": Identifies.DIRECTLY,
    "visit": Identifies.DIRECTLY,
    "kind": Identifies.NOT,
    "time": Identifies.BY_DATE,
    "consent": Identifies.NOT,
}


# What a route's filters read as its source words it, so that it may hold anything: no recipe lets it pass. A place is a
# geographic subdivision, 45 CFR 164.514(b)(2)(i)(B). Only the values of fields on which a route filters are read.
FILTERED = {"service": Identifies.DIRECTLY, "location": Identifies.DIRECTLY}


class Validity(Strict):
    """The days on which the policy may decide (by the horizon), both included."""

    begins: date
    ends: date


RESTRICTED = "restricted"  # the class of what is marked and does not say why


class ProtectedClass(Strict):
    """What marks an event as of one class of specially protected information.

    `labels`: FHIR meta.security, system → codes. `services`: HL7 PV1-10, SCH-7, SCH-8, AIS-3, FHIR serviceType,
    serviceCategory, specialty. `vips`: HL7 PV1-16. `locations`: HL7 PV1-3 and AIL-3, FHIR Locations. `facilities`: HL7
    MSH-4. `diagnoses`: how such a code begins, without its dot, as in ICD-10. `alone`: a document that permits it may
    permit nothing else (45 CFR 164.508(b)(3)(ii)). `jurisdictions`: whose law protects it, None for all; under another
    it marks nothing.
    """

    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    services: frozenset[str] = frozenset()
    vips: frozenset[str] = frozenset()
    locations: frozenset[str] = frozenset()
    facilities: frozenset[str] = frozenset()
    diagnoses: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]([0-9][0-9A-Z]{0,5})?$")], ...] = ()
    alone: bool = False
    jurisdictions: tuple[Place, ...] | None = Field(default=None, min_length=1)


class Sensitivity(Strict):
    """What is specially protected, class by class."""

    classes: dict[Name, ProtectedClass]

    @field_validator("classes")
    @classmethod
    def _restricted_everywhere(cls, classes: dict[str, ProtectedClass]) -> dict[str, ProtectedClass]:
        if RESTRICTED in classes and classes[RESTRICTED].jurisdictions is not None:
            raise ValueError(f"{RESTRICTED}: what is marked without saying why is protected everywhere")
        return classes


class Study(Strict):
    """A study that may recruit here. `names`: how the source calls it, "system|value" of an identifier or a reference.

    Nobody is recruited before both approvals, nor on or after the day on which it closes. `protocol` is what the CRM
    learns of it; the source's own names stay inside.
    """

    protocol: str = Field(pattern=r"^[A-Z][A-Z0-9-]{1,31}$")
    names: tuple[Annotated[str, StringConstraints(min_length=1)], ...]
    protocol_approved: date
    site_approved: date
    closes: date


class Refill(Strict):
    """When a supply counts as lapsed: so many days after it was used up; so many days after an order of which nothing
    was dispensed."""

    gap_days: int = Field(ge=0, le=30)
    first_fill_days: int = Field(ge=1, le=90)


class Limits(Strict):
    """`smallest_cell` is the k of the aggregates: no count of fewer distinct patients is published."""

    smallest_cell: int = Field(ge=5)
    lateness_days: int = Field(ge=0, le=90)


Days = Annotated[int, Field(ge=1, le=365)]


class ReviewTerms(Strict):
    """How long a reviewer has before a review item counts as suppressed, and who may answer what.

    `deadlines` stands in for `deadline_days` where the reason says so. `roles`: who may answer items, each with the
    reasons that this role may overrule; refusing is open to every role. A denial can be overruled by nobody.
    """

    deadline_days: Days
    deadlines: dict[Reason, Days] = Field(default_factory=dict)
    roles: dict[Name, frozenset[Reason]] = Field(default_factory=dict)

    def days(self, reason: Reason) -> int:
        """How long an item of this reason may wait."""
        return self.deadlines.get(reason, self.deadline_days)

    @field_validator("roles")
    @classmethod
    def _only_what_can_be_overruled(cls, roles: dict[str, frozenset[Reason]]) -> dict[str, frozenset[Reason]]:
        if not all(reasons <= ALLOWABLE for reasons in roles.values()):
            raise ValueError(f"a reviewer may overrule these only: {', '.join(sorted(ALLOWABLE))}")
        return roles


class Policy(Strict):
    """The whole bundle. `digest` is the SHA-256 of its files."""

    policy: Name
    revision: int = Field(ge=1)
    valid: Validity
    environment: Literal["test", "production"]
    jurisdiction: Place
    zone: str
    identity: IdentityTerms
    source: Source
    limits: Limits
    review: ReviewTerms
    sensitivity: Sensitivity
    jurisdictions: dict[Place, Jurisdiction]
    refill: Refill
    programmes: dict[str, Name]
    studies: tuple[Study, ...]
    fields: tuple[Field_, ...]
    forms: tuple[ConsentForm, ...]
    purposes: dict[Code, tuple[Code, ...]]
    routes: tuple[Route, ...]
    digest: str

    @property
    def name(self) -> str:
        """Which policy in which revision, as payload and audit say it."""
        return f"{self.policy}@{self.revision}"

    @property
    def disclosed(self) -> tuple[str, ...]:
        """The purposes of the routes that deliver payloads: what a permit can be about, sorted."""
        return tuple(sorted({route.purpose for route in self.routes if route.delivers == "payloads"}))

    def scope(self, purposes: Collection[str]) -> str:
        """What a permit of these purposes allows here, as one word: the inbound field `consent`. "" if nothing."""
        return "+".join(code for code in self.disclosed if code in purposes)

    @property
    def identity_types(self) -> tuple[str, ...]:
        """By which types of identifiers the patients of the source are known, in order of preference."""
        return self.source.identity_types or self.identity.types

    @property
    def lineage(self) -> tuple[str, ...]:
        """The jurisdiction whose law counts and those that it lies within, from the inside out."""
        return lineage(self.jurisdiction, self.jurisdictions)

    @property
    def majority_years(self) -> int:
        """The age at which a patient is of age here, in years."""
        stated = [self.jurisdictions[place].majority_years for place in self.lineage]
        return next(years for years in stated if years is not None)

    def level(self, route: Route) -> Level:
        """The computed level of a route's recipe."""
        fields = {row.field: row.identifies for row in self.fields}
        return level_of(route.recipe, fields, aggregated=route.delivers == "aggregates")

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        zone(name)
        return name

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        fields = {row.field: row.identifies for row in self.fields}
        expected = OF_EVERY_EVENT | FILTERED
        if len(fields) != len(self.fields) or not expected.items() <= fields.items():
            said = ", ".join(f"{field} ({points})" for field, points in expected.items())
            raise ValueError(f"fields.yaml must classify each field once, and among them {said}")
        if len({route.route for route in self.routes}) != len(self.routes) or not self.routes:
            raise ValueError("at least one route, and no two of one name")
        states = [route for route in self.routes if route.delivers == "payloads" and route.record == "state"]
        patients = [(route.destination.name, route.purpose) for route in states if not route.apart]
        if len(set(patients)) != len(patients):
            raise ValueError("two routes of one destination and purpose write the patient's record: set one `apart`")
        for named in ([study.protocol for study in self.studies], [n for study in self.studies for n in study.names]):
            if len(set(named)) != len(named):
                raise ValueError("tables/studies.yaml: two studies of one protocol or one name")
        codes = [code for form in self.forms for code in form.codes]
        if len(set(codes)) != len(codes):
            raise ValueError("consent-forms.yaml: two forms of one code")
        for form in self.forms:
            if unknown := sorted(set(form.purposes) - set(self.purposes)):
                raise ValueError(f"form {form.form}: unknown purposes: {', '.join(unknown)}")
        self._check_jurisdictions()
        for route in self.routes:
            self._check(route)
        return self

    def _check_jurisdictions(self) -> None:
        named = [place for form in self.forms for place in form.jurisdictions]
        named += [place for one in self.sensitivity.classes.values() for place in one.jurisdictions or ()]
        for place in (self.jurisdiction, *named, *self.jurisdictions):
            within = lineage(place, self.jurisdictions)
            if all(self.jurisdictions[around].majority_years is None for around in within):
                raise ValueError(f"jurisdictions.yaml: nothing says from when a patient is of age in {place}")

    def _check(self, route: Route) -> None:
        if route.purpose not in self.purposes:
            raise ValueError(f"route {route.route}: its purpose is not in codes/purposes.yaml")
        if unknown := sorted({row.field for row in route.recipe} - {row.field for row in self.fields}):
            raise ValueError(f"route {route.route}: its recipe reads unknown fields: {', '.join(unknown)}")
        self._check_programmes(route)
        required = next((level for level in Level if level.label == route.level), None)
        if required is None:
            raise ValueError(f"route {route.route}: level must be one of {', '.join(one.label for one in Level)}")
        if (computed := self.level(route)) < required:
            raise ValueError(
                f"route {route.route}: its recipe reaches only {computed.label}, it requires {route.level}"
            )
        if computed is Level.LIMITED_DATA_SET and not route.data_use_agreement:
            raise ValueError(
                f"route {route.route}: a limited data set needs a data_use_agreement, 45 CFR 164.514(e)(4)"
            )
        if computed is Level.IDENTIFIED:
            raise ValueError(f"route {route.route}: its recipe lets an identifier of the patient pass")
        tokens = [row for row in route.recipe if row.action is Action.TOKEN]
        if any((row.field, row.to) != ("patient", "subject") for row in tokens):
            raise ValueError(
                f"route {route.route}: a token stands for the patient, as the subject, and for nothing else"
            )
        consumed = {row.field for row in self.fields if route.route in row.consumers}
        if beyond := sorted({row.field for row in route.recipe if row.to} - consumed):
            raise ValueError(
                f"route {route.route}: its recipe lets fields pass whose consumers in fields.yaml do not name it: "
                f"{', '.join(beyond)}"
            )

    def _check_programmes(self, route: Route) -> None:
        """A route may filter by programmes that exist, and only if the policy hears of their begin and end."""
        wanted = route.filters.programmes
        if unknown := sorted(wanted - set(self.programmes.values())):
            raise ValueError(
                f"route {route.route}: its filters name programmes that tables/programmes.yaml does not: "
                f"{', '.join(unknown)}"
            )
        taken = {kind for one in self.routes for kind in one.kinds}
        if wanted and not {Kind.ENROLLED, Kind.EPISODE_COMPLETED} <= taken:
            raise ValueError(
                f"route {route.route}: to filter by programmes, some route must take the kinds "
                f"{Kind.ENROLLED} and {Kind.EPISODE_COMPLETED}"
            )
