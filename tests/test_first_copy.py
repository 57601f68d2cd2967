"""First copy wins, piece by piece: what tells copies apart, in which order they count, and how each is numbered."""

import pytest
from builders import (
    PATIENT,
    TIME_TO_LIVE,
    a_cancellation,
    a_change,
    a_consent,
    a_judgement,
    a_mark,
    a_milestone,
    a_route,
    at,
    the_rules,
)
from msgspec.structs import replace

from schemas.event import AnyFact, Identity, Kind, Made, Person
from schemas.instant import BEGINNING
from schemas.outcome import Reason, Verdict
from schemas.timeline import Timeline
from transforms.rules.first_copy import Received, content, order, ordered

PERSON = Person(b"k", PATIENT, "ADT", at(1), died=False, counted=True)
MADE = Made(b"k", PATIENT, "Observation", Verdict.UNROUTED, Reason.NO_ROUTE)
JUDGEMENT = a_judgement(b"what", "state", "sensitive 1")
TOO_LATE = at(5 + TIME_TO_LIVE) + 1  # when a message of an event at hour 5 comes too late


def received(*facts: AnyFact, kinds: tuple[Kind, ...] = tuple(Kind), before: Timeline | None = None) -> Received:
    """What is known once these facts have arrived at a timeline, empty if none is given."""
    before = Timeline() if before is None else before
    state = Received(before, the_rules(kinds=dict.fromkeys(kinds, (a_route(),))))
    for fact in ordered(facts):
        state.take(fact)
    state.take_late()
    return state


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(PERSON, replace(PERSON, adult_at=at(2)), id="of age later"),
        pytest.param(PERSON, replace(PERSON, died=True), id="died"),
        pytest.param(a_change(at(1)), a_change(at(2)), id="changed later"),
        pytest.param(a_change(at(1)), a_change(-at(1)), id="changed before 1970"),
        pytest.param(a_consent(), replace(a_consent(), rule=1), id="another rule of the version"),
        pytest.param(a_consent(), a_consent(end=at(9)), id="another version"),
        pytest.param(JUDGEMENT, replace(JUDGEMENT, what=b"else"), id="judged of another milestone"),
        pytest.param(JUDGEMENT, replace(JUDGEMENT, route="event"), id="judged on another route"),
        pytest.param(JUDGEMENT, replace(JUDGEMENT, question="sensitive 2"), id="judged of another question"),
        pytest.param(JUDGEMENT, replace(JUDGEMENT, allows=False), id="judged otherwise"),
        pytest.param(JUDGEMENT, replace(JUDGEMENT, said=at(1)), id="judged later"),
    ],
)
def test_what_tells_two_copies_apart(one: AnyFact, other: AnyFact) -> None:
    assert content(one) != content(other)
    assert content(one) == content(replace(one))
    assert content(replace(one, key=b"another")) == content(one), "the key is no part of the content"


def test_a_change_of_unknown_early_date_has_a_content() -> None:
    assert content(a_change(BEGINNING)) != content(a_change(-BEGINNING))


def test_of_equal_copies_the_one_published_first_goes_first() -> None:
    late, early = a_milestone(published=at(7)), a_milestone(published=at(6))
    assert ordered([late, early]) == ordered([early, late]) == [early, late]
    assert order(a_milestone(published=None)) < order(a_milestone(published=1))


@pytest.mark.parametrize("more", [{"classes": ("hiv",)}, {"also": ("e7",)}, {"related": ("Condition/c",)}])
def test_of_equal_copies_the_one_that_says_less_goes_first(more: dict[str, tuple[str, ...]]) -> None:
    less = a_milestone(published=at(6))
    says_more = replace(less, **more)
    assert order(less) < order(says_more)
    assert ordered([says_more, less])[1] is ordered([less, says_more])[1] is says_more


def test_of_equal_copies_the_one_that_stands_for_its_message_goes_first() -> None:
    beside, message = a_consent(counted=False), a_consent()
    assert ordered([beside, message]) == ordered([message, beside]) == [message, beside]


def test_what_comes_too_late_is_known_by_what_it_says() -> None:
    late = a_milestone(published=TOO_LATE)
    assert received(late).late == {late.what: late}
    assert received(a_milestone(published=TOO_LATE - 1)).late == {}
    assert received(a_milestone(published=at(5))).late == {}
    assert received(late, a_milestone(key="in time")).late == {}


