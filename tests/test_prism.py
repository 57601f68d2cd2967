"""A portable runner that is written in another language decides the same: the whole job on Beam's Prism."""

import os
from pathlib import Path

import pytest
from hospital_files import decide, lines, rows

from pipelines.simulated.simulate import simulate

pytestmark = pytest.mark.prism


@pytest.fixture
def prism() -> str:
    program = os.environ.get("LIMEN_PRISM", "")
    if not program:
        pytest.skip("LIMEN_PRISM is not set (make lane-prism)")
    return program


def test_prism_decides_the_same(prism: str, tmp_path: Path) -> None:
    hospital = simulate(60, 3, 1, tmp_path / "hospital")
    feeds, state = [hospital.feeds], tmp_path / "state"
    decide(feeds, tmp_path / "here", state, hospital.as_of)
    decide(feeds, tmp_path / "prism", state, hospital.as_of, ["--runner=PrismRunner", f"--prism_location={prism}"])
    assert sorted(lines(tmp_path / "prism")) == sorted(lines(tmp_path / "here")) != []
    assert rows(tmp_path / "prism") == rows(tmp_path / "here")
