"""Keyed digests: how audit, quarantine and CRM name things whose own names must not be guessed.

HMAC-SHA256 (RFC 2104, FIPS 198-1), cut to 16 bytes where it becomes an identifier.
"""

import hashlib
import hmac

_BLOCK = 64  # bytes, of SHA-256
_INNER, _OUTER = bytes(b ^ 0x36 for b in range(256)), bytes(b ^ 0x5C for b in range(256))


class Mac:
    """HMAC-SHA256 under one key of at most 64 bytes.

    RFC 2104's two hashes are keyed once and copied for each message: a third of the price of `hmac.digest`, where the
    job names millions of things. Tested against the standard library's.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        padded = key.ljust(_BLOCK, b"\0")
        if len(padded) != _BLOCK:
            raise ValueError("key too long")
        self._inner = hashlib.sha256(padded.translate(_INNER))
        self._outer = hashlib.sha256(padded.translate(_OUTER))

    def names(self, message: bytes) -> bytes:
        """32 bytes: two independent names of 16 bytes at the price of one."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def name(self, message: bytes) -> bytes:
        """16 bytes that stand for the message."""
        return self.names(message)[:16]


def keyed(key: bytes, message: bytes) -> bytes:
    """As `Mac.name`, for a key that is used once."""
    return hmac.digest(key, message, "sha256")[:16]
