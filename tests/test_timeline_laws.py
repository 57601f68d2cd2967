"""The laws of a timeline that is kept between calls (DESIGN section 3), on generated histories of one patient.

A history is a list of facts, each with the hour at which it arrives; a plan says at which horizons the timeline is
moved, and which call delivers which fact. `net` is what each CRM record shows: never written and taken back are equal.
Convergence has six premises, which the plans keep: a permit arrives no later than the call that closes what it could
ground or renew, an enrolment no later than the call that closes what it could let in, the end of one no later than the
first that decides what it leaves out, a mark no later than the call that closes another milestone that it binds, what
is dispensed no later than the call in which the gap falls due that it takes away, and nothing for a key arrives after
the key's time to live.
Half of the plans have reviewers: each of them answers an item of the history as it is up to then, in time.
`LIMEN_EXAMPLES` is the number of plans for each law.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

import pytest
from builders import (
    ANSWER_IN,
    CRM,
    TIME_TO_LIVE,
    WAIT,
    a_change,
    a_consent,
    a_judgement,
    a_mark,
    a_milestone,
    a_person,
    a_route,
    a_scope,
    at,
    the_rules,
)
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.event import AnyFact, Consent, Identity, Judgement, Kind, Mark, Milestone, Says
from schemas.instant import BEGINNING, FOREVER, HOUR
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Timeline
from transforms.rules.filters import AND, Filters
from transforms.rules.judgement import reason_of
from transforms.rules.jurisdiction import NO_LIMITS, Law
from transforms.rules.routing import Rules
from transforms.rules.timeline import advance

EXAMPLES = settings(
    max_examples=int(os.environ.get("LIMEN_EXAMPLES", "120")), deadline=None, suppress_health_check=list(HealthCheck)
)
LAST = 24  # the hour of the last horizon, at most
FREE = a_scope("HMARKT", recipients=(), needs_permit=False)
ROUTES = {
    "state": a_route("state"),
    "event": a_route("event", by_patient=False),
    "free": a_route("free", scope=FREE, by_patient=False),
    "programme": a_route("programme", filters=Filters(programmes=frozenset({"core"}))),
    "service": a_route("service", by_patient=False, filters=Filters(services=frozenset({"CAR"}))),
}
RULES = the_rules(*ROUTES.values(), keeps=True)
PLAIN = the_rules(*(route for route in ROUTES.values() if route.filters is None), keeps=True)

Net = dict[tuple[str, ...], bytes]  # record → content of the milestone that it shows
Step = tuple[list[AnyFact], int]


@dataclass(frozen=True)
class Arrival:
    fact: AnyFact
    hour: int

    @property
    def opens(self) -> int:
        """The first instant after which nothing of the fact's own can begin: a milestone's wait is over."""
        assert isinstance(self.fact, Milestone)
        assert self.fact.time is not None
        return self.fact.time + WAIT * HOUR


@dataclass(frozen=True)
class Plan:
    """`calls[i]` delivers `arrivals[i]`; `denial` is one more, for the law about denials, and `mark` for the one about
    marks; `others` another order. `answers`: what reviewers say, and which call delivers it; `law`: that of the
    jurisdiction."""

    arrivals: tuple[Arrival, ...]
    calls: tuple[int, ...]
    horizons: tuple[int, ...]  # hours
    denial: Arrival
    mark: Arrival
    others: tuple[int, ...]
    answers: tuple[tuple[Judgement, int], ...] = ()
    law: Law = NO_LIMITS

    @property
    def rules(self) -> Rules:
        return RULES._replace(law=self.law)

    def steps(self, *, extra: Arrival | None = None, order: Sequence[int] | None = None) -> list[Step]:
        """The calls as planned."""
        chosen = range(len(self.arrivals)) if order is None else order
        facts: list[tuple[AnyFact, int]] = [(self.arrivals[i].fact, self.calls[i]) for i in chosen]
        facts = [*facts, *self.answers] if order is None else [*self.answers[::-1], *facts]
        if extra is not None:
            facts.append((extra.fact, first_call(self.horizons, at(extra.hour))))
        return [([f for f, call in facts if call == i], at(hour)) for i, hour in enumerate(self.horizons)]

    def once(self, *, extra: Arrival | None = None) -> list[Step]:
        """Everything in one call."""
        facts = [one.fact for one in self.arrivals] + ([extra.fact] if extra else [])
        facts += [fact for fact, _ in self.answers]
        return [(facts, at(self.horizons[-1]))]


def first_call(horizons: Sequence[int], instant: int) -> int:
    """The first call whose horizon reaches an instant, else the last."""
    return next((i for i, hour in enumerate(horizons) if at(hour) >= instant), len(horizons) - 1)


# --- histories -----------------------------------------------------------------------------------------------------

LAG = st.sampled_from([0, 0, 1, 3, 6, 12])
SHORT = Law(longest=10 * HOUR)
LAWS_OF_THE_LAND = [NO_LIMITS] * 4 + [SHORT, SHORT, Law(silent=8 * HOUR), Law(True), Law(True, 14 * HOUR)]
VISITS = ["v0", "v1", "v2"]
MARKS: list[tuple[str, ...]] = [("hiv",), ("substance-use",), ("hiv", "substance-use")]


@st.composite
def milestones(draw: st.DrawFn, *, calm: bool = False) -> Arrival:
    """Mostly told after it happened, sometimes ahead of its time; few message ids, so that copies conflict.
    `calm`: none conflicts, takes back or is marked."""
    hour = draw(st.integers(2, 18))
    arrives = max(0, min(LAST, hour + draw(st.sampled_from([0, 0, 0, 1, 3, 6, 12, -3]))))
    fact = a_milestone(
        at(hour),
        key=None if calm else draw(st.integers(0, 5)),
        visit=draw(st.sampled_from(VISITS)),
        kind=draw(st.sampled_from([Kind.ADMITTED] * 3 + [Kind.REGISTERED, Kind.DISCHARGED])),
        values=draw(st.sampled_from([{"service": "CAR"}, {"service": "CAR"}, {"service": f"CAR{AND}PSY"}, {}])),
        cancels=() if calm else draw(st.sampled_from([()] * 5 + [(Kind.ADMITTED, Kind.REGISTERED)])),
        published=at(arrives),
        classes=() if calm else draw(st.sampled_from([()] * 12 + MARKS)),
        also=() if calm else draw(st.sampled_from([()] * 8 + [(visit,) for visit in VISITS])),
    )
    return Arrival(fact, arrives)


@st.composite
def supplies(draw: st.DrawFn) -> list[Arrival]:
    """What is dispensed and its gap, which come in one message; or the end of the order, known when it is said."""
    hour, course = draw(st.integers(2, 14)), draw(st.sampled_from(["c0", "c0", "c1", ""]))
    arrives = min(LAST, hour + draw(st.sampled_from([0, 0, 1, 3])))
    visit, published = f"d{draw(st.integers(0, 2))}", at(arrives)
    if draw(st.integers(0, 4)) == 0:
        ends = draw(st.sampled_from([Kind.PRESCRIBED, Kind.DISPENSED]))
        cancels = (ends, Kind.REFILL_GAP)
        taken_back = a_milestone(at(hour), visit=visit, kind=ends, cancels=cancels, course=course, published=published)
        return [Arrival(taken_back, arrives)]
    dispensed = a_milestone(at(hour), visit=visit, kind=Kind.DISPENSED, course=course, published=published)
    if not course:
        return [Arrival(dispensed, arrives)]
    due = hour + draw(st.integers(1, 6))
    gap = a_milestone(at(due), visit=visit, kind=Kind.REFILL_GAP, course=course, since=at(hour), published=published)
    return [Arrival(dispensed, arrives), Arrival(gap, arrives)]


@st.composite
def episodes(draw: st.DrawFn) -> Arrival:
    """A patient is enrolled, mostly before the rest happens; the episode ends, or never was."""
    word = draw(st.sampled_from(["begins"] * 4 + ["ends", "ends", "never"]))
    hour = draw(st.integers(0, 4 if word == "begins" else 12))
    arrives = min(LAST, hour + draw(LAG))
    fact = a_milestone(
        at(hour),
        key=draw(st.sampled_from([None, None, "e"])),
        visit=draw(st.sampled_from(["e0", "e0", "e0", "e1", ""])),
        kind=Kind.ENROLLED if word == "begins" else Kind.EPISODE_COMPLETED,
        values={"tier": draw(st.sampled_from(["core", "core", "core", "plus"]))} if word == "begins" else {},
        cancels=(Kind.EPISODE_COMPLETED, Kind.ENROLLED) if word == "never" else (),
        published=at(arrives),
    )
    return Arrival(fact, arrives)


@st.composite
def marked(draw: st.DrawFn) -> Arrival:
    """What states no milestone marks a visit by some of its numbers, or the patient as a whole."""
    visits = draw(st.sampled_from([("v0",), ("v1",), ("v0", "d0"), ("d0", "d1"), ("e0",), ("elsewhere",), ()]))
    return Arrival(a_mark(*visits, classes=draw(st.sampled_from(MARKS))), draw(st.sampled_from([0, 2, 4, 8, 16])))


VERSIONS = (1, 1, 2, 2, 3, 3, 0)  # 0: known by its time of update alone
PERMIT, DENY = Says.PERMIT, Says.DENY
OFTEN = [PERMIT] * 8 + [DENY, DENY, Says.ENDS, Says.VOID, Says.UNCLEAR, Says.NOTHING]


@st.composite
def consents(draw: st.DrawFn, says: Sequence[Says] = OFTEN) -> Arrival:
    """A permit mostly reaches back before it was given and far ahead; the others bite at any time, dated ahead too."""
    word, hour = draw(st.sampled_from(says)), draw(st.integers(0, 16))
    permit = word is PERMIT
    dated = hour if permit else draw(st.sampled_from([hour, hour, 0, 14, 22]))
    purposes = ("PATSUPPORT", "HMARKT") if permit else ()
    fact = a_consent(
        word,
        of=draw(st.integers(0, 3)),
        version=draw(st.sampled_from(VERSIONS)) or (-1, at(hour), ""),
        given=at(dated),
        said=at(dated + (0 if permit else draw(st.sampled_from([0, 0, 2])))),
        start=draw(st.sampled_from([at(hour), BEGINNING, BEGINNING])),
        end=draw(st.sampled_from([FOREVER] * 5 + [at(12), at(20)])),
        purposes=draw(st.sampled_from([purposes] * 4 + [("HMARKT",), ("OTHER",)])),
        recipients=draw(st.sampled_from([(CRM,) if permit else ()] * 4 + [("Organization/other",)])),
        classes=draw(st.sampled_from([None] * 3 + MARKS[2:] * 2 + MARKS[:1])),
    )
    return Arrival(fact, min(LAST, hour + draw(LAG)))


@st.composite
def changes(draw: st.DrawFn) -> Arrival:
    hour = draw(st.integers(0, 12))
    return Arrival(a_change(at(hour), key=draw(st.integers(0, 1))), min(LAST, hour + draw(LAG)))


@st.composite
def people(draw: st.DrawFn) -> Arrival:
    hour = draw(st.integers(0, 12))
    return Arrival(a_person(at(draw(st.integers(0, 18))), died=draw(st.integers(0, 5)) == 0), hour)


@st.composite
def plans(draw: st.DrawFn, *, punctual: bool = True, permitted: bool = False) -> Plan:
    """Delivery at any call that the premises allow. Not `punctual`: permits come as late as they like, and so does what
    bears on enrolments. `permitted`: all was, so that the filters decide."""
    law = NO_LIMITS if permitted else draw(st.sampled_from(LAWS_OF_THE_LAND))
    found = draw(st.lists(milestones(calm=permitted), min_size=1, max_size=5))
    if permitted:
        found += draw(st.lists(episodes(), min_size=1, max_size=4))
        found.append(Arrival(a_consent(), 0))
    else:
        found += [one for both in draw(st.lists(supplies(), max_size=3)) for one in both]
        found += draw(st.lists(episodes(), max_size=2))
        found += draw(st.lists(consents(), min_size=1, max_size=4))
    found += draw(st.lists(changes(), max_size=1)) if draw(st.integers(0, 3)) == 0 else []
    found += draw(st.lists(people(), max_size=1)) if draw(st.integers(0, 3)) == 0 else []
    found += draw(st.lists(marked(), max_size=2)) if not permitted and draw(st.integers(0, 2)) == 0 else []
    last = draw(st.sampled_from([LAST, LAST, 19, 16]))
    found = [one for one in found if one.hour <= last]
    horizons = tuple(sorted(draw(st.sets(st.integers(2, last), min_size=1, max_size=4)) | {last}))
    kept: list[Arrival] = []
    calls: list[int] = []
    for one in found:  # milestones come first
        low, high = first_call(horizons, at(one.hour)), len(horizons) - 1
        if isinstance(one.fact, Milestone):
            high = min([high, _key_expires(one, found, horizons), *_refills(one.fact, found, horizons)])
            high = min([high, *_beside(one.fact, found, horizons)])
        elif isinstance(one.fact, Mark):
            high = min([high, *_beside(one.fact, found, horizons)])
        elif isinstance(one.fact, Consent) and one.fact.says is PERMIT and punctual:
            high = min([high, *_closes(one.fact, kept, calls, horizons), *_renews(one.fact, found, horizons, law)])
        if low <= high:
            kept.append(one)
            calls.append(draw(st.integers(low, high)))
    if punctual:
        told = [i for i, one in enumerate(kept) if _enrols_in_time(one, calls[i], kept, calls, horizons)]
        kept, calls = [kept[i] for i in told], [calls[i] for i in told]
    order = draw(st.permutations(range(len(kept))))
    denial = draw(consents(says=(DENY,)))
    denial = Arrival(denial.fact, min(denial.hour, last))
    mark = draw(marked())
    mark = Arrival(mark.fact, min(mark.hour, last))
    others = tuple(draw(st.permutations(range(len(kept)))))
    return Plan(tuple(kept[i] for i in order), tuple(calls[i] for i in order), horizons, denial, mark, others, law=law)


ASKED = (Verdict.REVIEW, Verdict.ASKED_AGAIN)


@st.composite
def reviewed(draw: st.DrawFn) -> Plan:
    """A plan with reviewers. An answer comes in time, and may wait for the first call after the deadline."""
    plan = draw(plans())
    for _ in range(draw(st.integers(1, 3))):
        calls = enumerate(drive(plan.steps(), plan.law))
        asked = [(o, i) for i, call in calls for o in call.outcomes if o.verdict in ASKED]
        assume(asked)
        item, call = draw(st.sampled_from(asked))
        deadline = at(plan.horizons[call] + ANSWER_IN)
        last = first_call(plan.horizons, deadline)
        assume(call < last)  # nobody answers before it is asked
        said_by = draw(st.integers(call + 1, last))
        said = draw(st.sampled_from([at(plan.horizons[call]), min(at(plan.horizons[said_by]), deadline - 1)]))
        allows = draw(st.integers(0, 4)) > 0
        assert isinstance(item.event, Milestone)
        answer = a_judgement(item.event.what, item.route, item.question, allows=allows, said=said)
        plan = dataclasses.replace(plan, answers=(*plan.answers, (answer, said_by)))
    return plan


def _key_expires(one: Arrival, found: Iterable[Arrival], horizons: Sequence[int]) -> int:
    same = [a.fact.time for a in found if isinstance(a.fact, Milestone) and a.fact.key == one.fact.key]
    return first_call(horizons, min(time for time in same if time is not None) + TIME_TO_LIVE * HOUR + 1)


def _refills(one: Milestone, found: Iterable[Arrival], horizons: Sequence[int]) -> Iterable[int]:
    """The calls in which the gaps fall due that what is dispensed takes away."""
    for gap in (a.fact for a in found if isinstance(a.fact, Milestone) and a.fact.since is not None):
        if one.kind is Kind.DISPENSED and not one.cancels and one.course in ("", gap.course):
            assert one.time is not None and gap.since is not None and gap.time is not None
            if gap.since < one.time <= gap.time:
                yield first_call(horizons, gap.time)


def _beside(mark: Milestone | Mark, found: Iterable[Arrival], horizons: Sequence[int]) -> Iterable[int]:
    """The calls that close what a mark binds too, and what a milestone may join with a visit that is marked."""
    for one in found if mark.classes or (isinstance(mark, Milestone) and mark.also) else ():
        if isinstance(one.fact, Milestone) and (binds(mark, one.fact) or one.fact.visit in VISITS):
            yield first_call(horizons, one.opens)


def binds(mark: Milestone | Mark, one: Milestone) -> bool:
    """Is a milestone of the visit that a mark is about, by the numbers of these two alone? No third joins them."""
    visits = mark.visits if isinstance(mark, Mark) else (mark.visit, *mark.also)
    return not {one.visit, *one.also}.isdisjoint(visits) or not one.visit or visits in ((), ("",))


def _closes(permit: Consent, kept: Sequence[Arrival], calls: Sequence[int], horizons: Sequence[int]) -> Iterable[int]:
    """The calls that close what a permit could ground."""
    for one, call in zip(kept, calls, strict=True):
        if isinstance(one.fact, Milestone) and permit.given <= one.opens:
            yield max(call, first_call(horizons, one.opens))


def end_of(permit: Consent, law: Law) -> int:
    """When a permit ends under a law, told apart from the rule's own way."""
    silent = permit.end == FOREVER
    if silent and law.needs_end:
        return BEGINNING
    lasts = [law.longest, *([law.silent] if silent else [])]
    return min([permit.end, *(permit.given + one for one in lasts if one < FOREVER)])


