"""Instants: points in time with the precision that the source gave them, in microseconds since 1970-01-01T00:00:00Z.

`time` is the first instant that the text can mean and `span` how far it reaches: 0 from seconds on, a whole day for a
date. What a text does not say is never invented: a year or a month is no instant, and an unreadable text is None. Where
an interval will do, as in a consent, a year or a month is all of it.

Sources of the formats: HL7 v2.8 chapter 2A (DTM), FHIR R4 datatypes (date, dateTime, instant).
"""

import re
from calendar import monthrange
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BEGINNING = -(2**60)  # before every instant; an open start
FOREVER = 2**60  # after every instant; an open end

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_STEP = timedelta(microseconds=1)
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _STEP  # what lies outside the years 1 to 9999 in UTC cannot be
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _STEP  # written down again
_OFFSET = r"(?:0\d|1[0-4])"  # hours; no place on Earth is further from UTC than 14
_FHIR = re.compile(rf"\d{{4}}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{{1,9}})?(?:Z|[+-]{_OFFSET}:[0-5]\d))?", re.ASCII)
_HL7 = re.compile(rf"(\d{{8}}(?:\d\d(?:\d\d(?:\d\d(?:\.\d{{1,4}})?)?)?)?)([+-]{_OFFSET}[0-5]\d)?", re.ASCII)
_COARSE_FHIR = re.compile(r"(\d{4})(?:-(\d\d))?()", re.ASCII)
_COARSE_HL7 = re.compile(rf"(\d{{4}})(\d\d)?([+-]{_OFFSET}[0-5]\d)?", re.ASCII)


class Instant(NamedTuple):
    """`time` ≤ the moment meant < `time` + `span` (or = `time` where `span` is 0). Microseconds."""

    time: int
    span: int


@lru_cache
def zone(name: str) -> tzinfo:
    """The time zone of that IANA name. Raises ValueError for an unknown one."""
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError("unknown time zone") from None


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC of an aware datetime."""
    return (moment - _EPOCH) // _STEP


def from_fhir(text: str | None, local: tzinfo = UTC) -> Instant | None:
    """Read a FHIR date, dateTime or instant of day precision or finer.

    >>> from_fhir("2024-05-01T12:00:00Z").span
    0
    >>> from_fhir("2024-05-01").span == DAY
    True
    >>> from_fhir("2024-05") is None
    True
    """
    if text is None or _FHIR.fullmatch(text) is None:
        return None
    try:
        if len(text) == 10:
            return _whole_day(text, local)
        return _instant(datetime.fromisoformat(text), 0)
    except ValueError:  # no such day, hour, minute or second
        return None


def from_hl7(text: str, local: tzinfo = UTC) -> Instant | None:
    """Read an HL7 v2 DTM/TS of day precision or finer, with or without blanks around it; without an offset it is in the
    source's own zone.

    >>> from_hl7("202405011200+0000") == Instant(from_fhir("2024-05-01T12:00:00Z").time, MINUTE)
    True
    """
    found = _HL7.fullmatch(text.strip(" "))
    if found is None:
        return None
    clock, offset = found.groups()
    try:
        if len(clock) == 8:
            return _whole_day(clock, _offset(offset) if offset else local)
        moment = datetime.fromisoformat(f"{clock[:8]}T{clock[8:]}{offset or ''}")
        if offset is None:  # said twice, when the clock is set back: the first of the two
            moment = moment.replace(tzinfo=local)
        return _instant(moment, HOUR if len(clock) == 10 else MINUTE if len(clock) == 12 else 0)
    except ValueError:  # no such day, hour, minute or second
        return None


def interval_from_fhir(text: str | None, local: tzinfo = UTC) -> Instant | None:
    """Read a FHIR date, dateTime or instant of whatever precision: a year or a month is all of it.

    >>> interval_from_fhir("2024-02") == Instant(from_fhir("2024-02-01").time, 29 * DAY)
    True
    >>> interval_from_fhir("2024-02-01") == from_fhir("2024-02-01")
    True
    """
    return from_fhir(text, local) or _month_or_year(_COARSE_FHIR.fullmatch(text or ""), local)


def interval_from_hl7(text: str, local: tzinfo = UTC) -> Instant | None:
    """Read an HL7 v2 DTM/TS of whatever precision: a year or a month is all of it.

    >>> interval_from_hl7("2024") == interval_from_fhir("2024")
    True
    """
    return from_hl7(text, local) or _month_or_year(_COARSE_HL7.fullmatch(text.strip(" ")), local)


def _month_or_year(found: re.Match[str] | None, local: tzinfo) -> Instant | None:
    """From the first midnight of its first day to the last of its last."""
    if found is None:
        return None
    year, month, offset = found.groups()
    where = _offset(offset) if offset else local
    try:
        first = _whole_day(f"{year}-{month or '01'}-01", where)
        last = _whole_day(f"{year}-{month or '12'}-{monthrange(int(year), int(month or 12))[1]}", where)
    except ValueError:  # no such year or month
        return None
    return Instant(first.time, last.time + last.span - first.time) if first and last else None


def _instant(moment: datetime, span: int) -> Instant | None:
    since = moment - _EPOCH  # its parts are whole numbers, and dividing by a step is dear
    time = (since.days * 86_400 + since.seconds) * SECOND + since.microseconds
    return Instant(time, span) if _FIRST <= time <= _LAST else None


@lru_cache
def _offset(text: str) -> tzinfo:
    from_utc = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    return timezone(-from_utc if text[0] == "-" else from_utc)


@lru_cache(maxsize=4096)
def _whole_day(text: str, where: tzinfo) -> Instant | None:
    """From midnight to midnight of that place: 23 or 25 hours where the clock is changed."""
    midnight = datetime.fromisoformat(text).replace(tzinfo=where)
    if midnight.date() == date.max:  # 9999-12-31, which many write for "without end", has no day after it
        return _instant(midnight, DAY)
    return _instant(midnight, (midnight + timedelta(days=1) - _EPOCH) // _STEP - (midnight - _EPOCH) // _STEP)


@lru_cache(maxsize=65536)
def _day_text(number: int) -> str:
    return date.fromordinal(_EPOCH_DAY + number).isoformat()


def day_of(time: int, local: tzinfo = UTC) -> str:
    """The calendar day of an instant in a zone, as YYYY-MM-DD."""
    if local is not UTC:
        try:
            return (_EPOCH + timedelta(microseconds=time)).astimezone(local).date().isoformat()
        except OverflowError:  # the first or last day of the calendar has no neighbour
            pass
    return _day_text(time // DAY)


def text_of(time: int) -> str:
    """An instant as RFC 3339 in UTC, to the second where it is whole.

    >>> text_of(0)
    '1970-01-01T00:00:00Z'
    """
    return (_EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")
