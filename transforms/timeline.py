"""Timeline: each shard's facts, patient by patient, moved forward to the horizon.

The bounded driver of `rules.timeline.advance`: one GroupByKey and a fold. With a ledger the fold begins where the last
run left each patient, and what it comes to is kept for the next. A defect of ours in one patient's timeline sends that
patient's milestones to review and stops nobody else's.
"""

import json
import logging
from collections.abc import Iterable
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations
from msgspec.structs import replace

from schemas.event import AnyFact, Consent, Identity, Judgement, Made, Mark, Milestone, Person, decode, digest
from schemas.instant import BEGINNING, DAY, FOREVER, HOUR
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.stores import Ledger, Opens
from schemas.timeline import Moment, Outcome, Row, pack, pack_rows, unpack
from schemas.timeline import Timeline as Past
from transforms.batch import Outcomes
from transforms.defects import without_values
from transforms.rules import routing
from transforms.rules.routing import Rules
from transforms.rules.sensitivity import mark
from transforms.rules.timeline import WRITES, Counts, advance

_LOG = logging.getLogger("limen.timeline")
_NOTHING = Past()
MONTH = 32 * DAY


class Decided(NamedTuple):
    """The four ways out of a timeline, a list for each shard; what entered (JSON); and what the ledger keeps (rows)."""

    allowed: beam.PCollection[Outcomes]
    suppressed: beam.PCollection[Outcomes]
    review: beam.PCollection[Outcomes]
    set_aside: beam.PCollection[Outcomes]
    counts: beam.PCollection[tuple[str, bytes]]
    kept: beam.PCollection[tuple[str, bytes]]


class Timeline(beam.PTransform):
    """Every fact comes out as outcomes: a routed event as one for each of its routes, any other as one of its own."""

    def __init__(self, policy: Policy, moment: Moment, shards: int, ledger: Opens[Ledger] | None) -> None:
        super().__init__()
        self._arguments = (policy, moment, shards, ledger)

    @no_annotations
    def expand(self, facts):
        out = (
            facts
            | "OneShard" >> beam.GroupByKey()
            | "Advance"
            >> beam.ParDo(_Advance(*self._arguments)).with_outputs(
                "suppressed", "review", "set_aside", "counts", "kept", main="allowed"
            )
        )
        return Decided(out.allowed, out.suppressed, out.review, out.set_aside, out.counts, out.kept)


class _Advance(beam.DoFn):
    def __init__(self, policy: Policy, moment: Moment, shards: int, ledger: Opens[Ledger] | None) -> None:
        self._policy, self._moment, self._shards, self._reference = policy, moment, shards, ledger

    def setup(self) -> None:
        last = self._moment.last
        self._ledger = self._reference.open() if self._reference else None
        self._rules = routing.rules(self._policy, keeps=last is not None, last=BEGINNING if last is None else last)

    def teardown(self) -> None:
        if self._ledger:
            self._ledger.close()

    def process(
        self, shard: tuple[bytes, Iterable[bytes]]
    ) -> Iterable[
        Outcomes
        | TaggedOutput[Literal["suppressed"], Outcomes]
        | TaggedOutput[Literal["review"], Outcomes]
        | TaggedOutput[Literal["set_aside"], Outcomes]
        | TaggedOutput[Literal["counts"], tuple[str, bytes]]
        | TaggedOutput[Literal["kept"], tuple[str, bytes]]
    ]:
        with without_values("timeline"):
            outputs = list(self._moved(*shard))
        yield from outputs

    def _moved(self, key: bytes, wires: Iterable[bytes]) -> Iterable[Outcomes | TaggedOutput]:
        arrived, made = _by_patient(wires)
        known, names = self._known(int.from_bytes(key, "big"), arrived)
        sorted_out: dict[Verdict, list[Outcome]] = {verdict: [] for verdict in Verdict}
        routed = pairs = held = 0
        rows: list[Row] = []
        for patient, facts in arrived.items():
            before = known.get(patient, _NOTHING)
            moved = _advanced(before, facts, self._moment.horizon, self._rules)
            routed += moved.counts.events_routed
            pairs += moved.counts.pairs
            for outcome in moved.outcomes:
                sorted_out[outcome.verdict].append(outcome)
            if self._ledger:
                held += _held(moved.timeline) - _held(before)
                name = names[patient]
                rows.append(
                    Row(name, coarse(moved.due, self._moment.horizon), self._ledger.sealed(name, pack(moved.timeline)))
                )
        written = [o for verdict in WRITES for o in sorted_out[verdict]]
        kept_back = sorted_out[Verdict.SUPPRESSED] + sorted_out[Verdict.HELD]
        aside = [o for verdict in ASIDE for o in sorted_out[verdict]] + _numbered(made)
        yield Outcomes(key, written)
        yield TaggedOutput("suppressed", Outcomes(key, kept_back))
        yield TaggedOutput("review", Outcomes(key, [o for verdict in ASKED for o in sorted_out[verdict]]))
        yield TaggedOutput("set_aside", Outcomes(key, aside))
        counts = {"events_routed": routed, "pairs": pairs, "held_more": held, "shards": 1}
        yield TaggedOutput("counts", (f"timeline-{key.hex()}", json.dumps(counts).encode()))
        if rows:
            yield TaggedOutput("kept", (f"{key.hex()}.rows", pack_rows(rows)))

    def _known(self, shard: int, arrived: dict[str, list[AnyFact]]) -> tuple[dict[str, Past], dict[str, bytes]]:
        """The timelines that the ledger has for this shard: of those who arrived, and of those for whom something is
        due, to whom nothing arrived; and what the ledger calls each patient."""
        if self._ledger is None:
            return {}, {}
        names = {patient: self._ledger.name(patient) for patient in arrived}
        patients = {name: patient for patient, name in names.items()}
        known = {}
        for name, blob in self._ledger.timelines(list(patients), shard, self._shards, self._moment.due).items():
            timeline = unpack(blob)
            patient = patients.get(name) or _patient(timeline)
            if not patient:  # it names nobody any more: there is nothing to decide
                continue
            known[patient], names[patient] = timeline, name
            arrived.setdefault(patient, [])
        return known, names


