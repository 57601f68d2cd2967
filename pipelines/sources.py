"""Messages out of the files that `inputs` found, read in pieces on a fixed grid.

    inputs ── spans ──▶ pieces of files ── ReadBlocks (read) ──▶ blocks of messages

A message belongs to the piece in which it starts, so that any grid gives the same messages. A piece is read with
bounded memory: its block and one message. A gzip file is one piece, because it can only be read from its beginning,
and so is an archive: its members are read one after the other, each as the file that it is.
"""

import os
import sys
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

import transforms.batch  # noqa: F401  registers the coder of Block
from pipelines.formats import BOM, REACH, cut, leading, starts
from pipelines.inputs import Input
from pipelines.streams import CHUNK, LIMIT, Budget, Corrupt, Stream, members, recognised, unpacked
from schemas.errors import StoreError
from schemas.message import Block, Format, Message

_LINES = (Format.NDJSON, Format.HL7)  # the formats that can be read from the middle

ARCHIVES = (Format.TAR, Format.ZIP)
BLOCK = 2_000_000


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
        form, _, stream = recognised(file, budget)
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
    leads = form is Format.HL7 and (span.gzipped or not span.start)  # before the first MSH of the file
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
        if leads:
            found.insert(0, 1)
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
        if leads and pieces and pieces[0][0] == 1:
            if body := leading(window[1 : pieces[0][1]]):
                yield Block(Format.UNKNOWN, span.file, [Message(body, base + 1)])
            del pieces[0]
        leads = leads and len(found) == 1
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
