"""The manifest: what a run published, each file with its digest, signed. Readers trust nothing else.

The signature covers the canonical bytes of `signed`: JSON with sorted keys, no white space, as it stands in the file.
"""

from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from schemas.errors import LawBroken
from schemas.keyset import Keyset


class Published(msgspec.Struct, frozen=True):
    """One file, by its path below the output folder."""

    path: str
    sha256: str
    bytes: int


class Signed(msgspec.Struct, frozen=True):
    """What is signed. `inputs` are the content digests of the input files; `facts` the summary without its time."""

    run: str
    inputs: list[str]
    files: list[Published]
    facts: dict[str, Any]


class Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class Manifest(msgspec.Struct, frozen=True):
    """The file manifest/<run>.json."""

    signed: Signed
    signatures: list[Signature]

    @staticmethod
    def sign(signed: Signed, keyset: Keyset) -> bytes:
        """The manifest's bytes."""
        signature = Signature(keyset.keyid, keyset.sign(_canonical(signed)).hex())
        return msgspec.json.format(msgspec.json.encode(Manifest(signed, [signature]), order="sorted"), indent=1) + b"\n"

    @staticmethod
    def signers(content: bytes) -> set[str]:
        """The key ids that a manifest says it is signed by, unverified. Raises LawBroken."""
        try:
            return {signature.keyid for signature in msgspec.json.decode(content, type=Manifest).signatures}
        except msgspec.DecodeError:
            raise LawBroken("manifest_unreadable") from None

    @staticmethod
    def verified(content: bytes, public_key: bytes) -> Signed:
        """What a manifest says, if one of its signatures is by this key. Raises LawBroken."""
        try:
            manifest = msgspec.json.decode(content, type=Manifest)
        except msgspec.DecodeError:
            raise LawBroken("manifest_unreadable") from None
        key = Ed25519PublicKey.from_public_bytes(public_key)
        for signature in manifest.signatures:
            try:
                key.verify(bytes.fromhex(signature.sig), _canonical(manifest.signed))
            except (InvalidSignature, ValueError):
                continue
            return manifest.signed
        raise LawBroken("manifest_signature_invalid")


def _canonical(signed: Signed) -> bytes:
    return msgspec.json.encode(signed, order="sorted")
