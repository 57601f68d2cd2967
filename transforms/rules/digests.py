"""Keyed digests: how audit, quarantine and CRM name things whose own names must not be guessed.

HMAC-SHA256 (RFC 2104, FIPS 198-1), cut to 16 bytes where it becomes an identifier.
"""

import hmac


class Mac:
    """HMAC-SHA256 under one key; the key is set up once, which is most of the cost of a short message."""

    __slots__ = ("_keyed",)

    def __init__(self, key: bytes) -> None:
        self._keyed = hmac.new(key, digestmod="sha256")

    def name(self, message: bytes) -> bytes:
        """16 bytes that stand for the message."""
        return self.names(message)[:16]

    def names(self, message: bytes) -> bytes:
        """32 bytes: two independent names of 16 bytes at the price of one."""
        mac = self._keyed.copy()
        mac.update(message)
        return mac.digest()


def keyed(key: bytes, message: bytes) -> bytes:
    """As `Mac.name`, for a key that is used once."""
    return hmac.digest(key, message, "sha256")[:16]
