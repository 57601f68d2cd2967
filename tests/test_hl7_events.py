"""HL7 v2 messages to facts: types, times, visits, patients, clinicians, merges, and which message is which."""

from datetime import UTC

import pytest
from builders import micros

from schemas.errors import MessageError
from schemas.event import AnyFact, Identity, Made, Milestone, Person
from schemas.instant import DAY, FOREVER
from schemas.outcome import Reason, Verdict
from transforms.rules.hl7_events import read
from transforms.rules.reading import Reading

READING = Reading("ehr", "UTF-8", UTC, ("MR", "MRN", "EPI", "PI", ""))
NPI, OTHER_NPI = "1234567893", "1245319599"
KEY = "urn:id:MAIN\x1f42"


def msh(
    trigger: str = "ADT^A01", *, sent: str = "20240501120000", control: str = "M1", sender: str = "EPIC|SITE"
) -> str:
    return f"MSH|^~\\&|{sender}|CRM|X|{sent}||{trigger}|{control}|P|2.5.1"


def message(
    trigger: str = "ADT^A01",
    *segments: str,
    header: str = "",
    evn: str = "EVN||20240501110000",
    pid: str = "PID|1||42^^^MAIN^MR",
    pv1: str = "PV1|1|I",
    end: str = "\r",
) -> bytes:
    """A message; a segment of "" is left out."""
    lines = [header or msh(trigger), evn, pid, pv1, *segments]
    return (end.join(line for line in lines if line) + end).encode()


def told(body: bytes | str) -> Milestone:
    """The one milestone that a message states."""
    (fact,) = read(body, READING)
    assert isinstance(fact, Milestone)
    return fact


def sides(body: bytes) -> list[AnyFact]:
    facts = read(body, READING)
    assert all(isinstance(fact, Identity) for fact in facts)
    return facts


def refusal(body: bytes | str) -> Reason:
    with pytest.raises(MessageError) as caught:
        read(body, READING)
    return caught.value.reason


# --- Types --------------------------------------------------------------------------------------------------------


TYPES = [
    ("a structure name beside them", "ADT^A01^ADT_A01", "", "ADT^A01"),
    ("no trigger: that of EVN-1", "ADT", "A03", "ADT^A03"),
    ("a null trigger: that of EVN-1", 'ADT^""', "A03", "ADT^A03"),
    ("MSH-9 outweighs EVN-1", "ADT^A01", "A03", "ADT^A01"),
]


@pytest.mark.parametrize("stated, event, expected", [pytest.param(*case, id=name) for name, *case in TYPES])
def test_types(stated: str, event: str, expected: str) -> None:
    assert told(message(stated, evn=f"EVN|{event}|20240501")).type == expected


UNROUTED = [
    ("ADT^A02", "ADT^A02"), ("ORU^R01", "ORU^R01"), ("SIU^S18", "SIU^S18"), ("ADT", "ADT"), ("ACK", "ACK"),
    ("DOE^A01", "other"), ("ADT^JANE", "ADT"), ("adt^a01", "other"), ("ADT^A01X", "ADT"), ("ADT_A01", "other"),
]  # fmt: skip


@pytest.mark.parametrize("stated, counted", UNROUTED)
def test_other_types_are_unrouted_with_or_without_a_patient(stated: str, counted: str) -> None:
    for body in (message(stated, evn=""), message(stated, evn="", pid="", pv1="")):
        (fact,) = read(body, READING)
        assert isinstance(fact, Made)
        assert (fact.type, fact.verdict, fact.reason, fact.patient) == (counted, Verdict.UNROUTED, Reason.NO_ROUTE, "")


@pytest.mark.parametrize("stated", ["", '""', "^A01"])
def test_without_a_type_a_message_is_rejected(stated: str) -> None:
    assert refusal(message(header=msh(stated))) is Reason.NO_TYPE


def test_a_routable_message_needs_a_patient() -> None:
    for pid in ("", "PID|1", 'PID|1||""', "PID|1||^^^MAIN^MR", "PID|1||123456789^^^USSSA^SS", "PID|1||42^^^MAIN^AN"):
        assert refusal(message(pid=pid)) is Reason.NO_PATIENT


