"""What stands before the first MSH of a file: a message that lost its head, or a log line, which is none."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.formats import BOM, leading, recognise
from pipelines.inputs import find
from pipelines.sources import read, spans
from pipelines.streams import LIMIT
from schemas.message import Format, Message
from schemas.outcome import Reason
from schemas.policy import Policy
from transforms.decode import reader

REST = b"EVN||20260425\rPID|1||7^^^MAIN^MR\r"
LOST = b"MSH|^~\\&|EHR|MAIN|||20260425||ADT^A13|1|P|2.5\r" + REST
GOOD = b"MSH|^~\\&|EHR|MAIN|||20260420||ADT^A03|2|P|2.5\r" + REST
REFUSED = b"CON|1|patient-support^^LIMEN|||||||||R||20260425\r"
BATCH = b"FHS|^~\\&|EHR\r\nBHS|^~\\&|EHR\r\n"
CONSENT = b'<?xml version="1.0"?>\n<Consent xmlns="http://hl7.org/fhir"/>\n'

Found = list[tuple[Format, bytes, int]]


def found(folder: Path, data: bytes, block_bytes: int = 2_000_000, limit: int = LIMIT, chunk: int = 1 << 16) -> Found:
    path = folder / "in"
    path.write_bytes(data)
    blocks = [block for span in spans(find([str(path)]), block_bytes) for block in read(span, limit, chunk)]
    return [(block.form, message.body, message.position) for block in blocks for message in block.messages]


DAMAGED = {
    "NUL": b"\0" + LOST,
    "STX": b"\x02" + LOST,
    "a blank": b" " + LOST,
    "a quotation mark": b'"' + LOST,
    "FF FE": b"\xff\xfe" + LOST,
    "a prompt": b"> " + LOST,
    "half of a byte order mark": b"\xbf" + LOST,
    "small letters": b"m" + LOST[1:].replace(b"SH|", b"sh|", 1),
    "its first letter lost": LOST[1:],
    "its first line lost": REST,
    "one line alone": b"\0" + LOST.partition(b"\r")[0] + b"\r",
    "one line alone, its first letter lost": LOST.partition(b"\r")[0][1:] + b"\n",
    "other delimiters": REST.replace(b"|", b"$"),
    "UTF-16": LOST.decode().encode("utf-16") + b"\r",
    "a refusal alone": REFUSED,
    "a consent in another format": CONSENT,
    "a consent within a log line": b'12:00 sent {"resourceType":"Consent"}\n',
}
NONE = {
    "nothing": b"",
    "blank lines": b"\r\n \t\r\n",
    "a byte order mark and a blank line": BOM + b"\r\n",
    "a start of block": b"\x0b",
    "an empty block": b"\x0b\x1c\r\x0b",
    "a batch": BATCH,
    "a batch in a block of its own": b"\x0b" + BOM + BATCH + b"\x1c\r\x0b",
    "an empty batch before it": BATCH + b"BTS|0\rFTS|1\r" + BATCH,
    "log lines": b"2026-04-25 12:00:00 [INF] transfer: 2 files\nDEC-24-2025 WARN: slow\nLOG: end\n",
    "the header of a request": b"POST /hl7 HTTP/1.1\r\nHost: ehr\r\nDNT: 1\r\nX-Trace: A|B\r\n\r\n\x0b",
    "prose": b"Dear colleague,\nthe file you ASKED for | see below. MSH and PID are\nunchanged\n",
}


@pytest.mark.parametrize("left", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("head", [b"", BOM, BATCH, b"transfer log\n"], ids=["", "BOM", "batch", "log"])
def test_a_message_that_lost_its_head_is_one_that_cannot_be_read(tmp_path: Path, head: bytes, left: bytes) -> None:
    assert found(tmp_path, head + left + GOOD) == [
        (Format.UNKNOWN, (head + left).strip(), 0),
        (Format.HL7, GOOD.strip(), len(head + left)),
    ]


@pytest.mark.parametrize("left", [*DAMAGED.values(), b"ping", b'{\n"a": 1}'])
def test_and_so_is_whatever_lay_in_a_block(tmp_path: Path, left: bytes) -> None:
    for data in (b"\x0b" + left + b"\x1c\r\x0b" + GOOD + b"\x1c\r", left + b"\x1c\r\x0b" + GOOD + b"\x1c\r"):
        if recognise(data, whole=True) is Format.HL7:  # JSON is judged before
            at = data.index(GOOD)
            assert found(tmp_path, data) == [
                (Format.UNKNOWN, left.strip(b"\x0b\r\n "), 0),
                (Format.HL7, GOOD.strip(), at),
            ]


@pytest.mark.parametrize("left", NONE.values(), ids=NONE)
def test_what_is_no_message(tmp_path: Path, left: bytes) -> None:
    assert found(tmp_path, left + GOOD) == [(Format.HL7, GOOD.strip(), len(left))]


@pytest.mark.parametrize("left", DAMAGED.values(), ids=DAMAGED)
def test_what_may_hold_a_consent_alarms(policy: Policy, left: bytes) -> None:
    """Otherwise it is rejected for what the same bytes alone are."""

    def reason(text: bytes) -> Reason | None:
        [counted] = reader(policy).read(Format.UNKNOWN, Message(leading(text), 0))
        return counted.reason

    held = b"Consent" in left or b"CON|" in left
    assert reason(left) is (Reason.CONSENT_OF_NOBODY if held else Reason.UNKNOWN_FORMAT)
    assert reason(left + REFUSED) is Reason.CONSENT_OF_NOBODY


TOKENS = [b"MSH|", b"MSH", b"PID|1|", b"\r", b"\n", b"\x0b", b"\x1c", b"\0", b" ", BOM, b"FHS|^\r", b"log", b"|^~\\&"]


@given(st.lists(st.sampled_from(TOKENS), max_size=25).map(b"".join), st.integers(1, 40), st.integers(1, 9))
def test_any_grid_and_any_package_give_the_same(
    tmp_path_factory: pytest.TempPathFactory, left: bytes, step: int, chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    data = left + b"\r" + GOOD

    def packed(*members: bytes) -> bytes:
        held = io.BytesIO()
        with tarfile.open(fileobj=held, mode="w") as archive:
            for number, member in enumerate(members):
                one = tarfile.TarInfo(str(number))
                one.size = len(member)
                archive.addfile(one, io.BytesIO(member))
        return held.getvalue()

    for limit in (LIMIT, 30):
        once = found(folder, data, limit=limit)
        assert sorted(found(folder, data, step, limit, chunk)) == sorted(once)
        assert sorted(found(folder, gzip.compress(data), limit=limit, chunk=chunk)) == sorted(once)
        if limit == LIMIT:
            again = [(form, body, at + len(data) + 1) for form, body, at in once]
            assert sorted(found(folder, packed(data, data))) == sorted([*once, *again])


def test_in_a_zip_archive_each_member_has_its_own(tmp_path: Path) -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in "ab":
            archive.writestr(name, b"\0" + LOST + GOOD)
    forms = sorted(form for form, _, _ in found(tmp_path, held.getvalue()))
    assert forms == [Format.HL7, Format.HL7, Format.UNKNOWN, Format.UNKNOWN]


def test_what_is_too_large_comes_without_its_bytes(tmp_path: Path) -> None:
    left = REST * 100
    for step in (2_000_000, 500):
        assert sorted(found(tmp_path, left + GOOD, step, limit=1000, chunk=64), key=lambda one: one[2]) == [
            (Format.TOO_LARGE, b"", 0),
            (Format.HL7, GOOD.strip(), len(left)),
        ]


def test_it_is_searched_in_linear_time() -> None:
    for left in (b"\x0b", b"\r", b"\x0b\r", b"\0", b"A", b"FHS", b" ", b"AAA$", b"\x1c"):
        leading(left * 1_000_000)
