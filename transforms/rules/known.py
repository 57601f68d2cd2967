"""Decide: what a pair (milestone, route) deserves at the horizon, from all that is known of the patient by now.

    1. doubt           a reviewer refused it: suppressed; two copies differ, or it came too late: review
    2. never or not    a cancellation; nobody knows when it happened: review; what was cancelled or refilled, a route
                       that is off, what has not happened yet
    3. filters         what the route does not take: another service or place, a patient in none of its programmes
    4. newest          of a CRM record's milestones the newest one that the route takes decides alone
    5. before consent  studies that are not approved, what is specially protected and that no permit names, the dead,
                       minors
    6. consent         `consent.decide`; a reviewer may have found that what stands in the way does not
    7. when            a route that is watched only, or a day of aggregates that was counted, releases nothing; what may
                       still be permitted, enrolled or counted is held (with a ledger)

Rule source: DESIGN section 3, First copy wins and Consent.
"""

from collections.abc import Iterable

from schemas.event import Kind, Milestone
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from schemas.timeline import Pair, Record
from transforms.rules.consent import Standing, decide, standing, until_majority
from transforms.rules.enrolment import Enrolment, enrolments
from transforms.rules.filters import Filters, takes
from transforms.rules.first_copy import Received
from transforms.rules.judgement import Judgements
from transforms.rules.jurisdiction import lawful
from transforms.rules.reviewing import Decision, reconsidered
from transforms.rules.routing import RouteRule, Rules
from transforms.rules.sensitivity import Classes
from transforms.rules.visits import Numbers, joined

# Bound once: each look-up of an enum's member costs as much as a Pair.
HELD, RELEASED, REVIEW = Verdict.HELD, Verdict.RELEASED, Verdict.REVIEW
DISPENSED, TRIAL_ELIGIBLE = Kind.DISPENSED, Kind.TRIAL_ELIGIBLE

Place = tuple[str, Kind]  # (visit, kind)
_NOTHING = (BEGINNING, b"")


def _place(one: Milestone) -> Place:
    """What a CRM record of a visit stands for."""
    return (one.stay, one.kind)


