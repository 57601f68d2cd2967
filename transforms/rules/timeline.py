"""The heart: one patient's timeline moved forward by new facts to an instant.

    advance(timeline, arrivals, horizon, rules) -> (timeline', outcomes, counts, due)

    1. receive   the first copy wins; another copy is repeated; a milestone that comes again is repeated (`first_copy`)
    2. decide    each pair (milestone, route) at the horizon, from all that is known by now (`known`)
    3. settle    a pair's verdict is counted once; what a CRM record shows is taken back when its reason is gone; a pair
                 in review waits for its reviewer until the deadline

Order of arrival within a call changes nothing: facts are sorted first, and every decision reads the whole of what is
known. Rule source: DESIGN section 3, First copy wins; the laws are properties in tests/test_timeline_laws.py.
"""

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from schemas.event import AnyFact, Kind, Milestone, Says
from schemas.instant import FOREVER
from schemas.outcome import Verdict
from schemas.timeline import Outcome, Pair, Record, Timeline
from transforms.rules.consent_versions import ended
from transforms.rules.enrolment import COMPLETED, ENROLLED
from transforms.rules.first_copy import Received, order, ordered
from transforms.rules.known import DISPENSED, HELD, RELEASED, REVIEW, TRIAL_ELIGIBLE, Known
from transforms.rules.reviewing import ask, in_review, waiting, waits
from transforms.rules.routing import RouteRule, Rules


class Counts(NamedTuple):
    """What entered in a call: messages that became routed events, and their pairs."""

    events_routed: int = 0
    pairs: int = 0


WRITES = (Verdict.RELEASED, Verdict.RESTORED, Verdict.RETRACTED)  # what reaches a CRM record


def advance(
    timeline: Timeline, arrivals: Iterable[AnyFact], horizon: int, rules: Rules
) -> tuple[Timeline, list[Outcome], Counts, int]:
    """Move a timeline to `horizon`. `due` is the next instant at which something happens without an arrival."""
    received = Received(timeline, rules)
    for fact in ordered(arrivals):
        received.take(fact)
    received.take_late()
    known = Known(received, horizon, rules)
    before = {known.record(pair): pair for pair in timeline.pairs if pair.shown}

    outcomes, settled = received.outcomes, [_again(pair, known, received.outcomes) for pair in timeline.pairs]
    for milestone in received.routed:
        for rule in rules.routes[milestone.kind]:
            pair = _first(milestone, rule, known, outcomes)
            if pair is not None:
                settled.append(pair)
    if before:
        shown = {known.record(pair) for pair in settled if pair.shown}
        resolves = {known.token(pair) for pair in settled if pair.shown}
        taken = (pair for record, pair in before.items() if record not in shown)
        outcomes += [_retracted(pair, known, severs=known.token(pair) not in resolves) for pair in taken]
    counted = sum([milestone.since is None for milestone in received.routed])
    counts = Counts(counted, sum([len(rules.routes[milestone.kind]) for milestone in received.routed]))
    if not rules.keeps:
        return timeline, outcomes, counts, FOREVER
    written = _numbered(outcomes, known, dict(timeline.written))
    after, due = _keep(received, settled, written, known)
    return after, outcomes, counts, due


# --- settle -----------------------------------------------------------------------------------------------------


def _first(milestone: Milestone, rule: RouteRule, known: Known, outcomes: list[Outcome]) -> Pair | None:
    """A new pair and its verdict. None where nobody keeps it."""
    verdict, reason, facts = known.verdict(milestone, rule)
    released = verdict is RELEASED
    place = known.places.get(milestone.what, 0) if known.places else 0
    outcome = Outcome(milestone, rule.name, verdict, reason, facts, place, 1 if released else 0)
    if verdict is REVIEW:
        outcome = replace(outcome, question=known.judged.asked(milestone, reason, facts))
    outcomes.append(outcome)
    if not known.rules.keeps:
        return None
    shown = released and rule.window is None  # a count shows nothing that could be taken back
    still = verdict is HELD or (shown and waits(milestone, rule, known.horizon))
    pair = Pair(milestone.what, rule.name, verdict, shown, still, 1 if released else 0, place)
    return waiting(pair, outcome, known.rules, known.horizon) if verdict is REVIEW else pair


def _again(pair: Pair, known: Known, outcomes: list[Outcome]) -> Pair:
    """A pair of an earlier call: a held one's verdict is counted once, what its record shows may change.

    A pair whose wait is over can only be taken back, and then a person is asked if there is anything to ask.
    """
    if not pair.reachable:
        return pair
    milestone, rule = known.milestones[pair.what], known.rule(pair)
    if pair.open and pair.settled is not HELD and not waits(milestone, rule, known.rules.last):
        pair = replace(pair, open=False)  # its wait ended while nobody looked: nothing came of it then
    found = verdict, reason, facts = known.verdict(milestone, rule)
    if pair.question:
        after, closed = in_review(pair, found, milestone, rule, known.judged, known.rules, known.horizon)
        outcomes += closed
        return after
    released = verdict is RELEASED
    if not pair.open and released:
        return pair
    settled, ordinal = pair.settled, pair.ordinal
    asked = None
    if verdict is REVIEW:
        asked = ask(pair, REVIEW if settled is HELD else Verdict.ASKED_AGAIN, found, milestone, known.judged)
        settled = REVIEW if settled is HELD else settled
        outcomes.append(asked)
    elif settled is HELD and verdict is not HELD:
        settled = verdict
        ordinal += released
        outcomes.append(Outcome(milestone, pair.route, verdict, reason, facts, pair.place, ordinal))
    elif released and not pair.shown:
        ordinal += 1
        outcomes.append(Outcome(milestone, pair.route, Verdict.RESTORED, reason, facts, pair.place, ordinal))
    shown = released and (rule is None or rule.window is None)
    still = verdict is HELD or (shown and waits(milestone, rule, known.horizon))
    after = Pair(pair.what, pair.route, settled, shown, pair.open and still, ordinal, pair.place, asks=pair.asks)
    return after if asked is None else waiting(after, asked, known.rules, known.horizon)


