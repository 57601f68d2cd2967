"""The audit page: its queries answer, and its way to check a run by hand notices every change."""

import hashlib
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from hospital_files import of_every_kind, payloads, records
from pages import ROOT, blocks

from schemas import audit_record


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("audited"))


QUERIES = [block.text for block in blocks(ROOT / "docs/audit.md") if block.language == "sql"]


def in_duckdb(query: str, out: Path) -> list[tuple[Any, ...]]:
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    rows: list[tuple[Any, ...]] = duckdb.sql(query.replace("out/audit", f"{out}/audit")).fetchall()
    return rows


def in_sqlite(query: str, out: Path) -> list[tuple[Any, ...]]:
    """The same question to the same rows, in the SQL engine that Python brings along."""
    columns = audit_record.SCHEMA.names
    rows = [[value if isinstance(value, str | int) else str(value) for value in row.values()] for row in records(out)]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE audit ({', '.join(columns)})")
        database.executemany(f"INSERT INTO audit VALUES ({', '.join('?' * len(columns))})", rows)
        return database.execute(query.replace("read_parquet('out/audit/*.parquet')", "audit")).fetchall()


@pytest.mark.parametrize("engine", [in_sqlite, in_duckdb])
def test_the_queries_answer(out: Path, engine: Callable[[str, Path], list[tuple[Any, ...]]]) -> None:
    payload = next(one for one in payloads(out) if one["type"] == "limen.hcp-notification.v1")
    asked = [query.replace("the correlation id", payload["correlationid"]) for query in QUERIES]
    everything, one, routes, left, twice = (engine(query, out) for query in asked)
    assert sum(row[2] for row in everything) == len(records(out))
    assert [(row[1], row[3]) for row in one] == [("permitted", payload["recipe"])]
    assert {row[0] for row in routes} - {""} == {"closed-loop", "hcp-notification", "operations", "patient-support"}
    assert sum(row[5] for row in left) == len(payloads(out))
    assert twice == []


@pytest.fixture
def copied(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the outputs as `out` in the working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(out, tmp_path / "out"))


def check_by_hand() -> None:
    [text] = [block.text for block in blocks(ROOT / "docs/audit.md") if block.language == "python"]
    exec(compile(text, "docs/audit.md", "exec"), {})  # noqa: S102  our own page


def test_the_manifest_is_checked_by_hand(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [manifest] = copied.glob("manifest/*.json")
    check_by_hand()
    assert capsys.readouterr().out.startswith(f"signed and whole: {manifest.stem} ")


def test_checked_by_hand_a_change_is_noticed(copied: Path) -> None:
    file = next(copied.glob("crm/*/*.jsonl"))
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(AssertionError):
        check_by_hand()
    manifest = next(copied.glob("manifest/*.json"))
    said = json.loads(manifest.read_bytes())
    published = next(one for one in said["signed"]["files"] if one["path"] == file.relative_to(copied).as_posix())
    published["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()  # whoever changed the file changes this too
    manifest.write_text(json.dumps(said))
    with pytest.raises(InvalidSignature):
        check_by_hand()


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_signature_is_checked_with_openssl(copied: Path, spoilt: bool) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("OpenSSL's command is not installed")
    if spoilt:
        manifest = next(copied.glob("manifest/*.json"))
        manifest.write_bytes(manifest.read_bytes().replace(b'"released": ', b'"released": 1', 1))
    [text] = [block.text for block in blocks(ROOT / "docs/audit.md") if block.language == "bash"]
    done = subprocess.run(["bash", "-ec", text], capture_output=True, text=True, check=False)
    assert ("Signature Verified Successfully" in done.stdout, done.returncode == 0) == (not spoilt, not spoilt), done