def test_copies_of_one_key_are_ordered_by_their_content() -> None:
    one, other = sorted((a_consent(key=1), a_consent(key=1, end=at(9))), key=content)
    assert ordered([one, other]) == ordered([other, one]) == [one, other]


def test_outcomes_that_are_made_need_no_content() -> None:
    """Each keeps its own verdict and reason."""
    control = replace(MADE, key=b"l", verdict=Verdict.CONTROL, reason=Reason.NOTIFICATION)
    unrouted = ("", Verdict.UNROUTED, Reason.NO_ROUTE, ())
    assert said([MADE, MADE, control]) == [
        (MADE, *unrouted, 1), (MADE, *unrouted, 2), (control, "", Verdict.CONTROL, Reason.NOTIFICATION, (), 1),
    ]  # fmt: skip


def test_contents_of_one_key_are_numbered_from_the_second() -> None:
    three = [a_milestone(at(hour), key="A", visit=f"v{hour}") for hour in (4, 5, 6)]
    state = received(*three)
    assert [state.places.get(one.what, 0) for one in state.routed] == [0, 1, 2]
    contents = {one.what for one in three}
    assert state.conflicting() == dict.fromkeys(contents, contents)
    assert received(*three[:1]).conflicting() == {}


def test_what_a_message_says_itself_tells_whether_its_copies_conflict() -> None:
    one, other = a_milestone(at(5), key="k"), a_milestone(at(6), key="k")
    told = [replace(a_milestone(at(5), key="k", values={"channel": by}), stated=one.what) for by in ("phone", "email")]
    assert received(one, *told).conflicting() == received(*told).conflicting() == {}
    changed = a_milestone(at(5), key="k", values={"channel": "phone"})  # states itself what the Bundle told
    elsewhere = replace(told[0], key=b"another version")  # of the same content, and told by its Bundle
    for copies in ([one, other], [one, told[0], other], [one, changed, elsewhere], [elsewhere, changed, one]):
        contents = {copy.what for copy in copies}
        assert received(*copies).conflicting() == dict.fromkeys(contents, contents)


def test_the_outcome_of_a_repeat_names_no_route_and_rests_on_nothing() -> None:
    (again,) = received(a_milestone(), a_milestone()).outcomes
    assert (again.route, again.facts, again.copy) == ("", (), 1)
    assert (again.verdict, again.reason) == (Verdict.REPEATED, Reason.SAME_MESSAGE)


def test_a_milestone_that_comes_in_another_message_is_repeated() -> None:
    """The first copy stands for it, and both keys are known."""
    one, other = ordered([a_milestone(key="A"), a_milestone(key="B")])
    state = received(one, other, other)
    assert (state.milestones, state.routed) == ({one.what: one}, [one])
    assert [(o.event, o.verdict, o.reason, o.copy) for o in state.outcomes] == [
        (other, Verdict.REPEATED, Reason.SAME_MILESTONE, 1),
        (other, Verdict.REPEATED, Reason.SAME_MESSAGE, 2),
    ]


def test_a_cancellation_keeps_its_kind_where_a_route_takes_it() -> None:
    second = replace(a_cancellation(), kind=Kind.REGISTERED)  # it takes back admissions too
    assert received(second).routed[0].kind is Kind.REGISTERED
    assert received(second, kinds=(Kind.ADMITTED,)).routed[0].kind is Kind.ADMITTED
    (nobody,) = received(second, kinds=(Kind.BOOKED,)).outcomes
    assert (nobody.verdict, nobody.reason) == (Verdict.UNROUTED, Reason.NO_ROUTE)
    assert nobody.event == second


def said(facts: list[AnyFact]) -> list[tuple[AnyFact, str, Verdict, Reason, tuple[object, ...], int]]:
    return [(o.event, o.route, o.verdict, o.reason, o.facts, o.copy) for o in received(*facts).outcomes]


def test_what_is_recorded_of_a_consent() -> None:
    """Copies that differ keep audit records of their own."""
    one, other = sorted((a_consent(key=1), a_consent(key=1, end=at(9))), key=content)
    recorded = ("", Verdict.CONSENT, Reason.RECORDED, ())
    assert said([one, other]) == [(one, *recorded, 0), (other, *recorded, 1)]
    assert received(one, other, one).consents == [one, other]


