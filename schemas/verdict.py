"""A reviewer's verdict as it travels: a CloudEvents 1.0 envelope, signed, its patient for the hospital's job alone.

    limen.review.verdict.v1
      data.signed      item, route, reason, verdict, by, role, because, said, matter
      data.signatures  keyid and Ed25519 signature (RFC 8032) over the type, a line feed and the canonical bytes of
                       `signed` (JSON, sorted keys, no white space); the type keeps it from passing for a manifest's

`matter` is what the verdict is about (patient key, milestone, question), sealed with AES-256-GCM (NIST SP 800-38D)
under a key of the keyset. Nothing in the event is free text, so that nothing of a chart can be written into it.
"""

from enum import StrEnum
from typing import Any, Literal

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.errors import MessageError
from schemas.event import digest
from schemas.keyset import KeyPurpose, Keyset
from schemas.manifest import Signature
from schemas.opaque import opaque
from schemas.outcome import Reason

TYPE = "limen.review.verdict.v1"
SOURCE = "urn:limen:review"
NONCE = 12  # bytes


class Because(StrEnum):
    """Why a reviewer decided so."""

    CONFIRMED_AT_SOURCE = "confirmed_at_source"  # the source system says that the event is right as it stands
    WRONG_AT_SOURCE = "wrong_at_source"  # the source system says that it is not
    IDENTITY_VERIFIED = "identity_verified"  # event and consent belong to one person
    IDENTITY_IN_DOUBT = "identity_in_doubt"  # that cannot be told
    CONSENT_READ = "consent_read"  # the document was read, and does not speak against it
    CONSENT_SPEAKS_AGAINST = "consent_speaks_against"  # the document was read, and does
    GUARDIAN_CONSENTED = "guardian_consented"  # who may consent for a minor did, 45 CFR 164.502(g)(3)
    NO_GUARDIAN_CONSENT = "no_guardian_consent"  # nobody who may consent for a minor did


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a reviewer signs. `said` is RFC 3339; `matter` is sealed (base64)."""

    item: str
    route: str
    reason: Reason
    verdict: Literal["allow", "deny"]
    by: str
    role: str
    because: Because
    said: str
    matter: bytes


class Matter(msgspec.Struct, frozen=True, array_like=True):
    """What a verdict is about: whose milestone, and the question that it answers."""

    patient: str
    what: bytes
    question: str

    def __repr__(self) -> str:
        return "Matter()"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []

    def sealed(self, keyset: Keyset, nonce: bytes) -> bytes:
        """For the job alone. `nonce`: NONCE random bytes, never used again."""
        return nonce + AESGCM(_key(keyset)).encrypt(nonce, msgspec.msgpack.encode(self), TYPE.encode())


class _Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    signed: Said
    signatures: list[Signature]


class _Event(msgspec.Struct, frozen=True):
    id: str
    time: str
    data: _Data
    specversion: str = "1.0"
    source: str = SOURCE
    type: str = TYPE
    datacontenttype: str = "application/json"


def event(said: Said, keyset: Keyset) -> bytes:
    """The event as one line."""
    signed = _canonical(said)
    data = _Data(said, [Signature(keyset.keyid, keyset.sign(signed).hex())])
    return msgspec.json.encode(_Event(opaque(digest(signed)[:16]), said.said, data)) + b"\n"


class Notary:
    """Reads verdicts that were signed with this keyset."""

    def __init__(self, keyset: Keyset) -> None:
        self._public = Ed25519PublicKey.from_public_bytes(keyset.public_key)
        self._cipher = AESGCM(_key(keyset))

    def verified(self, data: object) -> tuple[bytes, Said, Matter]:
        """What was signed, as bytes, as what it says, and what it is about.

        Raises MessageError: INVALID_ENVELOPE if it is no verdict, INVALID_SIGNATURE if nobody here signed it.
        """
        try:
            found = msgspec.convert(data, _Data)
        except msgspec.ValidationError:
            raise MessageError(Reason.INVALID_ENVELOPE) from None
        signed = _canonical(found.signed)
        if not any(self._signed(signed, one.sig) for one in found.signatures):
            raise MessageError(Reason.INVALID_SIGNATURE)
        sealed = found.signed.matter
        try:
            plain = self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], TYPE.encode())
            return signed, found.signed, msgspec.msgpack.decode(plain, type=Matter)
        except (InvalidTag, ValueError):
            raise MessageError(Reason.INVALID_SIGNATURE) from None

    def _signed(self, message: bytes, signature: str) -> bool:
        try:
            self._public.verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True


def _canonical(said: Said) -> bytes:
    return f"{TYPE}\n".encode() + msgspec.json.encode(said, order="sorted")


def _key(keyset: Keyset) -> bytes:
    return keyset.derive(KeyPurpose.REVIEW)
