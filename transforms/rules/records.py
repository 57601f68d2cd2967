"""Record keys and what is derived from them: the names that a CRM knows a patient and a visit by.

Rule source: 45 CFR 164.514(c): a re-identification code is not derived from information about the individual, so the
record key is random; what is derived from it tells nothing without it.
"""

from schemas.opaque import opaque
from transforms.rules.digests import Mac


def scope_of(destination: str, purpose: str) -> str:
    """The vault's scope: two of them share no record key."""
    return f"{destination}|{purpose}"


class Names:
    """What is derived from one record key."""

    __slots__ = ("_mac", "_record_key")

    def __init__(self, record_key: bytes) -> None:
        self._record_key = record_key
        self._mac = Mac(record_key)

    @property
    def subject(self) -> str:
        """The presentation token of the patient: it may rotate, the record key stays."""
        return opaque(self._mac.name(b"subject"))

    def patient_record(self, apart: str = "") -> str:
        """The key of the CRM record that stands for the patient: the record key itself. `apart` names the route whose
        records are others than those of its destination and purpose."""
        return opaque(self._mac.name(f"patient\x1f{apart}".encode()) if apart else self._record_key)

    def visit_record(self, visit: str, kind: str) -> str:
        """The key of the CRM record that stands for one visit's milestone."""
        return opaque(self._mac.name(f"visit\x1f{kind}\x1f{visit}".encode()))