class Known:
    """What is known of the patient at the horizon, arranged for decisions."""

    def __init__(self, received: Received, horizon: int, rules: Rules) -> None:
        self.horizon = horizon
        self.rules = rules
        self.milestones = received.milestones
        self.places = received.places
        self._routed = received.routed
        self._late = received.late
        self.adult_at = max((person.adult_at for person in received.people), default=BEGINNING)
        self.consents = until_majority(lawful(received.consents, rules.law), self.adult_at)
        self._changed = max((change.time for change in received.changes), default=BEGINNING)
        self._classes, self._also, self._related = received.classes, received.also, received.related
        self._numbers: Numbers | None = None  # of visits that have several; joined once somebody asks
        self._died = any(person.died for person in received.people)
        self._guarded = bool(self._classes or self._died or self.adult_at != BEGINNING)
        # a standing holds for a route; for one kind on it where a rule of a consent is narrowed to kinds; for classes
        self._standings: dict[str | tuple[str, Kind, Classes], Standing] = {}
        self._by_kind = any(consent.kinds is not None for consent in self.consents)
        self.judged = Judgements(received, self.adult_at, horizon)
        self._doubtful = bool(self.judged.any or self.judged.conflicting or self._late)
        self._newest_of_patient: dict[str, tuple[int, bytes]] = {}  # route → (time, content)
        self._newest_of_visit: dict[Place, tuple[int, bytes]] = {}
        self._newest_taken: dict[Record, tuple[int, bytes]] = {}  # on routes with filters
        self._withdrawn: dict[Place, int] = {}  # up to when
        self._any_visit: dict[Kind, int] = {}  # the same, whatever the visit
        self._dispensed: dict[str, list[int | None]] = {}  # course → when; "": of a medication that is not known
        self._let_in: dict[Record, tuple[int, bytes]] = {}  # what came too late, and a reviewer lets through
        later = []  # what ranks only once all else is known
        for one in self.milestones.values():
            if one.cancels:
                self._withdraw(one)
            elif one.kind is DISPENSED:
                self._dispensed.setdefault(one.course, []).append(one.time)
            if not one.cancels and one.time is not None and one.time <= horizon and one.what not in self._late:
                if one.since is None and not rules.by_programme:
                    self._rank(one, (one.time, one.what))
                else:
                    later.append(one)
        self._enrolments: list[Enrolment] = []
        if rules.by_programme:
            doubted = {*self._late, *self.judged.conflicting}
            self._enrolments = enrolments(self.milestones.values(), self._names, doubted, self._taken_back)
        for one in later:
            if one.time is not None and (one.since is None or not self._refilled(one)):  # a gap that was
                self._rank(one, (one.time, one.what))
        for one in self._late.values() if self.judged.any else ():
            self._let(one)

    def _names(self, visit: str) -> Iterable[str]:
        """All numbers of the visit that has this one."""
        if self._numbers is None:
            self._numbers = joined(self.milestones, self._also)
        return self._numbers.get(visit, (visit,))

    def _withdraw(self, one: Milestone) -> None:
        until = FOREVER if one.time is None else one.time + max(one.span - 1, 0)
        for kind in one.cancels:
            self._any_visit[kind] = max(until, self._any_visit.get(kind, BEGINNING))
            names = [*self._names(one.visit)]  # "": of whatever visit
            if kind is Kind.REFILL_GAP and one.kind is Kind.PRESCRIBED:  # an order that ends: all gaps of its course
                names.append(one.course)
            for name in names:
                self._withdrawn[name, kind] = max(until, self._withdrawn.get((name, kind), BEGINNING))

    def _taken_back(self, one: Milestone) -> int:
        """Up to when milestones of this visit and kind were taken back. A cancellation that names no visit may mean any
        visit, and a milestone that names none may be meant by any."""
        if not one.visit:
            return self._any_visit.get(one.kind, BEGINNING)
        names = ["", *self._names(one.visit)]
        if one.since is not None:
            names.append(one.course)
        return max(self._withdrawn.get((name, one.kind), BEGINNING) for name in names)

    def _refilled(self, gap: Milestone) -> bool:
        """Was something dispensed in the gap's course in time? What is undated or of no known medication may be it."""
        since, time = gap.since, gap.time
        assert since is not None and time is not None  # noqa: S101  a gap is computed from a time
        times = [*self._dispensed.get(gap.course, ()), *self._dispensed.get("", ())]
        return any(at is None or since < at <= time for at in times)

    def _rank(self, one: Milestone, rank: tuple[int, bytes]) -> None:
        place = _place(one)
        if place not in self._newest_of_visit or self._newest_of_visit[place] < rank:
            self._newest_of_visit[place] = rank
        for rule in self.rules.routes.get(one.kind, ()):
            if rule.filters is not None:  # what a route does not take outranks nothing there
                if self._left_out(one, rank[0], rule.filters) is None:
                    record = self.record_of(one, rule.name)
                    self._newest_taken[record] = max(rank, self._newest_taken.get(record, _NOTHING))
            elif rule.by_patient:
                newest = self._newest_of_patient.get(rule.name)
                if newest is None or newest < rank:
                    self._newest_of_patient[rule.name] = rank

    def _let(self, one: Milestone) -> None:
        for rule in self.rules.routes.get(one.kind, ()):
            if one.time is None or one.time > self.horizon or not self.judged.lifts(one, rule, Reason.TOO_LATE):
                continue
            if rule.filters is None or self._left_out(one, one.time, rule.filters) is None:
                record = self.record_of(one, rule.name)
                self._let_in[record] = max((one.time, one.what), self._let_in.get(record, _NOTHING))

    def _newest(self, one: Milestone, rule: RouteRule) -> tuple[int, bytes]:
        """What decides for a milestone's record, where a route has filters, or where a reviewer let something through
        that came too late."""
        record = self.record_of(one, rule.name)
        if rule.filters is not None:
            newest = self._newest_taken.get(record)
        elif rule.by_patient:
            newest = self._newest_of_patient.get(rule.name)
        else:
            newest = self._newest_of_visit.get(_place(one))
        return max(newest or _NOTHING, self._let_in.get(record, _NOTHING))

    def _left_out(self, one: Milestone, time: int, filters: Filters) -> Reason | None:
        """Why a route with these filters does not take a milestone; None if it does. Who is enrolled may be known
        later, what a milestone states never changes."""
        if not takes(filters, one.values):
            return Reason.FILTERED
        if filters.programmes and not any(
            enrolment.programme in filters.programmes and enrolment.covers(one, time) for enrolment in self._enrolments
        ):
            return Reason.NOT_ENROLLED
        return None

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

    def verdict(self, one: Milestone, rule: RouteRule | None) -> Decision:
        """What a pair deserves at the horizon; pure in what is known."""
        if self._doubtful and (doubt := self._doubted(one, rule)):
            return doubt
        if one.cancels:
            return Verdict.SUPPRESSED, Reason.CANCELLATION, ()
        time = one.time
        if time is None:
            return REVIEW, Reason.NO_TIME, ()
        if (self._withdrawn or one.since is not None) and (gone := self._gone(one, time)) is not None:
            return Verdict.SUPPRESSED, gone, ()
        if rule is None or not rule.enabled:  # switched off, or no longer in the policy
            return Verdict.SUPPRESSED, Reason.ROUTE_OFF, ()
        keeps, horizon = self.rules.keeps, self.horizon
        if time > horizon:
            return HELD if keeps else Verdict.SUPPRESSED, Reason.AFTER_HORIZON, ()
        filters = rule.filters
        if filters is not None and (left_out := self._left_out(one, time, filters)) is not None:
            waits = left_out is Reason.NOT_ENROLLED and keeps and horizon < rule.settles(time)
            return HELD if waits else Verdict.SUPPRESSED, left_out, ()
        newest = (
            self._newest(one, rule) if self._let_in or filters is not None
            else self._newest_of_patient[rule.name] if rule.by_patient else self._newest_of_visit[_place(one)]
        )  # fmt: skip
        if newest[1] != one.what:
            return Verdict.SUPPRESSED, Reason.SUPERSEDED, ()
        scope = rule.scope
        classes = self._classes_of(one) if self._classes else ()
        place = (rule.name, one.kind, classes) if classes or self._by_kind else rule.name
        known = self._standings.get(place)
        if known is None:
            known = standing(self.consents, self._changed, scope, horizon, one.kind, classes)
            self._standings[place] = known
        decided = decide(time, one.span, known, scope, horizon)
        if self._guarded or one.kind is TRIAL_ELIGIBLE:
            protected = self._before_consent(one, time, rule, classes, decided[0] is RELEASED)
            if protected is not None:
                return protected
        if decided[0] is REVIEW and self.judged.any:
            decided = reconsidered(decided, one, rule, self.judged, self.consents, self._changed, horizon)
        if decided[0] is RELEASED:
            return self._released(one, time, rule, decided)
        if keeps and horizon < rule.settles(time):
            return HELD, decided[1], decided[2]
        return decided

    def _classes_of(self, one: Milestone) -> Classes:
        """Of what specially protected information a milestone is: by any number of its visit, by a Condition that it
        refers to, and as all of the patient's are. One that names no visit may be of any that is marked."""
        numbers = ("", *self._names(one.visit), *self._related.get(one.what, ())) if one.visit else self._classes
        return tuple(sorted({name for number in numbers for name in self._classes.get(number, ())}))

    def _doubted(self, one: Milestone, rule: RouteRule | None) -> Decision | None:
        """What a reviewer refused, or what it is uncertain of a message that it happened as it says."""
        judged = self.judged
        if judged.denies(one, rule):
            return Verdict.SUPPRESSED, Reason.REVIEWED, ()
        if one.what in judged.conflicting and not judged.lifts(one, rule, Reason.CONFLICTING_COPY):
            return REVIEW, Reason.CONFLICTING_COPY, ()
        if one.what in self._late and not judged.lifts(one, rule, Reason.TOO_LATE):
            return REVIEW, Reason.TOO_LATE, ()
        return None

    def _released(self, one: Milestone, time: int, rule: RouteRule, decided: Decision) -> Decision:
        """What may leave, unless the route is watched only; a day of aggregates is counted when it is over and its
        lateness has passed, never before, and never again."""
        if rule.shadow:
            return Verdict.SUPPRESSED, Reason.SHADOW, decided[2]
        if rule.window is None or not self.rules.keeps:
            return decided
        closes = rule.window.closes(time)
        if self.horizon < closes:
            return HELD, Reason.WINDOW_OPEN, decided[2]
        if closes <= self.rules.last and any(one is new for new in self._routed):  # what was held is counted yet
            return Verdict.SUPPRESSED, Reason.WINDOW_CLOSED, decided[2]
        return decided

    def _gone(self, one: Milestone, time: int) -> Reason | None:
        """Why a milestone never was, or None. A gap is as old as what it was computed from."""
        if (time if one.since is None else one.since) <= self._taken_back(one):
            return Reason.CANCELLED
        return Reason.REFILLED if one.since is not None and self._refilled(one) else None

    def _before_consent(
        self, one: Milestone, time: int, rule: RouteRule, classes: Classes, permitted: bool
    ) -> Decision | None:
        """What comes before any consent: it is withheld from everybody, or from all that is no count of many. What is
        specially protected needs a permit of its own, never a reviewer, and waits for one as all else does."""
        if one.kind is TRIAL_ELIGIBLE and not self._recruits(one, time):
            return Verdict.SUPPRESSED, Reason.STUDY_NOT_APPROVED, ()
        if classes and not (permitted and rule.scope.needs_permit):
            waits = rule.scope.needs_permit and self.rules.keeps and self.horizon < rule.settles(time)
            return HELD if waits else Verdict.SUPPRESSED, Reason.SENSITIVE, ()
        if self._died and rule.window is None:
            return Verdict.SUPPRESSED, Reason.DECEASED, ()
        if time < self.adult_at and rule.window is None and not self.judged.lifts(one, rule, Reason.MINOR):
            return REVIEW, Reason.MINOR, ()
        return None

    def _recruits(self, one: Milestone, time: int) -> bool:
        """Was the study approved, protocol and site, when the patient was found eligible, and is it still open?"""
        study = self.rules.studies.get(one.values.get("protocol", ""))
        return study is not None and study.begins <= time and self.horizon < study.ends
