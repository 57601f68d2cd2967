"""The versions of one consent document: which is newer, which contradict each other, and when a permit ends by them.

An ending is never overlooked for want of order: versions that cannot be compared each count as newer than the other.
Copies that differ ground nothing. A newer version ends a permit; it lifts no denial.

Sources: 45 CFR 164.508(b)(2) (a defective authorization is none), (b)(5) (revocation); FHIR R4 Consent.id, .meta and
.status; DESIGN section 3, Consent.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from schemas.event import Consent, Says
from schemas.instant import BEGINNING, DAY

ENDINGS = frozenset({Says.DENY, Says.ENDS, Says.VOID})  # what takes a permit back, from whatever source


def contradicted(consent: Consent, consents: Sequence[Consent]) -> bool:
    """Two copies of one version (or of one message) that differ ground nothing."""
    return any(
        other.what != consent.what
        and (other.key == consent.key or (other.consent == consent.consent and other.version == consent.version))
        for other in consents
    )


def newer(other: Consent, consent: Consent) -> bool:
    """Is `other` a newer version of the same Consent? Versions of different sorts (a number, a time of update, a text)
    cannot be compared: each counts as newer than the other, so that an ending is never overlooked; nor is one that
    came by another source under the same id."""
    if other.consent != consent.consent:
        return other.says in ENDINGS and _id(other) == _id(consent)
    if other.version == consent.version:
        return False
    comparable = _comparable(other, consent)
    return not comparable or other.version > consent.version


def vague(consent: Consent) -> bool:
    """Is no day known on which it was given, only its month or year?"""
    return consent.said - consent.given >= 2 * DAY  # no day is as long


def _comparable(other: Consent, consent: Consent) -> bool:
    """Can it be told which of two versions is the newer one? Not of one that is ordered by no more than the month or
    year in which it was given, and another of that time."""
    (number, updated, _), (own_number, own_updated, _) = other.version, consent.version
    unsure = any(one.version[1] == one.given and vague(one) for one in (other, consent))
    together = other.given <= consent.said and consent.given <= other.said
    return (number < 0) == (own_number < 0) and BEGINNING not in (updated, own_updated) and not (unsure and together)


def repeated(permit: Consent, consents: Sequence[Consent]) -> set[bytes]:
    """The versions (`what`) that hold the very same permit and cannot be compared with its own, as when one system
    sends a Consent with its version and another without: whichever is the newer one, the permit stands."""
    unsure = [one for one in consents if not _comparable(one, permit)]
    name = {"key": permit.key, "version": permit.version, "what": permit.what}  # all but these must be equal
    return {one.what for one in unsure if replace(one, **name) == permit}


def _id(consent: Consent) -> str:
    """The id of a Consent whatever source it came by."""
    return consent.consent.rpartition("|")[2]


def ended(consent: Consent, consents: Sequence[Consent]) -> int | None:
    """When a permit ends, its newer versions counted; None if one of them takes it back from the start, or if the law
    does not let it permit anything."""
    end = consent.end
    if end == BEGINNING:
        return None
    again = repeated(consent, consents)
    for other in consents:
        if other.what in again or not newer(other, consent):
            continue
        if other.says is Says.VOID or (other.says is Says.DENY and other.rule == 0):  # it permits nothing at all
            return None
        if other.says is Says.ENDS:
            end = min(end, other.given)
        else:  # a newer version replaces this one from when it takes effect
            end = min(end, max(other.given, other.start))
    return end
