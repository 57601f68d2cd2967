"""What is known of one patient between two calls, and what comes out of a call. Values only; the rule is `advance`."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.errors import StoreError
from schemas.event import AnyFact, Consent, Identity, Judgement, Mark, Milestone, Person
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict


class Moment(NamedTuple):
    """When a run decides: up to which horizon, and up to which one the ledger's last run did (None: no ledger). `due`:
    who is woken, though nothing arrived."""

    horizon: int
    last: int | None = None
    due: int = BEGINNING

    @property
    def binds(self) -> bool:
        """Does the ledger take this run in? Not a what-if, for which it has come too far."""
        return self.last is not None and self.horizon >= self.last


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One verdict. `route` is "" for a message's own outcome (repeated, consent, …).

    `facts` are the consents that it rests on. `copy` numbers outcomes that are otherwise alike (repeats, rejects);
    `ordinal` counts the releases of this pair. `seq` counts what was written to the CRM record; a retraction takes back
    everything up to `retracts`, and `severs` says that nothing of the patient is shown there any more. `question` is
    what a reviewer is asked, or is asked no more.
    """

    event: AnyFact
    route: str
    verdict: Verdict
    reason: Reason
    facts: tuple[Consent, ...] = ()
    copy: int = 0
    ordinal: int = 0
    seq: int = 1
    retracts: int = 0
    severs: bool = False
    question: str = ""

    def __repr__(self) -> str:
        return f"Outcome({self.route}, {self.verdict}, {self.reason})"


class Pair(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The unit of decision, (milestone, route). `settled` is its one counted verdict (held until then); `shown`: its
    CRM record shows it; `open`: its wait, or its day, still runs; `ordinal`: how often it was released so far; `place`
    tells it from those of other copies of its message. `question`: what a reviewer is asked ("": nothing, or no more),
    until `deadline`; `asks`: how often one was asked."""

    what: bytes
    route: str
    settled: Verdict
    shown: bool
    open: bool
    ordinal: int = 0
    place: int = 0
    question: str = ""
    deadline: int = FOREVER
    asks: int = 0

    @property
    def reachable(self) -> bool:
        """Can anything still become of it?"""
        return self.open or self.shown or bool(self.question)


Record = tuple[str, str, str]  # (route, visit, kind) of a CRM record; visit and kind "" where it is the patient's


class Timeline(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that is known of one patient: copies of messages, consents (which never expire), changes of identity,
    demographics, and the pairs that are open, shown, or whose milestone may come again. `horizon` is the instant it was
    moved to. `written` counts what went to each CRM record, `repeats` how often the key of a message came again.
    `judgements` never expire either; `late` are the milestones that came too late and are in review, or were let in.
    `marks` are never lifted."""

    copies: tuple[Milestone, ...] = ()
    consents: tuple[Consent, ...] = ()
    changes: tuple[Identity, ...] = ()
    people: tuple[Person, ...] = ()
    pairs: tuple[Pair, ...] = ()
    horizon: int = BEGINNING
    written: tuple[tuple[Record, int], ...] = ()
    repeats: tuple[tuple[bytes, int], ...] = ()
    judgements: tuple[Judgement, ...] = ()
    late: tuple[Milestone, ...] = ()
    marks: tuple[Mark, ...] = ()

    def __repr__(self) -> str:
        return "Timeline()"


TIMELINE_VERSION = b"\x03"
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Timeline)


def pack(timeline: Timeline) -> bytes:
    """A timeline as versioned bytes."""
    return TIMELINE_VERSION + _encoder.encode(timeline)


def unpack(blob: bytes) -> Timeline:
    """A timeline out of versioned bytes. Another version is a hard stop: StoreError("timeline_of_unknown_version")."""
    if blob[:1] != TIMELINE_VERSION:
        raise StoreError("timeline_of_unknown_version")
    try:
        return _decoder.decode(memoryview(blob)[1:])
    except msgspec.DecodeError:
        raise StoreError("timeline_unreadable") from None


class Row(NamedTuple):
    """A timeline as the ledger keeps it: the name of its patient, when something is due, the timeline sealed."""

    patient: bytes
    due: int
    timeline: bytes

    def __repr__(self) -> str:
        return "Row()"


def pack_rows(rows: Sequence[Row]) -> bytes:
    """A shard's rows as a file."""
    return msgspec.msgpack.encode(rows)


def unpack_rows(file: bytes) -> list[Row]:
    """The rows of a file."""
    return msgspec.msgpack.decode(file, type=list[Row])
