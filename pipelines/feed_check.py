"""`limen feed check`: what a feed holds and how well it can be used, without deciding anything, and PHI-free.

    find ─ spans ─ read ─▶ messages ─ the reader of the job ─▶ facts or a reason ─▶ Tally ─▶ Feed
                                    └ taken apart ───────────▶ shapes ─ profile ─ drift ──────▶ ┘

Messages are read by the very function that the job reads with. What comes out are counts under words of closed
lists, and names that `feed_shape` found to be nobody's. Nothing is deduplicated and no consent is weighed: that is
`limen run`.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.feed_shape import Shapes, apart
from pipelines.inputs import find
from pipelines.sources import Span, read, spans
from schemas import feed_profile
from schemas.errors import ConfigurationError
from schemas.event import Consent, Identity, Kind, Made, Milestone, Says
from schemas.feed_profile import Drift, FeedProfile
from schemas.instant import HOUR
from schemas.message import Format
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules.envelope_parts import Counted
from transforms.rules.identity import SEPARATOR
from transforms.rules.notification import Gaps
from transforms.rules.vocabulary import OTHER

NONE = "none"  # where a message does not say
UNREADABLE = "unreadable"  # the type of what has none
VERSIONS = frozenset("2.1 2.2 2.3 2.3.1 2.4 2.5 2.5.1 2.6 2.7 2.7.1 2.8 2.8.1 2.8.2".split())
CHARSETS = frozenset(  # HL7 table 0211
    {
        *("8859/1 8859/2 8859/3 8859/4 8859/5 8859/6 8859/7 8859/8 8859/9 8859/15 ASCII BIG-5".split()),
        *("ISO IR6", "ISO IR14", "ISO IR87", "ISO IR159", "GB 18030-2000", "KS X 1001", "CNS 11643-1992"),
        *("UNICODE", "UNICODE UTF-8", "UNICODE UTF-16", "UNICODE UTF-32"),
    }
)
DAY_AT_LEAST = 23 * HOUR  # the span of a date: that day may be short
SENDERS = 10_000  # that are told apart


@dataclass
class Coverage:
    """Milestones of one kind: how many are stated and taken back, and how many of both have what the routes need."""

    stated: int = 0
    cancelled: int = 0
    time: int = 0  # of day precision or better
    time_of_day: int = 0
    visit: int = 0
    npi: int = 0  # of those that are stated; a cancellation names no clinician


@dataclass
class Permits:
    """Consents that say one thing, and how many of them name what a permit must name."""

    consents: int = 0
    purpose: int = 0
    recipient: int = 0


@dataclass
class Notifications:
    """The statuses of subscriptions; those that tell of an event without its resource; events that none told of."""

    statuses: int = 0
    fetch_needed: int = 0
    missed: int = 0


@dataclass
class Feed:
    """What a feed holds. `types` counts by (type, what became of it); `carried` by how messages lay in their files."""

    files: Counter[str] = field(default_factory=Counter)
    carried: Counter[str] = field(default_factory=Counter)
    types: Counter[tuple[str, str]] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    found_by: Counter[str] = field(default_factory=Counter)
    milestones: dict[Kind, Coverage] = field(default_factory=dict)
    consents: dict[Says, Permits] = field(default_factory=dict)
    notifications: Notifications = field(default_factory=Notifications)
    versions: Counter[str] = field(default_factory=Counter)
    charsets: Counter[str] = field(default_factory=Counter)
    senders: int = 0
    profile: FeedProfile = field(default_factory=lambda: FeedProfile(feed_profile.VERSION, 0, {}))
    drift: list[Drift] | None = None  # None: there was no profile to compare with

    @property
    def received(self) -> int:
        return self.types.total()

    @property
    def outcomes(self) -> Counter[str]:
        """What became of the messages, whatever their type."""
        found: Counter[str] = Counter()
        for (_, what), count in self.types.items():
            found[what] += count
        return found

    @property
    def routable(self) -> int:
        """Messages that a route could take, were their patient known."""
        return self.found_by.total() + self.rejected[Reason.NO_PATIENT]

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON holds it, sorted."""
        types: dict[str, dict[str, int]] = {}
        for (kind, what), count in sorted(self.types.items()):
            types.setdefault(kind, {})[what] = count
        return {
            "files": _sorted(self.files),
            "received": self.received,
            "outcomes": _sorted(self.outcomes),
            "types": types,
            "rejected": _sorted(self.rejected),
            "identity": {
                "routable": self.routable,
                "share": share(self.found_by.total(), self.routable),
                "found_by": _sorted(self.found_by),
            },
            "milestones": {kind: vars(one) for kind, one in sorted(self.milestones.items())},
            "consents": {says: vars(one) for says, one in sorted(self.consents.items())},
            "notifications": vars(self.notifications),
            "carried": _sorted(self.carried),
            "versions": _sorted(self.versions),
            "charsets": _sorted(self.charsets),
            "senders": self.senders,
            "profile": msgspec.to_builtins(self.profile, order="sorted"),
            "drift": None if self.drift is None else msgspec.to_builtins(self.drift),
        }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def share(part: int, whole: int) -> float | None:
    """To three figures, and 1.0 only where nothing is missing; None of nothing."""
    if not whole:
        return None
    return min(round(part / whole, 3), 1.0 if part == whole else 0.999)


