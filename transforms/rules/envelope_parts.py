"""What is read of an envelope: a CloudEvent, a Bundle and its entries; and a message as it comes out of one.

Sources: CloudEvents 1.0 (context attributes, JSON format); FHIR R4 Bundle.
"""

import msgspec

from schemas.event import AnyFact
from schemas.outcome import Reason
from transforms.rules.fhir_parts import ABSENT, Part
from transforms.rules.notification import Status


class CloudEvent(Part, frozen=True, gc=False):
    """The context attributes that are read, and the data in either of its two forms."""

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str | None = None
    data: object = None
    data_base64: str | None = None


class Carried(Part, frozen=True, gc=False):
    """The data of a CloudEvent as its bytes."""

    data: msgspec.Raw


class Entry(Part, frozen=True, gc=False):
    fullUrl: str | None = None
    resource: msgspec.Raw = ABSENT
    request: object = None

    @property
    def method(self) -> str:
        """What the request of the entry asks for, in capitals; "" if it says nothing."""
        return self._asked("method").upper()

    @property
    def url(self) -> str:
        """Of what: by its id or by a search."""
        return self._asked("url")

    def _asked(self, name: str) -> str:
        return str(self.request.get(name) or "") if isinstance(self.request, dict) else ""


class Bundle(Part, frozen=True, gc=False):
    entry: list[Entry] | None = None


class Counted(Part, frozen=True, gc=False):
    """One message as read: its bytes (for the quarantine) and either its facts or why it is rejected. `status`: what it
    says of a subscription, if it is such a status."""

    body: bytes
    facts: list[AnyFact]
    reason: Reason | None
    status: Status | None = None