def _enrols_in_time(
    one: Arrival, call: int, kept: Sequence[Arrival], calls: Sequence[int], horizons: Sequence[int]
) -> bool:
    """Is what bears on an enrolment told no later than the calls that close what it lets in, and the first ones that
    decide what it leaves out?"""
    fact = one.fact
    if not isinstance(fact, Milestone) or fact.kind not in (Kind.ENROLLED, Kind.EPISODE_COMPLETED):
        return True
    begun = [a.fact for a in kept if isinstance(a.fact, Milestone) and a.fact.kind is Kind.ENROLLED]
    since = fact.time
    if fact.cancels:  # what it voids began before it
        since = min([e.time for e in begun if e.time is not None], default=since)
    ends = fact.kind is not Kind.ENROLLED or sum(e.key == fact.key for e in begun) > 1
    for other, decided in zip(kept, calls, strict=True):
        event = other.fact
        if isinstance(event, Milestone) and other is not one and event.time is not None and event.time >= (since or 0):
            if call > (decided if ends else max(decided, first_call(horizons, other.opens))):
                return False
    return True


def _renews(permit: Consent, found: Iterable[Arrival], horizons: Sequence[int], law: Law) -> Iterable[int]:
    """The calls that end what a permit could renew."""
    for fact in (one.fact for one in found if isinstance(one.fact, Consent)):
        for end in (end_of(fact, law), fact.given, max(fact.given, fact.start)):
            if permit.given <= end < FOREVER:
                yield first_call(horizons, end)


