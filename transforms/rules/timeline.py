"""The heart: one patient's timeline moved forward by new facts to an instant.

    advance(timeline, arrivals, horizon, rules) -> (timeline', outcomes, counts, due)

    1. receive   the first copy wins; another copy is repeated; a milestone that comes again is repeated
    2. decide    each pair (milestone, route) at the horizon, from all that is known by now
    3. settle    a pair's verdict is counted once; what a CRM record shows is taken back when its reason is gone

Order of arrival within a call changes nothing: facts are sorted first, and every decision reads the whole of what is
known. Rule source: DESIGN section 3, First copy wins; the laws are properties in tests/test_timeline_laws.py.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.event import AnyFact, Consent, Identity, Kind, Made, Milestone
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Pair, Timeline
from transforms.rules.consent import Scope, Standing, decide, ended, standing


class RouteRule(NamedTuple):
    """What a timeline needs to know of a route. `by_patient`: one record per patient, else per visit and kind."""

    name: str
    scope: Scope
    by_patient: bool
    enabled: bool
    shadow: bool


class Rules(NamedTuple):
    """The policy as the timeline reads it. `keeps`: there is a ledger, so that a pair may stay held between calls."""

    routes: Mapping[Kind, tuple[RouteRule, ...]]
    time_to_live: int
    keeps: bool


class Counts(NamedTuple):
    """What entered in a call: messages that became routed events, and their pairs."""

    events_routed: int = 0
    pairs: int = 0


Verdicts = tuple[Verdict, Reason, tuple[Consent, ...]]
Place = tuple[str, Kind]  # (visit, kind)


def advance(
    timeline: Timeline, arrivals: Iterable[AnyFact], horizon: int, rules: Rules
) -> tuple[Timeline, list[Outcome], Counts, int]:
    """Move a timeline to `horizon`. `due` is the next instant at which something happens without an arrival."""
    received = _Received(timeline, rules)
    for fact in sorted(arrivals, key=_order):
        received.take(fact)
    outcomes, pairs = received.outcomes, received.pairs
    known = _Known(received, horizon, rules)
    before = {_record(received.milestones[p.what], p.route, known): p for p in timeline.pairs if p.shown}

    settled: list[Pair] = []
    for pair in pairs:
        milestone, rule = received.milestones[pair.what], known.rule(pair.what, pair.route)
        if rule is not None:
            verdict, reason, facts = known.verdict(milestone, rule)
        else:  # the policy no longer has this route: nothing to decide, and nothing stays out
            verdict, reason, facts = Verdict.SUPPRESSED, Reason.ROUTE_OFF, ()
        if not pair.open and not (pair.shown and verdict is not Verdict.RELEASED):
            settled.append(pair)
            continue
        settled.append(_settle(pair, milestone, verdict, reason, facts, known, rule, outcomes))
    if before:
        _retract(before, settled, received, known, outcomes)
    after, due = _keep(received, settled, horizon, rules, known) if rules.keeps else (timeline, FOREVER)
    return after, outcomes, Counts(received.routed, received.paired), due


def _order(fact: AnyFact) -> tuple[bytes, bytes]:
    return fact.key, b"" if isinstance(fact, Identity | Made) else fact.what


# --- 1. receive ----------------------------------------------------------------------------------------------------


class _Received:
    """All copies of messages known, old and new, and the outcomes of the messages that are no routed event."""

    def __init__(self, timeline: Timeline, rules: Rules) -> None:
        self.rules = rules
        self.outcomes: list[Outcome] = []
        self.consents = list(timeline.consents)
        self.changes = list(timeline.changes)
        self.copies = list(timeline.copies)
        self.pairs = list(timeline.pairs)
        self.late: set[bytes] = set()
        self.routed = self.paired = 0
        self.milestones: dict[bytes, Milestone] = {}  # the least copy of each milestone
        self._seen: dict[bytes, set[bytes]] = {}  # key → its contents
        self._repeats: dict[bytes, int] = {}
        self.conflicts: set[bytes] = set()  # keys with more than one content
        for copy in self.copies:
            self.milestones.setdefault(copy.what, copy)
            self._note(copy.key, copy.what)
        for fact in self.consents:
            self._note(fact.key, fact.what)
        for change in self.changes:
            self._note(change.key, b"")

    def _note(self, key: bytes, what: bytes) -> bool:
        """Remember a copy; False if this very copy was known."""
        contents = self._seen.get(key)
        if contents is None:
            self._seen[key] = {what}
            return True
        if what in contents:
            return False
        contents.add(what)
        self.conflicts.add(key)
        return True

    def take(self, fact: AnyFact) -> None:
        if isinstance(fact, Milestone):
            self._milestone(fact)
        elif isinstance(fact, Consent):
            if self._note(fact.key, fact.what):
                self.consents.append(fact)
                self.outcomes.append(Outcome(fact, "", Verdict.CONSENT, Reason.RECORDED))
            else:
                self._repeat(fact, Reason.SAME_MESSAGE)
        elif isinstance(fact, Identity):
            if self._note(fact.key, b""):
                self.changes.append(fact)
                if fact.counted:
                    self.outcomes.append(Outcome(fact, "", Verdict.CONTROL, Reason.IDENTITY))
            elif fact.counted:
                self._repeat(fact, Reason.SAME_MESSAGE)

    def _milestone(self, fact: Milestone) -> None:
        routes = self.rules.routes.get(fact.kind, ())
        if not routes:
            self._repeat(fact, Reason.NO_ROUTE, Verdict.UNROUTED)
            return
        too_late = (
            fact.published is not None
            and fact.time is not None
            and fact.published - fact.time > self.rules.time_to_live
        )
        if too_late and not fact.cancels:  # never a party to a conflict; a late cancellation binds all the same
            self.late.add(fact.what)
        elif not self._note(fact.key, fact.what):
            self._repeat(fact, Reason.SAME_MESSAGE)
            return
        else:
            self.copies.append(fact)
        if fact.what in self.milestones:
            self._repeat(fact, Reason.SAME_MILESTONE)
            return
        self.milestones[fact.what] = fact
        self.routed += 1
        self.paired += len(routes)
        for rule in routes:
            self.pairs.append(Pair(fact.what, rule.name, Verdict.HELD, False, True))

    def _repeat(self, fact: AnyFact, reason: Reason, verdict: Verdict = Verdict.REPEATED) -> None:
        """One more of the same: numbered, so that each copy keeps an audit record of its own."""
        copy = self._repeats[fact.key] = self._repeats.get(fact.key, 0) + 1
        self.outcomes.append(Outcome(fact, "", verdict, reason, (), copy))


# --- 2. decide -----------------------------------------------------------------------------------------------------


class _Known:
    """What is known of the patient at the horizon, arranged for decisions."""

    def __init__(self, received: _Received, horizon: int, rules: Rules) -> None:
        self.horizon = horizon
        self.rules = rules
        self._late = received.late
        self._consents = received.consents
        self._changed = max((change.time for change in received.changes), default=BEGINNING)
        self._standings: dict[str, Standing] = {}
        self._newest_of_patient: dict[str, tuple[int, bytes]] = {}  # route → (time, what)
        self._newest_of_visit: dict[Place, tuple[int, bytes]] = {}
        self._withdrawn: dict[Place, int] = {}  # up to when
        self._milestones = received.milestones
        conflicts = received.conflicts
        self._conflicting = {c.what for c in received.copies if c.key in conflicts} if conflicts else set()
        for one in received.milestones.values():
            if one.cancels:
                until = FOREVER if one.time is None else one.time + one.span
                for kind in one.cancels:
                    place = (one.visit, kind)
                    self._withdrawn[place] = max(until, self._withdrawn.get(place, BEGINNING))
            elif one.time is not None and one.time <= horizon and one.what not in self._late:
                self._rank(one, (one.time, one.what))

    def _rank(self, one: Milestone, rank: tuple[int, bytes]) -> None:
        place = (one.visit, one.kind)
        if place not in self._newest_of_visit or self._newest_of_visit[place] < rank:
            self._newest_of_visit[place] = rank
        for rule in self.rules.routes[one.kind]:
            if rule.by_patient:
                newest = self._newest_of_patient.get(rule.name)
                if newest is None or newest < rank:
                    self._newest_of_patient[rule.name] = rank

    def rule(self, what: bytes, route: str) -> RouteRule | None:
        for rule in self.rules.routes.get(self._milestones[what].kind, ()):
            if rule.name == route:
                return rule
        return None

    def verdict(self, one: Milestone, rule: RouteRule) -> Verdicts:
        """What a pair deserves at the horizon; pure in what is known."""
        if one.what in self._conflicting:
            return Verdict.REVIEW, Reason.CONFLICTING_COPY, ()
        if one.what in self._late:
            return Verdict.REVIEW, Reason.TOO_LATE, ()
        if one.cancels:
            return Verdict.SUPPRESSED, Reason.CANCELLATION, ()
        time = one.time
        if time is None:
            return Verdict.REVIEW, Reason.NO_TIME, ()
        place = (one.visit, one.kind)
        if self._withdrawn and time <= self._withdrawn.get(place, BEGINNING):
            return Verdict.SUPPRESSED, Reason.CANCELLED, ()
        if time > self.horizon:
            return Verdict.HELD if self.rules.keeps else Verdict.SUPPRESSED, Reason.AFTER_HORIZON, ()
        newest = self._newest_of_patient[rule.name] if rule.by_patient else self._newest_of_visit[place]
        if newest[1] != one.what:
            return Verdict.SUPPRESSED, Reason.SUPERSEDED, ()
        if not rule.enabled:
            return Verdict.SUPPRESSED, Reason.ROUTE_OFF, ()
        scope = rule.scope
        known = self._standings.get(rule.name)
        if known is None:
            known = self._standings[rule.name] = standing(self._consents, self._changed, scope, self.horizon)
        verdict, reason, facts = decide(time, one.span, known, scope, self.horizon)
        if verdict is Verdict.RELEASED and rule.shadow:
            return Verdict.SUPPRESSED, Reason.SHADOW, facts
        if verdict is Verdict.SUPPRESSED and self.rules.keeps and self.horizon < time + scope.wait:
            return Verdict.HELD, reason, facts
        return verdict, reason, facts


# --- 3. settle -----------------------------------------------------------------------------------------------------


def _settle(
    pair: Pair,
    milestone: Milestone,
    verdict: Verdict,
    reason: Reason,
    facts: tuple[Consent, ...],
    known: _Known,
    rule: RouteRule | None,
    outcomes: list[Outcome],
) -> Pair:
    """Count a held pair's verdict once, and say what its record shows from now on."""
    settled, ordinal = pair.settled, pair.ordinal
    released = verdict is Verdict.RELEASED
    if settled is Verdict.HELD and verdict is not Verdict.HELD:
        settled = verdict
        ordinal += released
        outcomes.append(Outcome(milestone, pair.route, verdict, reason, facts, 0, ordinal))
    elif released and not pair.shown:
        ordinal += 1
        outcomes.append(Outcome(milestone, pair.route, Verdict.RESTORED, reason, facts, 0, ordinal))
    time = milestone.time
    waits = verdict is Verdict.HELD or (
        released and rule is not None and time is not None and known.horizon < time + rule.scope.wait
    )
    return Pair(pair.what, pair.route, settled, released, pair.open and waits, ordinal)


