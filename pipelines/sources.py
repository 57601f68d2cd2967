"""Where messages come from: files, found and digested once, then read in pieces on a fixed grid.

    paths ── find ──▶ inputs ── spans ──▶ pieces of files ── ReadBlocks (read) ──▶ blocks of messages

A message belongs to the piece in which it starts, so that any grid gives the same messages. A piece is read with
bounded memory: its block and one message. A gzip file is one piece, because it can only be read from its beginning.
"""

import glob
import gzip
import hashlib
import os
import stat
import sys
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import BinaryIO, NamedTuple, NoReturn, Protocol

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

import transforms.batch  # noqa: F401  registers the coder of Block
from pipelines.formats import BOM, REACH, cut, recognise, starts
from schemas.errors import ConfigurationError, StoreError
from schemas.message import Block, Format, Message

LIMIT = 64_000_000
"""Bytes of the largest message, and of the most that is kept of a file of no known format."""

RATIO = 1000
"""A gzip file that grows more than this many times, and beyond `LIMIT`, is taken for a decompression bomb."""

_LINES = (Format.NDJSON, Format.HL7)  # the formats that can be read from the middle

BLOCK = 2_000_000
CHUNK = 1 << 16


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


class Span(NamedTuple):
    """The messages that start in bytes [start, end) of one file (in all of it, if gzipped). `part` counts spans."""

    path: str
    file: str
    form: Format
    start: int
    end: int
    gzipped: bool
    part: int = 0

    def __repr__(self) -> str:
        return "Span()"


# --- Finding ---------------------------------------------------------------------------------------------------------


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
    if not files and not (none and os.path.isdir(path)):
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
            form, gzipped = _recognised(stream)
    except OSError:
        raise _unreadable(path) from None
    return Input(file, digest, size, form, gzipped, changed)


def _unreadable(path: str) -> ConfigurationError:
    problem = f"{path} or something in it cannot be read"
    return ConfigurationError("--input", problem, "grant this user the right to read it, or leave it out")


def _recognised(file: BinaryIO) -> tuple[Format, bool]:
    """The format of an open file, of what is in it if it is gzipped, and whether it is."""
    file.seek(0)
    gzipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream: _Readable = _Gunzip(file) if gzipped else file
    head = b""
    try:
        while len(head) <= LIMIT:
            more = stream.read(max(CHUNK, len(head)))
            head += more
            if form := recognise(head, whole=not more):
                return form, gzipped
    except _Corrupt:
        pass
    if head.lstrip().startswith((b"{", b"[")) and len(head) > LIMIT:
        return Format.JSON, gzipped  # no end of the line in sight: `read` finds it too large
    return Format.UNKNOWN, gzipped and head != b""


TICK = Span("", "", Format.EMPTY, 0, 0, gzipped=False, part=-1)
"""A block without messages: every shard of a ledger is moved forward."""


def spans(inputs: Sequence[Input], block_bytes: int = BLOCK) -> list[Span]:
    """Lay the grid over the files. A file that is not made of lines, or gzipped, is one piece."""
    pieces = (
        (each, start, min(start + step, each.size))
        for each in inputs
        for step in [block_bytes if each.form in _LINES and not each.gzipped else max(each.size, 1)]
        for start in range(0, max(each.size, 1), step)
    )
    return [
        Span(each.path, each.file, each.form, start, end, each.gzipped, part)
        for part, (each, start, end) in enumerate(pieces)
    ]


# --- Reading ---------------------------------------------------------------------------------------------------------


def read(span: Span, limit: int = LIMIT, chunk: int = CHUNK) -> Iterator[Block]:
    """Read the messages that start in a span, in blocks of about `BLOCK` bytes.

    A message of more than `limit` bytes comes without its bytes, in a block of format TOO_LARGE. A gzip file that
    breaks off, or grows beyond all measure, ends with a block of format UNKNOWN: one message, of the bytes after the
    last one that is known to be complete. Raises StoreError if the file cannot be read (any more).
    """
    if span == TICK:
        yield Block(span.form, span.file, [])
        return
    try:
        with open(span.path, "rb") as file:
            stream: _Readable = _Gunzip(file) if span.gzipped else file
            if span.form in _LINES:
                file.seek(max(span.start - 1, 0))
                yield from _messages(span, stream, limit, chunk)
            else:
                yield _whole(span, stream, limit)
    except OSError:
        raise StoreError("input_unreadable") from None


