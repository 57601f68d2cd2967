"""The output folder: staged, committed by one manifest, then published; audit before payloads.

    1. stage     everything is written below DIR/.staged/<run>
    2. commit    the signed manifest is created, only if absent: from then on the run has happened
    3. publish   audit is moved into place first, then what goes out; the staging folder disappears

A run that stopped before 2 never happened and is deleted by the next start; one that stopped after 2 is finished by it.
Readers trust nothing that the manifest does not name. A folder belongs to one run.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import ConfigurationError, LawBroken
from schemas.keyset import Keyset
from schemas.manifest import Manifest, Published, Signed

STAGED = ".staged"
_SUMMARY = f"{STAGED}-summary"
_LOCK = ".lock"
_BEFORE = (STAGED, _SUMMARY, _LOCK, "summary.json")  # what a run that stopped before its commit may leave
_ORDER = ("audit", "quarantine", "review", "aggregates", "crm")  # audit is in place before anything leaves
_CHOICES = "repeat that run with its --as-of and inputs, or name a new folder"


class Outputs:
    """One output folder, held by one process. Use `held`."""

    def __init__(self, folder: Path, run: str) -> None:
        self.folder, self.run = folder, run
        self.staging = folder / STAGED / run
        self._manifest = folder / "manifest" / f"{run}.json"

    # --- 0. whose folder is it? ---

    def claim(self, keyset: Keyset) -> Signed | None:
        """Make the folder ready for this run: None if it is to be done, its manifest if it has happened.

        Raises ConfigurationError if the folder holds another run or something else, LawBroken if what the manifest
        names is not there as it was published.
        """
        _refuse_others(self.folder, self.run)
        if not self._manifest.exists():
            shutil.rmtree(self.folder / STAGED, ignore_errors=True)  # a run that stopped before its commit
            self.staging.mkdir(parents=True)
            return None
        signed = Manifest.verified(self._manifest.read_bytes(), keyset.public_key)
        self._publish(signed)
        for one in signed.files:
            if not (self.folder / one.path).is_file() or _digest(self.folder / one.path) != one.sha256:
                raise LawBroken("a_published_file_is_missing_or_changed")
        return signed

    # --- 2. commit, 3. publish ---

    def commit(self, keyset: Keyset, inputs: list[str], facts: dict[str, Any]) -> Signed:
        """Write the public key beside the audit log, sign what was staged, and publish it."""
        key = self.staging / "audit" / f"limen-{keyset.keyid}.pem"
        key.parent.mkdir(exist_ok=True)
        key.write_bytes(keyset.public_key_pem)
        files = []
        for path in sorted(p for kind in _ORDER for p in (self.staging / kind).rglob("*") if p.is_file()):
            with path.open("rb") as file:
                digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
                os.fsync(file.fileno())
            files.append(Published(path.relative_to(self.staging).as_posix(), digest, size))
        signed = Signed(run=self.run, inputs=inputs, files=files, facts=facts)
        staged = self.staging / "manifest.json"
        staged.write_bytes(Manifest.sign(signed, keyset))
        _sync(staged)
        self._manifest.parent.mkdir(exist_ok=True)
        os.link(staged, self._manifest)  # the commit: created only if absent, whole or not at all
        _sync(self._manifest.parent)
        self._publish(signed)
        return signed

    def _publish(self, signed: Signed) -> None:
        """Move what the manifest names out of staging; again after a crash, as often as it takes."""
        if not self.staging.is_dir():
            return
        for kind in _ORDER:
            for one in signed.files:
                if one.path.startswith(f"{kind}/") and (staged := self.staging / one.path).is_file():
                    target = self.folder / one.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(staged, target)
            if (self.folder / kind).is_dir():
                _sync(self.folder / kind)
        shutil.rmtree(self.folder / STAGED)

    def summarise(self, summary: dict[str, Any]) -> None:
        """Replace summary.json, the one file that every run writes."""
        staged = self.folder / _SUMMARY
        staged.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        os.replace(staged, self.folder / "summary.json")


def signed_by(folder: Path, run: str) -> set[str]:
    """The key ids by which the manifest of a run says it is signed; none if there is no manifest."""
    manifest = folder / "manifest" / f"{run}.json"
    return Manifest.signers(manifest.read_bytes()) if manifest.is_file() else set()


@contextmanager
def held(folder: Path, run: str) -> Iterator[Outputs]:
    """The output folder, made if it is not there and locked against a second process; refused, and nothing written, if
    it belongs to another run or to something else."""
    _refuse_others(folder, run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        raise ConfigurationError(
            "--output", f"{folder} cannot be written", "name a folder that this user may write"
        ) from None
    try:
        _lock(lock)
        yield Outputs(folder, run)
    finally:
        os.close(lock)


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(
            "--output", "another run is writing there now", "wait for it, or name another folder"
        ) from None


def _refuse_others(folder: Path, run: str) -> None:
    """Raises ConfigurationError if the folder holds another run, or files that no run left there."""
    runs = sorted(path.stem for path in (folder / "manifest").glob("*.json"))
    if others := [one for one in runs if one != run]:
        as_of = _readable(others[0].split("-")[0])
        raise ConfigurationError("--output", f"the folder holds another run, of --as-of {as_of}", _CHOICES)
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if not runs and any(name not in _BEFORE and not (name == "manifest" and _empty(folder / name)) for name in names):
        raise ConfigurationError("--output", "the folder is not empty and holds no run", "name a new folder")


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _readable(stamp: str) -> str:
    """20260501T120000Z as 2026-05-01T12:00:00Z."""
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:]}"
