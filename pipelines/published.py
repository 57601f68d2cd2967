"""What runs have published in a folder: their manifests, verified, and the files that these name, as they were signed.

Readers trust nothing else. A folder holds one run, or the runs of one ledger.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Manifest, Signed


def runs(folder: Path, key: bytes) -> list[Signed]:
    """What each run's manifest says, by name. Raises ConfigurationError if there is none, LawBroken if one is not
    signed by the key or lies under another run's name."""
    manifests = sorted((folder / "manifest").glob("*.json"))
    if not manifests:
        raise ConfigurationError("DIR", "no run has published there", "name the --output of a run")
    found = [Manifest.verified(path.read_bytes(), key) for path in manifests]
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
