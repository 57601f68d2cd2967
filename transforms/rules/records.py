"""Record keys and what is derived from them: the names that a CRM knows a patient and a visit by.

Rule source: 45 CFR 164.514(c): a re-identification code is not derived from information about the individual, so the
record key is random; what is derived from it tells nothing without it.
"""

from schemas.opaque import opaque
from transforms.rules.digests import keyed


def scope_of(destination: str, purpose: str) -> str:
    """The vault's scope: two of them share no record key."""
    return f"{destination}|{purpose}"


def subject(record_key: bytes) -> str:
    """The presentation token of a patient: it may rotate, the record key stays."""
    return opaque(keyed(record_key, b"subject"))


def visit_record(record_key: bytes, visit: str, kind: str) -> str:
    """The key of a CRM record that stands for one visit's milestone."""
    return opaque(keyed(record_key, f"{kind}\x1f{visit}".encode()))
