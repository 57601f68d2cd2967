"""De-identification: a recipe's closed table, applied to one event.

An inbound field without a row is dropped; a value outside of a row's closed set becomes nothing. Besides the values
comes one line of fates, what was done to each field, the same text for all events that have the same fields.
Rule source: 45 CFR 164.514(b)(2) and (e); DESIGN section 3, De-identification.
"""

from collections.abc import Callable, Mapping
from datetime import UTC

import msgspec

from schemas.crossing import Deidentified
from schemas.event import Consent, Milestone
from schemas.instant import DAY, day_of, zone
from schemas.outcome import Reason
from schemas.policy import OF_EVERY_EVENT, Policy
from schemas.recipe import Action, Row
from schemas.route import Route

REMEMBERED = 100_000  # distinct results kept for each recipe

Recipe = Callable[[Milestone, Reason, tuple[Consent, ...]], Deidentified]


def compiled(route: Route, policy: Policy) -> Recipe:
    """The recipe of a route as one function of an event, the reason of its release and the consents that ground it.
    A day is meant in the policy's zone.

    A result depends on few distinct values (a day, a kind, a class, a clinician), so it is remembered.
    """
    calendar = zone(policy.zone)
    rows = [row for row in route.recipe if row.action not in (Action.DROP, Action.TOKEN)]
    read = {row.field for row in rows}
    names = sorted(read.difference(OF_EVERY_EVENT))
    by_consent = "consent" in read
    fields = [row.field for row in policy.fields]
    known: dict[object, Deidentified] = {}

    def recipe(event: Milestone, reason: Reason, facts: tuple[Consent, ...]) -> Deidentified:
        time = event.time or 0
        day = time // DAY if calendar is UTC else day_of(time, calendar)
        purposes = facts[0].purposes if by_consent and facts and reason is Reason.PERMITTED else ()
        values = event.values
        look = (event.kind, day, purposes, *[values.get(name, "") for name in names])
        found = known.get(look)
        if found is None:
            inbound = {**values, "kind": event.kind, "time": day_of(time, calendar), "consent": policy.scope(purposes)}
            found = _apply(rows, inbound, route.recipe, fields)
            if len(known) < REMEMBERED:
                known[look] = found
        return found

    return recipe


def withdrawn(route: Route, day: str) -> Recipe:
    """What a retraction says, whatever it takes back: the day of the retraction, and what becomes of the record. What
    was delivered before it cannot be recalled, which the fates say."""
    rule = route.after_revocation
    fates = f"record:retract>{rule} delivered-before:remains"
    said = Deidentified({"time": day}, fates, msgspec.json.encode({"after_revocation": rule}), "")
    return lambda *_: said


def _apply(rows: list[Row], inbound: Mapping[str, str], whole: tuple[Row, ...], fields: list[str]) -> Deidentified:
    values, fates = {}, []
    for row in rows:
        value = _ACTIONS[row.action](row, inbound.get(row.field, ""))
        if value:
            values[row.to] = value
        fates.append(f"{row.field}:{row.action if value else 'absent'}>{row.to}")
    fates += [f"{row.field}:token>{row.to}" for row in whole if row.action is Action.TOKEN]
    passed = {row.field for row in whole if row.action is not Action.DROP}
    fates += [f"{field}:drop" for field in fields if field not in passed]
    data = msgspec.json.encode({name: value for name, value in values.items() if name != "time"})
    cell = msgspec.json.encode([values.get(row.to, "") for row in rows]).decode()
    return Deidentified(values, " ".join(fates), data, cell)


# Each action on text that is already as coarse as a day. KEEP is for what identifies no patient (the level sees to it).
_ACTIONS: Mapping[Action, Callable[[Row, str], str]] = {
    Action.KEEP: lambda row, value: value,
    Action.TRUNCATE: lambda row, value: value,
    Action.YEAR: lambda row, value: value[:4],
    Action.ENUMERATE: lambda row, value: row.values.get(value, ""),
}
