"""What releases become on their way out: first the Event ends (Draft), then the patient (Crossing).

Each of these types has no place for what must not come along. One of them is all that a shard releases on one route, as
columns: lists of one length, in which the same place belongs to the same release. An object for each release and stage
cost more than the work that is done on it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from schemas.event import Kind
from schemas.outcome import Reason, Verdict


class Deidentified(msgspec.Struct, frozen=True):
    """What a recipe made of an event: outbound field → text, what was done to each inbound field, and the values but
    the time as JSON, ready for a payload; `cell` names all rows' values in order (JSON), "" where one became nothing.
    Shared by all events that look the same to the recipe."""

    values: Mapping[str, str]
    fates: str
    data: bytes
    cell: str


class Alike(NamedTuple):
    """What an outcome has in common with many others of its route: words of closed sets and digests of the consent
    versions that it rests on. `ordinal` counts the releases of the pair."""

    type: str
    verdict: Verdict
    reason: Reason
    fates: str
    consents: tuple[bytes, ...]
    copy: int
    ordinal: int


class Entries(msgspec.Struct, frozen=True):
    """What the audit log learns of outcomes on `route`, and no value of a message.

    `keys` and `whats` are digests of the messages and of their milestones; `places` say where in `alike`, which is much
    shorter, the rest stands. A message's own outcomes have route "", and `whats` that nobody reads.
    """

    route: str
    keys: Sequence[bytes]
    whats: Sequence[bytes]
    alike: Sequence[Alike]
    places: Sequence[int]


class Draft(msgspec.Struct, frozen=True):
    """Releases after their recipe, or what takes releases back. `patients`, and `visits` with `kinds` where each has a
    record of its own (else empty), go no further than Tokenize.

    `seqs` number what was written to the CRM record; a retraction takes back what was written up to its `retracts`
    (empty: these are releases). `severed`: the patients of whom nothing is shown any more.
    """

    entries: Entries
    made: Sequence[Deidentified]
    patients: Sequence[str]
    visits: Sequence[str]
    kinds: Sequence[Kind]
    seqs: Sequence[int]
    retracts: Sequence[int]
    severed: frozenset[str]

    def __repr__(self) -> str:
        return "Draft()"


class Crossing(msgspec.Struct, frozen=True):
    """Releases ready to leave: `subjects` stand for the patients on the CRM side, `records` are the CRM records' keys.

    Contributions to aggregates have neither; `cells` says how many patients they add to which cell. `seqs` and
    `retracts` as in a Draft.
    """

    entries: Entries
    made: Sequence[Deidentified]
    subjects: Sequence[str]
    records: Sequence[str]
    seqs: Sequence[int]
    retracts: Sequence[int]
    cells: Mapping[str, int]


class Payload(msgspec.Struct, frozen=True, gc=False):
    """One line for the CRM: a CloudEvents 1.0 envelope; extension attributes in lower case as the standard wants.

    `recordseq` counts what was written to one record. A run that looked back in time adds `whatif` when it publishes.
    """

    id: str
    source: str
    type: str
    time: str
    subject: str
    record: str
    recordseq: int
    purpose: str
    dest: str
    consentref: str
    deidlevel: str
    policyrev: str
    recipe: str
    correlationid: str
    data: msgspec.Raw
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


class Retraction(Payload, frozen=True, gc=False, kw_only=True):
    """A line that takes a record back: `retracts` is the recordseq up to which all of its payloads are withdrawn. It
    names no event and gives no cause; `data` says what the route wants done with the record."""

    retracts: int
