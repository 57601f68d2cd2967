"""A run, or several on one ledger, against the truth of the simulated hospital: what is out, and what should be.

Only what a signed manifest names is read. The truth names patients, the payloads name records: the vault, which the
scorer may read, knows which record key stands for which patient, so the record of every true release is computed and
looked for. A payload that a retraction takes back is out no more; of the others the last one is what a record shows.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import keys, published
from pipelines import policy as policies
from pipelines.vault import SqlVault, VaultRef
from schemas.errors import ConfigurationError
from schemas.manifest import Signed
from schemas.route import Route as RoutePolicy
from transforms.rules.identity import patient_key
from transforms.rules.records import Names, scope_of

Shows = tuple[str, str, str]  # a record, the milestone that it shows (in the words of its route), its day
Json = Mapping[str, Any]


class Route(NamedTuple):
    """One route's score. Records (pairs, where aggregates are delivered): released rightly, released wrongly, missing,
    and taken back again. `withheld` pairs as the run and as the truth counts them; None where several runs settled them
    one after another."""

    right: int
    wrong: int
    missing: int
    retracted: int
    withheld: tuple[int, int] | None


class Score(NamedTuple):
    """All routes' scores; what is out wrongly and what is missing, one by one; and the counts of messages and reasons
    that differ from the truth: name → (run, truth)."""

    routes: dict[str, Route]
    wrong: list[dict[str, str]]
    missing: list[dict[str, str]]
    counts: dict[str, tuple[int, int]]

    @property
    def right(self) -> bool:
        """Nothing released wrongly, nothing missing, nothing miscounted."""
        return not self.counts and all(route.wrong == route.missing == 0 for route in self.routes.values())


def score(folder: Path, truth: Path, state: Path) -> Score:
    """Compare. Raises ConfigurationError if there is no run or no truth there, LawBroken if what was published is not
    as its manifest says."""
    said = _truth(truth)
    runs = published.runs(folder, keys.load(state).public_key)
    payloads, audited = _payloads(folder, runs), _audited(folder, runs)
    counted = _counts(runs, said)
    once = len(said["batches"]) == 1
    wrong: list[dict[str, str]] = []
    missing: list[dict[str, str]] = []
    routes = {}
    vault = VaultRef(str(state)).open()
    for policy in policies.load(policies.default()).routes:
        name = policy.route
        expected = Counter(said["pairs"].get(name, {}))
        withheld = (_withheld(audited[name]), _withheld(expected)) if once else None
        if policy.delivers == "payloads":
            out, retracted = _net(payloads[name], _words(policy))
            due = _due(vault, policy, [entry for entry in said["released"] if entry["route"] == name])
            wrong += [dict(zip(("route", "record", "kind", "day"), (name, *one), strict=True)) for one in out - {*due}]
            missing += [entry for shows, entry in due.items() if shows not in out]
            right = len(out & {*due})
            routes[name] = Route(right, len(out) - right, len(due) - right, retracted, withheld)
        elif once:
            ran, should = audited[name]["released"], expected["released"]
            routes[name] = Route(min(ran, should), max(ran - should, 0), max(should - ran, 0), 0, withheld)
        if once:
            counted |= _differing(name, audited[name], expected)
    for outcome, reasons in said["messages"].items():
        counted |= _differing(outcome, audited[outcome], Counter(reasons))
    vault.close()
    return Score(routes, sorted(wrong, key=str), sorted(missing, key=str), counted)


def _truth(path: Path) -> dict[str, Any]:
    try:
        said: dict[str, Any] = json.loads(path.read_bytes())
        if not {"released", "pairs", "messages", "counts", "batches"} <= said.keys():
            raise ValueError
    except (OSError, ValueError, AttributeError):
        raise ConfigurationError("--truth", "no truth there", "name the truth.json that limen simulate wrote") from None
    return said


# --- what was published -------------------------------------------------------------------------------------------


def _payloads(folder: Path, runs: Iterable[Signed]) -> defaultdict[str, list[Json]]:
    """All payload lines of each route, by the name that stands in their type: limen.<route>.…."""
    found: defaultdict[str, list[Json]] = defaultdict(list)
    for _, content in published.files(folder, runs, "crm", ".jsonl"):
        for line in content.splitlines():
            payload = json.loads(line)
            found[payload["type"].split(".")[1]].append(payload)
    return found


def _audited(folder: Path, runs: Iterable[Signed]) -> defaultdict[str, Counter[str]]:
    """How often each reason was recorded: of a pair by its route, of a message by its outcome. What is released counts
    as `released`; what was released and changed later is left out."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, content in published.files(folder, runs, "audit", ".parquet"):
        table = pq.read_table(pa.BufferReader(content), columns=["route", "verdict", "reason"])
        for row in table.group_by(table.column_names).aggregate([([], "count_all")]).to_pylist():
            verdict, reason = row["verdict"], row["reason"]
            if verdict not in ("retracted", "restored"):
                found[row["route"] or verdict][verdict if verdict == "released" else reason] += row["count_all"]
    return found


