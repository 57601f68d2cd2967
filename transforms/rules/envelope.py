"""One JSON text to its messages: a FHIR resource, a Bundle, a CloudEvent, or a batch of CloudEvents.

Each entry of a Bundle is a message of its own, and so is each event of a batch; every message comes out as one counted
outcome. Within a Bundle a reference is resolved to the Patient's identifiers and the Practitioner's NPI.
Sources: CloudEvents 1.0 (context attributes, JSON format); FHIR R4 Bundle; FHIR R4 Subscriptions Backport.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from schemas.errors import MessageError
from schemas.event import AnyFact, Made
from schemas.outcome import Reason, Verdict
from schemas.verdict import TYPE as VERDICT
from transforms.rules import fhir, fhir_consent
from transforms.rules.fhir import Around
from transforms.rules.fhir_parts import ABSENT, Part
from transforms.rules.identity import Reading, national_provider
from transforms.rules.verdicts import Verdicts
from transforms.rules.vocabulary import OTHER, RESOURCE_TYPES, unrouted

STATUS_ENTRIES = ("Parameters", "SubscriptionStatus", "Basic")  # the three shapes of a notification's first entry
NESTED = 8  # how many Bundles may lie in one another


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


class Bundle(Part, frozen=True, gc=False):
    type: str | None = None
    entry: list[Entry] | None = None


class Counted(Part, frozen=True, gc=False):
    """One message as read: its bytes (for the quarantine) and either its facts or why it is rejected."""

    body: bytes
    facts: list[AnyFact]
    reason: Reason | None


Hl7 = Callable[[bytes | str, Reading, str, str, str], list[AnyFact]]

_any = msgspec.json.Decoder()
_carried = msgspec.json.Decoder(Carried)
_bundle = msgspec.json.Decoder(Bundle)
_batch = msgspec.json.Decoder(list[msgspec.Raw])


class Envelopes:
    """Opens JSON texts for one source. `hl7` reads the HL7 v2 message that a CloudEvent may carry, `verdicts` what a
    reviewer signed; without keys nobody can."""

    def __init__(
        self, reading: Reading, purposes: Mapping[str, object], hl7: Hl7, verdicts: Verdicts | None = None
    ) -> None:
        self._reading = reading
        self._around = Around(reading)
        self._purposes = purposes
        self._hl7 = hl7
        self._verdicts = verdicts

    def line(self, body: bytes) -> list[Counted]:
        """The messages of one line of NDJSON."""
        try:
            tree = unambiguous(body)
        except MessageError as error:
            return [Counted(body, [], error.reason)]
        return self._message(body, tree, self._around, 0)

    def document(self, body: bytes) -> list[Counted]:
        """The messages of one JSON document: as a line, or a batch of CloudEvents."""
        try:
            tree = unambiguous(body)
        except MessageError as error:
            return [Counted(body, [], error.reason)]
        if not isinstance(tree, list):
            return self._message(body, tree, self._around, 0)
        if not tree:  # an envelope with nothing in it is a message all the same
            return [Counted(body, [_control(OTHER)], None)]
        events = zip(_batch.decode(body), tree, strict=True)
        return [counted for raw, event in events for counted in self._message(bytes(raw), event, self._around, 0)]

    def _message(self, body: bytes, tree: object, around: Around, depth: int) -> list[Counted]:
        """`tree` is what `body` holds, `depth` the number of Bundles around it."""
        try:
            if not isinstance(tree, dict):
                raise MessageError(Reason.MALFORMED)
            kind = tree.get("resourceType")
            if kind is None and "specversion" in tree and not depth:
                return self._cloud_event(body, tree)
            if kind == "Bundle":
                return self._bundle(body, around, depth)
            return [Counted(body, self._resource(kind, tree, around), None)]
        except MessageError as error:
            return [Counted(body, [], error.reason)]
        except RecursionError:
            return [Counted(body, [], Reason.TOO_DEEP)]

    def _resource(self, kind: object, tree: object, around: Around) -> list[AnyFact]:
        if not isinstance(kind, str) or kind not in RESOURCE_TYPES:
            raise MessageError(Reason.UNKNOWN_KIND)
        if kind == "Consent":
            return [fhir_consent.consent(msgspec.json.encode(tree), around, self._purposes)]
        if kind in fhir.READERS:
            return fhir.read(tree, around)
        return [unrouted(kind, Reason.NO_ROUTE)]

    def _cloud_event(self, body: bytes, tree: object) -> list[Counted]:
        try:
            event = msgspec.convert(tree, CloudEvent)
        except msgspec.ValidationError:
            raise MessageError(Reason.INVALID_ENVELOPE) from None
        if event.specversion != "1.0" or not event.id or not event.source or not event.type:
            raise MessageError(Reason.INVALID_ENVELOPE)
        if (event.data is None) == (event.data_base64 is None):
            raise MessageError(Reason.INVALID_ENVELOPE)
        if event.type == VERDICT:
            if self._verdicts is None:
                raise MessageError(Reason.INVALID_SIGNATURE)
            return [Counted(body, self._verdicts.read(event.data), None)]
        around = Around(self._reading, event.source, event.id, event.type)
        media = _media_type(event.datacontenttype)
        if media == "application/hl7-v2":
            text = event.data if event.data_base64 is None else _from_base64(event.data_base64)
            if not isinstance(text, str | bytes):
                raise MessageError(Reason.INVALID_ENVELOPE)
            return [Counted(body, self._hl7(text, self._reading, event.source, event.id, event.type), None)]
        if media not in ("application/fhir+json", "application/json"):
            raise MessageError(Reason.UNKNOWN_KIND)
        carried = None if event.data_base64 is None else _from_base64(event.data_base64)
        data = event.data if carried is None else unambiguous(carried)
        if not isinstance(data, dict):
            raise MessageError(Reason.UNKNOWN_KIND)
        if data.get("resourceType") == "Bundle":  # one envelope, many entries: each has its own identity in the source
            around = Around(self._reading._replace(source=event.source), event.source)
            return self._bundle(bytes(_carried.decode(body).data) if carried is None else carried, around, 0)
        return [Counted(body, self._resource(data.get("resourceType"), data, around), None)]

    def _bundle(self, body: bytes, around: Around, depth: int) -> list[Counted]:
        if depth == NESTED:
            raise MessageError(Reason.TOO_DEEP)
        try:
            bundle = _bundle.decode(body)
        except msgspec.DecodeError:
            raise MessageError(Reason.MALFORMED) from None
        entries = [(e.fullUrl or "", bytes(e.resource), _any.decode(e.resource or b"null")) for e in bundle.entry or ()]
        if not entries:
            return [Counted(body, [_control("Bundle")], None)]
        around = _within(entries, around)
        notifies = bundle.type in ("history", "subscription-notification")
        counted: list[Counted] = []
        for place, (_, resource, tree) in enumerate(entries):
            request = (bundle.entry or ())[place].request
            if isinstance(request, dict) and request.get("method") == "DELETE":
                counted.append(Counted(resource, [], Reason.DELETION))  # it names no patient: a person has to look
            elif not resource:  # an entry that only points (id-only): nothing to decide here
                counted.append(Counted(resource, [_control("Bundle")], None))
            elif place == 0 and notifies and (kind := _kind(tree)) in STATUS_ENTRIES:
                counted.append(Counted(resource, [_control(kind)], None))
            else:
                counted += self._message(resource, tree, around, depth + 1)
        return counted


def _within(entries: list[tuple[str, bytes, Any]], around: Around) -> Around:
    """What the entries of one Bundle may refer to. A reference that means two patients means none."""
    patients: dict[str, str | None] = {}
    providers: dict[str, str] = {}
    for url, _, tree in entries:
        kind = _kind(tree)
        names = [name for name in (url, f"{kind}/{tree['id']}" if kind and tree.get("id") else "") if name]
        if kind == "Patient":
            key = fhir.patient_in(tree, around)
            patients.update({name: key if patients.get(name, key) == key else None for name in names})
        elif kind == "Practitioner":
            stated = [i.value or "" for i in fhir.named(tree) or () if i.system == fhir.NPI_SYSTEM]
            providers.update({name: national_provider(stated[0]) if stated else "" for name in names})
    return msgspec.structs.replace(around, patients=patients, providers=providers)


def _kind(tree: object) -> str:
    kind = tree.get("resourceType") if isinstance(tree, dict) else None
    return kind if isinstance(kind, str) else ""


def _control(kind: str) -> Made:
    return Made(b"", "", kind, Verdict.CONTROL, Reason.NOTIFICATION)


def _media_type(stated: str | None) -> str:
    return "application/json" if stated is None else stated.partition(";")[0].strip().lower()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise MessageError(Reason.INVALID_ENVELOPE) from None


# --- one text, one meaning -----------------------------------------------------------------------------------------


def unambiguous(body: bytes) -> object:
    """What a JSON text holds. Raises MessageError if it is no JSON (RFC 8259), or names one member of an object twice,
    so that two readers could read it differently.

    A member that was named twice is gone once the text is read, and with it a pair of quotation marks: written down
    again, the text has fewer of them. Only a mark that is written as \\u0022 has to be looked for in a slower way.
    """
    try:
        tree = _any.decode(body)
        if b"\\" in body and b"\\u0022" in body:
            json.loads(body, object_pairs_hook=_each_once)
        elif msgspec.json.encode(tree).count(b'"') != body.count(b'"'):
            raise MessageError(Reason.DUPLICATE_JSON_KEY)
    except RecursionError:
        raise MessageError(Reason.TOO_DEEP) from None
    except ValueError:
        raise MessageError(Reason.MALFORMED) from None
    return tree


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise MessageError(Reason.DUPLICATE_JSON_KEY)
