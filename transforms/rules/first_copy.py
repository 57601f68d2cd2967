"""First copy wins: what arrived, told apart from what arrived again.

The same message again is repeated; another message that says the same is repeated, and its key is remembered; the same
key with another content is a conflict, and every milestone that any of its copies names is sent to review, so that the
order of arrival decides nothing. What a resource's Bundle says beside it is no content of its own: copies that differ
in that alone are two milestones of one record. A message that comes after its time to live conflicts with nothing.
Rule source: DESIGN section 3, First copy wins.
"""

from collections.abc import Container, Iterable
from itertools import chain
from operator import attrgetter

from msgspec.structs import replace

from schemas.event import AnyFact, Consent, Fact, Identity, Judgement, Made, Mark, Milestone, Person, digest
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Timeline
from transforms.rules.routing import Rules
from transforms.rules.sensitivity import mark


def ordered(facts: Iterable[AnyFact]) -> list[AnyFact]:
    """Facts in an order that no order of arrival can change."""
    by_key = sorted(facts, key=_KEY)
    return by_key if len({fact.key for fact in by_key}) == len(by_key) else sorted(by_key, key=order)


_KEY = attrgetter("key")


def order(fact: AnyFact) -> tuple[bytes, bytes, int, *tuple[tuple[str, ...], ...]]:
    """By key and content; of equal copies the one published first, or the one that stands for its message."""
    if isinstance(fact, Milestone):
        return fact.key, fact.what, fact.published or 0, fact.classes, fact.also, fact.related
    return fact.key, content(fact), isinstance(fact, Consent) and not fact.counted


def content(fact: Fact) -> bytes:
    """What tells two copies of one message apart."""
    if isinstance(fact, Milestone):
        return fact.what
    if isinstance(fact, Consent):
        return fact.what + fact.rule.to_bytes(2, "big")
    if isinstance(fact, Person):
        return digest(fact.adult_at, fact.died)
    if isinstance(fact, Judgement):
        return digest(fact.what, fact.route, fact.question, fact.allows, fact.said)
    return fact.time.to_bytes(9, "big", signed=True) if isinstance(fact, Identity) else b""


