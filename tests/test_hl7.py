"""The HL7 v2 reader: framing, delimiters, escapes, charsets, and that no input is more than refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.outcome import Reason
from transforms.rules.hl7 import NULL, Hl7Message, Segment, read

SEGMENTS = [
    "MSH|^~\\&|EPIC|SITE^1.2.3^ISO|||20240501||ADT^A01^ADT_A01|M1|P|2.5.1",
    "EVN|A01|20240501",
    "PID|1||42^^^NS&1.2.3&ISO^MR~~7^^^X^PI||DOE^JANE",
    "NK1|1|DOE^JOHN",
    "NK1|2|DOE^JACK",
    "PV1|1|I|||||9^NURSE^ANN",
]


def message(*segments: str, charset: str = "", encoding: str = "utf-8") -> bytes:
    """A message of MSH and these segments."""
    return "\r".join([f"MSH|^~\\&|A|B|||20240501||ADT^A01|M1|P|2.5||||||{charset}", *segments]).encode(encoding)


def taken(msg: Hl7Message, name: str) -> Segment:
    """The first segment of this name, which is there."""
    segment = msg.first(name)
    assert segment is not None
    return segment


def leaf(raw: str, charset: str = "") -> str:
    """What the reader makes of the raw text of a value."""
    return taken(read(message(f"ZZZ|{raw}|end", charset=charset), "UTF-8"), "ZZZ").value(1)


def reading(body: bytes) -> list[list[str]]:
    """All that is read of a message made of SEGMENTS."""
    msg = read(body, "ASCII")
    segments = [segment for name in ("MSH", "EVN", "PID", "NK1", "PV1") for segment in msg.every(name)]
    return [[segment.field(n) for n in range(20)] for segment in segments]


def refusal(body: bytes, default_charset: str = "ASCII") -> Reason:
    with pytest.raises(MessageError) as caught:
        read(body, default_charset)
    return caught.value.reason


# --- Access -------------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_hl7() -> None:
    msg = read("\r".join(SEGMENTS).encode(), "ASCII")
    msh, pid, pv1 = (taken(msg, name) for name in ("MSH", "PID", "PV1"))
    assert (msh.field(0), msh.field(1), msh.field(2), msh.field(3)) == ("MSH", "|", "^~\\&", "EPIC")
    assert (msh.value(4, 2), msh.value(9), msh.value(9, 2), msh.value(12)) == ("1.2.3", "ADT", "A01", "2.5.1")
    assert (pid.value(1), pid.value(3), pid.value(3, 4), pid.value(3, 4, 2)) == ("1", "42", "NS", "1.2.3")
    assert (pv1.value(2), pv1.value(7), pv1.value(7, 3)) == ("I", "9", "ANN")
    assert pid.field(3) == "42^^^NS&1.2.3&ISO^MR~~7^^^X^PI"


def test_repetitions_keep_their_place() -> None:
    pid = taken(read("\r".join(SEGMENTS).encode(), "ASCII"), "PID")
    assert [(cx.value(1), cx.value(4), cx.value(4, 2), cx.value(5)) for cx in pid.repeats(3)] == [
        ("42", "NS", "1.2.3", "MR"),
        ("", "", "", ""),
        ("7", "X", "", "PI"),
    ]


def test_what_is_absent_is_empty() -> None:
    msg = read("\r".join(SEGMENTS).encode(), "ASCII")
    pid = taken(msg, "PID")
    assert msg.first("MRG") is None
    assert msg.every("MRG") == []
    assert (pid.field(2), pid.field(99), pid.repeats(2), pid.repeats(99)) == ("", "", [], [])
    assert (pid.value(2), pid.value(99), pid.value(1, 2), pid.value(1, 1, 2), pid.value(3, 9)) == ("",) * 5
    assert (pid.value(3, 4, 9), pid.value(3, 5, 2), pid.value(5, 1, 2)) == ("",) * 3
    cx = pid.repeats(3)[0]
    assert (cx.value(9), cx.value(4, 9), cx.value(5, 2)) == ("",) * 3


def test_every_keeps_the_order_of_the_message() -> None:
    msg = read(message("PID|1||1", "MRG|2", "PID|2||3", "PV1|1", "MRG|4"), "ASCII")
    assert [s.value(2) for s in read("\r".join(SEGMENTS).encode(), "ASCII").every("NK1")] == ["DOE", "DOE"]
    assert [(s.field(0), s.value(1)) for s in msg.every("PID")] == [("PID", "1"), ("PID", "2")]
    assert [(s.field(0), s.value(1)) for s in msg.every("MRG")] == [("MRG", "2"), ("MRG", "4")]


def test_null_is_not_absent() -> None:
    pid = taken(read(message('PID|""|x^""^y&""|""""'), "ASCII"), "PID")
    assert (pid.field(1) == NULL, pid.value(1), pid.repeats(1)) == (True, "", [])
    assert (pid.value(2, 2), pid.value(2, 3, 2), pid.repeats(2)[0].value(2)) == ("", "", "")
    assert pid.value(3) == '""""'


