"""De-identification: a recipe's closed table, applied to one event.

An inbound field without a row is dropped; a value outside of a row's closed set becomes nothing. Besides the values
comes one line of fates, what was done to each field, the same text for all events that have the same fields.
Rule source: 45 CFR 164.514(b)(2) and (e); DESIGN section 3, De-identification.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, tzinfo

import msgspec

from schemas.crossing import Deidentified
from schemas.event import Milestone
from schemas.instant import DAY, day_of
from schemas.outcome import Reason
from schemas.policy import INBOUND, Route
from schemas.recipe import Action, Row

REMEMBERED = 100_000  # distinct results kept for each recipe

Recipe = Callable[[Milestone, Reason], Deidentified]


def compiled(route: Route, calendar: tzinfo) -> Recipe:
    """The recipe of a route as one function. `calendar` is the zone in which a day is meant.

    A result depends on few distinct values (a day, a kind, a class, a clinician), so it is remembered.
    """
    rows = [row for row in route.recipe if row.action not in (Action.DROP, Action.TOKEN)]
    read = {row.field for row in rows}
    by_class, by_npi, by_consent = "service_class" in read, "npi" in read, "consent" in read
    known: dict[object, Deidentified] = {}

    def recipe(event: Milestone, reason: Reason) -> Deidentified:
        time = event.time or 0
        day = time // DAY if calendar is UTC else day_of(time, calendar)
        service_class = event.service_class if by_class else ""
        npi = event.npi if by_npi else ""
        consent = reason.value if by_consent and reason is Reason.PERMITTED else ""
        look = (event.kind, day, service_class, npi, consent)
        found = known.get(look)
        if found is None:
            inbound = {"kind": event.kind, "time": day_of(time, calendar), "service_class": service_class, "npi": npi}
            found = _apply(rows, {**inbound, "consent": consent}, route.recipe)
            if len(known) < REMEMBERED:
                known[look] = found
        return found

    return recipe


def _apply(rows: list[Row], inbound: Mapping[str, str], whole: tuple[Row, ...]) -> Deidentified:
    values, fates = {}, []
    for row in rows:
        value = _ACTIONS[row.action](row, inbound[row.field])
        if value:
            values[row.to] = value
        fates.append(f"{row.field}:{row.action if value else 'absent'}>{row.to}")
    fates += [f"{row.field}:token>{row.to}" for row in whole if row.action is Action.TOKEN]
    passed = {row.field for row in whole if row.action is not Action.DROP}
    fates += [f"{field}:drop" for field in INBOUND if field not in passed]
    data = msgspec.json.encode({name: value for name, value in values.items() if name != "time"})
    cell = msgspec.json.encode([values.get(row.to, "") for row in rows]).decode()
    return Deidentified(values, " ".join(fates), data.decode(), cell)


# Each action on text that is already as coarse as a day. KEEP is for what identifies no patient (the level sees to it).
_ACTIONS: Mapping[Action, Callable[[Row, str], str]] = {
    Action.KEEP: lambda row, value: value,
    Action.TRUNCATE: lambda row, value: value,
    Action.YEAR: lambda row, value: value[:4],
    Action.ENUMERATE: lambda row, value: row.values.get(value, ""),
}
