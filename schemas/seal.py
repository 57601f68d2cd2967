"""Sealing: bytes that the job can close and cannot open again (HPKE, RFC 9180, base mode, single shot).

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305. Form: one version byte, the 32-byte encapsulated key,
the ciphertext with its 16-byte tag. `info` binds a sealed form to its use, so that one opened for review cannot be
passed off as quarantine.
"""

from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from schemas.errors import StoreError

QUARANTINE_INFO = b"limen/quarantine/v1"
REVIEW_INFO = b"limen/review/v1"

_VERSION = b"\x01"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)


def seal(plaintext: bytes, public_key: bytes, info: bytes) -> bytes:
    """Seal to an X25519 public key (32 raw bytes). Random: the same plaintext never looks the same twice.

    Raises StoreError("seal_failed") for a key that cannot be sealed to.
    """
    try:
        return _VERSION + _SUITE.encrypt(plaintext, X25519PublicKey.from_public_bytes(public_key), info)
    except ValueError:
        raise StoreError("seal_failed") from None


def unseal(sealed: bytes, private_key: bytes, info: bytes) -> bytes:
    """Open what `seal` made for this X25519 private key (32 raw bytes) and this `info`.

    Raises StoreError("unseal_failed"), which does not say what was wrong: version, key, info or bytes.
    """
    try:
        if sealed[:1] != _VERSION:
            raise ValueError
        return _SUITE.decrypt(sealed[1:], X25519PrivateKey.from_private_bytes(private_key), info)
    except (InvalidTag, ValueError):
        raise StoreError("unseal_failed") from None


class Quarantined(msgspec.Struct, frozen=True, array_like=True):
    """A message that could not be read, as it lies in a sealed file: whence, why (`schemas.outcome.Reason`), its bytes.

    `file` is the content digest (hex) of the file it came in, `position` its byte offset there.
    """

    file: str
    position: int
    reason: str
    body: bytes

    def __repr__(self) -> str:
        return "Quarantined()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # msgspec's own shows every field in a rich traceback
        return []

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def decode(plaintext: bytes) -> "Quarantined":
        """Read what `encode` wrote. Raises StoreError("quarantined_unreadable")."""
        try:
            return msgspec.msgpack.decode(plaintext, type=Quarantined)
        except msgspec.DecodeError:
            raise StoreError("quarantined_unreadable") from None
