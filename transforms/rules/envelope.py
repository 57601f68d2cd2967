"""One JSON text to its messages: a FHIR resource, a Bundle, a CloudEvent, or a batch of CloudEvents.

Each entry of a Bundle is a message of its own, and so is each event of a batch; every message comes out as one counted
outcome. Within a Bundle a reference is resolved to the Patient's identifiers and the Practitioner's NPI.
Sources: CloudEvents 1.0 (context attributes, JSON format); FHIR R4 Bundle; FHIR R4 Subscriptions Backport.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from schemas.errors import MessageError
from schemas.event import AnyFact, Made
from schemas.outcome import Reason, Verdict
from transforms.rules import fhir, fhir_consent
from transforms.rules.fhir import ABSENT, Around, FhirIdentifier, Meta, Part
from transforms.rules.identity import Reading, national_provider
from transforms.rules.vocabulary import RESOURCE_TYPES

# The elements whose second occurrence would change what a message means. A JSON text that repeats one of them is read
# again by a strict parser; a cheap count decides for all others.
CRITICAL = tuple(f'"{name}"'.encode() for name in ("resourceType", "status", "subject", "data", "period", "id"))
STATUS_ENTRIES = ("Parameters", "SubscriptionStatus", "Basic")  # the three shapes of a notification's first entry


class Head(Part, frozen=True, gc=False):
    """What tells one kind of JSON object from another, and the context attributes of a CloudEvent."""

    resourceType: str | None = None
    specversion: str | None = None
    id: str | None = None
    source: str | None = None
    type: str | None = None
    datacontenttype: str | None = None
    data: msgspec.Raw = ABSENT
    data_base64: str | None = None


class Entry(Part, frozen=True, gc=False):
    fullUrl: str | None = None
    resource: msgspec.Raw = ABSENT


class Bundle(Part, frozen=True, gc=False):
    type: str | None = None
    meta: Meta | None = None
    entry: list[Entry] | None = None


class Named(Part, frozen=True, gc=False):
    """The part of an entry that others may refer to."""

    resourceType: str | None = None
    id: str | None = None
    identifier: list[FhirIdentifier] | None = None


class Counted(NamedTuple):
    """One message as read: its bytes (for the quarantine) and either its facts or why it is rejected."""

    body: bytes
    facts: list[AnyFact]
    reason: Reason | None


Hl7 = Callable[[bytes, Reading, str, str, str], list[AnyFact]]

_head = msgspec.json.Decoder(Head)
_bundle = msgspec.json.Decoder(Bundle)
_named = msgspec.json.Decoder(Named)
_batch = msgspec.json.Decoder(list[msgspec.Raw])


class Envelopes:
    """Opens JSON texts for one source. `hl7` reads the HL7 v2 message that a CloudEvent may carry."""

    def __init__(self, reading: Reading, purposes: Mapping[str, object], hl7: Hl7) -> None:
        self._around = Around(reading)
        self._purposes = purposes
        self._hl7 = hl7

    def line(self, body: bytes) -> list[Counted]:
        """The messages of one line of NDJSON."""
        return self._open(body, self._around)

    def document(self, body: bytes) -> list[Counted]:
        """The messages of one JSON document: as a line, or a batch of CloudEvents."""
        if body.lstrip()[:1] != b"[":
            return self._open(body, self._around)
        try:
            _strict(body)
            events = _batch.decode(body)
        except MessageError as error:
            return [Counted(body, [], error.reason)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return [Counted(body, [], Reason.MALFORMED)]
        return [counted for event in events for counted in self._open(bytes(event), self._around)]

    def _open(self, body: bytes, around: Around) -> list[Counted]:
        try:
            head = _head_of(body)
            kind = head.resourceType
            if kind is None and head.specversion is not None:
                return self._cloud_event(body, head, around)
            if kind == "Bundle":
                return self._bundle(body, around)
            return [Counted(body, self._resource(body, kind, around), None)]
        except MessageError as error:
            return [Counted(body, [], error.reason)]

    def _resource(self, body: bytes | msgspec.Raw, kind: str | None, around: Around) -> list[AnyFact]:
        if kind == "Consent":
            _strict(bytes(body))
            return [fhir_consent.consent(body, around, self._purposes)]
        if kind in fhir.READERS:
            return fhir.read(body, around)
        if kind in RESOURCE_TYPES:
            return [fhir.unrouted(kind, Reason.NO_ROUTE)]
        raise MessageError(Reason.UNKNOWN_KIND)

    def _cloud_event(self, body: bytes, head: Head, around: Around) -> list[Counted]:
        if head.specversion != "1.0" or not head.id or not head.source or not head.type:
            raise MessageError(Reason.INVALID_ENVELOPE)
        around = around._replace(source=head.source, native=head.id, envelope=head.type)
        media = (head.datacontenttype or "application/json").partition(";")[0].strip().lower()
        data = _data(head)
        if media == "application/hl7-v2":
            if data[:1] == b'"' and head.data_base64 is None:
                data = _text(data)
            return [Counted(body, self._hl7(data, around.reading, head.source, head.id, head.type), None)]
        if media not in ("application/fhir+json", "application/json"):
            raise MessageError(Reason.UNKNOWN_KIND)
        inner = _head_of(data)
        if inner.resourceType == "Bundle":
            return self._bundle(data, around)
        return [Counted(body, self._resource(data, inner.resourceType, around), None)]

    def _bundle(self, body: bytes, around: Around) -> list[Counted]:
        _strict(body)
        try:
            bundle = _bundle.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise MessageError(Reason.MALFORMED) from None
        entries = [(e.fullUrl or "", bytes(e.resource)) for e in bundle.entry or ()]
        if not entries:  # an envelope with nothing in it is a message all the same
            return [Counted(body, [_control("Bundle")], None)]
        if around.native:  # one envelope, many entries: each has its own identity in the source
            around = around._replace(native="")
            around = around._replace(reading=around.reading._replace(source=around.source))
        return self._entries(entries, bundle.type in ("history", "subscription-notification"), around)

    def _entries(self, entries: list[tuple[str, bytes]], notifies: bool, around: Around) -> list[Counted]:
        patients: dict[str, list[FhirIdentifier]] = {}
        providers: dict[str, str] = {}
        kinds = []
        for url, resource in entries:
            named = _named_of(resource)
            kinds.append(named.resourceType)
            names = [n for n in (url, f"{named.resourceType}/{named.id}" if named.id else "") if n]
            if named.resourceType == "Patient":
                patients.update({name: named.identifier or [] for name in names})
            elif named.resourceType == "Practitioner":
                npi = next((i.value for i in named.identifier or () if i.system == fhir.NPI_SYSTEM and i.value), "")
                providers.update({name: national_provider(npi) for name in names})
        around = around._replace(patients=patients, providers=providers)
        counted: list[Counted] = []
        for place, (_, resource) in enumerate(entries):
            if place == 0 and notifies and kinds[0] in STATUS_ENTRIES:
                counted.append(Counted(resource, [_control(kinds[0])], None))
            elif not resource:  # an entry that only points (id-only, DELETE): nothing to decide here
                counted.append(Counted(resource, [_control("Bundle")], None))
            elif kinds[place] == "Bundle":
                counted += self._nested(resource, around)
            else:
                counted += self._open(resource, around)
        return counted

    def _nested(self, body: bytes, around: Around) -> list[Counted]:
        try:
            return self._bundle(body, around._replace(patients={}, providers={}))
        except MessageError as error:
            return [Counted(body, [], error.reason)]


def _control(kind: str) -> Made:
    return Made(b"", "", kind, Verdict.CONTROL, Reason.NOTIFICATION)


def _head_of(body: bytes) -> Head:
    if any(body.count(name) > 1 for name in CRITICAL):
        _strict(body)
    try:
        return _head.decode(body)
    except RecursionError:
        raise MessageError(Reason.TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MessageError(Reason.MALFORMED) from None


def _named_of(resource: bytes) -> Named:
    try:
        return _named.decode(resource)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Named()


def _data(head: Head) -> bytes:
    if head.data_base64 is not None:
        try:
            return base64.b64decode(head.data_base64, validate=True)
        except ValueError:
            raise MessageError(Reason.INVALID_ENVELOPE) from None
    if not head.data:
        raise MessageError(Reason.INVALID_ENVELOPE)
    return bytes(head.data)


def _text(data: bytes) -> bytes:
    try:
        return msgspec.json.decode(data, type=str).encode()
    except (msgspec.DecodeError, UnicodeError):
        raise MessageError(Reason.MALFORMED) from None


def _strict(body: bytes) -> None:
    """Refuse a JSON text that two parsers could read differently: a repeated key, a NaN, too deep a nesting."""
    try:
        json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except RecursionError:
        raise MessageError(Reason.TOO_DEEP) from None
    except ValueError:
        raise MessageError(Reason.MALFORMED) from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageError(Reason.DUPLICATE_JSON_KEY)
    return found


def _no_constant(_: str) -> None:
    raise MessageError(Reason.MALFORMED)