def test_what_is_recorded_of_a_change_of_identity() -> None:
    one, other = a_change(at(5)), a_change(at(6))
    changed = ("", Verdict.CONTROL, Reason.IDENTITY, ())
    assert said([one, other]) == [(one, *changed, 0), (other, *changed, 1)]
    assert received(one, other, one).changes == [one, other]


def linked(time: int, key: object = "link") -> Identity:
    """A link of a Patient resource, as one version of it tells it."""
    return replace(a_change(time, key=key), type="Patient")


@pytest.mark.parametrize("times", [(5, 6, 7), (7, 5, 6), (6, 7, 5)])
def test_a_link_told_again_is_the_change_that_was_by_its_earliest_time(times: tuple[int, ...]) -> None:
    """Whatever the order, in one call and over several."""
    told = [linked(at(time)) for time in times]
    assert received(*told).changes == [linked(at(5))]
    before = Timeline()
    for one in told:
        before = replace(before, changes=tuple(received(one, before=before).changes))
    assert before.changes == (linked(at(5)),)
    assert received(*told, linked(at(9), "another")).changes == [linked(at(5)), linked(at(9), "another")]


def test_a_link_told_again_is_repeated_and_its_other_side_says_nothing() -> None:
    one, again = linked(at(5)), linked(at(6))
    first = (one, "", Verdict.CONTROL, Reason.IDENTITY, (), 0)
    assert said([one, again]) == [first, (again, "", Verdict.REPEATED, Reason.SAME_MESSAGE, (), 1)]
    assert said([one, one]) == [first, (one, "", Verdict.REPEATED, Reason.SAME_MESSAGE, (), 1)]
    beside = replace(one, counted=False)
    assert said([beside, replace(again, counted=False)]) == []


def test_what_is_recorded_of_a_judgement() -> None:
    one, other = ordered([JUDGEMENT, replace(JUDGEMENT, key=b"other", allows=False)])
    recorded = ("", Verdict.CONSENT, Reason.RECORDED, (), 0)
    again = ("", Verdict.REPEATED, Reason.SAME_MESSAGE, (), 1)
    assert said([one, other, other]) == [(one, *recorded), (other, *recorded), (other, *again)]
    assert received(one, other, other).judgements == [one, other]


def test_what_is_recorded_of_a_person() -> None:
    """Each message of demographics is counted as itself, and each news of the person is known once."""
    died = replace(PERSON, key=b"l", died=True)
    beside = replace(PERSON, counted=False)
    state = received(PERSON, PERSON, beside, died)
    assert [(o.event, o.route, o.verdict, o.reason, o.facts, o.copy) for o in state.outcomes] == [
        (PERSON, "", Verdict.CONTROL, Reason.DEMOGRAPHICS, (), 1),
        (PERSON, "", Verdict.CONTROL, Reason.DEMOGRAPHICS, (), 2),
        (died, "", Verdict.CONTROL, Reason.DEMOGRAPHICS, (), 1),
    ]
    assert state.people == [PERSON, died]
    assert received(PERSON, replace(PERSON, died=True)).people == [PERSON, replace(PERSON, died=True)]


def test_what_a_timeline_remembers_is_known_again() -> None:
    """The copies of an earlier call: each is repeated, none is told anew."""
    milestone, change, consent = a_milestone(), a_change(), a_consent()
    before = Timeline((milestone,), (consent,), (change,), (PERSON,))
    state = Received(before, the_rules())
    for fact in ordered([milestone, change, consent, PERSON]):
        state.take(fact)
    assert sorted((o.verdict, o.reason) for o in state.outcomes) == [
        (Verdict.CONTROL, Reason.DEMOGRAPHICS),
        *[(Verdict.REPEATED, Reason.SAME_MESSAGE)] * 3,
    ]
    assert (state.routed, state.people, state.milestones) == ([], [PERSON], {milestone.what: milestone})
    assert (state.copies, state.changes, state.consents) == ([milestone], [change], [consent])


