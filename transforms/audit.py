"""Audit: the record of each outcome is durable before its effect leaves this stage.

The same transform closes all four ways out of the timeline. What it lets out, by branch:

    allowed      payloads for the CRM, and each shard's contributions to the aggregates
    suppressed   nothing
    review       items with a deadline, the subject sealed to the reviewers
    set_aside    sealed messages for the quarantine

Rule source: 45 CFR 164.312(b) (audit controls), 164.528 (accounting of disclosures); DESIGN section 3, Audit.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas.audit_record import Records, Words
from schemas.crossing import Crossing, Entries
from schemas.event import Made
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque
from schemas.policy import Policy
from schemas.route import Route
from schemas.stores import AuditLog, Opens
from schemas.timeline import Moment
from transforms.batch import Crossings, Gathering, Outcomes
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
        self, branch: str, policy: Policy, moment: Moment, run: str, keys: Opens[Keyset], log: Opens[AuditLog]
    ) -> None:
        super().__init__()
        self._arguments = (branch, policy, moment, run, keys, log)

    @no_annotations
    def expand(self, batches):
        out = batches | "RecordThenEffect" >> beam.ParDo(_Audit(*self._arguments)).with_outputs(
            "cells", "counts", main="effects"
        )
        return Audited(out.effects, out.cells, out.counts)


class _Audit(beam.DoFn):
    def __init__(
        self, branch: str, policy: Policy, moment: Moment, run: str, keys: Opens[Keyset], log: Opens[AuditLog]
    ) -> None:
        self._branch, self._policy, self._moment, self._run = branch, policy, moment, run
        self._keys, self._reference = keys, log

    def setup(self) -> None:
        keyset = self._keys.open()
        self._log = self._reference.open()
        self._consents = Mac(keyset.derive(KeyPurpose.AUDIT, "consent"))
        self._desks = {r.route: Desk(r, self._policy, keyset) for r in self._policy.routes if r.delivers == "payloads"}
        self._items = ReviewItems(self._policy, self._moment.horizon, keyset)
        self._words = {"": Words("", "", "", "")} | {route.route: self._of(route) for route in self._policy.routes}

    def _of(self, route: Route) -> Words:
        level = self._policy.level(route).label if self._branch == "allowed" else ""
        return Words(route.purpose, route.destination.name, route.recipe_name, level)

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
        records = Records()
        payloads: dict[str, list[bytes]] = {}
        for crossing in crossings:
            if lines := self._released(crossing, records):
                payloads.setdefault(crossing.entries.route, []).extend(lines)
        kept: dict[str, Gathering] = {}
        for outcome in aside:
            if outcome.route not in kept:
                kept[outcome.route] = Gathering(outcome.route)
            kept[outcome.route].add(outcome)
        for those in kept.values():
            self._kept(those.entries(), records)
        stream = "" if self._moment.last is None else self._run
        policy, horizon = self._policy, self._moment.horizon
        table = records.table(self._words, self._consent, horizon, policy.name, policy.digest, stream)
        self._log.append(f"{name}-{self._branch}", table)

        for route, lines in payloads.items():
            yield f"crm/{route}/{name}.jsonl", b"".join(sorted(lines))
        for crossing in crossings:
            if crossing.cells:
                cells = json.dumps(sorted(crossing.cells.items())).encode()
                yield TaggedOutput("cells", (crossing.entries.route, cells))
        if self._branch == "review":
            yield f"review/{name}.jsonl", self._items.lines(aside)
        for one in aside:
            if isinstance(one.event, Made) and one.event.sealed and not one.copy:
                yield f"quarantine/{opaque(one.event.key)}.sealed", one.event.sealed
        counts = json.dumps({"outcomes": records.counts()}).encode()
        yield TaggedOutput("counts", (f"audit-{self._branch}-{batch.shard.hex()}", counts))

    def _released(self, one: Crossing, records: Records) -> list[bytes]:
        """Add the records of releases; their payload lines, none where they only count in aggregates."""
        if not one.records:
            records.add(one.entries)
            return []
        lines = self._desks[one.entries.route].lines(one)
        records.add(one.entries, lines.correlations, lines.ids, one.records)
        return lines.lines

    def _kept(self, those: Entries, records: Records) -> None:
        """Add the records of what does not leave. It has the correlation ids that payloads of these pairs would carry,
        now or in a later run; none where none ever leaves."""
        desk = self._desks.get(those.route)
        records.add(those, desk.correlations(those.whats) if desk else ())

    def _consent(self, what: bytes) -> str:
        """How the audit log names a consent version."""
        return opaque(self._consents.name(what))
