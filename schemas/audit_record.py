"""The audit record: one for each outcome, PHI-free by type, as columns.

Who: the policy and its digest. What: `event`, a keyed digest of the message, and its type. When: the horizon. Why:
verdict, reason, rule and the consents it rests on. Where: route, purpose, destination, the CRM record. How: the recipe
in its revision, what was done to each field, and how identifying the result is.

`record` is a pure function of (event, route, policy, verdict, ordinal, copy), never of a token, so that a retry or a
second run writes the same records.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from schemas.outcome import Reason

VERSION = 1

_WORD = pa.dictionary(pa.int32(), pa.string())
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
            Reason.SHADOW, Reason.CONFLICTING_COPY, Reason.NO_TIME, Reason.TOO_LATE, Reason.SAME_MESSAGE,
            Reason.SAME_MILESTONE, Reason.RECORDED, Reason.IDENTITY,
        ),
        "transforms/rules/timeline.py",
    ),
}  # fmt: skip
READING = "transforms/decode.py"  # every other reason


class Places(NamedTuple):
    """The words that a route's records share; index 0 is "no route"."""

    routes: Sequence[str]
    purposes: Sequence[str]
    destinations: Sequence[str]
    recipes: Sequence[str]


class Columns(NamedTuple):
    """The columns that differ from record to record, as lists of one length."""

    record: list[str]
    event: list[str]
    type: list[str]
    verdict: list[str]
    reason: list[str]
    place: list[int]  # index into `Places`
    fates: list[str]
    level: list[str]
    correlationid: list[str]
    payload: list[str]
    crm_record: list[str]
    consents: list[list[str]]
    ordinal: list[int]
    copy: list[int]

    @staticmethod
    def empty() -> "Columns":
        return Columns(*([] for _ in Columns._fields))  # type: ignore[arg-type]


def table(columns: Columns, places: Places, horizon: int, policy: str, policy_digest: str) -> pa.Table:
    """Records as a table of `SCHEMA`, sorted by record id."""
    rows = len(columns.record)
    place = pa.array(columns.place, pa.int32())
    reasons = _words(columns.reason)
    rules = pa.array([RULES.get(Reason(word), READING) for word in reasons.dictionary.to_pylist()], pa.string())
    arrays = {
        "record": pa.array(columns.record, pa.string()),
        "event": pa.array(columns.event, pa.string()),
        "type": _words(columns.type),
        "verdict": _words(columns.verdict),
        "reason": reasons,
        "rule": pa.DictionaryArray.from_arrays(reasons.indices, rules),
        "route": pa.DictionaryArray.from_arrays(place, pa.array(places.routes)),
        "purpose": pa.DictionaryArray.from_arrays(place, pa.array(places.purposes)),
        "destination": pa.DictionaryArray.from_arrays(place, pa.array(places.destinations)),
        "recipe": pa.DictionaryArray.from_arrays(place, pa.array(places.recipes)),
        "fates": _words(columns.fates),
        "level": _words(columns.level),
        "correlationid": pa.array(columns.correlationid, pa.string()),
        "payload": pa.array(columns.payload, pa.string()),
        "crm_record": pa.array(columns.crm_record, pa.string()),
        "consents": pa.array(columns.consents, pa.list_(pa.string())),
        "ordinal": pa.array(columns.ordinal, pa.int32()),
        "copy": pa.array(columns.copy, pa.int32()),
        "horizon": pa.repeat(pa.scalar(horizon, pa.timestamp("us", tz="UTC")), rows),
        "policy": _words([policy] * rows),
        "policy_digest": _words([policy_digest] * rows),
    }
    return pa.Table.from_pydict(arrays, schema=SCHEMA).sort_by("record")


def _words(values: list[str]) -> pa.DictionaryArray:
    return pa.array(values, pa.string()).dictionary_encode()
