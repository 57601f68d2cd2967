"""The law of convergence through the command: any split and any interleaving of a simulated hospital's feeds ends in
the net CRM state of a single run, which is the truth. `LIMEN_SPLITS` is how many are tried."""

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hospital_files import lines, shuffled

from pipelines import options
from pipelines.run import Done
from pipelines.run import run as do
from pipelines.score import score
from pipelines.simulated.simulate import Simulated, simulate

SPLITS = int(os.environ.get("LIMEN_SPLITS", "3"))
PATIENTS, DAYS, SEED = 120, 8, 5
Net = dict[tuple[str, str], tuple[Any, ...]]


def decided(feeds: Path, folder: Path, name: str, as_of: str) -> Done:
    """One run of a stream; all streams share keys and vault, so that their records have the same names."""
    request = options.request(
        [str(feeds)], folder / name, folder / "state", None, as_of, [], folder / f"{name}.sqlite"
    )  # fmt: skip
    return do(request)


def net(output: Path) -> Net:
    """What each CRM record shows: its last line, unless that takes it back."""
    shown: dict[tuple[str, str], tuple[int, Any]] = {}
    for line in map(json.loads, lines(output)):
        record, seq = (line["purpose"], line["record"]), line["recordseq"]
        if record not in shown or shown[record][0] < seq:
            shown[record] = (seq, None if "retracts" in line else (line["time"], json.dumps(line["data"])))
    return {record: value for record, (_, value) in shown.items() if value is not None}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Simulated]:
    """The hospital in one delivery, decided over a ledger of its own."""
    folder = tmp_path_factory.mktemp("stream")
    hospital = simulate(PATIENTS, DAYS, SEED, folder / "hospital")
    decided(hospital.feeds, folder, "once", hospital.as_of)
    return folder, hospital


def test_one_run_over_a_ledger_is_the_truth(whole: tuple[Path, Simulated]) -> None:
    folder, hospital = whole
    assert score(folder / "once", hospital.truth, folder / "state").right
    assert len(net(folder / "once")) > 100


@pytest.mark.parametrize("seed", range(SPLITS))
def test_any_split_and_interleaving_ends_the_same(whole: tuple[Path, Simulated], tmp_path: Path, seed: int) -> None:
    folder, _ = whole
    batches = Random(seed).randrange(2, DAYS + 10)
    hospital = simulate(PATIENTS, DAYS, SEED, tmp_path / "hospital", batches=batches)
    name = f"split-{seed}"
    for place, one in enumerate(json.loads((tmp_path / "hospital/batches.json").read_bytes())):
        mixed = shuffled(tmp_path / "hospital" / one["feeds"], tmp_path / "mixed" / str(place), seed)
        summary = decided(mixed, folder, name, one["as_of"]).summary
        assert summary["held_before"] + summary["pairs"] == sum(
            summary[verdict] for verdict in ("released", "suppressed", "review", "held")
        )
    assert net(folder / name) == net(folder / "once")
    not_due = json.loads(hospital.truth.read_bytes())["pairs"]["adherence"]["after_horizon"]
    assert summary["held"] == not_due > 0  # gaps that fall due later
    result = score(folder / name, hospital.truth, folder / "state")
    assert result.right and sum(route.retracted for route in result.routes.values()) > 10