def test_lines_that_are_no_segments_belong_to_nothing() -> None:
    note = "NTE|1||first\nsecond|line\nPID of the patient\n pid|1\nPID2|x\npv1|1\nPID\nPID^1"
    msg = read(message(note, "PID|9"), "ASCII")
    assert taken(msg, "NTE").value(3) == "first"
    assert [s.value(1) for s in msg.every("PID")] == ["9"]
    assert taken(msg, "PID").value(1) == "9"
    assert msg.first("PV1") is None


def test_nothing_of_a_message_is_shown() -> None:
    msg = read(message("PID|CANARY"), "ASCII")
    pid = taken(msg, "PID")
    assert "CANARY" not in repr([msg, pid, pid.repeats(1), msg.every("PID")])


# --- Framing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("\n".join(SEGMENTS), id="LF"),
        pytest.param("\r\n".join(SEGMENTS), id="CRLF"),
        pytest.param("\r\r".join(SEGMENTS), id="doubled CR"),
        pytest.param("\r\r\n".join(SEGMENTS), id="CRCRLF"),
        pytest.param("\r".join(SEGMENTS[:2]) + "\n" + "\r\n".join(SEGMENTS[2:]) + "\n", id="mixed"),
        pytest.param("\r".join(SEGMENTS) + "\r", id="ends with CR"),
        pytest.param("\x0b" + "\r".join(SEGMENTS) + "\r\x1c\r", id="MLLP"),
        pytest.param("\x0b" + "\r".join(SEGMENTS) + "\x1c\r", id="MLLP, no CR after the last segment"),
        pytest.param("\x0b" + "\r".join(SEGMENTS) + "\x1c", id="MLLP, cut before its last CR"),
        pytest.param("\x0b" + "\r\n".join(SEGMENTS) + "\x1c\r\n\x0b", id="MLLP, cut after the next start of block"),
        pytest.param("\ufeff" + "\r".join(SEGMENTS), id="byte order mark"),
        pytest.param("\ufeff\r\n\x0b" + "\r".join(SEGMENTS), id="byte order mark, blank line, start of block"),
        pytest.param("\r".join([*SEGMENTS, "BTS|1", "FTS|1"]), id="batch trailers"),
        pytest.param("\r".join(SEGMENTS) + "\x1c\rBTS|1\r", id="batch trailer after the block"),
    ],
)
def test_framing_changes_nothing(body: str) -> None:
    assert reading(body.encode()) == reading("\r".join(SEGMENTS).encode())


@given(st.lists(st.sampled_from(["\r", "\n", "\r\n", "\r\r", "\n\n"]), min_size=6, max_size=6), st.booleans())
def test_any_framing_reads_the_same(ends: list[str], mllp: bool) -> None:
    body = "".join(segment + end for segment, end in zip(SEGMENTS, ends, strict=True))
    assert reading((f"\x0b{body}\x1c\r" if mllp else body).encode()) == reading("\r".join(SEGMENTS).encode())


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_only_cr_and_lf_end_a_segment(character: str) -> None:
    assert leaf(f"a{character}b") == f"a{character}b"


