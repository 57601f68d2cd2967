"""Deidentify: each release through its route's recipe. The Event ends here: a Draft has no place for one.

What takes a release back has no values: it names the record, and what the route wants done with it.
"""

from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Draft, Entry
from schemas.event import Milestone
from schemas.instant import day_of, zone
from schemas.policy import Policy
from schemas.timeline import Outcome
from transforms.batch import Drafts, Outcomes
from transforms.defects import without_values
from transforms.rules.recipe import compiled, withdrawn


class Deidentify(beam.PTransform):
    """(shard, releases) → (shard, drafts): outbound values and their fates."""

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
        self._recipes = {route.route: compiled(route, self._policy) for route in self._policy.routes}
        today = day_of(self._horizon, zone(self._policy.zone))
        self._withdrawn = {route.route: withdrawn(route, today) for route in self._policy.routes}

    def process(self, batch: Outcomes) -> Iterable[Drafts]:
        with without_values("deidentify"):
            drafts = [self._draft(outcome) for outcome in batch.items]
        yield Drafts(batch.shard, drafts)

    def _draft(self, outcome: Outcome) -> Draft:
        event, reason, facts = outcome.event, outcome.reason, outcome.facts
        assert isinstance(event, Milestone)  # noqa: S101  only milestones are paired with routes
        entry = Entry(
            event.key, event.what, event.type, outcome.route, outcome.verdict, reason,
            tuple([fact.what for fact in facts]) if facts else (), outcome.copy, outcome.ordinal, outcome.seq,
            outcome.retracts, outcome.severs,
        )  # fmt: skip
        return Draft(
            entry,
            self._withdrawn[outcome.route] if outcome.retracts else self._recipes[outcome.route](event, reason, facts),
            event.patient,
            event.stay,
            event.kind,
        )
