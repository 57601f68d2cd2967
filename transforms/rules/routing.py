"""The policy as the stages read it: which routes a milestone is paired with, and what each asks of consent."""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.event import Kind
from schemas.instant import BEGINNING, DAY, FOREVER, from_fhir, zone
from schemas.policy import Policy, Route, Waiver
from transforms.rules.consent import Scope

TIME_TO_LIVE = 400 * DAY  # how long the key of a message is remembered after its event; never shorter than a wait


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


def rules(policy: Policy, *, keeps: bool) -> Rules:
    """The rules of a timeline. `keeps`: there is a ledger between calls."""
    routes = {kind: tuple(_rule(route, policy) for route in policy.routes if kind in route.kinds) for kind in Kind}
    return Rules(routes, TIME_TO_LIVE, keeps)


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
    return RouteRule(route.route, scope, route.record == "state", route.enabled, route.shadow)


def _dates(waiver: Waiver | None, calendar: str) -> tuple[int, int]:
    """When a waiver may be relied on, in the policy's calendar: from the day of its approval through its last day."""
    if waiver is None:
        return BEGINNING, FOREVER
    first, last = (from_fhir(day.isoformat(), zone(calendar)) for day in (waiver.approved, waiver.expires))
    return (first.time, last.time + last.span) if first and last else (BEGINNING, BEGINNING)
