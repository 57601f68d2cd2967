"""Audit: the record of each outcome is durable before its effect leaves this stage.

The same transform closes all four ways out of the timeline. What it lets out, by branch:

    allowed      payloads for the CRM, and each shard's contributions to the aggregates
    suppressed   nothing
    review       items with a deadline, the subject sealed to the reviewers
    set_aside    sealed messages for the quarantine

Rule source: 45 CFR 164.312(b) (audit controls), 164.528 (accounting of disclosures); DESIGN section 3, Audit.
"""

import json
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import apache_beam as beam
import msgspec
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas.audit_record import Columns, Places, table
from schemas.crossing import Crossing, Entry, Payload
from schemas.event import Made, Milestone
from schemas.keyset import Keyset, KeyPurpose
from schemas.opaque import opaque
from schemas.outcome import Verdict
from schemas.policy import Policy, Route
from schemas.stores import AuditLog, Opens
from schemas.timeline import Outcome
from transforms.rules.digests import keyed
from transforms.rules.review import ReviewItems

Name = str  # path of a file below the output folder
SOURCE = "urn:limen:boundary"
_PAIRS = frozenset({Verdict.RELEASED, Verdict.SUPPRESSED, Verdict.REVIEW})
_encoder = msgspec.json.Encoder()


class Audited(NamedTuple):
    """`effects`: (file, content). `cells`: (route, contributions of a shard). `counts`: (name, JSON)."""

    effects: beam.PCollection[tuple[Name, bytes]]
    cells: beam.PCollection[tuple[str, bytes]]
    counts: beam.PCollection[tuple[str, bytes]]


class Audit(beam.PTransform):
    """(shard, crossings or outcomes) → their effects, once their records are durable in the audit log."""

    def __init__(
        self, branch: str, policy: Policy, horizon: int, run: str, keys: Opens[Keyset], log: Opens[AuditLog]
    ) -> None:
        super().__init__()
        self._arguments = (branch, policy, horizon, run, keys, log)

    @no_annotations
    def expand(self, batches):
        out = batches | "RecordThenEffect" >> beam.ParDo(_Audit(*self._arguments)).with_outputs(
            "cells", "counts", main="effects"
        )
        return Audited(out.effects, out.cells, out.counts)


