"""Instants: points in time with the precision that the source gave them, in microseconds since 1970-01-01T00:00:00Z.

`time` is the first instant that the text can mean and `span` how far it reaches: 0 from seconds on, a whole day for a
date. What a text does not say is never invented: a year or a month is no instant here, and an unreadable text is None.

Sources of the formats: HL7 v2.8 chapter 2A (DTM), FHIR R4 datatypes (date, dateTime, instant).
"""

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

MICROSECOND = 1
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
BEGINNING = -(2**60)  # before every instant; an open start
FOREVER = 2**60  # after every instant; an open end

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_STEP = timedelta(microseconds=1)
_FHIR = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d))?", re.ASCII)
_HL7 = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,4}))?)?)?)?([+-]\d{4})?", re.ASCII)


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
    if text is None:
        return None
    found = _FHIR.fullmatch(text)
    if found is None:
        return None
    year, month, day, clock, fraction, offset = found.groups()
    try:
        if clock is None:
            return _whole_day(int(year), int(month), int(day), local)
        if fraction is None:
            moment = datetime.fromisoformat(text)
        else:
            moment = datetime.fromisoformat(f"{year}-{month}-{day}T{clock}.{fraction[:6]:0<6}{offset}")
        return Instant((moment - _EPOCH) // _STEP, 0)
    except (ValueError, OverflowError):
        return None


def from_hl7(text: str, local: tzinfo = UTC) -> Instant | None:
    """Read an HL7 v2 DTM/TS of day precision or finer; without an offset it is in the source's own zone.

    >>> from_hl7("202405011200+0000") == Instant(from_fhir("2024-05-01T12:00:00Z").time, MINUTE)
    True
    """
    found = _HL7.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, offset = found.groups()
    try:
        where = _offset(offset) if offset else local
        if hour is None:
            return _whole_day(int(year), int(month), int(day), where)
        micro = int(fraction.ljust(6, "0")) if fraction else 0
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute or 0), int(second or 0), micro, where)
        span = HOUR if minute is None else MINUTE if second is None else 0
        return Instant((moment - _EPOCH) // _STEP, span)
    except (ValueError, OverflowError):
        return None


@lru_cache
def _offset(text: str) -> tzinfo:
    from_utc = timedelta(hours=int(text[1:3]), minutes=int(text[3:5]))
    if from_utc > timedelta(hours=14) or int(text[3:5]) > 59:
        raise ValueError
    return datetime.strptime(text, "%z").tzinfo or UTC


@lru_cache(maxsize=4096)
def _whole_day(year: int, month: int, day: int, where: tzinfo) -> Instant:
    midnight = datetime(year, month, day, tzinfo=where)
    after = date(year, month, day) + timedelta(days=1)
    time = (midnight - _EPOCH) // _STEP
    return Instant(time, (datetime(after.year, after.month, after.day, tzinfo=where) - _EPOCH) // _STEP - time)


@lru_cache(maxsize=65536)
def _day_text(number: int) -> str:
    return date.fromordinal(_EPOCH_DAY + number).isoformat()


def day_of(time: int, local: tzinfo = UTC) -> str:
    """The calendar day of an instant in a zone, as YYYY-MM-DD."""
    if local is not UTC:
        return (_EPOCH + timedelta(microseconds=time)).astimezone(local).date().isoformat()
    return _day_text(time // DAY)


def text_of(time: int) -> str:
    """An instant as RFC 3339 in UTC, to the second where it is whole.

    >>> text_of(0)
    '1970-01-01T00:00:00Z'
    """
    return (_EPOCH + timedelta(microseconds=time)).isoformat().replace("+00:00", "Z")
