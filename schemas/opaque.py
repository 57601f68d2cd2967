"""Opaque identifiers: how random or keyed bytes are written wherever Limen writes them.

Sixteen lower-case consonants stand for the sixteen hexadecimal digits. Such a word can hold no number and no name by
chance, so that a scan of the outputs for identifiers has no false alarm and needs no exception list.
"""

from binascii import hexlify, unhexlify
from collections.abc import Sequence

ALPHABET = b"bcdfghjkmnpqrstz"
_TO = bytes.maketrans(b"0123456789abcdef", ALPHABET)
_FROM = bytes.maketrans(ALPHABET, b"0123456789abcdef")


def opaque(value: bytes) -> str:
    """Write bytes as consonants, two a byte.

    >>> opaque(b"\\x00\\xff")
    'bbzz'
    """
    return hexlify(value).translate(_TO).decode("ascii")


def opaques(values: Sequence[bytes]) -> list[str]:
    """`opaque` of each of many equally long values, at a fraction of the price.

    >>> opaques([b"\\x00", b"\\xff"])
    ['bb', 'zz']
    """
    width = 2 * len(values[0]) if values else 1
    text = opaque(b"".join(values))
    if len(text) != width * len(values):
        raise ValueError("not equally long")
    return [text[start : start + width] for start in range(0, len(text), width)]


def plain(text: str) -> bytes:
    """Read back what `opaque` wrote. Raises ValueError (without the text) if it is none."""
    try:
        raw = text.encode("ascii")
        if raw.strip(ALPHABET):
            raise ValueError
        return unhexlify(raw.translate(_FROM))
    except ValueError:
        raise ValueError("not an opaque identifier") from None