# --- driving -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    before: Timeline
    arrivals: list[AnyFact]
    horizon: int
    after: Timeline
    outcomes: list[Outcome]
    due: int
    pairs: int
    net: Net  # after it


def record_of(event: AnyFact, route: str) -> tuple[str, ...]:
    """The CRM record that a pair writes, told apart from the rule's own way."""
    assert isinstance(event, Milestone)
    return (route,) if ROUTES[route].by_patient else (route, event.visit or event.what.hex(), event.kind)


def apply(net: Net, outcomes: Iterable[Outcome]) -> Net:
    """The CRM after these outcomes: retractions name what is shown, and a record is written at most once in a call."""
    after, written = dict(net), set()
    for outcome in outcomes:
        if outcome.verdict not in (Verdict.RELEASED, Verdict.RESTORED, Verdict.RETRACTED):
            continue
        assert isinstance(outcome.event, Milestone)
        assert record_of(outcome.event, outcome.route) not in written, "two writes to one record in one call"
        assert outcome.ordinal > 0
        written.add(record_of(outcome.event, outcome.route))
        if outcome.verdict is Verdict.RETRACTED:
            assert after.pop(record_of(outcome.event, outcome.route), None) == outcome.event.what, (
                "taken back what was not shown"
            )
        else:
            after[record_of(outcome.event, outcome.route)] = outcome.event.what
    return after


