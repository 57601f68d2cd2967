"""The evidence says which program decided, and a rule's place is where the rule is."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hospital_files import admission, command, tree

from pipelines import program
from schemas.audit_record import RULES, TIMELINE, rule_of
from schemas.outcome import Reason, Verdict

ROOT = Path(__file__).parent.parent


@pytest.fixture
def another(tmp_path: Path) -> Path:
    """The same program with one more comment in one of its rules."""
    for name in (*program.PACKAGES, "policies"):
        shutil.copytree(ROOT / name, tmp_path / "another" / name, ignore=shutil.ignore_patterns("__pycache__"))
    rule = tmp_path / "another/transforms/rules/consent.py"
    rule.write_text(rule.read_text() + "# changed\n")
    return tmp_path / "another"


def limen(program_: Path, *arguments: str | Path) -> str:
    line = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=program_)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_says_which_source_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, another: Path
) -> None:
    mine = command(capsys, monkeypatch, "--version")
    assert (mine.code, mine.out) == (0, f"limen {program.VERSION}, source {program.source_digest()}\n")
    theirs = limen(another, "--version")
    assert theirs.startswith(f"limen {program.VERSION}, source ") and theirs != mine.out
    rule = another / "transforms/rules/consent.py"
    rule.write_text(rule.read_text().removesuffix("# changed\n"))
    assert limen(another, "--version") == mine.out  # wherever it is installed
    rule.rename(rule.with_name("consent0.py"))  # the same bytes in the same order
    assert limen(another, "--version") not in (mine.out, theirs)


@pytest.mark.swaps
def test_another_version_verifies_what_was_decided_and_publishes_nothing(tmp_path: Path, another: Path) -> None:
    (tmp_path / "feed.hl7").write_bytes(admission("4711", "V1", "20260302100000"))
    where = ("--output", tmp_path / "out", "--state", tmp_path / "state", "--as-of", "2026-05-01")
    run = ("run", "--input", tmp_path / "feed.hl7", *where, "--json")
    first = json.loads(limen(another, *run))
    [manifest] = (tmp_path / "out/manifest").glob("*")
    facts = json.loads(manifest.read_bytes())["signed"]["facts"]
    assert facts["program"] == first["program"] == f"limen {program.VERSION}"
    assert facts["program_digest"] == first["program_digest"] != program.source_digest()
    before = tree(tmp_path / "out")
    second = json.loads(limen(ROOT, *run))
    after = tree(tmp_path / "out")
    assert first | {"seconds": 0} == second | {"seconds": 0}  # which one decided, not which one looked
    assert before.pop("summary.json") and after.pop("summary.json") and before == after


def test_every_reason_is_given_where_the_audit_log_says() -> None:
    for reason in Reason:
        for file in RULES[reason].split():
            assert re.search(rf"\bReason\.{reason.name}\b", (ROOT / file).read_text()), f"{reason} is not in {file}"
    assert rule_of(Reason.DEFECT, Verdict.REJECTED) == "transforms/decode.py"
    for verdict in set(Verdict) - {Verdict.REJECTED}:
        assert rule_of(Reason.DEFECT, verdict) == TIMELINE
    assert "Reason.DEFECT" in (ROOT / TIMELINE).read_text()


def test_the_audit_log_names_every_file_that_refuses_a_message() -> None:
    raised = Counter(
        (reason, path.relative_to(ROOT).as_posix())
        for package in ("transforms", "schemas")
        for path in (ROOT / package).rglob("*.py")
        for reason in re.findall(r"raise MessageError\(Reason\.(\w+)\)", path.read_text())
    )
    assert len(raised) > 20
    raised["CONSENT_OF_NOBODY", "transforms/rules/rejection.py"] += 1  # which puts it in the place of another reason
    for reason, file in raised:
        assert file in RULES[Reason[reason]].split(), f"{reason} is raised in {file}: say so in schemas/audit_record.py"
