"""HL7 v2 messages to facts. What a trigger means stands in `hl7_triggers`; every other type is unrouted.

    time     EVN-6 (event occurred), else EVN-2 (recorded), else MSH-7 (sent)
    visit    PV1-19; for SIU the placer SCH-1, else the filler SCH-2
    patient  PID-3 in the order of the policy's identifier types; system from CX.4, else the sender (MSH-4, else MSH-3)
    class    PV1-2 (HL7 table 0004)
    npi      PV1-7, -8, -17 (attending, referring, admitting), only where stated to be a National Provider Identifier
    channel  PID-13, PID-14: of what kind the contact of the first rank is
    filters  PV1-3, PV1-10, AIL-3, AIS-3, where a route filters on them: `filters`
    marks    MSH-4, PV1-3, PV1-10, PV1-16, PV2-3, PV2-22, DG1-3, ARV (sensitivity), on whatever message; PID-7, PID-29,
             PID-30 (age, death)
    consent  CON, on whatever message: `hl7_consent`

Sources: HL7 v2.8 chapters 3 (ADT) and 10 (SIU); DESIGN section 3, Identity.
"""

import re
from collections.abc import Container, Iterable

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Made, Milestone, Person, content_of, digest
from schemas.instant import BEGINNING, FOREVER, Instant, from_hl7
from schemas.outcome import Reason, Verdict
from schemas.policy import RESTRICTED
from transforms.rules import contact, filters, hl7, hl7_consent
from transforms.rules.hl7 import Hl7Message, Repetition, Segment
from transforms.rules.hl7_triggers import TRIGGERS, Means, Trigger, with_status
from transforms.rules.identity import (
    NEVER_SYSTEMS,
    Identifier,
    Reading,
    beside,
    idempotency_key,
    national_provider,
    preferred,
)
from transforms.rules.sensitivity import Classes, Sensitivity, adult_at, diagnosed, distinguished, mark, placed, served
from transforms.rules.vocabulary import hl7_type, unrouted

# Bound once: each look-up of an enum's member costs.
MILESTONE, CANCELLATION, DEMOGRAPHICS, IDENTITY, NOTHING = Means
SERVICE_CLASSES = {"I": "inpatient", "O": "outpatient", "E": "emergency", "U": "unknown"}
NPI_AUTHORITIES = frozenset({"NPI", "NPPES"})
CODED = (1, 4)  # of a CWE: the identifier and the alternate one
MARKING = re.compile("\r(ARV|DG1|PV1|PV2|SCH)")  # segments that may mark; each look at a long message costs
OF_THE_PERSON = frozenset({"ADT^A28", "ADT^A31"})  # HL7 v2.8, 3.3.28 and 3.3.31: about no visit, whatever PV1 says
DIED = frozenset({"20", "40", "41", "42"})  # HL7 table 0112, discharge dispositions: expired, wherever
NPI_OID = "2.16.840.1.113883.4.6"


def read(body: bytes | str, reading: Reading, source: str = "", native: str = "", envelope: str = "") -> list[AnyFact]:
    """The facts of one message. `source`, `native` and `envelope` are those of a CloudEvent that carried it, as text
    or as bytes.

    Raises MessageError. The type is judged before anything else: what no route could take needs no patient.
    """
    message = hl7.read(_bytes(body, reading) if isinstance(body, str) else body, reading.charset)
    if message.first("CON") is None:
        return _events(message, reading, source, native, envelope)
    try:
        facts = _events(message, reading, source, native, envelope)
        return _with_consents(message, facts, reading, source)
    except MessageError as error:  # somebody may have refused
        raise MessageError(Reason.CONSENT_OF_NOBODY if error.reason is Reason.NO_PATIENT else error.reason) from None


