"""How a source's messages usually look, so that a change at the sender is noticed: shapes and shares, never a value.

A profile holds, for each message type, in which share of its messages a segment, a field, an element, an extension or
a code system occurs. It can hold no patient's data: types are words of closed lists, and everything else has to match
a pattern here; which names may be in it at all is decided by `pipelines.feed_shape`.
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

VERSION: Literal[1] = 1
OTHER = "other"  # stands for all names that are not written down

SEGMENT = r"[A-Z][A-Z0-9]{2}"
ELEMENT = r"[A-Za-z]{1,40}"
_HOST = r"https?://[a-z0-9.-]{1,80}"
_PATH = r"(?:/[A-Za-z0-9._-]{1,60}){0,8}"
EXTENSION = rf"{_HOST}{_PATH}/StructureDefinition/[A-Za-z0-9-]{{1,80}}"
CODE_SYSTEM = rf"{_HOST}{_PATH}|urn:oid:[0-2](?:\.[0-9]{{1,20}}){{1,30}}"

OFTEN = 0.5  # what at least half of the messages had …
SELDOM = 0.05  # … and hardly one in twenty has now, is missing
ENOUGH = 5  # of fewer messages no share says anything

Share = Annotated[float, Meta(ge=0, le=1)]
Shares = dict[Annotated[str, Meta(pattern=rf"\A(?:{SEGMENT}|{OTHER})\Z")], Share]
FieldShares = dict[Annotated[str, Meta(pattern=rf"\A{SEGMENT}-[0-9]{{1,2}}\Z")], Share]
ElementShares = dict[Annotated[str, Meta(pattern=rf"\A{ELEMENT}\Z")], Share]
ExtensionShares = dict[Annotated[str, Meta(pattern=rf"\A(?:{EXTENSION}|{OTHER})\Z")], Share]
SystemShares = dict[Annotated[str, Meta(pattern=rf"\A(?:{CODE_SYSTEM}|{OTHER})\Z")], Share]
TypeName = Annotated[str, Meta(pattern=r"\A(?:[A-Za-z]{3,60}|[A-Z]{3}\^[A-Z][0-9A-Z][0-9])\Z")]


class Shape(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Messages of one type, and the share of them in which a name occurs (0.0: in fewer than one of two hundred)."""

    messages: Annotated[int, Meta(ge=1)]
    segments: Shares = {}
    fields: FieldShares = {}
    elements: ElementShares = {}
    extensions: ExtensionShares = {}
    code_systems: SystemShares = {}


class FeedProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All types of a feed. `messages` counts those whose shape could be read."""

    profile: Literal[1]
    messages: Annotated[int, Meta(ge=0)]
    types: dict[TypeName, Shape]


class Change(StrEnum):
    NEW = "new"
    MISSING = "suddenly missing"
    PRESENT = "suddenly present"


class Drift(msgspec.Struct, frozen=True):
    """One change: in messages of `type`, the `what` called `name` had the share `before` and has the share `now`."""

    type: str
    what: str
    name: str
    change: Change
    before: float
    now: float


FACETS = {
    "segments": "segment",
    "fields": "field",
    "elements": "element",
    "extensions": "extension",
    "code_systems": "code system",
}
_decoder = msgspec.json.Decoder(FeedProfile)


def encode(profile: FeedProfile) -> bytes:
    """A profile as JSON, sorted, so that equal feeds give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(profile, order="sorted"), indent=1) + b"\n"


def decode(text: bytes) -> FeedProfile:
    """A profile out of JSON. Raises ValueError, without a value, if it is none or of another version."""
    try:
        return _decoder.decode(text)
    except (ValueError, RecursionError):
        raise ValueError("not a feed profile of version 1") from None


def drift(before: FeedProfile, now: FeedProfile) -> list[Drift]:
    """What changed, sorted. New names are reported at once; what went or came, only where half of the messages say so.

    A field that is filled for the first time in a few messages is no news; a segment or an element is.
    """
    found: list[Drift] = []
    for kind in sorted(before.types.keys() | now.types.keys()):
        was, current = before.types.get(kind), now.types.get(kind)
        if current is None:
            share = was.messages / before.messages if was else 0.0
            if share * now.messages >= ENOUGH:  # by its share that many were to be expected
                found.append(Drift(kind, "type", kind, Change.MISSING, round(share, 2), 0.0))
        elif was is None:
            found.append(Drift(kind, "type", kind, Change.NEW, 0.0, round(current.messages / now.messages, 2)))
        elif was.messages >= ENOUGH:
            for facet, what in FACETS.items():
                found += _changes(kind, what, getattr(was, facet), getattr(current, facet), current.messages)
    return found


def _changes(kind: str, what: str, was: dict[str, float], current: dict[str, float], messages: int) -> list[Drift]:
    found = []
    for name in sorted(was.keys() | current.keys()):
        before, now = was.get(name, 0.0), current.get(name, 0.0)
        if name not in was and what != "field":
            change = Change.NEW
        elif before >= OFTEN and now < SELDOM and messages >= ENOUGH:
            change = Change.MISSING
        elif before < SELDOM and now >= OFTEN and messages >= ENOUGH:
            change = Change.PRESENT
        else:
            continue
        found.append(Drift(kind, what, name, change, before, now))
    return found
