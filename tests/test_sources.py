"""Files become messages: recognised by content, cut at their own borders, the same on any grid."""

import gzip
import hashlib
import json
import os
import re
import tempfile
import tracemalloc
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines import streams
from pipelines.formats import BOM, recognise
from pipelines.inputs import Input, find
from pipelines.sources import ReadBlocks, Span, read, spans
from schemas.errors import ConfigurationError, StoreError
from schemas.message import Format, Message

ADT = b"MSH|^~\\&|A|B|||20240101||ADT^A01|1|P|2.5\rPID|1||7^^^MR"
LINE = b'{"id":"1"}'


def _file(folder: Path, data: bytes, name: str = "in") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _read(path: Path, block_bytes: int = 2_000_000) -> list[tuple[Format, bytes, int]]:
    blocks = [block for span in spans(find([str(path)]), block_bytes) for block in read(span)]
    return [(block.form, message.body, message.position) for block in blocks for message in block.messages]


# --- Recognition -----------------------------------------------------------------------------------------------------

WHOLE = {
    "nothing": (b"", Format.EMPTY),
    "white space": (b" \r\n\t\n", Format.EMPTY),
    "a byte order mark alone": (BOM + b"\n", Format.EMPTY),
    "a message": (ADT, Format.HL7),
    "a message after a byte order mark": (BOM + ADT, Format.HL7),
    "a message after blank lines": (b"\r\n\r\n" + ADT, Format.HL7),
    "a message after junk": (b"transfer log\n{no json\n"[:13] + ADT, Format.HL7),
    "an MLLP frame": (b"\x0b" + ADT + b"\x1c\r", Format.HL7),
    "a batch": (b"FHS|^~\\&\rBHS|^~\\&\r" + ADT, Format.HL7),
    "a batch without messages": (b"BHS|^~\\&|A\rBTS|0\r", Format.HL7),
    "a batch that holds blank lines": (b"\x0bFHS|^~\\&\r\n\r\nBHS|^~\\&|A\r\nBTS|0\r\nFTS|1\r\n\x1c\r\n", Format.HL7),
    "a batch whose message lost its MSH": (b"BHS|^~\\&|A\rNSH|^~\\&|B\rPID|1||7\rBTS|1\r", Format.UNKNOWN),
    "a batch that breaks off in its MSH": (b"FHS|^~\\&\rBHS|^~\\&\rMS", Format.UNKNOWN),
    "another field separator": (b"MSH$^~\\&$A", Format.HL7),
    "a word that begins with MSH": (b"MSHA|x\n", Format.UNKNOWN),
    "MSH within a line": (b"see MSH|^~\\&|\n", Format.UNKNOWN),
    "MSH on a later line of lines of JSON": (LINE + b"\nMSH|^~\\&|\n" + LINE, Format.NDJSON),
    "one object on one line": (LINE, Format.NDJSON),
    "one object on one line after a byte order mark": (BOM + LINE + b"\n", Format.NDJSON),
    "lines of objects": (LINE + b"\r\n" + LINE + b"\r\n", Format.NDJSON),
    "a broken first line": (b'{"id":\n' + LINE + b"\n" + LINE, Format.NDJSON),
    "a broken array as first line": (b'["id"\n' + LINE + b"\n" + LINE, Format.NDJSON),
    "a broken last line": (LINE + b'\n{"id":', Format.NDJSON),
    "a stray bracket as second line": (LINE + b"\n}\n", Format.NDJSON),
    "junk before lines of objects": (b"# export\n" + LINE + b"\n", Format.NDJSON),
    "lines that look like objects and are none": (b"{a}\n{b}\n", Format.JSON),
    "a document over several lines": (b'{\n  "id": "1"\n}\n', Format.JSON),
    "a document that is indented": (b'  {\n  "id": "1"\n}\n', Format.JSON),
    "a document without indentation": (b'{\n"entry":[\n{"id":1},\n{"id":2}\n]\n}\n', Format.JSON),
    "an array on one line": (b'[{"id":1}]', Format.JSON),
    "an array of objects, one a line": (b'[\n{"id":1},\n{"id":2}\n]\n', Format.JSON),
    "an array with leading commas": (b'[\n{"id":1}\n,{"id":2}\n]\n', Format.JSON),
    "a deep document": (b"[" * 100_000, Format.JSON),
    "a deep line": (b'{"a":' + b"[" * 100_000 + b"}\n" + LINE, Format.NDJSON),
    "text": (b"Dear colleague,\nplease find\n", Format.UNKNOWN),
    "text with a bracket on a later line": (b"notes\n[1] see there\n", Format.UNKNOWN),
    "XML": (b'<?xml version="1.0"?><Bundle/>', Format.UNKNOWN),
    "UTF-16": (ADT.decode().encode("utf-16"), Format.UNKNOWN),
    "a fragment": (b"PID|1||7\rPV1|1\r", Format.UNKNOWN),
}