def drive(steps: Iterable[Step], law: Law = NO_LIMITS, rules: Rules = RULES) -> list[Call]:
    rules = rules._replace(law=law)
    timeline, net, calls = Timeline(), Net(), []
    for arrivals, horizon in steps:
        after, outcomes, counts, due = advance(timeline, arrivals, horizon, rules)
        net = apply(net, outcomes)
        calls.append(Call(timeline, arrivals, horizon, after, outcomes, due, counts.pairs, net))
        timeline = after
    return calls


def net_of(steps: Iterable[Step], law: Law) -> Net:
    return drive(steps, law)[-1].net


def answers_of(facts: Iterable[AnyFact], what: bytes, route: str) -> set[Reason | None]:
    """The reasons that reviewers found to be no obstacle for a pair."""
    said = (f for f in facts if isinstance(f, Judgement) and f.allows)
    return {reason_of(fact.question) for fact in said if (fact.what, fact.route) == (what, route)}


def held(timeline: Timeline) -> int:
    return sum(pair.settled is Verdict.HELD for pair in timeline.pairs)


# --- laws ----------------------------------------------------------------------------------------------------------


def convergence(plan: Plan) -> None:
    """Any split gives the net state of a single run."""
    assert net_of(plan.steps(), plan.law) == net_of(plan.once(), plan.law)


