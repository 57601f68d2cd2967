"""HL7 v2 messages to facts. What a trigger means stands in `hl7_triggers`; every other type is unrouted.

    time     EVN-6 (event occurred), else EVN-2 (recorded), else MSH-7 (sent)
    visit    PV1-19; for SIU the placer SCH-1, else the filler SCH-2
    patient  PID-3, MRG-1, -2, -4: `hl7_patient`
    class    PV1-2 (HL7 table 0004)
    npi      PV1-7, -8, -17 (attending, referring, admitting), only where stated to be a National Provider Identifier
    channel  PID-13, PID-14: of what kind the contact of the first rank is
    person   PID-7 (age), PID-29, PID-30, PV1-36 (death)
    filters  PV1-3, PV1-10, AIL-3, AIS-3, where a route filters on them: `filters`
    marks    of what is specially protected, on whatever message: `hl7_marks`
    consent  CON, on whatever message: `hl7_consent`

Sources: HL7 v2.8 chapters 3 (ADT) and 10 (SIU); DESIGN section 3, Identity.
"""

from collections.abc import Iterable
from functools import lru_cache

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Made, Milestone, Person, Says, content_of, digest
from schemas.instant import BEGINNING, FOREVER, Instant, from_hl7
from schemas.outcome import Reason, Verdict
from transforms.rules import contact, filters, hl7, hl7_consent, hl7_marks, hl7_patient
from transforms.rules.hl7 import Hl7Message, Segment
from transforms.rules.hl7_triggers import TRIGGERS, Means, Trigger, with_status
from transforms.rules.identity import beside, idempotency_key, national_provider
from transforms.rules.reading import Reading
from transforms.rules.sensitivity import adult_at, mark
from transforms.rules.vocabulary import hl7_type, unrouted

# Bound once: each look-up of an enum's member costs.
MILESTONE, CANCELLATION, DEMOGRAPHICS, IDENTITY, NOTHING = Means
SERVICE_CLASSES = {"I": "inpatient", "O": "outpatient", "E": "emergency", "U": "unknown"}
NPI_AUTHORITIES = frozenset({"NPI", "NPPES"})
DIED = frozenset({"20", "40", "41", "42"})  # HL7 table 0112, discharge dispositions: expired, wherever
TIGHTENING = frozenset({Says.DENY, Says.UNCLEAR})  # what a consent says that stops something and permits nothing
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
        listed = message.every("PID") if meaning is not None and code == "ADT" else []
        if not listed or not _died(listed[0], message.first("PV1")):
            return [
                unrouted(hl7_type(code, trigger), Reason.NO_ROUTE),
                *hl7_marks.marks(message, header, kind, reading),
                *(_minors(listed, header, recorded, kind, reading) if listed else ()),
            ]
        meaning = Trigger(DEMOGRAPHICS)  # whatever else the message says
    means, kinds = meaning
    if reading.production and header.value(11) != "P":
        raise MessageError(Reason.WRONG_ENVIRONMENT)
    person = people[0] if (people := message.every("PID")) else None
    patient = "" if means is IDENTITY else hl7_patient.patient(people, header, reading)
    if means is DEMOGRAPHICS:
        if person is None or not patient:
            return [Made(b"", "", kind, Verdict.CONTROL, Reason.DEMOGRAPHICS)]
        adult, died = _bearing(person, message.first("PV1"), reading)
        key = _key(header, kind, patient, digest(adult, died)[:16], reading, (source, native, envelope))
        grown = _grown(person.field(7)[:4], _stated(header, recorded)[:4], reading.sensitivity.majority_years)
        others = _others(people, header, [patient], reading) if died or (adult != BEGINNING and not grown) else []
        return [
            Person(key, patient, kind, adult, died, counted=True),
            *(beside(other, kind, adult, died) for other in others),
            *hl7_marks.marks(message, header, kind, reading),
        ]

    found = _time(header, recorded, reading)
    if means is IDENTITY:
        told = hl7_patient.sides(message, header, reading)
        time = found.time + found.span if found else FOREVER  # of unknown date: no consent is known to come after it
        what = digest(told, time)[:16]
        key = _key(header, kind, told[0], what, reading, (source, native, envelope))
        facts: list[AnyFact] = [Identity(key, side, kind, time, place == 0) for place, side in enumerate(told)]
        if person is not None and _died(person, message.first("PV1")):
            facts += [beside(side, kind, BEGINNING, died=True) for side in told]
        facts += _minors(people, header, recorded, kind, reading, told if len(people) == 1 else ())
        return facts + hl7_marks.marks(message, header, kind, reading, told)

    if person is None or not patient:
        raise MessageError(Reason.NO_PATIENT)
    visited = message.first("PV1")
    visit, also, related = _visit(visited, schedule, booking=code == "SIU")
    moment, span = found or (None, 0)
    cancels = kinds if means is CANCELLATION else ()
    values = {} if cancels else _values(message, person, visited, reading.filtered)
    what = content_of(patient, kinds[0], visit, moment, span, values, cancels)
    key = _key(header, kind, patient, what, reading, (source, native, envelope))
    classes = hl7_marks.classes(
        message, message.names(hl7_marks.MARKING), header, visited, schedule, reading.sensitivity
    )
    milestone = Milestone(
        key, patient, kind, what, kinds[0], visit, moment, span, values, cancels, None, classes, also=also,
        related=related,
    )  # fmt: skip
    # what is taken back may be the very discharge by which somebody died
    return [milestone, *_beside(milestone, people, header, None if cancels else visited, reading)]


