"""Keyed digests: how audit, quarantine and CRM name things whose own names must not be guessed.

HMAC-SHA256 (RFC 2104, FIPS 198-1), cut to 16 bytes where it becomes an identifier.
"""

import hmac


def keyed(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA256 of a message, the first 16 bytes."""
    return hmac.digest(key, message, "sha256")[:16]