def order_within_a_call(plan: Plan) -> None:
    """In which order a call's facts arrive changes nothing."""
    for one, other in zip(drive(plan.steps(), plan.law), drive(plan.steps(order=plan.others), plan.law), strict=True):
        assert one.after == other.after and one.due == other.due
        assert Counter(one.outcomes) == Counter(other.outcomes)


def denial_monotonicity(plan: Plan) -> None:
    """A denial never adds a release."""
    assert net_of(plan.steps(extra=plan.denial), plan.law).items() <= net_of(plan.steps(), plan.law).items()
    assert net_of(plan.once(extra=plan.denial), plan.law).items() <= net_of(plan.once(), plan.law).items()


def mark_monotonicity(plan: Plan) -> None:
    """On general permits a mark never adds a release, and stops what it binds."""
    plain = [replace(a.fact, classes=None) if isinstance(a.fact, Consent) else a.fact for a in plan.arrivals]
    arrivals = (Arrival(fact, one.hour) for fact, one in zip(plain, plan.arrivals, strict=True))
    plan = dataclasses.replace(plan, arrivals=tuple(arrivals))
    known = {fact.what: fact for fact in plain if isinstance(fact, Milestone)}
    assert isinstance(plan.mark.fact, Mark)
    for after, before in (
        (net_of(plan.steps(extra=plan.mark), plan.law), net_of(plan.steps(), plan.law)),
        (net_of(plan.once(extra=plan.mark), plan.law), net_of(plan.once(), plan.law)),
    ):
        assert after.items() <= before.items()
        assert not any(binds(plan.mark.fact, known[what]) for what in after.values())


def revocation(plan: Plan) -> None:
    """After every call each shown record has its permit, and nothing that came after it speaks against it."""
    seen: list[AnyFact] = []
    known: dict[bytes, Milestone] = {}
    for call in drive(plan.steps(), plan.law):
        seen += call.arrivals
        known |= {f.what: f for f in call.arrivals if isinstance(f, Milestone)}
        for (route, *_), what in call.net.items():
            lifted = answers_of(seen, what, route)
            shown, classes = known[what], marks(seen, known[what])
            objections = list(_objections(seen, route, lifted, classes))
            assert shown.time is not None
            assert route != "free" or not classes
            assert shown.time <= call.horizon
            if route == "free" and not objections:
                continue
            changed = [] if Reason.IDENTITY_CHANGED in lifted else [f.time for f in seen if isinstance(f, Identity)]
            if route == "free" and objections == changed:
                since = max(objections)  # any permit since then says who the patient is
                permits = [p for p in seen if isinstance(p, Consent) and p.says is PERMIT and since < p.given]
                assert any(end_of(p, plan.law) > BEGINNING for p in permits)
                continue
            good = [
                p
                for p in seen
                if isinstance(p, Consent)
                if p.says is PERMIT and max(objections, default=BEGINNING) < p.given <= call.horizon
                if ("HMARKT" in p.purposes if route == "free" else "PATSUPPORT" in p.purposes and CRM in p.recipients)
                if (classes <= set(p.classes) if classes and p.classes else not classes and p.classes is None)
            ]
            assert any(p.start <= shown.time < end_of(p, plan.law) for p in good)
            assert any(p.start <= call.horizon < end_of(p, plan.law) for p in good)


def marks(seen: Iterable[AnyFact], one: Milestone) -> set[str]:
    """Of what specially protected information any message of a milestone's visit says that it is."""
    return {name for f in seen if isinstance(f, Milestone | Mark) and binds(f, one) for name in f.classes}


def _objections(
    seen: Iterable[AnyFact], route: str, lifted: Container[Reason | None], classes: set[str]
) -> Iterable[int]:
    """When something was said, at the latest, that stops a route. No reviewer lifts a denial."""
    purpose = "HMARKT" if route == "free" else "PATSUPPORT"
    for fact in seen:
        if isinstance(fact, Identity):
            if Reason.IDENTITY_CHANGED not in lifted:
                yield fact.time
        elif isinstance(fact, Consent) and fact.says is Says.UNCLEAR:
            if Reason.CONSENT_UNCLEAR not in lifted and (not fact.purposes or purpose in fact.purposes):
                yield max(fact.said, fact.start)
        elif isinstance(fact, Consent) and fact.says is DENY:
            named = fact.classes is None or classes & set(fact.classes)
            if named and (fact.purposes in ((), (purpose,)) or purpose in fact.purposes):
                if not fact.recipients or (route != "free" and CRM in fact.recipients):
                    yield max(fact.said, fact.start)


def filtering(plan: Plan) -> None:
    """After every call each shown record on a route with filters is one that the route takes."""
    seen: list[AnyFact] = []
    known: dict[bytes, Milestone] = {}
    for call in drive(plan.steps()):
        seen += call.arrivals
        known |= {f.what: f for f in call.arrivals if isinstance(f, Milestone)}
        for (route, *_), what in call.net.items():
            assert route != "service" or known[what].values.get("service") == "CAR"
            assert route != "programme" or any(_enrolled(seen, fact, known[what]) for fact in seen)


