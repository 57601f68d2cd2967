"""A run that is killed, at whatever step of its commit: the next one finishes it, nothing is lost, nothing doubled."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deliveries import Place, discharge, refused, signed, stored
from hospital_files import admission, lines, payloads, records, rows, tree

from pipelines import ledger as ledgers
from pipelines import outputs
from pipelines.ledger import LedgerRef
from pipelines.outputs import STAGED
from pipelines.run import run as do
from schemas.errors import ConfigurationError
from schemas.timeline import Timeline, unpack

STEPS = (
    "before the commit", "in the commit", "after the commit", "manifest", "first file", "some files", "last file",
    "staging cleared", "marked",
)  # fmt: skip


def _crashing(place: Place, feeds: Path, step: str) -> None:
    """A process that is killed at a step of the second run's commit."""

    def dies(
        real: Callable[..., Any], at: int = 0, *, after: bool = False, when: Callable[..., bool] | None = None
    ) -> Any:
        calls = iter(range(1_000_000))

        def call(*given: Any, **named: Any) -> Any:
            if (when is None or when(*given)) and next(calls) == at:
                if after:
                    real(*given, **named)
                os._exit(9)
            return real(*given, **named)

        return call

    def publishes(source: Any, target: Any) -> bool:
        return STAGED in str(source) and STAGED not in str(target)

    store = ledgers.SqlLedger
    if step == "before the commit":
        store.commit = dies(store.commit)  # type: ignore[method-assign]
    elif step == "in the commit":
        ledgers._put = dies(ledgers._put, 1)
    elif step == "after the commit":
        store.commit = dies(store.commit, after=True)  # type: ignore[method-assign]
    elif step == "manifest":
        outputs.os.link = dies(os.link, after=True)  # type: ignore[assignment]
    elif step == "staging cleared":
        outputs.shutil.rmtree = dies(  # type: ignore[assignment]
            shutil.rmtree, after=True, when=lambda path, **_: Path(path).parent.name == STAGED
        )
    elif step == "marked":
        store.published = dies(store.published, after=True)  # type: ignore[method-assign]
    else:
        number = {"first file": 0, "some files": 2, "last file": 4}[step]
        outputs.os.replace = dies(os.replace, number, after=True, when=publishes)  # type: ignore[assignment]
    do(place.request(feeds, "2026-03-05"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A first run, kept as it was before the second; and the second, which nothing disturbed."""
    place = Place(tmp_path_factory.mktemp("clean"))
    place.run(
        "2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"), admission("4711", "V1", "20260303100000")
    )
    shutil.copytree(place.folder, place.folder.parent / f"{place.folder.name}-before")
    place.run("2026-03-05", refused(2, "2026-03-04T00:00:00Z"), b"MSH|broken", discharge("e9", "2026-03-04T23:00:00Z"))
    return place


@pytest.mark.parametrize("step", STEPS)
def test_a_killed_run_loses_nothing_and_doubles_nothing(clean: Place, tmp_path: Path, step: str) -> None:
    place = Place(tmp_path / "copy")
    shutil.copytree(clean.folder.parent / f"{clean.folder.name}-before", place.folder)
    feeds = Path(shutil.copytree(clean.folder / "feeds/2026-03-05", place.folder / "feeds/2026-03-05"))
    process = multiprocessing.get_context("spawn").Process(target=_crashing, args=(place, feeds, step))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    evidence = {one["payload"] for one in records(place.output)}
    assert {one["id"] for one in payloads(place.output)} <= evidence  # audit before effect, wherever it stopped

    happened = step not in ("before the commit", "in the commit")
    if happened and step != "marked" and not list(place.output.glob("crm/*/20260305*")):
        with pytest.raises(ConfigurationError, match="not published yet"):
            place.run("2026-03-06", output=tmp_path / "elsewhere", name="next")
    assert do(place.request(feeds, "2026-03-05")).repeated == happened
    assert sorted(lines(place.output)) == sorted(lines(clean.output))
    assert rows(place.output) == rows(clean.output)
    assert {name for name in tree(place.output) if "quarantine" not in name} == {
        name for name in tree(clean.output) if "quarantine" not in name
    }
    theirs, ours = _opened(clean), _opened(place)
    assert theirs == ours and len(ours) == 1
    assert {row[5] for row in stored(place.ledger)["runs"]} == {1}  # published


def test_a_crashed_run_is_finished_by_the_next_one_too(clean: Place, tmp_path: Path) -> None:
    """Whoever comes next with the ledger and the folder publishes what was committed."""
    place = Place(tmp_path / "copy")
    shutil.copytree(clean.folder.parent / f"{clean.folder.name}-before", place.folder)
    feeds = Path(shutil.copytree(clean.folder / "feeds/2026-03-05", place.folder / "feeds/2026-03-05"))
    process = multiprocessing.get_context("spawn").Process(target=_crashing, args=(place, feeds, "after the commit"))
    process.start()
    process.join(120)
    place.run("2026-03-06")
    assert {one["id"] for one in payloads(clean.output)} <= {one["id"] for one in payloads(place.output)}


def _opened(place: Place) -> dict[bytes, Timeline]:
    """Every timeline of the ledger; the names of patients are keyed, and the copies of a place share their keys."""
    ledger = LedgerRef(str(place.ledger), str(place.state)).open()
    names = [row[0] for row in stored(place.ledger)["timelines"]]
    return {name: unpack(blob) for name, blob in ledger.timelines(names, 0, 1, 0).items()}
