"""The audit record: one for each outcome, PHI-free by type, as columns.

Who: the policy and its digest. What: `event`, a keyed digest of the message, and its type. When: the horizon. Why:
verdict, reason, where its rule stands, the consents it rests on. Where: route, purpose, destination, the CRM record.
How: the recipe in its revision, what was done to each field, and how identifying the result is.

`record` is a pure function of (event, route, policy, verdict, ordinal, copy), never of a token, so that a retry or a
second run writes the same records; over a ledger the run stands for the route of an outcome that has none.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from schemas.crossing import Alike, Entries
from schemas.opaque import opaque
from schemas.outcome import Reason, Verdict

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

_RULES = "transforms/rules"
# Where an auditor reads on: the file, or the files, in which a reason is given.
RULES: Mapping[Reason, str] = {
    **dict.fromkeys(
        (
            Reason.PERMITTED, Reason.NO_CONSENT_NEEDED, Reason.NO_CONSENT, Reason.OUT_OF_SCOPE, Reason.NOT_COVERED,
            Reason.EXPIRED, Reason.REVOKED, Reason.DENIED, Reason.CONSENT_UNCLEAR, Reason.IDENTITY_CHANGED,
            Reason.PERMIT_INCOMPLETE,
        ),
        f"{_RULES}/consent.py",
    ),
    **dict.fromkeys(
        (
            Reason.SUPERSEDED, Reason.CANCELLED, Reason.CANCELLATION, Reason.AFTER_HORIZON, Reason.ROUTE_OFF,
            Reason.SHADOW, Reason.CONFLICTING_COPY, Reason.NO_TIME, Reason.TOO_LATE, Reason.SENSITIVE, Reason.DECEASED,
            Reason.MINOR, Reason.WINDOW_OPEN, Reason.WINDOW_CLOSED, Reason.REVIEWED, Reason.REFILLED,
            Reason.STUDY_NOT_APPROVED, Reason.FILTERED, Reason.NOT_ENROLLED,
        ),
        f"{_RULES}/known.py",
    ),
    Reason.REVIEW_EXPIRED: f"{_RULES}/reviewing.py",
    **dict.fromkeys(
        (Reason.SAME_MESSAGE, Reason.SAME_MILESTONE, Reason.RECORDED, Reason.IDENTITY), f"{_RULES}/first_copy.py"
    ),
    Reason.ROLE_NOT_ALLOWED: f"{_RULES}/signed_verdicts.py",
    Reason.INVALID_SIGNATURE: f"schemas/verdict.py {_RULES}/envelope.py",
    **dict.fromkeys((Reason.UNKNOWN_FORMAT, Reason.EMPTY_FILE, Reason.DEFECT), "transforms/decode.py"),
    Reason.TOO_LARGE: f"transforms/decode.py {_RULES}/envelope.py",
    **dict.fromkeys(
        (
            Reason.TOO_DEEP, Reason.DUPLICATE_JSON_KEY, Reason.UNKNOWN_KIND, Reason.DELETION, Reason.NOTIFICATION,
            Reason.FETCH_NEEDED,
        ),
        f"{_RULES}/envelope.py",
    ),
    Reason.INVALID_ENVELOPE: f"{_RULES}/envelope.py {_RULES}/signed_verdicts.py schemas/verdict.py",
    **dict.fromkeys((Reason.BAD_CHARSET, Reason.BAD_DELIMITERS), f"{_RULES}/hl7.py"),
    Reason.BAD_ENCODING: f"{_RULES}/hl7.py {_RULES}/hl7_events.py",
    Reason.NO_TYPE: f"{_RULES}/hl7_events.py",
    Reason.WRONG_ENVIRONMENT: f"{_RULES}/hl7_events.py {_RULES}/fhir_events.py",
    Reason.NO_PATIENT: " ".join(
        f"{_RULES}/{name}.py" for name in ("hl7_events", "hl7_patient", "fhir_events", "fhir_patient")
    ),
    Reason.MALFORMED: " ".join(
        f"{_RULES}/{name}.py" for name in ("hl7", "hl7_events", "envelope", "fhir_events", "notification")
    ),
    Reason.CONSENT_OF_NOBODY: " ".join(
        f"{_RULES}/{name}.py" for name in ("fhir_consent", "hl7_consent", "hl7_events", "envelope", "rejection")
    ),
    Reason.UNKNOWN_MODIFIER: f"{_RULES}/fhir_events.py {_RULES}/envelope.py",
    Reason.NO_MILESTONE: f"{_RULES}/fhir_events.py",
    Reason.NO_ROUTE: f"{_RULES}/hl7_events.py {_RULES}/envelope.py {_RULES}/first_copy.py",
    Reason.DEMOGRAPHICS: f"{_RULES}/hl7_events.py {_RULES}/fhir_patient.py {_RULES}/first_copy.py",
}  # fmt: skip
TIMELINE = "transforms/timeline.py"  # where a defect is caught of what had been read: it is then not rejected


def rule_of(reason: Reason, verdict: Verdict) -> str:
    """Where the rule stands that gave a reason, for the column `rule`."""
    return TIMELINE if reason is Reason.DEFECT and verdict is not Verdict.REJECTED else RULES[reason]


class Words(NamedTuple):
    """What the records of one route share."""

    purpose: str
    destination: str
    recipe: str
    level: str


class Records:
    """The records of one segment, gathered as columns: a record costs a place in `_alike` where it would cost a dozen
    words."""

    def __init__(self) -> None:
        self._events: list[bytes] = []
        self._alike: list[Alike] = []
        self._routes: list[str] = []  # of each in `_alike`
        self._places: list[int] = []
        self._correlations: list[str] = []
        self._payloads: list[str] = []
        self._crm_records: list[str] = []

    def add(
        self,
        entries: Entries,
        correlations: Sequence[str] = (),
        payloads: Sequence[str] = (),
        crm_records: Sequence[str] = (),
    ) -> None:
        """Add outcomes: their entries, and of what else there is one for each of them."""
        nothing = [""] * len(entries.keys)
        first = len(self._alike)
        self._alike += entries.alike
        self._routes += [entries.route] * len(entries.alike)
        self._places += [first + place for place in entries.places]
        self._events += entries.keys
        self._correlations += correlations or nothing
        self._payloads += payloads or nothing
        self._crm_records += crm_records or nothing

    def counts(self) -> list[tuple[str, Verdict, Reason, int]]:
        """How many records there are of each route, verdict and reason."""
        counts: Counter[tuple[str, Verdict, Reason]] = Counter()
        for place, number in Counter(self._places).items():
            its = self._alike[place]
            counts[self._routes[place], its.verdict, its.reason] += number
        return [(*what, number) for what, number in counts.items()]

    def table(
        self,
        routes: Mapping[str, Words],
        reference: Callable[[bytes], str],
        horizon: int,
        policy: str,
        policy_digest: str,
        stream: str = "",
    ) -> pa.Table:
        """A table of `SCHEMA`, sorted by record id. `reference` names a consent version in the audit log; `stream` is
        the run's name if it is one of many over a ledger: what becomes of a message is numbered within its run."""
        alike, event, places = self._alike, _opaque(self._events), pa.array(self._places, pa.int32())
        of = zip(self._routes, alike, strict=True)
        ends = [f"{route or stream}.{its.verdict}.{its.ordinal}.{its.copy}" for route, its in of]
        record = _identifiers(event, pa.array(ends, pa.string()).take(places), policy_digest)
        order = pc.sort_indices(record)
        places = places.take(order)

        def words(values: Iterable[str]) -> pa.DictionaryArray:
            """A column of words, given for each of `_alike`. Each stands once in the dictionary, and in order: repeated
            ones made equal tables differ in their Parquet bytes."""
            said = [str(value) for value in values]
            distinct = sorted(set(said))
            index = {word: place for place, word in enumerate(distinct)}
            found = pa.array([index[word] for word in said], pa.int32())
            return pa.DictionaryArray.from_arrays(found.take(places), pa.array(distinct, pa.string()))

        def numbers(values: Iterable[int]) -> pa.Int32Array:
            return pa.array(values, pa.int32()).take(places)

        def texts(values: Sequence[str]) -> pa.StringArray:
            return pa.array(values, pa.string()).take(order)

        of_route = [routes[route] for route in self._routes]
        references = pa.array([[reference(what) for what in one.consents] for one in alike], pa.list_(pa.string()))
        arrays = {
            "record": record.take(order),
            "event": event.take(order),
            "type": words(one.type for one in alike),
            "verdict": words(one.verdict for one in alike),
            "reason": words(one.reason for one in alike),
            "rule": words(rule_of(one.reason, one.verdict) for one in alike),
            "route": words(self._routes),
            "purpose": words(its.purpose for its in of_route),
            "destination": words(its.destination for its in of_route),
            "recipe": words(its.recipe for its in of_route),
            "fates": words(one.fates for one in alike),
            "level": words(its.level for its in of_route),
            "correlationid": texts(self._correlations),
            "payload": texts(self._payloads),
            "crm_record": texts(self._crm_records),
            "consents": references.take(places),
            "ordinal": numbers(one.ordinal for one in alike),
            "copy": numbers(one.copy for one in alike),
            "horizon": pa.repeat(pa.scalar(horizon, pa.timestamp("us", tz="UTC")), len(order)),
            "policy": words([policy] * len(alike)),
            "policy_digest": words([policy_digest] * len(alike)),
        }
        return pa.Table.from_pydict(arrays, schema=SCHEMA)


def _identifiers(event: pa.StringArray, end: pa.StringArray, policy_digest: str) -> pa.StringArray:
    """Record ids: the parts that they are a function of, joined: event.route.verdict.ordinal.copy.policy."""
    return pc.binary_join_element_wise(event, end, policy_digest[:12], ".")


def _opaque(names: Sequence[bytes]) -> pa.StringArray:
    """`schemas.opaque.opaque` of equally long names, all at once."""
    width = 2 * len(names[0]) if names else 0
    offsets = array("i", range(0, width * len(names) + 1, width or 1))
    text = opaque(b"".join(names)).encode("ascii")
    return pa.StringArray.from_buffers(len(names), pa.py_buffer(offsets), pa.py_buffer(text))
