"""A run against the truth of the simulated hospital: which records were released, which should have been.

The truth names patients; the run names records. The vault, which the scorer may read, knows which record key stands for
which patient; from it the record of every true release is computed and looked for.
"""

import json
from pathlib import Path
from typing import NamedTuple

from pipelines import policy as policies
from pipelines.vault import VaultRef
from schemas.errors import ConfigurationError
from transforms.rules.identity import patient_key
from transforms.rules.records import Names, scope_of


class Route(NamedTuple):
    """One route's score: records released rightly, released wrongly, and missing."""

    right: int
    wrong: int
    missing: int


class Score(NamedTuple):
    """All routes' scores, and the counts of messages that differ from the truth: name → (run, truth)."""

    routes: dict[str, Route]
    counts: dict[str, tuple[int, int]]

    @property
    def right(self) -> bool:
        """Nothing released wrongly, nothing missing, nothing miscounted."""
        return not self.counts and all(route.wrong == route.missing == 0 for route in self.routes.values())


def score(folder: Path, truth: Path, state: Path) -> Score:
    """Compare. Raises ConfigurationError if there is no run or no truth there."""
    try:
        said = json.loads(truth.read_bytes())
        summary = json.loads((folder / "summary.json").read_bytes())
    except (OSError, ValueError):
        raise ConfigurationError("--truth", "no truth or no summary.json there", "name the files of one demo") from None
    vault = VaultRef(str(state)).open()
    routes = {}
    for route in policies.load(policies.default()).routes:
        if route.delivers != "payloads":
            continue
        scope = scope_of(route.destination.name, route.purpose)
        expected: set[tuple[str, str, str]] = set()
        for one in (entry for entry in said["released"] if entry["route"] == route.route):
            key = vault.find(scope, patient_key(one["system"], one["value"]))
            its = Names(key or b"")
            record = its.patient_record if route.record == "state" else its.visit_record(one["visit"], one["kind"])
            expected.add((record if key else f"none {len(expected)}", one["kind"], one["day"]))
        found = set()
        for file in (folder / "crm" / route.route).glob("*.jsonl"):
            for line in file.read_bytes().splitlines():
                payload = json.loads(line)
                found.add((payload["record"], payload["data"]["milestone"], payload["time"][:10]))
        routes[route.route] = Route(len(found & expected), len(found - expected), len(expected - found))
    counts = {n: (summary[n], said["counts"][n]) for n in said["counts"] if summary.get(n) != said["counts"][n]}
    return Score(routes, counts)