def _enrolled(seen: Sequence[AnyFact], fact: AnyFact, event: Milestone) -> bool:
    """Does this fact enrol the patient for that event, whatever else was said?"""
    if not isinstance(fact, Milestone) or fact.kind is not Kind.ENROLLED or fact.values["tier"] != "core":
        return False
    assert fact.time is not None and fact.published is not None and event.time is not None
    if fact.published > fact.time + TIME_TO_LIVE * HOUR or not fact.time <= event.time:
        return False
    for other in (f for f in seen if isinstance(f, Milestone)):
        assert other.time is not None and other.published is not None
        of_it = other.kind is Kind.EPISODE_COMPLETED and (not fact.visit or other.visit in (fact.visit, ""))
        over = other.time < event.time or (other.time == event.time and event.kind is not Kind.EPISODE_COMPLETED)
        if of_it and (fact.time <= other.time if other.cancels else over):
            return False
        timely = other.published <= other.time + TIME_TO_LIVE * HOUR or other.cancels
        if other.key == fact.key and other.what != fact.what and timely:
            return False
    return True


def conservation(plan: Plan) -> None:
    """Held before and new pairs = released, suppressed, in review, and held after."""
    for call in drive(plan.steps(), plan.law):
        n = Counter(o.verdict for o in call.outcomes if o.route)
        settled = n[Verdict.RELEASED] + n[Verdict.SUPPRESSED] + n[Verdict.REVIEW]
        assert held(call.before) + call.pairs == settled + held(call.after)
        assert call.net == _shown(call.after), "the timeline knows what is out"
        asked = n[Verdict.REVIEW] + n[Verdict.ASKED_AGAIN]
        assert in_review(call.before) + asked == n[Verdict.REVIEW_CLOSED] + in_review(call.after)


def in_review(timeline: Timeline) -> int:
    return sum(bool(pair.question) for pair in timeline.pairs)


def refusal_monotonicity(plan: Plan) -> None:
    """A reviewer who says no never adds a release, and stops what it is about."""
    milestones = [one.fact for one in plan.arrivals if isinstance(one.fact, Milestone)]
    for route in ROUTES if milestones else ():
        no = Arrival(a_judgement(milestones[0].what, route, "", allows=False), plan.horizons[0])
        for refused, before in (
            (net_of(plan.steps(extra=no), plan.law), net_of(plan.steps(), plan.law)),
            (net_of(plan.once(extra=no), plan.law), net_of(plan.once(), plan.law)),
        ):
            assert refused.items() <= before.items()
            assert (route, milestones[0].what) not in {(record[0], what) for record, what in refused.items()}


def reviews_end(plan: Plan) -> None:
    """Once every deadline is over nobody is asked any more, and nothing leaves for that."""
    *_, last = drive(plan.steps(), plan.law)
    after, outcomes, _, _ = advance(last.after, [], at(plan.horizons[-1] + ANSWER_IN + LAST), plan.rules)
    assert in_review(after) == sum(o.verdict in ASKED for o in outcomes)
    closed = {o.question: o.reason for o in outcomes if o.verdict is Verdict.REVIEW_CLOSED}
    assert len(closed) <= in_review(last.after)


def _shown(timeline: Timeline) -> Net:
    copies = {copy.what: copy for copy in (*timeline.late, *timeline.copies)}
    pairs = [pair for pair in timeline.pairs if pair.shown]
    return {record_of(copies[pair.what], pair.route): pair.what for pair in pairs}


def idempotence(plan: Plan) -> None:
    """Neither an empty call nor a second delivery of keys that still live changes anything."""
    for call in drive(plan.steps(), plan.law):
        again, outcomes, _, due = advance(call.after, [], call.horizon, plan.rules)
        assert again == call.after and not outcomes and due == call.due
        live = [f for f in call.arrivals if not isinstance(f, Milestone) or _lives(f, call.horizon)]
        again, outcomes, counts, _ = advance(call.after, live, call.horizon, plan.rules)
        assert replace(again, repeats=call.after.repeats) == call.after and not counts.pairs
        assert {o.verdict for o in outcomes} <= {Verdict.REPEATED, Verdict.CONTROL}


def _lives(fact: Milestone, horizon: int) -> bool:
    assert fact.time is not None
    assert fact.published is not None
    return max(horizon, fact.published) <= fact.time + TIME_TO_LIVE * HOUR


def due_is_sound(plan: Plan) -> None:
    """Before `due` nothing happens by itself; at the last `due` nothing is left to happen."""
    for call in drive(plan.steps(), plan.law):
        for hour in range(LAST + 12):
            if call.horizon <= at(hour) < call.due:
                assert not advance(call.after, [], at(hour), plan.rules)[1]
        if call.horizon < call.due - 1 < FOREVER - 1:
            assert not advance(call.after, [], call.due - 1, plan.rules)[1]


def sleeping(plan: Plan) -> None:
    """Who is woken only by an arrival or by `due` comes to the same: that is how the ledger is read."""
    timeline, due, last = Timeline(), BEGINNING, BEGINNING
    for call in drive(plan.steps(), plan.law):
        outcomes: list[Outcome] = []
        if call.arrivals or due <= call.horizon:
            timeline, outcomes, _, due = advance(timeline, call.arrivals, call.horizon, plan.rules._replace(last=last))
        assert Counter(outcomes) == Counter(call.outcomes)
        last = call.horizon


