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
from transforms.rules import fhir, fhir_consent, fhir_events, fhir_patient
from transforms.rules.envelope_parts import Bundle, Carried, CloudEvent, Counted, Entry
from transforms.rules.fhir_parts import Around, base_of, modified
from transforms.rules.notification import SHAPES, Status, is_carried, names, status
from transforms.rules.reading import Reading
from transforms.rules.rejection import may_hold_consent, rejected
from transforms.rules.signed_verdicts import SignedVerdicts
from transforms.rules.vocabulary import OTHER, RESOURCE_TYPES, unrouted

NESTED = 8  # how many Bundles may lie in one another
STATED = ("", "GET", "HEAD", "POST", "PUT")  # what an entry asks for that brings its resource whole, or changes nothing
MODIFIERS = ("implicitRules", "modifierExtension")  # FHIR R4 2.1.0.4, 2.20: what a reader has to understand
ENTRIES = 1_000_000  # of one Bundle; each is a message of its own, and all are held at once


Hl7 = Callable[[bytes | str, Reading, str, str, str], list[AnyFact]]

_any = msgspec.json.Decoder()
_written = msgspec.json.Encoder().encode
_carried = msgspec.json.Decoder(Carried)
_bundle = msgspec.json.Decoder(Bundle)
_batch = msgspec.json.Decoder(list[msgspec.Raw])


