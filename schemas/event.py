"""What a message says once it is decoded: minimal, typed facts, and the only bytes that cross a shuffle.

A fact belongs to one patient (or to none, when its outcome is made already). Nothing prints its fields: a log line, a
traceback or a failed assertion shows the name of the class and no more.

    Milestone   something happened to a patient (or is taken back), as a recipe may read it
    Consent     one rule of one version of one consent document
    Person      a patient died, or comes of age at some instant
    Identity    a merge, move, link or unlink told to one of its sides
    Mark        a visit, or a patient as a whole, is specially protected
    Judgement   what a reviewer at the hospital said of one milestone on one route
    Made        a message whose outcome Decode knows already (rejected, unrouted, control)
"""

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from schemas.errors import StoreError
from schemas.outcome import Reason, Verdict

WIRE_VERSION = b"\x03"
ALSO = "\x1f"  # in a Consent's recipients, between the names of one actor: its reference and its identifier


class Kind(StrEnum):
    """The milestones. A closed set: the CRM learns one of these words and nothing of the chart."""

    ADMITTED = "admitted"  # ADT A01
    REGISTERED = "registered"  # ADT A04
    DISCHARGED = "discharged"  # ADT A03, Encounter finished
    BOOKED = "booked"  # SIU S12, Appointment booked
    ATTENDED = "attended"  # Appointment fulfilled
    ENROLLED = "enrolled"  # EpisodeOfCare active
    EPISODE_COMPLETED = "episode-completed"  # EpisodeOfCare finished
    PRESCRIBED = "prescribed"  # MedicationRequest active
    DISPENSED = "dispensed"  # MedicationDispense completed
    REFILL_GAP = "refill-gap"  # computed: supply and grace are over, and nothing was dispensed
    TRIAL_ELIGIBLE = "trial-eligible"  # ResearchSubject candidate, potential-candidate, eligible


class Says(StrEnum):
    """What a consent version means for its patient."""

    PERMIT = "permit"
    DENY = "deny"
    ENDS = "inactive"  # the permits of this Consent end
    VOID = "entered-in-error"  # the permits of this Consent never were
    UNCLEAR = "unclear"  # not fully understood: review
    NOTHING = "nothing"  # draft, proposed: neither grounds nor stops


class Fact(msgspec.Struct, array_like=True, frozen=True, gc=False, tag_field="fact"):
    """Root of the facts. `key` is the idempotency key: as decoded its SHA-256, past the seam a keyed name of 16 bytes
    that tells nothing to who does not hold the key. `type` is a word of a closed list."""

    key: bytes
    patient: str
    type: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class Milestone(Fact, tag="m", frozen=True, array_like=True, gc=False):
    """A clinical event: kind and visit, when, and every value that a recipe may read.

    `values` is what a recipe may read besides kind and time, by the inbound names of fields.yaml; what the message does
    not say is left out. `what` is the digest of all of that without the envelope that said it: equal milestones, equal
    `what`.
    `time` is None where the source gave no time of day precision or better. `cancels` names the kinds that this
    message takes back for the visit, up to its time. `classes`: of what specially protected information the policy's
    sensitivity.yaml marks it, sorted; no part of `what`, since one copy that is marked binds for all.

    `also` are further numbers of the visit, by which a cancellation may name it; `related` are names by which only
    a mark may: of the FHIR Conditions that it refers to, and of a booking the visit. Neither is a part of `what`.

    `stated` is the digest of what the resource says itself, where `what` holds more: how its patient is best reached,
    or who the clinician is, as another resource of its Bundle says. "": all of `what` is its own.

    `course` names a medication in a way that tells nothing to people. A milestone with `since` falls due by itself: it
    was computed from another that happened then, is no message of its own and not counted as one, and does not come to
    pass if something is dispensed in its course after `since` and up to its time.
    """

    what: bytes
    kind: Kind
    visit: str
    time: int | None
    span: int
    values: dict[str, str]
    cancels: tuple[Kind, ...] = ()
    published: int | None = None
    classes: tuple[str, ...] = ()
    course: str = ""
    since: int | None = None
    also: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    stated: bytes = b""

    def __hash__(self) -> int:
        return hash((self.key, self.what))

    @property
    def counted(self) -> bool:
        """Whether it is a message of its own."""
        return self.since is None

    @property
    def stay(self) -> str:
        """Which visit this belongs to: its number; without one each milestone is a visit of its own."""
        return self.visit or self.what.hex()


