"""Files, and files within files, as streams of bytes: gzip, and the members of tar and zip archives, in bounded memory.

Nothing is written to disk and no member's name is followed or told. A stream gives what could be read before a fault,
and then says that it is corrupt: damaged, cut off, encrypted, or unpacked beyond all measure.
Sources: RFC 1952 (gzip); POSIX.1-2017 pax (ustar and its extended headers); PKWARE APPNOTE 6.3.10 (zip).
"""

import gzip
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, BinaryIO, Final, cast

from pipelines.formats import recognise
from schemas.message import Format

LIMIT = 64_000_000
"""Bytes of the largest message, and of the most that is kept of a file of no known format."""

RATIO = 1000
"""What unpacks to more than this many times its file, and to more than `LIMIT`, is taken for a decompression bomb."""

MEMBERS = 100_000
"""Members of an archive that are read; more than that end it as a corrupt one."""

DIRECTORY = 16_000_000
"""Bytes of the largest list of members of a zip archive, and of the largest extended header of a tar archive."""

CHUNK: Final = 1 << 16
_MOST: Final = 1 << 20  # that is asked of a decompressor at once
_GZIP: Final = b"\x1f\x8b"
_BLOCK: Final = tarfile.BLOCKSIZE
_PAX: Final = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)  # say more of the member to come
_HEADERS: Final = (*_PAX, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_HOLD_NOTHING: Final = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE,
)  # fmt: skip
_PAX_SIZE: Final = re.compile(rb"(?:\A|\n)\d+ size=(\d{1,18})\n")


class Corrupt(Exception):
    """What is read is damaged, cut off, encrypted or a bomb."""


# What the standard library raises of bytes that are not what they should be. OSError is a fault of the disk.
_FAULTS: Final = (
    Corrupt, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, tarfile.HeaderError, struct.error, EOFError,
    NotImplementedError, OverflowError, RuntimeError, ValueError,
)  # fmt: skip


class Budget:
    """How many bytes may still be unpacked out of one file of `size` bytes, whatever lies in what."""

    def __init__(self, size: int) -> None:
        self.left = max(LIMIT, RATIO * size)

    def spend(self, count: int) -> None:
        """Raises Corrupt if it is spent."""
        self.left -= count
        if self.left < 0:
            raise Corrupt


class Stream:
    """What `source` gives, after `head`. A fault is raised as Corrupt, once all that came before it was given out."""

    def __init__(self, source: Callable[[int], bytes], budget: Budget | None = None, head: bytes = b"") -> None:
        self._source, self._budget, self._head = source, budget, head
        self.corrupt = False
        self.given = 0  # bytes so far

    def read(self, size: int, /) -> bytes:
        pieces, self._head = [self._head[:size]], self._head[size:]
        wanted = size - len(pieces[0])
        try:
            while not self.corrupt and wanted and (more := self._source(min(wanted, _MOST))):
                pieces.append(more)
                wanted -= len(more)
                if self._budget is not None:
                    self._budget.spend(len(more))
        except _FAULTS:
            self.corrupt = True
        if self.corrupt and wanted == size:
            raise Corrupt
        self.given += size - wanted
        return b"".join(pieces)

    def drain(self) -> None:
        """Read what is left. Raises Corrupt."""
        while self.read(CHUNK):
            pass


def unpacked(stream: Stream, budget: Budget) -> tuple[Stream, bool]:
    """The stream from its beginning, decompressed if it is gzipped, and whether it is."""
    try:
        head = stream.read(len(_GZIP))
    except Corrupt:
        return stream, False
    whole = Stream(stream.read, head=head)
    if head != _GZIP:
        return whole, False
    return Stream(gzip.GzipFile(fileobj=cast(BinaryIO, whole)).read1, budget), True


def recognised(file: Stream, budget: Budget) -> tuple[Format, bool, Stream]:
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
        form = Format.JSON  # no end of the line in sight: who reads it finds it too large
    if not form or (form is Format.ZIP and gzipped):  # a zip archive is read from its end, so it cannot be in gzip
        form = Format.UNKNOWN
    return form, gzipped, Stream(stream.read, head=head)


# --- Archives --------------------------------------------------------------------------------------------------------


def members(stream: Stream, file: BinaryIO, form: Format, budget: Budget) -> Iterator[Stream]:
    """The files in an archive, each to be read before the next is asked for. `stream` is the unpacked `file`.

    What of it cannot be read is a corrupt stream: a member that is damaged or encrypted, and all that follows where
    the archive is damaged or cut off. Folders, links and devices hold nothing, and hidden files are left out, as they
    are of folders.
    """
    for number, member in enumerate(_of_tar(stream) if form is Format.TAR else _of_zip(file, budget)):
        if number == MEMBERS:
            yield Stream(_refuse)
            return
        yield member


def _refuse(_: int) -> bytes:
    raise Corrupt


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _of_tar(stream: Stream) -> Iterator[Stream]:
    size: int | None = None  # of the member to come, where its own header has no room for it
    try:
        while (header := stream.read(_BLOCK)).strip(b"\0") or len(header) < _BLOCK:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            if member.type in _HEADERS:
                extended = _exactly(stream, member.size)
                found = _PAX_SIZE.search(extended) if member.type in _PAX else None
                size = int(found[1]) if found else size
                if b" GNU.sparse." in extended:
                    raise Corrupt
                continue
            part = _Part(stream, member.size if size is None else size)
            size = None
            if member.type in _HOLD_NOTHING:
                continue
            if member.type == tarfile.GNUTYPE_SPARSE:
                raise Corrupt
            contents = Stream(part.read)
            if not _hidden(member.name):
                yield contents
            if contents.corrupt:
                return
            contents.drain()
            stream.read(-part.size % _BLOCK)
        while more := stream.read(CHUNK):
            if more.strip(b"\0"):  # behind the end of the archive
                raise Corrupt
    except _FAULTS:
        yield Stream(_refuse)


def _exactly(stream: Stream, size: int) -> bytes:
    """An extended header of that size."""
    if not 0 <= size <= DIRECTORY:
        raise Corrupt
    return stream.read(size + -size % _BLOCK)[:size]


class _Part:
    """The next `size` bytes of a stream."""

    def __init__(self, stream: Stream, size: int) -> None:
        self._stream, self.size, self._left = stream, size, size

    def read(self, size: int) -> bytes:
        if self._left <= 0:
            if self._left < 0:
                raise Corrupt
            return b""
        data = self._stream.read(min(size, self._left))
        if not data:
            raise EOFError
        self._left -= len(data)
        return data


def _of_zip(file: BinaryIO, budget: Budget) -> Iterator[Stream]:
    try:
        archive = zipfile.ZipFile(cast(IO[bytes], _Bounded(file)))
    except _FAULTS:
        yield Stream(_refuse)
        return
    for member in archive.infolist():
        if member.is_dir() or stat.S_ISLNK(member.external_attr >> 16) or _hidden(member.filename):
            continue
        try:
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Corrupt
            with archive.open(member) as contents:  # raises of one that is encrypted
                yield Stream(cast(zipfile.ZipExtFile, contents).read1, budget)
        except _FAULTS:
            yield Stream(_refuse)


class _Bounded:
    """A zip file as `zipfile` reads it: no list of members without end, and no way to a place that is not in it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._end = file, file.seek(0, os.SEEK_END)
        self.tell, self.seekable = file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        size = self._end - self.tell() if size < 0 else size
        if size > DIRECTORY:
            raise Corrupt
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        place = offset + (0, self.tell(), self._end)[whence]
        if not 0 <= place <= self._end:
            raise Corrupt
        return self._file.seek(place)
