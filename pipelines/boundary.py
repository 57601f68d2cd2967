"""The boundary, drawn and built in the same order.

    blocks ─ Decode ─ Timeline ⇄ ledger
                         ├─ allowed ──── Deidentify ─ Tokenize ─ Audit ─▶ crm · cells ─ Aggregate ─▶ aggregates
                         ├─ suppressed ───────────────────────── Audit
                         ├─ review ───────────────────────────── Audit ─▶ review
                         └─ set aside ────────────────────────── Audit ─▶ quarantine

Each way out passes its own Audit: nothing comes out before its record is durable. `allowed` is all that writes a CRM
record: released, restored, retracted; `suppressed` includes what is held. The timeline reads the ledger, and what it
keeps is taken in when the run commits. Only crm and aggregates are for the other side; all else stays in the hospital.
"""

from typing import NamedTuple

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from schemas.keyset import Keyset
from schemas.policy import Policy
from schemas.stores import AuditLog, Ledger, Opens, Vault
from schemas.timeline import Moment
from transforms.aggregate import Aggregate
from transforms.audit import Audit
from transforms.decode import Decode
from transforms.deidentify import Deidentify
from transforms.timeline import Timeline
from transforms.tokenize import Tokenize

File = tuple[str, bytes]  # (path below the output folder, content)


class Boundary(beam.PTransform):
    """Blocks of messages in; files for each sink out. Stores are passed in by reference; no IO and no flags here."""

    class Out(NamedTuple):
        """What leaves the boundary, each as (file, content); `kept` is for the ledger, `counts` for the laws."""

        crm: beam.PCollection[File]
        aggregates: beam.PCollection[File]
        review: beam.PCollection[File]
        quarantine: beam.PCollection[File]
        kept: beam.PCollection[File]
        counts: tuple[beam.PCollection[File], ...]

    def __init__(
        self,
        policy: Policy,
        moment: Moment,
        run: str,
        shards: int,
        *,
        keys: Opens[Keyset],
        vault: Opens[Vault],
        log: Opens[AuditLog],
        ledger: Opens[Ledger] | None = None,
    ) -> None:
        super().__init__()
        self._policy, self._moment, self._run, self._shards = policy, moment, run, shards
        self._keys, self._vault, self._log, self._ledger = keys, vault, log, ledger

    @no_annotations
    def expand(self, blocks):
        decoded = blocks | "Decode" >> Decode(self._policy, self._keys, self._shards)
        decided = decoded.facts | "Timeline" >> Timeline(self._policy, self._moment, self._shards, self._ledger)

        drafts = decided.allowed | "Deidentify" >> Deidentify(self._policy, self._moment.horizon)
        crossings = drafts | "Tokenize" >> Tokenize(self._policy, self._vault, binds=self._moment.binds)
        allowed = crossings | "AuditAllowed" >> self._audit("allowed")
        aggregated = allowed.cells | "Aggregate" >> Aggregate(self._policy, self._moment.horizon, self._run)

        suppressed = decided.suppressed | "AuditSuppressed" >> self._audit("suppressed")
        review = decided.review | "AuditReview" >> self._audit("review")
        aside = decided.set_aside | "AuditSetAside" >> self._audit("set_aside")

        counts = (
            decoded.counts, decided.counts, aggregated.counts,
            allowed.counts, suppressed.counts, review.counts, aside.counts,
        )  # fmt: skip
        return Boundary.Out(
            crm=allowed.effects,
            aggregates=aggregated.tables,
            review=review.effects,
            quarantine=aside.effects,
            kept=decided.kept,
            counts=counts,
        )

    def _audit(self, branch: str) -> Audit:
        return Audit(branch, self._policy, self._moment, self._run, self._keys, self._log)
