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
    verdict rests on; `ordinal` counts the releases of the pair, `retracts` says up to which one is taken back.
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
    retracts: int


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

    `recordseq` counts the payloads of one record; `retracts`, in a retraction, is the recordseq up to which all
    payloads of the record are taken back. A run that looked back in time adds `whatif` when it publishes.
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
