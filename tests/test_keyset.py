"""Keys: derivation, signing, the stored form, and where it never goes."""

import copy
import hmac
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from schemas.errors import StoreError
from schemas.keyset import KeyPurpose, Keyset

# RFC 8032 section 7.1, test 1.
SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
SIGNATURE = bytes.fromhex(
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
KEYSET = Keyset(1, bytes(range(32)), SEED, b"\x03" * 32, b"\x04" * 32)


# --- Derivation --------------------------------------------------------------


def test_derivation_is_hkdf_over_length_prefixed_parts() -> None:
    """RFC 5869 written out with HMAC alone: extract with a zero salt, expand one block."""
    parts = [b"limen/v1", b"alias", b"crm", b"PATSUPPORT"]
    info = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    extracted = hmac.digest(bytes(32), bytes(range(32)), "sha256")
    expected = hmac.digest(extracted, info + b"\x01", "sha256")
    assert KEYSET.derive(KeyPurpose.ALIAS, "crm", "PATSUPPORT") == expected
    assert KEYSET.derive(KeyPurpose.ALIAS, "crm", "PATSUPPORT", length=16) == expected[:16]


def test_derivation_never_changes() -> None:
    """A changed value here gives every patient new identifiers: raise the keyset's version instead."""
    assert KEYSET.derive(KeyPurpose.PATIENT).hex() == "61584bebfce5f96e8334e99200a187e0fd7604359646074dcbf4dc3669cc4e35"


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(KEYSET.derive(KeyPurpose.ALIAS, "crm", "B", "c"), id="purpose of use"),
        pytest.param(KEYSET.derive(KeyPurpose.ALIAS, "crmA", "b", "c"), id="parts moved"),
        pytest.param(KEYSET.derive(KeyPurpose.ALIAS, "crm", "Ab", "c"), id="parts joined"),
        pytest.param(KEYSET.derive(KeyPurpose.ALIAS, "crm", "A"), id="a part less"),
        pytest.param(KEYSET.derive(KeyPurpose.AUDIT, "crm", "A", "bc"), id="purpose"),
        pytest.param(
            Keyset(2, *(getattr(KEYSET, name) for name in ("master", "signing", "quarantine", "review"))).derive(
                KeyPurpose.ALIAS, "crm", "A", "bc"
            ),
            id="version",
        ),
    ],
)
def test_every_context_has_its_own_key(other: bytes) -> None:
    assert KEYSET.derive(KeyPurpose.ALIAS, "crm", "A", "bc") != other


@given(*[st.lists(st.text(min_size=1), min_size=2, max_size=4)] * 2)
def test_two_contexts_meet_only_if_they_are_one(one: list[str], other: list[str]) -> None:
    assert (KEYSET.derive(KeyPurpose.ALIAS, *one) == KEYSET.derive(KeyPurpose.ALIAS, *other)) == (one == other)


@pytest.mark.parametrize(
    "context",
    [pytest.param((), id="none"), pytest.param(("crm",), id="no purpose"), pytest.param(("", "A"), id="empty")],
)
def test_there_is_no_default_context(context: tuple[str, ...]) -> None:
    with pytest.raises(StoreError, match="^key_context_missing$"):
        KEYSET.derive(KeyPurpose.ALIAS, *context)


def test_an_empty_part_is_refused_where_context_is_optional() -> None:
    with pytest.raises(StoreError, match="^key_context_missing$"):
        KEYSET.derive(KeyPurpose.AUDIT, "")


def test_a_key_for_anything_else_does_not_exist() -> None:
    with pytest.raises(StoreError, match="^key_purpose_unknown$"):
        KEYSET.derive("anything")  # type: ignore[arg-type]


# --- Signing -----------------------------------------------------------------


def test_signs_as_rfc_8032() -> None:
    assert KEYSET.public_key == PUBLIC
    assert KEYSET.sign(b"") == SIGNATURE
    assert KEYSET.keyid == "21fe31dfa154a261"


