"""Review items: what a person at the hospital is asked to decide, by when, and about whom; the last only for the
holder of the reviewers' key. What is asked no more is a line of its own: nothing that was published changes.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.errors import StoreError
from schemas.event import Milestone
from schemas.instant import DAY, text_of
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque
from schemas.outcome import Verdict
from schemas.policy import Policy
from schemas.seal import REVIEW_INFO, seal, unseal
from schemas.timeline import Outcome
from transforms.rules.digests import keyed


class Item(msgspec.Struct, frozen=True):
    """One line of review/*.jsonl. `age_days` counts from the event to the horizon; `subject` is sealed (base64). The id
    is a function of (milestone, route, question) under the hospital's key: another run asks the same under it."""

    id: str
    route: str
    reason: str
    deadline: str
    event: str
    age_days: int | None
    subject: bytes


class Closed(msgspec.Struct, frozen=True):
    """One line of review/*.jsonl: the item of that id is asked no more, and why."""

    id: str
    closed: str


class Subject(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed in an item: the milestone, patient and all, and the question that a verdict has to answer."""

    milestone: Milestone
    question: str

    def __repr__(self) -> str:
        return "Subject()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    @staticmethod
    def opened(sealed: bytes, private_key: bytes) -> "Subject":
        """Raises StoreError: "unseal_failed", "subject_unreadable"."""
        try:
            return msgspec.msgpack.decode(unseal(sealed, private_key, REVIEW_INFO), type=Subject)
        except msgspec.DecodeError:
            raise StoreError("subject_unreadable") from None


class ReviewItems:
    """Makes the items of one run."""

    def __init__(self, policy: Policy, horizon: int, keyset: Keyset) -> None:
        self._key = keyset.derive(KeyPurpose.ALIAS, "hospital", "review")
        self._public = keyset.review
        self._horizon = horizon
        self._terms = policy.review
        self._encoder = msgspec.json.Encoder()

    def lines(self, outcomes: Iterable[Outcome]) -> bytes:
        """The items as JSON lines, sorted by id. One seal serves all routes on which the same is asked of an event."""
        sealed: dict[tuple[bytes, str], bytes] = {}
        items: list[Item | Closed] = []
        for outcome in outcomes:
            event = outcome.event
            if not isinstance(event, Milestone):
                continue
            name = self._name(event, outcome)
            if outcome.verdict is Verdict.REVIEW_CLOSED:
                items.append(Closed(name, outcome.reason))
                continue
            asked = (event.what, outcome.question)
            if asked not in sealed:
                plain = msgspec.msgpack.encode(Subject(event, outcome.question))
                sealed[asked] = seal(plain, self._public, REVIEW_INFO)
            age = None if event.time is None else (self._horizon - event.time) // DAY
            deadline = text_of(self._horizon + self._terms.days(outcome.reason) * DAY)
            items.append(Item(name, outcome.route, outcome.reason, deadline, event.kind, age, sealed[asked]))
        items.sort(key=lambda item: item.id)
        return b"".join([self._encoder.encode(item) + b"\n" for item in items])

    def _name(self, event: Milestone, outcome: Outcome) -> str:
        asked = outcome.question or outcome.copy  # of a defect nothing is asked
        return opaque(keyed(self._key, f"{outcome.route}\x1f{asked}\x1f".encode() + event.what))
