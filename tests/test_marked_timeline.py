"""What is specially protected, from call to call: a mark binds whenever it comes, until a permit names it."""

from itertools import permutations

import pytest
from builders import (
    CRM,
    WAIT,
    a_cancellation,
    a_consent,
    a_judgement,
    a_mark,
    a_milestone,
    a_person,
    a_route,
    a_scope,
    at,
    the_rules,
)
from msgspec.structs import replace

from schemas.event import AnyFact, Kind, Milestone, Says
from schemas.instant import BEGINNING
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Timeline, pack, unpack
from transforms.rules.timeline import advance
from transforms.timeline import _for_review, _patient

FREE = a_scope("HMARKT", recipients=(), needs_permit=False)
RULES = the_rules(a_route("event", by_patient=False), a_route("free", scope=FREE, by_patient=False), keeps=True)
EVENT = a_milestone(at(5), key="e")
MARKED = replace(EVENT, classes=("hiv",))
GENERAL = a_consent()
NAMED = a_consent(of="hiv", classes=("hiv",))
HELD, RELEASED, SUPPRESSED = Verdict.HELD, Verdict.RELEASED, Verdict.SUPPRESSED
SENSITIVE = Reason.SENSITIVE


def calls(*steps: tuple[list[AnyFact], float]) -> list[dict[str, tuple[Verdict, Reason]]]:
    """Route → what became of its pairs, call by call. Between calls a timeline is bytes."""
    timeline, found = Timeline(), []
    for arrivals, hour in steps:
        timeline, outcomes, _, _ = advance(unpack(pack(timeline)), arrivals, at(hour), RULES)
        found.append({o.route: (o.verdict, o.reason) for o in outcomes if o.route})
    return found


@pytest.mark.parametrize(
    "again",
    [
        pytest.param(MARKED, id="the same message"),
        pytest.param(replace(MARKED, key=b"another"), id="another message that says the same"),
        pytest.param(a_milestone(at(4), kind=Kind.DISCHARGED, classes=("hiv",)), id="of the same visit"),
        pytest.param(replace(MARKED, published=at(16)), id="one that came too late"),
        pytest.param(a_milestone(at(4), kind=Kind.DISCHARGED, classes=("hiv",), published=at(16)),
                     id="of the same visit, too late"),
        pytest.param(a_mark("v1"), id="of the same visit, with no milestone"),
        pytest.param(a_mark("another", "v1"), id="of the same visit by one of its numbers"),
        pytest.param(a_mark(), id="of the patient"),
    ],
)  # fmt: skip
def test_a_mark_that_comes_later_takes_back_and_is_never_forgotten(again: AnyFact) -> None:
    plain, marked, *later = calls(
        ([GENERAL, EVENT], 6),
        ([again], 6.5),
        ([], 7),
        ([a_milestone(at(6), kind=Kind.REGISTERED)], 30),
        ([a_milestone(at(31), kind=Kind.BOOKED)], 60),
    )
    assert plain["event"] == (RELEASED, Reason.PERMITTED)
    assert marked["event"] == (Verdict.RETRACTED, SENSITIVE)
    assert not any(verdict in (RELEASED, Verdict.RESTORED) for one in later for verdict, _ in one.values())
    assert later[1]["event"] == later[2]["event"] == later[2]["free"] == (SUPPRESSED, SENSITIVE)


def test_a_mark_on_a_second_copy_that_came_too_late_is_never_forgotten() -> None:
    late, other = replace(EVENT, published=at(16)), a_milestone(at(30), kind=Kind.REGISTERED)
    asked, _, then = calls(
        ([GENERAL, late], 16), ([replace(late, key=b"another", classes=("hiv",))], 17), ([other], 40)
    )
    assert asked["event"] == (Verdict.REVIEW, Reason.TOO_LATE)
    assert then["event"] == then["free"] == (SUPPRESSED, SENSITIVE)


def test_a_second_copy_that_adds_a_class_takes_back() -> None:
    both = replace(EVENT, key=b"another", classes=("substance-use",))
    first, second, third = calls(([NAMED, MARKED], 6), ([both], 7), ([], 20))
    assert first == {"event": (RELEASED, Reason.PERMITTED), "free": (SUPPRESSED, SENSITIVE)}
    assert second == {"event": (Verdict.RETRACTED, SENSITIVE)} and third == {}
    wide = a_consent(of="both", classes=("hiv", "substance-use"))
    assert calls(([wide, MARKED], 6), ([both], 7))[1] == {}


