"""Deidentify: each release through its route's recipe. The Event ends here: a Draft has no place for one."""

from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Draft
from schemas.instant import zone
from schemas.policy import Policy
from schemas.timeline import Outcome
from transforms.batch import Drafts, Outcomes, by_route, entries, milestones
from transforms.defects import without_values
from transforms.rules.recipe import compiled


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
            drafts = [self._draft(route, mine) for route, mine in by_route(batch.items).items()]
        yield Drafts(batch.shard, drafts)

    def _draft(self, route: str, outcomes: list[Outcome]) -> Draft:
        events = milestones(outcomes)
        by_visit = route in self._by_visit
        return Draft(
            known := entries(route, outcomes),
            self._recipes[route](events, known.reasons),
            [event.patient for event in events],
            [event.stay for event in events] if by_visit else [],
            [event.kind for event in events] if by_visit else [],
        )
