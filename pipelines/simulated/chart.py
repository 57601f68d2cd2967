"""What a patient's chart holds in the simulated hospital: who it is, what happened, what was signed. Types alone."""

from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from pipelines.simulated.personas import Persona, Said
from schemas.outcome import Reason


class Patient(NamedTuple):
    """One record of one person. Every string in it is material for leak tests."""

    mrn: str
    resource: str  # FHIR logical id
    family: str
    given: str
    sex: str
    born: date
    street: str
    city: str
    postcode: str
    phone: str
    ssn: str
    account: str
    policy: str
    note: str
    died: bool = False


class Clinician(NamedTuple):
    npi: str
    family: str
    given: str


class Visit(NamedTuple):
    """`patient_class` as in PV1-2 (I, O, E); `role` is the clinician's, as in v3-ParticipationType (ATND, REF, ADM)."""

    number: str
    patient_class: str
    clinician: Clinician
    role: str


class Fate(StrEnum):
    """What became of a milestone before any consent of its patient's persona is asked: it stands, or the reason why it
    cannot be released."""

    STANDS = "stands"
    NAMED = "named"  # a message of its visit is marked as substance use, which a consent names
    CANCELLED = Reason.CANCELLED  # the source takes it back
    CONFLICTING = Reason.CONFLICTING_COPY  # its message comes a second time, naming another visit
    REPLACED = Reason.SUPERSEDED  # another feed says the same, and minutes later
    SENSITIVE = Reason.SENSITIVE  # a message of its visit is marked
    TIMELESS = Reason.NO_TIME
    UNCOVERED = Reason.DENIED  # before the denial that a later permit lifts for later visits only
    UNDER_AGE = Reason.MINOR  # before the patient came of age
    REFILLED = Reason.REFILLED  # a gap that a refill closes in time
    NOT_DUE = Reason.AFTER_HORIZON  # a gap that falls due after the disclosure
    UNAPPROVED = Reason.STUDY_NOT_APPROVED


class Milestone(NamedTuple):
    """`form`: it is told in this format only. `marked`: a first message of it carries a mark of sensitivity. `detail`:
    the medication's RxNorm code, the study as its source names it. `supply`: the days that a dispense lasts. `until`:
    when the source takes it back, where that is not forty minutes later.

    A `refill-gap` is told by nobody: it falls due by itself after the order or dispense of the same visit number.
    `refill` is the number of the dispense that closes it in time, `order` that of the order whose end takes it back.
    """

    kind: str
    at: datetime
    visit: Visit
    fate: Fate
    form: str = ""
    marked: bool = False
    detail: str = ""
    supply: int = 0
    until: datetime | None = None
    refill: str = ""
    order: str = ""

    @property
    def twin(self) -> "Milestone":
        """What the conflicting copy of its message says."""
        return self._replace(visit=self.visit._replace(number=f"{self.visit.number}X"))


class Consent(NamedTuple):
    said: Said
    identifier: str
    given: datetime
    begins: datetime
    until: datetime


class History(NamedTuple):
    """All of one patient. `retires` is the record that a merge retires; that record's own history follows. `news` is
    when the merge, or the patient's death, becomes known."""

    persona: Persona
    patient: Patient
    consents: tuple[Consent, ...]
    milestones: tuple[Milestone, ...]
    retires: Patient | None
    news: datetime
