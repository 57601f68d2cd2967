"""Opaque identifiers: how random or keyed bytes are written wherever Limen writes them.

Sixteen lower-case consonants stand for the sixteen hexadecimal digits. Such a word can hold no number and no name by
chance, so that a scan of the outputs for identifiers has no false alarm and needs no exception list.
"""

from binascii import hexlify, unhexlify

ALPHABET = b"bcdfghjkmnpqrstz"
_TO = bytes.maketrans(b"0123456789abcdef", ALPHABET)
_FROM = bytes.maketrans(ALPHABET, b"0123456789abcdef")


def opaque(value: bytes) -> str:
    """Write bytes as consonants, two a byte.

    >>> opaque(b"\\x00\\xff")
    'bbzz'
    """
    return hexlify(value).translate(_TO).decode("ascii")


def plain(text: str) -> bytes:
    """Read back what `opaque` wrote. Raises ValueError (without the text) if it is none."""
    try:
        raw = text.encode("ascii")
        if raw.strip(ALPHABET):
            raise ValueError
        return unhexlify(raw.translate(_FROM))
    except ValueError:
        raise ValueError("not an opaque identifier") from None