def _retracted(pair: Pair, known: Known, *, severs: bool) -> Outcome:
    """A record that shows nothing any more is taken back; one that shows something newer was simply updated."""
    milestone = known.milestones[pair.what]
    _, reason, facts = known.verdict(milestone, known.rule(pair))
    return Outcome(
        milestone, pair.route, Verdict.RETRACTED, reason, facts, pair.place, pair.ordinal, severs=severs
    )  # fmt: skip


def _numbered(outcomes: list[Outcome], known: Known, written: dict[Record, int]) -> dict[Record, int]:
    """Number what reaches each CRM record, a retraction too; it takes back all that was written before it."""
    for place, outcome in enumerate(outcomes):
        event = outcome.event
        if outcome.verdict not in WRITES or not isinstance(event, Milestone):
            continue
        if known.rules.named[outcome.route].window is not None:
            continue
        record = known.record_of(event, outcome.route)
        before = written.get(record, 0)
        written[record] = before + 1
        retracts = before if outcome.verdict is Verdict.RETRACTED else 0
        outcomes[place] = replace(outcome, seq=before + 1, retracts=retracts)
    return written


def _keep(received: Received, pairs: list[Pair], written: dict[Record, int], known: Known) -> tuple[Timeline, int]:
    """The next timeline, without what can matter no more, and when something is due in it."""
    horizon, time_to_live = known.horizon, known.rules.time_to_live
    every, late = ([received.marked(copy) for copy in copies] for copies in (received.copies, received.late.values()))
    kept = {c.what for c in every if c.time is None or c.time + time_to_live >= horizon}
    reachable = {p.what for p in pairs if p.reachable}
    standing = {c.what for c in every if c.kind is ENROLLED} if known.rules.by_programme else set()
    kept |= reachable | standing
    kept |= {c.what for c in every if _tightens(c)}
    if conflicting := known.judged.conflicting:  # a question rests on all of the copies that conflict
        kept |= {what for one in reachable | standing for what in conflicting.get(one, ())}
    if any(c.since is not None and c.what in kept for c in every):  # judged by all that was dispensed
        kept |= {c.what for c in every if c.kind is DISPENSED or c.kind is Kind.PRESCRIBED}
    copies = tuple(sorted((c for c in every if c.what in kept), key=order))
    after = Timeline(
        copies,
        tuple(sorted(received.consents, key=order)),
        tuple(sorted(received.changes, key=order)),
        tuple(sorted(received.people, key=order)),
        tuple(sorted((p for p in pairs if p.what in kept), key=lambda p: (p.what, p.route))),
        horizon,
        tuple(sorted(written.items())),
        received.repeats({fact.key for facts in (copies, received.lasting()) for fact in facts}),
        tuple(sorted(received.judgements, key=order)),
        tuple(sorted((one for one in late if _tightens(one) or one.what in reachable), key=order)),
        tuple(sorted(received.marks.values(), key=order)),
    )
    # One that is dated ahead begins to count; who comes of age has to consent anew.
    instants = [known.adult_at, *(one.time for one in copies if one.time is not None)]
    instants += [judgement.said for judgement in after.judgements]
    for pair in after.pairs:
        one, rule = known.milestones[pair.what], known.rule(pair)
        if pair.question:
            instants.append(pair.deadline)
        # When the wait of one that left is over nothing happens by itself, so nobody is woken for it; of one that was
        # taken back since, a person may be asked.
        waits = pair.settled is HELD or pair.question or (pair.open and not pair.shown)
        if waits and rule is not None and one.time is not None:
            instants.append(rule.settles(one.time))
        if (pair.open or pair.shown) and rule is not None:  # a waiver begins and ends without an arrival
            instants += (rule.scope.begins, rule.scope.ends)
        if one.kind is TRIAL_ELIGIBLE and (study := known.rules.studies.get(one.values.get("protocol", ""))):
            instants.append(study.ends)
    for consent in known.consents:  # with the ends that the law gives them
        if consent.says is Says.PERMIT:
            end = ended(consent, known.consents)
            instants += (consent.given, consent.end if end is None else end)
    return after, min((instant for instant in instants if instant > horizon), default=FOREVER)


def _tightens(copy: Milestone) -> bool:
    """What only ever withholds is never forgotten: a mark, a cancellation, the end of an enrolment."""
    return bool(copy.classes or copy.cancels or copy.kind is COMPLETED)
