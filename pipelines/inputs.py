"""The files of a run: found by the paths that were typed, digested, and recognised by their content, once."""

import glob
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

from pipelines.streams import Budget, Stream, recognised
from schemas.errors import ConfigurationError
from schemas.message import Format


class Input(NamedTuple):
    """A file as it was found. `file` is the SHA-256 (hex) of its bytes as stored, `size` their number."""

    path: str
    file: str
    size: int
    form: Format
    gzipped: bool
    changed: int = 0  # when the file last changed, in nanoseconds since 1970

    def __repr__(self) -> str:
        return "Input()"  # a file's name may be a patient's

    def unchanged(self) -> bool:
        """Is the file still as it was found, by its size and the time of its last change?"""
        try:
            now = os.stat(self.path)
        except OSError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size, self.changed)


def find(paths: Sequence[str], *, none: bool = False) -> list[Input]:
    """Find, digest and recognise the files that the paths name: files, folders (recursively), globs.

    `none`: a folder without files is no mistake (with a ledger time alone may pass). A file named twice counts once.
    Hidden files and links to folders are left out unless they are named themselves.
    Raises ConfigurationError for a path that names nothing or cannot be read. It quotes what was typed and never the
    name of a file that was found, which may be a patient's.
    """
    typed: dict[str, str] = {}
    for path in paths:
        for file in _files(path, none=none):
            typed.setdefault(file, path)
    return [_input(file, path) for file, path in typed.items()]


def _files(path: str, *, none: bool) -> list[str]:
    """The real paths of the files that one typed path names, sorted."""
    for scheme in ("pubsub://", "watch:"):
        if path.startswith(scheme):
            raise ConfigurationError("--input", f"{scheme} is not available in this version", "name files or folders")
    matches = [path] if os.path.lexists(path) else sorted(glob.glob(path, recursive=True))
    files = [file for match in matches for file in (_walk(match, path) if os.path.isdir(match) else [match])]
    if not files and os.path.isdir(path):
        if none:
            return []
        raise ConfigurationError("--input", f"the folder {path} holds no file", "put messages into it, or name another")
    if not files:
        raise ConfigurationError("--input", f"no file matches {path}", "check the path, or quote the glob")
    return [os.path.realpath(file) for file in files]


def _walk(folder: str, path: str) -> Iterator[str]:
    """The files under a folder, sorted by folder and name. What is no file (a pipe, a socket) is left out."""

    def unreadable(_: OSError) -> NoReturn:
        raise _unreadable(path) from None

    for place, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in (os.path.join(place, name) for name in sorted(names) if not name.startswith(".")):
            if os.path.isfile(file) or not os.path.exists(file):  # a broken link is not left out: it cannot be read
                yield file


def _input(file: str, path: str) -> Input:
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            raise ConfigurationError("--input", f"{path} is no file or folder", "name a file, a folder or a glob")
        with open(file, "rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            size, changed = stream.tell(), os.fstat(stream.fileno()).st_mtime_ns
            stream.seek(0)
            form, gzipped, _ = recognised(Stream(stream.read), Budget(size))
    except OSError:
        raise _unreadable(path) from None
    return Input(file, digest, size, form, gzipped, changed)


def _unreadable(path: str) -> ConfigurationError:
    problem = f"{path} or something in it cannot be read"
    return ConfigurationError("--input", problem, "grant this user the right to read it, or leave it out")