def numbering(plan: Plan) -> None:
    """What is written to a record is numbered without a gap; a retraction takes back all that went before it, and says
    that the token is severed only when nothing of the patient is shown any more."""
    written: Counter[tuple[str, ...]] = Counter()
    names: Counter[tuple[object, ...]] = Counter()
    for call in drive(plan.steps(), plan.law):
        for o in call.outcomes:
            if o.verdict in (Verdict.RELEASED, Verdict.RESTORED, Verdict.RETRACTED):
                record = record_of(o.event, o.route)
                retracts = written[record] if o.verdict is Verdict.RETRACTED else 0
                written[record] += 1
                assert (o.seq, o.retracts) == (written[record], retracts)
            assert o.severs == (o.verdict is Verdict.RETRACTED and not call.net)
        names.update((o.event.key, o.route, o.verdict, o.ordinal, o.copy) for o in call.outcomes)
    assert set(names.values()) <= {1}, "two audit records of one name"


def no_stale_release(plan: Plan) -> None:
    """A record never goes back to an older milestone; the same one comes back only while its wait runs, or when a
    reviewer was asked and said yes."""
    seen: list[AnyFact] = []
    newest: dict[tuple[str, ...], tuple[int, bytes]] = {}
    for call in drive(plan.steps(), plan.law):
        seen += call.arrivals
        for outcome in call.outcomes:
            event = outcome.event
            if outcome.verdict not in (Verdict.RELEASED, Verdict.RESTORED):
                continue
            assert isinstance(event, Milestone)
            assert event.time is not None
            old, new = newest.get(record_of(outcome.event, outcome.route), (BEGINNING, b"")), (event.time, event.what)
            assert new >= old
            if new == old:
                assert outcome.verdict is Verdict.RESTORED
                waits = call.before.horizon < event.time + WAIT * HOUR
                assert waits or answers_of(seen, event.what, outcome.route)
            newest[record_of(outcome.event, outcome.route)] = new


LAWS: tuple[Callable[[Plan], None], ...] = (
    convergence,
    order_within_a_call,
    denial_monotonicity,
    mark_monotonicity,
    refusal_monotonicity,
    revocation,
    filtering,
    conservation,
    reviews_end,
    idempotence,
    due_is_sound,
    sleeping,
    numbering,
    no_stale_release,
)


# Those that hold however late a permit comes, an enrolment or its end
ALWAYS = (order_within_a_call, revocation, filtering, conservation, idempotence, due_is_sound, sleeping, numbering)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law: Callable[[Plan], None]) -> None:
    @EXAMPLES
    @given(plans() | plans(permitted=True) | reviewed())
    def holds(plan: Plan) -> None:
        law(plan)

    holds()


@pytest.mark.parametrize("law", ALWAYS, ids=lambda law: law.__name__)
def test_law_however_late(law: Callable[[Plan], None]) -> None:
    @EXAMPLES
    @given(plans(punctual=False) | plans(punctual=False, permitted=True))
    def holds(plan: Plan) -> None:
        law(plan)

    holds()


def test_due_counts_what_is_dated_ahead_even_if_it_is_decided() -> None:
    """Two conflicting copies dated ahead are in review at once; when their time comes they supersede what is shown."""
    ahead = [a_milestone(at(hour), key="same", visit="v2") for hour in (20, 21)]
    first, _, expired, second = drive(
        [([a_consent(), a_milestone(at(5)), *ahead], at(10)), ([], at(15)), ([], at(16)), ([], at(20))]
    )
    assert (first.due, expired.due) == (at(10 + ANSWER_IN), at(20))
    assert ("state",) in first.net and ("state",) not in second.net


def test_a_wait_that_ended_while_nobody_looked_is_over() -> None:
    """Taken back within its wait; runs went on beyond the wait without this patient; then a permit comes."""
    event = a_milestone(at(5))
    void = a_consent(Says.VOID, of="form", version=2, given=at(6))
    first, _, _, _ = advance(Timeline(), [a_consent(), event], at(6), rules=PLAIN)
    taken, outcomes, _, due = advance(first, [void], at(7), rules=PLAIN)
    assert Verdict.RETRACTED in {o.verdict for o in outcomes} and due == at(5 + WAIT)
    late = a_consent(of="late", given=at(8))
    in_time = advance(taken, [late], at(8), PLAIN._replace(last=at(7)))[1]
    assert Verdict.RESTORED in {o.verdict for o in in_time}
    after = advance(taken, [late], at(12), PLAIN._replace(last=at(5 + WAIT)))[1]
    assert not [o for o in after if o.route]


def test_due_counts_the_end_of_a_wait_after_which_a_person_is_asked() -> None:
    """Taken back within its wait by a consent that nobody understands: once the wait is over, somebody is asked."""
    vague = a_consent(Says.UNCLEAR, of="vague", given=at(1))
    _, taken, asked = drive([([a_consent(), a_milestone(at(5))], at(6)), ([vague], at(7)), ([], at(5 + WAIT))])
    assert taken.due == at(5 + WAIT) and not taken.net
    assert {o.reason for o in asked.outcomes if o.verdict is Verdict.ASKED_AGAIN} == {Reason.CONSENT_UNCLEAR}


