"""The simulated hospital's interface engine: how what happened is told, in which feed, how often, how late, how badly.

Each message is counted as what the boundary must make of it. All messages of one simulation are held in memory to be
sorted by their arrival (about 1 KB each).
"""

import gzip
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random

from pipelines.simulated import feeds, signatures
from pipelines.simulated.chart import Consent, Fate, History, Milestone, Patient
from pipelines.simulated.malformed import DEFECTS, MARKS, Marks, malformed, marked_fhir, marked_hl7
from pipelines.simulated.truth import GAP, Told
from schemas.outcome import Reason, Verdict

# how each ADT file frames its messages
ADT_FILES = {"adt-1.hl7": "cr", "adt-2.hl7": "crlf", "adt-3.hl7": "lf", "adt-4.hl7": "mllp"}
FRAMINGS = {**ADT_FILES, "siu.hl7": "crlf"}
ARCHIVE = "fhir-archive.ndjson.gz"
FORMATS = {
    "admitted": ("hl7",),
    "registered": ("hl7",),
    "discharged": ("hl7", "fhir"),
    "booked": ("hl7", "fhir"),
    "attended": ("fhir",),
    "enrolled": ("fhir",),
    "episode-completed": ("fhir",),
    "prescribed": ("fhir",),
    "dispensed": ("fhir",),
    "trial-eligible": ("fhir",),
}
VERSION = {"attended": 2, "discharged": 2, "episode-completed": 2}  # an Encounter's first is in-progress
EVN = ("EVN-6", "EVN-6", "EVN-2", "EVN-2", "MSH-7", "MSH-7", "fast clock", "slow clock", "abroad")
BUNDLES = 20
BLANK_LINE_EVERY = 50
MALFORMED_EVERY = 15  # patients
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

ROUTED = "events_routed"
OUTCOMES = {  # what each reason makes of a message
    Reason.SAME_MESSAGE: Verdict.REPEATED,
    Reason.SAME_MILESTONE: Verdict.REPEATED,
    Reason.RECORDED: Verdict.CONSENT,
    Reason.IDENTITY: Verdict.CONTROL,
    Reason.DEMOGRAPHICS: Verdict.CONTROL,
    Reason.NO_ROUTE: Verdict.UNROUTED,
    Reason.NO_MILESTONE: Verdict.UNROUTED,
}  # every other one rejects it