def test_a_mark_under_a_permit_that_names_it_changes_nothing_there() -> None:
    later = calls(([GENERAL, NAMED, EVENT], 6), ([replace(MARKED, key=b"another")], 7))[1]
    assert later == {"free": (Verdict.RETRACTED, SENSITIVE)}


def test_what_is_marked_waits_for_its_permit() -> None:
    held = {"event": (HELD, SENSITIVE), "free": (SUPPRESSED, SENSITIVE)}
    late = replace(NAMED, given=at(8))
    assert calls(([GENERAL, MARKED], 6), ([late], 8)) == [held, {"event": (RELEASED, Reason.PERMITTED)}]
    assert calls(([GENERAL, MARKED], 6), ([], 5 + WAIT)) == [held, {"event": (SUPPRESSED, SENSITIVE)}]
    assert calls(([GENERAL, MARKED], 5 + WAIT))[0]["event"] == (SUPPRESSED, SENSITIVE)


def test_what_ends_the_permit_takes_back() -> None:
    ended = a_consent(Says.ENDS, of="hiv", version=2, given=at(7))
    assert calls(([GENERAL, NAMED, MARKED], 6), ([ended], 7))[1] == {"event": (Verdict.RETRACTED, SENSITIVE)}
    denied = a_consent(Says.DENY, of="no", given=at(7), classes=("substance-use",))
    assert calls(([GENERAL, NAMED, MARKED], 6), ([denied], 7))[1] == {}
    denied = a_consent(Says.DENY, of="no", given=at(7), classes=("hiv", "substance-use"))
    assert calls(([GENERAL, NAMED, MARKED], 6), ([denied], 7))[1] == {"event": (Verdict.RETRACTED, SENSITIVE)}
    assert calls(([GENERAL, EVENT], 6), ([denied], 7))[1] == {}


@pytest.mark.parametrize("keys", [(b"1", b"2", b"3"), (b"2", b"3", b"1"), (b"3", b"1", b"2")])
def test_each_visit_of_a_patient_is_of_its_own_classes(keys: tuple[bytes, bytes, bytes]) -> None:
    visits = [
        a_milestone(at(5), visit=name, classes=of) for name, of in (("a", ()), ("b", ("hiv",)), ("c", ("violence",)))
    ]
    events = [replace(one, key=key) for one, key in zip(visits, keys, strict=True)]
    _, outcomes, _, _ = advance(Timeline(), [GENERAL, NAMED, *events], at(12), RULES)
    found = {o.event.visit: o.reason for o in outcomes if o.route == "event" and isinstance(o.event, Milestone)}
    assert found == {"a": Reason.PERMITTED, "b": Reason.PERMITTED, "c": SENSITIVE}
    _, outcomes, _, _ = advance(Timeline(), [GENERAL, *events], at(12), RULES)
    found = {o.event.visit: o.reason for o in outcomes if o.route == "event" and isinstance(o.event, Milestone)}
    assert found == {"a": Reason.PERMITTED, "b": SENSITIVE, "c": SENSITIVE}


PERSONS = [
    pytest.param([NAMED, a_person(died=True)], (SUPPRESSED, Reason.DECEASED), id="permitted, dead"),
    pytest.param([NAMED, a_person(at(6))], (Verdict.REVIEW, Reason.MINOR), id="permitted, a minor"),
    pytest.param([GENERAL, a_person(died=True)], (SUPPRESSED, SENSITIVE), id="not permitted, dead"),
    pytest.param([GENERAL, a_person(at(6))], (SUPPRESSED, SENSITIVE), id="not permitted, a minor: nobody is asked"),
]


@pytest.mark.parametrize("facts, expected", PERSONS)
def test_the_dead_and_minors(facts: list[AnyFact], expected: tuple[Verdict, Reason]) -> None:
    assert calls(([*facts, MARKED], 12))[0]["event"] == expected