class Envelopes:
    """Opens JSON texts for one source. `hl7` reads the HL7 v2 message that a CloudEvent may carry, `verdicts` what a
    reviewer signed; without keys nobody can."""

    def __init__(
        self, reading: Reading, purposes: Mapping[str, object], hl7: Hl7, verdicts: SignedVerdicts | None = None
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
            return [rejected(body, error.reason)]
        return self._message(body, tree, self._around, 0)

    def document(self, body: bytes) -> list[Counted]:
        """The messages of one JSON document: as a line, or a batch of CloudEvents."""
        try:
            tree = unambiguous(body)
        except MessageError as error:
            return [rejected(body, error.reason)]
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
                return self._bundle(body, tree, around, depth)
            return [self._resource(body, kind, tree, around)]
        except MessageError as error:
            return [rejected(body, error.reason)]
        except RecursionError:
            return [rejected(body, Reason.TOO_DEEP)]

    def _resource(self, body: bytes, kind: object, tree: dict[str, Any], around: Around) -> Counted:
        if not isinstance(kind, str) or kind not in RESOURCE_TYPES:
            raise MessageError(Reason.UNKNOWN_KIND)
        facts: list[AnyFact]
        if kind == "Consent":
            facts = [*fhir_consent.consent(tree, around, self._purposes)]
        elif kind in fhir_events.READERS:
            if kind != "Patient" and (b"modifierExtension" in body or b"\\u" in body) and modified(tree):
                raise MessageError(Reason.UNKNOWN_MODIFIER)
            facts = fhir_events.read(tree, around)
        elif kind == "Parameters" and may_hold_consent(body):  # it is read neither here nor there
            raise MessageError(Reason.CONSENT_OF_NOBODY)
        elif kind in SHAPES and (said := status(tree, around.feed)):
            return _told(body, kind, said, set())
        else:
            marks = fhir_events.condition(tree, around) if kind == "Condition" else []
            facts = [unrouted(kind, Reason.NO_ROUTE), *marks]
        if "contained" in tree:
            facts += fhir_patient.contained(tree, {fact.patient for fact in facts}, around)
        return Counted(body, facts, None)

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
            return self._bundle(bytes(_carried.decode(body).data) if carried is None else carried, data, around, 0)
        return [self._resource(body, data.get("resourceType"), data, around)]

    def _bundle(self, body: bytes, tree: dict[str, Any], around: Around, depth: int) -> list[Counted]:
        if depth == NESTED:
            raise MessageError(Reason.TOO_DEEP)
        if isinstance(stated := tree.get("entry"), list) and len(stated) > ENTRIES:
            raise MessageError(Reason.TOO_LARGE)
        try:
            entries = _bundle.decode(body).entry or []
        except msgspec.DecodeError:
            raise MessageError(Reason.MALFORMED) from None
        if not entries:
            return [Counted(body, [_control("Bundle")], None)]
        resources = [_framed(one.get("resource"), one, tree) for one in tree["entry"]]
        around = _within(entries, resources, around)
        carried: set[str] | None = None  # what a notification brings along, once its status asks for it
        counted: list[Counted] = []
        for entry, resource in zip(entries, resources, strict=True):
            raw, kind = bytes(entry.resource), _kind(resource)
            if entry.method not in STATED and (changed := _changed(entry, raw, kind)):
                counted.append(changed)
            elif not raw:  # an entry that only points (id-only): nothing to decide here
                counted.append(Counted(raw, [_control("Bundle")], None))
            else:
                base = base_of(entry.fullUrl, kind)
                placed = msgspec.structs.replace(around, base=base) if base else around
                counted += self._message(raw, resource, placed, depth + 1)
                if kind in SHAPES and (said := counted[-1].status):
                    carried = _carried_by(entries, resources) if carried is None else carried
                    counted[-1] = _told(raw, kind, said, carried)
        return counted


def _changed(entry: Entry, body: bytes, kind: str) -> Counted | None:
    """An entry that deletes a resource, or changes a Consent without stating it whole: it names no patient, so a person
    has to look. The type is judged first; None: the entry is read as what it brings along."""
    path = f"{entry.fullUrl or ''}/{entry.url.partition('?')[0]}"
    types = RESOURCE_TYPES & {kind, *path.split("/")}
    if "Consent" in types:
        return rejected(body, Reason.CONSENT_OF_NOBODY)
    if entry.method != "DELETE":
        return None
    if types and types.isdisjoint(fhir_events.READERS):
        return Counted(body, [unrouted(min(types), Reason.NO_ROUTE)], None)
    return rejected(body, Reason.DELETION)


def _framed(resource: object, entry: Mapping[str, object], bundle: Mapping[str, object]) -> object:
    """A resource with what its Bundle and its entry say of it: rules, modifiers and security labels."""
    if not isinstance(resource, dict):
        return resource
    framed = {name: one[name] for one in (bundle, entry) for name in MODIFIERS if one.get(name) is not None}
    stated, own = bundle.get("meta"), resource.get("meta")
    if isinstance(stated, dict) and isinstance(labels := stated.get("security"), list):
        own = own if isinstance(own, dict) else {}
        listed = own.get("security")
        framed["meta"] = {**own, "security": [*(listed if isinstance(listed, list) else ()), *labels]}
    return {**resource, **framed} if framed else resource


def _within(entries: list[Entry], resources: list[Any], around: Around) -> Around:
    """What the entries of one Bundle may refer to."""
    named = (
        (list(names(entry.fullUrl or "", tree)), tree)
        for entry, tree in zip(entries, resources, strict=True)
        if _kind(tree) in fhir.REFERRED
    )
    found = fhir.within(named, Around(around.reading, around.source, around.native, around.envelope))
    if not found.marks:
        return found
    marks = dict(found.marks)  # a Condition may name its Encounter by the place of the entry
    for entry, tree in zip(entries, resources, strict=True):
        classes = [name for place in names(entry.fullUrl or "", tree) for name in found.marks.get(place, ())]
        if classes and isinstance(tree, dict):
            own = f"{_kind(tree)}/{tree.get('id')}"
            marks[own] = tuple({*marks.get(own, ()), *classes})
    return msgspec.structs.replace(found, marks=marks)


def _carried_by(entries: list[Entry], resources: list[Any]) -> set[str]:
    """The names of what a notification brings along; a deletion leaves nothing to fetch."""
    told = (
        names(entry.fullUrl or "", resource)
        for entry, resource in zip(entries, resources, strict=True)
        if entry.method == "DELETE" or (entry.resource and _kind(resource) not in SHAPES)
    )
    return {name for each in told for name in each}


def _told(body: bytes, kind: str, said: Status, carried: set[str]) -> Counted:
    """A status as a message. What happened has to be fetched if not every event's resource came with it."""
    lacking = said.tells and (not carried or not all(is_carried(focus, carried) for focus in said.focuses if focus))
    return Counted(body, [_control(kind, Reason.FETCH_NEEDED if lacking else Reason.NOTIFICATION)], None, said)


def _kind(tree: object) -> str:
    kind = tree.get("resourceType") if isinstance(tree, dict) else None
    return kind if isinstance(kind, str) else ""


def _control(kind: str, reason: Reason = Reason.NOTIFICATION) -> Made:
    return Made(b"", "", kind, Verdict.CONTROL, reason)


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
    again, the text is another one and has fewer of them. Only a mark that is written as \\u0022 has to be looked for in
    a slower way.
    """
    try:
        tree = _any.decode(body)
        again = _written(tree)
        if again == body:
            return tree
        if b"\\u0022" in body:
            json.loads(body, object_pairs_hook=_each_once)
        elif again.count(b'"') != body.count(b'"'):
            raise MessageError(Reason.DUPLICATE_JSON_KEY)
    except RecursionError:
        raise MessageError(Reason.TOO_DEEP) from None
    except ValueError:
        raise MessageError(Reason.MALFORMED) from None
    return tree


def _each_once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise MessageError(Reason.DUPLICATE_JSON_KEY)
