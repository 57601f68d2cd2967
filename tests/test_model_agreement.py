"""The product beside the executable model of its rules: the same histories, compared after every call.

A lane: LIMEN_MODEL names the folder of the model (model.py, and its generator in test_model.py). One unit of the
model's time is one hour. What differs by design, and how the comparison accounts for it:

- The model's event record is one per milestone, the product's one per (visit, kind): here every milestone of a history
  has a kind of its own, and a cancellation takes back all kinds of its visit.
- A permit that names a protected class grounds events under protection alone (product) or any event (model): here no
  milestone and no permit is marked. tests/test_timeline_laws.py has histories with marks.
- The model sets aside what came too late and a cancellation; the product pairs them, to review and suppressed.
- A cancellation among conflicting copies takes back (product), the model also sends to review the milestone whose very
  values it repeats: for such a one the two verdicts count as one. Neither releases it.
- Copies of one Consent version that differ ground nothing in both; the product says so (review), the model does not.
"""

import importlib
import os
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from builders import CRM, a_consent, a_milestone, a_route, a_scope, at, the_rules
from hypothesis import HealthCheck, given, settings

from schemas.event import AnyFact, Kind, Milestone, Says, digest
from schemas.instant import HOUR
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Timeline
from transforms.rules.routing import Rules
from transforms.rules.timeline import advance

FOLDER = os.environ.get("LIMEN_MODEL", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="LIMEN_MODEL is not set")

SAYS = {"permit": Says.PERMIT, "deny": Says.DENY, "inactive": Says.ENDS, "error": Says.VOID}
KINDS = tuple(Kind)
PAIRS = (Verdict.RELEASED, Verdict.SUPPRESSED, Verdict.REVIEW)


@pytest.fixture(scope="module")
def model() -> ModuleType:
    return _imported("model")


def _imported(name: str) -> ModuleType:
    folder = str(Path(FOLDER).resolve(strict=True))
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def rules_of(policy: Any) -> Rules:
    """The model's policy as the product's rules."""
    scope = a_scope(wait=policy.wait * HOUR)
    routes = (a_route("S", scope=scope), a_route("E", scope=scope, by_patient=False))
    return the_rules(*routes, keeps=True, time_to_live=policy.ttl * HOUR)


def content_of(what: Any) -> bytes:
    """Sixteen bytes in the model's order of milestones."""
    return bytes([what.time, what.visit, what.content]).ljust(16, b"\0")


def unmarked(plan: Any) -> Any:
    def plain(fact: Any) -> Any:
        return (
            fact._replace(what=fact.what._replace(marked=False))
            if hasattr(fact, "what")
            else fact._replace(marked=False)
        )

    return plan._replace(facts=tuple(plain(fact) for fact in plan.facts))


def fact_of(fact: Any, kinds: dict[Any, Kind]) -> AnyFact:
    """The model's fact as the product's. An ending's own date is the model's start."""
    if not hasattr(fact, "what"):
        says = SAYS[fact.says]
        given = fact.start if says is Says.ENDS else fact.given
        return a_consent(
            says, of=fact.consent, version=fact.version, given=at(given), start=at(fact.start), end=at(fact.end),
            purposes=("PATSUPPORT",) if says is Says.PERMIT else (), recipients=(CRM,) if says is Says.PERMIT else (),
        )  # fmt: skip
    what = content_of(fact.what)
    return a_milestone(
        at(fact.what.time),
        key=fact.key,
        visit=str(fact.what.visit),
        kind=kinds[fact.what],
        cancels=KINDS if fact.cancels else (),
        published=at(fact.published),
        what=digest("cancels", what)[:16] if fact.cancels else what,
    )


def verdicts(outcomes: list[Outcome], cancelled: set[bytes]) -> Counter[tuple[str, bytes]]:
    """The verdicts of pairs, as the model counts them."""
    found: Counter[tuple[str, bytes]] = Counter()
    for one in outcomes:
        event, verdict = one.event, one.verdict
        if not isinstance(event, Milestone) or verdict not in PAIRS or event.cancels or one.reason is Reason.TOO_LATE:
            continue
        unclear = one.reason is Reason.CONSENT_UNCLEAR
        found[_settled(Verdict.SUPPRESSED if unclear else verdict, event.what, cancelled)] += 1
    return found


def _settled(verdict: Verdict, what: bytes, cancelled: set[bytes]) -> tuple[str, bytes]:
    return (Verdict.SUPPRESSED if verdict is Verdict.REVIEW and what in cancelled else verdict), what


def apply(net: dict[tuple[str, ...], bytes], outcomes: list[Outcome]) -> None:
    """What the CRM shows: one record of the patient on S, one for each milestone on E."""
    for one in outcomes:
        if isinstance(one.event, Milestone):
            record = ("S",) if one.route == "S" else (one.route, one.event.kind, one.event.visit)
            if one.verdict in (Verdict.RELEASED, Verdict.RESTORED):
                net[record] = one.event.what
            elif one.verdict is Verdict.RETRACTED:
                del net[record]


def compare(plan: Any, model: ModuleType, steps: list[tuple[list[Any], int]]) -> None:
    policy = model.Policy()
    rules = rules_of(policy)
    named = dict.fromkeys(fact.what for fact in plan.facts if hasattr(fact, "what"))
    assert len(named) <= len(KINDS)
    kinds = dict(zip(named, KINDS, strict=False))
    cancelled = {content_of(f.what) for f in plan.facts if hasattr(f, "what") and f.cancels}
    theirs, ours, net = model.Timeline(), Timeline(), dict[tuple[str, ...], bytes]()
    shown: dict[tuple[Any, ...], bytes] = {}
    for arrivals, horizon in steps:
        theirs, expected, their_due = model.advance(theirs, arrivals, horizon, policy)
        ours, outcomes, _, due = advance(ours, [fact_of(f, kinds) for f in arrivals], at(horizon), rules)
        said = Counter(
            _settled(Verdict(o.verdict), content_of(o.what), cancelled) for o in expected if o.verdict in PAIRS
        )
        assert verdicts(outcomes, cancelled) == said
        for o in expected:
            if o.verdict == "write":
                shown[o.record] = content_of(o.what)
            elif o.verdict == "retract":
                del shown[o.record]
        apply(net, outcomes)
        assert Counter((record[0], what) for record, what in net.items()) == Counter(
            (record[0], what) for record, what in shown.items()
        )
        if their_due < 10**6 and at(their_due) < due:  # the model wakes at the end of every wait
            assert not advance(ours, [], at(their_due), rules)[1], "the product would sleep too long"


def test_the_product_decides_as_the_model(model: ModuleType) -> None:
    generator = _imported("test_model")

    @settings(
        max_examples=int(os.environ.get("LIMEN_EXAMPLES", "300")),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(generator.plans(punctual=False))
    def agree(drawn: Any) -> None:
        plan = unmarked(drawn)
        compare(plan, model, generator.split(plan))
        compare(plan, model, generator.once(plan))

    agree()


def test_the_product_decides_the_models_cases(model: ModuleType) -> None:
    """The smallest histories that a plainer wording gets wrong."""
    generator = _imported("test_model")
    for _, steps in generator.CASES.values():
        facts = tuple(fact for _, arrivals in steps for fact in arrivals)
        plan = unmarked(generator.Plan(facts, (), (), None, ()))
        plain = iter(plan.facts)
        compare(plan, model, [([next(plain) for _ in arrivals], horizon) for horizon, arrivals in steps])
