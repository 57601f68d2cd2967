"""The heart: one patient's timeline moved forward by new facts to an instant.

    advance(timeline, arrivals, horizon, rules) -> (timeline', outcomes, counts, due)

    1. receive   the first copy wins; another copy is repeated; a milestone that comes again is repeated
    2. decide    each pair (milestone, route) at the horizon, from all that is known by now
    3. settle    a pair's verdict is counted once; what a CRM record shows is taken back when its reason is gone; a pair
                 in review waits for its reviewer until the deadline

Order of arrival within a call changes nothing: facts are sorted first, and every decision reads the whole of what is
known. Rule source: DESIGN section 3, First copy wins; the laws are properties in tests/test_timeline_laws.py.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from schemas.event import AnyFact, Kind, Milestone, Says
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Pair, Record, Timeline
from transforms.rules.consent import Standing, decide, ended, standing
from transforms.rules.first_copy import Received, order, ordered
from transforms.rules.judgement import Judgements
from transforms.rules.reviewing import Verdicts, ask, in_review, reconsidered, waiting, waits
from transforms.rules.routing import RouteRule, Rules


class Counts(NamedTuple):
    """What entered in a call: messages that became routed events, and their pairs."""

    events_routed: int = 0
    pairs: int = 0


# Bound once: each look-up of an enum's member costs as much as a Pair.
HELD, RELEASED, REVIEW = Verdict.HELD, Verdict.RELEASED, Verdict.REVIEW

Place = tuple[str, Kind]  # (visit, kind)
_NOTHING = (BEGINNING, b"")
WRITES = frozenset({Verdict.RELEASED, Verdict.RESTORED, Verdict.RETRACTED})  # what reaches a CRM record


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
        resolves = {known.token(pair) for pair in settled if pair.shown}
        taken = (pair for record, pair in before.items() if record not in shown)
        outcomes += [_retracted(pair, known, severs=known.token(pair) not in resolves) for pair in taken]
    counts = Counts(len(received.routed), sum([len(rules.routes[milestone.kind]) for milestone in received.routed]))
    if not rules.keeps:
        return timeline, outcomes, counts, FOREVER
    written = _numbered(outcomes, known, dict(timeline.written))
    after, due = _keep(received, settled, written, known)
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
        self._sensitive = received.sensitive
        self._died = any(person.died for person in received.people)
        self._adult_at = max((person.adult_at for person in received.people), default=BEGINNING)
        self.judged = Judgements(received, self._adult_at, horizon)
        self._doubtful = bool(self.judged.any or self.judged.conflicting or self._late)
        self._standings: dict[str, Standing] = {}
        self._newest_of_patient: dict[str, tuple[int, bytes]] = {}  # route → (time, content)
        self._newest_of_visit: dict[Place, tuple[int, bytes]] = {}
        self._withdrawn: dict[Place, int] = {}  # up to when
        self._any_visit: dict[Kind, int] = {}  # the same, whatever the visit
        self._let_in: dict[Record, tuple[int, bytes]] = {}  # what came too late, and a reviewer lets through
        for one in self.milestones.values():
            if one.cancels:
                self._withdraw(one)
            elif one.time is not None and one.time <= horizon and one.what not in self._late:
                self._rank(one, (one.time, one.what))
        for one in self._late.values() if self.judged.any else ():
            self._let(one)

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

    def _let(self, one: Milestone) -> None:
        for rule in self.rules.routes.get(one.kind, ()):
            if one.time is not None and one.time <= self.horizon and self.judged.lifts(one, rule, Reason.TOO_LATE):
                record = self.record_of(one, rule.name)
                self._let_in[record] = max((one.time, one.what), self._let_in.get(record, _NOTHING))

    def _newest(self, one: Milestone, rule: RouteRule) -> tuple[int, bytes]:
        """What decides for a milestone's record, where a reviewer let something through that came too late."""
        by_patient = rule.by_patient
        newest = self._newest_of_patient.get(rule.name) if by_patient else self._newest_of_visit.get(_place(one))
        return max(newest or _NOTHING, self._let_in.get(self.record_of(one, rule.name), _NOTHING))

    def rule(self, pair: Pair) -> RouteRule | None:
        """The rule of a pair's route; None if the policy sends this kind there no more."""
        for rule in self.rules.routes.get(self.milestones[pair.what].kind, ()):
            if rule.name == pair.route:
                return rule
        return None

    def record(self, pair: Pair) -> Record:
        """The CRM record that a pair writes."""
        return self.record_of(self.milestones[pair.what], pair.route)

    def record_of(self, one: Milestone, route: str) -> Record:
        return (route, "", "") if self.rules.named[route].by_patient else (route, *_place(one))

    def token(self, pair: Pair) -> str:
        """By what the CRM knows the patient of a pair."""
        return self.rules.named[pair.route].token

    def verdict(self, one: Milestone, rule: RouteRule | None) -> Verdicts:
        """What a pair deserves at the horizon; pure in what is known."""
        if self._doubtful and (doubt := self._doubted(one, rule)):
            return doubt
        if one.cancels:
            return Verdict.SUPPRESSED, Reason.CANCELLATION, ()
        time = one.time
        if time is None:
            return REVIEW, Reason.NO_TIME, ()
        if self._withdrawn and time <= self._taken_back(one):
            return Verdict.SUPPRESSED, Reason.CANCELLED, ()
        if rule is None or not rule.enabled:  # switched off, or no longer in the policy
            return Verdict.SUPPRESSED, Reason.ROUTE_OFF, ()
        keeps, horizon = self.rules.keeps, self.horizon
        if time > horizon:
            return HELD if keeps else Verdict.SUPPRESSED, Reason.AFTER_HORIZON, ()
        newest = (
            self._newest(one, rule) if self._let_in
            else self._newest_of_patient[rule.name] if rule.by_patient else self._newest_of_visit[_place(one)]
        )  # fmt: skip
        if newest[1] != one.what:
            return Verdict.SUPPRESSED, Reason.SUPERSEDED, ()
        scope = rule.scope
        if self._sensitive and one.stay in self._sensitive:
            return Verdict.SUPPRESSED, Reason.SENSITIVE, ()
        if scope.needs_permit and self._died:
            return Verdict.SUPPRESSED, Reason.DECEASED, ()
        if scope.needs_permit and time < self._adult_at and not self.judged.lifts(one, rule, Reason.MINOR):
            return REVIEW, Reason.MINOR, ()
        known = self._standings.get(rule.name)
        if known is None:
            known = self._standings[rule.name] = standing(self._consents, self._changed, scope, horizon)
        decided = decide(time, one.span, known, scope, horizon)
        if decided[0] is REVIEW and self.judged.any:
            decided = reconsidered(decided, one, rule, self.judged, self._consents, self._changed, horizon)
        if decided[0] is RELEASED:
            return self._released(time, rule, decided)
        if keeps and horizon < time + scope.wait:
            return HELD, decided[1], decided[2]
        return decided

    def _doubted(self, one: Milestone, rule: RouteRule | None) -> Verdicts | None:
        """What a reviewer refused, or what it is uncertain of a message that it happened as it says."""
        judged = self.judged
        if judged.denies(one, rule):
            return Verdict.SUPPRESSED, Reason.REVIEWED, ()
        if one.what in judged.conflicting and not judged.lifts(one, rule, Reason.CONFLICTING_COPY):
            return REVIEW, Reason.CONFLICTING_COPY, ()
        if one.what in self._late and not judged.lifts(one, rule, Reason.TOO_LATE):
            return REVIEW, Reason.TOO_LATE, ()
        return None

    def _released(self, time: int, rule: RouteRule, decided: Verdicts) -> Verdicts:
        """What may leave, unless the route is watched only; a day of aggregates is counted when it is over and its
        lateness has passed, never before, and never again."""
        if rule.shadow:
            return Verdict.SUPPRESSED, Reason.SHADOW, decided[2]
        if rule.window is None or not self.rules.keeps:
            return decided
        closes = rule.window.closes(time)
        if self.horizon < closes:
            return HELD, Reason.WINDOW_OPEN, decided[2]
        if closes <= self.rules.last:
            return Verdict.SUPPRESSED, Reason.WINDOW_CLOSED, decided[2]
        return decided


