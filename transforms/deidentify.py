"""Deidentify: each release through its route's recipe. The Event ends here: a Draft has no place for one."""

from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Deidentified, Draft
from schemas.event import Kind, Milestone
from schemas.instant import zone
from schemas.policy import Policy
from schemas.timeline import Outcome
from transforms.batch import Drafts, Gathering, Outcomes
from transforms.defects import without_values
from transforms.rules.recipe import Recipe, compiled


class Deidentify(beam.PTransform):
    """(shard, releases) → (shard, drafts, one a route): outbound values and their fates."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy

    def expand(self, allowed: beam.PCollection[Outcomes]) -> beam.PCollection[Drafts]:
        return allowed | "ApplyRecipes" >> beam.ParDo(_Deidentify(self._policy)).with_output_types(Drafts)


class _Deidentify(beam.DoFn):
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def setup(self) -> None:
        calendar = zone(self._policy.zone)
        self._recipes = {route.route: compiled(route, calendar) for route in self._policy.routes}
        self._by_visit = {r.route for r in self._policy.routes if r.delivers == "payloads" and r.record == "event"}

    def process(self, batch: Outcomes) -> Iterable[Drafts]:
        with without_values("deidentify"):
            routes: dict[str, _Draft] = {}
            for outcome in batch.items:
                route = outcome.route
                if route not in routes:
                    routes[route] = _Draft(route, self._recipes[route], by_visit=route in self._by_visit)
                routes[route].add(outcome)
        yield Drafts(batch.shard, [one.draft() for one in routes.values()])


class _Draft:
    """A draft in the making."""

    __slots__ = ("_by_visit", "_entries", "_kinds", "_made", "_patients", "_recipe", "_visits")

    def __init__(self, route: str, recipe: Recipe, *, by_visit: bool) -> None:
        self._recipe, self._by_visit = recipe, by_visit
        self._entries = Gathering(route)
        self._made: list[Deidentified] = []
        self._patients: list[str] = []
        self._visits: list[str] = []
        self._kinds: list[Kind] = []

    def add(self, outcome: Outcome) -> None:
        event = outcome.event
        assert isinstance(event, Milestone)  # noqa: S101  only milestones are paired with routes
        made = self._recipe(event, outcome.reason)
        self._made.append(made)
        self._entries.add(outcome, made.fates)
        self._patients.append(event.patient)
        if self._by_visit:
            self._visits.append(event.stay)
            self._kinds.append(event.kind)

    def draft(self) -> Draft:
        return Draft(self._entries.entries(), self._made, self._patients, self._visits, self._kinds)
