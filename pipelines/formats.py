"""What a file's bytes say about themselves: which format it is, and where its messages begin. Pure, on bytes.

A tar archive begins with a header whose checksum is right, a zip archive with the header of a member or of its end.

Lines of JSON: a message is a line (newline-delimited JSON; blank lines are none). HL7 v2: a message reaches from one
MSH at the start of a line to the next (HL7 v2.9 chapter 2, section 2.10.3, batches FHS BHS MSH… BTS FTS; MLLP release
1: 0x0B message 0x1C 0x0D). MSH in a note begins none: a separator follows, and other delimiters if it is not the usual
one. Nor does 0x1C in a note end a block: the end of a line follows, or the next block. What else stands behind the end
of a block is a message that cannot be read, and so is what stands before the first MSH of a file, if it may have been
one or hold a consent: a log line there is none.
"""

import re
import tarfile
from collections.abc import Iterable
from typing import Final

import msgspec

from schemas.message import Format, Message
from transforms.rules.rejection import may_hold_consent

BOM: Final = b"\xef\xbb\xbf"

_LINE: Final = re.compile(rb"\n")
_DELIMITERS: Final = rb"(?=\||(?P<separator>[!-/:-@\[-`{-~])(?:(?!(?P=separator))[!-/:-@\[-`{-~]){1,5}(?P=separator))"
# Found by its letters and then judged by what stands before: eight times as fast as looking at each segment's end.
_MSH: Final = re.compile(rb"MSH(?:(?<=[\r\n\x0b\x0c\x1c]MSH)|(?<=[\r\n\x0b\x0c\x1c]\xef\xbb\xbfMSH))" + _DELIMITERS)

REACH: Final = 14
"""How many bytes it takes to see where a message starts: the end of a line, a byte order mark, MSH, its delimiters."""

_FIRST: Final = re.compile(
    rb"(?:\A|[\r\n\x0b\x0c\x1c])(?:\xef\xbb\xbf)?(?:(?P<hl7>MSH%b|[FB]HS[^0-9A-Za-z])|[ \t]*(?P<json>[{\[]))"
    % _DELIMITERS
)
# What a message may look like whose MSH is damaged or lost: a segment, after whatever stray bytes; its delimiters.
_LEFT: Final = re.compile(
    rb"(?:\A|[\r\n\x0b\x0c\x1c])[^0-9A-Za-z\r\n\x0b\x0c\x1c]*[A-Z][A-Z0-9]{2}(?:\||([!-,;-@\[-`{-~])\w*\1)|\|\^~\\&"
)
_BATCH_LINE: Final = re.compile(
    rb"(?:\A|(?<=[\r\n]))[\x1c\x0b\x0c\t ]*(?:\xef\xbb\xbf)?[FB][HT]S(?![0-9A-Za-z])[^\r\n]*"
)
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
_TAR: Final = 512  # bytes of a header
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_END_OF_BLOCK: Final = b"\x1c"
_ENDED: Final = re.compile(rb"\x1c(?=[\r\n\x0b])")
_FRAMING: Final = b"\x1c\x0b\x0c\r\n\t "
_BATCH: Final = frozenset({b"FHS", b"BHS", b"BTS", b"FTS"})


def recognise(head: bytes, whole: bool) -> Format | None:
    """Tell a file's format by its first bytes; `whole` says that they are all of it. None: more bytes are needed.

    The first line that begins as HL7 or as JSON decides, whatever stands before it.
    """
    if head.startswith(_ZIP):
        return Format.ZIP
    if is_tar(head):
        return Format.TAR
    if not head.removeprefix(BOM).strip():
        return Format.EMPTY if whole else None
    first = _FIRST.search(head)
    if first is not None and first["hl7"]:
        return Format.HL7 if _MSH.search(b"\n" + head) else _without_messages(head) if whole else None
    if first is None:
        return Format.UNKNOWN if whole or b"\n" in head.strip() else None
    if _has_object_lines(head[first.start("json") :], whole):
        return Format.NDJSON
    line = head.rpartition(b"\n")[2].removeprefix(BOM)
    if not whole and (line.startswith(b"{") or b"\n" not in head.strip()):
        return None  # the line that is cut off may be the object that makes these lines of JSON
    return Format.JSON if not head[: first.start("json")].removeprefix(BOM).strip() else Format.UNKNOWN


