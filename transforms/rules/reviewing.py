"""What becomes of a pair in review: asked, answered, asked anew, or over.

A pair leaves review only when the very question that it is in review for was answered with yes, in time, and nothing
else stands in the way. What can never leave any more is closed at once; what nobody answered, at its deadline. Every
item that is closed comes out as one outcome, as every item that is made does.
Rule source: DESIGN section 3 and 7 (`review` counts entries; what later closes them is apart).
"""

from collections.abc import Sequence

from msgspec.structs import replace

from schemas.event import Consent, Milestone, Says
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Pair
from transforms.rules.consent import decide, standing
from transforms.rules.judgement import Judgements
from transforms.rules.routing import RouteRule, Rules

Decision = tuple[Verdict, Reason, tuple[Consent, ...]]


def waits(one: Milestone, rule: RouteRule | None, horizon: int) -> bool:
    """May a permit for this pair still come?"""
    return rule is not None and one.time is not None and horizon < one.time + rule.scope.wait


def ask(pair: Pair, verdict: Verdict, found: Decision, one: Milestone, judged: Judgements) -> Outcome:
    """What a reviewer is asked, and as which outcome: the one that is counted, or one more of the same pair."""
    _, reason, facts = found
    ordinal = pair.ordinal if verdict is Verdict.REVIEW else pair.asks + 1
    outcome = Outcome(one, pair.route, verdict, reason, facts, pair.place, ordinal)
    return replace(outcome, question=judged.asked(one, reason, facts))


def waiting(pair: Pair, asked: Outcome, rules: Rules, horizon: int) -> Pair:
    """A pair once a reviewer is asked about it."""
    return replace(
        pair, question=asked.question, deadline=horizon + rules.answer_in[asked.reason], asks=pair.asks + 1
    )  # fmt: skip


def in_review(
    pair: Pair, found: Decision, one: Milestone, rule: RouteRule | None, judged: Judgements, rules: Rules, horizon: int
) -> tuple[Pair, list[Outcome]]:
    """A pair that a reviewer was asked about, moved to the horizon. `found` is what it deserves there."""
    verdict, reason, facts = found
    answered = judged.answers(pair)
    unchanged = verdict is Verdict.REVIEW and judged.asked(one, reason, facts) == pair.question
    if horizon >= pair.deadline and (unchanged or not answered):
        verdict, reason, facts = Verdict.SUPPRESSED, Reason.REVIEW_EXPIRED, ()
    elif unchanged or verdict is Verdict.HELD or (verdict is Verdict.RELEASED and not answered):
        return pair, []
    closed = Outcome(one, pair.route, Verdict.REVIEW_CLOSED, reason, facts, pair.place, pair.asks)
    closed = replace(closed, question=pair.question)
    if verdict is Verdict.REVIEW:
        asked = ask(pair, Verdict.ASKED_AGAIN, found, one, judged)
        return waiting(pair, asked, rules, horizon), [closed, asked]
    if verdict is not Verdict.RELEASED:
        return replace(pair, question="", deadline=FOREVER, open=False), [closed]
    restored = Outcome(one, pair.route, Verdict.RESTORED, reason, facts, pair.place, pair.ordinal + 1)
    shown = rule is None or rule.window is None
    still = shown and waits(one, rule, horizon)
    after = replace(pair, question="", deadline=FOREVER, shown=shown, open=still, ordinal=pair.ordinal + 1)
    return after, [closed, restored]


def reconsidered(
    decided: Decision,
    one: Milestone,
    rule: RouteRule,
    judged: Judgements,
    consents: Sequence[Consent],
    changed: int,
    horizon: int,
) -> Decision:
    """What consent decides if all that a reviewer found to be no obstacle said nothing: it grounds and stops nothing,
    and still ends what it is a newer version of. What it clearly denies, no verdict takes away."""
    while decided[0] is Verdict.REVIEW and one.time is not None and judged.lifts(one, rule, decided[1], decided[2]):
        if decided[1] is Reason.IDENTITY_CHANGED:
            changed = BEGINNING
        else:
            lifted = {fact.what for fact in decided[2]}
            consents = [
                replace(c, says=Says.NOTHING) if c.what in lifted and c.says is not Says.DENY else c for c in consents
            ]
        known = standing(consents, changed, rule.scope, horizon, one.kind)
        decided = decide(one.time, one.span, known, rule.scope, horizon)
    return decided
