"""HL7 v2 messages, versions 2.3 to 2.8: where a value stands, and nothing about what it means.

Source of the rules: HL7 v2.8 chapter 2, sections 2.5 (segments, fields, delimiters, null), 2.7 (escape sequences) and
2.14.9 (MSH); table 0211 (character sets). A message is decoded once and searched for the segments that are asked for;
fields are split when a segment is taken, components when a value is taken, and escapes are undone at the leaf only,
so that an escaped delimiter never splits.

    >>> message = read(b"MSH|^~\\\\&|EPIC\\rPID|1||42^^^NS&1.2.3&ISO^MR~7^^^X", "ASCII")
    >>> [(cx.value(1), cx.value(4, 2), cx.value(5)) for cx in message.first("PID").repeats(3)]
    [('42', '1.2.3', 'MR'), ('7', '', '')]

Numbers are HL7's: fields, components and subcomponents count from 1, MSH-1 is the field separator itself. What is
absent, and the null value, is "". Who must know the null compares `field(n) == NULL`.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from schemas.charset import JAPANESE, WIDE, codec
from schemas.errors import MessageError
from schemas.outcome import Reason

NULL: Final = '""'  # section 2.5.3: two double quotes mean "erase what you have", not "not said"

# Stands for a delimiter that MSH-2 does not declare: it ends every segment, so that no field can hold it.
_NONE: Final = "\r"
# Before a first MSH: a UTF-8 byte order mark, the MLLP start of block, blank lines.
_BEFORE: Final = b"\xef\xbb\xbf\x0b\r\n"

# A line that begins another block, or JSON: a message that no border divides from this one.
_FOREIGN: Final = re.compile(rb'\r(?:\x0b|[ \t]*[\[{]\s*["{])')

# A line that was to begin another message, whatever its delimiters: in a note a blank or a letter follows.
_ANOTHER: Final = re.compile(rb"\rMSH(?![0-9A-Za-z \t])")

# In these a character may hold the byte of a delimiter, so that MSH-18 may not be where the bytes say.
_HIDING: Final = frozenset({JAPANESE, "gb18030", "big5"})


@dataclass(frozen=True, slots=True)
class Delimiters:
    """What MSH-1 and MSH-2 declare, and what the escape sequences of the message stand for (section 2.7.1)."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str
    sequences: dict[str, str]
    charset: str
    switches: re.Pattern[str] | None  # what would switch to another charset, where MSH-18 names several


class Repetition:
    """One occurrence of a field."""

    __slots__ = ("_components", "_delimiters")

    def __init__(self, raw: str, delimiters: Delimiters) -> None:
        self._components = raw.split(delimiters.component)
        self._delimiters = delimiters

    def __repr__(self) -> str:
        return "Repetition()"

    def value(self, component: int = 1, subcomponent: int = 1) -> str:
        """The unescaped value, "" when absent or null. A component that is not divided is its own subcomponent 1."""
        components = self._components
        if component > len(components):
            return ""
        raw = components[component - 1]
        if subcomponent == 1 and raw.isalnum():  # the usual case: nothing to split, nothing to unescape
            return raw
        return _leaf(raw, subcomponent, self._delimiters)


class Segment:
    """One segment; its fields are split, nothing else is."""

    __slots__ = ("_delimiters", "_fields")

    def __init__(self, line: str, delimiters: Delimiters) -> None:
        self._fields = line.split(delimiters.field)
        self._delimiters = delimiters
        if self._fields[0] == "MSH":
            self._fields.insert(1, delimiters.field)

    def __repr__(self) -> str:
        return "Segment()"

    def field(self, n: int) -> str:
        """Field n as it was sent: escaped, with its delimiters; "" when absent. The way to MSH-1, MSH-2 and NULL."""
        return self._fields[n] if n < len(self._fields) else ""

    def repeats(self, n: int) -> list[Repetition]:
        """The repetitions of field n in order, empty ones included (their place may count); [] when absent or null."""
        raw = self.field(n)
        if not raw or raw == NULL:
            return []
        return [Repetition(one, self._delimiters) for one in raw.split(self._delimiters.repetition)]

    def value(self, n: int, component: int = 1, subcomponent: int = 1) -> str:
        """The unescaped value in the first repetition of field n, "" when absent or null."""
        fields = self._fields
        if n >= len(fields):
            return ""
        raw = fields[n]
        if not raw or raw.isalnum():  # the usual cases: nothing to split, nothing to unescape
            return raw if component == subcomponent == 1 else ""
        delimiters = self._delimiters
        if delimiters.repetition in raw:
            raw = raw.split(delimiters.repetition, 1)[0]
        if delimiters.component in raw:
            components = raw.split(delimiters.component, component)
            raw = components[component - 1] if component <= len(components) else ""
        elif component != 1:
            return ""
        return _leaf(raw, subcomponent, delimiters)

    def texts(self, n: int, *components: int) -> list[str]:
        """The unescaped values of these components in all repetitions of field n, those that are there."""
        delimiters, found = self._delimiters, []
        for one in self.field(n).split(delimiters.repetition):
            parts = one.split(delimiters.component)
            for component in components:
                if component <= len(parts) and (raw := parts[component - 1]):
                    found.append(raw if raw.isalnum() else _leaf(raw, 1, delimiters))
        return found