@pytest.mark.parametrize("head, form", WHOLE.values(), ids=WHOLE)
def test_formats_are_recognised_by_content(head: bytes, form: Format) -> None:
    assert recognise(head, whole=True) is form


PARTS = {
    "blanks so far": (b"\n" * 100, None),
    "a line of JSON that is not yet complete": (b'{"id":"' + b"x" * 100, None),
    "text without an end of line": (b"x" * 100, None),
    "a broken line before one that is not yet complete": (b'{"id"\n{"id":"' + b"x" * 100, None),
    "a complete line before one that is not": (LINE + b'\n{"id":"', Format.NDJSON),
    "the beginning of a document": (b'{\n  "id": "1",\n  "te', Format.JSON),
    "the beginning of a message": (ADT[:20], Format.HL7),
    "the beginning of a batch": (b"BHS|^~\\&|A\rMS", None),
    "the beginning of a batch and of its first message": (b"BHS|^~\\&|A\rMSH|", Format.HL7),
    "lines of text": (b"x\ny\nz", Format.UNKNOWN),
}


@pytest.mark.parametrize("head, form", PARTS.values(), ids=PARTS)
def test_a_part_of_a_file_is_recognised_or_more_is_asked_for(head: bytes, form: Format | None) -> None:
    assert recognise(head, whole=False) is form


# --- Cutting ---------------------------------------------------------------------------------------------------------

