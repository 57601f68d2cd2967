"""What a status of a FHIR R4 resource means here: one closed table over the types that a route asks for.

A status that names no milestone is unrouted: in doubt a resource states none. What is planned is none either, since the
patient may never come to it; a booking is one, since making it is what happened.
Sources: the required value sets of FHIR R4 for Encounter.status, EpisodeOfCare.status, Appointment.status,
AppointmentResponse.participantStatus, MedicationRequest.status, MedicationDispense.status, ResearchSubject.status.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.event import Kind

TAKEN_BACK = frozenset({"cancelled", "entered-in-error"})


class Statuses(NamedTuple):
    """`states`: the milestone that a status states. `ends`: the statuses that take `withdraws` back; the first of them
    says where the event is routed."""

    states: Mapping[str, Kind]
    withdraws: tuple[Kind, ...]
    ends: frozenset[str] = TAKEN_BACK


STATUSES: dict[str, Statuses] = {
    # an Encounter that never was takes the whole stay back
    "Encounter": Statuses({"finished": Kind.DISCHARGED}, (Kind.DISCHARGED, Kind.ADMITTED, Kind.REGISTERED)),
    "EpisodeOfCare": Statuses(
        {"active": Kind.ENROLLED, "finished": Kind.EPISODE_COMPLETED}, (Kind.EPISODE_COMPLETED, Kind.ENROLLED)
    ),
    # who did not come is not reminded either, as with HL7's S26
    "Appointment": Statuses(
        {"booked": Kind.BOOKED, "fulfilled": Kind.ATTENDED}, (Kind.BOOKED, Kind.ATTENDED), TAKEN_BACK | {"noshow"}
    ),
    # who declines will not come; the other answers leave the booking as the Appointment itself says
    "AppointmentResponse": Statuses({}, (Kind.BOOKED, Kind.ATTENDED), frozenset({"declined"})),
    # an order that is no longer in force: nothing is due under it any more
    "MedicationRequest": Statuses(
        {"active": Kind.PRESCRIBED}, (Kind.PRESCRIBED, Kind.REFILL_GAP), TAKEN_BACK | {"stopped", "completed"}
    ),
    "MedicationDispense": Statuses(
        {"completed": Kind.DISPENSED}, (Kind.DISPENSED, Kind.REFILL_GAP), TAKEN_BACK | {"stopped", "declined"}
    ),
    # screening and the states on study: recruited already, so there is nothing to ask a recruiter for
    "ResearchSubject": Statuses(
        dict.fromkeys(("candidate", "potential-candidate", "eligible"), Kind.TRIAL_ELIGIBLE),
        (Kind.TRIAL_ELIGIBLE,),
        TAKEN_BACK | {"ineligible", "not-registered", "off-study", "withdrawn"},
    ),
}
