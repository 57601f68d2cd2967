"""The heart: one patient's timeline moved forward by new facts to an instant.

    advance(timeline, arrivals, horizon, rules) -> (timeline', outcomes, counts, due)

    1. receive   the first copy wins; another copy is repeated; a milestone that comes again is repeated
    2. decide    each pair (milestone, route) at the horizon, from all that is known by now
    3. settle    a pair's verdict is counted once; what a CRM record shows is taken back when its reason is gone

Order of arrival within a call changes nothing: facts are sorted first, and every decision reads the whole of what is
known. Rule source: DESIGN section 3, First copy wins; the laws are properties in tests/test_timeline_laws.py.
"""

from collections.abc import Iterable
from typing import NamedTuple

from schemas.event import AnyFact, Consent, Kind, Milestone, Says
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Pair, Timeline
from transforms.rules.consent import Standing, decide, ended, standing
from transforms.rules.first_copy import Received, order, ordered
from transforms.rules.routing import RouteRule, Rules


class Counts(NamedTuple):
    """What entered in a call: messages that became routed events, and their pairs."""

    events_routed: int = 0
    pairs: int = 0


HELD, RELEASED = Verdict.HELD, Verdict.RELEASED  # bound once: each look-up of an enum's member costs as much as a Pair

Verdicts = tuple[Verdict, Reason, tuple[Consent, ...]]
Place = tuple[str, Kind]  # (visit, kind)
Record = tuple[str, str, str]  # (route, visit, kind); visit and kind "" where the record is the patient's


def advance(
    timeline: Timeline, arrivals: Iterable[AnyFact], horizon: int, rules: Rules
) -> tuple[Timeline, list[Outcome], Counts, int]:
    """Move a timeline to `horizon`. `due` is the next instant at which something happens without an arrival."""
    received = Received(timeline, rules)
    for fact in ordered(arrivals):
        received.take(fact)
    received.take_late()
    known = _Known(received, horizon, rules)
    before = {known.record(pair): pair for pair in timeline.pairs if pair.shown}

    outcomes, settled = received.outcomes, [_again(pair, known, received.outcomes) for pair in timeline.pairs]
    for milestone in received.routed:
        for rule in rules.routes[milestone.kind]:
            pair = _first(milestone, rule, known, outcomes)
            if pair is not None:
                settled.append(pair)
    if before:
        shown = {known.record(pair) for pair in settled if pair.shown}
        outcomes += [_retracted(pair, known) for record, pair in before.items() if record not in shown]
    counts = Counts(len(received.routed), sum([len(rules.routes[milestone.kind]) for milestone in received.routed]))
    after, due = _keep(received, settled, known) if rules.keeps else (timeline, FOREVER)
    return after, outcomes, counts, due


# --- 2. decide -----------------------------------------------------------------------------------------------------


def _place(one: Milestone) -> Place:
    """What a CRM record of a visit stands for."""
    return (one.stay, one.kind)


