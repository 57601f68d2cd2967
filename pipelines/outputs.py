"""The output folder: staged, committed, then published; audit before payloads.

    1. stage     everything is written below DIR/.staged/<run>
    2. commit    the signed manifest is created, only if absent; with a ledger, its transaction takes the manifest in:
                 from then on the run has happened
    3. publish   the manifest, audit, then what goes out are moved into place; the staging folder disappears

A run that stopped before 2 never happened and is deleted by the next start; one that stopped after 2 is finished by it.
Readers trust nothing that a manifest does not name. A folder belongs to one run, or to the runs of one ledger.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from pipelines.durable import sync
from schemas.errors import ConfigurationError, LawBroken
from schemas.keyset import Keyset
from schemas.manifest import Manifest, Published, Signed

STAGED = ".staged"
_SUMMARY = f"{STAGED}-summary"
_LOCK = ".lock"
_BEFORE = (STAGED, _SUMMARY, _LOCK, "summary.json")  # what a run that stopped before its commit may leave
PUBLISHED = ("audit", "quarantine", "review", "aggregates", "crm")  # in this order: no effect before its record
_CHOICES = "repeat that run with its --as-of and inputs, name its --ledger, or name a new folder"
_NONE: Mapping[str, bytes] = MappingProxyType({})


class Outputs:
    """One output folder, held by one process. Use `held`. `committed`: the manifests of the ledger's runs, by run."""

    def __init__(self, folder: Path, run: str, committed: Mapping[str, bytes]) -> None:
        self.folder, self.run, self._committed = folder, run, committed
        self.staging = folder / STAGED / run

    # --- 0. whose folder is it? ---

    def claim(self, keyset: Keyset) -> Signed | None:
        """Make the folder ready for this run: None if it is to be done, its manifest if it has happened.

        Raises ConfigurationError if the folder holds another run or something else, LawBroken if what the manifest
        names is not there as it was published.
        """
        for run, content in self._happened().items():
            self._publish(run, content, Manifest.verified(content, keyset.public_key))
        shutil.rmtree(self.folder / STAGED, ignore_errors=True)  # runs that stopped before their commit
        manifest = _manifest(self.folder, self.run)
        if not manifest.exists():
            self.staging.mkdir(parents=True)
            return None
        signed = Manifest.verified(manifest.read_bytes(), keyset.public_key)
        for one in signed.files:
            if not (self.folder / one.path).is_file() or _digest(self.folder / one.path) != one.sha256:
                raise LawBroken(f"a_published_file_is_missing_or_changed: {one.path}")
        return signed

    def _happened(self) -> dict[str, bytes]:
        """The runs that were committed and whose files may still be staged here, with their manifests."""
        staged = [path.name for path in (self.folder / STAGED).glob("*") if path.is_dir()]
        found = {run: self._committed[run] for run in staged if run in self._committed}
        manifests = {run: _manifest(self.folder, run) for run in staged if run not in found}
        return found | {run: path.read_bytes() for run, path in manifests.items() if path.exists()}

    # --- 2. commit, 3. publish ---

    def commit(
        self, keyset: Keyset, inputs: list[str], facts: dict[str, Any], ledger: Callable[[bytes], None] | None = None
    ) -> Signed:
        """Write the public key beside the audit log, sign what was staged, commit and publish it.

        `ledger` takes the manifest in: its transaction is the commit. Without one the manifest's own creation is.
        """
        key = self.staging / "audit" / f"limen-{keyset.keyid}.pem"
        if not (self.folder / "audit" / key.name).exists():
            key.parent.mkdir(exist_ok=True)
            key.write_bytes(keyset.public_key_pem)
        for sealed in self.staging.glob("quarantine/*"):  # the same message again: it lies there, sealed, already
            if (self.folder / "quarantine" / sealed.name).exists():
                sealed.unlink()
        files = []
        for path in sorted(p for kind in PUBLISHED for p in (self.staging / kind).rglob("*") if p.is_file()):
            with path.open("rb") as file:
                digest, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
                os.fsync(file.fileno())
            files.append(Published(path.relative_to(self.staging).as_posix(), digest, size))
        for place in (self.folder, self.folder / STAGED, self.staging, *self.staging.rglob("*/")):
            sync(place)  # the names of the files too: what is committed must be found after a power cut
        signed = Signed(run=self.run, inputs=inputs, files=files, facts=facts)
        content = Manifest.sign(signed, keyset)
        if ledger is not None:
            ledger(content)
        self._publish(self.run, content, signed)
        return signed

    def _create_manifest(self, run: str, content: bytes) -> None:
        """Whole or not at all, and only if absent: FileExistsError."""
        manifest = _manifest(self.folder, run)
        staged = self.folder / STAGED / run / "manifest.json"
        staged.write_bytes(content)
        sync(staged)
        manifest.parent.mkdir(exist_ok=True)
        os.link(staged, manifest)
        sync(manifest.parent)
        sync(self.folder)

    def _publish(self, run: str, content: bytes, signed: Signed) -> None:
        """Move what the manifest names out of staging; again after a crash, as often as it takes."""
        staging = self.folder / STAGED / run
        if not _manifest(self.folder, run).exists():
            self._create_manifest(run, content)
        for kind in PUBLISHED:
            for one in signed.files:
                if one.path.startswith(f"{kind}/") and (staged := staging / one.path).is_file():
                    target = self.folder / one.path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(staged, target)
            for place in {(self.folder / one.path).parent for one in signed.files if one.path.startswith(f"{kind}/")}:
                sync(place)
                sync(place.parent)
        sync(self.folder)
        shutil.rmtree(staging)
        if _empty(self.folder / STAGED):
            (self.folder / STAGED).rmdir()

    def summarise(self, summary: dict[str, Any]) -> None:
        """Replace summary.json, the one file that every run writes."""
        staged = self.folder / _SUMMARY
        staged.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        os.replace(staged, self.folder / "summary.json")


