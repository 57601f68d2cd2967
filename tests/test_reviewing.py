"""What a reviewer's answer does by the rule alone: it lifts the obstacle that it was asked about, and nothing else."""

import pytest
from builders import ANSWER_IN, a_change, a_consent, a_judgement, a_milestone, a_person, a_route, at, the_rules
from msgspec.structs import replace

from schemas.event import AnyFact, Milestone, Says, digest
from schemas.instant import FOREVER
from schemas.outcome import ALLOWABLE, Reason, Verdict
from schemas.timeline import Outcome, Timeline
from transforms.rules.first_copy import Received
from transforms.rules.judgement import question, reason_of
from transforms.rules.timeline import advance

RULES = the_rules(a_route("event", by_patient=False), keeps=True)
PERMIT, EVENT = a_consent(), a_milestone(at(5), key="m")
YES = Verdict.RESTORED


def asked_of(*facts: AnyFact) -> tuple[Timeline, str]:
    """Facts at ten o'clock, after which the admission is in review, and what is asked about it."""
    timeline, outcomes, _, _ = advance(Timeline(), [EVENT, *facts], at(10), RULES)
    [asked] = [o.question for o in outcomes if o.event == EVENT and o.verdict is Verdict.REVIEW]
    return timeline, asked


def answered(
    timeline: Timeline, asked: str, *more: AnyFact, allows: bool = True, said: int = at(11), hour: int = 11
) -> dict[Verdict, Reason]:
    judgement = a_judgement(EVENT.what, "event", asked, allows=allows, said=said)
    _, outcomes, _, _ = advance(timeline, [judgement, *more], at(hour), RULES)
    return {o.verdict: o.reason for o in outcomes if isinstance(o.event, Milestone) and o.event == EVENT}


OBSTACLES: dict[Reason, list[AnyFact]] = {
    Reason.CONFLICTING_COPY: [a_milestone(at(5), key="m", visit="v9")],
    Reason.IDENTITY_CHANGED: [a_change(at(6))],
    Reason.MINOR: [a_person(at(20))],
    Reason.CONSENT_UNCLEAR: [a_consent(Says.UNCLEAR, of="vague", given=at(6))],
}
each = pytest.mark.parametrize("reason", OBSTACLES)


@each
def test_an_allow_lifts_what_it_answers(reason: Reason) -> None:
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    assert reason_of(asked) is reason
    assert answered(timeline, asked) == {Verdict.REVIEW_CLOSED: Reason.PERMITTED, YES: Reason.PERMITTED}


@each
def test_an_allow_replaces_no_permit(reason: Reason) -> None:
    timeline, asked = asked_of(*OBSTACLES[reason], *([PERMIT] if reason is Reason.IDENTITY_CHANGED else []))
    if reason is Reason.IDENTITY_CHANGED:  # asked only where a permit is there: then that one ends
        ended = a_consent(Says.VOID, version=2, given=at(7))
        assert answered(timeline, asked, ended).keys() == {Verdict.REVIEW_CLOSED}
    else:
        assert answered(timeline, asked) == {Verdict.REVIEW_CLOSED: Reason.NO_CONSENT}


@each
def test_an_allow_overrules_no_denial(reason: Reason) -> None:
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    denied = a_consent(Says.DENY, of="no", given=at(9))
    assert YES not in answered(timeline, asked, denied)


@each
@pytest.mark.parametrize(
    "later",
    [
        pytest.param(a_milestone(at(6)), id="newer"),
        pytest.param(a_milestone(at(5), kind=EVENT.kind, cancels=(EVENT.kind,), service_class="x"), id="cancelled"),
        pytest.param(a_person(died=True, key="death"), id="deceased"),
        pytest.param(replace(EVENT, key=digest("marked copy"), classes=("hiv",)), id="sensitive"),
    ],
)
def test_an_allow_releases_nothing_that_other_rules_stop(reason: Reason, later: AnyFact) -> None:
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    assert YES not in answered(timeline, asked, later)