def _events(message: Hl7Message, reading: Reading, source: str, native: str, envelope: str) -> list[AnyFact]:
    header = message.first("MSH")
    if header is None:
        raise MessageError(Reason.MALFORMED)
    recorded = message.first("EVN")
    code, trigger = header.value(9, 1), header.value(9, 2)
    if not code:
        raise MessageError(Reason.NO_TYPE)
    if not trigger and recorded is not None:
        trigger = recorded.value(1)
    kind = f"{code}^{trigger}"
    meaning = TRIGGERS.get(kind)
    schedule = message.first("SCH") if code == "SIU" else None
    if schedule is not None and meaning is not None and meaning.means is MILESTONE:
        meaning = with_status(meaning, schedule.value(25) or schedule.value(25, 2))
    if meaning is None or meaning.means is NOTHING or not _taken(kind, meaning.means, reading):
        if meaning is None or code != "ADT" or not _tells_of_death(message):
            return [unrouted(hl7_type(code, trigger), Reason.NO_ROUTE), *_marks(message, header, kind, reading)]
        meaning = Trigger(DEMOGRAPHICS)  # whatever else the message says
    means, kinds = meaning
    if reading.production and header.value(11) != "P":
        raise MessageError(Reason.WRONG_ENVIRONMENT)
    person = people[0] if (people := message.every("PID")) else None
    patient = "" if means is IDENTITY else _patient(people, header, reading)
    if means is DEMOGRAPHICS:
        if person is None or not patient:
            return [Made(b"", "", kind, Verdict.CONTROL, Reason.DEMOGRAPHICS)]
        adult, died = _bearing(person, message.first("PV1"), reading)
        key = _key(header, kind, patient, digest(adult, died)[:16], reading, (source, native, envelope))
        return [Person(key, patient, kind, adult, died, counted=True), *_marks(message, header, kind, reading)]

    found = _time(header, recorded, reading)
    if means is IDENTITY:
        told = _sides(message, header, reading)
        time = found.time + found.span if found else FOREVER  # of unknown date: no consent is known to come after it
        what = digest(told, time)[:16]
        key = _key(header, kind, told[0], what, reading, (source, native, envelope))
        facts: list[AnyFact] = [Identity(key, side, kind, time, place == 0) for place, side in enumerate(told)]
        if person is not None and _died(person, message.first("PV1")):
            facts += [beside(side, kind, BEGINNING, died=True) for side in told]
        return facts + _marks(message, header, kind, reading, told)

    if person is None or not patient:
        raise MessageError(Reason.NO_PATIENT)
    visited = message.first("PV1")
    visit, also, related = _visit(visited, schedule, booking=code == "SIU")
    moment, span = found or (None, 0)
    cancels = kinds if means is CANCELLATION else ()
    values = {} if cancels else _values(message, person, visited, reading.filtered)
    what = content_of(patient, kinds[0], visit, moment, span, values, cancels)
    key = _key(header, kind, patient, what, reading, (source, native, envelope))
    classes = _classes(message, message.names(MARKING), header, visited, schedule, reading.sensitivity)
    milestone = Milestone(
        key, patient, kind, what, kinds[0], visit, moment, span, values, cancels, None, classes, also=also,
        related=related,
    )  # fmt: skip
    prepared = [mark(patient, related, classes)] if related and classes else []  # a booking marks its visit, too
    # what is taken back may be the very discharge by which somebody died
    return [milestone, *_beside(person, None if cancels else visited, milestone, reading), *prepared]


