"""Tokenize: what stands for the patient on the CRM side. The patient ends here: a Crossing has no place for one.

A record key is random and comes from the vault, one for each (patient, destination, purpose), in one batch a shard. On
a route with a record for each visit the record is an HMAC of the record key, the visit number and the milestone kind.
A token is severed when nothing of its patient is shown any more, and resolves again with the next release. Aggregate
routes get no token: a patient is counted once in a cell and forgotten.
Rule source: 45 CFR 164.514(c) (a re-identification code is not derived from the patient); DESIGN section 3, Tokens.
"""

from collections import Counter
from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Crossing, Draft
from schemas.policy import Policy
from schemas.route import Route
from schemas.stores import Opens, Vault
from transforms.batch import Crossings, Drafts
from transforms.defects import without_values
from transforms.rules.records import Names, scope_of


class Tokenize(beam.PTransform):
    """(shard, drafts) → (shard, crossings), one for each. `binds`: it goes into a ledger; any other run, a what-if too,
    severs and revives no token."""

    def __init__(self, policy: Policy, vault: Opens[Vault], *, binds: bool = False) -> None:
        super().__init__()
        self._arguments = (policy, vault, binds)

    def expand(self, drafts: beam.PCollection[Drafts]) -> beam.PCollection[Crossings]:
        return drafts | "GetRecordKeys" >> beam.ParDo(_Tokenize(*self._arguments)).with_output_types(Crossings)


class _Tokenize(beam.DoFn):
    def __init__(self, policy: Policy, vault: Opens[Vault], binds: bool) -> None:
        self._policy, self._reference, self._binds = policy, vault, binds

    def setup(self) -> None:
        self._vault = self._reference.open()
        self._routes = {route.route: route for route in self._policy.routes}

    def teardown(self) -> None:
        self._vault.close()

    def process(self, batch: Drafts) -> Iterable[Crossings]:
        with without_values("tokenize"):
            crossings = [self._crossing(draft) for draft in batch.items]
        yield Crossings(batch.shard, crossings)

    def _crossing(self, draft: Draft) -> Crossing:
        route = self._routes[draft.entries.route]
        return self._payloads(draft, route) if route.delivers == "payloads" else _contributions(draft)

    def _payloads(self, draft: Draft, route: Route) -> Crossing:
        scope = scope_of(route.destination.name, route.purpose)
        patients = sorted(set(draft.patients))
        keys = self._vault.records(scope, patients, revive=self._binds and not draft.retracts)
        if draft.severed and self._binds:
            self._vault.sever(scope, sorted(draft.severed))
        names = {patient: Names(key) for patient, key in zip(patients, keys, strict=True)}
        subjects = {patient: its.subject for patient, its in names.items()}
        if route.record == "state":
            apart = route.route if route.apart else ""
            its_record = {patient: its.patient_record(apart) for patient, its in names.items()}
            records = [its_record[patient] for patient in draft.patients]
        else:
            visits = zip(draft.patients, draft.visits, draft.kinds, strict=True)
            records = [names[patient].visit_record(visit, kind) for patient, visit, kind in visits]
        whose = [subjects[patient] for patient in draft.patients]
        return Crossing(draft.entries, draft.made, whose, records, draft.seqs, draft.retracts, {})


def _contributions(draft: Draft) -> Crossing:
    """Contributions to cells: a patient counts once in a cell, however often he reached it."""
    reached = set(zip(draft.patients, [made.cell for made in draft.made], strict=True))
    return Crossing(draft.entries, draft.made, [], [], [], [], Counter([cell for _, cell in reached]))
