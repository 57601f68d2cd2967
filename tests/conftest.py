"""Fixtures that tests of many kinds share."""

import os
from pathlib import Path

import hypothesis
import pytest

from pipelines import keys
from pipelines import policy as policies
from schemas.policy import Policy

# How long an example takes says something about the machine, not about the rule.
hypothesis.settings.register_profile("limen", deadline=None)
hypothesis.settings.load_profile("limen")


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The folder of public example messages. A name that leads nowhere is an error, not a reason to skip."""
    name = os.environ.get("LIMEN_CORPUS", "")
    if not name:
        pytest.skip("LIMEN_CORPUS is not set")
    return Path(name).resolve(strict=True)


@pytest.fixture(scope="session")
def policy() -> Policy:
    """The default bundle."""
    return policies.load(policies.default())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with keys of its own."""
    keys.create(tmp_path / "state")
    return tmp_path / "state"
