"""A hospital that never was: patients, visits, consents, and what must be released.

Written apart from the boundary, as its oracle: nothing here (or in `feeds`, `simulate`) imports `transforms`, and no
rule of consent is evaluated. A persona says both what its patient signed and for which purposes the visits cross, so
the truth is known by construction. No case is a close one: the visits lie in the simulated period, in the afternoon
(the same day in UTC and in the hospital's zone), and every border (a grant, an end, a denial) lies days outside it.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import NamedTuple

START = datetime(2026, 1, 5, tzinfo=UTC)
SUPPORT, VISIBLE = "PATSUPPORT", "HCPVISIBLE"
BOTH, NONE = (SUPPORT, VISIBLE), ()
ROUTES = {SUPPORT: "patient-support", VISIBLE: "hcp-notification"}


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
    """What became of a milestone before any consent is asked."""

    STANDS = "stands"
    CANCELLED = "cancelled"  # the source takes it back
    CONFLICTING = "conflicting"  # its message comes a second time with other content
    UNCOVERED = "uncovered"  # before the denial that a later permit lifts for later visits only


class Milestone(NamedTuple):
    kind: str
    at: datetime
    visit: Visit
    fate: Fate


class Said(NamedTuple):
    """One version of one consent document. `given` and `until` name instants of `calendar`."""

    says: str
    purposes: tuple[str, ...]
    given: str = "long ago"
    until: str = "never"
    number: int = 1
    version: int = 1
    status: str = "active"
    recipient: str = "crm"
    nested: bool = False


class Consent(NamedTuple):
    said: Said
    identifier: str
    given: datetime
    until: datetime


class Persona(NamedTuple):
    """`crosses`: the purposes under which the patient's visits cross. `twist`: what happens besides consent."""

    name: str
    weight: int
    crosses: tuple[str, ...]
    said: tuple[Said, ...]
    twist: str = ""


class History(NamedTuple):
    """All of one patient. `retires` is the record that a merge (A40) retires; that record's own history follows."""

    persona: Persona
    patient: Patient
    consents: tuple[Consent, ...]
    milestones: tuple[Milestone, ...]
    retires: Patient | None


# --- who there is -------------------------------------------------------------------------------------------------

PERMIT = Said("permit", BOTH)
ENDED = PERMIT._replace(given="after", version=2, status="inactive")
AGAIN = PERMIT._replace(given="granted again", number=3)
RETIRED = "merged, the record retired"
PERSONAS = (
    # The first patient is the story: enrolled, discharged, revoked.
    Persona("revoked", 6, NONE, (PERMIT, ENDED), "inpatient"),
    Persona("permits both", 30, BOTH, (PERMIT,)),
    Persona("permits both apart", 8, BOTH, (Said("permit", (SUPPORT,)), Said("permit", (VISIBLE,), number=2))),
    Persona("permits support", 8, (SUPPORT,), (Said("permit", (SUPPORT,)),)),
    Persona("permits visibility", 8, (VISIBLE,), (Said("permit", (VISIBLE,)),)),
    Persona("never asked", 15, NONE, ()),
    Persona("expired before", 4, NONE, (PERMIT._replace(until="before"),)),
    Persona("expires after", 4, NONE, (PERMIT._replace(until="after"),)),
    Persona("denied", 4, NONE, (PERMIT, Said("deny", BOTH, given="after", number=2))),
    Persona("denied support", 3, (VISIBLE,), (PERMIT, Said("deny", (SUPPORT,), given="after", number=2))),
    Persona("granted again", 4, BOTH, (PERMIT, Said("deny", BOTH, given="denied", number=2), AGAIN), "old visit"),
    Persona("narrowed", 3, (VISIBLE,), (PERMIT, Said("permit", (VISIBLE,), given="before", version=2))),
    Persona("other recipient", 3, NONE, (PERMIT._replace(recipient="registry"),)),
    Persona("treatment only", 3, NONE, (Said("permit", ("TREAT",)),)),
    Persona("entered in error", 3, NONE, (PERMIT, ENDED._replace(status="entered-in-error"))),
    # Its nested provision denies what its root permits: no reading of it lets anything out.
    Persona("unclear", 3, NONE, (PERMIT._replace(nested=True),)),
    Persona("marketing denied", 4, BOTH, (PERMIT, Said("deny", ("HMARKT",), given="before", number=2))),
    Persona("merged", 3, NONE, (PERMIT,), "merged"),
    Persona("cancelled", 5, BOTH, (PERMIT,), "cancelled"),
    Persona("cancelled newest", 2, BOTH, (PERMIT,), "cancelled newest"),
    Persona("conflicting", 3, BOTH, (PERMIT,), "conflicting"),
    Persona("conflicting newest", 2, BOTH, (PERMIT,), "conflicting newest"),
)

