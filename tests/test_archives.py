"""Archives: every member is read as the file that it is, and what cannot be read is a message that says so."""

import gzip
import io
import json
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hospital_files import admission, by_identifier, command, decide, payloads, permit, records, tree

from pipelines import streams
from pipelines.inputs import find
from pipelines.simulated import feeds
from pipelines.sources import read, spans
from schemas.message import Format

Files = list[tuple[str, bytes]]
Found = tuple[Format, bytes]
LINE = b'{"id":"1"}'
ADT = b"MSH|^~\\&|A|B|||20240101||ADT^A01|1|P|2.5\rPID|1||7^^^MR"
NAME = "JANE-ROE"


def tarred(files: Iterable[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(files: Iterable[tuple[str, bytes]], kind: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kind) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def tar_gz(files: Iterable[tuple[str, bytes]]) -> bytes:
    return gzip.compress(tarred(files))


ARCHIVES: list[Callable[[Iterable[tuple[str, bytes]]], bytes]] = [tarred, tar_gz, zipped]
archives = pytest.mark.parametrize("archive", ARCHIVES)


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[Found]]:
    """The messages of a file of these bytes."""

    def of(data: bytes, **limits: int) -> list[Found]:
        path = tmp_path / f"{NAME}.dat"
        path.write_bytes(data)
        blocks = [block for span in spans(find([str(path)])) for block in read(span, **limits)]
        places = [(block.form, message.position) for block in blocks for message in block.messages]
        assert len(set(places)) == len(places), "no two messages of an archive stand in one place"
        assert len({(b.form, b.messages[0].position) for b in blocks if b.messages}) == sum(
            bool(b.messages) for b in blocks
        )
        return [
            (form, body) for _, form, body in sorted((m.position, b.form, m.body) for b in blocks for m in b.messages)
        ]

    return of


FILES: Files = [
    ("a.hl7", ADT + b"\r" + ADT + b"2\r"),
    (f"deep/{NAME}/b.txt", LINE + b"\n" + LINE + b"\n"),
    ("b.json", b'{\n"resourceType": "Bundle"\n}\n'),
    ("c", b""),
    ("c", b""),
    ("d.hl7.gz", gzip.compress(ADT)),
    ("e.pdf", b"%PDF-1.7\n\x00\x01"),
    ("x" * 300, LINE + b"\n"),
]
MESSAGES: list[Found] = [
    (Format.HL7, ADT), (Format.HL7, ADT + b"2"), (Format.NDJSON, LINE), (Format.NDJSON, LINE),
    (Format.JSON, b'{\n"resourceType": "Bundle"\n}\n'), (Format.EMPTY, b""), (Format.EMPTY, b""), (Format.HL7, ADT),
    (Format.UNKNOWN, b"%PDF-1.7\n\x00\x01"), (Format.NDJSON, LINE),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@archives
def test_members_are_recognised_by_content(
    archive: Callable[[Files], bytes], found: Callable[..., list[Found]]
) -> None:
    assert found(archive(FILES)) == MESSAGES
    assert found(archive(FILES), chunk=7) == MESSAGES


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_in_every_form(found: Callable[..., list[Found]], form: int) -> None:
    assert found(tarred([*FILES[:7], ("y" * 90 + "/" + "z" * 90, ADT)], form)) == [*MESSAGES[:9], (Format.HL7, ADT)]


def test_a_size_that_only_an_extended_header_says(found: Callable[..., list[Found]]) -> None:
    extended = tarfile.TarInfo("x")
    extended.type, extended.size = tarfile.XHDTYPE, 12
    member = tarfile.TarInfo("a")
    plain = tarred([("b", LINE)])
    said = extended.tobuf() + b"12 size=10\n\n".ljust(512, b"\0") + member.tobuf() + LINE.ljust(512, b"\0")
    assert found(said + plain) == [(Format.NDJSON, LINE)] * 2


@archives
def test_what_is_in_an_archive_without_being_a_file(
    archive: Callable[[Files], bytes], found: Callable[..., list[Found]]
) -> None:
    hidden = [(".DS_Store", b"x"), ("__MACOSX/._a.hl7", b"x"), (".git/a.hl7", ADT), ("./a.hl7", ADT), ("../b.hl7", ADT)]
    assert found(archive(hidden)) == [(Format.HL7, ADT)] * 2
    assert [form for form, _ in found(archive([]))] == [Format.UNKNOWN]
    assert found(archive([("a/.b", b"x")])) == [(Format.EMPTY, b"")]


def test_links_and_folders_hold_nothing(found: Callable[..., list[Found]], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.hl7").write_bytes(ADT)
    (tmp_path / "d/b.hl7").symlink_to("/etc/passwd")
    (tmp_path / "d/c.hl7").hardlink_to(tmp_path / "d/a.hl7")
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        archive.add(tmp_path / "d", "d")
    assert found((tmp_path / "d.tar").read_bytes()) == [(Format.HL7, ADT)]
    link = zipfile.ZipInfo("b.hl7")
    link.external_attr = 0o120777 << 16
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipping:
        zipping.writestr("d/", b"")
        zipping.writestr(link, "/etc/passwd")
        zipping.writestr("a", ADT)
    assert found(out.getvalue()) == [(Format.HL7, ADT)]


@archives
@pytest.mark.parametrize("inner", ARCHIVES)
def test_an_archive_in_an_archive_is_one_message(
    archive: Callable[[Files], bytes], inner: Callable[[Files], bytes], found: Callable[..., list[Found]]
) -> None:
    before, [form, body], after = found(archive([("a", ADT), ("b", inner([("c", ADT), ("d", ADT)])), ("e", LINE)]))
    assert (before, form, after) == ((Format.HL7, ADT), Format.UNKNOWN, (Format.NDJSON, LINE))
    assert body


def test_a_zip_archive_in_gzip_is_of_no_known_format(found: Callable[..., list[Found]]) -> None:
    data = zipped(FILES[:2])
    assert found(gzip.compress(data)) == [(Format.UNKNOWN, data)]


# --- Damage ----------------------------------------------------------------------------------------------------------


def noise(seed: int, size: int = 40_000) -> bytes:
    return b'{"id":"%s"}\n' % random.Random(seed).randbytes(size).hex().encode()


THREE: Files = [("a", noise(1)), ("b", noise(2)), ("c", noise(3))]
A, B, C = ((Format.NDJSON, data.strip()) for _, data in THREE)


def test_a_damaged_member_of_a_zip_archive_does_not_take_the_others_along(found: Callable[..., list[Found]]) -> None:
    data = bytearray(zipped(THREE))
    data[len(data) // 2] ^= 0xFF
    first, [form, _], last = found(bytes(data))
    assert (first, form, last) == (A, Format.UNKNOWN, C)


def test_an_encrypted_member_is_rejected(found: Callable[..., list[Found]]) -> None:
    data = zipped(THREE)
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)  # what the list says of the second
    second = data.index(b"PK\x03\x04", 4)
    for place in (at + 8, second + 6):
        data = data[:place] + b"\x01" + data[place + 1 :]
    assert found(data) == [A, (Format.UNKNOWN, b""), C]


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_packed_in_another_way_is_rejected(found: Callable[..., list[Found]], kind: int) -> None:
    assert found(zipped(THREE[:1], kind)) == [(Format.UNKNOWN, b"")]


@archives
def test_an_archive_that_breaks_off(archive: Callable[[Files], bytes], found: Callable[..., list[Found]]) -> None:
    data = archive(THREE)
    for cut in range(600, len(data), 9_973):
        *whole, last = found(data[:cut])
        assert whole == [A, B, C][: len(whole)]
        assert last[0] is Format.UNKNOWN


def test_a_tar_archive_that_was_cut_between_members_says_so(found: Callable[..., list[Found]]) -> None:
    short, long = (tarred([("a", LINE), ("b", LINE)][:n]) for n in (1, 2))
    assert long[:1024] == short[:1024]
    assert found(long[:1024]) == [(Format.NDJSON, LINE), (Format.UNKNOWN, b"")]
    assert found(long) == [(Format.NDJSON, LINE)] * 2


def test_what_follows_the_end_of_a_tar_archive_is_not_passed_over(found: Callable[..., list[Found]]) -> None:
    assert found(tarred([("a", LINE)]) + tarred([("b", ADT)])) == [(Format.NDJSON, LINE), (Format.UNKNOWN, b"")]
    assert found(tarred([("a", LINE)]) + ADT) == [(Format.NDJSON, LINE), (Format.UNKNOWN, b"")]


def test_a_damaged_header_ends_a_tar_archive_and_says_so(found: Callable[..., list[Found]]) -> None:
    data = bytearray(tarred([("a", LINE), ("b", LINE), ("c", LINE)]))
    data[1024 + 5] ^= 1
    assert found(bytes(data)) == [(Format.NDJSON, LINE), (Format.UNKNOWN, b"")]


def test_a_sparse_member_ends_it(found: Callable[..., list[Found]]) -> None:
    sparse = tarfile.TarInfo("s")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 8**11 - 1
    member = tarred([("a", LINE)])
    assert found(member[:1024] + sparse.tobuf(tarfile.GNU_FORMAT) + member) == [
        (Format.NDJSON, LINE),
        (Format.UNKNOWN, b""),
    ]


# --- Bombs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LIMIT", 1_000_000)
    monkeypatch.setattr(streams, "RATIO", 100)


BLANKS = (LINE + b"\n") * 3 + b" " * 30_000_000


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tar_gz([("a", BLANKS), ("b", ADT)]), id="tar.gz"),
        pytest.param(zipped([("a", BLANKS), ("b", ADT)]), id="zip"),
        pytest.param(tarred([("a", gzip.compress(BLANKS)), ("b", gzip.compress(ADT))]), id="gzip in tar"),
        pytest.param(zipped([("a", gzip.compress(gzip.compress(BLANKS))), ("b", ADT)]), id="gzip in gzip in zip"),
        pytest.param(zipped([(str(n), b" " * 900_000) for n in range(20)]), id="many small ones"),
    ],
)
def test_a_bomb_is_stopped(found: Callable[..., list[Found]], data: bytes) -> None:
    tracemalloc.start()
    try:
        messages = found(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25_000_000
    assert messages and messages[-1][0] in (Format.UNKNOWN, Format.HL7)
    assert any(form is Format.UNKNOWN for form, _ in messages)


def test_an_archive_has_only_so_many_members(
    found: Callable[..., list[Found]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MEMBERS", 3)
    for archive in ARCHIVES:
        assert found(archive([(str(n), LINE) for n in range(3)])) == [(Format.NDJSON, LINE)] * 3
        assert found(archive([(str(n), LINE) for n in range(9)])) == [(Format.NDJSON, LINE)] * 3 + [
            (Format.UNKNOWN, b"")
        ]


def test_a_list_of_members_without_end_is_not_read(
    found: Callable[..., list[Found]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "DIRECTORY", 1000)
    assert found(zipped([(str(n), LINE) for n in range(30)])) == [(Format.UNKNOWN, b"")]
    long = tarfile.TarInfo("x")
    long.type, long.size = tarfile.XHDTYPE, 8**11 - 1
    assert found(long.tobuf() + b"\0" * 5000) == [(Format.UNKNOWN, b"")]


# --- Any bytes --------------------------------------------------------------------------------------------------------


@archives
def test_any_change_of_an_archive_gives_messages(
    archive: Callable[[Files], bytes], found: Callable[..., list[Found]]
) -> None:
    """Bytes changed, lost and doubled, most of them in headers: never an exception, never nothing."""
    chance = random.Random(7)
    whole = archive([("a", ADT), ("b", LINE), ("c", gzip.compress(LINE))])
    headers = [n for n in range(len(whole)) if whole[n - 30 : n + 30].strip(b"\0")]
    for _ in range(700):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 3))):
            at = chance.choice(headers) % len(data)
            match chance.randrange(4):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at : at + 4] = struct.pack("<i", chance.choice((-1, 0, 1, 2**31 - 1, -(2**31))))
                case 2:
                    del data[at : at + chance.randrange(40)]
                case _:
                    data[at:at] = data[at : at + chance.randrange(600)]
        assert found(bytes(data))


