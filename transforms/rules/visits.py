"""Which numbers are one visit's, for what only ever withholds: a mark, a cancellation, the end of an enrolment.

A hospital's feeds number one visit in several ways (HL7 PV1-19, FHIR Encounter.identifier and .id), and no message has
to state them all. Two numbers that any milestone of the patient states together are the same visit's, and so are those
that a third joins. Wrongly joined numbers withhold more, never less.
"""

from collections.abc import Iterable, Mapping

from schemas.event import Milestone

Numbers = Mapping[str, Iterable[str]]


def joined(milestones: Mapping[bytes, Milestone], also: Mapping[bytes, Iterable[str]]) -> Numbers:
    """Number → all numbers of its visit, where it has several. `also`: content → further numbers of its visit."""
    found: dict[str, set[str]] = {}
    for what, further in also.items():
        if what in milestones:
            visit = {milestones[what].visit, *further}
            visit.update(*(found[number] for number in visit if number in found))
            found.update(dict.fromkeys(visit, visit))
    return found
