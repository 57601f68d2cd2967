"""Where messages come from: files, found and digested once, then read in pieces on a fixed grid.

    paths ── find ──▶ inputs ── spans ──▶ pieces of files ── ReadBlocks (read) ──▶ blocks of messages

A message belongs to the piece in which it starts, so that any grid gives the same messages. A piece is read with
bounded memory: its block and one message. A gzip file is one piece, because it can only be read from its beginning,
and so is an archive: its members are read one after the other, each as the file that it is.
"""

import glob
import hashlib
import os
import stat
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple, NoReturn

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

import transforms.batch  # noqa: F401  registers the coder of Block
from pipelines.formats import BOM, REACH, cut, recognise, starts
from pipelines.streams import CHUNK, LIMIT, Budget, Corrupt, Stream, members, unpacked
from schemas.errors import ConfigurationError, StoreError
from schemas.message import Block, Format, Message

_LINES = (Format.NDJSON, Format.HL7)  # the formats that can be read from the middle

ARCHIVES = (Format.TAR, Format.ZIP)
BLOCK = 2_000_000


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
    """The messages that start in bytes [start, end) of one file (in all of it, if gzipped or an archive). `part` counts
    spans."""

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
            form, gzipped, _ = _recognised(Stream(stream.read), Budget(size))
    except OSError:
        raise _unreadable(path) from None
    return Input(file, digest, size, form, gzipped, changed)


def _unreadable(path: str) -> ConfigurationError:
    problem = f"{path} or something in it cannot be read"
    return ConfigurationError("--input", problem, "grant this user the right to read it, or leave it out")


def _recognised(file: Stream, budget: Budget) -> tuple[Format, bool, Stream]:
    """The format of a file, of what is in it if it is gzipped, whether it is, and its (unpacked) bytes."""
    stream, gzipped = unpacked(file, budget)
    head, form = b"", None
    try:
        while not form and len(head) <= LIMIT:
            more = stream.read(max(CHUNK, len(head)))
            head += more
            form = recognise(head, whole=not more)
    except Corrupt:
        gzipped = gzipped and head != b""  # what only begins like gzip is taken as it is
    if not form and len(head) > LIMIT and head.lstrip().startswith((b"{", b"[")):
        form = Format.JSON  # no end of the line in sight: `read` finds it too large
    if not form or (form is Format.ZIP and gzipped):  # a zip archive is read from its end, so it cannot be in gzip
        form = Format.UNKNOWN
    return form, gzipped, Stream(stream.read, head=head)


TICK = Span("", "", Format.EMPTY, 0, 0, gzipped=False, part=-1)
"""A block without messages: every shard of a ledger is moved forward."""


def spans(inputs: Sequence[Input], block_bytes: int = BLOCK) -> list[Span]:
    """Lay the grid over the files. A file that is not made of lines, gzipped or an archive is one piece."""
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

    A message of more than `limit` bytes comes without its bytes, in a block of format TOO_LARGE. A gzip file or member
    that breaks off, or grows beyond all measure, ends with a block of format UNKNOWN: one message, of the bytes after
    the last one that is known to be complete. Raises StoreError if the file cannot be read (any more).
    """
    if span == TICK:
        yield Block(span.form, span.file, [])
        return
    try:
        with open(span.path, "rb") as file:
            budget = Budget(os.fstat(file.fileno()).st_size)
            if span.form in _LINES and span.start:
                file.seek(span.start - 1)
                yield from _messages(span, Stream(file.read), limit, chunk)
                return
            stream = Stream(file.read)
            if span.gzipped:
                stream, _ = unpacked(stream, budget)
            if span.form in ARCHIVES:
                yield from _archived(span, members(stream, file, span.form, budget), budget, limit, chunk)
            else:
                yield from _blocks(span, stream, limit, chunk)
    except OSError:
        raise StoreError("input_unreadable") from None


def _archived(span: Span, files: Iterator[Stream], budget: Budget, limit: int, chunk: int) -> Iterator[Block]:
    """Each member as the file that it is; an archive in an archive is of no known format. Without members: empty.

    Members may be small, so the messages of several come in one block.
    """
    start = held = 0
    blocks: dict[Format, list[Message]] = {}
    for file in files:
        form, _, stream = _recognised(file, budget)
        member = span._replace(form=Format.UNKNOWN if form in ARCHIVES else form, start=start, gzipped=True)
        for block in _blocks(member, stream, limit, chunk):
            blocks.setdefault(block.form, []).extend(block.messages)
            held += sum(len(message.body) for message in block.messages)
            if held >= BLOCK:
                yield from (Block(form, span.file, messages) for form, messages in blocks.items())
                blocks, held = {}, 0
        with suppress(Corrupt):
            stream.drain()
        start += stream.given + 1
    if not start:
        blocks = {Format.EMPTY: [Message(b"", 0)]}
    yield from (Block(form, span.file, messages) for form, messages in blocks.items())


def _blocks(span: Span, stream: Stream, limit: int, chunk: int) -> Iterator[Block]:
    """The blocks of a file, or of a member, that is read from its beginning."""
    if span.form in _LINES:
        return _messages(span, Stream(stream.read, head=b"\n"), limit, chunk)
    return iter([_whole(span, stream, limit)])


def _whole(span: Span, stream: Stream, limit: int) -> Block:
    """A file that is one message: a JSON document, or what is no known format."""
    form, body = span.form, b""
    try:
        body = stream.read(limit + 1)
        stream.read(1)  # only now a gzip file is known to be sound
    except Corrupt:
        form = Format.UNKNOWN
    if form is Format.JSON and len(body) > limit:
        form, body = Format.TOO_LARGE, b""
    return Block(form, span.file, [Message(body[:limit].removeprefix(BOM), span.start)])


def _messages(span: Span, stream: Stream, limit: int, chunk: int) -> Iterator[Block]:
    """Cut a stream that stands one byte before `span.start` into the span's messages."""
    form, end = span.form, sys.maxsize if span.gzipped else span.end
    base = given = span.start - 1  # the offset in the file of window[0]; up to which blocks have been given out
    window = stream.read(1)
    messages: list[Message] = []
    done = False
    while not done:
        try:
            more = stream.read(max(chunk, len(window)))
        except Corrupt:
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