def _manifest(folder: Path, run: str) -> Path:
    return folder / "manifest" / f"{run}.json"


def signed_by(folder: Path, run: str) -> set[str]:
    """The key ids by which the manifest of a run says it is signed; none if there is no manifest."""
    manifest = _manifest(folder, run)
    return Manifest.signers(manifest.read_bytes()) if manifest.is_file() else set()


def holds(folder: Path, run: str) -> bool:
    """Does the folder hold a run, or what is staged of it?"""
    return _manifest(folder, run).is_file() or (folder / STAGED / run).is_dir()


@contextmanager
def held(
    folder: Path, run: str, committed: Mapping[str, bytes] = _NONE, beside: Sequence[str] = ()
) -> Iterator[Outputs]:
    """The output folder, made if it is not there and locked against a second process; refused, and nothing written, if
    it belongs to other runs or to something else. `committed`: the manifests of the ledger's runs; `beside`: names in
    the folder that are nobody's output."""
    _refuse_others(folder, {run, *committed}, beside)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        raise _unwritable("--output", folder) from None
    with alone("--output", folder / _LOCK):
        yield Outputs(folder, run, committed)


@contextmanager
def alone(option: str, lock: Path) -> Iterator[None]:
    """Hold what an option names against a second process, by a lock file. Raises ConfigurationError."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        raise _unwritable(option, lock.parent) from None
    try:
        _lock(option, handle)
        yield
    finally:
        os.close(handle)


def _lock(option: str, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConfigurationError(option, "another run is writing there now", "wait for it, or name another") from None


def _unwritable(option: str, folder: Path) -> ConfigurationError:
    return ConfigurationError(option, f"{folder} cannot be written", "name a folder that this user may write")


def _refuse_others(folder: Path, ours: set[str], beside: Sequence[str]) -> None:
    """Raises ConfigurationError if the folder holds other runs than ours, or files that no run left there."""
    runs = sorted(path.stem for path in (folder / "manifest").glob("*.json"))
    if others := [one for one in runs if one not in ours]:
        as_of = _readable(others[-1].split("-")[0])
        raise ConfigurationError("--output", f"the folder holds another run, of --as-of {as_of}", _CHOICES)
    names = {path.name for path in folder.iterdir()} - {*_BEFORE, *beside} if folder.is_dir() else set()
    if not runs and any(not (name == "manifest" and _empty(folder / name)) for name in names):
        raise ConfigurationError("--output", "the folder is not empty and holds no run", "name a new folder")


def _empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _readable(stamp: str) -> str:
    """20260501T120000Z as 2026-05-01T12:00:00Z."""
    return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[9:11]}:{stamp[11:13]}:{stamp[13:]}"