@pytest.mark.parametrize("trigger", ["SIU^S12", "SIU^S15", "ADT^A03", "ADT^A08"])
def test_a_message_about_several_patients_is_rejected(trigger: str) -> None:
    """Which of them the rest is about nobody says, and the second one's booking may not vanish."""
    for pid in ("PID|2||43^^^MAIN^MR", "PID|2"):
        assert refusal(message(trigger, pid, "PV1|1|I")) is Reason.NO_PATIENT
    [one, *_] = read(message(trigger, "PID|2||7^^^X^PI~42^^^MAIN^MR", "PV1|1|I"), READING)
    assert isinstance(one, Milestone | Person) and one.patient == told(message()).patient, "the same one twice"


def test_what_is_taken_from_nobody_may_name_several_patients() -> None:
    [swap] = read(message("ADT^A17", "PID|2||43^^^MAIN^MR"), READING)
    assert isinstance(swap, Made) and swap.verdict is Verdict.UNROUTED


# --- Times and visits -----------------------------------------------------------------------------------------------

TIMES = [
    ("when it happened, EVN-6", "EVN||20240501110000||||20240501100000", "20240501120000", "2024-05-01T10:00:00Z"),
    ("when it was recorded, EVN-2", "EVN||20240501110000", "20240501120000", "2024-05-01T11:00:00Z"),
    ("when it was sent, MSH-7", "EVN|A01", "20240501120000", "2024-05-01T12:00:00Z"),
    ("no EVN", "", "20240501120000", "2024-05-01T12:00:00Z"),
    ("EVN-6 by the month: no other time stands in for it", "EVN||20240501110000||||202405", "20240501120000", None),
    ("EVN-6 null", 'EVN||20240501110000||||""', "20240501120000", "2024-05-01T11:00:00Z"),
    ("EVN-6 of blanks", "EVN||20240501110000 ||||  ", "20240501120000", "2024-05-01T11:00:00Z"),
    ("MSH-7 with a blank", "EVN|A01", "20240501120000 ", "2024-05-01T12:00:00Z"),
    ("EVN-6 a word", "EVN||20240501110000||||NOW", "20240501120000", None),
    ("EVN-2 a word", "EVN||NOW", "20240501120000", None),
    ("a precision component", "EVN||20240501110000^S", "20240501120000", "2024-05-01T11:00:00Z"),
    ("none", "", "", None),
    ("none that can be read", "EVN||2024", "YESTERDAY", None),
]


@pytest.mark.parametrize("evn, sent, expected", [pytest.param(*case, id=name) for name, *case in TIMES])
def test_times(evn: str, sent: str, expected: str | None) -> None:
    fact = told(message(header=msh(sent=sent), evn=evn))
    assert fact.time == (micros(expected) if expected else None)
    assert fact.span == 0


def test_a_date_is_a_whole_day() -> None:
    assert told(message(evn="EVN||20240501")).span == DAY


def test_a_merge_may_tell_of_a_death() -> None:
    """Of both of its sides: whoever is left, nobody is to be called."""
    dead = "PID|1||42^^^MAIN^MR" + "|" * 27 + "Y"
    facts = read(message("ADT^A40", "MRG|9^^^MAIN^MR", pid=dead), READING)
    told_of = {fact.patient for fact in facts if isinstance(fact, Person) and fact.died and not fact.counted}
    assert told_of == {fact.patient for fact in facts if isinstance(fact, Identity)} and len(told_of) == 2
    assert all(isinstance(fact, Identity) for fact in read(message("ADT^A40", "MRG|9^^^MAIN^MR"), READING))


def test_a_discharge_that_is_taken_back_says_nothing_of_a_death() -> None:
    expired = "PV1|1|I" + "|" * 34 + "20"
    assert [type(fact).__name__ for fact in read(message("ADT^A03", pv1=expired), READING)] == ["Milestone", "Person"]
    assert [type(fact).__name__ for fact in read(message("ADT^A13", pv1=expired), READING)] == ["Milestone"]