# prefix of the visit number, PV1-2, the milestones in their order
PLANS = (
    ("VN", "I", ("admitted", "discharged")),
    ("VN", "O", ("registered", "discharged")),
    ("VN", "E", ("registered", "discharged")),
    ("VN", "O", ("registered",)),
    ("AP", "O", ("booked", "attended")),
    ("AP", "O", ("booked",)),
    ("EP", "O", ("episode-completed",)),
)
CANCELLED_PLANS = (PLANS[0], ("VN", "I", ("admitted",)), PLANS[5])

BEGINNINGS = ("Quill", "Bramble", "Thistle", "Elm", "Larkspur", "Fennel", "Tansy", "Nettle", "Rook", "Sorrel", "Vetch")
ENDINGS = ("feather", "wick", "moor", "thorpe", "bottom", "snout", "whistle", "garth", "hollow", "mantle", "spindle")
GIVEN = ("Ada", "Bruno", "Chloë", "Dmitri", "Elsbeth", "Farid", "Gráinne", "Jørn", "Kezia", "Lucía", "Nkechi", "Otis")
CITIES = (("Port Larkin", "05499"), ("Saltmarsh", "04099"), ("Greywater", "12999"))


def calendar(days: int) -> dict[str, datetime]:
    """The instants of a simulation of so many days. Disclosure happens at `as of`, a month after the last visit."""
    end = START + timedelta(days=days)
    return {
        "long ago": START - timedelta(days=60),
        "old visit": START - timedelta(days=40),
        "denied": START - timedelta(days=30),
        "granted again": START - timedelta(days=20),
        "before": START - timedelta(days=10),
        "start": START,
        "end": end,
        "after": end + timedelta(days=5),
        "as of": end + timedelta(days=30),
        "never": end + timedelta(days=400),
    }


