"""By which channel a patient would rather be reached: its kind alone, never a number or an address.

The contact of the lowest rank counts; without ranks the first whose kind is told. Sources: FHIR R4 ContactPoint
(system, use, rank); HL7 v2.8 PID-13 (the first is the primary one) and XTN: use (XTN.2, table 0201), equipment (XTN.3,
table 0202), preference order (XTN.18).
"""

from collections.abc import Iterable

from transforms.rules.hl7 import Repetition

UNRANKED = 1_000_000
_SYSTEMS = {"phone": "phone", "sms": "mobile", "email": "email"}
_EQUIPMENT = {"PH": "phone", "CP": "mobile", "INTERNET": "email", "X.400": "email"}
_USES = {"PRN": "phone", "ORN": "phone", "WPN": "phone", "NET": "email"}  # where no equipment is named
_GONE = frozenset({"old", "temp"})


def of_fhir(telecom: object) -> str:
    """The channel of a Patient.telecom, "" if none can be told. What has not the form of the standard tells nothing."""
    best, place = "", UNRANKED + 1
    for one in telecom if isinstance(telecom, list) else ():
        if not isinstance(one, dict) or str(one.get("use")) in _GONE or one.get("period") is not None:
            continue
        system, rank = one.get("system"), one.get("rank")
        channel = _SYSTEMS.get(system, "") if isinstance(system, str) else ""
        if channel == "phone" and one.get("use") == "mobile":
            channel = "mobile"
        rank = rank if type(rank) is int and rank > 0 else UNRANKED
        if channel and rank < place:
            best, place = channel, rank
    return best


def of_hl7(repetitions: Iterable[Repetition]) -> str:
    """The channel of PID-13 and PID-14, "" if none can be told."""
    best, place = "", UNRANKED + 1
    for one in repetitions:
        equipment, order = one.value(3), one.value(18)
        channel = _EQUIPMENT.get(equipment.upper(), "") if equipment else _USES.get(one.value(2), "")
        rank = int(order) if order.isdecimal() and order.isascii() and len(order) < 4 else UNRANKED
        if channel and rank < place:
            best, place = channel, rank
    return best