def is_tar(head: bytes) -> bool:
    """Do these bytes begin with the header of a tar member?"""
    try:
        tarfile.TarInfo.frombuf(head[:_TAR], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _without_messages(batch: bytes) -> Format:
    """A file that begins as a batch and has no MSH: it holds nothing, or something that nobody can find."""
    lines = (line.strip(_FRAMING).removeprefix(BOM) for line in re.split(rb"[\r\n]", batch))
    return Format.HL7 if all(line[:3] in _BATCH for line in lines if line) else Format.UNKNOWN


def _has_object_lines(text: bytes, whole: bool) -> bool:
    """Is one of these lines by itself an object, so that a broken line condemns itself and not the file?

    Within one document such a line can stand too ('[', '{…}', ']'), but then a comma or a closing bracket follows it.
    """
    lines = [line for line in text.split(b"\n") if line.strip()]
    complete = len(lines) if whole or text.endswith(b"\n") else len(lines) - 1
    for number, line in enumerate(lines[:complete]):
        following = b"".join(lines[number + 1 : number + 2]).lstrip()
        if (number == 0 or not following.startswith((b",", b"]", b"}"))) and _is_object(line):
            return True
    return False


def _is_object(line: bytes) -> bool:
    """Is this line, from its first byte on, one complete JSON object?"""
    if not line.startswith(b"{") or not line.rstrip().endswith(b"}"):
        return False
    try:
        _OBJECT.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def starts(form: Format, window: bytes) -> list[int]:
    """Where in `window` messages start (with their byte order mark). One byte before a start must be in the window too;
    before the first byte of a file a newline is to be thought."""
    if form is Format.NDJSON:
        return [match.end() for match in _LINE.finditer(window)]
    return [at - 3 if window[at - 1] == BOM[2] else at for at in (match.start() for match in _MSH.finditer(window))]


def leading(text: bytes) -> bytes:
    """What stands before the first MSH of a file, if it may be a message: it lay in an MLLP block, looks like segments,
    or may hold a consent. Else b"".

    >>> leading(b"GET / HTTP/1.1\\r\\nHost: ehr\\r\\n\\r\\n\\x0b"), leading(b"\\0MSH|^~\\\\&|EHR\\rPID|1||7\\r")
    (b'', b'\\x00MSH|^~\\\\&|EHR\\rPID|1||7')
    """
    held = _BATCH_LINE.sub(b"", text).replace(BOM, b"").replace(b"\0", b"")
    framed = b"\x0b" in held.rstrip(_FRAMING) or _END_OF_BLOCK in held.lstrip(_FRAMING)
    return text.strip(_FRAMING) if framed or _LEFT.search(held) or may_hold_consent(held) else b""


def cut(form: Format, window: bytes, pieces: Iterable[tuple[int, int]], base: int) -> list[Message]:
    """Cut messages out of `window`, whose first byte is byte `base` of its file.

    A piece is (where a message starts, where the next one starts); the byte before a start belongs to neither. Lines
    without content are left out.
    """
    bare = _without_batch if form is Format.HL7 else bytes.strip
    new = tuple.__new__  # a third of the time of Message(…), and there is one for each line
    messages = [
        new(Message, (body, base + start, None))
        for start, following in pieces
        if (body := bare(window[start : following - 1].removeprefix(BOM)))
    ]
    if form is Format.HL7 and _END_OF_BLOCK in window:
        return [
            part
            for message in messages
            for part in _at_end_of_block(message, len(BOM) * window.startswith(BOM, message.position - base))
        ]
    return messages


def _at_end_of_block(message: Message, mark: int) -> list[Message]:
    """The message up to the end of its block, and what stands behind it, if anything does: it is part of no message.
    `mark`: the length of the byte order mark in front."""
    end = _ENDED.search(message.body)
    if end is None:
        return [message]
    body, rest = message.body[: end.start()], message.body[end.end() :]
    behind = rest.lstrip(_FRAMING)
    while behind.startswith(BOM):
        behind = behind.removeprefix(BOM).lstrip(_FRAMING)
    position = message.position + mark + len(body) + 1 + len(rest) - len(behind)
    behind = behind.rstrip(_FRAMING)
    return [Message(body.rstrip(_FRAMING), message.position), *([Message(behind, position)] if behind else [])]


def _without_batch(message: bytes) -> bytes:
    """Take off what frames a message at its end: 0x1C, line ends, and the lines of a batch (BTS FTS FHS BHS at most).

    >>> _without_batch(b"MSH|1\\rPID|2\\rBTS|1\\rFTS|1\\r")
    b'MSH|1\\rPID|2'
    """
    message = message.rstrip(_FRAMING)
    for _ in _BATCH:
        line = max(message.rfind(b"\r"), message.rfind(b"\n")) + 1
        if message[line : line + 3] not in _BATCH or message[line + 3 : line + 4] not in (b"", message[3:4]):
            break
        message = message[:line].rstrip(_FRAMING)
    return message