def _visit(
    visited: Segment | None, schedule: Segment | None, *, booking: bool
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """The number of the visit, further ones, and those by which a mark alone may mean it. A booking is known by SCH-1
    or SCH-2, and prepares the visit that its PV1 names."""
    if not booking:
        return visited.value(19) if visited else "", (), ()
    visit, *also = [number for field in (1, 2) if schedule and (number := schedule.value(field))] or [""]
    prepared = {visited.value(19), visited.value(50)} - {""} if visited else ()
    return visit, tuple(also), tuple(sorted(prepared))


def _values(message: Hl7Message, person: Segment, visited: Segment | None, filtered: frozenset[str]) -> dict[str, str]:
    """What a recipe may read, by the names of fields.yaml: words of closed sets, and the clinician's number; and what a
    route filters on, which no recipe may read."""
    found = filters.of_hl7(message, visited, filtered) if filtered else {}
    found["channel"] = contact.of_hl7(person.repeats(13) + person.repeats(14))
    if visited is None:
        found["service_class"] = "unknown"
    else:
        coded = visited.value(2)
        found["service_class"] = SERVICE_CLASSES.get(coded, "other") if coded else "unknown"
        found["npi"] = _provider(visited)
    return {name: value for name, value in found.items() if value}


def _with_consents(message: Hl7Message, facts: list[AnyFact], reading: Reading, source: str) -> list[AnyFact]:
    """CON segments ride along with what their message tells, and stand for one that tells nothing else."""
    header = message.first("MSH")
    alone = isinstance(facts[0], Made) and facts[0].verdict is Verdict.UNROUTED
    if header is None or (alone and reading.production and header.value(11) != "P"):
        raise MessageError(Reason.WRONG_ENVIRONMENT)
    people = message.every("PID")
    sides = [fact.patient for fact in facts if isinstance(fact, Identity)] if len(people) > 1 else []
    patients = sides or [_patient(people, header, reading) or facts[0].patient]
    origin = source or f"{reading.source}|{header.value(3)}|{header.value(4)}"
    sent = from_hl7(header.value(7), reading.zone)
    signed = hl7_consent.read(message.every("CON"), patients, origin, sent, reading, counted=alone)
    return [*signed, *facts[1:]] if alone else [*facts, *signed]


def _beside(person: Segment, visited: Segment | None, milestone: Milestone, reading: Reading) -> list[AnyFact]:
    """What is told of the person beside a milestone, if anything is."""
    adult, died = _bearing(person, visited, reading)
    if not died and adult == BEGINNING:
        return []
    return [beside(milestone.patient, milestone.type, adult, died)]


def _classes(
    message: Hl7Message,
    names: Container[str],
    header: Segment,
    visited: Segment | None,
    schedule: Segment | None,
    known: Sensitivity,
) -> Classes:
    """Of what specially protected information it is, sorted: by its unit (MSH-4), service (PV1-10, SCH-7, SCH-8,
    AIS-3), place (PV1-3, AIL-3) and diagnoses (DG1-3, PV2-3). Visit protection (PV2-22) and an access restriction (ARV)
    do not say why. `names` are those of the segments that it may have and that mark."""
    found = known.facilities.get(header.value(4).strip().upper(), ()) if known.facilities else ()
    if "ARV" in names and message.first("ARV") is not None:
        found += (RESTRICTED,)
    codes: list[str] = []
    for segment in message.every("DG1") if "DG1" in names else ():
        codes += segment.texts(3, *CODED)
    protection = message.first("PV2") if "PV2" in names else None
    if protection is not None:
        if protection.value(22).upper() == "Y":
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


def _marks(
    message: Hl7Message, header: Segment, kind: str, reading: Reading, patients: Iterable[str] = ()
) -> list[AnyFact]:
    """What a message that states no milestone marks: its visit, by all of its numbers; without one, or if
    one of several visits has none, its patient as a whole. One that names several patients or visits marks them all."""
    names, known = message.names(MARKING), reading.sensitivity
    schedule = message.first("SCH") if "SCH" in names else None
    visits = message.every("PV1") if names.count("PV1") > 1 else [one for one in (message.first("PV1"),) if one]
    found = {c for one in visits or (None,) for c in _classes(message, names, header, one, schedule, known)}
    if not found or (reading.production and header.value(11) != "P"):
        return []
    numbers = [schedule.value(1), schedule.value(2)] if schedule is not None else []
    numbers += [visit.value(field) for visit in visits for field in (19, 50) if visit.value(19)]
    if kind in OF_THE_PERSON or (len(visits) > 1 and not all(visit.value(19) for visit in visits)):
        numbers = []
    people = {*patients} or _patients(message.every("PID"), header, reading)
    return [mark(patient, numbers, found) for patient in sorted(people) if patient]


def _bearing(person: Segment, visited: Segment | None, reading: Reading) -> tuple[int, bool]:
    """When the patient is of age (PID-7), and whether the patient died (PID-29 time, PID-30 indicator, PV1-36)."""
    born = person.value(7)
    text = "-".join(part for part in (born[:4], born[4:6], born[6:8]) if part) if born[:8].isdigit() else born
    return adult_at(text, reading.sensitivity, reading.zone), _died(person, visited)


def _died(person: Segment, visited: Segment | None) -> bool:
    year = person.value(29)[:4]
    if person.value(30).upper() == "Y" or (year.isdigit() and year != "0000"):  # what is no date is no news of a death
        return True
    return visited is not None and visited.value(36) in DIED


def _tells_of_death(message: Hl7Message) -> bool:
    person = message.first("PID")
    return person is not None and _died(person, message.first("PV1"))


def _taken(kind: str, means: Means, reading: Reading) -> bool:
    """Whether the source's profile takes this trigger. What only tightens is taken whatever the profile says."""
    return reading.triggers is None or kind in reading.triggers or means in (CANCELLATION, IDENTITY)


def _bytes(text: str, reading: Reading) -> bytes:
    """A message that came as text, in the charset that it declares, as it would have come in a file."""
    if text.isascii():
        return text.encode()
    declared = hl7.read(text.encode("ascii", "replace"), reading.charset).charset
    try:
        return text.encode(declared)
    except UnicodeEncodeError:
        raise MessageError(Reason.BAD_ENCODING) from None


def _key(
    header: Segment, kind: str, patient: str, what: bytes, reading: Reading, carried: tuple[str, str, str]
) -> bytes:
    source, native, envelope = carried
    if source:
        return idempotency_key(source, envelope, patient, native, "", what)
    origin = f"{reading.source}|{header.value(3)}|{header.value(4)}"
    return idempotency_key(origin, kind, patient, header.value(10), header.value(7) or what.hex(), what)


def _patient(people: list[Segment], header: Segment, reading: Reading) -> str:
    """The patient key of a message that is about one patient; "" if it cannot be read. Raises NO_PATIENT if the PID
    segments of its groups name several: nobody says which of them the rest is about."""
    keys = _patients(people, header, reading) or {""}
    if len(keys) > 1:
        raise MessageError(Reason.NO_PATIENT)
    return keys.pop()


def _patients(people: list[Segment], header: Segment, reading: Reading) -> set[str]:
    """The patient key of each PID segment; "" if it cannot be read."""
    return {preferred(_identifiers(one.repeats(3), header), reading.identity_types) for one in people}


def _sides(message: Hl7Message, header: Segment, reading: Reading) -> tuple[str, ...]:
    """The patient keys of a merge, sorted: of every identifier in PID-3 and MRG-1, -2 and -4, of whatever type."""
    found = [
        identifier
        for name, fields in (("PID", (3,)), ("MRG", (1, 2, 4)))
        for segment in message.every(name)
        for field in fields
        for identifier in _identifiers(segment.repeats(field), header)
    ]
    told = {preferred([one], (*reading.identity_types, one.type)) for one in found} - {""}
    if not told:
        raise MessageError(Reason.NO_PATIENT)
    return tuple(sorted(told))


def _time(header: Segment, recorded: Segment | None, reading: Reading) -> Instant | None:
    """The first of the three that is stated. If it cannot be read to the day no other one is taken instead: nobody
    knows when it happened."""
    stated = recorded.value(6) or recorded.value(2) if recorded is not None else ""
    return from_hl7(stated or header.value(7), reading.zone)


def _identifiers(repetitions: list[Repetition], header: Segment) -> list[Identifier]:
    """CX repetitions: CX.1 value, CX.4 assigning authority (HD), CX.5 type."""
    found = []
    for one in repetitions:
        namespace, universal = one.value(4, 1), one.value(4, 2)
        if universal and f"urn:oid:{universal}" in NEVER_SYSTEMS:  # whatever the namespace before it says
            continue
        if namespace or not universal:
            system = namespace or header.value(4) or header.value(3)
            system = f"urn:id:{system}" if system else ""
        else:
            system = f"urn:oid:{universal}"
        found.append(Identifier(system, one.value(1).strip(), one.value(5)))
    return found


def _provider(visited: Segment) -> str:
    """The first clinician whose id is stated to be a National Provider Identifier (XCN.9 authority, XCN.13 type)."""
    for field in (7, 8, 17):
        if visited.field(field):
            for one in visited.repeats(field):
                stated = one.value(13) == "NPI" or one.value(9, 1) in NPI_AUTHORITIES or one.value(9, 2) == NPI_OID
                if stated and (npi := national_provider(one.value(1))):
                    return npi
    return ""
