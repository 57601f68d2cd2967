"""What each HL7 v2 trigger event means here: one closed table over ADT A01-A18, A21-A55, A60-A62, SIU S12-S17, S26.

A trigger that is not in it is unrouted, and so is one that means nothing here: in doubt a message states no milestone.
Sources: HL7 v2.8 chapter 3, section 3.3 (ADT), and chapter 10, section 10.4 (SIU); HL7 table 0278 (filler status).
docs/hl7.md says the same to people, row by row.
"""

from enum import StrEnum
from typing import NamedTuple

from schemas.event import Kind


class Means(StrEnum):
    MILESTONE = "milestone"  # states the one kind
    CANCELLATION = "cancellation"  # takes the kinds back, of its visit and up to its time
    DEMOGRAPHICS = "demographics"  # who the patient is; nothing of it crosses
    IDENTITY = "identity"  # merge, move, link, unlink, new identifier, delete: told to every side, all go to review
    NOTHING = "nothing"  # no purpose asks for it


class Trigger(NamedTuple):
    """`kinds`: the milestone that is stated, or those that are taken back; the first says where the event is routed."""

    means: Means
    kinds: tuple[Kind, ...] = ()


def _stated(kind: Kind) -> Trigger:
    return Trigger(Means.MILESTONE, (kind,))


def _withdrawn(*kinds: Kind) -> Trigger:
    return Trigger(Means.CANCELLATION, kinds)


def _all(means: Means, *numbers: int) -> dict[str, Trigger]:
    return {f"ADT^A{number:02}": Trigger(means) for number in numbers}


_UNBOOKED = _withdrawn(Kind.BOOKED, Kind.ATTENDED)

TRIGGERS: dict[str, Trigger] = {
    "ADT^A01": _stated(Kind.ADMITTED),
    "ADT^A03": _stated(Kind.DISCHARGED),
    "ADT^A04": _stated(Kind.REGISTERED),
    "ADT^A06": _stated(Kind.ADMITTED),  # 3.3.6: from non-admitted to admitted
    # 3.3.7: "no longer admitted". The visit goes on, so it is no discharge, but nobody may take it for an admission.
    "ADT^A07": _withdrawn(Kind.ADMITTED),
    "ADT^A11": _withdrawn(Kind.ADMITTED, Kind.REGISTERED),  # cancels A01 and A04 alike
    "ADT^A13": _withdrawn(Kind.DISCHARGED),
    "ADT^A23": _withdrawn(Kind.ADMITTED, Kind.REGISTERED, Kind.DISCHARGED),  # the visit's record is deleted
    **_all(Means.DEMOGRAPHICS, 8, 28, 31),
    **_all(Means.IDENTITY, 18, 24, 29, 30, 34, 35, 36, 37, *range(39, 52)),  # 29: the person's record is deleted
    # Transfers, tracking, leaves, swaps of beds, doctors, allergies; plans, which the patient may never come to; and
    # what cancels any of these: none of them states or takes back a milestone.
    **_all(Means.NOTHING, 2, 5, 9, 10, 12, 14, 15, 16, 17, 21, 22, 25, 26, 27, 32, 33, 38, 52, 53, 54, 55, 60, 61, 62),
    "SIU^S12": _stated(Kind.BOOKED),
    "SIU^S13": _stated(Kind.BOOKED),  # made again, for another time: the newest booking of an appointment counts
    "SIU^S14": _stated(Kind.BOOKED),  # changed
    "SIU^S15": _UNBOOKED,
    "SIU^S16": _UNBOOKED,
    "SIU^S17": _UNBOOKED,
    "SIU^S26": _UNBOOKED,  # who did not come did not attend
}

# SCH-25, table 0278, in small letters without spaces: what a booking message says against its own trigger. Sites add
# words of their own to the table; those leave the trigger's meaning as it is.
_GONE = frozenset({"cancelled", "canceled", "dc", "deleted", "noshow"})
_NOT_BOOKED = frozenset({"pending", "waitlist", "blocked", "started", "complete"})


def with_status(trigger: Trigger, status: str) -> Trigger:
    """What a booking message means, given the status of the appointment."""
    word = status.replace(" ", "").lower()
    return _UNBOOKED if word in _GONE else Trigger(Means.NOTHING) if word in _NOT_BOOKED else trigger