# --- against the truth --------------------------------------------------------------------------------------------


def _words(route: RoutePolicy) -> dict[str, Mapping[str, str]]:
    """By what fields of its payloads a route tells the kind of a milestone, and with which words."""
    return {row.to: row.values for row in route.recipe if row.field == "kind" and row.action == "enumerate"}


def _net(payloads: Iterable[Json], fields: Iterable[str]) -> tuple[set[Shows], int]:
    """What the records show in the end, and how many of them had something taken back. `fields` tell the milestone."""
    fields = tuple(fields)
    taken_back: dict[str, int] = {}
    shown: defaultdict[str, list[Json]] = defaultdict(list)
    for one in payloads:
        if "retracts" in one:
            taken_back[one["record"]] = max(one["retracts"], taken_back.get(one["record"], 0))
        else:
            shown[one["record"]].append(one)
    out = set()
    for record, written in shown.items():
        left = [one for one in written if one["recordseq"] > taken_back.get(record, 0)]
        newest = max((one["recordseq"] for one in left), default=0)
        last = [one for one in left if one["recordseq"] == newest]  # several would all be out
        out |= {(record, "+".join(one["data"].get(to, "") for to in fields), one["time"][:10]) for one in last}
    return out, len(taken_back)


def _due(vault: SqlVault, route: RoutePolicy, entries: Iterable[dict[str, str]]) -> dict[Shows, dict[str, str]]:
    """What must be out → the entry of the truth that says so."""
    scope, words = scope_of(route.destination.name, route.purpose), _words(route)
    due: dict[Shows, dict[str, str]] = {}
    for one in entries:
        key = vault.find(scope, patient_key(one["system"], one["value"]))
        its = Names(key or b"")
        by_patient = route.record == "state"
        apart = route.route if route.apart else ""
        record = its.patient_record(apart) if by_patient else its.visit_record(one["visit"], one["kind"])
        shown = "+".join(values[one["kind"]] for values in words.values())
        due[record if key else f"none {len(due)}", shown, one["day"]] = one
    return due


def _counts(runs: Iterable[Signed], said: Json) -> dict[str, tuple[int, int]]:
    """The counts of messages that differ, all runs added up."""
    total: Counter[str] = Counter()
    for run in runs:
        total.update({name: run.facts[name] for name in said["counts"]})
    return {name: (total[name], number) for name, number in said["counts"].items() if total[name] != number}


def _differing(of: str, run: Counter[str], truth: Counter[str]) -> dict[str, tuple[int, int]]:
    return {f"{of} {name}": (run[name], truth[name]) for name in sorted({*run, *truth}) if run[name] != truth[name]}


def _withheld(reasons: Counter[str]) -> int:
    return reasons.total() - reasons["released"]