def outcome(*facts: AnyFact) -> Outcome:
    _, outcomes, _, _ = advance(Timeline(), facts, at(12), RULES)
    [found] = [one for one in outcomes if one.route == "event"]
    return found


def test_no_reviewer_is_asked_and_none_can_overrule() -> None:
    vague = a_consent(Says.UNCLEAR, of="vague", given=at(1))
    asked = outcome(GENERAL, vague, EVENT)
    assert (asked.reason, asked.verdict) == (Reason.CONSENT_UNCLEAR, Verdict.REVIEW)
    yes = a_judgement(EVENT.what, "event", asked.question, said=at(11))
    assert outcome(GENERAL, vague, EVENT, yes).verdict is RELEASED
    for permits in ([GENERAL], [NAMED], [GENERAL, NAMED]):
        marked = outcome(*permits, vague, MARKED, yes)
        assert (marked.verdict, marked.reason, marked.question) == (SUPPRESSED, SENSITIVE, "")


def test_a_study_that_is_not_approved_comes_first() -> None:
    candidate = replace(a_milestone(at(5), kind=Kind.TRIAL_ELIGIBLE, values={"protocol": "NONE"}), classes=("hiv",))
    assert outcome(NAMED, candidate).reason is Reason.STUDY_NOT_APPROVED


def test_the_recipient_of_a_named_permit_counts_as_of_any() -> None:
    other = a_consent(of="hiv", classes=("hiv",), recipients=("Organization/other",))
    assert outcome(other, MARKED).reason is SENSITIVE
    assert outcome(replace(other, recipients=(CRM,)), MARKED).verdict is RELEASED


# --- what is marked though it states no milestone ------------------------------------------------------------------

NUMBERED = replace(EVENT, also=("e7",), related=("Condition/c",))
NAMELESS = a_milestone(at(5), visit="")
OTHERS = (Kind.DISCHARGED, Kind.REGISTERED)
BINDS: list[tuple[str, tuple[str, ...], Milestone, bool]] = [
    ("its visit", ("v1",), EVENT, True),
    ("another visit", ("v2",), EVENT, False),
    ("its visit among others", ("v0", "v1"), EVENT, True),
    ("the patient", (), EVENT, True),
    ("a further number of its visit", ("e7",), NUMBERED, True),
    ("a Condition that it refers to", ("e8", "Condition/c"), NUMBERED, True),
    ("another Condition", ("e8", "Condition/d"), NUMBERED, False),
    ("some visit, and it names none", ("v2",), NAMELESS, True),
    ("the patient, and it names no visit", (), NAMELESS, True),
]


@pytest.mark.parametrize("visits, event, bound", [case[1:] for case in BINDS], ids=[case[0] for case in BINDS])
def test_what_a_mark_binds(visits: tuple[str, ...], event: Milestone, bound: bool) -> None:
    mark = a_mark(*visits)
    free, named = (RELEASED, Reason.NO_CONSENT_NEEDED), (RELEASED, Reason.PERMITTED)
    expected = (
        {"event": (HELD, SENSITIVE), "free": (SUPPRESSED, SENSITIVE)} if bound else {"event": named, "free": free}
    )
    assert calls(([GENERAL, mark, event], 6)) == calls(([event, GENERAL, mark], 6)) == [expected]
    assert calls(([GENERAL, mark], 5), ([event], 6))[1] == expected, "before it"
    after = calls(([GENERAL, event], 6), ([mark], 7))[1]
    taken = dict.fromkeys(("event", "free"), (Verdict.RETRACTED, SENSITIVE))
    assert after == (taken if bound else {}), "after it"
    if bound:
        assert calls(([GENERAL, NAMED, mark, event], 6))[0] == {"event": named, "free": (SUPPRESSED, SENSITIVE)}