@each
def test_an_allow_counts_for_its_own_question_only(reason: Reason) -> None:
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    for other in ("", "minor", question(reason, [b"of other facts"]), *(question(r, []) for r in ALLOWABLE)):
        assert other == asked or not answered(timeline, other)
    for other in ("", question(reason, [b"of other facts"]), *(question(r, []) for r in ALLOWABLE)):
        said = a_judgement(EVENT.what, "event", other, said=at(9))  # in the same call as everything else
        _, outcomes, _, _ = advance(Timeline(), [PERMIT, EVENT, *OBSTACLES[reason], said], at(10), RULES)
        assert {o.reason for o in outcomes if o.event == EVENT} == {reason}
    elsewhere = a_judgement(b"another milestone", "event", asked, said=at(11))
    another = a_judgement(EVENT.what, "another route", asked, said=at(11))
    assert not [o for o in advance(timeline, [elsewhere, another], at(11), RULES)[1] if o.route]


@each
def test_an_answer_comes_in_time(reason: Reason) -> None:
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    over = 10 + ANSWER_IN
    assert YES in answered(timeline, asked, said=at(over) - 1, hour=over)
    assert answered(timeline, asked, said=at(over), hour=over) == {Verdict.REVIEW_CLOSED: Reason.REVIEW_EXPIRED}
    assert not answered(timeline, asked, said=at(12), hour=11)  # dated ahead


@each
@pytest.mark.parametrize("allows", [True, False])
def test_a_question_that_is_answered_has_no_deadline_any_more(reason: Reason, allows: bool) -> None:
    """Nobody is woken for it, and a call with nothing new changes nothing."""
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    judgement = a_judgement(EVENT.what, "event", asked, allows=allows, said=at(11))
    after, _, _, due = advance(timeline, [judgement], at(11), RULES)
    assert {pair.deadline for pair in after.pairs if pair.what == EVENT.what} == {FOREVER}
    assert advance(after, [], at(11), RULES)[::3] == (after, due)


@each
def test_a_refusal_wins(reason: Reason) -> None:
    timeline, asked = asked_of(PERMIT, *OBSTACLES[reason])
    no = a_judgement(EVENT.what, "event", asked, allows=False, said=at(10))
    assert answered(timeline, asked, no) == {Verdict.REVIEW_CLOSED: Reason.REVIEWED}


def test_what_an_unclear_version_replaced_does_not_come_back() -> None:
    """The reviewer says that the newer version does not stop the event, not that the older one still holds."""
    vague = a_consent(Says.UNCLEAR, version=2, given=at(6))
    timeline, asked = asked_of(PERMIT, vague)
    assert answered(timeline, asked) == {Verdict.REVIEW_CLOSED: Reason.REVOKED}
    other = a_consent(of="another form", given=at(1))
    assert YES in answered(timeline, asked, other)


def test_what_came_too_late_is_let_in_and_supersedes() -> None:
    late = a_milestone(at(5), published=at(16))
    older = a_milestone(at(4), published=at(4))
    timeline, outcomes, _, _ = advance(Timeline(), [PERMIT, late, older], at(16), RULES)
    assert {(o.event, o.reason) for o in outcomes if o.route} == {
        (late, Reason.TOO_LATE), (older, Reason.PERMITTED)
    }  # fmt: skip
    [asked] = [o.question for o in outcomes if o.question]
    yes = a_judgement(late.what, "event", asked, said=at(17))
    after, outcomes, _, _ = advance(timeline, [yes], at(17), RULES)
    assert [o.verdict for o in outcomes if o.route] == [Verdict.REVIEW_CLOSED, YES]
    assert [pair.what for pair in after.pairs if pair.shown] == [late.what] and after.late == (late,)
    gone = advance(after, [a_consent(Says.DENY, of="no", given=at(30))], at(30), RULES)
    assert [o.verdict for o in gone[1] if o.route] == [Verdict.RETRACTED] and not gone[0].late


def test_a_timely_copy_makes_a_late_one_timely() -> None:
    late = a_milestone(at(5), published=at(16))
    timeline, *_ = advance(Timeline(), [PERMIT, late], at(16), RULES)
    received = Received(timeline, RULES)
    assert set(received.late) == {late.what} == set(received.milestones)
    again = advance(timeline, [late], at(16), RULES)[1]
    assert [(o.verdict, o.reason) for o in again] == [(Verdict.REPEATED, Reason.SAME_MILESTONE)]


def test_nothing_is_asked_that_is_no_question() -> None:
    assert reason_of("") is reason_of("minor") is reason_of("nothing.bcdf") is None
    outcome = Outcome(EVENT, "event", Verdict.REVIEW, Reason.DEFECT)
    assert outcome.question == ""