def _whole(span: Span, stream: "_Readable", limit: int) -> Block:
    """A file that is one message: a JSON document, or what is no known format."""
    form, body = span.form, b""
    try:
        body = stream.read(limit + 1)
        stream.read(1)  # only now a gzip file is known to be sound
    except _Corrupt:
        form = Format.UNKNOWN
    if form is Format.JSON and len(body) > limit:
        form, body = Format.TOO_LARGE, b""
    return Block(form, span.file, [Message(body[:limit].removeprefix(BOM), 0)])


def _messages(span: Span, stream: "_Readable", limit: int, chunk: int) -> Iterator[Block]:
    """Cut a stream that stands one byte before `span.start` (at a file's start: on it) into the span's messages."""
    form, end = span.form, sys.maxsize if span.gzipped else span.end
    base = given = span.start - 1  # the offset in the file of window[0]; up to which blocks have been given out
    window = stream.read(1) if span.start else b"\n"
    messages: list[Message] = []
    done = False
    while not done:
        try:
            more = stream.read(max(chunk, len(window)))
        except _Corrupt:
            # A message is complete when the next begins: what is open here may have lost its end, so it is rejected.
            if messages:
                yield Block(form, span.file, messages)
            yield Block(Format.UNKNOWN, span.file, [Message(window[1:], base + 1)])
            return
        window += more
        found = starts(form, window)
        if not more:
            found.append(len(window) + 1)  # the end of the file ends the last message
        ours = bisect_left(found, end - base)
        pieces = list(pairwise(found[: ours + 1]))
        done = not more or ours < len(found)
        if len(window) > limit:
            large = [start for start, following in pieces if following - start > limit]
            pieces = [(start, following) for start, following in pieces if following - start <= limit]
            if found and not done and len(window) - found[-1] > limit + REACH:
                large.append(found[-1])
                found = []
            if large:
                yield Block(Format.TOO_LARGE, span.file, [Message(b"", base + start) for start in large])
        messages += cut(form, window, pieces, base)
        keep = found[-1] - 1 if found else max(len(window) - REACH, 0)
        done = done or (not found and base + len(window) >= end + REACH)
        base, window = base + keep, window[keep:]
        if messages and (done or base - given >= BLOCK):
            yield Block(form, span.file, messages)
            given, messages = base, []


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; fewer only at the end."""


class _Corrupt(Exception):
    """A gzip file is damaged, cut off or a bomb."""


class _Gunzip:
    """A gzip file as a stream. What could be decompressed before a fault is given out before the fault is raised."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._gzip = gzip.GzipFile(fileobj=file)
        self._size = 0
        self._corrupt = False

    def read(self, size: int) -> bytes:
        data = bytearray()
        try:
            while not self._corrupt and len(data) < size and (more := self._gzip.read1(size - len(data))):
                data += more
                self._size += len(more)
                self._corrupt = self._size > max(LIMIT, RATIO * self._file.tell())
        except (gzip.BadGzipFile, EOFError, zlib.error):
            self._corrupt = True
        if self._corrupt and not data:
            raise _Corrupt
        return bytes(data)


# --- On a stream -----------------------------------------------------------------------------------------------------


class ReadBlocks(beam.PTransform[PBegin, PCollection[Block]]):
    """Spans, spread over the workers, become blocks of messages."""

    def __init__(self, pieces: Sequence[Span]) -> None:
        super().__init__()
        self._pieces = list(pieces)

    def expand(self, begin: PBegin) -> PCollection[Block]:
        pieces = begin | "Spans" >> beam.Create(self._pieces, reshuffle=False)
        spread = pieces | "Spread" >> beam.Reshuffle()
        blocks: PCollection[Block] = spread | "Read" >> beam.ParDo(_Read()).with_output_types(Block)
        return blocks


class _Read(beam.DoFn):
    def process(self, span: Span) -> Iterator[Block]:
        yield from (block._replace(part=span.part) for block in read(span))