def luhn_digit(digits: str) -> str:
    """The check digit (ISO/IEC 7812-1) that makes `digits` and it a valid number.

    >>> luhn_digit("80840123456789")  # the example of the NPI check digit specification (CMS)
    '3'
    """
    doubled = (int(d) * (2 - i % 2) for i, d in enumerate(reversed(digits)))
    return str(-sum(d // 10 + d % 10 for d in doubled) % 10)


class Hospital:
    """Invents one history after another, from one random stream."""

    def __init__(self, patients: int, days: int, seed: int) -> None:
        self._random = Random(seed)
        self._days = days
        self._visits = 0
        self.patients = patients
        self.calendar = calendar(days)
        self.clinicians = [self._clinician() for _ in range(8 + patients // 50)]

    def histories(self) -> Iterator[History]:
        """Each patient's history; the first patients are one of each persona, the others are drawn by weight."""
        weights = [persona.weight for persona in PERSONAS]
        for index in range(self.patients):
            persona = PERSONAS[index] if index < len(PERSONAS) else self._random.choices(PERSONAS, weights)[0]
            patient = self._patient(index)
            if persona.twist == "merged":  # a person who was registered twice
                second = patient._replace(mrn=f"GY{index:07d}", resource=f"pt-y{index:07d}")
                yield self._history(persona, patient, retires=second)
                yield self._history(persona._replace(name=RETIRED), second)
            else:
                yield self._history(persona, patient)

    def _history(self, persona: Persona, patient: Patient, retires: Patient | None = None) -> History:
        consents = tuple(self._consent(patient, said) for said in persona.said)
        return History(persona, patient, consents, tuple(self._milestones(persona.twist)), retires)

    def _milestones(self, twist: str) -> Iterator[Milestone]:
        plans = [(plan, Fate.STANDS) for plan in self._random.choices(PLANS, k=self._random.randint(1, 3))]
        if twist == "inpatient":
            plans = [(PLANS[0], Fate.STANDS)]
        elif twist.startswith("cancelled"):
            plans.insert(len(plans) * twist.endswith("newest"), (self._random.choice(CANCELLED_PLANS), Fate.CANCELLED))
        elif twist.startswith("conflicting"):
            plans.insert(len(plans) * twist.endswith("newest"), (CANCELLED_PLANS[1], Fate.CONFLICTING))
        elif twist == "old visit":
            visit = self._visit("VN", "I")
            for hours, kind in ((14, "admitted"), (18, "discharged")):
                yield Milestone(kind, self.calendar["old visit"] + timedelta(hours=hours), visit, Fate.UNCOVERED)
        instants = iter(self._instants(sum(len(kinds) for (_, _, kinds), _ in plans)))
        for (prefix, patient_class, kinds), fate in plans:
            visit = self._visit(prefix, patient_class)
            for kind in kinds:  # a fate is that of the visit's last milestone
                yield Milestone(kind, next(instants), visit, fate if kind == kinds[-1] else Fate.STANDS)

    def _instants(self, count: int) -> list[datetime]:
        """Distinct instants in the period, ascending, between 13:00 and 20:00 UTC."""
        window = 7 * 3600
        seconds = sorted(self._random.sample(range(self._days * window), count))
        return [START + timedelta(days=s // window, hours=13, seconds=s % window) for s in seconds]

    def _consent(self, patient: Patient, said: Said) -> Consent:
        jitter = timedelta(seconds=self._random.randrange(86400))
        name = f"consent-{patient.resource}-{said.number}"
        return Consent(said, name, self.calendar[said.given] + jitter, self.calendar[said.until] + jitter)

    def _visit(self, prefix: str, patient_class: str) -> Visit:
        self._visits += 1
        role = self._random.choices(("ATND", "REF", "ADM"), (8, 1, 1))[0]
        return Visit(f"{prefix}{self._visits:08d}", patient_class, self._random.choice(self.clinicians), role)

    def _name(self) -> str:
        return self._random.choice(BEGINNINGS) + self._random.choice(ENDINGS)

    def _clinician(self) -> Clinician:
        digits = f"1{self._random.randrange(10**8):08d}"
        return Clinician(digits + luhn_digit("80840" + digits), self._name(), self._random.choice(GIVEN))

    def _patient(self, index: int) -> Patient:
        """An adult: what is told of minors follows other rules."""
        draw, family = self._random.randrange, self._name()
        street, (city, postcode) = f"{draw(1, 999)} {self._name()} Lane", self._random.choice(CITIES)
        return Patient(
            mrn=f"GX{index:07d}",
            resource=f"pt-{index:07d}",
            family=family,
            given=self._random.choice(GIVEN),
            sex=self._random.choice("FM"),
            born=date(1930, 1, 1) + timedelta(days=draw(25_000)),
            street=street,
            city=city,
            postcode=postcode,
            phone=f"(555) {draw(200, 999)}-{draw(10_000):04d}",
            ssn=f"9{draw(100):02d}-{draw(10, 99)}-{draw(10_000):04d}",
            account=f"AC{index:08d}",
            policy=f"PL{draw(10**9):09d}",
            note=f"{family} of {street} asks for a call after supper",
        )


# --- what must be released ----------------------------------------------------------------------------------------


def released(history: History) -> Iterator[tuple[str, Milestone]]:
    """Each (route, milestone) that must reach the CRM, and no other may.

    `hcp-notification` has a record per visit and kind: all that stand. `patient-support` has one record per patient:
    the newest milestone decides alone, whatever became of it (DESIGN section 3).
    """
    if VISIBLE in history.persona.crosses:
        for milestone in history.milestones:
            if milestone.fate is Fate.STANDS:
                yield ROUTES[VISIBLE], milestone
    newest = max(history.milestones, key=lambda milestone: milestone.at)
    if SUPPORT in history.persona.crosses and newest.fate is Fate.STANDS:
        yield ROUTES[SUPPORT], newest