# --- The whole job ----------------------------------------------------------------------------------------------------


def feed(folder: Path) -> Files:
    people = [by_identifier("urn:id:GENERAL", f"M{n}") for n in range(6)]
    consents = b"".join(feeds.line(permit(one, f"c{n}")) + b"\n" for n, one in enumerate(people))
    visits = [admission(f"M{n}", f"V{n}", "20260520120000+0000") for n in range(6)]
    files = [("consents.ndjson", consents), (f"{NAME}.hl7", b"".join(visits[:3])), ("b/more.hl7", b"".join(visits[2:]))]
    files.append(("note.txt", b"Dear colleague"))
    for name, data in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return files


@archives
def test_the_framing_changes_no_payload(
    archive: Callable[[Files], bytes], tmp_path: Path, state: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    files = feed(tmp_path / "plain")
    plain = decide([tmp_path / "plain"], tmp_path / "out", state).summary
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/feed.dat").write_bytes(archive(files))
    said = command(
        capsys, monkeypatch, "run", "--input", tmp_path / "packed", "--output", tmp_path / "again", "--state", state,
        "--as-of", "2026-06-01T00:00:00Z", "--json",
    )  # fmt: skip
    packed = json.loads(said.out)

    def ids(out: Path) -> list[Any]:
        return sorted((one["id"], one["record"], one["correlationid"]) for one in payloads(out))

    assert ids(tmp_path / "out") == ids(tmp_path / "again") != []
    same = ("received", "rejected", "repeated", "consent", "control", "unrouted", "events_routed", "reasons", "routes")
    assert {name: plain[name] for name in same} == {name: packed[name] for name in same}
    assert plain["reasons"]["unknown_format"] == 1
    left = f"{said} {sorted(tree(tmp_path / 'again'))} {records(tmp_path / 'again')}"
    assert NAME not in left and "note.txt" not in left
