"""Which HL7 v2 messages are specially protected, by what they state, and what a message without a milestone marks.

    MSH-4                         the unit that sends
    PV1-3, AIL-3                  the place
    PV1-10, SCH-7, SCH-8, AIS-3   the service
    PV1-16                        that the patient is a VIP
    DG1-3, PV2-3                  the diagnosis
    PV2-22, ARV                   visit protection, an access restriction: they do not say why

Sources: HL7 v2.8 chapters 3 (PV1, PV2, ARV), 6 (DG1) and 10 (SCH, AIS, AIL).
"""

import re
from collections.abc import Container, Iterable

from schemas.event import AnyFact
from schemas.policy import RESTRICTED
from transforms.rules import filters, hl7_patient
from transforms.rules.hl7 import Hl7Message, Segment
from transforms.rules.reading import Reading
from transforms.rules.sensitivity import Classes, Sensitivity, diagnosed, distinguished, mark, placed, served

CODED = (1, 4)  # of a CWE: the identifier and the alternate one
MARKING = re.compile("\r(ARV|DG1|PV1|PV2|SCH)")  # segments that may mark; each look at a long message costs
OF_THE_PERSON = frozenset({"ADT^A28", "ADT^A31"})  # HL7 v2.8, 3.3.28 and 3.3.31: about no visit, whatever PV1 says


def classes(
    message: Hl7Message,
    names: Container[str],
    header: Segment,
    visited: Segment | None,
    schedule: Segment | None,
    known: Sensitivity,
) -> Classes:
    """Of what specially protected information it is, sorted. `names` are those of the segments that it may have and
    that mark."""
    found = known.facilities.get(header.value(4).strip().upper(), ()) if known.facilities else ()
    if "ARV" in names and message.first("ARV") is not None:
        found += (RESTRICTED,)
    codes: list[str] = []
    for segment in message.every("DG1") if "DG1" in names else ():
        codes += segment.texts(3, *CODED)
    protection = message.first("PV2") if "PV2" in names else None
    if protection is not None:
        if protection.value(22).strip().upper() == "Y":
            found += (RESTRICTED,)
        codes += protection.texts(3, *CODED)
    if codes:
        found += diagnosed(codes, known)
    if visited is not None:
        found += placed(visited.texts(3, *filters.PLACED), known)
        found += served(visited.texts(10, *CODED), known)
        if known.vips and visited.field(16):
            found += distinguished(visited.texts(16, *CODED), known)
    if schedule is not None:
        found += served(schedule.texts(7, *CODED) + schedule.texts(8, *CODED), known)
        for booked in message.every("AIS"):
            found += served(booked.texts(3, *CODED), known)
        for booked in message.every("AIL"):
            found += placed(booked.texts(3, *filters.PLACED), known)
    return tuple(sorted(set(found))) if found else found


def marks(
    message: Hl7Message, header: Segment, kind: str, reading: Reading, patients: Iterable[str] = ()
) -> list[AnyFact]:
    """What a message that states no milestone marks: its visit, by all of its numbers; without one, or if
    one of several visits has none, its patient as a whole. One that names several patients or visits marks them all."""
    names, known = message.names(MARKING), reading.sensitivity
    schedule = message.first("SCH") if "SCH" in names else None
    visits = message.every("PV1") if names.count("PV1") > 1 else [one for one in (message.first("PV1"),) if one]
    found = {c for one in visits or (None,) for c in classes(message, names, header, one, schedule, known)}
    if not found or (reading.production and header.value(11) != "P"):
        return []
    numbers = [schedule.value(1), schedule.value(2)] if schedule is not None else []
    numbers += [visit.value(field) for visit in visits for field in (19, 50) if visit.value(19)]
    if kind in OF_THE_PERSON or (len(visits) > 1 and not all(visit.value(19) for visit in visits)):
        numbers = []
    people = {*patients} or hl7_patient.keys(message.every("PID"), header, reading)
    return [mark(patient, numbers, found) for patient in sorted(people)]
