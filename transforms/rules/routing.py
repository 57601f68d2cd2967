"""The policy as the stages read it: which routes a milestone is paired with, and what each asks of consent."""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.event import Kind
from schemas.instant import DAY
from schemas.policy import Policy, Route
from transforms.rules.consent import Scope
from transforms.rules.tables import Recruiting, recruiting

TIME_TO_LIVE = 400 * DAY  # how long the key of a message is remembered after its event; never shorter than a wait


class RouteRule(NamedTuple):
    """What a timeline needs to know of a route. `by_patient`: one record per patient, else per visit and kind."""

    name: str
    scope: Scope
    by_patient: bool
    enabled: bool
    shadow: bool


class Rules(NamedTuple):
    """The policy as the timeline reads it. `keeps`: there is a ledger, so that a pair may stay held between calls.
    `studies`: protocol code → when it may recruit."""

    routes: Mapping[Kind, tuple[RouteRule, ...]]
    time_to_live: int
    keeps: bool
    studies: Mapping[str, Recruiting] = {}


def rules(policy: Policy, *, keeps: bool) -> Rules:
    """The rules of a timeline. `keeps`: there is a ledger between calls."""
    routes = {
        kind: tuple(_rule(route, policy.purposes) for route in policy.routes if kind in route.kinds) for kind in Kind
    }
    return Rules(routes, TIME_TO_LIVE, keeps, recruiting(policy))


def _rule(route: Route, purposes: Mapping[str, tuple[str, ...]]) -> RouteRule:
    scope = Scope(
        route.purpose,
        frozenset({route.purpose, *purposes[route.purpose]}),
        frozenset(route.destination.recipients),
        frozenset(route.scopes),
        route.wait,
        route.basis == "authorization",
    )
    return RouteRule(route.route, scope, route.record == "state", route.enabled, route.shadow)
