"""Onto the disk, and not only into the kernel's memory: what must be found again after a power cut.

A file's own bytes and the name under which its folder lists it are two things, and each is made durable for itself
(fsync(2)).
"""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """A file's bytes, or the names that a folder lists, are on the disk when this returns. Raises OSError."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
