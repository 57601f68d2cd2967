"""De-identification: a recipe's closed table, applied to one event.

An inbound field without a row is dropped; a value outside of a row's closed set becomes nothing. Besides the values
comes one line of fates, what was done to each field, the same text for all events that have the same fields.
Rule source: 45 CFR 164.514(b)(2) and (e); DESIGN section 3, De-identification.
"""

from collections.abc import Callable, Mapping
from datetime import tzinfo
from functools import lru_cache
from typing import NamedTuple

from schemas.event import Milestone
from schemas.instant import day_of
from schemas.outcome import Reason
from schemas.policy import INBOUND, Route
from schemas.recipe import Action, Row


class Made(NamedTuple):
    """What a recipe makes of an event: outbound field → text, and the fates of the inbound fields."""

    values: Mapping[str, str]
    fates: str


def compiled(route: Route, calendar: tzinfo) -> Callable[[Milestone, Reason], Made]:
    """The recipe of a route as one function. `calendar` is the zone in which a day is meant.

    The result depends on few distinct inbound values (a day, a kind, a class, a clinician), so it is remembered.
    """
    rows = [row for row in route.recipe if row.action not in (Action.DROP, Action.TOKEN)]
    reads = {row.field for row in rows}

    @lru_cache(maxsize=65536)
    def made(kind: str, day: str, service_class: str, npi: str, consent: str) -> Made:
        inbound = {"kind": kind, "time": day, "service_class": service_class, "npi": npi, "consent": consent}
        values, fates = {}, []
        for row in rows:
            value = _ACTIONS[row.action](row, inbound[row.field])
            if value:
                values[row.to] = value
            fates.append(f"{row.field}:{row.action if value else 'absent'}>{row.to}")
        return Made(values, " ".join(fates + rest))

    rest = [f"{row.field}:token>{row.to}" for row in route.recipe if row.action is Action.TOKEN]
    passed = {row.field for row in route.recipe if row.action is not Action.DROP}
    rest += [f"{field}:drop" for field in INBOUND if field not in passed]
    reads_time, reads_class, reads_npi, reads_consent = (
        name in reads for name in ("time", "service_class", "npi", "consent")
    )

    def apply(event: Milestone, reason: Reason) -> Made:
        return made(
            event.kind,
            day_of(event.time, calendar) if reads_time and event.time is not None else "",
            event.service_class if reads_class else "",
            event.npi if reads_npi else "",
            reason.value if reads_consent and reason is Reason.PERMITTED else "",
        )

    return apply


# Each action on text that is already as coarse as a day. KEEP is for what identifies no patient (the level sees to it).
_ACTIONS: Mapping[Action, Callable[[Row, str], str]] = {
    Action.KEEP: lambda row, value: value,
    Action.TRUNCATE: lambda row, value: value,
    Action.YEAR: lambda row, value: value[:4],
    Action.ENUMERATE: lambda row, value: row.values.get(value, ""),
}
