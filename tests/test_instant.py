"""Instants: what a source said, to the precision in which it said it, and nothing that it did not say."""

from datetime import UTC, datetime, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.instant import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Instant,
    day_of,
    from_fhir,
    from_hl7,
    interval_from_fhir,
    interval_from_hl7,
    micros,
    text_of,
    zone,
)

NEW_YORK = zone("America/New_York")
UNITS = (HOUR, MINUTE, SECOND)
KIRITIMATI = zone("Pacific/Kiritimati")  # UTC+14, the first place to see a day


def at(year: int, month: int, day: int, *clock: int) -> int:
    """Microseconds of a moment in UTC."""
    return micros(datetime(year, month, day, tzinfo=UTC)) + sum(n * unit for n, unit in zip(clock, UNITS, strict=False))


NOON = at(2024, 5, 1, 12)

FHIR = [
    ("a second in UTC", "2024-05-01T12:00:00Z", Instant(NOON, 0)),
    ("a second with an offset", "2024-05-01T14:00:00+02:00", Instant(NOON, 0)),
    ("an offset that changes the day", "2024-04-30T22:00:00-14:00", Instant(NOON, 0)),
    ("tenths", "2024-05-01T12:00:00.5Z", Instant(NOON + SECOND // 2, 0)),
    ("more digits than are kept", "2024-05-01T12:00:00.123456789+00:00", Instant(NOON + 123_456, 0)),
    ("a date is a whole day", "2024-05-01", Instant(NOON - 12 * HOUR, DAY)),
    ("29 February", "2024-02-29", Instant(at(2024, 2, 29), DAY)),
    ("the last day that can be written", "9999-12-31", Instant(at(9999, 12, 31), DAY)),
    ("the last second that can be written", "9999-12-31T23:59:59Z", Instant(at(9999, 12, 31, 23, 59, 59), 0)),
    ("the first day", "0001-01-01", Instant(at(1, 1, 1), DAY)),
    ("nothing", None, None),
    ("an empty text", "", None),
    ("a month is no instant", "2024-05", None),
    ("a year is no instant", "2024", None),
    ("no zone, though FHIR demands one", "2024-05-01T12:00:00", None),
    ("no seconds, though FHIR demands them", "2024-05-01T12:00Z", None),
    ("a leap second", "2016-12-31T23:59:60Z", None),
    ("24 o'clock", "2024-05-01T24:00:00Z", None),
    ("30 February", "2024-02-30", None),
    ("29 February of no leap year", "2023-02-29T00:00:00Z", None),
    ("month 13", "2024-13-01", None),
    ("the year zero", "0000-01-01", None),
    ("after the last year, once in UTC", "9999-12-31T23:59:59-14:00", None),
    ("before the first year, once in UTC", "0001-01-01T00:00:00+14:00", None),
    ("an offset of no place", "2024-05-01T12:00:00+23:00", None),
    ("an offset of no clock", "2024-05-01T12:00:00+02:60", None),
    ("a space around it", " 2024-05-01", None),
    ("a line end behind it", "2024-05-01\n", None),
    ("digits of another script", "٢٠٢٤-05-01", None),
    ("a week date, which Python would read", "2024-W18-3", None),
    ("words", "unknown", None),
]


@pytest.mark.parametrize("text, expected", [pytest.param(*case, id=name) for name, *case in FHIR])
def test_fhir(text: str | None, expected: Instant | None) -> None:
    assert from_fhir(text) == expected


HL7 = [
    ("a second", "20240501120000", UTC, Instant(NOON, 0)),
    ("a minute is sixty seconds long", "202405011200", UTC, Instant(NOON, MINUTE)),
    ("an hour", "2024050112", UTC, Instant(NOON, HOUR)),
    ("a day", "20240501", UTC, Instant(NOON - 12 * HOUR, DAY)),
    ("fractions", "20240501120000.25", UTC, Instant(NOON + SECOND // 4, 0)),
    ("an offset", "202405011400+0200", UTC, Instant(NOON, MINUTE)),
    ("an offset outweighs the source's zone", "20240501140000+0200", NEW_YORK, Instant(NOON, 0)),
    ("a day with an offset", "20240501+0200", UTC, Instant(NOON - 14 * HOUR, DAY)),
    ("no offset: the source's zone", "20240501080000", NEW_YORK, Instant(NOON, 0)),
    ("the source's day", "20240501", NEW_YORK, Instant(NOON - 8 * HOUR, DAY)),
    ("the day on which the clock is set forward", "20240310", NEW_YORK, Instant(at(2024, 3, 10, 5), 23 * HOUR)),
    ("the day on which it is set back", "20241103", NEW_YORK, Instant(at(2024, 11, 3, 4), 25 * HOUR)),
    ("said twice that day: the first", "20241103013000", NEW_YORK, Instant(at(2024, 11, 3, 5, 30), 0)),
    ("skipped that day", "20240310023000", NEW_YORK, Instant(at(2024, 3, 10, 7, 30), 0)),
    ("the last day", "99991231", UTC, Instant(at(9999, 12, 31), DAY)),
    ("after the last year, once in UTC", "99991231235959", NEW_YORK, None),
    ("before the first year, once in UTC", "00010101", zone("Asia/Tokyo"), None),
    ("blanks around it", " 20240501120000  ", UTC, Instant(NOON, 0)),
    ("blanks alone", "  ", UTC, None),
    ("a blank in it", "20240501 120000", UTC, None),
    ("a line end behind it", "20240501\n", UTC, None),
    ("nothing", "", UTC, None),
    ("a month", "202405", UTC, None),
    ("a year", "2024", UTC, None),
    ("no day", "20240532", UTC, None),
    ("24 o'clock", "2024050124", UTC, None),
    ("a leap second", "20161231235960", UTC, None),
    ("half an hour field", "202405011", UTC, None),
    ("a fraction of a minute", "202405011200.5", UTC, None),
    ("an offset of no place", "20240501120000+1500", UTC, None),
    ("an offset of no clock", "20240501120000+0060", UTC, None),
    ("FHIR's form", "2024-05-01", UTC, None),
    ("a name", "DOE^JANE", UTC, None),
]


@pytest.mark.parametrize("text, local, expected", [pytest.param(*case, id=name) for name, *case in HL7])
def test_hl7(text: str, local: tzinfo, expected: Instant | None) -> None:
    assert from_hl7(text, local) == expected


MAY = Instant(NOON - 12 * HOUR, 31 * DAY)
COARSE = [
    ("a month", "2024-05", "202405", UTC, MAY),
    ("a month with an offset", None, "202405+0000", NEW_YORK, MAY),
    ("a year", "2024", "2024", UTC, Instant(at(2024, 1, 1), 366 * DAY)),
    ("a year with an offset", None, "2024+0200", UTC, Instant(at(2023, 12, 31, 22), 366 * DAY)),
    ("a month in which the clock is set", "2024-03", "202403", NEW_YORK, Instant(at(2024, 3, 1, 5), 31 * DAY - HOUR)),
    ("February", "2023-02", "202302", UTC, Instant(at(2023, 2, 1), 28 * DAY)),
    ("December", "2023-12", "202312", UTC, Instant(at(2023, 12, 1), 31 * DAY)),
    ("the last year", "9999", "9999", UTC, Instant(at(9999, 1, 1), 365 * DAY)),
    ("the last month, further west", "9999-12", "999912", NEW_YORK, Instant(at(9999, 12, 1, 5), 31 * DAY)),
    ("the first year", "0001", "0001", UTC, Instant(at(1, 1, 1), 365 * DAY)),
    ("before the first year, once in UTC", "0001", "0001", zone("Asia/Tokyo"), None),
    ("the year zero", "0000", "0000", UTC, None),
    ("month 13", "2024-13", "202413", UTC, None),
    ("month zero", "2024-00", "202400", UTC, None),
    ("a month of one digit", "2024-5", "20245", UTC, None),
    ("a year of two digits", "24", "24", UTC, None),
    ("an open month", "2024-", "2024-", UTC, None),
    ("nothing", "", "", UTC, None),
    ("no text", None, "", UTC, None),
    ("a line end behind it", "2024\n", "2024\n", UTC, None),
    ("digits of another script", "٢٠٢٤", "٢٠٢٤", UTC, None),
    ("each other's form", "202405", "2024-05", UTC, None),
    ("an offset that FHIR has not", "2024-05+02:00", "202405+02:00", UTC, None),
]


@pytest.mark.parametrize("fhir, hl7, local, expected", [pytest.param(*case, id=name) for name, *case in COARSE])
def test_a_year_or_a_month_is_all_of_it(fhir: str | None, hl7: str, local: tzinfo, expected: Instant | None) -> None:
    assert interval_from_hl7(hl7, local) == expected
    if fhir is not None:
        assert interval_from_fhir(fhir, local) == expected
    assert from_fhir(fhir, local) is None and from_hl7(hl7, local) is None, "an instant it is not"


def test_what_is_finer_is_the_same_interval() -> None:
    for _, text, expected in FHIR[:11]:
        assert interval_from_fhir(text) == expected
    for _, text, local, expected in HL7[:15]:
        assert interval_from_hl7(text, local) == expected


@pytest.mark.parametrize("local", [UTC, NEW_YORK, KIRITIMATI], ids=str)
@given(text=st.from_regex(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}(T?[0-9:.]{0,12}([Z+-][0-9:]{0,5})?)?", fullmatch=True))
def test_what_was_read_can_be_written(local: tzinfo, text: str) -> None:
    for found in (from_fhir(text, local), from_hl7(text, local)):
        if found is not None:
            assert from_fhir(text_of(found.time)) == Instant(found.time, 0)
            assert from_fhir(day_of(found.time, local)) is not None
            assert found.span >= 0


@given(text=st.text(max_size=40))
def test_any_text_is_an_instant_or_none(text: str) -> None:
    for read in (from_fhir, from_hl7, interval_from_fhir, interval_from_hl7):
        read(text)


@given(moment=st.datetimes(timezones=st.just(UTC)))
def test_no_microsecond_is_lost(moment: datetime) -> None:
    time = micros(moment)
    assert from_fhir(text_of(time)) == Instant(time, 0)
    assert day_of(time) == moment.date().isoformat()


def test_a_day_is_that_of_its_place() -> None:
    assert day_of(NOON, KIRITIMATI) == "2024-05-02"
    assert day_of(at(9999, 12, 31, 23), KIRITIMATI) == "9999-12-31"  # there is no day after it


def test_an_unknown_zone_is_refused_without_its_name() -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", ""):
        with pytest.raises(ValueError, match="^unknown time zone$"):
            zone(name)