# --- 3. settle -----------------------------------------------------------------------------------------------------


def _first(milestone: Milestone, rule: RouteRule, known: _Known, outcomes: list[Outcome]) -> Pair | None:
    """A new pair and its verdict. None where nobody keeps it."""
    verdict, reason, facts = known.verdict(milestone, rule)
    released = verdict is RELEASED
    place = known.places.get(milestone.what, 0) if known.places else 0
    outcome = Outcome(milestone, rule.name, verdict, reason, facts, place, 1 if released else 0)
    if verdict is REVIEW:
        outcome = replace(outcome, question=known.judged.asked(milestone, reason, facts))
    outcomes.append(outcome)
    if not known.rules.keeps:
        return None
    shown = released and rule.window is None  # a count shows nothing that could be taken back
    still = verdict is HELD or (shown and waits(milestone, rule, known.horizon))
    pair = Pair(milestone.what, rule.name, verdict, shown, still, 1 if released else 0, place)
    return waiting(pair, outcome, known.rules, known.horizon) if verdict is REVIEW else pair


def _again(pair: Pair, known: _Known, outcomes: list[Outcome]) -> Pair:
    """A pair of an earlier call: a held one's verdict is counted once, what its record shows may change.

    A pair whose wait is over can only be taken back, and then a person is asked if there is anything to ask.
    """
    if not pair.reachable:
        return pair
    milestone, rule = known.milestones[pair.what], known.rule(pair)
    found = verdict, reason, facts = known.verdict(milestone, rule)
    if pair.question:
        after, closed = in_review(pair, found, milestone, rule, known.judged, known.rules, known.horizon)
        outcomes += closed
        return after
    released = verdict is RELEASED
    if not pair.open and released:
        return pair
    settled, ordinal = pair.settled, pair.ordinal
    asked = None
    if verdict is REVIEW:
        asked = ask(pair, REVIEW if settled is HELD else Verdict.ASKED_AGAIN, found, milestone, known.judged)
        settled = REVIEW if settled is HELD else settled
        outcomes.append(asked)
    elif settled is HELD and verdict is not HELD:
        settled = verdict
        ordinal += released
        outcomes.append(Outcome(milestone, pair.route, verdict, reason, facts, pair.place, ordinal))
    elif released and not pair.shown:
        ordinal += 1
        outcomes.append(Outcome(milestone, pair.route, Verdict.RESTORED, reason, facts, pair.place, ordinal))
    shown = released and (rule is None or rule.window is None)
    still = verdict is HELD or (shown and waits(milestone, rule, known.horizon))
    after = Pair(pair.what, pair.route, settled, shown, pair.open and still, ordinal, pair.place, asks=pair.asks)
    return after if asked is None else waiting(after, asked, known.rules, known.horizon)


