"""Deidentify: each release through its route's recipe. The Event ends here: a Draft has no place for one.

What takes a release back has no values: it names the record, and what the route wants done with it.
"""

from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Deidentified, Draft
from schemas.event import Kind, Milestone
from schemas.instant import day_of, zone
from schemas.policy import Policy
from schemas.timeline import Outcome
from transforms.batch import Drafts, Gathering, Outcomes
from transforms.defects import without_values
from transforms.rules.recipe import Recipe, compiled, withdrawn


class Deidentify(beam.PTransform):
    """(shard, releases and retractions) → (shard, drafts): outbound values and their fates, for each route one draft of
    releases and one of retractions."""

    def __init__(self, policy: Policy, horizon: int) -> None:
        super().__init__()
        self._policy, self._horizon = policy, horizon

    def expand(self, allowed: beam.PCollection[Outcomes]) -> beam.PCollection[Drafts]:
        recipes = _Deidentify(self._policy, self._horizon)
        return allowed | "ApplyRecipes" >> beam.ParDo(recipes).with_output_types(Drafts)


class _Deidentify(beam.DoFn):
    def __init__(self, policy: Policy, horizon: int) -> None:
        self._policy, self._horizon = policy, horizon

    def setup(self) -> None:
        today = day_of(self._horizon, zone(self._policy.zone))
        self._recipes = {route.route: compiled(route, self._policy) for route in self._policy.routes}
        self._withdrawn = {route.route: withdrawn(route, today) for route in self._policy.routes}
        self._by_visit = {r.route for r in self._policy.routes if r.delivers == "payloads" and r.record == "event"}

    def process(self, batch: Outcomes) -> Iterable[Drafts]:
        with without_values("deidentify"):
            released: dict[str, _Draft] = {}
            taken: dict[str, _Draft] = {}
            for outcome in batch.items:
                route, drafts, recipes = outcome.route, released, self._recipes
                if outcome.retracts:
                    drafts, recipes = taken, self._withdrawn
                if route not in drafts:
                    drafts[route] = _Draft(route, recipes[route], by_visit=route in self._by_visit)
                drafts[route].add(outcome)
        yield Drafts(batch.shard, [one.draft() for one in (*released.values(), *taken.values())])


class _Draft:
    """A draft in the making."""

    __slots__ = (
        "_by_visit", "_entries", "_kinds", "_made", "_patients", "_recipe", "_retracts", "_seqs", "_severed", "_visits",
    )  # fmt: skip

    def __init__(self, route: str, recipe: Recipe, *, by_visit: bool) -> None:
        self._recipe, self._by_visit = recipe, by_visit
        self._entries = Gathering(route)
        self._made: list[Deidentified] = []
        self._patients: list[str] = []
        self._visits: list[str] = []
        self._kinds: list[Kind] = []
        self._seqs: list[int] = []
        self._retracts: list[int] = []
        self._severed: set[str] = set()

    def add(self, outcome: Outcome) -> None:
        event = outcome.event
        assert isinstance(event, Milestone)  # noqa: S101  only milestones are paired with routes
        made = self._recipe(event, outcome.reason, outcome.facts)
        self._made.append(made)
        self._entries.add(outcome, made.fates)
        self._patients.append(event.patient)
        self._seqs.append(outcome.seq)
        if outcome.retracts:
            self._retracts.append(outcome.retracts)
        if outcome.severs:
            self._severed.add(event.patient)
        if self._by_visit:
            self._visits.append(event.stay)
            self._kinds.append(event.kind)

    def draft(self) -> Draft:
        return Draft(
            self._entries.entries(), self._made, self._patients, self._visits, self._kinds,
            self._seqs, self._retracts, frozenset(self._severed),
        )  # fmt: skip
