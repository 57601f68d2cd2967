"""A hospital that never was: its patients, their visits and what they sign.

Written apart from the boundary, as its oracle: nothing in this package imports `transforms`, and no rule of consent is
evaluated. No case is a close one: the visits lie in the simulated period, in the afternoon (the same day in UTC and in
the hospital's zone), and every border (a grant, an end, a denial, a birthday) lies days outside it; only who signs at
the visit does so some hours after it.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import NamedTuple

from pipelines.simulated import treatments
from pipelines.simulated.chart import Clinician, Consent, Fate, History, Milestone, Patient, Visit
from pipelines.simulated.personas import EVERY, PERSONAS, RETIRED, Persona, Said
from schemas.outcome import Reason

START = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
MAJORITY = 18  # years
YEARLY = 300  # days: in a longer simulation the signature of a form, which lasts a year, would run out
RECENT = 20  # days: how long before its end a course of medication begins


class Plan(NamedTuple):
    """One visit: the prefix of its number, its patient class, its milestones in their order, and the format they are
    told in if it matters."""

    prefix: str
    patient_class: str
    kinds: tuple[str, ...]
    form: str = ""


PLANS = (
    Plan("VN", "I", ("admitted", "discharged")),
    Plan("VN", "O", ("registered", "discharged")),
    Plan("VN", "E", ("registered", "discharged")),
    Plan("VN", "O", ("registered",)),
    Plan("AP", "O", ("booked", "attended")),
    Plan("AP", "O", ("booked",)),
    Plan("EP", "O", ("episode-completed",)),
    Plan("EP", "O", ("enrolled", "episode-completed")),
)
STAY, SHORT = PLANS[0], PLANS[3]
AMBULATORY = Plan("VN", "O", ("discharged",), "fhir")
# What the source takes back: all of the visit where it speaks FHIR, the last milestone where it speaks HL7.
CANCELLED = (
    STAY._replace(form="hl7"), Plan("VN", "I", ("admitted",)), Plan("AP", "O", ("booked",), "hl7"),
    Plan("AP", "O", ("booked",), "fhir"), AMBULATORY,
)  # fmt: skip
CONFLICTING = (Plan("VN", "I", ("admitted",), "hl7"), Plan("AP", "O", ("attended",), "fhir"))
DISCHARGED = STAY._replace(form="hl7")
MARKED = (Fate.SENSITIVE, Fate.NAMED)

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
        "of age": START - timedelta(days=30),
        "denied": START - timedelta(days=30),
        "granted again": START - timedelta(days=20),
        "before": START - timedelta(days=10),
        "start": START,
        "end": end,
        "after": end + timedelta(days=5),
        "later": end + timedelta(days=10),
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
        personas = [one for one in PERSONAS if self._days <= YEARLY or not any(said.form for said in one.said)]
        weights = [persona.weight for persona in personas]
        for index in range(self.patients):
            persona = personas[index] if index < len(personas) else self._random.choices(personas, weights)[0]
            patient = self._patient(index, persona.twist)
            if persona.twist.startswith("merged"):  # a person who was registered twice
                second = patient._replace(mrn=f"GY{index:07d}", resource=f"pt-y{index:07d}")
                yield self._history(persona, patient, retires=second)
                withheld = dict.fromkeys(EVERY, Reason.IDENTITY_CHANGED)
                alone = persona._replace(name=RETIRED, said=persona.said[:1], withheld=withheld)
                yield self._history(alone, second)
            else:
                yield self._history(persona, patient)

    def _history(self, persona: Persona, patient: Patient, retires: Patient | None = None) -> History:
        milestones = tuple(self._milestones(persona.twist))
        consents = tuple(self._consent(patient, said, milestones[-1].at) for said in persona.said)
        news = self.calendar["denied" if persona.twist == "merged long ago" else "end"] + timedelta(days=1, hours=9)
        return History(persona, patient, consents, milestones, retires, news)

    def _milestones(self, twist: str) -> Iterator[Milestone]:
        """Those of visits in the order of their instants; those of one visit, and what is told of it twice, follow each
        other. After them come medication and studies."""
        if twist.startswith("old visit"):
            fate, visit = Fate.UNCOVERED if twist.endswith("denied") else Fate.UNDER_AGE, self._visit(STAY)
            for hours, kind in ((14, "admitted"), (18, "discharged")):
                yield Milestone(kind, self.calendar["old visit"] + hours * HOUR, visit, fate)
        plans = self._plans(twist)
        instants = iter(self._instants(sum(len(plan.kinds) for plan, _ in plans)))
        for plan, fate in plans:
            visit = self._visit(plan)
            for kind in plan.kinds:  # a mark binds the whole visit, any other fate is that of its last milestone
                last = kind == plan.kinds[-1]
                its = fate if last or fate in MARKED else Fate.STANDS
                told = Milestone(kind, next(instants), visit, its, plan.form, last and fate in MARKED)
                yield told
        if twist == "done again":
            yield told._replace(at=told.at + 2 * HOUR, fate=Fate.STANDS)
        elif twist == "two feeds differ":
            yield told._replace(at=told.at + HOUR / 20, fate=Fate.STANDS, form="fhir")
        elif twist in treatments.COURSES:
            code = self._random.choice(treatments.MEDICATIONS)
            yield from treatments.medication(twist, self._recent(), code, self._number)
        elif twist in treatments.STUDIES:
            at = self.calendar["old visit"] + 14 * HOUR if twist.endswith("early") else self._recent()
            yield treatments.candidate(twist, at, self._random.choice, self._number("RS"))

    def _plans(self, twist: str) -> list[tuple[Plan, Fate]]:
        """One to three visits, and what the twist adds to them."""
        choose = self._random.choice
        plans = [(plan, Fate.STANDS) for plan in self._random.choices(PLANS, k=self._random.randint(1, 3))]
        place = len(plans) * twist.endswith("newest")
        match twist.removesuffix(" newest"):
            case "inpatient":
                return [(STAY, Fate.STANDS)]
            case "one visit":
                return [(SHORT, Fate.STANDS)]
            case "cancelled":
                plans.insert(place, (choose(CANCELLED), Fate.CANCELLED))
            case "conflicting":
                plans.insert(place, (choose(CONFLICTING), Fate.CONFLICTING))
            case "sensitive":
                plans.insert(place, (choose(PLANS), Fate.SENSITIVE))
            case "substance use":
                plans.insert(place, (choose(PLANS), Fate.NAMED))
            case "no time":
                plans.insert(0, (AMBULATORY, Fate.TIMELESS))
            case "done again":
                plans.append((DISCHARGED, Fate.CANCELLED))
            case "two feeds differ":
                plans.append((DISCHARGED, Fate.REPLACED))
            case "kiosk":
                plans += [(SHORT, Fate.STANDS), (SHORT, Fate.STANDS)]
        return plans

    def _instants(self, count: int) -> list[datetime]:
        """Distinct instants in the period, ascending, between 13:00 and 20:00 UTC."""
        window = 7 * 3600
        seconds = sorted(self._random.sample(range(self._days * window), count))
        return [START + timedelta(days=s // window, hours=13, seconds=s % window) for s in seconds]

    def _recent(self) -> datetime:
        """An afternoon in the last days of the period."""
        day = self.calendar["end"] - timedelta(days=self._random.randint(1, min(self._days, RECENT)), hours=-13)
        return day + timedelta(seconds=self._random.randrange(7 * 3600))

    def _number(self, prefix: str) -> Visit:
        """What is no visit has a number and a clinician all the same."""
        return self._visit(Plan(prefix, "O", ()))

    def _consent(self, patient: Patient, said: Said, newest: datetime) -> Consent:
        """What is signed at the visit is signed six hours after the newest milestone; all else between 05:00 and
        midnight of its day, so that no two days' deliveries are cut near it."""
        jitter = timedelta(seconds=self._random.randrange(5 * 3600, 86400))
        instants = {name: at + jitter for name, at in self.calendar.items()} | {"visit": newest + 6 * HOUR}
        name = f"consent-{patient.resource}-{said.number}"
        return Consent(said, name, instants[said.given], instants[said.begins or said.given], instants[said.until])

    def _visit(self, plan: Plan) -> Visit:
        self._visits += 1
        role = self._random.choices(("ATND", "REF", "ADM"), (8, 1, 1))[0]
        return Visit(f"{plan.prefix}{self._visits:08d}", plan.patient_class, self._random.choice(self.clinicians), role)

    def _name(self) -> str:
        return self._random.choice(BEGINNINGS) + self._random.choice(ENDINGS)

    def _clinician(self) -> Clinician:
        digits = f"1{self._random.randrange(10**8):08d}"
        return Clinician(digits + luhn_digit("80840" + digits), self._name(), self._random.choice(GIVEN))

    def _patient(self, index: int, twist: str) -> Patient:
        """An adult from the start, but for those whom their twist makes younger."""
        draw, family = self._random.randrange, self._name()
        street, (city, postcode) = f"{draw(1, 999)} {self._name()} Lane", self._random.choice(CITIES)
        born = date(1930, 1, 1) + timedelta(days=draw(25_000))
        if twist == "minor":
            born = date(START.year - 14, 1, 1) + timedelta(days=draw(3000))
        elif twist == "old visit, under age":
            of_age = self.calendar["of age"].date()
            born = of_age.replace(year=of_age.year - MAJORITY)
        return Patient(
            mrn=f"GX{index:07d}",
            resource=f"pt-{index:07d}",
            family=family,
            given=self._random.choice(GIVEN),
            sex=self._random.choice("FM"),
            born=born,
            street=street,
            city=city,
            postcode=postcode,
            phone=f"(555) {draw(200, 999)}-{draw(10_000):04d}",
            ssn=f"9{draw(100):02d}-{draw(10, 99)}-{draw(10_000):04d}",
            account=f"AC{index:08d}",
            policy=f"PL{draw(10**9):09d}",
            note=f"{family} of {street} asks for a call after supper",
        )
