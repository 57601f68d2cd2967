"""HL7 v2 CON segments: what rides on which message, and that each message is counted once."""

from datetime import UTC

import pytest

from schemas.errors import MessageError
from schemas.event import AnyFact, Consent, Identity, Made, Milestone, Person, Says, encode
from schemas.instant import DAY, from_fhir, zone
from schemas.outcome import Reason, Verdict
from transforms.rules.consent_forms import Form, Profile
from transforms.rules.hl7_events import read
from transforms.rules.reading import Reading

YEAR = 365 * DAY
FORM = Form(("HCPVISIBLE", "PATSUPPORT"), ("Organization/crm",), ("disclose",), None, YEAR)
READING = Reading("ehr", "UTF-8", UTC, ("MR", ""), consents=Profile(forms={"LIMEN|support": FORM}))
PRODUCTION = READING._replace(production=True)
SIGNED = "CON|1|support^^LIMEN|F1|77|||||||A||20260301||20260601"
REFUSED = "CON|2|support^^LIMEN|F1|78|||||||R||20260301"


def message(trigger: str, *segments: str, pid: str = "PID|1||42^^^MAIN^MR", processing: str = "P") -> bytes:
    header = f"MSH|^~\\&|EPIC|SITE|||20260305100000||{trigger}|M1|{processing}|2.8"
    return "\r".join(part for part in (header, "EVN||20260305090000", pid, "PV1|1|I", *segments) if part).encode()


def consents(facts: list[AnyFact]) -> list[Consent]:
    return [fact for fact in facts if isinstance(fact, Consent)]


def instant(text: str) -> int:
    found = from_fhir(text)
    assert found is not None
    return found.time


def test_a_segment_is_read_whole() -> None:
    (fact,) = consents(read(message("ORU^R01", SIGNED), READING))
    march = instant("2026-03-01")
    assert (fact.says, fact.patient, fact.type) == (Says.PERMIT, "urn:id:MAIN\x1f42", "CON")
    assert (fact.given, fact.said, fact.end) == (march, march + DAY - 1, instant("2026-06-02"))
    assert (fact.purposes, fact.recipients, fact.actions) == FORM[:3]
    assert (fact.rule, fact.kinds) == (0, None)


def test_a_year_or_a_month_is_all_of_it_in_the_zone_of_its_source() -> None:
    segment = "CON|1|support^^LIMEN|F1|77|||||||A||202603|2026|202605"
    (fact,) = consents(read(message("ORU^R01", segment), READING._replace(zone=zone("America/New_York"))))
    assert (fact.given, fact.said + 1) == (instant("2026-03-01T05:00:00Z"), instant("2026-04-01T04:00:00Z"))
    assert (fact.start, fact.end) == (instant("2026-01-01T05:00:00Z"), instant("2026-06-01T04:00:00Z"))


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        ("ADT^A01", [Milestone, Consent]),
        ("ADT^A08", [Person, Consent]),
        ("ADT^A11", [Milestone, Consent]),
        ("ADT^A29", [Identity, Consent]),
        ("ADT^A05", [Consent]),
        ("MDM^T02", [Consent]),
        ("ZZZ^Z01", [Consent]),
    ],
)
def test_on_whatever_message(trigger: str, expected: list[type]) -> None:
    facts = read(message(trigger, SIGNED), READING)
    assert [type(fact) for fact in facts] == expected
    counted = [fact for fact in facts if isinstance(fact, Milestone) or fact.counted]  # type: ignore[union-attr]
    assert counted == facts[:1], "the message is counted once"


def test_several_segments_of_one_message() -> None:
    facts = consents(read(message("ORU^R01", SIGNED, REFUSED), READING))
    assert [(fact.says, fact.counted) for fact in facts] == [(Says.PERMIT, True), (Says.DENY, False)]
    assert len({fact.consent for fact in facts}) == len({fact.key for fact in facts}) == 2


def test_the_same_consent_on_two_messages_is_one() -> None:
    (one,), (other,) = (consents(read(message(trigger, SIGNED), READING)) for trigger in ("ADT^A01", "ADT^A03"))
    assert (one.key, one.what) == (other.key, other.what)
    (ended,) = consents(read(message("ADT^A03", SIGNED.replace("|A|", "|X|")), READING))
    assert ended.key == one.key and ended.what != one.what, "two contents of one decision"


