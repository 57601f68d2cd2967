"""What `make mutants` left alive, with the reason why each changes nothing that anybody could see.

A lane: it reads what mutmut found in the folder mutants. A mutant is known by its function and its changed line, so
that the table stays true when lines move; one that is not in the table means that a test is missing. The named cases of
tests/test_consent.py and tests/test_first_copy.py have to find each of the others by themselves: what only a random
example finds is found by luck.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif("LIMEN_MUTANTS" not in os.environ, reason="LIMEN_MUTANTS is not set: make mutants")

ROOT = Path(__file__).resolve().parent.parent
BIG = "the same bytes: big-endian is the default"
WIDER = "two contents still differ, in one more byte"
ENDLESS = "never ends: the time limit finds it"
EXPLAINED = {
    (
        "ordered",
        "return by_key if (len({fact.key for fact in by_key}) == len(by_key)) and False else sorted(by_key, key=order)",
    ): "only slower: facts of different keys are in the same order either way",
    ("content", "return fact.what + fact.rule.to_bytes(2, )"): BIG,
    ("content", 'return fact.what + fact.rule.to_bytes(3, "big")'): WIDER,
    ("content", 'return fact.time.to_bytes(9, signed=True) if isinstance(fact, Identity) else b""'): BIG,
    ("content", 'return fact.time.to_bytes(10, "big", signed=True) if isinstance(fact, Identity) else b""'): WIDER,
    (
        "content",
        'return fact.time.to_bytes(9, "big", signed=True) if isinstance(fact, Identity) else b"XXXX"',
    ): "the content of what has none is the same for all, whatever it is",
    (
        "Received._linked",
        "self.changes[place] = known if known.time < fact.time else fact",
    ): "of two that say the same either stays",
    ("newer", "return not comparable or other.version >= consent.version"): "equal versions were answered before",
    (
        "standing",
        "if len(facts) >= 1:  # of several rules of one version, one",
    ): "only slower: one fact is one",
    (
        "until_majority",
        "if one.guardian and one.says is Says.PERMIT and one.given < adult_at <= one.end",
    ): "what ends at majority anyway is put in the place of its equal",
    ("renewed", "reached = None"): "as false as False",
    ("renewed", "reached = True"): ENDLESS,
    ("renewed", "if max(other.given, other.start, _vague_until(other)) <= end <= other_end:"): ENDLESS,
    (
        "decide",
        "if permit.given > time + scope.wait or (permit.given > time and known.objected): break",
    ): "the permits are in order of when they were given: none after it was given in time either",
}


def mutmut(*arguments: str) -> str:
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def alive() -> list[tuple[tuple[str, str], str]]:
    """(function, changed line) of each mutant that no test killed, and what became of it."""
    found = []
    for name, state in re.findall(r"^\s*(\S+): (.+)$", mutmut("results"), re.MULTILINE):
        function = re.sub(r"__mutmut_\d+$", "", name.rpartition(".")[2]).removeprefix("x_").removeprefix("xǁ")
        lines = mutmut("show", name).splitlines()
        place = next(n for n, line in enumerate(lines) if re.match(r"\+(?!\+\+)", line))
        changed = lines[place][1:].strip()
        if changed == "break":  # of which there are several: known by the line before it
            changed = f"{lines[place - 2].strip()} {changed}"
        found.append(((function.replace("ǁ", "."), changed), state))
    return found


def test_every_mutant_that_is_left_is_explained() -> None:
    """And every explanation is of one that is left; a slow machine is none."""
    assert sorted(alive()) == sorted(
        (known, "timeout" if why is ENDLESS else "survived") for known, why in EXPLAINED.items()
    )


def test_the_rules_were_mutated() -> None:
    """A lane that did nothing proves nothing."""
    killed = re.findall(r"rules\.(\w+)\..*: killed$", mutmut("results", "--all", "true"), re.MULTILINE)
    assert killed.count("consent") > 300
    assert killed.count("consent_versions") > 50
    assert killed.count("first_copy") > 200