class Hl7Message:
    """A decoded message. `charset` is the Python codec it was read with.

    A segment is a line of three characters and a field separator. Other lines, such as the rest of a note that holds
    a bare line feed, belong to nothing. Nothing is kept of a segment that was taken: take it once.
    """

    __slots__ = ("_delimiters", "_text")

    def __init__(self, text: str, delimiters: Delimiters) -> None:
        self._text = text  # every segment stands between two carriage returns
        self._delimiters = delimiters

    @property
    def charset(self) -> str:
        return self._delimiters.charset

    def __repr__(self) -> str:
        return "Hl7Message()"

    def first(self, name: str) -> Segment | None:
        """The first segment of this name."""
        text = self._text
        at = text.find(f"\r{name}{self._delimiters.field}") + 1
        return Segment(text[at : text.index("\r", at)], self._delimiters) if at else None

    def names(self, begins: re.Pattern[str]) -> list[str]:
        """The names of segments in their order, as a pattern finds them after a carriage return: one look for all of
        them. One that is found may yet be no segment."""
        return begins.findall(self._text)

    def every(self, name: str) -> list[Segment]:
        """All segments of this name, in their order."""
        text, mark = self._text, f"\r{name}{self._delimiters.field}"
        found, at = [], text.find(mark) + 1
        while at:
            end = text.index("\r", at)
            found.append(Segment(text[at:end], self._delimiters))
            at = text.find(mark, end) + 1
        return found


def read(body: bytes, default_charset: str) -> Hl7Message:
    """Read one message, as it was cut out of a file or an MLLP frame. `default_charset` is a name of table 0211.

    Raises MessageError: MALFORMED (does not begin with MSH, or holds another message, the end of a block, or JSON),
    BAD_DELIMITERS, BAD_CHARSET (unknown, or text that switches to another one), BAD_ENCODING (bytes that the charset
    does not allow).
    """
    if not body.startswith(b"MSH"):
        body = body.lstrip(_BEFORE)
        if not body.startswith(b"MSH"):
            raise MessageError(Reason.MALFORMED)
    # Safe before decoding: no charset of the table has CR, LF or FS inside a character.
    body = b"\r%b\r" % body.replace(b"\n", b"\r")
    if 0x1C in body:
        body = body.replace(b"\x1c\r", b"\r").replace(b"\r\x0b", b"\r")  # FS CR ends an MLLP block, VT begins one
        if 0x1C in body:  # nobody knows whether the message ends there
            raise MessageError(Reason.MALFORMED)
    separator = body[4:5]
    header = body[1 : body.index(b"\r", 1)].split(separator, 18)
    if len(header) < 2:
        raise MessageError(Reason.BAD_DELIMITERS)
    declared = header[17] if len(header) > 17 else b""
    delimiters = _delimiters(separator + header[1], declared, default_charset)
    again = (b"" if len(header[1]) > 2 else b"MSH") + separator + header[1] + separator  # two alone may be data: |^~|
    if body.rfind(again) > 4 and re.search(rb"(?<!\r[FB]HS)" + re.escape(again), body[5:]):
        raise MessageError(Reason.MALFORMED)
    if body.rfind(b"MSH") > 1 and _ANOTHER.search(body, 1):
        raise MessageError(Reason.MALFORMED)
    if (0x7B in body or 0x0B in body) and _FOREIGN.search(body):
        raise MessageError(Reason.MALFORMED)
    if delimiters.charset == WIDE:
        # The bytes begin with MSH, so they are in neither UTF-16 nor UTF-32; only ASCII is beyond doubt.
        if not body.isascii():
            raise MessageError(Reason.BAD_CHARSET)
        delimiters = replace(delimiters, charset="ascii")
    try:
        text = body.decode(delimiters.charset)
    except UnicodeDecodeError:
        raise MessageError(Reason.BAD_ENCODING) from None
    if delimiters.switches and delimiters.switches.search(text):
        raise MessageError(Reason.BAD_CHARSET)
    message = Hl7Message(text, delimiters)
    if delimiters.charset in _HIDING and message.every("MSH")[0].field(18) != declared.decode("ascii", "replace"):
        raise MessageError(Reason.BAD_CHARSET)
    return message


