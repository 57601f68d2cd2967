"""Enrolment: in which support programmes a patient is, and from when until when.

    begins   with an active EpisodeOfCare whose type tables/programmes.yaml knows as one programme, at its start. Of a
             date the whole day counts. A copy that conflicts with another, that came too late or that says no time
             enrols nobody
    ends     when the same episode is first said to be finished, for good: of a date from its first instant, without a
             time from the beginning. A conflicting or late copy ends it too, and so does one that names no episode
    never    was what the source took back (entered-in-error, cancelled)

Rule sources: FHIR R4 EpisodeOfCare.status, .period, .type; DESIGN section 6 (programme enrolment).
"""

from collections.abc import Callable, Container, Iterable
from typing import NamedTuple

from schemas.event import Kind, Milestone
from schemas.instant import BEGINNING, FOREVER

ENROLLED, COMPLETED = Kind.ENROLLED, Kind.EPISODE_COMPLETED


class Enrolment(NamedTuple):
    """In one programme, in [begins, ends)."""

    programme: str
    begins: int
    ends: int

    def covers(self, one: Milestone, time: int) -> bool:
        """Was the patient enrolled during all of a milestone? The end of an episode still belongs to it."""
        until = time if one.kind is COMPLETED else time + max(one.span, 1)
        return self.begins <= time and until <= self.ends


def enrolments(
    milestones: Iterable[Milestone],
    numbers: Callable[[str], Iterable[str]],
    doubted: Container[bytes],
    taken_back: Callable[[Milestone], int],
) -> list[Enrolment]:
    """All of a patient's. `numbers` are all of the episode that has this one, `doubted` what enrols nobody;
    `taken_back` says up to when a milestone's episode was."""
    begun, ended = [], dict[str, int]()
    for one in milestones:
        if one.cancels:
            continue
        if one.kind is COMPLETED:
            time = BEGINNING if one.time is None else one.time
            for name in numbers(one.visit):
                ended[name] = min(time, ended.get(name, time))
        elif one.kind is ENROLLED and one.what not in doubted:
            begun.append(one)
    found = []
    for one in begun:
        programme = one.values.get("tier", "")
        if programme and one.time is not None and taken_back(one) < one.time:
            # an end that names no episode may be any one's, and an episode without a number may be meant by any
            names = ("", *numbers(one.visit)) if one.visit else ended
            found.append(
                Enrolment(programme, one.time, min([ended.get(name, FOREVER) for name in names], default=FOREVER))
            )
    return found
