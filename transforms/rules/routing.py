"""The policy as the stages read it: which routes a milestone is paired with, and what each asks of consent."""

from collections.abc import Mapping
from datetime import tzinfo
from types import MappingProxyType
from typing import NamedTuple

from schemas.event import Kind
from schemas.instant import BEGINNING, DAY, FOREVER, day_of, from_fhir, zone
from schemas.outcome import Reason
from schemas.policy import Policy
from schemas.route import Route, Waiver
from transforms.rules.consent import Scope
from transforms.rules.filters import Filters
from transforms.rules.jurisdiction import NO_LIMITS, Law, law_of
from transforms.rules.records import scope_of
from transforms.rules.tables import Recruiting, recruiting

TIME_TO_LIVE = 400 * DAY  # how long the key of a message is remembered after its event; never shorter than a wait


class Window(NamedTuple):
    """How a route's aggregates are cut: by days of a calendar, each open for `lateness` microseconds after its end."""

    calendar: tzinfo
    lateness: int

    def closes(self, time: int) -> int:
        """When the day of an event is counted, once and for all."""
        return self.closes_on(day_of(time, self.calendar))

    def closes_on(self, day: str) -> int:
        """The same of a day (YYYY-MM-DD); never, if it is none."""
        found = from_fhir(day, self.calendar)
        return FOREVER if found is None else found.time + found.span + self.lateness


def window_of(policy: Policy) -> Window:
    """How all aggregates of a policy are cut."""
    return Window(zone(policy.zone), policy.limits.lateness_days * DAY)


class RouteRule(NamedTuple):
    """What a timeline needs to know of a route. `by_patient`: one record per patient, else per visit and kind. `token`:
    the vault's scope, which routes of one destination and purpose share. `window`: of a route of aggregates. `filters`:
    which milestones of its kinds it takes; None for all."""

    name: str
    scope: Scope
    by_patient: bool
    enabled: bool
    shadow: bool
    token: str = ""
    window: Window | None = None
    filters: Filters | None = None

    def settles(self, time: int) -> int:
        """Until when an event may be held: the end of its wait, or of the window in which it would be counted."""
        return time + self.scope.wait if self.window is None else self.window.closes(time)


class Rules(NamedTuple):
    """The policy as the timeline reads it. `keeps`: there is a ledger, so that a pair may stay held between calls;
    `last` is the horizon of its last run (BEGINNING: none yet). `studies`: protocol code → when it may recruit;
    `answer_in`: how long a reviewer has, by the reason; `law`: what the jurisdiction asks of a permit. `by_programme`:
    some route filters by programmes."""

    routes: Mapping[Kind, tuple[RouteRule, ...]]
    named: Mapping[str, RouteRule]
    time_to_live: int
    keeps: bool
    last: int = BEGINNING
    studies: Mapping[str, Recruiting] = {}
    answer_in: Mapping[Reason, int] = MappingProxyType({})
    law: Law = NO_LIMITS
    by_programme: bool = False


def rules(policy: Policy, *, keeps: bool, last: int = BEGINNING) -> Rules:
    """The rules of a timeline. `keeps`: there is a ledger between calls, moved to `last` by the call before."""
    of_route = {route.route: _rule(route, policy) for route in policy.routes}
    routes = {kind: tuple(of_route[r.route] for r in policy.routes if kind in r.kinds) for kind in Kind}
    answer_in = {reason: policy.review.days(reason) * DAY for reason in Reason}
    by_programme = any(route.filters.programmes for route in policy.routes)
    law, studies = law_of(policy), recruiting(policy)
    return Rules(routes, of_route, TIME_TO_LIVE, keeps, last, studies, answer_in, law, by_programme)


def _rule(route: Route, policy: Policy) -> RouteRule:
    begins, ends = _dates(route.waiver, policy.zone)
    scope = Scope(
        route.purpose,
        frozenset({route.purpose, *policy.purposes[route.purpose]}),
        frozenset(route.destination.recipients),
        frozenset(route.scopes),
        route.wait,
        route.basis == "authorization",
        begins,
        ends,
    )
    window = window_of(policy) if route.delivers == "aggregates" else None
    token = scope_of(route.destination.name, route.purpose)
    by_patient, written = route.record == "state", route.filters
    filters = Filters(written.programmes, written.services, written.locations) if written.model_fields_set else None
    return RouteRule(route.route, scope, by_patient, route.enabled, route.shadow, token, window, filters)


def _dates(waiver: Waiver | None, calendar: str) -> tuple[int, int]:
    """When a waiver may be relied on, in the policy's calendar: from the day of its approval through its last day."""
    if waiver is None:
        return BEGINNING, FOREVER
    first, last = (from_fhir(day.isoformat(), zone(calendar)) for day in (waiver.approved, waiver.expires))
    return (first.time, last.time + last.span) if first and last else (BEGINNING, BEGINNING)