CUT = {
    "lines": (LINE + b"\n\n  \r\n" + b'{"id":2}\r\n', [(LINE, 0), (b'{"id":2}', 16)]),
    "a last line without its end": (LINE + b"\n" + b'{"id":', [(LINE, 0), (b'{"id":', 11)]),
    "a byte order mark before lines": (BOM + LINE + b"\n" + LINE, [(LINE, 0), (LINE, 14)]),
    "segments that end in CR": (ADT + b"\rPV1|\r" + ADT + b"\r", [(ADT + b"\rPV1|", 0), (ADT, len(ADT) + 6)]),
    "segments that end in LF": (b"MSH|1\nPID|\nMSH|2\n", [(b"MSH|1\nPID|", 0), (b"MSH|2", 11)]),
    "segments that end in CRLF": (b"MSH|1\r\nPID|\r\nMSH|2\r\n\r\n", [(b"MSH|1\r\nPID|", 0), (b"MSH|2", 13)]),
    "junk before the first message": (b"log 1\nlog 2\nMSH|1", [(b"MSH|1", 12)]),
    "MLLP frames": (b"\x0bMSH|1\rPID|\r\x1c\r\x0bMSH|2\r\x1c\r", [(b"MSH|1\rPID|", 1), (b"MSH|2", 15)]),
    "MLLP frames without an end of line": (b"\x0bMSH|1\x1c\x0bMSH|2\x1c", [(b"MSH|1", 1), (b"MSH|2", 8)]),
    "messages that a form feed divides": (b"MSH|1\x0cMSH|2", [(b"MSH|1", 0), (b"MSH|2", 6)]),
    "what stands behind a block": (
        b"\x0bMSH|1\rPID|\x1c\rPID|2\rx\r\x0bMSH|2\r\x1c\r{}\n",
        [(b"MSH|1\rPID|", 1), (b"PID|2\rx", 13), (b"MSH|2", 22), (b"{}", 30)],
    ),
    "a block that is no message": (b"\x0bMSH|1\x1c\r\x0bACK|\x1c\r", [(b"MSH|1", 1), (b"ACK|", 9)]),
    "a batch whose blocks are framed": (
        b"FHS|^\rBHS|^\r\x0bMSH|1\r\x1c\rBTS|1\rFTS|1\r",
        [(b"MSH|1", 13)],
    ),
    "messages that only 0x1C divides": (b"MSH|1\x1cMSH|2", [(b"MSH|1", 0), (b"MSH|2", 6)]),
    "files with byte order marks, put together": (BOM + b"MSH|1\r" + BOM + b"MSH|2\r", [(b"MSH|1", 0), (b"MSH|2", 9)]),
    "a batch": (
        b"FHS|^\rBHS|^\rMSH|1\rPID|\rBTS|1\rBHS|^\rMSH|2\rBTS|1\rFTS|1\r",
        [(b"MSH|1\rPID|", 12), (b"MSH|2", 35)],
    ),
    "a batch whose trailers say nothing": (b"MSH|1\rBTS\rFTS\r", [(b"MSH|1", 0)]),
    "a segment that only sounds like a trailer": (b"MSH|1\rNTE|\rBTS code\r", [(b"MSH|1\rNTE|\rBTS code", 0)]),
    "a batch without messages": (b"FHS|^\rBHS|^\rBTS|0\rFTS|0\r", []),
    "a note that begins with MSH": (
        b"MSH|1\rNTE|\nMSH level: normal\rDG1|",
        [(b"MSH|1\rNTE|\nMSH level: normal\rDG1|", 0)],
    ),
    "a note that only seems to declare delimiters": (
        b"MSH|1\nMSH: normal\nMSH:-- :\nMSH--",
        [(b"MSH|1\nMSH: normal\nMSH:-- :\nMSH--", 0)],
    ),
    "messages of other delimiters": (b"MSH$^~$1\rMSH#^~\\&@#2\r", [(b"MSH$^~$1", 0), (b"MSH#^~\\&@#2", 9)]),
    "0x1C in a note": (b"MSH|1\rNTE|a\x1cb\rDG1|\x1c\r\x0bMSH|2", [(b"MSH|1\rNTE|a\x1cb\rDG1|", 0), (b"MSH|2", 21)]),
    "0x1C twice": (b"MSH|1\x1c\x1c\r\x0bACK|\x1c\r", [(b"MSH|1", 0), (b"ACK|", 9)]),
    "MSH within a segment": (b"MSH|1\rNTE|MSH|x\rMSHX|\r", [(b"MSH|1\rNTE|MSH|x\rMSHX|", 0)]),
}


@pytest.mark.parametrize("data, messages", CUT.values(), ids=CUT)
def test_messages_are_cut_at_their_own_borders(tmp_path: Path, data: bytes, messages: list[tuple[bytes, int]]) -> None:
    assert [(body, position) for _, body, position in _read(_file(tmp_path, data))] == messages


@pytest.mark.parametrize(
    "data, form",
    [
        (b'{\n"resourceType": "Bundle"\n}\n', Format.JSON),
        (b'[{"id":1},{"id":2}]', Format.JSON),
        (b"Dear colleague,\n", Format.UNKNOWN),
        (b"", Format.EMPTY),
    ],
    ids=["document", "array", "text", "empty"],
)
def test_what_is_not_made_of_lines_is_one_message(tmp_path: Path, data: bytes, form: Format) -> None:
    assert _read(_file(tmp_path, data), block_bytes=5) == [(form, data, 0)]
    if form is Format.JSON:
        assert _read(_file(tmp_path, BOM + data), block_bytes=5) == [(form, data, 0)]


