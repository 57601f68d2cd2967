"""Sealing: an independent RFC 9180 opener reads what we seal, and nothing else opens it."""

import hmac
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from schemas.errors import StoreError
from schemas.outcome import Reason
from schemas.seal import QUARANTINE_INFO, REVIEW_INFO, Quarantined, seal, unseal

PRIVATE = bytes(range(1, 33))
PUBLIC = X25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()
SEALED = seal(b"a message", PUBLIC, QUARANTINE_INFO)


# --- RFC 9180 written out, base mode, one message ----------------------------

KEM_SUITE = b"KEM" + (0x0020).to_bytes(2, "big")
HPKE_SUITE = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0003))


def labeled_extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + key, "sha256")


def labeled_expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(key, labeled + b"\x01", "sha256")[:length]


def rfc_9180_open(encapsulated: bytes, ciphertext: bytes, private: bytes, info: bytes, aad: bytes = b"") -> bytes:
    receiver = X25519PrivateKey.from_private_bytes(private)
    shared = receiver.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    context = encapsulated + receiver.public_key().public_bytes_raw()
    secret = labeled_expand(
        KEM_SUITE, labeled_extract(KEM_SUITE, b"", b"eae_prk", shared), b"shared_secret", context, 32
    )
    schedule = b"\x00" + b"".join(
        labeled_extract(HPKE_SUITE, b"", label, value) for label, value in ((b"psk_id_hash", b""), (b"info_hash", info))
    )
    key_secret = labeled_extract(HPKE_SUITE, secret, b"secret", b"")
    key = labeled_expand(HPKE_SUITE, key_secret, b"key", schedule, 32)
    nonce = labeled_expand(HPKE_SUITE, key_secret, b"base_nonce", schedule, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)


def test_the_opener_reads_the_vector_of_rfc_9180() -> None:
    """Appendix A.2.1, sequence number 0."""
    assert rfc_9180_open(
        bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
        bytes.fromhex("1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"),
        bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"),
        bytes.fromhex("4f6465206f6e2061204772656369616e2055726e"),
        b"Count-0",
    ) == bytes.fromhex("4265617574792069732074727574682c20747275746820626561757479")


@given(st.binary(max_size=300))
def test_the_opener_reads_what_we_seal(plaintext: bytes) -> None:
    sealed = seal(plaintext, PUBLIC, REVIEW_INFO)
    assert sealed[:1] == b"\x01"
    assert rfc_9180_open(sealed[1:33], sealed[33:], PRIVATE, REVIEW_INFO) == plaintext
    assert unseal(sealed, PRIVATE, REVIEW_INFO) == plaintext


# --- What does not open ------------------------------------------------------


def flipped(position: int) -> bytes:
    return SEALED[:position] + bytes([SEALED[position] ^ 1]) + SEALED[position + 1 :]


@pytest.mark.parametrize(
    "open_it",
    [
        pytest.param(lambda: unseal(SEALED, PRIVATE, REVIEW_INFO), id="another use"),
        pytest.param(lambda: unseal(SEALED, bytes(range(32)), QUARANTINE_INFO), id="another key"),
        pytest.param(lambda: unseal(SEALED, PRIVATE[:31], QUARANTINE_INFO), id="no key"),
        pytest.param(lambda: unseal(b"", PRIVATE, QUARANTINE_INFO), id="nothing"),
        pytest.param(lambda: unseal(b"\x01", PRIVATE, QUARANTINE_INFO), id="version alone"),
        pytest.param(lambda: unseal(b"\x02" + SEALED[1:], PRIVATE, QUARANTINE_INFO), id="another version"),
        pytest.param(lambda: unseal(SEALED[:-1], PRIVATE, QUARANTINE_INFO), id="cut"),
        pytest.param(lambda: unseal(SEALED + b"\x00", PRIVATE, QUARANTINE_INFO), id="longer"),
        pytest.param(lambda: unseal(b"\x01" + bytes(64), PRIVATE, QUARANTINE_INFO), id="low-order point"),
    ],
)
def test_does_not_open(open_it: Callable[[], bytes]) -> None:
    with pytest.raises(StoreError, match="^unseal_failed$") as caught:
        open_it()
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("position", range(len(SEALED)))
def test_no_byte_can_change(position: int) -> None:
    with pytest.raises(StoreError, match="^unseal_failed$"):
        unseal(flipped(position), PRIVATE, QUARANTINE_INFO)


def test_the_same_message_never_looks_the_same() -> None:
    assert seal(b"a message", PUBLIC, QUARANTINE_INFO) != SEALED
    assert b"a message" not in SEALED


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32)])
def test_a_key_that_cannot_be_sealed_to(public: bytes) -> None:
    with pytest.raises(StoreError, match="^seal_failed$"):
        seal(b"a message", public, QUARANTINE_INFO)


# --- What lies in quarantine -------------------------------------------------

ITEM = Quarantined(file="d1e2", position=7, reason=Reason.MALFORMED, body=b"MSH|^~\\&|\xff\x00")


def test_a_quarantined_message_comes_back_whole() -> None:
    back = Quarantined.decode(ITEM.encode())
    assert back == ITEM
    assert Reason(back.reason) is Reason.MALFORMED


@pytest.mark.parametrize("plaintext", [b"", b"\xff", b"\x90", ITEM.encode()[:-1]])
def test_what_is_no_quarantined_message(plaintext: bytes) -> None:
    with pytest.raises(StoreError, match="^quarantined_unreadable$") as caught:
        Quarantined.decode(plaintext)
    assert caught.value.__suppress_context__


def test_a_quarantined_message_shows_nothing() -> None:
    assert repr(ITEM) == str(ITEM) == pretty_repr(ITEM) == "Quarantined()"