class _Audit(beam.DoFn):
    def __init__(
        self, branch: str, policy: Policy, horizon: int, run: str, keys: Opens[Keyset], log: Opens[AuditLog]
    ) -> None:
        self._branch, self._policy, self._horizon, self._run = branch, policy, horizon, run
        self._keys, self._reference = keys, log

    def setup(self) -> None:
        keyset = self._keys.open()
        self._log = self._reference.open()
        self._events, self._records, self._consents = (
            keyset.derive(KeyPurpose.AUDIT, name) for name in ("event", "record", "consent")
        )
        self._desks = {route.route: _Desk(route, place, keyset) for place, route in enumerate(self._policy.routes, 1)}
        self._nowhere = _Desk(None, 0, keyset)
        routes = self._policy.routes
        self._places = Places(
            ["", *(r.route for r in routes)],
            ["", *(r.purpose for r in routes)],
            ["", *(r.destination.name for r in routes)],
            ["", *(r.recipe_name for r in routes)],
        )
        self._items = ReviewItems(self._policy, self._horizon, keyset)

    def process(
        self, batch: tuple[bytes, list[Crossing] | list[Outcome]]
    ) -> Iterable[
        tuple[Name, bytes]
        | TaggedOutput[Literal["cells"], tuple[str, bytes]]
        | TaggedOutput[Literal["counts"], tuple[str, bytes]]
    ]:
        shard, outcomes = batch
        if not outcomes:
            return
        name = f"{self._run}-{shard.hex()}"
        columns, counts = Columns.empty(), Counter[str]()
        payloads: dict[str, list[tuple[str, bytes]]] = {}
        for one in outcomes:
            entry = one.entry if isinstance(one, Crossing) else _entry(one)
            desk = self._desks[entry.route] if entry.route else self._nowhere
            correlation = desk.correlation(entry)
            payload = ""
            if isinstance(one, Crossing) and one.record:
                payload = desk.payload_id(entry)
                line = self._payload(one, payload, correlation, desk)
                payloads.setdefault(entry.route, []).append((payload, line))
            self._note(columns, entry, correlation, payload, one, desk)
            counts[f"{entry.route} {entry.verdict} {entry.reason}"] += 1
        self._log.append(
            f"{name}-{self._branch}",
            table(columns, self._places, self._horizon, self._policy.name, self._policy.digest),
        )
        for route, lines in payloads.items():
            lines.sort()
            yield f"crm/{route}/{name}.jsonl", b"".join([line for _, line in lines])
        if self._branch == "allowed":
            for route, cells in _cells(outcomes).items():
                yield TaggedOutput("cells", (route, cells))
        elif self._branch == "review":
            yield f"review/{name}.jsonl", self._items.lines(outcomes)
        elif self._branch == "set_aside":
            for one in outcomes:
                if isinstance(one.event, Made) and one.event.sealed and not one.copy:
                    yield f"quarantine/{opaque(one.event.key)}.sealed", one.event.sealed
        yield TaggedOutput("counts", (f"audit-{self._branch}-{shard.hex()}", json.dumps(counts).encode()))

    def _note(
        self, columns: Columns, entry: Entry, correlation: str, payload: str, one: Crossing | Outcome, desk: "_Desk"
    ) -> None:
        """One record, column by column."""
        event = keyed(self._events, entry.key)
        identity = b"%b %b %b %d %d" % (
            event if not entry.route else correlation.encode(),
            self._policy.digest.encode(),
            entry.verdict.encode(),
            entry.ordinal,
            entry.copy,
        )
        columns.record.append(opaque(keyed(self._records, identity)))
        columns.event.append(opaque(event))
        columns.type.append(entry.type)
        columns.verdict.append(entry.verdict)
        columns.reason.append(entry.reason)
        columns.place.append(desk.place)
        columns.fates.append(entry.fates)
        columns.level.append(entry.level)
        columns.correlationid.append(correlation)
        columns.payload.append(payload)
        columns.crm_record.append(one.record if isinstance(one, Crossing) else "")
        columns.consents.append([opaque(keyed(self._consents, what)) for what in entry.consents])
        columns.ordinal.append(entry.ordinal)
        columns.copy.append(entry.copy)

    def _payload(self, one: Crossing, payload: str, correlation: str, desk: "_Desk") -> bytes:
        entry, values, route = one.entry, one.values, desk.route
        assert route is not None  # noqa: S101  a crossing belongs to a route
        data = {name: value for name, value in values.items() if name != "time"}
        return (
            _encoder.encode(
                Payload(
                    payload,
                    SOURCE,
                    f"limen.{route.route}.v1",
                    f"{values['time']}T00:00:00Z",
                    one.subject,
                    one.record,
                    entry.ordinal,
                    route.purpose,
                    route.destination.name,
                    desk.consent_reference(entry),
                    entry.level,
                    self._policy.name,
                    route.recipe_name,
                    correlation,
                    data,
                )
            )
            + b"\n"
        )


class _Desk:
    """The aliases of one route: keyed per destination, purpose and route, so that two routes can join nothing."""

    def __init__(self, route: Route | None, place: int, keyset: Keyset) -> None:
        self.route, self.place = route, place
        context = (route.destination.name, route.purpose, route.route) if route else ("hospital", "audit")
        self._correlations = keyset.derive(KeyPurpose.ALIAS, *context, "correlationid")
        self._consents = keyset.derive(KeyPurpose.ALIAS, *context, "consentref")
        self._ids = keyset.derive(KeyPurpose.ALIAS, *context, "id", route.recipe_name) if route else b""

    def correlation(self, entry: Entry) -> str:
        """One for each event and route; for a message without a route, one for the message."""
        return opaque(keyed(self._correlations, entry.what if self.route else entry.key))

    def payload_id(self, entry: Entry) -> str:
        """A function of (event, route, recipe, ordinal) alone."""
        return opaque(keyed(self._ids, b"%d %b" % (entry.ordinal, entry.what)))

    def consent_reference(self, entry: Entry) -> str:
        """Stands for the consent version that grounds the release."""
        return opaque(keyed(self._consents, entry.consents[0])) if entry.consents else ""


def _entry(outcome: Outcome) -> Entry:
    event = outcome.event
    what = event.what if isinstance(event, Milestone) else event.key
    return Entry(
        event.key, what, event.type, outcome.route, outcome.verdict, outcome.reason,
        tuple([fact.what for fact in outcome.facts]), outcome.copy, outcome.ordinal, outcome.retracts,
    )  # fmt: skip


def _cells(crossings: Iterable[Crossing]) -> dict[str, bytes]:
    """A shard's contributions: for each aggregate route, how many patients reached which cell (JSON)."""
    counts: dict[str, Counter[tuple[str, ...]]] = {}
    for one in crossings:
        if one.first:
            counts.setdefault(one.entry.route, Counter())[tuple(one.values.values())] += 1
    return {route: json.dumps(sorted([*cell, n] for cell, n in cells.items())).encode() for route, cells in counts.items()}