Record = tuple[str, str, str]  # (route, visit, kind); visit and kind "" where the record is the patient's


def _record(milestone: Milestone, route: str, known: _Known) -> Record:
    rule = known.rule(milestone.what, route)
    if rule is not None and rule.by_patient:
        return route, "", ""
    return route, milestone.visit, milestone.kind


def _retract(
    before: Mapping[Record, Pair], after: list[Pair], received: _Received, known: _Known, outcomes: list[Outcome]
) -> None:
    """A record that shows nothing any more is taken back; one that shows something newer was simply updated."""
    shown = {_record(received.milestones[p.what], p.route, known) for p in after if p.shown}
    for record, pair in before.items():
        if record not in shown:
            milestone = received.milestones[pair.what]
            rule = known.rule(pair.what, pair.route)
            _, reason, facts = known.verdict(milestone, rule) if rule else (None, Reason.ROUTE_OFF, ())
            outcomes.append(
                Outcome(milestone, pair.route, Verdict.RETRACTED, reason, facts, 0, pair.ordinal, pair.ordinal)
            )


def _keep(received: _Received, pairs: list[Pair], horizon: int, rules: Rules, known: _Known) -> tuple[Timeline, int]:
    """The next timeline, without what can matter no more, and when something is due in it."""
    bound = {p.what for p in pairs if p.open or p.shown}
    live = {c.what for c in received.copies if c.time is None or c.time + rules.time_to_live >= horizon}
    copies = tuple(sorted((c for c in received.copies if c.what in live or c.what in bound), key=_order))
    kept = tuple(sorted((p for p in pairs if p.what in bound or p.what in live), key=lambda p: (p.what, p.route)))
    consents = tuple(sorted(received.consents, key=_order))
    after = Timeline(copies, consents, tuple(sorted(received.changes, key=_order)), kept, horizon)
    instants = [t for c in consents for t in (c.given, ended(c, consents) or c.end)]
    for pair in kept:
        one, rule = received.milestones[pair.what], known.rule(pair.what, pair.route)
        if pair.open and rule is not None and one.time is not None:
            instants += (one.time, one.time + rule.scope.wait)
    return after, min((t for t in instants if t > horizon), default=FOREVER)