# --- Delimiters ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param("MSH#*@!%#A\rPID#1#x*y%z@p*!S!!T!!R!!F!!E!", ("y", "z", "*%@#!"), id="none of the usual"),
        pytest.param("MSH|^~\\&#|A\rPID|1|x^y&z~p^\\S\\\\T\\\\R\\\\F\\\\E\\", ("y", "z", "^&~|\\"), id="truncation"),
        pytest.param("MSH|^~\\|A\rPID|1|x^y&z~p^\\S\\\\T\\\\R\\", ("y&z", "", "^~"), id="no subcomponents"),
        pytest.param("MSH|^~|A\rPID|1|x^y\\T\\~p^\\S\\", ("y\\T\\", "", "\\S\\"), id="no escapes"),
        pytest.param("MSH|^|A\rPID|1|x^y~p^q", ("y~p", "", None), id="components only"),
    ],
)
def test_delimiters_are_the_message_s_own(body: str, expected: tuple[str, str, str | None]) -> None:
    pid = taken(read(body.encode(), "ASCII"), "PID")
    second = pid.repeats(2)[1].value(2) if len(pid.repeats(2)) > 1 else None
    assert (pid.value(2, 2), pid.value(2, 2, 2), second) == expected
    assert (pid.repeats(2)[0].value(2), pid.repeats(2)[0].value(2, 2)) == expected[:2]


@pytest.mark.parametrize(
    "msh",
    [
        pytest.param("MSH", id="nothing"),
        pytest.param("MSH\rPID|1", id="nothing, then a segment"),
        pytest.param("MSH|", id="no MSH-2"),
        pytest.param("MSH||EPIC", id="empty MSH-2"),
        pytest.param("MSH|&&&&|EPIC", id="all the same"),
        pytest.param("MSH|^~\\\\&|EPIC", id="doubled escape"),
        pytest.param("MSH|^~\\^|EPIC", id="component twice"),
        pytest.param("MSH|1234|EPIC", id="digits"),
        pytest.param("MSH|^~\\T|EPIC", id="a letter"),
        pytest.param("MSHA^~\\&AEPIC", id="a letter as field separator"),
        pytest.param("MSH ^~\\& EPIC", id="a blank as field separator"),
        pytest.param("MSH|^~ &|EPIC", id="a blank"),
        pytest.param("MSH|^~\x07&|EPIC", id="a control character"),
        pytest.param("MSH|^~\\é|EPIC", id="not ASCII"),
        pytest.param("MSH|^~\\&#!|EPIC", id="six"),
    ],
)
def test_delimiters_that_cannot_be(msh: str) -> None:
    assert refusal(msh.encode()) is Reason.BAD_DELIMITERS


# --- Escapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        pytest.param(r"a\F\b\S\c\T\d\R\e\E\f", r"a|b^c&d~e\f", id="delimiters"),
        pytest.param(r"\X41\\X4243\x", "ABCx", id="hexadecimal"),
        pytest.param(r"\XC3A9\ \xC3A9\ ", "é  ", id="hexadecimal in the message's charset, capital X only"),
        pytest.param(r"a\XC3\b", "ab", id="half a character"),
        pytest.param(r"a\XZZ\b\X4\c\X\d", "abcd", id="no hexadecimal digits"),
        pytest.param(r"a\.br\b\.sp\c", "a\nb\nc", id="line breaks"),
        pytest.param(r"a\.in+4\b\.ce\c\.sp3\d", "abcd", id="other formatting"),
        pytest.param(r"a\H\b\N\c", "abc", id="highlighting"),
        pytest.param(r"a\C2842\b\M244221\c", "abc", id="charset escapes"),
        pytest.param(r"a\Zlocal\b\unknown\c\\d", "abcd", id="unknown and empty"),
        pytest.param("a\\b", "a\\b", id="alone"),
        pytest.param("\\", "\\", id="nothing else"),
        pytest.param("a\\T\\b\\", "a&b\\", id="alone at the end"),
        pytest.param("\\E\\F\\E\\", "\\F\\", id="undone once"),
    ],
)
def test_escapes(raw: str, value: str) -> None:
    assert leaf(raw) == value


def test_an_escaped_delimiter_does_not_split() -> None:
    pid = taken(read(message(r"PID|a\S\b^c\T\d&e\R\f"), "ASCII"), "PID")
    assert (pid.value(1), pid.value(1, 2), pid.value(1, 2, 2)) == ("a^b", "c&d", "e~f")
    assert len(pid.repeats(1)) == 1


