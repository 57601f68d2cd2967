"""Identity: which identifier stands for a patient, which never does, and which message a message is."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import digest
from transforms.rules.identity import Identifier, idempotency_key, national_provider, patient_key, preferred

TYPES = ("MR", "MRN", "EPI", "PI", "")
MAIN = "urn:id:MAIN"


def one(value: str = "1", kind: str = "MR", system: str = MAIN) -> Identifier:
    return Identifier(system, value, kind)


# --- Whose --------------------------------------------------------------------------------------------------------

PREFERRED = [
    ("the policy's order outweighs the message's", [one("1", "PI"), one("2", "MR")], "2"),
    ("the first of one type", [one("1"), one("2")], "1"),
    ("untyped comes last", [one("1", ""), one("2", "PI")], "2"),
    ("untyped is better than none", [one("1", "")], "1"),
    ("an account number is no patient", [one("1", "AN")], ""),
    ("a type of another system is unknown", [one("1", "?")], ""),
    ("a value is needed: the next one has it", [one(""), one("2")], "2"),
    ("a system is needed", [one("1", system="")], ""),
    ("a control character in a value", [one("1\x1f2")], ""),
    ("a line end in a value", [one("1\r")], ""),
    ("a mark that turns the reading direction", [one("1\u202e2")], ""),
    ("a control character in a system", [one(system="urn:\x1fid")], ""),
    ("none at all", [], ""),
    ("a social security number", [one("123-45-6789", "SS")], ""),
    ("its system as HL7 table 0363 names it", [one("123-45-6789", "MR", "urn:id:USSSA")], ""),
    ("its system in small letters", [one("123-45-6789", "MR", "urn:id:ssa")], ""),
    ("its system in letters of both kinds", [one("123-45-6789", "MR", "HTTP://hl7.org/fhir/sid/US-SSN")], ""),
    ("its system as an OID", [one("123-45-6789", "", "urn:oid:2.16.840.1.113883.4.1")], ""),
    ("its system as FHIR names it", [one("123-45-6789", "MR", "http://hl7.org/fhir/sid/us-ssn")], ""),
    ("beside a number that may be used", [one("123-45-6789", "SS"), one("2", "PI")], "2"),
]


@pytest.mark.parametrize("found, value", [pytest.param(*case, id=name) for name, *case in PREFERRED])
def test_preferred(found: list[Identifier], value: str) -> None:
    assert preferred(found, TYPES) == (f"{MAIN}\x1f{value}" if value else "")


def test_a_social_security_number_never_identifies_whatever_the_policy_lists() -> None:
    assert preferred([one("1", kind) for kind in ("SS", "SSN", "SB")], ("SS", "SSN", "SB", *TYPES)) == ""


@given(st.lists(st.builds(one, st.sampled_from("123"), st.sampled_from((*TYPES, "SS", "AN", "?"))), max_size=5))
def test_the_best_type_wins_in_any_order(found: list[Identifier]) -> None:
    usable = [identifier.type for identifier in found if identifier.type in TYPES]
    for order in itertools.permutations(found):
        key = preferred(order, TYPES)
        assert bool(key) == bool(usable)
        if key:
            best = min(usable, key=TYPES.index)
            assert any(key.endswith(f"\x1f{i.value}") and i.type == best for i in found)


@given(st.tuples(*[st.text(max_size=4)] * 2), st.tuples(*[st.text(max_size=4)] * 2))
def test_two_patients_never_share_a_key(left: tuple[str, str], right: tuple[str, str]) -> None:
    if left != right and patient_key(*left):
        assert patient_key(*left) != patient_key(*right)


def test_an_identifier_prints_nothing() -> None:
    assert repr([one("12345")]) == "[Identifier()]"


# --- National Provider Identifiers ----------------------------------------------------------------------------------

NPI = [
    ("the example of CMS", "1234567893", True),
    ("one that begins with 2", "2000000002", True),
    ("a wrong check digit", "1234567890", False),
    ("two figures changed places", "1234576893", False),
    ("one that begins with 3, which none does", "3000000001", False),
    ("nine figures", "123456789", False),
    ("eleven figures", "12345678933", False),
    ("letters", "12345678A3", False),
    ("figures of another script", "١٢٣٤٥٦٧٨٩٣", False),
    ("a space behind it", "1234567893 ", False),
    ("nothing", "", False),
]


@pytest.mark.parametrize("value, valid", [pytest.param(*case, id=name) for name, *case in NPI])
def test_national_provider(value: str, valid: bool) -> None:
    assert national_provider(value) == (value if valid else "")


@given(st.integers(1_000_000_000, 2_999_999_999))
def test_the_check_digit_is_that_of_luhn_over_the_prefix(number: int) -> None:
    total = 0
    for place, figure in enumerate(reversed(f"80840{number}")):
        doubled = int(figure) * (1 + place % 2)
        total += doubled // 10 + doubled % 10
    assert bool(national_provider(str(number))) == (total % 10 == 0)


# --- Which message --------------------------------------------------------------------------------------------------

PARTS = {"source": "hospital", "kind": "ADT^A01", "patient": "p", "native": "M1", "version": "2024", "content": b"c"}


def key(**parts: object) -> bytes:
    return idempotency_key(**{**PARTS, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["source", "kind", "patient", "native", "version"])
def test_every_part_counts(part: str) -> None:
    assert key(**{part: "other"}) != key()


def test_a_native_id_outweighs_the_content() -> None:
    assert key(content=b"other") == key(), "a changed copy of a message must be seen to conflict with the first"


def test_without_a_native_id_the_content_decides() -> None:
    assert key(native="") == key(native="")
    assert key(native="", content=b"other") != key(native="")


def test_parts_do_not_run_together() -> None:
    assert key(source="ab", kind="c") != key(source="a", kind="bc")
    assert len({digest("ab"), digest("a", "b"), digest(b"ab"), digest(("ab",)), digest("ab", None)}) == 5