def _beside(
    milestone: Milestone, people: list[Segment], header: Segment, visited: Segment | None, reading: Reading
) -> list[AnyFact]:
    """What is told of the person and of the visit beside a milestone, if anything is."""
    patient, kind, classes, moment = milestone.patient, milestone.type, milestone.classes, milestone.time
    adult, died = _bearing(people[0], visited, reading)
    facts: list[AnyFact] = [beside(patient, kind, adult, died)] if died or adult != BEGINNING else []
    if classes and milestone.related:  # a booking marks its visit, too
        facts.append(mark(patient, milestone.related, classes))
    bears = died or adult > (BEGINNING if moment is None else moment)
    if bears or classes:
        numbers = {milestone.visit, *milestone.also, *milestone.related} - {""}
        for other in _others(people, header, [patient], reading):
            facts += [beside(other, kind, adult, died)] if bears else []
            facts += [mark(other, numbers, classes)] if classes else []
    return facts


def _others(people: list[Segment], header: Segment, told: Iterable[str], reading: Reading) -> list[str]:
    """The further keys of those who are told: what only tightens is told to them, too."""
    return sorted(hl7_patient.keys(people, header, reading).difference(told))


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
    patients = sides or [hl7_patient.patient(people, header, reading) or facts[0].patient]
    origin = source or f"{reading.source}|{header.value(3)}|{header.value(4)}"
    sent = from_hl7(header.value(7), reading.zone)
    segments = message.every("CON")
    signed = hl7_consent.read(segments, patients, origin, sent, reading, counted=alone)
    if any(one.says in TIGHTENING for one in signed):
        for other in _others(people, header, patients, reading):
            copies = hl7_consent.read(segments, [other], origin, sent, reading, counted=False)
            signed += [one for one in copies if one.says in TIGHTENING]
    return [*signed, *facts[1:]] if alone else [*facts, *signed]


def _bearing(person: Segment, visited: Segment | None, reading: Reading) -> tuple[int, bool]:
    """When the patient is of age (PID-7), and whether the patient died (PID-29 time, PID-30 indicator, PV1-36)."""
    return _of_age(person, reading), _died(person, visited)


def _of_age(person: Segment, reading: Reading) -> int:
    born = person.value(7).strip()
    text = "-".join(part for part in (born[:4], born[4:6], born[6:8]) if part) if born[:8].isdigit() else born
    return adult_at(text, reading.sensitivity, reading.zone)


def _died(person: Segment, visited: Segment | None) -> bool:
    year = person.value(29).strip()[:4]  # what is no date is no news of a death
    if person.value(30).strip().upper() == "Y" or (year.isdigit() and year != "0000"):
        return True
    return visited is not None and visited.value(36).strip() in DIED


def _minors(
    people: list[Segment], header: Segment, recorded: Segment | None, kind: str, reading: Reading,
    sides: Iterable[str] = (),
) -> list[AnyFact]:  # fmt: skip
    """When those come of age who are no adults yet, as a message tells that states no milestone. `sides`: whose PID-7
    it is, if it is not that of the numbers in PID-3 alone."""
    year, years = _stated(header, recorded)[:4], reading.sensitivity.majority_years
    if reading.production and header.value(11) != "P":
        return []
    return [
        beside(patient, kind, adult, died=False)
        for one in people
        if not _grown(one.field(7)[:4], year, years) and (adult := _of_age(one, reading)) != BEGINNING
        for patient in sides or sorted(hl7_patient.keys([one], header, reading))
    ]


@lru_cache(maxsize=65536)
def _grown(born: str, when: str, majority_years: int) -> bool:
    """Was who was born in that year surely an adult in that year? To know the day is dear, and most are."""
    return born.isdecimal() and when.isdecimal() and int(when) - int(born) > majority_years


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


def _time(header: Segment, recorded: Segment | None, reading: Reading) -> Instant | None:
    """The first of the three that is stated. If it cannot be read to the day no other one is taken instead: nobody
    knows when it happened."""
    return from_hl7(_stated(header, recorded), reading.zone)


def _stated(header: Segment, recorded: Segment | None) -> str:
    stated = recorded.value(6).strip() or recorded.value(2).strip() if recorded is not None else ""
    return stated or header.value(7)


def _provider(visited: Segment) -> str:
    """The first clinician whose id is stated to be a National Provider Identifier (XCN.9 authority, XCN.13 type)."""
    for field in (7, 8, 17):
        if visited.field(field):
            for one in visited.repeats(field):
                stated = one.value(13) == "NPI" or one.value(9, 1) in NPI_AUTHORITIES or one.value(9, 2) == NPI_OID
                if stated and (npi := national_provider(one.value(1))):
                    return npi
    return ""