@given(st.lists(st.text(st.characters(exclude_characters="\r\n\x1c", codec="utf-8")), min_size=3, max_size=3))
def test_what_is_escaped_comes_back(values: list[str]) -> None:
    escapes = str.maketrans({"|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\\": "\\E\\"})
    first, second, third = (value.translate(escapes) for value in values)
    segment = taken(read(message(f"ZZZ|{first}^{second}&{third}|end"), "UTF-8"), "ZZZ")
    got = [segment.value(1), segment.value(1, 2), segment.value(1, 2, 2)]
    assert got == ["" if value == NULL else value for value in values]
    assert segment.value(2) == "end"


# --- Charsets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        pytest.param("", "utf-8", "é", id="the feed's default"),
        pytest.param('""', "utf-8", "é", id="null is none"),
        pytest.param("ASCII", "ascii", "e", id="ASCII"),
        pytest.param("ISO IR6", "ascii", "e", id="ISO IR6"),
        pytest.param("UNICODE UTF-8", "utf-8", "é東", id="UTF-8"),
        pytest.param("utf8", "utf-8", "é東", id="utf8"),
        pytest.param("UTF-8~UNICODE", "utf-8", "é東", id="UTF-8 said twice"),
        pytest.param("UNICODE", "ascii", "e", id="UNICODE, all ASCII"),
        pytest.param("UNICODE UTF-16", "ascii", "e", id="UTF-16, all ASCII"),
        pytest.param("8859/1", "iso8859_1", "é", id="8859/1"),
        pytest.param("ISO-8859-1", "iso8859_1", "é", id="ISO-8859-1"),
        pytest.param("ASCII~8859/1", "iso8859_1", "é", id="a superset of ASCII as alternate"),
        pytest.param("UNICODE UTF-8~8859/1", "utf-8", "é東", id="the first of two"),
        pytest.param("8859/1~UNICODE UTF-8", "iso8859_1", "é", id="the first of the same two"),
        pytest.param("ASCII~8859/15~8859/1~UNICODE", "iso8859_15", "€", id="the first that says more than ASCII"),
        pytest.param("8859/2", "iso8859_2", "ł", id="8859/2"),
        pytest.param("8859/5", "iso8859_5", "Ж", id="8859/5"),
        pytest.param("8859/7", "iso8859_7", "Ω", id="8859/7"),
        pytest.param("8859/15", "iso8859_15", "€", id="8859/15"),
        pytest.param("GB 18030-2000", "gb18030", "東郷誠", id="GB 18030"),
        pytest.param("BIG-5", "big5", "許功蓋", id="Big5, second bytes are backslash and bar"),
        pytest.param("KS X 1001", "euc_kr", "김", id="KS X 1001"),
        pytest.param("ISO IR87", "iso2022_jp", "山田", id="ISO IR87"),
        pytest.param("~ISO IR87", "iso2022_jp", "山田", id="ISO IR87 as alternate"),
        pytest.param("ASCII~ISO IR87~ISO IR159", "iso2022_jp_1", "山田丂", id="two alternates"),
    ],
)
def test_charsets(declared: str, encoding: str, text: str) -> None:
    msg = read(message(f"PID|{text}|next", charset=declared, encoding=encoding), "UTF-8")
    assert (taken(msg, "PID").value(1), taken(msg, "PID").value(2)) == (text, "next")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(message(charset="EBCDIC"), Reason.BAD_CHARSET, id="unknown"),
        pytest.param(message(charset="ASCII~EBCDIC"), Reason.BAD_CHARSET, id="unknown alternate"),
        pytest.param(message(charset="UNICODE~EBCDIC"), Reason.BAD_CHARSET, id="unknown alternate to UNICODE"),
        pytest.param(message(charset="CNS 11643-1992"), Reason.BAD_CHARSET, id="without a codec"),
        pytest.param(message(charset="8859/1~EBCDIC"), Reason.BAD_CHARSET, id="a second one that is unknown"),
        pytest.param(message(r"PID|\C2842\b", charset="8859/1~8859/2"), Reason.BAD_CHARSET, id="a switch, one byte"),
        pytest.param(message(r"PID|\M244221\c", charset="8859/1~BIG-5"), Reason.BAD_CHARSET, id="a switch, more bytes"),
        pytest.param(message("PID|\x1b$B;3", charset="8859/1~ISO IR87"), Reason.BAD_CHARSET, id="a switch of ISO 2022"),
        pytest.param(message("PID|é", charset="UTF-8~8859/1", encoding="latin-1"), Reason.BAD_ENCODING, id="the other"),
        pytest.param(message(charset="ASCII" + "-" * 500), Reason.BAD_CHARSET, id="long"),
        pytest.param(message("PID|é", charset="UNICODE"), Reason.BAD_CHARSET, id="UNICODE, not ASCII"),
        pytest.param(message("PID|é", charset="UNICODE UTF-16"), Reason.BAD_CHARSET, id="UTF-16, not ASCII"),
        pytest.param(message("PID|é", charset="ASCII"), Reason.BAD_ENCODING, id="ASCII, high bytes"),
        pytest.param(message("PID|é"), Reason.BAD_ENCODING, id="default ASCII, high bytes"),
        pytest.param(message("PID|é", charset="utf8", encoding="latin-1"), Reason.BAD_ENCODING, id="not UTF-8"),
        pytest.param(message(charset="8859/3") + b"\rPID|\xa5", Reason.BAD_ENCODING, id="undefined in 8859/3"),
        pytest.param(message(charset="BIG-5") + b"\rPID|\xff", Reason.BAD_ENCODING, id="not Big5"),
        pytest.param(
            # Read as bytes, MSH-18 is "GB 18030-2000"; decoded, the bar is half a character, and MSH-18 is empty.
            b"MSH|^~\\&|\x81||B|||20240501||ADT^A01|M1|P|2.5|||||GB 18030-2000",
            Reason.BAD_CHARSET,
            id="the charset hides where it is named",
        ),
        pytest.param("MSH|^~\\&|A".encode("utf-16"), Reason.MALFORMED, id="UTF-16"),
        pytest.param("MSH|^~\\&|A".encode("utf-16-be"), Reason.MALFORMED, id="UTF-16, no byte order mark"),
    ],
)
def test_charsets_that_cannot_be_read(body: bytes, reason: Reason) -> None:
    assert refusal(body) is reason