@lru_cache(maxsize=256)
def _delimiters(characters: bytes, charsets: bytes, default_charset: str) -> Delimiters:
    """From the bytes of MSH-1 and MSH-2, and of MSH-18. What is refused is not cached: no patient's value is kept."""
    text = characters.decode("latin-1")
    # Section 2.5.4: displayable ASCII. Letters and digits would cut values apart.
    if not 2 <= len(text) <= 6 or len(set(text)) < len(text) or any(c.isalnum() or not "!" <= c <= "~" for c in text):
        raise MessageError(Reason.BAD_DELIMITERS)
    field, component, repetition, escape, subcomponent, truncation = list(text.ljust(6, _NONE))
    if len(charsets) > 200:  # no declaration is that long, and the cache holds what comes here
        raise MessageError(Reason.BAD_CHARSET)
    named = charsets.decode("latin-1").split(repetition)
    names = [name for name in named if name.strip() and name != NULL] or [default_charset]
    sequences = {"F": field, "S": component, "R": repetition, "E": escape, "T": subcomponent, "P": truncation}
    sequences = {name: stands for name, stands in sequences.items() if stands != _NONE}
    sequences |= {".br": "\n", ".sp": "\n"}
    first, *further = _codecs(names)
    mark = re.escape(escape)
    switches = re.compile(rf"\x1b|{mark}[CM][0-9A-Fa-f]{{4,6}}{mark}") if further else None  # 2.7.2, 2.7.3, ISO 2022
    return Delimiters(field, component, repetition, escape, subcomponent, sequences, first, switches)


def _codecs(names: list[str]) -> list[str]:
    """The Python codecs of the named charsets. The first one reads the message; to a further one only an escape
    sequence switches (section 2.14.9.18)."""
    codecs = list(dict.fromkeys(map(codec, names)))
    for contained in ("ascii", WIDE):  # all others contain it; `UTF-8~UNICODE`
        if len(codecs) > 1 and contained in codecs:
            codecs.remove(contained)
    known = [one for one in codecs if one is not None]
    if len(known) < len(codecs):
        raise MessageError(Reason.BAD_CHARSET)
    return known


def _leaf(raw: str, subcomponent: int, delimiters: Delimiters) -> str:
    """The value of a subcomponent of a raw component."""
    if delimiters.subcomponent in raw:
        parts = raw.split(delimiters.subcomponent, subcomponent)
        raw = parts[subcomponent - 1] if subcomponent <= len(parts) else ""
    elif subcomponent != 1:
        return ""
    if delimiters.escape in raw:
        return _unescape(raw, delimiters)
    return "" if raw == NULL else raw


def _unescape(raw: str, delimiters: Delimiters) -> str:
    """Undo the escape sequences of section 2.7. Highlighting, formatting other than line breaks, charset escapes and
    what is not in the standard stand for nothing; an escape character without a partner stands for itself."""
    parts = raw.split(delimiters.escape)  # text, sequence, text, sequence, …, text
    if len(parts) % 2 == 0:
        alone = parts.pop()
        parts[-1] += delimiters.escape + alone
    for i in range(1, len(parts), 2):
        sequence = parts[i]
        if sequence.startswith("X"):
            parts[i] = _hex(sequence[1:], delimiters.charset)
        else:
            parts[i] = delimiters.sequences.get(sequence, "")
    return "".join(parts)


def _hex(digits: str, charset: str) -> str:
    try:
        return bytes.fromhex(digits).decode(charset)
    except ValueError:  # no hexadecimal digits, or bytes that the charset does not allow
        return ""
