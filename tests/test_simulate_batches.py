"""Consecutive deliveries of the simulated hospital: the same messages, and a truth that holds for the timelines of one
ledger, played here on the pure rules."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.inputs import find
from pipelines.simulated.hospital import START
from pipelines.simulated.simulate import Simulated, simulate
from pipelines.simulated.truth import CRM, ROUTES
from pipelines.sources import read, spans
from schemas.errors import ConfigurationError
from schemas.event import AnyFact, Made, Milestone
from schemas.instant import from_fhir, text_of
from schemas.outcome import Verdict
from schemas.policy import Policy
from schemas.timeline import Outcome, Timeline
from transforms.decode import reader
from transforms.rules.routing import rules
from transforms.rules.timeline import advance
from transforms.timeline import _NOTHING

Record = tuple[str, ...]


def facts(folder: Path, policy: Policy) -> Iterator[AnyFact]:
    """What is decoded of a delivery; what is rejected is none."""
    reads = reader(policy).read
    for span in spans(find([str(folder)])):
        for block in read(span):
            for message in block.messages:
                for counted in reads(block.form, message):
                    yield from counted.facts


def record(route: str, system: str, value: str, visit: str, kind: str) -> Record:
    patient = (route, f"{system}\x1f{value}")
    return patient if ROUTES[route].by_patient else (*patient, visit, kind)


def of_entry(entry: dict[str, Any]) -> Record:
    return record(*(entry[name] for name in ("route", "system", "value", "visit", "kind")))


class Ledger:
    """One ledger in memory: each patient's timeline, and what the CRM's records show."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self._rules = policy, rules(policy, keeps=True)
        self._timelines: dict[str, Timeline] = {}
        self.shown: dict[Record, tuple[str, str]] = {}
        self.retracted: set[Record] = set()
        self.messages: Counter[str] = Counter()

    def run(self, folder: Path, as_of: str) -> None:
        instant = from_fhir(as_of)
        assert instant
        arrived: defaultdict[str, list[AnyFact]] = defaultdict(list)
        for fact in facts(folder, self._policy):
            if isinstance(fact, Made):
                self.messages[fact.verdict] += 1
            else:
                arrived[fact.patient].append(fact)
        for patient in {*self._timelines, *arrived}:
            before = self._timelines.get(patient, _NOTHING)
            self._timelines[patient], outcomes, counts, _ = advance(before, arrived[patient], instant.time, self._rules)
            self.messages["events_routed"] += counts.events_routed
            for outcome in outcomes:
                self._apply(outcome)

    def _apply(self, outcome: Outcome) -> None:
        event = outcome.event
        if not outcome.route:
            self.messages[outcome.verdict] += 1
        elif outcome.route in CRM and isinstance(event, Milestone):
            its = record(outcome.route, *event.patient.split("\x1f"), event.visit, event.kind)
            if outcome.verdict is Verdict.RETRACTED:
                del self.shown[its]
                self.retracted.add(its)
            elif outcome.verdict in (Verdict.RELEASED, Verdict.RESTORED):
                self.shown[its] = (event.kind, text_of(event.time or 0)[:10])


@pytest.mark.parametrize("patients, days, seed, batches", [(400, 30, 1, 3), (150, 5, 2, 15), (120, 1, 3, 11)])
def test_the_truth_holds_after_the_last_delivery(
    tmp_path: Path, policy: Policy, patients: int, days: int, seed: int, batches: int
) -> None:
    """What is out in the end, what was out and is no more, and what became of each message."""
    made = simulate(patients, days, seed, tmp_path / "hospital", batches)
    truth = json.loads(made.truth.read_bytes())
    ledger = Ledger(policy)
    for folder, as_of in made.batches:
        ledger.run(folder, as_of)
    assert ledger.shown == {of_entry(one): (one["kind"], one["day"]) for one in truth["released"]}
    gone = {of_entry(one) for one in truth["retracted"]}
    assert len(gone) == len(truth["retracted"]) > patients // 10
    assert ledger.retracted - ledger.shown.keys() == gone
    for outcome in ("repeated", "consent", "control", "unrouted", "events_routed"):
        assert ledger.messages[outcome] == truth["counts"][outcome] > 0, outcome


def contents(made: Simulated) -> Counter[bytes]:
    return Counter(
        message.body.strip()
        for folder, _ in made.batches
        for span in spans(find([str(folder)]))
        for block in read(span)
        for message in block.messages
    )


def test_deliveries_hold_the_same_messages_and_the_same_truth(tmp_path: Path) -> None:
    whole, cut = simulate(60, 10, 1, tmp_path / "whole"), simulate(60, 10, 1, tmp_path / "cut", 4)
    assert contents(whole) == contents(cut)
    truths = [json.loads(made.truth.read_bytes()) for made in (whole, cut)]
    for name in ("released", "withheld", "counts", "messages", "pairs", "as_of"):
        assert truths[0][name] == truths[1][name], name
    assert truths[0]["retracted"] == [] != truths[1]["retracted"]
    assert len(truths[0]["batches"]) == 1


def test_each_delivery_says_as_of_when_it_is_to_be_decided(tmp_path: Path) -> None:
    made = simulate(60, 10, 1, tmp_path, 4)
    said = json.loads((tmp_path / "batches.json").read_bytes())
    assert said == json.loads(made.truth.read_bytes())["batches"]
    assert [(tmp_path / one["feeds"], one["as_of"]) for one in said] == list(made.batches)
    assert [folder.name for folder, _ in made.batches] == ["01", "02", "03", "04"]
    instants = [as_of for _, as_of in made.batches]
    assert instants == sorted(instants) and f"{START:%Y-%m-%d}" < instants[0] and instants[-1] == made.as_of


def test_nothing_is_dated_after_the_instant_of_its_delivery(tmp_path: Path, policy: Policy) -> None:
    """Else the run would be a what-if. A gap is no message."""
    for folder, as_of in simulate(150, 20, 1, tmp_path, 10).batches:
        horizon = from_fhir(as_of)
        assert horizon
        told = [one for one in facts(folder, policy) if isinstance(one, Milestone) and one.since is None]
        assert all(one.time < horizon.time for one in told if one.time is not None)


@pytest.mark.parametrize("batches", [0, -1, 21])
def test_refuses_as_many_deliveries_as_there_are_not(tmp_path: Path, batches: int) -> None:
    with pytest.raises(ConfigurationError, match="--batches"):
        simulate(5, 10, 1, tmp_path / "new", batches)
    assert not (tmp_path / "new").exists()
