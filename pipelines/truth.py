"""What must be released, what is withheld and why: told of each milestone by its persona and its fate.

A consent's rules are not evaluated here. What is applied are the two ways of counting records (DESIGN section 3): on
`patient-support` a patient has one record, and the newest milestone decides alone, whatever became of it; on the other
routes each visit and kind counts for itself.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from pipelines.hospital import Fate, History, Milestone
from pipelines.personas import MARKETING, OPERATIONS, SUPPORT, VISIBLE
from schemas.outcome import Reason

ROUTES = {SUPPORT: "patient-support", VISIBLE: "hcp-notification", MARKETING: "closed-loop", OPERATIONS: "operations"}
CRM = (ROUTES[SUPPORT], ROUTES[VISIBLE])  # the others deliver aggregates
FIRST = (Fate.CANCELLED, Fate.CONFLICTING, Fate.TIMELESS, Fate.REPLACED)  # asked before which milestone is the newest
NEEDS_PERMIT = (Fate.UNCOVERED, Fate.UNDER_AGE)  # no reason on a route of aggregates


class Expected(NamedTuple):
    """What must become of one milestone on one route: released if no reason speaks against it."""

    route: str
    milestone: Milestone
    reason: Reason | None


class Told(NamedTuple):
    """When a milestone is first told, and when what spoils it is: a cancellation, a mark, a copy that conflicts."""

    milestone: Milestone
    known: datetime
    spoiled: datetime | None


def expected(history: History) -> Iterator[Expected]:
    """One for each milestone and route, those of conflicting copies included; a cancellation's own are not."""
    newest = _newest(history.milestones)
    for milestone in history.milestones:
        for purpose, route in ROUTES.items():
            reason = _reason(history, milestone, purpose, newest)
            yield Expected(route, milestone, reason)
            if milestone.fate is Fate.CONFLICTING:
                yield Expected(route, milestone.twin, reason)


def _newest(milestones: Sequence[Milestone]) -> Milestone | None:
    return max((one for one in milestones if one.fate is not Fate.TIMELESS), key=lambda one: one.at, default=None)


def _reason(history: History, one: Milestone, purpose: str, newest: Milestone | None) -> Reason | None:
    if one.fate in FIRST:
        return Reason(one.fate)
    if purpose == SUPPORT and one != newest:
        return Reason.SUPERSEDED
    if one.fate is Fate.STANDS or (one.fate in NEEDS_PERMIT and purpose not in (SUPPORT, VISIBLE)):
        return history.persona.withheld.get(purpose)
    return Reason(one.fate)


# --- several deliveries -------------------------------------------------------------------------------------------


def taken_back(history: History, told: Iterable[Told], cuts: Sequence[datetime]) -> Iterator[tuple[str, Milestone]]:
    """Each (route, milestone) whose record is out after some delivery and not after the last one. `cuts` are the
    instants up to which each delivery reaches; whatever is told at one of them lies hours away from it."""
    told = list(told)
    for purpose in (SUPPORT, VISIBLE):
        records: dict[object, list[Told]] = {}
        for one in told:
            record = "" if purpose == SUPPORT else (one.milestone.visit.number, one.milestone.kind)
            records.setdefault(record, []).append(one)
        for its in records.values():
            shown = [_shown(history, its, purpose, cut) for cut in cuts]
            if shown[-1] is None and (out := [one for one in shown if one is not None]):
                yield ROUTES[purpose], out[-1]


def _shown(history: History, told: Iterable[Told], purpose: str, cut: datetime) -> Milestone | None:
    """What one record shows after a delivery."""
    known = [one for one in told if one.known <= cut and one.milestone.fate is not Fate.TIMELESS]
    newest = max(known, key=lambda one: one.milestone.at, default=None)
    if newest is None or (newest.spoiled is not None and newest.spoiled <= cut):
        return None
    if newest.milestone.fate in NEEDS_PERMIT:
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
