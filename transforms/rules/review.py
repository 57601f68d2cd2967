"""Review items: what a person at the hospital is asked to decide, by when, and about whom; the last only for the
holder of the reviewers' key."""

from collections.abc import Iterable

import msgspec

from schemas.event import Milestone
from schemas.instant import DAY, text_of
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque
from schemas.policy import Policy
from schemas.seal import REVIEW_INFO, seal
from schemas.timeline import Outcome
from transforms.rules.digests import keyed


class Item(msgspec.Struct, frozen=True):
    """One line of review/*.jsonl. `age_days` counts from the event to the horizon; `subject` is sealed (base64)."""

    id: str
    route: str
    reason: str
    deadline: str
    event: str
    age_days: int | None
    subject: bytes


class ReviewItems:
    """Makes the items of one run."""

    def __init__(self, policy: Policy, horizon: int, keyset: Keyset) -> None:
        self._key = keyset.derive(KeyPurpose.ALIAS, "hospital", "review")
        self._public = keyset.review
        self._horizon = horizon
        self._deadline = text_of(horizon + policy.review.deadline_days * DAY)
        self._encoder = msgspec.json.Encoder()

    def lines(self, outcomes: Iterable[Outcome]) -> bytes:
        """The items as JSON lines, sorted by id. One seal serves all routes of an event."""
        sealed: dict[bytes, bytes] = {}
        items = []
        for outcome in outcomes:
            event = outcome.event
            if not isinstance(event, Milestone):
                continue
            if event.key not in sealed:
                sealed[event.key] = seal(msgspec.msgpack.encode(event), self._public, REVIEW_INFO)
            age = None if event.time is None else (self._horizon - event.time) // DAY
            name = opaque(keyed(self._key, f"{outcome.route}\x1f{outcome.copy}\x1f".encode() + event.what))
            items.append(Item(name, outcome.route, outcome.reason, self._deadline, event.kind, age, sealed[event.key]))
        items.sort(key=lambda item: item.id)
        return b"".join([self._encoder.encode(item) + b"\n" for item in items])
