"""Who a message is about, and which message it is.

The patient key is (identifier system, value). HL7: the first of PID-3's repetitions in the order of the policy's
identifier types; a social security number never. FHIR: `subject.identifier`, else the medical record number of the
Patient in the same Bundle, else (source, reference), so that a Consent and an Encounter that name the same
`Patient/x` meet. Rule source: DESIGN section 3, Identity; identifier types: HL7 table 0203.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from schemas.event import Person, digest

SEPARATOR = "\x1f"  # between the system and the value of a patient key; neither may hold a control character
MOST_NUMBERS = 64  # of one patient to whom what only tightens is told: nobody has more
NEVER = frozenset({"SS", "SSN", "SB"})  # types that never identify here, whatever the policy lists
# The social security number as FHIR, an OID and HL7 table 0363 name its system; in small letters, looked up in any.
NEVER_SYSTEMS = frozenset(
    {"http://hl7.org/fhir/sid/us-ssn", "urn:oid:2.16.840.1.113883.4.1", "urn:id:usssa", "urn:id:ssa", "urn:id:ssn"}
)
_DOUBLED = str.maketrans("0123456789", "0246813579")  # a figure doubled, its own figures added up


class Identifier(NamedTuple):
    """An identifier as any format gives it."""

    system: str
    value: str
    type: str

    def __repr__(self) -> str:
        return "Identifier()"


def patient_key(system: str, value: str) -> str:
    """One string for (system, value), or "" if either is missing or holds a control character."""
    if not system or not value or not system.isprintable() or not value.isprintable():
        return ""
    return f"{system}{SEPARATOR}{value}"


def preferred(identifiers: Iterable[Identifier], types: Sequence[str]) -> str:
    """The patient key of the identifier whose type comes first in `types`; "" if none may be used."""
    best, rank = "", len(types)
    for system, value, kind in identifiers:
        if kind not in types or kind in NEVER or system.lower() in NEVER_SYSTEMS:
            continue
        place = types.index(kind)
        if place < rank and (key := patient_key(system, value)):
            best, rank = key, place
    return best


def usable(identifiers: Iterable[Identifier], types: Sequence[str]) -> frozenset[str]:
    """The patient key of each identifier that may be used."""
    return frozenset(preferred([one], types) for one in identifiers) - {""}


def shard_of(name: bytes, shards: int) -> int:
    """The shard of a patient, by the keyed name: even ranges of the first 32 bits."""
    return int.from_bytes(name[:4], "big") * shards >> 32


def idempotency_key(source: str, kind: str, patient: str, native: str, version: str, content: bytes) -> bytes:
    """SHA-256 over (source, type, patient key, native id, version): never the native id alone, since some senders
    repeat one constant id for ever. A missing native id is replaced by the digest of the decoded content, so that the
    same facts in another framing keep the same key."""
    return digest(source, kind, patient, native or content, version)


def beside(patient: str, kind: str, adult_at: int, died: bool) -> Person:
    """What a message tells of its patient beside what it is counted as: the same fact whatever message tells it."""
    return Person(digest("person", patient, adult_at, died), patient, kind, adult_at, died, counted=False)


def national_provider(value: str) -> str:
    """The value if it is a National Provider Identifier (10 digits, Luhn check over the prefix 80840), else "".

    Source: 45 CFR 162.406 and the CMS NPI check digit rule.
    """
    if len(value) != 10 or not value.isascii() or not value.isdigit() or value[0] not in "12":
        return ""
    return value if _adds_up(value) else ""


@lru_cache(maxsize=4096)  # a hospital's clinicians come again and again
def _adds_up(value: str) -> bool:
    total = 24 + sum(map(int, value[::2].translate(_DOUBLED) + value[1::2]))  # 24: what the constant prefix adds
    return total % 10 == 0
