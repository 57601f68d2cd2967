"""The keyset: the one secret from which every key of a run is derived, and the public keys that it seals to.

Derivation is HKDF-SHA256 (RFC 5869) without salt, as section 3.1 allows for a uniformly random input key. `info` is a
list of length-prefixed parts, so that no two (version, purpose, context) lists can ever meet in one byte string.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.errors import StoreError

KEY_BYTES = 32


def keyid_of(public_key: bytes) -> str:
    """Names a verification key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public_key).hexdigest()[:16]


class KeyPurpose(StrEnum):
    """What a derived key is for. Closed: a key for anything else does not exist."""

    PATIENT = "patient"  # HMAC of patient keys: shards, ledger, keyed state
    VAULT_FINGERPRINT = "vault_fingerprint"  # HMAC by which the vault finds a patient
    VAULT_WRAP = "vault_wrap"  # wraps the vault's per-patient data keys
    LEDGER = "ledger"  # seals the timelines between two runs
    ALIAS = "alias"  # whatever leaves: ids, correlation ids, consent references, keyed tokens
    AUDIT = "audit"  # event references in the audit log
    QUARANTINE_NAME = "quarantine_name"  # names of sealed files
    REVIEW = "review"  # seals whom a reviewer's verdict is about


# Fewest context parts. What leaves is keyed per destination and purpose, so that two destinations can join nothing.
_CONTEXT_PARTS: Mapping[KeyPurpose, int] = MappingProxyType({KeyPurpose.ALIAS: 2})


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """The keyset as JSON; bytes are base64. `check` finds damage: another key would silently rename everyone."""

    limen_keyset: Literal[1]
    version: int
    master: bytes
    signing: bytes
    quarantine: bytes
    review: bytes
    check: bytes


@dataclass(frozen=True, repr=False)
class Keyset:
    """Keys of one version. Never pickled: a Beam graph carries a reference (`pipelines.keys.KeysetRef`) instead.

    `version` counts from 1 and is part of every derivation. `master` is the input key of HKDF, `signing` an Ed25519
    seed (RFC 8032), `quarantine` and `review` X25519 public keys (RFC 7748); each is 32 raw bytes.
    Raises StoreError("keyset_unreadable") if one is not.
    """

    version: int
    master: bytes
    signing: bytes
    quarantine: bytes
    review: bytes

    def __post_init__(self) -> None:
        if self.version < 1 or any(len(key) != KEY_BYTES for key in self._keys()):
            raise StoreError("keyset_unreadable")

    def __repr__(self) -> str:
        return "Keyset()"

    def __reduce__(self) -> NoReturn:
        raise StoreError("keyset_must_not_travel")

    def derive(self, purpose: KeyPurpose, *context: str, length: int = KEY_BYTES) -> bytes:
        """The key of `length` bytes for a purpose in a context, the same for ever.

        Raises StoreError("key_purpose_unknown"), and StoreError("key_context_missing") for an empty part or too few:
        there is no default context.
        """
        try:
            purpose = KeyPurpose(purpose)
        except ValueError:
            raise StoreError("key_purpose_unknown") from None
        if len(context) < _CONTEXT_PARTS.get(purpose, 0) or not all(context):
            raise StoreError("key_context_missing")
        parts = [part.encode() for part in (f"limen/v{self.version}", purpose, *context)]
        info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(self.master)

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature, 64 bytes."""
        return self._signer().sign(message)

    @property
    def public_key(self) -> bytes:
        """The Ed25519 verification key, 32 raw bytes."""
        return self._signer().public_key().public_bytes_raw()

    @property
    def public_key_pem(self) -> bytes:
        """The Ed25519 verification key as PEM (RFC 8410), for the auditors' folder."""
        return self._signer().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def keyid(self) -> str:
        """Names the verification key."""
        return keyid_of(self.public_key)

    def to_bytes(self) -> bytes:
        """The keyset as JSON, secrets included: for a file that its owner alone may read."""
        stored = _Stored(1, self.version, *self._keys(), self._check())
        return msgspec.json.format(msgspec.json.encode(stored), indent=2)

    @staticmethod
    def from_bytes(stored: bytes) -> "Keyset":
        """Read what `to_bytes` wrote. Raises StoreError("keyset_unreadable")."""
        try:
            found = msgspec.json.decode(stored, type=_Stored)
        except msgspec.DecodeError:
            raise StoreError("keyset_unreadable") from None
        keyset = Keyset(found.version, found.master, found.signing, found.quarantine, found.review)
        if found.check != keyset._check():
            raise StoreError("keyset_unreadable")
        return keyset

    def _keys(self) -> tuple[bytes, bytes, bytes, bytes]:
        return self.master, self.signing, self.quarantine, self.review

    def _check(self) -> bytes:
        return hashlib.sha256(b"limen keyset %d " % self.version + b"".join(self._keys())).digest()[:8]

    def _signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.signing)