def test_contents_are_numbered_after_those_that_a_timeline_remembers() -> None:
    """Those that came in time and those that came too late alike, for each key apart."""
    first, second, third, new = (a_milestone(at(hour), key="A", visit=f"v{hour}") for hour in (3, 4, 5, 6))
    alone, beside = (a_milestone(at(hour), key="B", visit=f"v{hour}") for hour in (7, 8))
    for before in (
        Timeline(copies=(alone, first, second, third)),
        Timeline(copies=(first,), late=(alone, second, third)),
        Timeline(late=(alone, first, second, third)),
    ):
        state = received(new, beside, a_milestone(key="C", visit="v9"), before=before)
        assert state.places == {new.what: 3, beside.what: 1}


def test_what_a_timeline_remembers_of_what_came_too_late() -> None:
    """It is known by what it says, marks its stay, and gives way to what says the same and came in time."""
    late = replace(a_milestone(published=TOO_LATE), classes=("hiv",))
    state = received(before=Timeline(late=(late,)))
    assert state.late == state.milestones == {late.what: late}
    assert (state.classes, state.routed) == ({late.stay: {"hiv"}}, [])
    timely = a_milestone(key="in time")
    state = received(before=Timeline(copies=(timely,), late=(late,)))
    assert (state.late, state.milestones) == ({}, {late.what: timely})
    assert state.classes == {late.stay: {"hiv"}}, "one marked copy binds"


def test_what_copies_say_of_a_visit_is_kept_with_the_one_that_is_kept() -> None:
    one, two = a_milestone(key="A"), replace(a_milestone(key="B"), also=("F1", "E2"), classes=("hiv",))
    plain = a_milestone(visit="v2", key="C")
    state = received(one, two, plain)
    assert state.also == {one.what: {"E2", "F1"}}
    assert state.classes == {key: {"hiv"} for key in (one.stay, "E2", "F1")}
    assert state.marked(one) == replace(one, also=("E2", "F1"), classes=("hiv",))
    assert (state.marked(two), state.marked(plain)) == (two, plain)
    assert state.marked(two) is two and state.marked(plain) is plain


def test_all_that_is_known_and_is_no_milestone() -> None:
    lasting = [a_consent(), a_change(), PERSON, JUDGEMENT]
    assert list(received(*lasting, a_milestone()).lasting()) == lasting
    before = Timeline((a_milestone(),), (a_consent(),), (a_change(),), (PERSON,), judgements=(JUDGEMENT,))
    assert list(received(before=before).lasting()) == lasting


def test_how_often_each_key_came_again_is_remembered() -> None:
    """Those that are asked for alone, in the order of their keys, on top of what a timeline remembers."""
    a, b, c = sorted((a_milestone(visit=visit) for visit in "abc"), key=lambda one: one.key)
    state = received(c, c, c, b, a, a, before=Timeline(repeats=((a.key, 4),)))
    assert state.repeats({a.key, b.key, c.key}) == ((a.key, 5), (c.key, 2))
    assert state.repeats({c.key}) == ((c.key, 2),)
    assert state.repeats(set()) == ()


def test_marks_that_no_milestone_carries() -> None:
    """Those of the same visits are one, under the first of their keys, and bind by each number; without one, all."""
    first, second = sorted((a_mark("a", "b"), a_mark("a", "b", classes=("violence",))), key=lambda one: one.key)
    both = replace(first, classes=("hiv", "violence"))
    for facts in ((first, second), (second, first), (first, second, first)):
        state = received()
        for fact in facts:
            state.take(fact)
        assert state.marks == {("a", "b"): both} and not state.outcomes
        assert state.classes == {"a": {"hiv", "violence"}, "b": {"hiv", "violence"}}
    known = received(a_mark(), before=Timeline(marks=(both,)))
    assert known.marks == {("a", "b"): both, (): a_mark()}
    assert known.classes == {"a": {"hiv", "violence"}, "b": {"hiv", "violence"}, "": {"hiv"}}


def test_the_conditions_that_any_copy_refers_to() -> None:
    one, two = a_milestone(key="A"), replace(a_milestone(key="B"), related=("Condition/d", "Condition/c"))
    state = received(one, two, a_milestone(at(9)))
    assert state.related == {one.what: {"Condition/c", "Condition/d"}}
    assert state.marked(one) == replace(one, related=("Condition/c", "Condition/d"))
    assert state.marked(two) is two and state.marked(a_milestone(at(9))).related == ()
    nameless = a_milestone(visit="", key="N")
    assert received(replace(nameless, classes=("hiv",))).classes == {"": {"hiv"}}