def test_the_public_key_as_pem_is_the_same_key() -> None:
    found = load_pem_public_key(KEYSET.public_key_pem)
    assert found.public_bytes(Encoding.Raw, PublicFormat.Raw) == PUBLIC


# --- The stored form, and where it never goes --------------------------------


def test_survives_storage() -> None:
    assert Keyset.from_bytes(KEYSET.to_bytes()) == KEYSET


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"limen_keyset": 2}, id="format of the future"),
        pytest.param({"version": 0}, id="version"),
        pytest.param({"version": 2}, id="check of another version"),
        pytest.param({"master": "AAAA"}, id="short key"),
        pytest.param({"master": "@"}, id="no base64"),
        pytest.param({"master": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}, id="another master"),
        pytest.param({"review": None}, id="null"),
        pytest.param({"extra": 1}, id="unknown field"),
    ],
)
def test_a_broken_file_is_refused(change: dict[str, Any]) -> None:
    stored = json.dumps(json.loads(KEYSET.to_bytes()) | change).encode()
    with pytest.raises(StoreError, match="^keyset_unreadable$") as caught:
        Keyset.from_bytes(stored)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("at", range(5))
def test_a_keyset_holds_whole_keys_of_a_version(at: int) -> None:
    fields: list[Any] = [1, bytes(32), bytes(32), bytes(32), bytes(32)]
    fields[at] = b"\x00" * 31 if at else 0
    with pytest.raises(StoreError, match="^keyset_unreadable$"):
        Keyset(*fields)


@pytest.mark.parametrize("stored", [b"", b"{}", b"\xff", b"[]"])
def test_no_keyset_is_refused(stored: bytes) -> None:
    with pytest.raises(StoreError, match="^keyset_unreadable$"):
        Keyset.from_bytes(stored)


@pytest.mark.parametrize("travel", [pickle.dumps, copy.copy, copy.deepcopy])
def test_never_travels(travel: Callable[[Keyset], object]) -> None:
    with pytest.raises(StoreError, match="^keyset_must_not_travel$"):
        travel(KEYSET)


def test_shows_nothing() -> None:
    assert repr(KEYSET) == str(KEYSET) == pretty_repr(KEYSET) == "Keyset()"


# --- The library, on vectors of others ---------------------------------------


def vectors(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) of a Project Wycheproof file."""
    corpus = os.environ.get("LIMEN_CORPUS")
    if not corpus:
        pytest.skip("LIMEN_CORPUS is not set")
    for group in json.loads((Path(corpus) / "wycheproof" / f"{name}_test.json").read_bytes())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def test_hkdf_vectors() -> None:
    seen = {"valid": 0, "invalid": 0}
    for _, test in vectors("hkdf_sha256"):
        ikm, salt, info, okm = (bytes.fromhex(test[name]) for name in ("ikm", "salt", "info", "okm"))
        seen[test["result"]] += 1
        if test["result"] == "valid":
            hkdf = HKDF(algorithm=SHA256(), length=test["size"], salt=salt or None, info=info)
            assert hkdf.derive(ikm) == okm, test["tcId"]
        else:
            with pytest.raises(ValueError):
                HKDF(algorithm=SHA256(), length=test["size"], salt=salt or None, info=info)
    assert all(seen.values())


def test_hmac_vectors() -> None:
    seen = {"valid": 0, "invalid": 0}
    for group, test in vectors("hmac_sha256"):
        tag = hmac.digest(bytes.fromhex(test["key"]), bytes.fromhex(test["msg"]), "sha256")[: group["tagSize"] // 8]
        assert (tag == bytes.fromhex(test["tag"])) == (test["result"] == "valid"), test["tcId"]
        seen[test["result"]] += 1
    assert all(seen.values())


def test_ed25519_vectors() -> None:
    seen = {"valid": 0, "invalid": 0}
    for group, test in vectors("ed25519"):
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(group["publicKey"]["pk"]))
        try:
            public.verify(bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
            result = "valid"
        except InvalidSignature:
            result = "invalid"
        assert result == test["result"], test["tcId"]
        seen[result] += 1
    assert all(seen.values())