def test_visits() -> None:
    numbered = "PV1|1|I" + "|" * 17 + "V7^^^MAIN^VN"
    assert told(message(pv1=numbered)).visit == "V7"
    assert told(message(pv1="PV1|1|I")).visit == ""
    assert told(message(pv1="")).visit == ""
    schedule = "SCH|P1^EPIC|F1^EPIC"
    both, filler = told(message("SIU^S12", schedule, pv1=numbered)), told(message("SIU^S15", "SCH||F1^EPIC"))
    assert (both.visit, both.also, filler.visit, filler.also) == ("P1", ("F1",), "F1", ())
    assert told(message("SIU^S12", pv1=numbered)).visit == "", "a booking is not the visit in which it was made"


@pytest.mark.parametrize(
    "coded, expected",
    [("I", "inpatient"), ("O", "outpatient"), ("E", "emergency"), ("U", "unknown"), ("R", "other"), ("DOE", "other"),
     ("", "unknown"), ('""', "unknown")],
)  # fmt: skip
def test_service_classes(coded: str, expected: str) -> None:
    assert told(message(pv1=f"PV1|1|{coded}")).values["service_class"] == expected
    assert told(message("ADT^A11", pv1=f"PV1|1|{coded}")).values == {}


# --- Patients -------------------------------------------------------------------------------------------------------

PATIENTS = [
    ("a namespace", "42^^^MAIN^MR", KEY),
    ("a namespace and an OID", "42^^^MAIN&1.2.3&ISO^MR", KEY),
    ("an OID", "42^^^&1.2.3&ISO^MR", "urn:oid:1.2.3\x1f42"),
    ("no authority: the sending facility", "42^^^^MR", "urn:id:SITE\x1f42"),
    ("a null authority", '42^^^""^MR', "urn:id:SITE\x1f42"),
    ("no type", "42^^^MAIN", KEY),
    ("the best type of several", "7^^^MAIN^PI~42^^^MAIN^MR~9^^^MAIN^EPI", KEY),
    ("the first of one type", "42^^^MAIN^MR~7^^^MAIN^MR", KEY),
    ("after an empty repetition", "~42^^^MAIN^MR", KEY),
    ("spaces around it", " 42 ^^^MAIN^MR", KEY),
    ("an escaped delimiter", "4\\T\\2^^^MAIN^MR", "urn:id:MAIN\x1f4&2"),
    ("beside a social security number", "123456789^^^USSSA^SS~42^^^MAIN^PI", KEY),
    ("a social security number without its type", "123456789^^^USSSA~42^^^MAIN^PI", KEY),
    ("one whose authority is in small letters", "123456789^^^ssa^MR~42^^^MAIN^PI", KEY),
    ("one whose OID alone says so", "123456789^^^MAIN&2.16.840.1.113883.4.1&ISO^MR~42^^^MAIN^PI", KEY),
    ("a control character", "4\\X1F\\2^^^MAIN^MR~42^^^MAIN^PI", KEY),
]


@pytest.mark.parametrize("identifiers, expected", [pytest.param(*case, id=name) for name, *case in PATIENTS])
def test_patients(identifiers: str, expected: str) -> None:
    assert told(message(pid=f"PID|1||{identifiers}")).patient == expected


def test_the_sender_stands_in_for_an_authority() -> None:
    pid = "PID|1||42^^^^MR"
    assert told(message(header=msh(sender="EPIC|"), pid=pid)).patient == "urn:id:EPIC\x1f42"
    assert refusal(message(header=msh(sender="|"), pid=pid)) is Reason.NO_PATIENT


# --- Clinicians -----------------------------------------------------------------------------------------------------

