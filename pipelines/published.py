"""What runs have published in a folder: their manifests, verified, and the files that these name, as they were signed.

Readers trust nothing else. A folder holds one run, or the runs of one ledger.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from schemas.errors import ConfigurationError, LawBroken
from schemas.keyset import keyid_of
from schemas.manifest import Manifest, Signed


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where a line belongs."""

    record: str
    recordseq: int


@dataclass(slots=True)
class Record:
    """A CRM record: the places of all lines that were written of it, the newest of them, and whether one is of a run
    that was asked for."""

    places: list[int] = field(default_factory=list)
    newest: bytes = b""
    touched: bool = False


def public_key(folder: Path) -> bytes:
    """The key that lies beside the audit log, 32 bytes. Raises LawBroken if it is not there."""
    try:
        [pem] = (folder / "audit").glob("limen-*.pem")
        key = load_pem_public_key(pem.read_bytes())
    except (OSError, ValueError):
        raise LawBroken("public_key_missing_or_unreadable") from None
    if not isinstance(key, Ed25519PublicKey):
        raise LawBroken("public_key_missing_or_unreadable")
    return key.public_bytes_raw()


def runs(folder: Path, key: bytes | None = None) -> list[Signed]:
    """What each run's manifest says, by name. `key`: that of --state; by default `public_key`, the folder's own.

    Raises ConfigurationError if there is no run or --state is of none of them, LawBroken if a manifest is not signed by
    the key or lies under another run's name.
    """
    manifests = sorted((folder / "manifest").glob("*.json"))
    if not manifests:
        raise ConfigurationError("DIR", "no run has published there", "name the --output of a run")
    contents = [path.read_bytes() for path in manifests]
    if key is not None and not any(keyid_of(key) in Manifest.signers(content) for content in contents):
        raise ConfigurationError("--state", "the folder was written with other keys", "name the state of its runs")
    key = public_key(folder) if key is None else key
    found = [Manifest.verified(content, key) for content in contents]
    if [one.run for one in found] != [path.stem for path in manifests]:
        raise LawBroken("a_manifest_lies_under_another_name")
    return found


def files(folder: Path, published_by: Iterable[Signed], kind: str, suffix: str) -> Iterator[tuple[str, bytes]]:
    """(path below the folder, content) of the files of a kind. Raises LawBroken if one is missing or changed."""
    for one in (one for run in published_by for one in run.files):
        if one.path.startswith(f"{kind}/") and one.path.endswith(suffix):
            try:
                content = (folder / one.path).read_bytes()
            except OSError:
                raise LawBroken("a_published_file_is_missing_or_changed") from None
            if hashlib.sha256(content).hexdigest() != one.sha256:
                raise LawBroken("a_published_file_is_missing_or_changed")
            yield one.path, content


def records(folder: Path, published_by: Sequence[Signed], asked: Collection[str]) -> dict[str, dict[str, Record]]:
    """Route → key → record, of all runs; `asked` are names of runs.

    Raises LawBroken if a record's lines are not numbered from 1 without a gap: the one that is missing, in a file or in
    a manifest that is gone, may be the one that takes the record back.
    """
    place_of = msgspec.json.Decoder(_Place).decode
    found: dict[str, dict[str, Record]] = {}
    for run in published_by:
        for path, content in files(folder, [run], "crm", ".jsonl"):
            of_route = found.setdefault(path.split("/")[1], {})
            for line in content.splitlines():
                place = place_of(line)
                record = of_route.setdefault(place.record, Record())
                if place.recordseq > max(record.places, default=0):
                    record.newest = line
                record.places.append(place.recordseq)
                record.touched |= run.run in asked
    for record in (one for of_route in found.values() for one in of_route.values()):
        if sorted(record.places) != list(range(1, len(record.places) + 1)):
            raise LawBroken("lines_of_a_record_are_missing_or_doubled")
    return found