class _Known:
    """What is known of the patient at the horizon, arranged for decisions."""

    def __init__(self, received: Received, horizon: int, rules: Rules) -> None:
        self.horizon = horizon
        self.rules = rules
        self.milestones = received.milestones
        self.places = received.places
        self._late = received.late
        self._consents = received.consents
        self._changed = max((change.time for change in received.changes), default=BEGINNING)
        self._conflicting = received.conflicting()
        self._sensitive = received.sensitive
        self._died = any(person.died for person in received.people)
        self._adult_at = max((person.adult_at for person in received.people), default=BEGINNING)
        # a standing holds for a route, or for one kind on it where a rule of a consent is narrowed to kinds
        self._standings: dict[str | tuple[str, Kind], Standing] = {}
        self._by_kind = False
        for consent in self._consents:
            if consent.kinds is not None:
                self._by_kind = True
        self._newest_of_patient: dict[str, tuple[int, bytes]] = {}  # route → (time, content)
        self._newest_of_visit: dict[Place, tuple[int, bytes]] = {}
        self._withdrawn: dict[Place, int] = {}  # up to when
        self._any_visit: dict[Kind, int] = {}  # the same, whatever the visit
        for one in self.milestones.values():
            if one.cancels:
                self._withdraw(one)
            elif one.time is not None and one.time <= horizon and one.what not in self._late:
                self._rank(one, (one.time, one.what))

    def _withdraw(self, one: Milestone) -> None:
        until = FOREVER if one.time is None else one.time + max(one.span - 1, 0)
        for kind in one.cancels:
            place = (one.visit, kind)  # "": of whatever visit
            self._any_visit[kind] = max(until, self._any_visit.get(kind, BEGINNING))
            self._withdrawn[place] = max(until, self._withdrawn.get(place, BEGINNING))

    def _taken_back(self, one: Milestone) -> int:
        """Up to when milestones of this visit and kind were taken back. A cancellation that names no visit may mean any
        visit, and a milestone that names none may be meant by any."""
        if not one.visit:
            return self._any_visit.get(one.kind, BEGINNING)
        return max(self._withdrawn.get((visit, one.kind), BEGINNING) for visit in (one.visit, ""))

    def _rank(self, one: Milestone, rank: tuple[int, bytes]) -> None:
        place = _place(one)
        if place not in self._newest_of_visit or self._newest_of_visit[place] < rank:
            self._newest_of_visit[place] = rank
        for rule in self.rules.routes.get(one.kind, ()):
            if rule.by_patient:
                newest = self._newest_of_patient.get(rule.name)
                if newest is None or newest < rank:
                    self._newest_of_patient[rule.name] = rank

    def rule(self, pair: Pair) -> RouteRule | None:
        for rule in self.rules.routes.get(self.milestones[pair.what].kind, ()):
            if rule.name == pair.route:
                return rule
        return None

    def record(self, pair: Pair) -> Record:
        """The CRM record that a pair writes."""
        one, rule = self.milestones[pair.what], self.rule(pair)
        return (pair.route, "", "") if rule and rule.by_patient else (pair.route, *_place(one))

    def verdict(self, one: Milestone, rule: RouteRule | None) -> Verdicts:
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
        if self._withdrawn and time <= self._taken_back(one):
            return Verdict.SUPPRESSED, Reason.CANCELLED, ()
        if rule is None or not rule.enabled:  # switched off, or no longer in the policy
            return Verdict.SUPPRESSED, Reason.ROUTE_OFF, ()
        keeps, horizon = self.rules.keeps, self.horizon
        if time > horizon:
            return HELD if keeps else Verdict.SUPPRESSED, Reason.AFTER_HORIZON, ()
        newest = self._newest_of_patient[rule.name] if rule.by_patient else self._newest_of_visit[_place(one)]
        if newest[1] != one.what:
            return Verdict.SUPPRESSED, Reason.SUPERSEDED, ()
        scope = rule.scope
        if self._sensitive and one.stay in self._sensitive:
            return Verdict.SUPPRESSED, Reason.SENSITIVE, ()
        if scope.needs_permit and self._died:
            return Verdict.SUPPRESSED, Reason.DECEASED, ()
        if scope.needs_permit and time < self._adult_at:
            return Verdict.REVIEW, Reason.MINOR, ()
        place = (rule.name, one.kind) if self._by_kind else rule.name
        known = self._standings.get(place)
        if known is None:
            known = self._standings[place] = standing(self._consents, self._changed, scope, horizon, one.kind)
        decided = decide(time, one.span, known, scope, horizon)
        if decided[0] is RELEASED:
            return (Verdict.SUPPRESSED, Reason.SHADOW, decided[2]) if rule.shadow else decided
        if keeps and horizon < time + scope.wait:
            return HELD, decided[1], decided[2]
        return decided