NDJSON_TOKENS = [LINE, b"\n", b"\r\n", b"\n\n", b" ", b"{", "é€𝛼".encode(), BOM, b"MSH|"]
HL7_TOKENS = [
    b"MSH|",
    b"MSH",
    b"MSH$^~$",
    b"\x1c",
    b"\r",
    b"\n",
    b"\r\n",
    b"\x0b",
    b"\x1c\r",
    BOM,
    b"PID|1||7",
    b"BTS|1",
    b"FHS|^",
    b"\xbf",
]
FILES = st.one_of(
    st.tuples(st.just(Format.NDJSON), st.lists(st.sampled_from(NDJSON_TOKENS), max_size=25).map(b"".join)),
    st.tuples(st.just(Format.HL7), st.lists(st.sampled_from(HL7_TOKENS), max_size=25).map(b"".join)),
)


def _positions(form: Format, data: bytes) -> list[int]:
    """Where messages start, found in another way: over the whole file, line by line."""
    if form is Format.HL7:
        return [m.start(1) for m in re.finditer(rb"(?:\A|[\r\n\x0b\x1c])((?:\xef\xbb\xbf)?MSH)(?:\||\$\^~\$)", data)]
    lines = re.finditer(rb"[^\n]+", data)
    return [line.start() for line in lines if line.group().removeprefix(BOM).strip()]


@given(FILES, st.integers(1, 50), st.integers(1, 9), st.integers(4, 60))
@example((Format.HL7, b"MSH|1\r" + BOM + b"MSH|2\r\n" * 3), 1, 1, 50)
@example((Format.NDJSON, (LINE + b"\r\n") * 5), 12, 3, 50)
@example((Format.HL7, b"MSH|\x1c\r" + BOM), 1, 1, 4)
@example((Format.HL7, BOM + b"MSH|\x1c\rMSH"), 1, 1, 4)
@example((Format.HL7, b"MSH|" + (b"\x1c\r" + BOM) * 2), 1, 1, 4)
def test_any_grid_gives_the_same_messages(file: tuple[Format, bytes], step: int, chunk: int, limit: int) -> None:
    form, data = file
    with tempfile.TemporaryDirectory() as folder:
        path = str(_file(Path(folder), data))
        zipped = str(_file(Path(folder), gzip.compress(data), "gz"))
        grid = spans([Input(path, "", len(data), form, False)], step)
        whole = Span(path, "", form, 0, len(data), False)
        gz = Span(zipped, "", form, 0, 1, True)

        def messages(pieces: list[Span], limit: int, chunk: int) -> list[tuple[int, Format, bytes]]:
            blocks = [block for span in pieces for block in read(span, limit, chunk)]
            return sorted((m.position, block.form, m.body) for block in blocks for m in block.messages)

        once = messages([whole], 1000, 1000)
        starts = _positions(form, data)
        behind = [position for position, _, _ in once if position not in starts]
        assert all(form is Format.HL7 and b"\x1c" in data[:position] for position in behind if position)
        assert all(found is Format.UNKNOWN for position, found, _ in once if position in behind and not position)
        assert [position for position, _, _ in once if position not in behind] == starts
        assert all(data[at:].removeprefix(BOM).lstrip().startswith(body) for at, found, body in once if found is form)
        assert all(body in data for at, _, body in once)
        assert messages(grid, 1000, chunk) == messages([gz], 1000, chunk) == once

        limited = messages([whole], limit, 1000)
        assert len(limited) >= len(starts)  # a line of blanks that is too long is not looked into
        assert messages(grid, limit, chunk) == messages([gz], limit, chunk) == limited


