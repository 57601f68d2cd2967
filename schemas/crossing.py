"""What a release becomes on its way out: first the Event ends (Draft), then the patient (Crossing).

Each of these types has no place for what must not come along.
"""

from collections.abc import Mapping

import msgspec

from schemas.event import Kind
from schemas.outcome import Reason, Verdict


class Deidentified(msgspec.Struct, frozen=True):
    """What a recipe made of an event: outbound field → text, what was done to each inbound field, and the values but
    the time as JSON, ready for a payload; `cell` names all rows' values in order (JSON), "" where one became nothing.
    Shared by all events that look the same to the recipe."""

    values: Mapping[str, str]
    fates: str
    data: msgspec.Raw
    cell: str


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What the audit log learns of a release: digests and words of closed sets, no value of the message.

    `key` and `what` are digests of the message and of its milestone; `consents` those of the consent versions that the
    verdict rests on; `ordinal` counts the releases of the pair, `seq` what was written to the CRM record; a retraction
    takes back what was written up to `retracts`, and `severs` the patient's token where nothing is shown any more.
    """

    key: bytes
    what: bytes
    type: str
    route: str
    verdict: Verdict
    reason: Reason
    consents: tuple[bytes, ...]
    copy: int
    ordinal: int
    seq: int
    retracts: int
    severs: bool


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A release after its recipe. `patient`, `visit` and `kind` go no further than Tokenize."""

    entry: Entry
    made: Deidentified
    patient: str
    visit: str
    kind: Kind

    def __repr__(self) -> str:
        return "Draft()"


class Crossing(msgspec.Struct, frozen=True, gc=False):
    """A release ready to leave: `subject` stands for the patient on the CRM side, `record` is the CRM record's key.

    An aggregate contribution has neither; `first` is True for a patient's first contribution to its cell.
    """

    entry: Entry
    made: Deidentified
    subject: str
    record: str
    first: bool


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