@pytest.mark.parametrize("split", range(5))
@pytest.mark.parametrize(
    "tightens, reason",
    [(a_mark("e1"), SENSITIVE), (a_cancellation(at(6), visit="e1"), Reason.CANCELLED)],
    ids=["a mark", "a cancellation"],
)
def test_a_third_message_joins_two_numbers_of_a_visit(tightens: AnyFact, reason: Reason, split: int) -> None:
    """Two that no message names together are one visit's, in whatever order it becomes known."""
    joins = [
        a_milestone(at(4), kind=kind, visit="v0", also=(f"{number}1",))
        for kind, number in zip(OTHERS, "ve", strict=True)
    ]
    for facts in permutations([EVENT, *joins, tightens]):
        timeline, _, _, _ = advance(Timeline(), [GENERAL, *facts[:split]], at(7), RULES)
        timeline, outcomes, _, _ = advance(unpack(pack(timeline)), facts[split:], at(8), RULES)
        assert not any(pair.shown for pair in timeline.pairs if pair.what == EVENT.what)
        assert split == 4 or reason in {o.reason for o in outcomes if o.event.key == EVENT.key}


def test_what_no_route_takes_marks_and_is_remembered() -> None:
    """It is not kept itself: a kind that no route of the policy asks for."""
    unasked = a_milestone(at(4), kind=Kind.REGISTERED, key="u", classes=("hiv",))
    rules = RULES._replace(routes={kind: routes for kind, routes in RULES.routes.items() if kind is not unasked.kind})
    timeline, *_ = advance(Timeline(), [GENERAL, unasked], at(5), rules)
    _, outcomes, *_ = advance(unpack(pack(timeline)), [EVENT], at(6), rules)
    assert {o.reason for o in outcomes if o.route} == {SENSITIVE}


def test_what_a_defect_sends_to_review_marks_all_the_same() -> None:
    kept = _for_review(Timeline(), [MARKED, a_person(at(3), died=True)], RULES).timeline
    assert [(mark.visits, mark.classes) for mark in kept.marks] == [(("v1",), ("hiv",))] and len(kept.people) == 1


@pytest.mark.parametrize("key", [EVENT.key, b"another"])
def test_one_copy_that_refers_to_a_condition_binds_all(key: bytes) -> None:
    mark = a_mark("e8", "Condition/c")
    referring = replace(EVENT, key=key, related=("Condition/c",))
    for facts in ([EVENT, referring, mark], [referring, mark, EVENT], [mark, EVENT, referring]):
        first, *rest = calls(([GENERAL, facts[0]], 6), (facts[1:2], 6.5), (facts[2:], 7))
        found = {**first, **{route: said for one in rest for route, said in one.items()}}
        assert {reason for _, reason in found.values()} == {SENSITIVE}


def test_a_mark_is_no_message() -> None:
    """It is counted as nothing, and neither it nor its copies are repeats."""
    timeline, outcomes, counts, due = advance(Timeline(), [a_mark("v1"), a_mark("v1")], at(5), RULES)
    again, repeated, _, _ = advance(timeline, [a_mark("v1")], at(6), RULES)
    assert not outcomes and not repeated and not counts.pairs
    assert (again.marks, again.repeats) == (timeline.marks, ()) and len(timeline.marks) == 1
    assert due > at(10**6), "nobody is woken for it"


def test_marks_of_one_visit_are_kept_as_one_in_any_order() -> None:
    told = [a_mark("v1"), a_mark("v1", classes=("violence",)), a_mark("v1", classes=("genetic", "hiv")), a_mark("v2")]
    kept = [advance(Timeline(), order, at(5), RULES)[0].marks for order in (told, told[::-1])]
    timeline = Timeline()
    for one in told[::-1]:
        timeline = advance(unpack(pack(timeline)), [one], at(5), RULES)[0]
    kept.append(timeline.marks)
    assert kept[0] == kept[1] == kept[2]
    assert sorted((one.visits, one.classes) for one in kept[0]) == [
        (("v1",), ("genetic", "hiv", "violence")), (("v2",), ("hiv",)),
    ]  # fmt: skip


def test_a_defect_loses_no_mark() -> None:
    """Of the timeline on which the rule failed, and of what arrived."""
    before = Timeline(marks=(a_mark("v1"),))
    moved = _for_review(before, [a_mark("v2"), a_milestone(at(5), visit="v2")], RULES)
    assert {one.visits for one in moved.timeline.marks} == {("v1",), ("v2",)}
    assert [o.reason for o in moved.outcomes] == [Reason.DEFECT, Reason.DEFECT] and moved.due == BEGINNING
    assert _patient(before) == EVENT.patient
