"""What the law of the policy's jurisdiction adds to consent: how long a permit can be valid at most, and that it has to
say until when.

It shortens permits or leaves them as they are; what denies or ends, it never touches. It is applied to the facts as
they are known, whatever format they came in, each time anew: another law decides anew over what a ledger keeps.

Rule sources: the rows of the policy's jurisdictions.yaml, each with its statute; 45 CFR 160.203(b) (more stringent
state law), 164.508(c)(1)(v) (expiry).
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from schemas.event import Consent, Says
from schemas.instant import BEGINNING, DAY, FOREVER, from_fhir
from schemas.policy import Policy

_NO_END = from_fhir("9999-01-01")
assert _NO_END is not None  # noqa: S101  a date
OPEN_ENDED = _NO_END.time  # a date in the last year of the calendar is how many systems write that there is no end


class Law(NamedTuple):
    """The limits of a permit, in microseconds from when it was given (FOREVER: none): `longest` of any, `silent` of one
    that states no end; under `needs_end` such a one grounds nothing."""

    needs_end: bool = False
    longest: int = FOREVER
    silent: int = FOREVER


NO_LIMITS = Law()


def law_of(policy: Policy) -> Law:
    """The law of a policy's jurisdiction, with that of all which it lies within: the strictest of each limit."""
    rows = [policy.jurisdictions[place] for place in policy.lineage]
    longest = [row.permit_days * DAY for row in rows if row.permit_days is not None]
    silent = [row.silent_permit_days * DAY for row in rows if row.silent_permit_days is not None]
    return Law(any(row.permit_needs_end for row in rows), min(longest, default=FOREVER), min(silent, default=FOREVER))


def lawful(consents: Sequence[Consent], law: Law) -> Sequence[Consent]:
    """What these consents say under a law: each permit ends when the law ends it. One that the law does not let permit
    anything ends at the BEGINNING."""
    if law == NO_LIMITS:
        return consents
    return [_limited(one, law) if one.says is Says.PERMIT else one for one in consents]


def _limited(permit: Consent, law: Law) -> Consent:
    end = _end(permit, law)
    return permit if end == permit.end else replace(permit, end=end)


def _end(permit: Consent, law: Law) -> int:
    end = min(permit.end, _after(permit.given, law.longest))
    if permit.end < OPEN_ENDED:
        return end
    return BEGINNING if law.needs_end else min(end, _after(permit.given, law.silent))


def _after(given: int, lasts: int) -> int:
    return FOREVER if lasts == FOREVER else given + lasts
