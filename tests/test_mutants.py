"""What `make mutants` left alive, with the reason why each changes nothing that anybody could see.

A lane: it reads what mutmut found in the folder mutants. A mutant is known by its function and its changed line, so that
the table stays true when lines move; one that is not in the table means that a test is missing.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif("LIMEN_MUTANTS" not in os.environ, reason="LIMEN_MUTANTS is not set: make mutants")

ROOT = Path(__file__).resolve().parent.parent
SETTLED = {"killed", "caught by type check", "timeout"}
EXPLAINED: dict[tuple[str, str], str] = {}


def mutmut(*arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def survivors() -> dict[tuple[str, str], str]:
    """(function, changed line) of each mutant that no test killed, and what became of it."""
    found = {}
    for name, state in re.findall(r"^\s*(\S+): (.+)$", mutmut("results"), re.MULTILINE):
        if state not in SETTLED:
            function = re.sub(r"__mutmut_\d+$", "", name.rpartition(".")[2]).removeprefix("x_").removeprefix("xǁ")
            changed = [line[1:].strip() for line in mutmut("show", name).splitlines() if re.match(r"\+(?!\+\+)", line)]
            found[function.replace("ǁ", "."), " ".join(changed)] = state
    return found


def test_every_survivor_is_explained() -> None:
    assert survivors().keys() <= EXPLAINED.keys()


def test_the_rules_were_mutated() -> None:
    """A lane that did nothing proves nothing."""
    assert len(re.findall(r": killed$", mutmut("results", "--all", "true"), re.MULTILINE)) > 400