# --- counting ------------------------------------------------------------------------------------------------------


class Tally:
    """Counts one message after another; keeps no message."""

    def __init__(self, policy: Policy, recorded: FeedProfile | None = None) -> None:
        self.feed = Feed()
        self._types, self._charset = policy.identity_types, policy.source.charset
        self._shapes = Shapes(recorded)
        self._senders: set[int] = set()
        self._gaps = Gaps()

    def add(self, form: Format, counted: Counted) -> None:
        """One message as the job's reader counts it: its facts, or the reason why it is rejected."""
        feed = self.feed
        parts = apart(counted.body, self._charset, in_hl7=form is Format.HL7) if counted.body else None
        fact = counted.facts[0] if counted.facts else None
        patient = fact.patient if fact is not None else ""
        if said := counted.status:
            feed.notifications.statuses += 1
            self._gaps.add(said.subscription, said.since, said.numbers)
        if isinstance(fact, Made) and fact.reason is Reason.FETCH_NEEDED:
            feed.notifications.fetch_needed += 1
        if fact is None or counted.reason is not None:
            what = Verdict.REJECTED.value
            feed.rejected[counted.reason or Reason.DEFECT] += 1
        elif isinstance(fact, Milestone):
            what = "milestone"
            self._milestone(fact)
        elif isinstance(fact, Consent):
            what = "consent"
            self._consent(fact)
        elif isinstance(fact, Identity):
            what = "identity"
        else:
            what = fact.verdict.value if isinstance(fact, Made) else Verdict.CONTROL.value
        feed.types[parts.type if parts else fact.type or OTHER if fact else UNREADABLE, what] += 1
        if patient:
            feed.found_by[parts.found_by(patient, self._types) if parts else "resolved"] += 1
        if parts is None:
            feed.carried[form.value] += 1
            return
        feed.carried["cloudevents" if parts.enveloped else form.value] += 1
        if "segments" in parts.names:
            feed.versions[_word(parts.version, VERSIONS)] += 1
            feed.charsets[_word(parts.charset.upper(), CHARSETS)] += 1
        if parts.sender and len(self._senders) < SENDERS:
            self._senders.add(hash(parts.sender))
        self._shapes.add(parts, _value(patient) or parts.person)

    def _milestone(self, fact: Milestone) -> None:
        kind = self.feed.milestones.setdefault(fact.kind, Coverage())
        if fact.cancels:
            kind.cancelled += 1
        else:
            kind.stated += 1
            kind.npi += "npi" in fact.values
        kind.visit += fact.visit != ""
        if fact.time is not None:
            kind.time += 1
            kind.time_of_day += fact.span < DAY_AT_LEAST

    def _consent(self, fact: Consent) -> None:
        permits = self.feed.consents.setdefault(fact.says, Permits())
        permits.consents += 1
        permits.purpose += bool(fact.purposes)
        permits.recipient += bool(fact.recipients)

    def done(self) -> Feed:
        """The feed, with its profile."""
        self.feed.senders = len(self._senders)
        self.feed.notifications.missed = self._gaps.missed
        self.feed.profile = self._shapes.profile()
        return self.feed


def _value(patient: str) -> str:
    """The identifier or reference in a patient key, as `Parts.person` gives it where there is no key."""
    return patient.partition(SEPARATOR)[2]


def _word(stated: str, known: frozenset[str]) -> str:
    return stated if stated in known else OTHER if stated else NONE


def check(paths: Sequence[str], policy: Policy, recorded: FeedProfile | None = None) -> Feed:
    """Read all of it, in bounded memory. `recorded`: the profile to compare with. Raises ConfigurationError."""
    try:
        inputs = find(paths)
    except ConfigurationError as error:  # of a path that `run` would call --input
        raise ConfigurationError("PATH", error.problem, error.fix) from None
    tally, messages = Tally(policy, recorded), reader(policy)
    tally.feed.files.update(each.form.value for each in inputs)
    for piece in _watched(spans(inputs)):
        for block in read(piece):
            for message in block.messages:
                for counted in messages.read(block.form, message):
                    tally.add(block.form, counted)
    feed = tally.done()
    if recorded is not None:
        feed.drift = feed_profile.drift(recorded, feed.profile)
    return feed


def _watched(pieces: Sequence[Span]) -> Iterator[Span]:
    """The pieces, with a bar on stderr if a person is watching."""
    columns = (TextColumn("reading"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading", total=sum(piece.end - piece.start for piece in pieces))
        for piece in pieces:
            yield piece
            progress.advance(task, piece.end - piece.start)
