"""The state folder: made on first use by any number of runs at once, trusted only if nobody else can read it."""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pipelines import keys
from schemas.errors import ConfigurationError
from schemas.keyset import Keyset


def private(folder: Path, use: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(keys.private_key(folder / use / "private.key"))


def the_private_keys_fit(folder: Path, keyset: Keyset) -> bool:
    found = [private(folder, use).public_key().public_bytes_raw() for use in ("quarantine", "review")]
    return found == [keyset.quarantine, keyset.review]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "made" / "on first use"


def test_first_use_makes_it_and_the_second_reads_it(state: Path) -> None:
    keyset, created = keys.load_or_create(state)
    assert created
    assert keys.load_or_create(state) == (keyset, False)
    assert keys.load(state) == keys.create(state) == keyset
    assert the_private_keys_fit(state, keyset)
    assert len({keyset.master, keyset.signing, keyset.quarantine, keyset.review}) == 4
    assert b"DEVELOPMENT KEYS" in (state / "README.txt").read_bytes()
    assert b"development key" in (state / "quarantine" / "private.key").read_bytes().splitlines()[0]


def test_two_folders_share_nothing(tmp_path: Path) -> None:
    assert keys.create(tmp_path / "a").master != keys.create(tmp_path / "b").master


@pytest.mark.parametrize("made_before", [False, True])
def test_nobody_else_can_read_it(state: Path, made_before: bool) -> None:
    if made_before:
        state.mkdir(parents=True)
        state.chmod(0o755)
    mask = os.umask(0)
    try:
        keys.create(state)
    finally:
        os.umask(mask)
    for path in (state, *state.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path.name
    assert not list(state.rglob("*.part"))


def test_the_job_needs_no_private_key(state: Path) -> None:
    keyset = keys.create(state)
    for use in ("quarantine", "review"):
        (state / use).rename(state.parent / use)
    assert keys.load(state) == keyset
    assert keys.load_or_create(state) == (keyset, False)
    assert not (state / "quarantine").exists()


def test_a_reference_travels_and_opens(state: Path) -> None:
    keyset = keys.create(state)
    reference = pickle.loads(pickle.dumps(keys.KeysetRef(str(state))))
    assert reference.open() == keyset


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_keyset_open_to_others_is_refused(state: Path, mode: int) -> None:
    keys.create(state)
    (state / "keyset.json").chmod(mode)
    for use in (keys.load, keys.load_or_create, keys.create):
        with pytest.raises(ConfigurationError, match="^--state: keyset.json is open to other users; chmod 600"):
            use(state)


def damaged(state: Path) -> None:
    keys.create(state)
    (state / "keyset.json").write_bytes(b"{}")


def a_folder_for_a_keyset(state: Path) -> None:
    (state / "keyset.json").mkdir(parents=True)


def a_file_for_a_folder(state: Path) -> None:
    state.parent.mkdir()
    state.write_bytes(b"")


def keyset_lost_vault_there(state: Path) -> None:
    keys.create(state)
    (state / "keyset.json").unlink()
    (state / "vault.sqlite").write_bytes(b"")


@pytest.mark.parametrize("arrange", [damaged, a_folder_for_a_keyset, a_file_for_a_folder, keyset_lost_vault_there])
def test_a_folder_that_cannot_be_trusted_is_refused_and_left_alone(
    state: Path, arrange: Callable[[Path], None]
) -> None:
    arrange(state)
    before = {path: path.read_bytes() for path in state.parent.rglob("*") if path.is_file()}
    for use in (keys.load, keys.load_or_create):
        with pytest.raises(ConfigurationError, match="^--state: "):
            use(state)
    after = {path: path.read_bytes() for path in state.parent.rglob("*") if path.is_file()}
    assert after == before


def test_load_makes_nothing(state: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^--state: the folder holds no keyset\.json"):
        keys.load(state)
    assert not state.exists()


@pytest.mark.parametrize("step", range(4))
def test_an_interrupted_first_use_is_taken_up(state: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The power goes before the step-th file has its name: no private key that was made is lost or replaced."""
    rename, calls = os.rename, iter(range(9))

    def fails(part: Path, path: Path) -> None:
        if next(calls) == step:
            raise KeyboardInterrupt
        rename(part, path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", fails)
        with pytest.raises(KeyboardInterrupt):
            keys.create(state)
    assert not (state / "keyset.json").exists()
    before = {path: path.read_bytes() for path in state.rglob("private.key")}
    keyset, created = keys.load_or_create(state)
    assert created and the_private_keys_fit(state, keyset)
    assert before.items() <= {path: path.read_bytes() for path in state.rglob("private.key")}.items()


@pytest.mark.parametrize(
    "content, problem",
    [
        pytest.param(None, "the file cannot be read", id="missing"),
        pytest.param(b"", "the file holds no private key", id="empty"),
        pytest.param(
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "the file holds no private key",
            id="junk",
        ),
        pytest.param(
            Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "the key is not an X25519 key",
            id="a signing key",
        ),
    ],
)
def test_a_private_key_that_is_none(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "private.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)
    with pytest.raises(ConfigurationError, match=f"^--private-key: {problem}; "):
        keys.private_key(path)


def test_a_private_key_open_to_others_is_refused(state: Path) -> None:
    keys.create(state)
    path = state / "review" / "private.key"
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="^--private-key: private.key is open to other users"):
        keys.private_key(path)


# --- Many first runs at once -------------------------------------------------

ROUNDS = 25


def first_runs(folder: Path, start: Any, results: Any) -> None:
    seen = []
    for number in range(ROUNDS):
        start.wait(60)
        keyset, created = keys.load_or_create(folder / str(number))
        seen.append((keyset.to_bytes(), created))
    results.put(seen)


def test_first_runs_at_once_agree(tmp_path: Path) -> None:
    context, processes = multiprocessing.get_context("forkserver"), 4
    start, results = context.Barrier(processes), context.Queue()
    started = [context.Process(target=first_runs, args=(tmp_path, start, results)) for _ in range(processes)]
    for process in started:
        process.start()
    answers = [results.get(timeout=60) for _ in started]
    for process in started:
        process.join(60)
    for number in range(ROUNDS):
        stored, created = zip(*(answer[number] for answer in answers), strict=True)
        assert len(set(stored)) == 1 and sum(created) == 1
        assert the_private_keys_fit(tmp_path / str(number), Keyset.from_bytes(stored[0]))