class InterfaceEngine:
    """Tells one history after another to the feeds."""

    def __init__(self, calendar: Mapping[str, datetime], seed: int) -> None:
        self.counts: Counter[str] = Counter()  # messages by outcome
        self.reasons: defaultdict[str, Counter[str]] = defaultdict(Counter)  # outcome → reason → messages
        self.cancellations: Counter[str] = Counter()  # by the kind of what they take back: they are routed like it
        self._calendar = calendar
        self._random = Random(f"{seed} feeds")
        self._serial = count(1)
        self._marked = count()
        self._files: defaultdict[str, list[tuple[datetime, int, bytes]]] = defaultdict(list)
        self._bundles: list[tuple[datetime, bytes]] = []
        self._patients = 0

    def tell(self, history: History) -> list[Told]:
        """Put all of a history into the feeds; when each of its milestones comes to be known."""
        p = history.patient
        patient = feeds.demographics(p) | {"id": p.resource, "meta": {"versionId": "1"}}
        self._put("fhir.ndjson", self._calendar["long ago"], feeds.line(patient), Reason.DEMOGRAPHICS)
        for consent in history.consents:
            self._consent(p, consent, alone=len(history.consents) == 1)
        told = [one for m in history.milestones if m.kind != GAP for one in self._milestone(history, m)]
        told += _fallen_due(history.milestones, told)
        if history.retires is not None:
            self._merge(p, history.retires, history.news)
        elif history.persona.twist == "deceased":
            self._death(p._replace(died=True), history.news)
        self._unrouted(p, history.milestones[0].at)
        if self._patients == 0:  # so that the last delivery is never an empty one
            at = self._calendar["as of"] - 15 * HOUR
            body = feeds.line(feeds.observation(p, self._control(), at))
            self._put("fhir.ndjson", at, body, Reason.NO_ROUTE)
        if self._patients % MALFORMED_EVERY == 0:
            self._malformed(p, history.milestones[0])
        self._patients += 1
        spoiling = (one for one in told if one.milestone.marked and one.milestone.fate is not Fate.NAMED)
        marks = {one.milestone.visit.number: one.known for one in spoiling}
        return [one._replace(spoiled=marks.get(one.milestone.visit.number, one.spoiled)) for one in told]

    def write(self, folders: Mapping[Path, datetime]) -> None:
        """The feeds, each in the order of its arrival: in the first folder what had arrived by its instant, in each
        later one what has arrived since."""
        instants, places = list(folders.values()), list(folders)
        for name, messages in self._files.items():
            messages.sort()
            for place, part in _parts(messages, instants, places):
                place.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(_file(name, part))
        for index, (at, body) in enumerate(self._bundles):
            file = places[bisect_left(instants, at)] / "bundles" / f"{index:03d}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)

    # --- what happened ---

    def _consent(self, p: Patient, consent: Consent, alone: bool) -> None:
        """Whatever follows a patient's first consent comes through the consent desk's own feed."""
        if consent.said.by == "CON":
            self._signed(p, consent)
            return
        first = consent.said.number == consent.said.version == 1
        document = signatures.consent(p, consent)
        file, body = "fhir.ndjson" if first else "consents.ndjson", feeds.line(document)
        if alone and self._chance(0.1):  # versions and denials stay within one source
            file, body = "events.ndjson", feeds.line(feeds.cloud_event(p, self._control(), consent.given, document))
        self._put(file, consent.given, body, Reason.RECORDED)
        if self._chance(0.04):
            self._put(file, self._later(consent.given), body, Reason.SAME_MESSAGE)

    def _signed(self, p: Patient, consent: Consent) -> None:
        """A CON segment beside demographics, or on a message that tells nothing else."""
        trigger, reason = self._random.choice((("A31", Reason.DEMOGRAPHICS), ("A60", Reason.RECORDED)))
        self._put(self._adt_file(), consent.given, signatures.signed(p, consent, self._control(), trigger), reason)

    def _merge(self, kept: Patient, retired: Patient, at: datetime) -> None:
        if self._chance(0.7):
            self._put(self._adt_file(), at, feeds.merge(kept, retired, self._control(), at), Reason.IDENTITY)
        else:
            self._put("fhir.ndjson", at, feeds.line(feeds.replaced(kept, retired, at)), Reason.IDENTITY)

    def _death(self, p: Patient, at: datetime) -> None:
        if self._chance(0.5):
            self._put(self._adt_file(), at, feeds.demographic_update(p, self._control(), at), Reason.DEMOGRAPHICS)
        else:
            patient = feeds.demographics(p) | {"id": p.resource, "meta": {"versionId": "2"}}
            self._put("fhir.ndjson", at, feeds.line(patient), Reason.DEMOGRAPHICS)

    def _milestone(self, history: History, m: Milestone) -> list[Told]:
        p = history.patient
        match m.fate:
            case Fate.CONFLICTING:
                return self._conflicting(p, m)
            case Fate.CANCELLED:
                return [self._cancelled(p, m)]
            case Fate.TIMELESS:
                arrives = self._later(m.at)
                self._put("fhir.ndjson", arrives, feeds.line(feeds.timeless(p, m)))
                return [Told(m, arrives, None)]
        return [Told(m, self._standing(p, m, kiosk=history.persona.twist == "kiosk"), None)]

    def _standing(self, p: Patient, m: Milestone, kiosk: bool) -> datetime:
        """Tell it once, and now and then again: the same message, or the same milestone by another message or feed.

        Returns when it arrives first.
        """
        form = m.form or self._random.choice(FORMATS[m.kind])
        bundled = form == "fhir" and m.kind == "discharged" and not (m.form or m.marked)
        arrives = self._later(m.at)
        if bundled and len(self._bundles) < BUNDLES and self._chance(0.3):
            self._bundle(p, m, arrives)
            return arrives
        if kiosk and form == "hl7" and m.kind != "booked":  # its messages all have one control id
            self._put(self._adt_file(), arrives, feeds.adt(p, m, "1", "MSH-7"))
            return arrives
        file, body = self._message(p, m, form, wrapped=self._chance(0.15), marks=MARKS[m.fate] if m.marked else None)
        self._put(file, arrives, body)
        if form == "fhir" and m.kind == "discharged" and self._chance(0.2):
            begun = feeds.resource(p, m, 1) | {"status": "in-progress", "period": {"start": feeds.instant(m.at)}}
            self._put("fhir.ndjson", m.at, feeds.line(begun), Reason.NO_MILESTONE)
        if self._chance(0.08):
            other_framing = file in ADT_FILES and self._chance(0.5)
            at = arrives + self._delay()
            self._put(self._adt_file() if other_framing else file, at, body, Reason.SAME_MESSAGE)
        if self._chance(0.15):
            # Both feeds say it alike only of the attending clinician: PV1-7 and ATND.
            dual = m.kind == "discharged" and m.visit.role == "ATND" and not m.form
            form = self._random.choice(FORMATS[m.kind]) if dual else form
            file, body = self._message(p, m, form, wrapped=self._chance(0.4), again=True)
            self._put(file, arrives + self._delay(), body, Reason.SAME_MILESTONE)
        return arrives

    def _cancelled(self, p: Patient, m: Milestone) -> Told:
        """A cancellation, every second of which arrives before what it takes back."""
        form = m.form or "hl7"
        file, body = self._message(p, m, form, wrapped=False)
        known = self._later(m.at)
        self._put(file, known, body)
        at = m.until or m.at
        spoiled = at - HOUR if self._chance(0.5) else max(known, at) + 2 * DAY
        if form == "fhir" or (m.kind == "booked" and self._chance(0.3)):  # the other feed takes back what SIU said
            self._put("fhir.ndjson", spoiled, feeds.line(feeds.withdrawn(p, m)))
        else:
            self._put(file, spoiled, feeds.cancellation(p, m, self._control()))
        self.cancellations[m.kind] += 1
        return Told(m, known, spoiled)

    def _conflicting(self, p: Patient, m: Milestone) -> list[Told]:
        """One message id and version, two contents: each names a milestone of its own."""
        control, file = self._control(), "fhir.ndjson" if m.form == "fhir" else self._adt_file()
        arrivals = [self._later(m.at), self._later(m.at) + self._random.choice((0, 9)) * DAY]
        for at, one in zip(arrivals, (m, m.twin), strict=True):
            if m.form == "fhir":
                body = feeds.line(feeds.resource(p, one, 1) | {"id": f"r-{m.visit.number}"})
            else:
                body = feeds.adt(p, one, control, "EVN-2")
            self._put(file, at, body)
        return [Told(m, arrivals[0], max(arrivals)), Told(m.twin, arrivals[1], max(arrivals))]

    def _bundle(self, p: Patient, m: Milestone, at: datetime) -> None:
        url = f"urn:uuid:{self._random.getrandbits(32):08x}-0000-4000-8000-{next(self._serial):012x}"
        self._bundles.append((at, feeds.line(feeds.bundle(p, m, url))))
        self._count(Reason.DEMOGRAPHICS)  # each entry is a message: the Patient …
        self._count(None)  # … and the Encounter

    def _malformed(self, p: Patient, m: Milestone) -> None:
        """Each defect in its turn, behind another message: no feed begins with one."""
        defect, (file, reason) = list(DEFECTS.items())[self._patients // MALFORMED_EVERY % len(DEFECTS)]
        if before := self._files[file]:
            self._put(file, before[-1][0], malformed(defect, p, m, self._control()), reason)

    def _unrouted(self, p: Patient, at: datetime) -> None:
        """What no route of the default policy takes."""
        if self._chance(0.15):
            tell = feeds.laboratory if self._chance(0.7) else feeds.vaccination
            self._put(self._adt_file(), at, tell(p, self._control(), at), Reason.NO_ROUTE)
        if self._chance(0.1):
            body = feeds.line(feeds.observation(p, self._control(), at))
            self._put("fhir.ndjson", at, body, Reason.NO_ROUTE)

    # --- how it is told ---

    def _message(
        self, p: Patient, m: Milestone, form: str, *, wrapped: bool, again: bool = False, marks: Marks | None = None
    ) -> tuple[str, bytes]:
        """(file, body): a new message each time. `wrapped` in a CloudEvent; `again` as a new version of a resource;
        marked by one of `marks`."""
        data: feeds.Json | bytes
        if form == "fhir":
            data = feeds.resource(p, m, VERSION.get(m.kind, 1) + 10 * again)
            if marks:  # an EpisodeOfCare has no serviceType
                data = marked_fhir(data, self._in_turn(marks.fhir[: 1 if m.kind == "episode-completed" else 2]))
            file, body = ARCHIVE if self._chance(0.1) else "fhir.ndjson", feeds.line(data)
        else:
            if m.kind == "booked":
                file, body = "siu.hl7", feeds.siu(p, m, self._control())
            else:
                file, body = self._adt_file(), feeds.adt(p, m, self._control(), self._random.choice(EVN))
            data = body = marked_hl7(body, self._in_turn(marks.hl7)) if marks else body
        if not wrapped:
            return file, body
        return "events.ndjson", feeds.line(feeds.cloud_event(p, self._control(), m.at, data))

    def _put(self, file: str, at: datetime, body: bytes, reason: Reason | None = None) -> None:
        """Into a feed, at its arrival. The reason says what becomes of it; without one it is a routed event."""
        self._files[file].append((at, next(self._serial), body))
        self._count(reason)

    def _count(self, reason: Reason | None) -> None:
        if reason is None:
            self.counts[ROUTED] += 1
        else:
            outcome = OUTCOMES.get(reason, Verdict.REJECTED)
            self.counts[outcome] += 1
            self.reasons[outcome][reason] += 1

    def _adt_file(self) -> str:
        return self._random.choice(tuple(ADT_FILES))

    def _control(self) -> str:
        return f"MSG{next(self._serial):09d}"

    def _later(self, at: datetime) -> datetime:
        """When it is received. Of eight arrivals one is days late; none is near 04:00, where deliveries are cut."""
        received = at + self._delay() + (self._random.randrange(2, 9) * DAY if self._chance(0.125) else timedelta())
        return received if received.hour != 4 else received + HOUR

    def _in_turn(self, marks: Sequence[str]) -> str:
        return marks[next(self._marked) % len(marks)]

    def _delay(self) -> timedelta:
        """Up to a day and a half."""
        return timedelta(seconds=self._random.randrange(1, 36 * 3600))

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


def _fallen_due(milestones: Sequence[Milestone], told: Sequence[Told]) -> Iterator[Told]:
    """When each gap comes to be known: when it falls due, if what it falls due after is known by then."""
    of = {one.milestone.visit.number: one for one in told}
    for gap in milestones:
        if gap.kind == GAP:
            spoiled = of[gap.order].spoiled if gap.fate is Fate.CANCELLED else None
            refilled = of[gap.refill].known if gap.refill else None
            yield Told(gap, max(gap.at, of[gap.visit.number].known), spoiled, refilled)


def _parts(
    messages: Sequence[tuple[datetime, int, bytes]], instants: Sequence[datetime], places: Sequence[Path]
) -> Iterator[tuple[Path, list[bytes]]]:
    """The sorted messages of one feed, cut into deliveries; none that is empty."""
    begin = 0
    for instant, place in zip(instants, places, strict=True):
        end = bisect_left(messages, instant, key=lambda message: message[0])
        if begin < end:
            yield place, [body for _, _, body in messages[begin:end]]
        begin = end


def _file(name: str, bodies: Sequence[bytes]) -> bytes:
    if name in FRAMINGS:
        return b"".join([feeds.framed(body, FRAMINGS[name]) for body in bodies])
    blank = BLANK_LINE_EVERY - 1
    lines = b"".join([b"\n" * (place % BLANK_LINE_EVERY == blank) + body + b"\n" for place, body in enumerate(bodies)])
    return gzip.compress(lines, mtime=0) if name.endswith(".gz") else lines