@pytest.mark.parametrize("trigger", ["ORU^R01", "ADT^A01"])
def test_without_a_patient_it_is_rejected(trigger: str) -> None:
    """It may be a refusal: a person has to look."""
    with pytest.raises(MessageError) as caught:
        read(message(trigger, SIGNED, pid=""), READING)
    assert caught.value.reason is Reason.CONSENT_OF_NOBODY


@pytest.mark.parametrize("trigger", ["ORU^R01", "ADT^A17", "ADT^A08"])
def test_beside_several_patients_it_is_of_nobody(trigger: str) -> None:
    with pytest.raises(MessageError) as caught:
        read(message(trigger, "PID|2||43^^^MAIN^MR", SIGNED), READING)
    assert caught.value.reason is Reason.CONSENT_OF_NOBODY


@pytest.mark.parametrize("segment", [SIGNED, REFUSED])
def test_beside_two_patients_who_are_linked_it_is_unclear_for_both(segment: str) -> None:
    facts = read(message("ADT^A24", "PID|2||43^^^MAIN^MR", segment), READING)
    sides = [fact.patient for fact in facts if isinstance(fact, Identity)]
    assert [(fact.patient, fact.says, fact.counted) for fact in consents(facts)] == [
        (side, Says.UNCLEAR, False) for side in sides
    ]
    assert len(sides) == 2


def test_a_merge_keeps_the_consent_of_its_patient() -> None:
    facts = read(message("ADT^A40", REFUSED, "MRG|41^^^MAIN^MR"), READING)
    assert [fact.patient for fact in consents(facts)] == ["urn:id:MAIN\x1f42"]
    facts = read(message("ADT^A40", REFUSED, "MRG|41^^^MAIN^MR", pid="PID|1||"), READING)
    assert [fact.patient for fact in consents(facts)] == ["urn:id:MAIN\x1f41"]


@pytest.mark.parametrize("trigger", ["ORU^R01", "ADT^A01"])
def test_of_a_test_message_nothing_counts_in_production(trigger: str) -> None:
    assert consents(read(message(trigger, SIGNED), PRODUCTION))
    with pytest.raises(MessageError) as caught:
        read(message(trigger, SIGNED, processing="T"), PRODUCTION)
    assert caught.value.reason is Reason.WRONG_ENVIRONMENT


def test_an_unrouted_message_without_one_stays_unrouted() -> None:
    (fact,) = read(message("ORU^R01", pid="", processing="T"), PRODUCTION)
    assert isinstance(fact, Made) and fact.verdict is Verdict.UNROUTED


def test_a_trigger_that_the_source_does_not_take_still_carries_it() -> None:
    only = READING._replace(triggers=frozenset({"ADT^A03"}))
    (fact,) = consents(read(message("ADT^A01", REFUSED), only))
    assert fact.says is Says.DENY and fact.counted


def test_a_fact_holds_no_text_of_the_segment() -> None:
    marked = "CON|" + "|".join(f"<{n}>" for n in range(1, 26))
    wire = encode(read(message("ORU^R01", marked), READING))
    assert b"<" not in wire and b">" not in wire


@pytest.mark.parametrize(
    ("number", "mode", "status", "expected"),
    [
        ("77", "W", "A", Says.PERMIT),
        ("77", "W^Written^HL70497", "A", Says.PERMIT),
        ("77", "V", "A", Says.NOTHING),
        ("77", "T", "A", Says.NOTHING),
        ("77", "w", "A", Says.NOTHING),
        ("77", "", "A", Says.NOTHING),
        ("", "W", "A", Says.NOTHING),
        ('""', "W", "A", Says.NOTHING),
        ("", "", "R", Says.DENY),
        ("", "", "L", Says.UNCLEAR),
    ],
)
def test_where_a_signed_document_is_wanted(number: str, mode: str, status: str, expected: Says) -> None:
    """CON-10 `W`, written, and CON-4, the number of what was written."""
    segment = f"CON|1|support^^LIMEN||{number}||||||{mode}|{status}||20260301"
    wanted = READING._replace(consents=READING.consents._replace(documented=True))
    (fact,) = consents(read(message("ADT^A31", segment), wanted))
    assert fact.says is expected
    if expected is Says.NOTHING:
        (fact,) = consents(read(message("ADT^A31", segment), READING))
        assert fact.says is Says.PERMIT
