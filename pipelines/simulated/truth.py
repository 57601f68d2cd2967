"""What must be released, what is withheld and why: told of each milestone by its persona and its fate.

A consent's rules are not evaluated here. What is applied are the two ways of counting records (DESIGN section 3): on
`patient-support` and `adherence` a patient has one record, and the newest milestone decides alone, whatever became of
it; on the other routes each visit and kind counts for itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from pipelines.simulated.chart import Fate, History, Milestone
from pipelines.simulated.personas import MARKETING, OPERATIONS, RESEARCH, SUPPORT, VISIBLE
from schemas.outcome import Reason


class Route(NamedTuple):
    """What a route takes, and how its records are counted. `crm`: it delivers payloads, the others aggregates."""

    purpose: str
    kinds: tuple[str, ...]
    by_patient: bool = False
    crm: bool = True


GAP = "refill-gap"  # falls due without a message
VISITS = ("admitted", "registered", "discharged", "booked", "attended", "episode-completed")
ROUTES = {
    "patient-support": Route(SUPPORT, (*VISITS, "enrolled"), by_patient=True),
    "adherence": Route(SUPPORT, ("prescribed", "dispensed", GAP), by_patient=True),
    "trial-recruitment": Route(RESEARCH, ("trial-eligible",)),
    "hcp-notification": Route(VISIBLE, VISITS),
    "closed-loop": Route(MARKETING, VISITS, crm=False),
    "operations": Route(OPERATIONS, VISITS, crm=False),
}
CRM = tuple(name for name, route in ROUTES.items() if route.crm)
# asked before which milestone is the newest
FIRST = (Fate.CANCELLED, Fate.CONFLICTING, Fate.TIMELESS, Fate.REPLACED, Fate.REFILLED, Fate.NOT_DUE)
NEEDS_PERMIT = (Fate.UNCOVERED, Fate.UNDER_AGE)  # no reason on a route of aggregates
NEVER = (*NEEDS_PERMIT, Fate.UNAPPROVED)  # never right on a route that needs a permit


class Expected(NamedTuple):
    """What must become of one milestone on one route: released if no reason speaks against it."""

    route: str
    milestone: Milestone
    reason: Reason | None


class Told(NamedTuple):
    """When a milestone is first told, and when what spoils it is: a cancellation, a mark, a copy that conflicts; of a
    gap, also when the dispense that closes it is told: from then on the gap never was."""

    milestone: Milestone
    known: datetime
    spoiled: datetime | None
    refilled: datetime | None = None


def expected(history: History) -> Iterator[Expected]:
    """One for each milestone and route, those of conflicting copies included; a cancellation's own are not."""
    for name, route in ROUTES.items():
        taken = [one for one in history.milestones if one.kind in route.kinds]
        newest = _newest(taken)
        for milestone in taken:
            reason = _reason(history, milestone, route, newest)
            yield Expected(name, milestone, reason)
            if milestone.fate is Fate.CONFLICTING:
                yield Expected(name, milestone.twin, reason)


def _newest(milestones: Iterable[Milestone]) -> Milestone | None:
    """What has no time, is not due by now, or never was, is not the newest."""
    ranked = (one for one in milestones if one.fate not in (Fate.TIMELESS, Fate.NOT_DUE) and not one.refill)
    return max(ranked, key=lambda one: one.at, default=None)


def _reason(history: History, one: Milestone, route: Route, newest: Milestone | None) -> Reason | None:
    if one.fate in FIRST:
        return Reason(one.fate)
    if route.by_patient and one != newest:
        return Reason.SUPERSEDED
    if one.fate is Fate.NAMED and not route.crm:  # no permit is asked for there, so none can name it
        return Reason.SENSITIVE
    if one.fate in (Fate.STANDS, Fate.NAMED) or (one.fate in NEEDS_PERMIT and not route.crm):
        return history.persona.withheld.get(route.purpose)
    return Reason(one.fate)


# --- several deliveries -------------------------------------------------------------------------------------------


def taken_back(history: History, told: Iterable[Told], cuts: Sequence[datetime]) -> Iterator[tuple[str, Milestone]]:
    """Each (route, milestone) whose record is out after some delivery and not after the last one. `cuts` are the
    instants up to which each delivery reaches; whatever is told at one of them lies hours away from it."""
    told = list(told)
    for name in CRM:
        route = ROUTES[name]
        records: dict[object, list[Told]] = {}
        for one in told:
            if one.milestone.kind in route.kinds:
                record = "" if route.by_patient else (one.milestone.visit.number, one.milestone.kind)
                records.setdefault(record, []).append(one)
        for its in records.values():
            shown = [_shown(history, its, route.purpose, cut) for cut in cuts]
            if shown[-1] is None and (out := [one for one in shown if one is not None]):
                yield name, out[-1]


def _shown(history: History, told: Iterable[Told], purpose: str, cut: datetime) -> Milestone | None:
    """What one record shows after a delivery."""
    known = [one for one in told if one.known <= cut and one.milestone.fate is not Fate.TIMELESS]
    known = [one for one in known if one.refilled is None or cut < one.refilled]
    newest = max(known, key=lambda one: one.milestone.at, default=None)
    if newest is None or (newest.spoiled is not None and newest.spoiled <= cut):
        return None
    if newest.milestone.fate in NEVER:
        return None
    until = _until(history, purpose)
    return newest.milestone if until is None or cut < until else None


def _until(history: History, purpose: str) -> datetime | None:
    """When releases of this purpose end; None: never."""
    if purpose not in history.persona.withheld:
        return None
    match history.persona.ends:
        case "last":
            return history.consents[-1].given
        case "first":
            return history.consents[0].until
        case "news":
            return history.news
    return datetime.min.replace(tzinfo=history.news.tzinfo)
