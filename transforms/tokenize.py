"""Tokenize: what stands for the patient on the CRM side. The patient ends here: a Crossing has no place for one.

A record key is random and comes from the vault, one for each (patient, destination, purpose), in one batch a shard. On
a route with a record for each visit the record is an HMAC of the record key, the visit number and the milestone kind.
A token is severed when nothing of its patient is shown any more, and resolves again with the next release.
Aggregate routes get no token: a patient is counted once in a cell and forgotten.
Rule source: 45 CFR 164.514(c) (a re-identification code is not derived from the patient); DESIGN section 3, Tokens.
"""

from collections.abc import Iterable

import apache_beam as beam

from schemas.crossing import Crossing, Draft
from schemas.policy import Policy
from schemas.stores import Opens, Vault
from transforms.batch import Crossings, Drafts
from transforms.defects import without_values
from transforms.rules.records import Names, scope_of


class Tokenize(beam.PTransform):
    """(shard, drafts) → (shard, crossings). `looks_back`: a what-if changes no token."""

    def __init__(self, policy: Policy, vault: Opens[Vault], *, looks_back: bool = False) -> None:
        super().__init__()
        self._arguments = (policy, vault, looks_back)

    def expand(self, drafts: beam.PCollection[Drafts]) -> beam.PCollection[Crossings]:
        return drafts | "GetRecordKeys" >> beam.ParDo(_Tokenize(*self._arguments)).with_output_types(Crossings)


class _Tokenize(beam.DoFn):
    def __init__(self, policy: Policy, vault: Opens[Vault], looks_back: bool) -> None:
        self._policy, self._reference, self._looks_back = policy, vault, looks_back

    def setup(self) -> None:
        self._vault = self._reference.open()
        self._routes = {route.route: route for route in self._policy.routes}

    def teardown(self) -> None:
        self._vault.close()

    def process(self, batch: Drafts) -> Iterable[Crossings]:
        with without_values("tokenize"):
            crossings = self._crossings(batch.items)
        yield Crossings(batch.shard, crossings)

    def _crossings(self, drafts: list[Draft]) -> list[Crossing]:
        by_route: dict[str, list[Draft]] = {}
        for draft in drafts:
            by_route.setdefault(draft.entry.route, []).append(draft)
        crossings: list[Crossing] = []
        for name, mine in by_route.items():
            crossings += self._payloads(name, mine) if self._routes[name].delivers == "payloads" else _cells(mine)
        return crossings

    def _payloads(self, name: str, drafts: list[Draft]) -> Iterable[Crossing]:
        route = self._routes[name]
        scope = scope_of(route.destination.name, route.purpose)
        patients = sorted({draft.patient for draft in drafts})
        keys = self._vault.records(scope, patients)
        severed = sorted({draft.patient for draft in drafts if draft.entry.severs})
        if severed and not self._looks_back:
            self._vault.sever(scope, severed)
        names = {patient: Names(key) for patient, key in zip(patients, keys, strict=True)}
        subjects = {patient: its.subject for patient, its in names.items()}
        by_patient = route.record == "state"
        for draft in drafts:
            its = names[draft.patient]
            record = its.patient_record if by_patient else its.visit_record(draft.visit, draft.kind)
            yield Crossing(draft.entry, draft.made, subjects[draft.patient], record, False)


def _cells(drafts: list[Draft]) -> Iterable[Crossing]:
    """Contributions to cells: a patient counts once in a cell, however often he reached it."""
    seen: set[tuple[str, str]] = set()
    for draft in drafts:
        place = (draft.patient, draft.made.cell)
        yield Crossing(draft.entry, draft.made, "", "", place not in seen)
        seen.add(place)