# --- 3. settle -----------------------------------------------------------------------------------------------------


def _first(milestone: Milestone, rule: RouteRule, known: _Known, outcomes: list[Outcome]) -> Pair | None:
    """A new pair: its verdict is counted, unless it is held. None where nobody keeps it."""
    verdict, reason, facts = known.verdict(milestone, rule)
    released = verdict is RELEASED
    if verdict is not HELD:
        place = known.places.get(milestone.what, 0) if known.places else 0
        outcomes.append(Outcome(milestone, rule.name, verdict, reason, facts, place, 1 if released else 0))
    if not known.rules.keeps:
        return None
    waits = verdict is HELD or (released and _waits(milestone, rule, known.horizon))
    return Pair(milestone.what, rule.name, verdict, released, waits, 1 if released else 0)


def _again(pair: Pair, known: _Known, outcomes: list[Outcome]) -> Pair:
    """A pair of an earlier call: a held one's verdict is counted once, what its record shows may change.

    A pair whose wait is over can only be taken back.
    """
    milestone, rule = known.milestones[pair.what], known.rule(pair)
    verdict, reason, facts = known.verdict(milestone, rule)
    released = verdict is RELEASED
    if not pair.open and (released or not pair.shown):
        return pair
    settled, ordinal = pair.settled, pair.ordinal
    if settled is HELD and verdict is not HELD:
        settled = verdict
        ordinal += released
        outcomes.append(Outcome(milestone, pair.route, verdict, reason, facts, 0, ordinal))
    elif released and not pair.shown:
        ordinal += 1
        outcomes.append(Outcome(milestone, pair.route, Verdict.RESTORED, reason, facts, 0, ordinal))
    waits = verdict is HELD or (released and _waits(milestone, rule, known.horizon))
    return Pair(pair.what, pair.route, settled, released, pair.open and waits, ordinal)


def _waits(one: Milestone, rule: RouteRule | None, horizon: int) -> bool:
    return rule is not None and one.time is not None and horizon < one.time + rule.scope.wait


def _retracted(pair: Pair, known: _Known) -> Outcome:
    """A record that shows nothing any more is taken back; one that shows something newer was simply updated."""
    milestone = known.milestones[pair.what]
    _, reason, facts = known.verdict(milestone, known.rule(pair))
    return Outcome(milestone, pair.route, Verdict.RETRACTED, reason, facts, 0, pair.ordinal, pair.ordinal)


def _keep(received: Received, pairs: list[Pair], known: _Known) -> tuple[Timeline, int]:
    """The next timeline, without what can matter no more, and when something is due in it."""
    horizon, time_to_live = known.horizon, known.rules.time_to_live
    kept = {c.what for c in received.copies if c.time is None or c.time + time_to_live >= horizon}
    kept |= {p.what for p in pairs if p.open or p.shown}
    copies = tuple(sorted((c for c in received.copies if c.what in kept), key=order))
    after = Timeline(
        copies,
        tuple(sorted(received.consents, key=order)),
        tuple(sorted(received.changes, key=order)),
        tuple(sorted(received.people, key=order)),
        tuple(sorted((p for p in pairs if p.what in kept), key=lambda p: (p.what, p.route))),
        horizon,
    )
    instants = [one.time for one in copies if one.time is not None]  # one that is dated ahead begins to count
    for pair in after.pairs:
        one, rule = known.milestones[pair.what], known.rule(pair)
        if pair.open and rule is not None and one.time is not None:
            instants.append(one.time + rule.scope.wait)
        if (pair.open or pair.shown) and rule is not None:  # a waiver begins and ends without an arrival
            instants += (rule.scope.begins, rule.scope.ends)
    for consent in after.consents:
        if consent.says is Says.PERMIT:
            end = ended(consent, after.consents)
            instants += (consent.given, consent.end if end is None else end)
    return after, min((instant for instant in instants if instant > horizon), default=FOREVER)