class Received:
    """All copies of messages known, old and new, and the outcomes of the messages that are no routed event."""

    def __init__(self, timeline: Timeline, rules: Rules) -> None:
        self.rules = rules
        self.outcomes: list[Outcome] = []
        self.consents = list(timeline.consents)
        self.changes = list(timeline.changes)
        self.people = list(timeline.people)
        self.judgements = list(timeline.judgements)
        self.copies = list(timeline.copies)
        self.milestones: dict[bytes, Milestone] = {}  # content → the first copy that said it
        self.late: dict[bytes, Milestone] = {}  # those that nothing but a message that came too late says
        self.routed: list[Milestone] = []  # the new ones, to be paired with their routes
        self.places: dict[bytes, int] = {}  # content → its place among those of its key, where it is not the first
        self._postponed: list[Milestone] = []
        self._seen: dict[bytes, set[bytes]] = {}  # key → contents
        self._conflicts: set[bytes] = set()  # keys with more than one content
        self._repeats = dict(timeline.repeats)
        self._routed_of: dict[bytes, int] = {}  # key → how many of its contents are routed
        self.also: dict[bytes, set[str]] = {}  # content → the further numbers of its visit
        self.related: dict[bytes, set[str]] = {}  # content → further names by which a mark may mean it
        self._stated: dict[tuple[bytes, bytes], bytes] = {}  # (key, content) → what the message said itself, if less
        self._marks: dict[bytes, set[str]] = {}  # content → of what specially protected information it is
        self.classes: dict[str, set[str]] = {}  # the same, by the numbers of the visit; "": of the patient as a whole
        self.marks: dict[tuple[str, ...], Mark] = {}  # visits → what messages say of them that state no milestone
        for known in timeline.marks:
            self._bind(known)
        for copy in self.copies:
            self._mark(copy)
            self.milestones.setdefault(copy.what, copy)
            self._routed_of[copy.key] = self._routed_of.get(copy.key, 0) + 1
            self._note(self._key(copy), copy.what)
        for copy in timeline.late:
            self._mark(copy)
            self._routed_of[copy.key] = self._routed_of.get(copy.key, 0) + 1
            if copy.what not in self.milestones:  # nothing timely has said the same since
                self.late[copy.what] = self.milestones[copy.what] = copy
        for fact in (*self.consents, *self.changes, *self.people, *self.judgements):
            self._note(fact.key, content(fact))

    def lasting(self) -> Iterable[AnyFact]:
        """All that is known and is no milestone."""
        return chain(self.consents, self.changes, self.people, self.judgements)

    def take(self, fact: AnyFact) -> None:
        if isinstance(fact, Milestone):
            self._milestone(fact)
        elif isinstance(fact, Person):
            if self._note(fact.key, content(fact)):
                self.people.append(fact)
            if fact.counted:
                self._repeat(fact, Reason.DEMOGRAPHICS, Verdict.CONTROL)
        elif isinstance(fact, Mark):
            self._bind(fact)
        elif isinstance(fact, Made):
            self._repeat(fact, fact.reason, fact.verdict)
        elif isinstance(fact, Identity) and fact.type == "Patient" and self._linked(fact):
            if fact.counted:
                self._repeat(fact, Reason.SAME_MESSAGE)
        elif not self._note(fact.key, content(fact)):
            if isinstance(fact, Judgement) or fact.counted:
                self._repeat(fact, Reason.SAME_MESSAGE)
        elif isinstance(fact, Consent):
            self.consents.append(fact)
            if fact.counted:
                self._recorded(fact)
        elif isinstance(fact, Judgement):
            self.judgements.append(fact)
            self._recorded(fact)
        else:
            self.changes.append(fact)
            if fact.counted:
                self._recorded(fact, Reason.IDENTITY, Verdict.CONTROL)

    def _linked(self, fact: Identity) -> bool:
        """Is a link of a Patient known? Each version tells it again: the earliest is when it was made."""
        for place, known in enumerate(self.changes):
            if known.key == fact.key:
                self.changes[place] = known if known.time <= fact.time else fact
                return True
        return False

    def _recorded(self, fact: AnyFact, reason: Reason = Reason.RECORDED, verdict: Verdict = Verdict.CONSENT) -> None:
        place = len(self._seen[fact.key]) - 1  # copies that differ keep audit records of their own
        self.outcomes.append(Outcome(fact, "", verdict, reason, (), place))

    def take_late(self) -> None:
        """What came too late speaks only where nothing timely says the same, so it is judged after all else."""
        for fact in self._postponed:
            if fact.what not in self.milestones:
                self.late[fact.what] = fact
            self._route(fact)

    def conflicting(self) -> dict[bytes, set[bytes]]:
        """The contents named by any copy of a key that came with different contents, each with those it conflicts
        with."""
        if not self._conflicts:
            return {}
        found: dict[bytes, set[bytes]] = {}
        said = {key: {self._stated.get((key, one), one) for one in self._seen[key]} for key in self._conflicts}
        for copy in self.copies:
            if len(said.get(key := self._key(copy), ())) > 1:
                found.setdefault(copy.what, set()).update(self._seen[key])
        return found

    def _milestone(self, fact: Milestone) -> None:
        routes = self.rules.routes
        if fact.cancels and not routes.get(fact.kind):  # routed like the first of its milestones that a route takes
            fact = replace(fact, kind=next((kind for kind in fact.cancels if routes.get(kind)), fact.kind))
        self._mark(fact)
        if not routes.get(fact.kind):  # it is not kept, but what it marks is
            if fact.classes:
                self._bind(mark(fact.patient, (fact.visit, *fact.also), fact.classes))
            self._repeat(fact, Reason.NO_ROUTE, Verdict.UNROUTED)
            return
        key = self._key(fact)
        if key is not fact.key and not fact.cancels:
            self._postponed.append(fact)
        elif self._note(key, fact.what):
            self.copies.append(fact)
            self._route(fact)
        else:
            self._repeat(fact, Reason.SAME_MESSAGE)

    def _mark(self, fact: Milestone) -> None:
        """What any copy says of its visit holds for all that say the same; a mark for the visit, by all its numbers;
        without a number, for the patient."""
        if fact.also:
            self.also.setdefault(fact.what, set()).update(fact.also)
        if fact.stated:
            place = (fact.key, fact.what)
            self._stated[place] = min(fact.stated, self._stated.get(place, fact.stated))
        if fact.related:
            self.related.setdefault(fact.what, set()).update(fact.related)
        if fact.classes:
            self._marks.setdefault(fact.what, set()).update(fact.classes)
            for name in (fact.visit, *fact.also):
                self.classes.setdefault(name, set()).update(fact.classes)

    def _bind(self, fact: Mark) -> None:
        """A mark that no milestone carries binds whenever it comes, and is no message. Those of the same visits are
        kept as one."""
        known = self.marks.get(fact.visits, fact)
        classes = tuple(sorted({*known.classes, *fact.classes}))
        self.marks[fact.visits] = replace(fact, key=min(known.key, fact.key), classes=classes)
        for name in fact.visits or ("",):
            self.classes.setdefault(name, set()).update(classes)

    def marked(self, copy: Milestone) -> Milestone:
        """A copy as it is kept: with what those said that say the same and are not."""
        classes, also = self._marks.get(copy.what, ()), self.also.get(copy.what, ())
        related, stated = self.related.get(copy.what, ()), self._stated.get((copy.key, copy.what), b"")
        told = len(classes), len(also), len(related), stated
        if told == (len(copy.classes), len(copy.also), len(copy.related), copy.stated):
            return copy
        kept = {"classes": classes, "also": also, "related": related}
        return replace(copy, stated=stated, **{name: tuple(sorted(words)) for name, words in kept.items()})

    def _route(self, fact: Milestone) -> None:
        if fact.what in self.milestones:
            self._repeat(fact, Reason.SAME_MILESTONE)
            return
        self.milestones[fact.what] = fact
        self.routed.append(fact)
        if contents := self._routed_of.get(fact.key, 0):
            self.places[fact.what] = contents
        self._routed_of[fact.key] = contents + 1

    def _key(self, fact: Milestone) -> bytes:
        """Under which a copy is known. One that comes too late (a cancellation, which binds) conflicts with nothing.

        A file does not say when it was received: not before the ledger's last run, which may have let the key go.
        """
        received, time = self.rules.last if fact.published is None else fact.published, fact.time
        if time is None or received - time <= self.rules.time_to_live:
            return fact.key
        return fact.key + fact.what

    def _note(self, key: bytes, content: bytes) -> bool:
        """Remember a copy; False if this very copy was known."""
        contents = self._seen.get(key)
        if contents is None:
            self._seen[key] = {content}
            return True
        if content in contents:
            return False
        contents.add(content)
        self._conflicts.add(key)
        return True

    def repeats(self, keys: Container[bytes]) -> tuple[tuple[bytes, int], ...]:
        """How often each of these keys came again."""
        return tuple(sorted((key, number) for key, number in self._repeats.items() if key in keys))

    def _repeat(self, fact: AnyFact, reason: Reason, verdict: Verdict = Verdict.REPEATED) -> None:
        """One more of the same: numbered, so that each copy keeps an audit record of its own. What was computed from
        another milestone is no message, and needs none."""
        if isinstance(fact, Milestone) and not fact.counted:
            return
        copy = self._repeats[fact.key] = self._repeats.get(fact.key, 0) + 1
        self.outcomes.append(Outcome(fact, "", verdict, reason, (), copy))
