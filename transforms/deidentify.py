"""Deidentify: each release through its route's recipe. The Event ends here: a Draft has no place for one."""

from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Draft, Entry
from schemas.event import Milestone
from schemas.instant import zone
from schemas.policy import Policy
from schemas.timeline import Outcome
from transforms.rules.recipe import compiled

Batch = tuple[bytes, list[Draft]]


class Deidentify(beam.PTransform):
    """(shard, releases) → (shard, drafts): outbound values, their fates, and the level of the route's recipe."""

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self._policy = policy

    def expand(self, allowed: beam.PCollection[tuple[bytes, list[Outcome]]]) -> beam.PCollection[Batch]:
        return allowed | "ApplyRecipes" >> beam.ParDo(_Deidentify(self._policy)).with_output_types(Batch)


class _Deidentify(beam.DoFn):
    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def setup(self) -> None:
        calendar = zone(self._policy.zone)
        self._recipes = {
            route.route: (compiled(route, calendar), self._policy.level(route).label) for route in self._policy.routes
        }

    def process(self, batch: tuple[bytes, list[Outcome]]) -> Iterable[Batch]:
        shard, outcomes = batch
        yield shard, [self._draft(outcome) for outcome in outcomes]

    def _draft(self, outcome: Outcome) -> Draft:
        event = outcome.event
        assert isinstance(event, Milestone)  # noqa: S101  only milestones are paired with routes
        recipe, level = self._recipes[outcome.route]
        values, fates = recipe(event, outcome.reason)
        consents = tuple([fact.what for fact in outcome.facts])
        entry = Entry(
            event.key, event.what, event.type, outcome.route, outcome.verdict, outcome.reason,
            consents, outcome.copy, outcome.ordinal, outcome.retracts, fates, level,
        )  # fmt: skip
        return Draft(entry, values, event.patient, event.visit, event.kind)