@pytest.mark.parametrize("chunk", range(1, 12))
@pytest.mark.parametrize("junk", range(20))
def test_a_border_is_found_wherever_a_read_ends_within_it(tmp_path: Path, junk: int, chunk: int) -> None:
    path = _file(tmp_path, b"x" * junk + b"\r" + BOM + b"MSH|1")
    span = Span(str(path), "", Format.HL7, 0, junk + 9, False)
    assert [block.messages for block in read(span, chunk=chunk)] == [[Message(b"MSH|1", junk + 1)]]


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_a_message_over_the_limit_comes_without_its_bytes_and_the_others_come(tmp_path: Path) -> None:
    long = b'{"id":"' + b"x" * 300 + b'"}'
    path = _file(tmp_path, b"\n".join([LINE, long, LINE]))
    blocks = [block for span in spans(find([str(path)]), 50) for block in read(span, limit=200, chunk=16)]
    assert sorted((block.messages, block.form) for block in blocks) == [
        ([Message(b"", 11)], Format.TOO_LARGE),
        ([Message(LINE, 0)], Format.NDJSON),
        ([Message(LINE, 11 + len(long) + 1)], Format.NDJSON),
    ]


def test_a_document_over_the_limit_comes_without_its_bytes(tmp_path: Path) -> None:
    path = _file(tmp_path, b'{\n"id":1}')
    [span] = spans(find([str(path)]))
    assert [block.form for block in read(span, limit=9)] == [Format.JSON]
    [block] = read(span, limit=8)
    assert (block.form, block.messages) == (Format.TOO_LARGE, [Message(b"", 0)])


def test_of_an_unknown_file_only_the_first_bytes_are_kept(tmp_path: Path) -> None:
    [span] = spans(find([str(_file(tmp_path, b"0123456789\n"))]))
    assert [block.messages for block in read(span, limit=4)] == [[Message(b"0123", 0)]]


def test_lines_of_ten_megabytes_are_read(tmp_path: Path) -> None:
    line = b'{"id":"' + b"x" * 10_000_000 + b'"}'
    found = _read(_file(tmp_path, line + b"\n" + line))
    assert [(form, len(body), position) for form, body, position in found] == [
        (Format.NDJSON, len(line), 0),
        (Format.NDJSON, len(line), len(line) + 1),
    ]


def test_memory_is_bounded_by_the_block(tmp_path: Path) -> None:
    path = _file(tmp_path, gzip.compress((b'{"id":"' + b"x" * 200 + b'"}\n') * 100_000, 1))
    [span] = spans(find([str(path)]))
    tracemalloc.start()
    try:
        count = sum(len(block.messages) for block in read(span))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 100_000
    assert peak < 10_000_000  # of 21 MB


# --- gzip ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data, form", [case for case in WHOLE.values()], ids=WHOLE)
def test_gzip_is_recognised_by_what_is_in_it(tmp_path: Path, data: bytes, form: Format) -> None:
    path = _file(tmp_path, gzip.compress(data))
    [found] = find([str(path)])
    assert (found.form, found.gzipped) == (form, True)
    assert _read(path) == _read(_file(tmp_path, data, "plain"))


def test_a_gzip_file_may_have_several_members(tmp_path: Path) -> None:
    path = _file(tmp_path, gzip.compress(b"MSH|1\r") + gzip.compress(b"MSH|2\r"))
    assert _read(path) == [(Format.HL7, b"MSH|1", 0), (Format.HL7, b"MSH|2", 6)]


def _noise(lines: int) -> bytes:
    return b"".join(b'{"id":"%s"}\n' % hashlib.sha256(b"%d" % n).hexdigest().encode() for n in range(lines))


def test_a_gzip_file_that_breaks_off_gives_what_is_complete_and_one_rejected_message(tmp_path: Path) -> None:
    data = _noise(5000)
    *lines, rest = _read(_file(tmp_path, gzip.compress(data)[:100_000]))
    assert len(lines) > 1000
    assert [body for _, body, _ in lines] == data.splitlines()[: len(lines)]
    form, body, position = rest
    assert form is Format.UNKNOWN
    assert data[position:].startswith(body) and b"\n" not in body


