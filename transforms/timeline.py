"""Timeline: each shard's facts, patient by patient, moved forward to the horizon.

The bounded driver of `rules.timeline.advance`: one GroupByKey and a fold. A defect of ours in one patient's timeline
sends that patient's milestones to review and stops nobody else's.
"""

import json
import logging
from collections.abc import Iterable
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas.event import AnyFact, Consent, Identity, Made, Milestone, Person, decode
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.timeline import Outcome
from schemas.timeline import Timeline as Known
from transforms.batch import Outcomes
from transforms.rules.routing import Rules, rules
from transforms.rules.timeline import advance

_LOG = logging.getLogger("limen.timeline")
_NOTHING = Known()


class Decided(NamedTuple):
    """The four ways out of a timeline, a list for each shard, and what entered (JSON)."""

    allowed: beam.PCollection[Outcomes]
    suppressed: beam.PCollection[Outcomes]
    review: beam.PCollection[Outcomes]
    set_aside: beam.PCollection[Outcomes]
    counts: beam.PCollection[tuple[str, bytes]]


class Timeline(beam.PTransform):
    """Every fact comes out as outcomes: a routed event as one for each of its routes, any other as one of its own."""

    def __init__(self, policy: Policy, horizon: int) -> None:
        super().__init__()
        self._policy, self._horizon = policy, horizon

    @no_annotations
    def expand(self, facts):
        out = (
            facts
            | "OneShard" >> beam.GroupByKey()
            | "Advance"
            >> beam.ParDo(_Advance(self._policy, self._horizon)).with_outputs(
                "suppressed", "review", "set_aside", "counts", main="allowed"
            )
        )
        return Decided(out.allowed, out.suppressed, out.review, out.set_aside, out.counts)


class _Advance(beam.DoFn):
    def __init__(self, policy: Policy, horizon: int) -> None:
        self._policy, self._horizon = policy, horizon

    def setup(self) -> None:
        self._rules = rules(self._policy, keeps=False)

    def process(
        self, shard: tuple[bytes, Iterable[bytes]]
    ) -> Iterable[
        Outcomes
        | TaggedOutput[Literal["suppressed"], Outcomes]
        | TaggedOutput[Literal["review"], Outcomes]
        | TaggedOutput[Literal["set_aside"], Outcomes]
        | TaggedOutput[Literal["counts"], tuple[str, bytes]]
    ]:
        key, wires = shard
        patients: dict[str, list[AnyFact]] = {}
        made: list[Made] = []
        for wire in wires:
            for fact in decode(wire):
                if isinstance(fact, Made):
                    made.append(fact)
                elif fact.patient in patients:
                    patients[fact.patient].append(fact)
                else:
                    patients[fact.patient] = [fact]
        sorted_out: dict[Verdict, list[Outcome]] = {verdict: [] for verdict in Verdict}
        routed = pairs = 0
        for facts in patients.values():
            outcomes, events, paired = _advanced(facts, self._horizon, self._rules)
            routed += events
            pairs += paired
            for outcome in outcomes:
                sorted_out[outcome.verdict].append(outcome)
        aside = [o for verdict in ASIDE for o in sorted_out[verdict]] + _numbered(made)
        yield Outcomes(key, sorted_out[Verdict.RELEASED])
        yield TaggedOutput("suppressed", Outcomes(key, sorted_out[Verdict.SUPPRESSED]))
        yield TaggedOutput("review", Outcomes(key, sorted_out[Verdict.REVIEW]))
        yield TaggedOutput("set_aside", Outcomes(key, aside))
        counts = {"events_routed": routed, "pairs": pairs}
        yield TaggedOutput("counts", (f"timeline-{key.hex()}", json.dumps(counts).encode()))


ASIDE = (Verdict.REPEATED, Verdict.UNROUTED, Verdict.CONSENT, Verdict.CONTROL)


def _advanced(facts: list[AnyFact], horizon: int, known: Rules) -> tuple[list[Outcome], int, int]:
    try:
        _, outcomes, counts, _ = advance(_NOTHING, facts, horizon, known)
    except Exception as defect:  # noqa: BLE001  ours: this patient goes to review, and the alarm names no value
        _LOG.error("defect in timeline: %s", type(defect).__name__)
        return _for_review(facts, known)
    return outcomes, counts.events_routed, counts.pairs


def _for_review(facts: list[AnyFact], known: Rules) -> tuple[list[Outcome], int, int]:
    """What a patient's facts become when the timeline failed on them: nothing is lost and nothing is released."""
    outcomes, routed, pairs = [], 0, 0
    for place, fact in enumerate(sorted(facts, key=lambda fact: fact.key)):
        if isinstance(fact, Milestone):
            routes = known.routes.get(fact.kind, ())
            routed, pairs = routed + 1, pairs + len(routes)
            outcomes += [Outcome(fact, r.name, Verdict.REVIEW, Reason.DEFECT, (), place) for r in routes]
        elif isinstance(fact, Consent) and fact.counted:
            outcomes.append(Outcome(fact, "", Verdict.CONSENT, Reason.DEFECT, (), place))
        elif isinstance(fact, Identity | Person) and fact.counted:
            outcomes.append(Outcome(fact, "", Verdict.CONTROL, Reason.DEFECT, (), place))
    return outcomes, routed, pairs


def _numbered(made: list[Made]) -> list[Outcome]:
    """Outcomes made already; those of equal bytes are numbered, so that each keeps an audit record of its own."""
    copies: dict[bytes, int] = {}
    outcomes = []
    for fact in made:
        copy = copies[fact.key] = copies.get(fact.key, 0) + 1
        outcomes.append(Outcome(fact, "", fact.verdict, fact.reason, (), copy - 1))
    return outcomes
