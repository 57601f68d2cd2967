"""Which program this is, as its evidence names it: a version, and a digest of the source that was there at the start.

Two runs of one digest were decided by the same rules, whatever the version says; the policy has a digest of its own.
"""

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path

VERSION = "0.1.0"  # setup.py has the same
PACKAGES = ("pipelines", "schemas", "transforms")


@cache
def source_digest() -> str:
    """SHA-256 over the name and content of each source file of the packages, sorted by name, as 64 hexadecimal digits.
    Names and contents are preceded by their lengths, so that no two trees give the same bytes."""
    whole = hashlib.sha256()
    for package in PACKAGES:
        folder = Path(str(files(package)))
        for name, path in sorted((path.relative_to(folder.parent).as_posix(), path) for path in folder.rglob("*.py")):
            content = path.read_bytes()
            whole.update(b"%d:%b%d:%b" % (len(name), name.encode(), len(content), content))
    return whole.hexdigest()