CLINICIANS = [
    ("attending, by type", f"{NPI}^DOE^ANN^^^^^^^^^^NPI", "", "", NPI),
    ("attending, by authority", f"{NPI}^DOE^ANN^^^^^^NPI", "", "", NPI),
    ("attending, by OID", f"{NPI}^DOE^ANN^^^^^^&2.16.840.1.113883.4.6&ISO", "", "", NPI),
    ("referring", "", f"{NPI}^^^^^^^^NPI", "", NPI),
    ("admitting", "", "", f"{NPI}^^^^^^^^NPI", NPI),
    ("attending before referring", f"{NPI}^^^^^^^^NPI", f"{OTHER_NPI}^^^^^^^^NPI", "", NPI),
    ("the second of the attending", f"77^^^^^^^^MAIN~{NPI}^^^^^^^^NPI", "", "", NPI),
    ("a number that is not stated to be one", f"{NPI}^DOE^ANN^^^^^^MAIN", "", "", ""),
    ("a bare number", NPI, "", "", ""),
    ("a wrong check digit", "1234567890^^^^^^^^NPI", "", "", ""),
    ("a name in its place", "DOE^^^^^^^^NPI", "", "", ""),
    ("nobody", "", "", "", ""),
]


@pytest.mark.parametrize("attending, referring, admitting, npi", [pytest.param(*c, id=name) for name, *c in CLINICIANS])
def test_clinicians(attending: str, referring: str, admitting: str, npi: str) -> None:
    pv1 = f"PV1|1|I|||||{attending}|{referring}{'|' * 9}{admitting}"
    assert told(message(pv1=pv1)).values.get("npi", "") == npi
    assert told(message("ADT^A13", pv1=pv1)).values == {}


# --- Merges ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", [f"A{n}" for n in (18, 24, 30, 34, 35, 36, 37, *range(39, 52))])
def test_every_merge_is_told_to_both_sides_and_counted_once(trigger: str) -> None:
    facts = sides(message(f"ADT^{trigger}", "MRG|7^^^MAIN^MR"))
    assert {fact.patient for fact in facts} == {KEY, "urn:id:MAIN\x1f7"}
    assert {(fact.type, fact.key) for fact in facts} == {(f"ADT^{trigger}", facts[0].key)}
    assert sorted(fact.counted for fact in facts if isinstance(fact, Identity)) == [False, True]


def test_a_person_who_is_deleted_is_told_to_one_side() -> None:
    (fact,) = sides(message("ADT^A29"))
    assert isinstance(fact, Identity) and (fact.patient, fact.counted) == (KEY, True)


@pytest.mark.parametrize(
    "segments, told_to",
    [
        (("MRG|7^^^MAIN^MR~8^^^MAIN^PI",), {"42", "7", "8"}),
        (("PV1|1|I", "PID|2||7^^^MAIN^MR"), {"42", "7"}),
        (("MRG|7^^^MAIN^MR", "PID|2||8^^^MAIN^MR", "MRG|9^^^MAIN^MR"), {"42", "7", "8", "9"}),
        (("MRG|7^^^MAIN^MR|8^^^MAIN^MR|9^^^MAIN^MR|10^^^MAIN^MR",), {"42", "7", "8", "10"}),
        (("MRG||8^^^MAIN^PI",), {"42", "8"}),
        (("MRG||||10",), {"42", "10"}),
        (("MRG|7^^^MAIN^AN~8^^^MAIN^XYZ",), {"42", "7", "8"}),
        (("PID|2||7^^^MAIN^AN",), {"42", "7"}),
        (("MRG|123456789^^^USSSA^SS",), {"42"}),
        (("MRG||123456789^^^MAIN^SS||123456789^^^MAIN&2.16.840.1.113883.4.1&ISO^AN",), {"42"}),
        (("MRG|42^^^MAIN^MR",), {"42"}),
        ((), {"42"}),
    ],
    ids=["every identifier", "a link of two PIDs", "several merges",
         "MRG-1, -2 and -4", "MRG-2 alone", "MRG-4 alone, without a type", "any type", "any type in PID-3",
         "no social security number", "nor in MRG-2 and -4", "one side", "no MRG"],
)  # fmt: skip
def test_the_sides_of_a_merge(segments: tuple[str, ...], told_to: set[str]) -> None:
    facts = sides(message("ADT^A40", *segments))
    assert {fact.patient.partition("\x1f")[2] for fact in facts} == told_to
    assert sum(fact.counted for fact in facts if isinstance(fact, Identity)) == 1