class Consent(Fact, tag="c", frozen=True, array_like=True, gc=False):
    """One rule of one version of one consent document: a provision as it stands alone. Times in microseconds UTC.

    `given` is the first and `said` the last instant at which the patient can have said it; `start`/`end` its period,
    `data_start`/`data_end` the period of the data that it covers. Empty `purposes`, `actions`, `recipients` mean that
    the rule names none. `what` is the digest of the whole version, which its rules share. `rule` is the place among
    them, permits first: a version whose rule 0 denies permits nothing. `kinds` are the milestones that the rule speaks
    of (a permit's surely, a denial's possibly), None where it is narrowed to none. `counted`: it stands for its
    message; the other rules of the version, and what rides along with a milestone, do not. `guardian`: somebody else
    than the patient gave it. `classes` are the classes of specially protected information that the rule names, sorted;
    None where it has no security label.
    """

    what: bytes
    consent: str
    version: tuple[int, int, str]
    says: Says
    given: int
    said: int
    start: int
    end: int
    data_start: int
    data_end: int
    scope: str
    purposes: tuple[str, ...]
    actions: tuple[str, ...]
    recipients: tuple[str, ...]
    rule: int = 0
    kinds: tuple[Kind, ...] | None = None
    counted: bool = True
    guardian: bool = False
    classes: tuple[str, ...] | None = None


class Identity(Fact, tag="i", frozen=True, array_like=True, gc=False):
    """The patient's identity was merged, moved, linked or unlinked at `time`. `counted` on one side only."""

    time: int
    counted: bool


class Person(Fact, tag="p", frozen=True, array_like=True, gc=False):
    """What demographics say of a patient that bears on every release: whether the patient died, and the instant of
    majority (BEGINNING: not known). `counted` on one of the patient's keys only."""

    adult_at: int
    died: bool
    counted: bool


class Mark(Fact, tag="k", frozen=True, array_like=True, gc=False):
    """A message that states no milestone says that a visit is specially protected, or the patient as a whole.

    `visits` are the numbers by which it names the visit, or a Condition by its name, sorted; none: it is about the
    patient. `classes`: of what specially protected information it is, sorted. It is told beside what its message is
    counted as, and never counted; its key is of what it says, so that it is the same fact whatever message says it.
    """

    visits: tuple[str, ...]
    classes: tuple[str, ...]


class Judgement(Fact, tag="j", frozen=True, array_like=True, gc=False):
    """A reviewer's verdict on one milestone (`what`) on one route, said at `said`.

    `question` is what it answers: the reason of the review item, and a digest of the facts that stood in the way.
    """

    what: bytes
    route: str
    question: str
    allows: bool
    said: int


class Made(Fact, tag="o", frozen=True, array_like=True, gc=False):
    """An outcome that needs no patient. `sealed` is the message, readable by the quarantine's key holder alone."""

    verdict: Verdict
    reason: Reason
    sealed: bytes = b""


AnyFact = Milestone | Consent | Identity | Person | Mark | Judgement | Made

_encoder = msgspec.msgpack.Encoder()
_canonical = msgspec.msgpack.Encoder(order="deterministic")
_decoder = msgspec.msgpack.Decoder(list[AnyFact])


def encode(facts: Iterable[AnyFact]) -> bytes:
    """Facts as versioned bytes."""
    return WIRE_VERSION + _encoder.encode(list(facts))


def decode(wire: bytes) -> list[AnyFact]:
    """Facts out of versioned bytes. An unknown version is a hard stop: StoreError."""
    if wire[:1] != WIRE_VERSION:
        raise StoreError("event_bytes_of_unknown_version")
    return _decoder.decode(memoryview(wire)[1:])


def content_of(
    patient: str,
    kind: Kind,
    visit: str,
    time: int | None,
    span: int,
    values: dict[str, str],
    cancels: tuple[Kind, ...],
    course: str = "",
    since: int | None = None,
) -> bytes:
    """`what` of a milestone: 16 bytes."""
    return digest(patient, kind, visit, time, span, values, cancels, course, since)[:16]


def digest(*parts: str | bytes | int | tuple[str, ...] | dict[str, str] | None) -> bytes:
    """SHA-256 over the MessagePack form of the parts: each carries its type and length, so no two lists read alike."""
    return hashlib.sha256(_canonical.encode(parts)).digest()