def test_a_message_that_may_have_lost_its_end_is_rejected(tmp_path: Path) -> None:
    path = _file(tmp_path, gzip.compress(b"MSH|1\rMSH|2\rPID|1\r")[:-4])  # all the bytes, but not their checksum
    assert _read(path) == [(Format.HL7, b"MSH|1", 0), (Format.UNKNOWN, b"MSH|2\rPID|1\r", 6)]


def test_a_damaged_document_is_rejected(tmp_path: Path) -> None:
    data = b'{\n"id":1}'
    assert _read(_file(tmp_path, gzip.compress(data)[:-4])) == [(Format.UNKNOWN, data, 0)]


def test_what_only_begins_like_gzip_is_unknown(tmp_path: Path) -> None:
    data = b"\x1f\x8bno gzip at all"
    assert _read(_file(tmp_path, data)) == [(Format.UNKNOWN, data, 0)]


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LIMIT", 1_000_000)
    monkeypatch.setattr(streams, "RATIO", 100)
    data = (LINE + b"\n") * 10 + b" " * 40_000_000
    path = _file(tmp_path, gzip.compress(data))
    assert len(data) > 1000 * path.stat().st_size
    found = _read(path)
    assert [form for form, _, _ in found] == [Format.NDJSON] * 10 + [Format.UNKNOWN]
    assert len(found[-1][1]) < 40_000_000


# --- Finding ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ["b.hl7", "a.hl7", "sub/deep/c.hl7", "sub/d.json", ".hidden", ".git/e.hl7"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(ADT + name.encode())
    return tmp_path


def _found(folder: Path, *paths: str) -> list[str]:
    return [os.path.relpath(found.path, folder.resolve()) for found in find([str(folder / path) for path in paths])]


def test_folders_are_read_with_what_is_in_them_sorted_and_without_hidden_files(folder: Path) -> None:
    assert _found(folder, "") == ["a.hl7", "b.hl7", "sub/d.json", "sub/deep/c.hl7"]


def test_globs(folder: Path) -> None:
    assert _found(folder, "*.hl7") == ["a.hl7", "b.hl7"]
    assert _found(folder, "**/*.hl7") == ["a.hl7", "b.hl7", "sub/deep/c.hl7"]
    assert _found(folder, "s*") == ["sub/d.json", "sub/deep/c.hl7"]


def test_a_name_with_the_letters_of_a_glob_is_a_name(folder: Path) -> None:
    (folder / "[1].hl7").write_bytes(ADT)
    assert _found(folder, "[1].hl7") == ["[1].hl7"]


def test_what_is_hidden_is_read_if_it_is_named(folder: Path) -> None:
    assert _found(folder, ".hidden", ".git") == [".hidden", ".git/e.hl7"]


def test_a_file_named_twice_counts_once(folder: Path) -> None:
    (folder / "link.hl7").symlink_to("a.hl7")
    assert _found(folder, "b.hl7", "", "*.hl7", "sub/../a.hl7") == ["b.hl7", "a.hl7", "sub/d.json", "sub/deep/c.hl7"]


def test_two_files_with_the_same_content_are_two(tmp_path: Path) -> None:
    _file(tmp_path, ADT, "a"), _file(tmp_path, ADT, "b")
    assert len({found.file for found in find([str(tmp_path)])}) == 1
    assert _found(tmp_path, "") == ["a", "b"]


def test_links_to_files_are_followed_and_loops_are_not(folder: Path) -> None:
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "sub" / "z.hl7").symlink_to(folder / ".hidden")
    assert _found(folder, "sub") == ["sub/d.json", ".hidden", "sub/deep/c.hl7"]


def test_a_file_is_known_by_the_digest_of_its_bytes(tmp_path: Path) -> None:
    data = gzip.compress(ADT)
    [found] = find([str(_file(tmp_path, data))])
    assert found[1:5] == (hashlib.sha256(data).hexdigest(), len(data), Format.HL7, True)


def test_the_grid_covers_a_file_once() -> None:
    lines = Input("p", "f", 25, Format.NDJSON, False)
    assert [(span.start, span.end) for span in spans([lines], 10)] == [(0, 10), (10, 20), (20, 25)]
    for whole in (lines._replace(gzipped=True), lines._replace(form=Format.JSON), lines._replace(size=0)):
        assert [(span.start, span.end) for span in spans([whole], 10)] == [(0, whole.size)]


