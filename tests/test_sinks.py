"""Two zones: what is for the hospital alone cannot be written among what leaves, however the graph is wired."""

from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from hospital_files import TERMINOLOGY, admission, by_identifier, decide, lines, ndjson, permit

from pipelines import run
from pipelines.boundary import Boundary
from pipelines.simulated.feeds import coded
from pipelines.sinks import Stage
from schemas.errors import LawBroken

CHILD = {
    "resourceType": "Patient",
    "id": "p1",
    "birthDate": "2020-05-05",
    "identifier": [
        {**by_identifier("urn:id:GENERAL", "M99")["identifier"], "type": coded(f"{TERMINOLOGY}/v2-0203", "MR")}
    ],
}


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    """Something for each way out: payloads, a table of eleven patients, a minor, a message that nobody can read."""
    messages = [admission(f"M{n}", f"V{n}", "20260301100000") for n in (*range(11), 99)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.hl7").write_bytes(b"".join(messages))
    (tmp_path / "in/b.hl7").write_bytes(b"MSH|broken")
    ndjson(tmp_path / "in/c.ndjson", [permit(by_identifier("urn:id:GENERAL", "M1")), CHILD])
    return tmp_path / "in"


def test_each_effect_lies_in_its_folder(feeds: Path, tmp_path: Path) -> None:
    decide([feeds], tmp_path / "out", tmp_path / "state", "2026-05-01")
    for kind in ("crm", "aggregates", "review", "quarantine"):
        assert [path for path in (tmp_path / "out" / kind).rglob("*") if path.is_file()], kind
    assert lines(tmp_path / "out", "review") and lines(tmp_path / "out")


@pytest.mark.parametrize(
    ("one", "other"),
    [("crm", "review"), ("crm", "quarantine"), ("aggregates", "review"), ("crm", "aggregates"), ("crm", "kept")],
)
def test_a_wrongly_wired_boundary_publishes_nothing(
    feeds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    class Crossed(Boundary):
        def expand(self, blocks: Any) -> Any:
            out = super().expand(blocks)
            return out._replace(**{one: getattr(out, other), other: getattr(out, one)})

    monkeypatch.setattr(run, "Boundary", Crossed)
    with pytest.raises(LawBroken, match="a_file_of_another_sink"):
        decide([feeds], tmp_path / "out", tmp_path / "state", "2026-05-01")
    assert not [path for kind in ("crm", "aggregates", "manifest") for path in (tmp_path / "out").glob(f"{kind}/*")]


@pytest.mark.parametrize(
    ("name", "below", "taken"),
    [
        ("crm/patient-support/a.jsonl", "crm", True),
        ("review/a.jsonl", "review", True),
        ("review/a.jsonl", "crm", False),
        ("crm-review/a.jsonl", "crm", False),
        ("crm", "crm", False),
        ("crm/../review/a.jsonl", "crm", False),
        ("../crm/a.jsonl", "crm", False),
        ("/crm/a.jsonl", "crm", False),
        ("a.rows", "", True),
        ("crm/a.jsonl", "", False),
        ("/a.rows", "", False),
    ],
)
def test_a_sink_takes_what_is_its_own(tmp_path: Path, name: str, below: str, taken: bool) -> None:
    def written() -> None:
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            files = pipeline | beam.Create([(name, b"content")]).with_output_types(tuple[str, bytes])
            _ = files | "To" >> Stage(str(tmp_path / "out"), below=below)

    if taken:
        written()
        assert (tmp_path / "out" / name).read_bytes() == b"content"
        return
    with pytest.raises(LawBroken) as refused:
        written()
    assert name not in str(refused.value) and not [path for path in tmp_path.rglob("*") if path.is_file()]