def _retracted(pair: Pair, known: _Known, *, severs: bool) -> Outcome:
    """A record that shows nothing any more is taken back; one that shows something newer was simply updated."""
    milestone = known.milestones[pair.what]
    _, reason, facts = known.verdict(milestone, known.rule(pair))
    return Outcome(
        milestone, pair.route, Verdict.RETRACTED, reason, facts, pair.place, pair.ordinal, severs=severs
    )  # fmt: skip


def _numbered(outcomes: list[Outcome], known: _Known, written: dict[Record, int]) -> dict[Record, int]:
    """Number what reaches each CRM record, a retraction too; it takes back all that was written before it."""
    for place, outcome in enumerate(outcomes):
        event = outcome.event
        if outcome.verdict not in WRITES or not isinstance(event, Milestone):
            continue
        if known.rules.named[outcome.route].window is not None:
            continue
        record = known.record_of(event, outcome.route)
        before = written.get(record, 0)
        written[record] = before + 1
        retracts = before if outcome.verdict is Verdict.RETRACTED else 0
        outcomes[place] = replace(outcome, seq=before + 1, retracts=retracts)
    return written


def _keep(received: Received, pairs: list[Pair], written: dict[Record, int], known: _Known) -> tuple[Timeline, int]:
    """The next timeline, without what can matter no more, and when something is due in it."""
    horizon, time_to_live = known.horizon, known.rules.time_to_live
    kept = {c.what for c in received.copies if c.time is None or c.time + time_to_live >= horizon}
    reachable = {p.what for p in pairs if p.reachable}
    kept |= reachable
    if conflicting := known.judged.conflicting:  # a question rests on all of the copies that conflict
        kept |= {what for one in reachable for what in conflicting.get(one, ())}
    copies = tuple(sorted((c for c in received.copies if c.what in kept), key=order))
    after = Timeline(
        copies,
        tuple(sorted(received.consents, key=order)),
        tuple(sorted(received.changes, key=order)),
        tuple(sorted(received.people, key=order)),
        tuple(sorted((p for p in pairs if p.what in kept), key=lambda p: (p.what, p.route))),
        horizon,
        tuple(sorted(written.items())),
        received.repeats({fact.key for facts in (copies, received.lasting()) for fact in facts}),
        tuple(sorted(received.judgements, key=order)),
        tuple(sorted((late for late in received.late.values() if late.what in reachable), key=order)),
    )
    instants = [one.time for one in copies if one.time is not None]  # one that is dated ahead begins to count
    instants += [judgement.said for judgement in after.judgements]
    for pair in after.pairs:
        one, rule = known.milestones[pair.what], known.rule(pair)
        if pair.question:
            instants.append(pair.deadline)
        if (pair.open or pair.question) and rule is not None and one.time is not None:
            instants.append(one.time + rule.scope.wait)
            if rule.window is not None:
                instants.append(rule.window.closes(one.time))
    for consent in after.consents:
        if consent.says is Says.PERMIT:
            end = ended(consent, after.consents)
            instants += (consent.given, consent.end if end is None else end)
    return after, min((instant for instant in instants if instant > horizon), default=FOREVER)
