"""`limen simulate`: a synthetic hospital's feeds, and in a side file the truth of what must be released.

    hospital (who, when, what crosses) ── _InterfaceEngine (how it is told, and how often) ──▶ DIR/feeds
                    └──────────────────────────────────────────────────────────────────────▶ DIR/truth.json

The truth never passes through the boundary's own rules. Equal arguments write equal bytes: the simulated time starts
on a fixed day and no clock is read. All messages of one simulation are held in memory to be sorted (about 1 KB each).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import NamedTuple

from pipelines import feeds
from pipelines.hospital import Consent, Fate, History, Hospital, Milestone, Patient, released
from schemas.errors import ConfigurationError

# how each ADT file frames its messages
ADT_FILES = {"adt-1.hl7": "cr", "adt-2.hl7": "crlf", "adt-3.hl7": "lf", "adt-4.hl7": "mllp"}
FRAMINGS = {**ADT_FILES, "siu.hl7": "crlf"}
FORMATS = {
    "admitted": ("hl7",),
    "registered": ("hl7",),
    "discharged": ("hl7", "fhir"),
    "booked": ("hl7", "fhir"),
    "attended": ("fhir",),
    "episode-completed": ("fhir",),
}
VERSION = {"booked": 1, "attended": 2, "discharged": 2, "episode-completed": 1}  # an Encounter's first is in-progress
BUNDLES = 20
BLANK_LINE_EVERY = 50
MALFORMED_EVERY = 15  # patients
RECEIVED = ("rejected", "repeated", "consent", "control", "unrouted", "events_routed")


class Simulated(NamedTuple):
    """What was written. `counts` is conserved: received is the sum of the others (DESIGN section 7)."""

    feeds: Path
    truth: Path
    as_of: str
    counts: Mapping[str, int]
    released: int


def simulate(patients: int, days: int, seed: int, output: Path) -> Simulated:
    """Write `output`/feeds and `output`/truth.json. Raises ConfigurationError, before anything is written."""
    if patients < 1:
        raise ConfigurationError("--patients", "less than one patient", "ask for at least 1")
    if days < 1:
        raise ConfigurationError("--days", "less than one day", "ask for at least 1")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigurationError("--output", "not an empty folder", "name a new or an empty one")

    hospital = Hospital(patients, days, seed)
    engine = _InterfaceEngine(hospital.calendar, seed)
    releases: list[dict[str, str]] = []
    personas: Counter[str] = Counter()
    identifiers: set[str] = set()
    story: dict[str, str] = {}
    for history in hospital.histories():
        engine.tell(history)
        personas[history.persona.name] += 1
        identifiers |= _identifying(history)
        releases += (_release(route, history.patient, milestone) for route, milestone in released(history))
        story = story or _story(history)

    as_of = feeds.instant(hospital.calendar["as of"])
    counts = {"received": engine.counts.total(), **{verdict: engine.counts[verdict] for verdict in RECEIVED}}
    folder, truth = output / "feeds", output / "truth.json"
    engine.write(folder)
    document = {
        "as_of": as_of,
        "patients": patients,
        "days": days,
        "seed": seed,
        "counts": counts,
        "personas": dict(sorted(personas.items())),
        "story": story,
        "released": sorted(releases, key=lambda release: tuple(release.values())),
        "identifiers": sorted(identifiers),
    }
    with truth.open("w", encoding="utf-8", newline="\n") as file:
        json.dump(document, file, indent=1, ensure_ascii=False)
    return Simulated(folder, truth, as_of, counts, len(releases))


def _release(route: str, patient: Patient, milestone: Milestone) -> dict[str, str]:
    return {
        "route": route,
        "system": feeds.SYSTEM,
        "value": patient.mrn,
        "visit": milestone.visit.number,
        "kind": milestone.kind,
        "day": f"{milestone.at:%Y-%m-%d}",
    }


def _identifying(history: History) -> set[str]:
    """What must occur in nothing that leaves the hospital, nor in its audit log."""
    p = history.patient
    found = {p.mrn, p.resource, p.family, p.street, p.phone, p.ssn, p.account, p.policy, p.note, p.born.isoformat()}
    visits = {milestone.visit for milestone in history.milestones}
    return found | {visit.number for visit in visits} | {visit.clinician.family for visit in visits}


def _story(history: History) -> dict[str, str]:
    """One patient to follow from end to end: enrolled, discharged, revoked."""
    granted, ended = history.consents
    discharged = history.milestones[-1]
    return {
        "system": feeds.SYSTEM,
        "value": history.patient.mrn,
        "visit": discharged.visit.number,
        "enrolled": feeds.instant(granted.given),
        "discharged": feeds.instant(discharged.at),
        "revoked": feeds.instant(ended.given),
    }


class _InterfaceEngine:
    """Tells one history after another to the feeds, and counts each message as what the boundary must make of it."""

    def __init__(self, calendar: Mapping[str, datetime], seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self._calendar = calendar
        self._random = Random(f"{seed} feeds")
        self._serial = count(1)
        self._files: defaultdict[str, list[tuple[datetime, int, bytes]]] = defaultdict(list)
        self._bundles: list[bytes] = []
        self._told = 0

    def tell(self, history: History) -> None:
        p = history.patient
        patient = feeds.demographics(p) | {"id": p.resource, "meta": {"versionId": "1"}}
        self._put("fhir.ndjson", self._calendar["long ago"], feeds.line(patient), "control")
        for consent in history.consents:
            self._consent(p, consent, alone=len(history.consents) == 1)
        for milestone in history.milestones:
            self._milestone(p, milestone)
        if history.retires is not None:
            at = self._calendar["end"] + timedelta(days=1)
            self._put(self._adt_file(), at, feeds.merge(p, history.retires, self._control(), at), "control")
        self._unrouted(p, history.milestones[0].at)
        if self._told % MALFORMED_EVERY == 0:
            defect, file = list(feeds.MALFORMED.items())[self._told // MALFORMED_EVERY % len(feeds.MALFORMED)]
            body = feeds.malformed(defect, p, history.milestones[0], self._control())
            self._put(file, self._calendar["after"], body, "rejected")  # late: no feed begins with it
        self._told += 1

    def write(self, folder: Path) -> None:
        """The feeds, each in the order of its arrival."""
        (folder / "bundles").mkdir(parents=True)
        for name, messages in self._files.items():
            messages.sort()
            with (folder / name).open("wb") as file:
                for index, (_, _, body) in enumerate(messages):
                    if name in FRAMINGS:
                        file.write(feeds.framed(body, FRAMINGS[name]))
                    else:
                        file.write(b"\n" * (index % BLANK_LINE_EVERY == BLANK_LINE_EVERY - 1) + body + b"\n")
        for index, body in enumerate(self._bundles):
            (folder / "bundles" / f"{index:03d}.json").write_bytes(body)

    # --- what happened ---

    def _consent(self, p: Patient, consent: Consent, alone: bool) -> None:
        """Whatever follows a patient's first consent comes through the consent desk's own feed."""
        first = consent.said.number == consent.said.version == 1
        document = feeds.consent(p, consent)
        file, body = "fhir.ndjson" if first else "consents.ndjson", feeds.line(document)
        if alone and self._chance(0.1):  # versions and denials stay within one source
            file, body = "events.ndjson", feeds.line(feeds.cloud_event(p, self._control(), consent.given, document))
        self._put(file, consent.given, body, "consent")
        if self._chance(0.04):
            self._put(file, self._later(consent.given), body, "repeated")

    def _milestone(self, p: Patient, m: Milestone) -> None:
        if m.fate is Fate.CONFLICTING:
            self._conflicting(p, m)
        elif m.fate is Fate.CANCELLED:
            file, body = self._message(p, m, "hl7", wrapped=False)
            self._put(file, self._later(m.at), body, "events_routed")
            # Every second cancellation arrives before what it takes back.
            arrives = m.at - timedelta(hours=1) if self._chance(0.5) else self._later(m.at) + timedelta(days=2)
            self._put(file, arrives, feeds.cancellation(p, m, self._control()), "events_routed")
        else:
            self._standing(p, m)

    def _standing(self, p: Patient, m: Milestone) -> None:
        """Tell it once, and now and then again: the same message, or the same milestone by another message or feed."""
        form = self._random.choice(FORMATS[m.kind])
        if form == "fhir" and m.kind == "discharged" and len(self._bundles) < BUNDLES and self._chance(0.3):
            self._bundle(p, m)
            return
        file, body = self._message(p, m, form, wrapped=self._chance(0.15))
        self._put(file, self._later(m.at), body, "events_routed")
        if form == "fhir" and m.kind == "discharged" and self._chance(0.2):
            begun = feeds.resource(p, m, 1) | {"status": "in-progress", "period": {"start": feeds.instant(m.at)}}
            self._put("fhir.ndjson", m.at, feeds.line(begun), "unrouted")
        if self._chance(0.08):
            other_framing = file in ADT_FILES and self._chance(0.5)
            self._put(self._adt_file() if other_framing else file, self._later(m.at), body, "repeated")
        if self._chance(0.15):
            # Both feeds say it alike only of the attending clinician: PV1-7 and ATND.
            dual = m.kind == "discharged" and m.visit.role == "ATND"
            form = self._random.choice(FORMATS[m.kind]) if dual else form
            file, body = self._message(p, m, form, wrapped=self._chance(0.4), again=True)
            self._put(file, self._later(m.at), body, "repeated")

    def _conflicting(self, p: Patient, m: Milestone) -> None:
        """One control id and time, two contents: each names a milestone of its own."""
        control, file = self._control(), self._adt_file()
        other = m._replace(visit=m.visit._replace(number=f"{m.visit.number}X"))
        for milestone in (m, other):
            self._put(file, self._later(m.at), feeds.adt(p, milestone, control, "EVN-2"), "events_routed")

    def _bundle(self, p: Patient, m: Milestone) -> None:
        url = f"urn:uuid:{self._random.getrandbits(32):08x}-0000-4000-8000-{next(self._serial):012x}"
        self._bundles.append(feeds.line(feeds.bundle(p, m, url)))
        self.counts["control"] += 1  # each entry is a message: the Patient …
        self.counts["events_routed"] += 1  # … and the Encounter

    def _unrouted(self, p: Patient, at: datetime) -> None:
        """What no route of the default policy takes."""
        if self._chance(0.15):
            tell = feeds.laboratory if self._chance(0.7) else feeds.vaccination
            self._put(self._adt_file(), at, tell(p, self._control(), at), "unrouted")
        if self._chance(0.1):
            self._put("fhir.ndjson", at, feeds.line(feeds.observation(p, self._control(), at)), "unrouted")

    # --- how it is told ---

    def _message(self, p: Patient, m: Milestone, form: str, wrapped: bool, again: bool = False) -> tuple[str, bytes]:
        """(file, body): a new message each time. `wrapped` in a CloudEvent; `again` as a new version of a resource."""
        if form == "fhir":
            resource = feeds.resource(p, m, VERSION[m.kind] + 10 * again)
            file, body = "fhir.ndjson", feeds.line(resource)
        elif m.kind == "booked":
            file, body = "siu.hl7", feeds.siu(p, m, self._control())
        else:
            evn = self._random.choice(("EVN-6", "EVN-2", "MSH-7"))
            file, body = self._adt_file(), feeds.adt(p, m, self._control(), evn)
        if not wrapped:
            return file, body
        data = resource if form == "fhir" else body
        return "events.ndjson", feeds.line(feeds.cloud_event(p, self._control(), m.at, data))

    def _put(self, file: str, at: datetime, body: bytes, counted: str) -> None:
        self._files[file].append((at, next(self._serial), body))
        self.counts[counted] += 1

    def _adt_file(self) -> str:
        return self._random.choice(tuple(ADT_FILES))

    def _control(self) -> str:
        return f"MSG{next(self._serial):09d}"

    def _later(self, at: datetime) -> datetime:
        """When it is received: up to a day and a half after it happened."""
        return at + timedelta(seconds=self._random.randrange(1, 36 * 3600))

    def _chance(self, share: float) -> bool:
        return self._random.random() < share
