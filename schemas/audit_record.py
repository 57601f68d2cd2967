"""The audit record: one for each outcome, PHI-free by type, as columns.

Who: the policy and its digest. What: `event`, a keyed digest of the message, and its type. When: the horizon. Why:
verdict, reason, rule and the consents it rests on. Where: route, purpose, destination, the CRM record. How: the recipe
in its revision, what was done to each field, and how identifying the result is.

`record` is a pure function of (event, route, policy, verdict, ordinal, copy), never of a token, so that a retry or a
second run writes the same records.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from schemas.opaque import opaque
from schemas.outcome import Reason

VERSION = 1

_WORD = pa.dictionary(pa.int32(), pa.string())
UNIQUE = ("record", "event", "correlationid", "payload", "crm_record")  # columns whose values hardly repeat
SCHEMA = pa.schema(
    [
        pa.field("record", pa.string(), nullable=False),
        pa.field("event", pa.string(), nullable=False),
        pa.field("type", _WORD, nullable=False),
        pa.field("verdict", _WORD, nullable=False),
        pa.field("reason", _WORD, nullable=False),
        pa.field("rule", _WORD, nullable=False),
        pa.field("route", _WORD, nullable=False),
        pa.field("purpose", _WORD, nullable=False),
        pa.field("destination", _WORD, nullable=False),
        pa.field("recipe", _WORD, nullable=False),
        pa.field("fates", _WORD, nullable=False),
        pa.field("level", _WORD, nullable=False),
        pa.field("correlationid", pa.string(), nullable=False),
        pa.field("payload", pa.string(), nullable=False),
        pa.field("crm_record", pa.string(), nullable=False),
        pa.field("consents", pa.list_(pa.string()), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("copy", pa.int32(), nullable=False),
        pa.field("horizon", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("policy", _WORD, nullable=False),
        pa.field("policy_digest", _WORD, nullable=False),
    ],
    metadata={"limen.audit": str(VERSION)},
)

# Which rule gave a reason: where an auditor reads on.
RULES: Mapping[Reason, str] = {
    **dict.fromkeys(
        (
            Reason.PERMITTED, Reason.NO_CONSENT_NEEDED, Reason.NO_CONSENT, Reason.OUT_OF_SCOPE, Reason.NOT_COVERED,
            Reason.EXPIRED, Reason.REVOKED, Reason.DENIED, Reason.CONSENT_UNCLEAR, Reason.IDENTITY_CHANGED,
        ),
        "transforms/rules/consent.py",
    ),
    **dict.fromkeys(
        (
            Reason.SUPERSEDED, Reason.CANCELLED, Reason.CANCELLATION, Reason.AFTER_HORIZON, Reason.ROUTE_OFF,
            Reason.SHADOW, Reason.CONFLICTING_COPY, Reason.NO_TIME, Reason.TOO_LATE, Reason.SENSITIVE, Reason.DECEASED,
            Reason.MINOR, Reason.WINDOW_OPEN, Reason.WINDOW_CLOSED, Reason.REVIEWED, Reason.REVIEW_EXPIRED,
        ),
        "transforms/rules/timeline.py",
    ),
    **dict.fromkeys(
        (Reason.SAME_MESSAGE, Reason.SAME_MILESTONE, Reason.RECORDED, Reason.IDENTITY), "transforms/rules/first_copy.py"
    ),
    **dict.fromkeys((Reason.INVALID_SIGNATURE, Reason.ROLE_NOT_ALLOWED), "transforms/rules/verdicts.py"),
}  # fmt: skip
READING = "transforms/decode.py"  # every other reason


class Places(NamedTuple):
    """The words that a route's records share, by the route's place in the policy; place 0 is "no route"."""

    routes: Sequence[str]
    purposes: Sequence[str]
    destinations: Sequence[str]
    recipes: Sequence[str]
    levels: Sequence[str]


class Columns(NamedTuple):
    """The columns that differ from record to record, as lists of one length. `event` is 16 bytes, `place` an index into
    `Places`."""

    event: Sequence[bytes]
    type: Sequence[str]
    verdict: Sequence[str]
    reason: Sequence[str]
    place: Sequence[int]
    fates: Sequence[str]
    correlationid: Sequence[str]
    payload: Sequence[str]
    crm_record: Sequence[str]
    consents: Sequence[Sequence[str]]
    ordinal: Sequence[int]
    copy: Sequence[int]


def table(columns: Columns, places: Places, horizon: int, policy: str, policy_digest: str) -> pa.Table:
    """Records as a table of `SCHEMA`, sorted by record id."""
    rows = len(columns.event)
    place = pa.array(columns.place, pa.int32())
    verdicts, reasons, event = _words(columns.verdict), _words(columns.reason), _opaque(columns.event)
    ordinal, copy = pa.array(columns.ordinal, pa.int32()), pa.array(columns.copy, pa.int32())
    rule_of = {word: RULES.get(Reason(word), READING) for word in set(columns.reason)}
    rules = _words([rule_of[word] for word in columns.reason])
    route = pa.DictionaryArray.from_arrays(place, pa.array(places.routes, pa.string()))
    arrays = {
        "record": _identifiers(event, route, verdicts, ordinal, copy, policy_digest),
        "event": event,
        "type": _words(columns.type),
        "verdict": verdicts,
        "reason": reasons,
        "rule": rules,
        "route": route,
        "purpose": _of_route(place, places.purposes),
        "destination": _of_route(place, places.destinations),
        "recipe": _of_route(place, places.recipes),
        "fates": _words(columns.fates),
        "level": _of_route(place, places.levels),
        "correlationid": pa.array(columns.correlationid, pa.string()),
        "payload": pa.array(columns.payload, pa.string()),
        "crm_record": pa.array(columns.crm_record, pa.string()),
        "consents": pa.array(columns.consents, pa.list_(pa.string())),
        "ordinal": ordinal,
        "copy": copy,
        "horizon": pa.repeat(pa.scalar(horizon, pa.timestamp("us", tz="UTC")), rows),
        "policy": _same(policy, rows),
        "policy_digest": _same(policy_digest, rows),
    }
    return pa.Table.from_pydict(arrays, schema=SCHEMA).sort_by("record")


def _identifiers(
    event: pa.Array, route: pa.Array, verdict: pa.Array, ordinal: pa.Array, copy: pa.Array, policy_digest: str
) -> pa.Array:
    """Record ids: the parts that they are a function of, joined: event.route.verdict.ordinal.copy.policy."""
    parts = (event, route, verdict, ordinal, copy, pa.scalar(policy_digest[:12]))
    return pc.binary_join_element_wise(*(pc.cast(part, pa.string()) for part in parts), ".")


def _words(values: Sequence[str]) -> pa.DictionaryArray:
    words = sorted(set(values))
    index = {word: place for place, word in enumerate(words)}
    places = pa.array([index[value] for value in values], pa.int32())
    return pa.DictionaryArray.from_arrays(places, pa.array([str(word) for word in words], pa.string()))


def _of_route(place: pa.Array, words: Sequence[str]) -> pa.DictionaryArray:
    """A word of each record's route. Each word stands once in the dictionary: repeated ones made equal tables differ in
    their Parquet bytes."""
    distinct = sorted(set(words))
    remapped = pc.take(pa.array([distinct.index(word) for word in words], pa.int32()), place)
    return pa.DictionaryArray.from_arrays(remapped, pa.array(distinct, pa.string()))


def _opaque(names: Sequence[bytes]) -> pa.StringArray:
    """`schemas.opaque.opaque` of equally long names, all at once."""
    width = 2 * len(names[0]) if names else 0
    offsets = array("i", range(0, width * len(names) + 1, width or 1))
    text = opaque(b"".join(names)).encode("ascii")
    return pa.StringArray.from_buffers(len(names), pa.py_buffer(offsets), pa.py_buffer(text))


def _same(word: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), pa.array([word]))