@pytest.mark.parametrize("path", ["absent", "absent/*.hl7", "", "empty", "pipe", "broken"])
def test_a_path_that_names_nothing_to_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=f"^--input: .*{re.escape(path)}.*; "):
        find([path])


@pytest.mark.parametrize("path", ["pubsub://project/subscription", "watch:folder"])
def test_sources_that_are_not_there_yet_say_so(path: str) -> None:
    with pytest.raises(ConfigurationError, match="not available in this version; "):
        find([path])


def test_nothing_in_a_folder_is_left_out_because_it_cannot_be_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scandir(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    listing = os.scandir
    with monkeypatch.context() as context:
        context.setattr(os, "scandir", scandir)
        with pytest.raises(ConfigurationError, match="cannot be read"):
            find([str(folder)])
    (folder / "JANE-ROE.hl7").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="cannot be read") as caught:
        find([str(folder)])
    assert "ROE" not in str(caught.value) and caught.value.__suppress_context__


def test_neither_errors_nor_representations_name_a_file_that_was_found(tmp_path: Path) -> None:
    path = _file(tmp_path, ADT, "JANE-ROE.hl7")
    found = find([str(tmp_path)])
    pieces = spans(found)
    path.unlink()
    with pytest.raises(StoreError) as caught:
        list(read(pieces[0]))
    assert "ROE" not in f"{found} {pieces} {caught.value}" and caught.value.__suppress_context__


# --- On a stream -----------------------------------------------------------------------------------------------------


def test_the_transform_reads_every_span_once(tmp_path: Path) -> None:
    data = b"".join(b"MSH|%d\rPID|1\r" % number for number in range(100))
    pieces = spans(find([str(_file(tmp_path, data))]), 200)
    assert len(pieces) > 5
    digest = hashlib.sha256(data).hexdigest()
    with beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as pipeline:
        blocks = pipeline | "ReadBlocks" >> ReadBlocks(pieces)
        assert blocks.element_type.__name__ == "Block"
        bodies = blocks | "Bodies" >> beam.FlatMap(lambda b: [(b.form, b.file, m.body) for m in b.messages])
        assert_that(bodies, equal_to([(Format.HL7, digest, b"MSH|%d\rPID|1" % number) for number in range(100)]))


# --- The corpus ------------------------------------------------------------------------------------------------------

CORPUS = os.environ.get("LIMEN_CORPUS")


@pytest.mark.skipif(not CORPUS, reason="LIMEN_CORPUS is not set")
def test_every_file_of_the_corpus_is_read() -> None:
    corpus = Path(CORPUS or "")
    folders = [folder for pattern in ("hl7v2-*", "fhir-*", "cloudevents-*") for folder in corpus.glob(pattern)]
    inputs = find([str(folder) for folder in folders])
    assert len(inputs) > 500
    for each in inputs:
        data = Path(each.path).read_bytes()
        blocks = [block for span in spans([each], 700) for block in read(span)]
        bodies = [message.body for block in blocks for message in block.messages]
        assert {block.form for block in blocks} == {each.form}
        match Path(each.path).suffix:
            case ".hl7":
                lines = re.split(rb"[\r\n\x0b\x1c]", data.removeprefix(BOM))
                assert each.form is Format.HL7
                assert len(bodies) == sum(re.match(rb"MSH[^0-9A-Za-z]", line) is not None for line in lines) > 0
            case ".json":
                assert each.form in (Format.JSON, Format.NDJSON)
                assert [json.loads(body) for body in bodies] == [json.loads(data.decode("utf-8-sig"))]
            case ".ndjson":
                assert each.form is Format.NDJSON
                assert bodies == data.splitlines()
            case _:
                assert bodies == [data] and each.form in (Format.UNKNOWN, Format.EMPTY)