ASKED = (Verdict.REVIEW, Verdict.ASKED_AGAIN, Verdict.REVIEW_CLOSED)  # what a reviewer is asked, or no more
ASIDE = (Verdict.REPEATED, Verdict.UNROUTED, Verdict.CONSENT, Verdict.CONTROL)


class _Moved(NamedTuple):
    timeline: Past
    outcomes: list[Outcome]
    counts: Counts
    due: int


def _by_patient(wires: Iterable[bytes]) -> tuple[dict[str, list[AnyFact]], list[Made]]:
    """The facts of a shard by their patient, and the outcomes that were made already."""
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
    return patients, made


def _patient(past: Past) -> str:
    """Whose timeline it is, as every fact of it says; "" where none is left."""
    every = (past.copies, past.consents, past.changes, past.people, past.judgements, past.late, past.marks)
    return next((fact.patient for facts in every for fact in facts), "")


def _held(past: Past) -> int:
    return sum([pair.settled is Verdict.HELD for pair in past.pairs])


def _advanced(before: Past, facts: list[AnyFact], horizon: int, rules: Rules) -> _Moved:
    try:
        return _Moved(*advance(before, facts, horizon, rules))
    except Exception as defect:  # noqa: BLE001  ours: this patient goes to review, and the alarm names no value
        _LOG.error("defect in timeline: %s", type(defect).__name__)
        return _for_review(before, facts, rules)


def _for_review(before: Past, facts: list[AnyFact], rules: Rules) -> _Moved:
    """What a patient's facts become when the timeline failed on them: nothing is lost and nothing is released.

    Of what arrived the consents, marks, demographics and verdicts are kept, and a change of identity at no known date:
    whatever comes for this patient later goes to review too, until a person has looked.
    """
    outcomes: list[Outcome] = []
    routed = pairs = 0
    for place, fact in enumerate(sorted(facts, key=lambda fact: fact.key)):
        if isinstance(fact, Milestone):
            routes = rules.routes.get(fact.kind, ())
            routed, pairs = routed + fact.counted, pairs + len(routes)
            outcomes += [Outcome(fact, r.name, Verdict.REVIEW, Reason.DEFECT, (), place) for r in routes]
        elif isinstance(fact, Judgement) or (isinstance(fact, Consent) and fact.counted):
            outcomes.append(Outcome(fact, "", Verdict.CONSENT, Reason.DEFECT, (), place))
        elif isinstance(fact, Identity | Person) and fact.counted:
            outcomes.append(Outcome(fact, "", Verdict.CONTROL, Reason.DEFECT, (), place))
    patient = facts[0].patient if facts else _patient(before)
    broken = Identity(digest("defect", patient), patient, "", FOREVER, counted=False)
    consents = (*before.consents, *(fact for fact in facts if isinstance(fact, Consent)))
    judgements = (*before.judgements, *(fact for fact in facts if isinstance(fact, Judgement)))
    changes = tuple({*before.changes, broken})
    marks = [*before.marks, *(fact for fact in facts if isinstance(fact, Mark))]
    marks += [mark(f.patient, (f.visit, *f.also), f.classes) for f in facts if isinstance(f, Milestone) and f.classes]
    people = (*before.people, *(fact for fact in facts if isinstance(fact, Person)))
    after = replace(
        before, consents=consents, changes=changes, people=people, judgements=judgements, marks=tuple(marks)
    )
    return _Moved(after, outcomes, Counts(routed, pairs), BEGINNING)  # due at once: the next run tries again


def coarse(due: int, horizon: int) -> int:
    """From when on the ledger wakes a patient, in the clear beside the sealed timeline: never later than `due`, and so
    coarse that it tells no second of an event and no birthday (of majority)."""
    grid = MONTH if FOREVER > due > horizon + MONTH else HOUR
    return due if due == FOREVER else due // grid * grid


def _numbered(made: list[Made]) -> list[Outcome]:
    """Outcomes made already; those of equal bytes are numbered, so that each keeps an audit record of its own."""
    copies: dict[bytes, int] = {}
    outcomes = []
    for fact in made:
        copy = copies[fact.key] = copies.get(fact.key, 0) + 1
        outcomes.append(Outcome(fact, "", fact.verdict, fact.reason, (), copy - 1))
    return outcomes