def test_no_other_escape_switches() -> None:
    text = r"a\F\C2842 \T\b\Cx\c\H\\X24\M"
    assert taken(read(message(f"PID|{text}", charset="8859/1~8859/2"), "ASCII"), "PID").value(1) == "a|C2842 &bc$M"


def test_an_unknown_default_is_refused() -> None:
    assert refusal(message(), "EBCDIC") is Reason.BAD_CHARSET


# --- Any input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"MS", id="cut"),
        pytest.param(b"\xef\xbb\xbf", id="a byte order mark"),
        pytest.param(b"PID|1\rMSH|^~\\&|", id="MSH is not first"),
        pytest.param(b"msh|^~\\&|", id="lower case"),
        pytest.param(b"FHS|^~\\&|\rMSH|^~\\&|", id="a file header"),
        pytest.param(message("PID|1") + b"\r" + message("PID|2"), id="two messages"),
        pytest.param(b"\x0b" + message("PID|1") + b"\x1c\r\x0b" + message("PID|2") + b"\x1c\r", id="two blocks"),
        pytest.param(message("PID|1||7") + message("PID|2"), id="two messages that nothing divides"),
        pytest.param(message("PID|1") + b'\r{"resourceType":"Patient"}', id="a line of JSON behind it"),
        pytest.param(message("PID|1") + b'\n  {\n "resourceType":"Patient"}', id="a document behind it"),
        pytest.param(message("PID|1") + b'\r\n[{"id":1}]\r\n', id="a batch behind it"),
        pytest.param(message("PID|1") + b"\r\x0bACK|1\r", id="the start of another block"),
        pytest.param(message("NTE|1||a\x1cb", "PID|1"), id="the end of a block in a note"),
        pytest.param(message("PID|1\x1cDG1|1||F10.20"), id="the end of a block before a segment"),
        pytest.param(message("PID|1") + b"\rSH|^~\\&|EHR\rPID|1", id="another message that lost a letter"),
        pytest.param(message("PID|1") + b"\r MSH|^~\\&|EHR\rPID|1", id="one behind a blank"),
        pytest.param(message("PID|1") + b"\nMSH |^~\\&|EHR\rPID|1", id="one with a blank in it"),
        pytest.param(message("PID|1") + b"\nMSH$EHR$MAIN\rPID$1", id="one without delimiters"),
        pytest.param(message("PID|1") + b"\nMSH\rPID|1", id="one whose first line was cut"),
        pytest.param(b"MSH$^$A\rPID$1\rMSH$^$A\rPID$1", id="two messages of few delimiters"),
    ],
)
def test_what_is_not_one_message(body: bytes) -> None:
    assert refusal(body) is Reason.MALFORMED


