"""Topic-based subscription notifications: what the status entry of one says, and which events were missed.

The status comes in three shapes: `Parameters` (R4 as published), `SubscriptionStatus` (R4B, R5), and `Basic` with the
elements as extensions, in one or each by itself (R4 as it is being built). Only what is listed here is read of it:
what would authorize a pull, and queries that name a patient, are neither kept nor followed.
Sources: Subscriptions R5 Backport 1.1.0 (backport-subscription-status-r4, notifications, errors: missed events);
FHIR R5 SubscriptionStatus.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from schemas.errors import MessageError
from schemas.outcome import Reason

SHAPES = frozenset({"Parameters", "SubscriptionStatus", "Basic"})
_TELL = frozenset({"event-notification", "query-event"})  # that something happened
_TYPES = _TELL | {"handshake", "heartbeat", "query-status"}


class Status(NamedTuple):
    """`subscription` names it among all. `since`: how many events it has had; None where that says nothing. `numbers`
    are those of the events that this status tells of, `focuses` their resources ("" where it does not say)."""

    subscription: str
    since: int | None
    numbers: list[int]
    focuses: list[str]
    tells: bool  # of events, or only of the subscription

    def __repr__(self) -> str:
        return "Status()"


def status(tree: dict[str, Any], source: str) -> Status | None:
    """What a resource says as a subscription's status; None if it is none. Raises MessageError if it is a broken one.
    `source` is what its relative references are relative to."""
    kind = tree.get("resourceType")
    if kind == "SubscriptionStatus":
        found = _members(tree)
        found["notificationevent"] = [_members(event) for event in found.get("notificationevent", ())]
    elif kind == "Parameters":
        found = _grouped(tree.get("parameter"), "name", "part")
    else:
        found = _grouped(tree.get("extension"), "url", "extension")
        found |= _grouped(tree.get("modifierExtension"), "url", "extension")
        found = next(iter(found.get("extensionsubscriptionstatus", ())), found)
    if kind != "SubscriptionStatus" and "subscription" not in found:
        return None
    said, events = _one(found, "type"), found.get("notificationevent", [])
    if not isinstance(said, str) or said not in _TYPES or not all(isinstance(event, dict) for event in events):
        raise MessageError(Reason.MALFORMED)
    subscription = _reference(_one(found, "subscription"))
    return Status(
        subscription if ":" in subscription else f"{source} {subscription}",
        # a queried event is told again, long after: how many there are by now is no gap
        None if said == "query-event" else _number(_one(found, "eventssincesubscriptionstart")),
        [number for event in events if (number := _number(_one(event, "eventnumber"))) is not None],
        [_reference(_one(event, "focus")) for event in events],
        said in _TELL,
    )


def _members(tree: object) -> dict[str, list[Any]]:
    """The members of an object, each as a list."""
    members = tree.items() if isinstance(tree, dict) else ()
    return {name.lower(): value if isinstance(value, list) else [value] for name, value in members}


def _grouped(items: object, label: str, within: str) -> dict[str, list[Any]]:
    """The values of parameters, or of extensions, by name; of one that has parts, its parts in turn.

    >>> _grouped([{"name": "event-number", "valueString": "2"}], "name", "part")
    {'eventnumber': ['2']}
    """
    found: dict[str, list[Any]] = {}
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and isinstance(stated := item.get(label), str):
            name = stated.rpartition("/")[2].rpartition(".")[2].replace("-", "").lower()
            values = (value for key, value in item.items() if key.startswith("value"))
            value = _grouped(item[within], label, within) if within in item else next(values, None)
            found.setdefault(name, []).append(value)
    return found


def _one(found: dict[str, list[Any]], name: str) -> object:
    """The one value of that name; None if there is none. Two could be read differently."""
    values = found.get(name, [None])
    if len(values) != 1:
        raise MessageError(Reason.MALFORMED)
    return values[0]


def _number(value: object) -> int | None:
    """An integer64, which FHIR R4 writes as a string."""
    if isinstance(value, str) and len(value) <= 19 and value.isascii() and value.isdigit():
        return int(value)
    if value is None or (type(value) is int and 0 <= value < 2**63):
        return value
    raise MessageError(Reason.MALFORMED)


def _reference(value: object) -> str:
    """The literal reference; "" if there is none."""
    stated = value.get("reference") if isinstance(value, dict) else None
    return stated if isinstance(stated, str) else ""


# --- What was missed ------------------------------------------------------------------------------------------------


class Gaps:
    """The events of subscriptions that nothing has told of: those between the first and the last that are known of."""

    def __init__(self) -> None:
        self._numbers: dict[str, set[int]] = {}
        self._known: dict[str, tuple[int, int]] = {}  # all events up to the first came before; the last one there is

    def add(self, subscription: str, since: int | None, numbers: list[int]) -> None:
        """Take in what a status says, in any order."""
        counts = [*numbers, *(number - 1 for number in numbers), *([] if since is None else [since])]
        if counts:
            known = self._known.get(subscription, (counts[0], counts[0]))
            self._known[subscription] = min(*known, *counts), max(*known, *counts)
            self._numbers.setdefault(subscription, set()).update(numbers)

    @property
    def missed(self) -> int:
        """How many there are, over all subscriptions."""
        return sum(last - first - len(self._numbers[name]) for name, (first, last) in self._known.items())


def is_carried(focus: str, carried: set[str]) -> bool:
    """Is the resource that an event is about among those of these names (full URLs, and type/id)?"""
    plain = focus.partition("/_history/")[0]
    return plain in carried or "/".join(plain.split("/")[-2:]) in carried


def names(url: str, tree: object) -> Iterator[str]:
    """What the entry of a Bundle is called: by its full URL, and as type/id."""
    if url:
        yield url
    if isinstance(tree, dict) and isinstance(kind := tree.get("resourceType"), str) and tree.get("id"):
        yield f"{kind}/{tree['id']}"
