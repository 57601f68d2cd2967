"""What befalls patients of the simulated hospital between their visits: medication that is ordered, dispensed,
refilled, stopped or runs out, and studies that they are found eligible for.

Each course says of each gap what becomes of it; no rule of refills or studies is evaluated here.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from pipelines.simulated.chart import Fate, Milestone, Visit

DAY = timedelta(days=1)
GRACE, FIRST_FILL = 7, 14  # days, as in the default policy (`refill`)
SHORT, LONG = 5, 90  # days of supply: runs out long before the disclosure, and long after it
MEDICATIONS = ("860975", "197361", "314076", "617312")  # RxNorm


class Supply(NamedTuple):
    """The order (day 0) or a dispense: on which day of the course, for how many days its supply lasts, what becomes of
    the gap after it, and whether the next dispense closes that gap in time."""

    day: int
    lasts: int
    fate: Fate
    refilled: bool = False


ORDER = Supply(0, FIRST_FILL - GRACE, Fate.REFILLED, refilled=True)
COURSES = {
    "on track": (ORDER, Supply(1, LONG, Fate.NOT_DUE)),
    "lapsed": (ORDER, Supply(1, SHORT, Fate.STANDS)),
    "never filled": (ORDER._replace(fate=Fate.STANDS, refilled=False),),
    "refilled": (ORDER, Supply(1, SHORT, Fate.REFILLED, refilled=True), Supply(7, LONG, Fate.NOT_DUE)),
    "refilled late": (ORDER, Supply(1, SHORT, Fate.STANDS), Supply(16, LONG, Fate.NOT_DUE)),
    "stopped": (ORDER._replace(fate=Fate.CANCELLED), Supply(1, SHORT, Fate.CANCELLED)),
    "stopped, never filled": (ORDER._replace(fate=Fate.CANCELLED, refilled=False),),
}
STOPPED = 3  # on which day an order is stopped

APPROVED = ("http://clinicaltrials.gov|NCT00000000", "ResearchStudy/lmn-example-1")  # of tables/studies.yaml
STUDIES = {  # how a patient became a candidate: for which study, and what becomes of it
    "candidate": (APPROVED, Fate.STANDS),
    "candidate, no more": (APPROVED, Fate.CANCELLED),
    "candidate, too early": (APPROVED, Fate.UNAPPROVED),  # before the site approved it
    "candidate, closed": (("http://clinicaltrials.gov|NCT00000001",), Fate.UNAPPROVED),
    "candidate, unknown study": (("http://clinicaltrials.gov|NCT99999999",), Fate.UNAPPROVED),
}


def medication(course: str, begun: datetime, code: str, visit: Callable[[str], Visit]) -> Iterator[Milestone]:
    """The milestones of one course, each supply before its gap. `visit` gives a new number for a prefix."""
    supplies = COURSES[course]
    visits = [visit("RX" if one.day == 0 else "MD") for one in supplies]
    order = visits[0].number
    for place, (one, its) in enumerate(zip(supplies, visits, strict=True)):
        at = begun + one.day * DAY
        if one.day:
            yield Milestone("dispensed", at, its, Fate.STANDS, "fhir", detail=code, supply=one.lasts)
        elif one.fate is Fate.CANCELLED:
            stopped = begun + STOPPED * DAY
            yield Milestone("prescribed", at, its, Fate.CANCELLED, "fhir", detail=code, until=stopped)
        else:
            yield Milestone("prescribed", at, its, Fate.STANDS, "fhir", detail=code)
        refill = visits[place + 1].number if one.refilled else ""
        yield Milestone("refill-gap", at + (one.lasts + GRACE) * DAY, its, one.fate, refill=refill, order=order)


def candidate(how: str, at: datetime, choose: Callable[[tuple[str, ...]], str], visit: Visit) -> Milestone:
    """Found eligible for a study."""
    studies, fate = STUDIES[how]
    return Milestone("trial-eligible", at, visit, fate, "fhir", detail=choose(studies))