def test_a_merge_of_nobody_is_rejected() -> None:
    assert refusal(message("ADT^A40", pid="")) is Reason.NO_PATIENT


def test_the_time_of_a_merge_is_the_last_that_it_can_mean() -> None:
    def time(evn: str, sent: str) -> int:
        (fact,) = sides(message("ADT^A40", header=msh("ADT^A40", sent=sent), evn=evn))
        assert isinstance(fact, Identity)
        return fact.time

    assert time("EVN||20240501110000", "20240502") == micros("2024-05-01T11:00:00Z")
    assert time("EVN||20240501", "") == micros("2024-05-02")
    assert time("", "") == FOREVER


# --- Which message --------------------------------------------------------------------------------------------------

V1, V2 = "PV1|1|I" + "|" * 17 + "V1", "PV1|1|I" + "|" * 17 + "V2"
MESSAGES = [
    ("two contents under one id conflict", message(pv1=V1), message(pv1=V2), True),
    ("another control id", message(), message(header=msh(control="M2")), False),
    ("a constant id, sent at another time", message(), message(header=msh(sent="20240501120001")), False),
    ("a constant id, another patient", message(), message(pid="PID|1||43^^^MAIN^MR"), False),
    ("a constant id, another type", message(), message("ADT^A04"), False),
    ("a constant id, another sender", message(), message(header=msh(sender="EPIC|WEST")), False),
    ("no id: the content", message(header=msh(control="")), message(header=msh(control="")), True),
    ("no id: two contents", message(header=msh(control=""), pv1=V1), message(header=msh(control=""), pv1=V2), False),
    ("a constant id, never sent: the content", message(header=msh(sent="")), message(header=msh(sent="")), True),
    ("never sent: two contents", message(header=msh(sent=""), pv1=V1), message(header=msh(sent=""), pv1=V2), False),
]


@pytest.mark.parametrize("left, right, same", [pytest.param(*case, id=name) for name, *case in MESSAGES])
def test_idempotency_keys(left: bytes, right: bytes, same: bool) -> None:
    assert (told(left).key == told(right).key) is same


@pytest.mark.parametrize("trigger", ["ADT^A01", "SIU^S15", "ADT^A40"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r"])
def test_framing_changes_nothing(trigger: str, end: str) -> None:
    plain = message(trigger, "MRG|7^^^MAIN^MR")
    assert read(message(trigger, "MRG|7^^^MAIN^MR", end=end), READING) == read(plain, READING)
    assert read(b"\x0b" + plain + b"\x1c\r", READING) == read(plain, READING)


def test_delimiters_change_nothing() -> None:
    body = message(pid="PID|1||42^^^MAIN&1.2&ISO^MR~7^^^X^PI")
    other = body.translate(bytes.maketrans(b"|^~\\&", b"#%*!+"))
    assert read(other, READING) == read(body, READING)


def test_in_a_cloudevent_its_source_and_id_are_the_key() -> None:
    (one,) = read(message(), READING, "urn:feed", "m1", "type")
    (same,) = read(message(header=msh(control="M2")), READING, "urn:feed", "m1", "type")
    (other,) = read(message(), READING, "urn:feed", "m2", "type")
    assert one.key == same.key
    assert len({one.key, other.key, told(message()).key}) == 3


def test_text_is_read_as_the_bytes_that_it_was() -> None:
    pid = "PID|1||4ä2^^^MAIN^MR"
    latin = "\r".join([f"{msh()}||||||8859/1", "EVN||20240501", pid])
    assert read(latin, READING) == read(latin.encode("latin-1"), READING)
    assert told(latin).patient == "urn:id:MAIN\x1f4ä2"
    assert read(latin.replace("8859/1", ""), READING) == read(latin.replace("8859/1", "").encode(), READING)
    assert refusal(latin.replace("8859/1", "ASCII")) is Reason.BAD_ENCODING
    assert refusal(latin.replace("4ä2", "4√2")) is Reason.BAD_ENCODING
    assert refusal("not a message") is Reason.MALFORMED
