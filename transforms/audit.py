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
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas.audit_record import Columns, Places, table
from schemas.crossing import Crossing
from schemas.event import Made, Milestone
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque
from schemas.policy import Policy
from schemas.stores import AuditLog, Opens
from schemas.timeline import Outcome
from transforms.batch import Crossings, Outcomes
from transforms.defects import without_values
from transforms.rules.digests import Mac
from transforms.rules.payload import Desk
from transforms.rules.review import ReviewItems

Name = str  # path of a file below the output folder


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
        self._consents = Mac(keyset.derive(KeyPurpose.AUDIT, "consent"))
        routes = self._policy.routes
        self._place = {"": 0, **{route.route: place for place, route in enumerate(routes, 1)}}
        self._desks = {r.route: Desk(r, self._policy, keyset) for r in routes if r.delivers == "payloads"}
        self._items = ReviewItems(self._policy, self._horizon, keyset)
        released = self._branch == "allowed"
        self._places = Places(
            ["", *(route.route for route in routes)],
            ["", *(route.purpose for route in routes)],
            ["", *(route.destination.name for route in routes)],
            ["", *(route.recipe_name for route in routes)],
            ["", *(self._policy.level(route).label if released else "" for route in routes)],
        )

    def process(
        self, batch: Crossings | Outcomes
    ) -> Iterable[
        tuple[Name, bytes]
        | TaggedOutput[Literal["cells"], tuple[str, bytes]]
        | TaggedOutput[Literal["counts"], tuple[str, bytes]]
    ]:
        if not batch.items:
            return
        with without_values("audit"):
            effects = list(self._recorded(batch))
        yield from effects

    def _recorded(self, batch: Crossings | Outcomes) -> Iterator[tuple[Name, bytes] | TaggedOutput]:
        """Make a batch's records durable; then, and not before, its effects."""
        name = f"{self._run}-{batch.shard.hex()}"
        crossings = batch.items if isinstance(batch, Crossings) else []
        aside = batch.items if isinstance(batch, Outcomes) else []
        columns, lines = self._released(crossings) if crossings else (self._kept(aside), {})
        records = table(columns, self._places, self._horizon, self._policy.name, self._policy.digest)
        self._log.append(f"{name}-{self._branch}", records)

        for route, payloads in lines.items():
            yield f"crm/{route}/{name}.jsonl", b"".join(payloads)
        for route, cells in _cells(crossings).items():
            yield TaggedOutput("cells", (route, cells))
        if self._branch == "review":
            yield f"review/{name}.jsonl", self._items.lines(aside)
        for one in aside:
            if isinstance(one.event, Made) and one.event.sealed and not one.copy:
                yield f"quarantine/{opaque(one.event.key)}.sealed", one.event.sealed
        counts = Counter(zip(columns.place, columns.verdict, columns.reason, strict=True))
        rows = [(self._places.routes[place], verdict, reason, n) for (place, verdict, reason), n in counts.items()]
        yield TaggedOutput(
            "counts", (f"audit-{self._branch}-{batch.shard.hex()}", json.dumps({"outcomes": rows}).encode())
        )

    def _released(self, crossings: list[Crossing]) -> tuple[Columns, dict[str, list[bytes]]]:
        """The records of releases, and each payload route's lines, sorted by id."""
        ids, correlations = [], []
        lines: dict[str, list[tuple[str, bytes]]] = {}
        for one in crossings:
            identifier = correlation = ""
            if one.record:
                route = one.entry.route
                identifier, correlation, line = self._desks[route].line(one)
                lines.setdefault(route, []).append((identifier, line))
            ids.append(identifier)
            correlations.append(correlation)
        entries = [one.entry for one in crossings]
        columns = Columns(
            [entry.key for entry in entries],
            [entry.type for entry in entries],
            [entry.verdict for entry in entries],
            [entry.reason for entry in entries],
            [self._place[entry.route] for entry in entries],
            [one.made.fates for one in crossings],
            correlations,
            ids,
            [one.record for one in crossings],
            self._references([entry.consents for entry in entries]),
            [entry.ordinal for entry in entries],
            [entry.copy for entry in entries],
        )
        return columns, {route: [line for _, line in sorted(found)] for route, found in lines.items()}

    def _kept(self, outcomes: list[Outcome]) -> Columns:
        """The records of everything that does not leave."""
        nothing = [""] * len(outcomes)
        return Columns(
            [one.event.key for one in outcomes],
            [one.event.type for one in outcomes],
            [one.verdict for one in outcomes],
            [one.reason for one in outcomes],
            [self._place[one.route] for one in outcomes],
            nothing,
            [self._correlation(one) for one in outcomes],
            nothing,
            nothing,
            self._references([tuple([fact.what for fact in one.facts]) if one.facts else () for one in outcomes]),
            [one.ordinal for one in outcomes],
            [one.copy for one in outcomes],
        )

    def _correlation(self, outcome: Outcome) -> str:
        """The id that the payload of this pair would carry, now or in a later run; "" where none ever leaves."""
        desk = self._desks.get(outcome.route)
        return desk.correlation(outcome.event.what) if desk and isinstance(outcome.event, Milestone) else ""

    def _references(self, consents: Sequence[tuple[bytes, ...]]) -> list[list[str]]:
        """The references of consent versions."""
        known: dict[tuple[bytes, ...], list[str]] = {(): []}
        for one in set(consents):
            known[one] = [opaque(self._consents.name(what)) for what in one]
        return [known[one] for one in consents]


def _cells(crossings: list[Crossing]) -> dict[str, bytes]:
    """A shard's contributions: for each aggregate route, how many patients reached which cell (JSON)."""
    reached = Counter([(one.entry.route, one.made.cell) for one in crossings if one.first])
    routes: dict[str, list[tuple[str, int]]] = {}
    for (route, cell), patients in sorted(reached.items()):
        routes.setdefault(route, []).append((cell, patients))
    return {route: json.dumps(cells).encode() for route, cells in routes.items()}
