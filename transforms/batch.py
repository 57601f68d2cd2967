"""What moves between the stages: one shard's list at a time, never one event.

Between Timeline and Audit no runner that fuses encodes these at all. Beam still asks for the size of the elements that
it samples, and with few, large elements it samples most of them: estimating by pickling a list of structs cost more
than the work itself (70 of 126 µs an event). So these types have a coder that can encode, and that weighs nothing.
"""

import pickle
from collections import defaultdict
from itertools import count
from typing import Any

from apache_beam import coders
from apache_beam.coders.coder_impl import CoderImpl
from apache_beam.coders.coders import FastCoder

from schemas.crossing import Alike, Crossing, Draft, Entries
from schemas.event import Milestone
from schemas.message import Block
from schemas.outcome import Reason, Verdict
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


class Gathering:
    """The entries of one route in the making.

    Outcomes are taken in the order in which they come: those of one event follow each other, and a shard's events are
    more than a processor's cache holds.
    """

    __slots__ = ("_alike", "_keys", "_places", "_route", "_whats")

    def __init__(self, route: str) -> None:
        self._route = route
        self._keys: list[bytes] = []
        self._whats: list[bytes] = []
        self._places: list[int] = []
        self._alike: defaultdict[tuple[str, Verdict, Reason, str, tuple[bytes, ...], int, int], int]
        self._alike = defaultdict(count().__next__)  # each new one takes the next place

    def add(self, one: Outcome, fates: str = "") -> None:
        """Take an outcome; `fates` if it went through a recipe."""
        event, facts = one.event, one.facts
        self._keys.append(event.key)
        if isinstance(event, Milestone):
            self._whats.append(event.what)
        consents = tuple([fact.what for fact in facts]) if facts else ()
        place = self._alike[event.type, one.verdict, one.reason, fates, consents, one.copy, one.ordinal]
        self._places.append(place)

    def entries(self) -> Entries:
        """All that was taken."""
        return Entries(self._route, self._keys, self._whats, [Alike(*one) for one in self._alike], self._places)


for _type in (Block, Outcomes, Drafts, Crossings):
    coders.registry.register_coder(_type, Unweighed)