def test_a_note_may_hold_what_only_looks_like_another_message() -> None:
    for text in (
        "see MSH|",
        "{\\rtf1 plain}",
        "\r[1] as above",
        "\r{see below}",
        'a {"quoted"} word',
        "\x0b",
        "\nMSH level: normal",
        "\nMSHA|x",
        "~^~\\&",
        "FSH, MSH",
    ):
        assert read(message("PID|1", f"NTE|1||{text}"), "ASCII")


def test_a_batch_within_a_message_is_none() -> None:
    trailed = message("PID|1", "BTS|0", *["BHS|^~\\&|", "BTS|0"] * 3)
    assert taken(read(trailed, "ASCII"), "PID").value(1) == "1"


def walk(body: bytes, default_charset: str) -> None:
    """Read and take everything; whatever the bytes, a MessageError is the worst."""
    try:
        msg = read(body, default_charset)
    except MessageError as error:
        assert error.args == (error.reason.value,)
        assert error.__suppress_context__ or error.__context__ is None
        return
    for name in ("MSH", "PID", "PV1"):
        segments = msg.every(name)
        first = msg.first(name)
        assert (first is None) == (not segments)
        for segment in segments:
            assert segment.field(0) == name
            for n in range(22):
                raw = segment.repeats(n)
                assert segment.value(n, 2) == (raw[0].value(2) if raw else "")
                assert segment.value(n, 1, 2) == (raw[0].value(1, 2) if raw else "")
                assert segment.value(n) == (raw[0].value() if raw else "")


CHARSETS = st.sampled_from(
    ["ASCII", "UTF-8", "8859/1", "8859/6", "GB 18030-2000", "BIG-5", "KS X 1001", "ISO IR87", ""]
)
CONTROLS = ["\r\n", "\x1b$B", "\x1b(B", "\x1b(J", "\x1b$)C", "\x0e", *"\r\n\x0b\x1c\x00"]
PIECES = st.sampled_from(
    [*CONTROLS, *'|^~\\&#"', '""', "\\X", "\\XC3\\", "\\.br\\", "PID|", "\rPID|", "\rMSH|", "PV1", "42"]
)


@given(st.binary(), CHARSETS)
def test_random_bytes(body: bytes, charset: str) -> None:
    walk(body, charset)
    walk(b"MSH" + body, charset)
    walk(b"MSH|^~\\&|" + body, charset)
    walk(message("PID|", charset=charset) + body, "UTF-8")


@given(st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=30), CHARSETS)
def test_random_structure(pieces: list[str], charset: str) -> None:
    text = "".join(pieces)
    walk(message("PID|1||" + text, charset=charset), "ASCII")
    walk(f"MSH|^~\\&|{text}|\rPID|{text}".encode(), charset)


@given(st.lists(st.tuples(st.integers(0, 250), st.binary(max_size=2), st.integers(0, 3)), min_size=1, max_size=4))
def test_mutated_messages(edits: list[tuple[int, bytes, int]]) -> None:
    body = "\r".join(SEGMENTS).encode()
    for at, new, cut in edits:
        body = body[:at] + new + body[at + cut :]
    walk(body, "UTF-8")


def test_size_is_no_problem() -> None:
    many = 10_000
    pid = taken(read(message("PID|1||" + "~".join(["1^^^A^MR"] * many)), "ASCII"), "PID")
    assert [cx.value(5) for cx in pid.repeats(3)] == ["MR"] * many
    assert len(read(message(*["NK1|1"] * many), "ASCII").every("NK1")) == many
    assert taken(read(message("PID" + "|" * many + "x"), "ASCII"), "PID").value(many) == "x"
    assert leaf("\\T\\" * many) == "&" * many
    assert leaf("\\" * (2 * many)) == ""
    assert taken(read(message("OBX|" + "x" * 5_000_000, "PID|1"), "ASCII"), "PID").value(1) == "1"