def test_due_counts_an_ending_that_is_dated_ahead() -> None:
    ending = a_consent(Says.ENDS, version=2, given=at(15))
    first, second = drive([([a_consent(), a_milestone(at(5)), ending], at(10)), ([], at(15))])
    assert first.due == at(15)
    assert ("state",) in first.net and ("state",) not in second.net


@pytest.mark.parametrize("objection", [a_change(at(4)), a_consent(Says.UNCLEAR, of="vague", given=at(4))])
def test_while_the_wait_runs_an_objection_holds_and_a_later_consent_releases(objection: AnyFact) -> None:
    """What would go to review is held as long as a consent could still come in time."""
    permit = a_consent(given=at(5))
    first, second = drive([([objection, a_milestone(at(5))], at(6)), ([permit], at(8))], rules=PLAIN)
    assert held(first.after) == 3 and {o.verdict for o in first.outcomes if o.route} == {Verdict.HELD}
    assert ("state",) in second.net
    late, closed = drive([([objection, a_milestone(at(5))], at(9)), ([permit], at(10))], rules=PLAIN)
    assert {o.verdict for o in late.outcomes if o.route} == {Verdict.REVIEW}
    assert not closed.net


@EXAMPLES
@given(plans(punctual=False) | plans(punctual=False, permitted=True))
def test_late_permits_only_ever_show_less(plan: Plan) -> None:
    assert net_of(plan.steps(), plan.law).items() <= net_of(plan.once(), plan.law).items()


def test_the_plans_are_not_vacuous() -> None:
    """Enough of the plans write, restore and take back for the laws to say something."""
    seen: Counter[Verdict] = Counter()
    named: Counter[Verdict] = Counter()  # of what is specially protected
    told: Counter[Verdict] = Counter()  # of what a message that states no milestone marked
    limited: Counter[tuple[Verdict, Reason | None]] = Counter()  # under a law that ends permits

    @settings(EXAMPLES, max_examples=600, derandomize=True)
    @given(plans())
    def count(plan: Plan) -> None:
        assume(len(plan.horizons) > 1)
        arrived: list[AnyFact] = []
        for call in drive(plan.steps(), plan.law):
            arrived += call.arrivals
            seen.update(o.verdict for o in call.outcomes)
            limited.update((o.verdict, o.reason) for o in call.outcomes if plan.law == SHORT)
            for o in call.outcomes:
                if isinstance(o.event, Milestone) and marks(arrived, o.event):
                    named[o.verdict] += 1
                    told[o.verdict] += any(isinstance(f, Mark) and binds(f, o.event) for f in arrived)

    count()
    assert seen[Verdict.RELEASED] > 50 and seen[Verdict.RETRACTED] > 5 and seen[Verdict.REVIEW] > 5, seen
    assert named[Verdict.RELEASED] > 5 and named[Verdict.RETRACTED] and named[Verdict.SUPPRESSED] > 50, named
    assert told[Verdict.RELEASED] > 2 and told[Verdict.RETRACTED] and told[Verdict.SUPPRESSED] > 50, told
    assert limited[Verdict.RELEASED, Reason.PERMITTED] > 5 and limited[Verdict.RETRACTED, Reason.EXPIRED], limited


def test_the_filters_are_not_vacuous() -> None:
    """Enough milestones pass, wait for an enrolment, and are taken back with one."""
    seen: Counter[tuple[str, Verdict, Reason]] = Counter()
    waited = 0

    @settings(EXAMPLES, max_examples=800, derandomize=True)
    @given(plans(punctual=False, permitted=True))
    def count(plan: Plan) -> None:
        nonlocal waited
        held: set[AnyFact] = set()
        for call in drive(plan.steps()):
            seen.update((o.route, o.verdict, o.reason) for o in call.outcomes)
            on_it = [o for o in call.outcomes if o.route == "programme"]
            waited += any(o.verdict is Verdict.RELEASED and o.event in held for o in on_it)
            held |= {o.event for o in on_it if (o.verdict, o.reason) == (Verdict.HELD, Reason.NOT_ENROLLED)}

    count()
    assert seen["service", Verdict.RELEASED, Reason.PERMITTED] > 50
    assert seen["service", Verdict.SUPPRESSED, Reason.FILTERED] > 50
    assert seen["programme", Verdict.RELEASED, Reason.PERMITTED] > 50
    assert seen["programme", Verdict.RETRACTED, Reason.NOT_ENROLLED] > 2 and waited, (seen, waited)


def test_the_reviewers_are_not_vacuous() -> None:
    """Enough of their answers let something out, are too late, or lead to another question."""
    seen: Counter[object] = Counter()

    @settings(EXAMPLES, max_examples=1500, derandomize=True)
    @given(reviewed())
    def count(plan: Plan) -> None:
        for call in drive(plan.steps(), plan.law):
            closed = {o.question: o for o in call.outcomes if o.verdict is Verdict.REVIEW_CLOSED}
            seen.update(o.reason for o in closed.values())
            seen.update(o.verdict for o in call.outcomes)
            seen["allowed"] += sum(o.reason in (Reason.PERMITTED, Reason.NO_CONSENT_NEEDED) for o in closed.values())

    count()
    assert seen["allowed"] > 3 and seen[Reason.REVIEWED] and seen[Reason.REVIEW_EXPIRED], dict(seen)
    assert seen[Verdict.ASKED_AGAIN] > 5 and seen[Verdict.REVIEW_CLOSED] > 50, seen
