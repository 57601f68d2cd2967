"""What moves between the stages: one shard's list at a time, never one event.

Between Timeline and Audit no runner that fuses encodes these at all. Beam still asks for the size of the elements that
it samples, and with few, large elements it samples most of them: estimating by pickling a list of structs cost more
than the work itself (70 of 126 µs an event). So these types have a coder that can encode, and that weighs nothing.
"""

import pickle
from collections.abc import Iterable, Sequence
from typing import Any, cast

from apache_beam import coders
from apache_beam.coders.coder_impl import CoderImpl
from apache_beam.coders.coders import FastCoder

from schemas.crossing import Crossing, Draft, Entries
from schemas.event import Milestone
from schemas.message import Block
from schemas.timeline import Outcome


class Batch:
    """One shard's items: `shard` is the key of the GroupByKey, 4 bytes. Prints nothing of them."""

    __slots__ = ("items", "shard")

    def __init__(self, shard: bytes, items: list[Any]) -> None:
        self.shard, self.items = shard, items

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.items)} items)"

    def __reduce__(self) -> tuple[type, tuple[bytes, list[Any]]]:
        return type(self), (self.shard, self.items)


class Outcomes(Batch):
    """What a shard's timelines decided."""

    items: list[Outcome]


class Drafts(Batch):
    """A shard's releases after their recipes, one draft a route."""

    items: list[Draft]


class Crossings(Batch):
    """A shard's releases, ready to leave, one crossing a route."""

    items: list[Crossing]


class _UnweighedImpl(CoderImpl):
    def encode(self, value: object) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> object:
        return pickle.loads(encoded)  # noqa: S301  written by this job's own workers

    def encode_to_stream(self, value: object, stream: Any, nested: bool) -> None:
        stream.write(self.encode(value), nested)

    def decode_from_stream(self, stream: Any, nested: bool) -> object:
        return self.decode(stream.read_all(nested))

    def estimate_size(self, value: object, nested: bool = False) -> int:
        return 0


class Unweighed(FastCoder):
    """Pickles if it must, and never to measure."""

    def _create_impl(self) -> CoderImpl:
        return _UnweighedImpl()

    def is_deterministic(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


def by_route(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by their route, "" for a message's own."""
    routes: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.route in routes:
            routes[outcome.route].append(outcome)
        else:
            routes[outcome.route] = [outcome]
    return routes


def entries(route: str, outcomes: Sequence[Outcome]) -> Entries:
    """What the audit log learns of outcomes that share a route."""
    return Entries(
        route,
        [one.event.key for one in outcomes],
        [event.what for event in milestones(outcomes)] if route else [],
        [one.event.type for one in outcomes],
        [one.verdict for one in outcomes],
        [one.reason for one in outcomes],
        [tuple([fact.what for fact in one.facts]) if one.facts else () for one in outcomes],
        [one.copy for one in outcomes],
        [one.ordinal for one in outcomes],
    )


def milestones(outcomes: Iterable[Outcome]) -> list[Milestone]:
    """The events of outcomes on a route: only milestones are paired with routes."""
    return cast("list[Milestone]", [one.event for one in outcomes])


for _type in (Block, Outcomes, Drafts, Crossings):
    coders.registry.register_coder(_type, Unweighed)
