"""The newcomer's walk of docs/add-a-field.md, done as it stands on a copy of the tree."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hospital_files import admission, by_identifier, ndjson, permit

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/add-a-field.md"
PARTS = ("schemas", "transforms", "pipelines", "policies", "docs", "tests")
EDITS = re.findall(r"^<!-- edit: (\S+) -->\n```diff\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def applied(path: Path, diff: str) -> str:
    """The text of a file with an edit: the lines that it shows stand there once."""
    text = path.read_text()
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    assert text.count(before) == 1, f"{path.name} is not as docs/add-a-field.md shows it; mend the page: {before}"
    return text.replace(before, after)


def said(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of the copied tree, run there."""
    known = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'tests'}"}
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=tree, env=known, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the four edits."""
    copy = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy / name)
    for path, diff in EDITS:
        (copy / path).write_text(applied(copy / path, diff))
    return copy


def test_there_are_four_small_edits() -> None:
    assert [path for path, _ in EDITS] == [
        "policies/default/fields.yaml",
        "policies/default/routes/patient-support.yaml",
        "transforms/rules/hl7_events.py",
        "tests/test_hl7_events.py",
    ]
    assert all(sum(line[0] == "+" for line in diff.splitlines()) <= 7 for _, diff in EDITS)


@pytest.mark.swaps
def test_the_walk(tree: Path, tmp_path: Path) -> None:
    """Two tests fail until the contract is published, and say so; then all is well, and the field reaches the CRM."""
    [typed] = re.findall(r"^Run `(pytest [^`]*)`", PAGE.read_text(), re.MULTILINE)
    suites = [*typed.split(), "-q", "-p", "no:cacheprovider"]
    before = said(tree, *suites)
    failed = re.findall(r"^FAILED ", before.stdout, re.MULTILINE)
    why = re.findall(r"^E +AssertionError: .* publish it: limen contracts docs/contracts$", before.stdout, re.MULTILINE)
    assert before.returncode == 1 and len(failed) == len(why) == 2, before.stdout
    published = said(tree, "pipelines.cli", "contracts", "docs/contracts")
    assert "patient-support.v4.schema.json" in published.stdout, published.stderr
    shown = ("test_the_readme_s_consent_releases_one_payload", "test_examples_have_the_real_shape")
    after = said(tree, *suites, *(f"tests/test_docs.py::{name}" for name in shown))
    assert after.returncode == 0, after.stdout

    consents = [permit(by_identifier("urn:id:GENERAL", name), name) for name in ("M1", "M2")]
    for consent in consents:
        del consent["provision"]["purpose"][1]
    ndjson(tmp_path / "in/consents.ndjson", consents)
    first, second = (admission(name, f"V{name}", "20260301080000") for name in ("M1", "M2"))
    (tmp_path / "in/visits.hl7").write_bytes(first.replace(b"PV1|1|I||", b"PV1|1|I||E") + second)
    run = ["run", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--as-of", "2026-05-01"]
    done = said(tree, "pipelines.cli", *run, "--state", str(tmp_path / "state"))
    assert done.returncode == 0, done.stderr
    lines = [line for file in (tmp_path / "out/crm").rglob("*.jsonl") for line in file.read_text().splitlines()]
    data = [json.loads(line)["data"] for line in lines]
    (promised,) = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    promise = json.loads(promised)
    assert sorted(data, key=len) == [{k: v for k, v in promise.items() if k != "admission_type"}, promise]
