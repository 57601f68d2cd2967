"""First copy wins, piece by piece: what tells copies apart, in which order they count, and how each is numbered."""

import pytest
from builders import PATIENT, TIME_TO_LIVE, a_cancellation, a_change, a_consent, a_milestone, a_route, at, the_rules
from msgspec.structs import replace

from schemas.event import AnyFact, Kind, Made, Person
from schemas.instant import BEGINNING
from schemas.outcome import Reason, Verdict
from schemas.timeline import Timeline
from transforms.rules.first_copy import Received, content, order, ordered

PERSON = Person(b"k", PATIENT, "ADT", at(1), died=False, counted=True)
MADE = Made(b"k", PATIENT, "Observation", Verdict.UNROUTED, Reason.NO_ROUTE)


def received(*facts: AnyFact, kinds: tuple[Kind, ...] = tuple(Kind)) -> Received:
    state = Received(Timeline(), the_rules(kinds=dict.fromkeys(kinds, (a_route(),))))
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
    assert order(a_milestone(published=None)) < order(early)


def test_what_comes_too_late_is_known_by_what_it_says() -> None:
    late = a_milestone(published=at(5 + TIME_TO_LIVE) + 1)
    assert received(late).late == {late.what: late}
    assert received(late, a_milestone(key="in time")).late == {}


def test_copies_of_one_key_are_ordered_by_their_content() -> None:
    one, other = sorted((a_consent(key=1), a_consent(key=1, end=at(9))), key=content)
    assert ordered([one, other]) == ordered([other, one]) == [one, other]


def test_outcomes_that_are_made_need_no_content() -> None:
    assert [one.copy for one in received(MADE, MADE).outcomes] == [1, 2]


def test_contents_of_one_key_are_numbered_from_the_second() -> None:
    three = [a_milestone(at(hour), key="A", visit=f"v{hour}") for hour in (4, 5, 6)]
    state = received(*three)
    assert [state.places.get(one.what, 0) for one in state.routed] == [0, 1, 2]
    contents = {one.what for one in three}
    assert state.conflicting() == dict.fromkeys(contents, contents)
    assert received(*three[:1]).conflicting() == {}


def test_the_outcome_of_a_repeat_names_no_route_and_rests_on_nothing() -> None:
    (again,) = received(a_milestone(), a_milestone()).outcomes
    assert (again.route, again.facts, again.copy) == ("", (), 1)
    assert (again.verdict, again.reason) == (Verdict.REPEATED, Reason.SAME_MESSAGE)


def test_a_cancellation_keeps_its_kind_where_a_route_takes_it() -> None:
    second = replace(a_cancellation(), kind=Kind.REGISTERED)  # it takes back admissions too
    assert received(second).routed[0].kind is Kind.REGISTERED
    assert received(second, kinds=(Kind.ADMITTED,)).routed[0].kind is Kind.ADMITTED
    (nobody,) = received(second, kinds=(Kind.BOOKED,)).outcomes
    assert (nobody.verdict, nobody.event.kind) == (Verdict.UNROUTED, Kind.REGISTERED)  # type: ignore[union-attr]


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
