"""A timeline moved once, without a ledger: which copy wins, which milestone decides, and that everything is counted."""

from collections import Counter
from collections.abc import Iterable

import pytest
from builders import (
    PATIENT,
    TIME_TO_LIVE,
    WAIT,
    a_cancellation,
    a_change,
    a_consent,
    a_milestone,
    a_route,
    a_scope,
    at,
    the_rules,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.event import AnyFact, Consent, Identity, Kind, Made, Milestone, Says, digest
from schemas.instant import DAY, FOREVER
from schemas.outcome import Reason, Verdict
from schemas.timeline import Outcome, Timeline, pack, unpack
from transforms.rules.routing import Rules
from transforms.rules.timeline import advance

STATE, EVENT = a_route("state"), a_route("event", by_patient=False)
BOTH = the_rules(STATE, EVENT)
PERMIT = a_consent()
HORIZON = at(9)

RELEASED = (Verdict.RELEASED, Reason.PERMITTED)
CONFLICT = (Verdict.REVIEW, Reason.CONFLICTING_COPY)
NO_TIME = (Verdict.REVIEW, Reason.NO_TIME)
TOO_LATE = (Verdict.REVIEW, Reason.TOO_LATE)
SUPERSEDED = (Verdict.SUPPRESSED, Reason.SUPERSEDED)
CANCELLED = (Verdict.SUPPRESSED, Reason.CANCELLED)
CANCELLATION = (Verdict.SUPPRESSED, Reason.CANCELLATION)
AHEAD = (Verdict.SUPPRESSED, Reason.AFTER_HORIZON)
SAME_MESSAGE = (Verdict.REPEATED, Reason.SAME_MESSAGE)
SAME_MILESTONE = (Verdict.REPEATED, Reason.SAME_MILESTONE)
Answer = tuple[Verdict, Reason]


def decided(*facts: AnyFact, rules: Rules = BOTH, horizon: int = HORIZON) -> list[Outcome]:
    """The outcomes of one call under a permit for everything."""
    return advance(Timeline(), [PERMIT, *facts], horizon, rules)[1]


def of(outcomes: Iterable[Outcome], fact: Milestone, route: str = "event") -> Answer:
    """What became of a pair."""
    (found,) = [(o.verdict, o.reason) for o in outcomes if o.route == route and o.event == fact]
    return found


def aside(outcomes: Iterable[Outcome]) -> list[Answer]:
    """What became of the messages that are no routed event, the permit left out."""
    return [(o.verdict, o.reason) for o in outcomes if not o.route and o.event != PERMIT]


# --- first copy wins -----------------------------------------------------------------------------------------------

ONE = a_milestone(at(5), key="A")
OTHER = a_milestone(at(6), key="A", visit="v2")
THIRD = a_milestone(at(7), key="A", visit="v3")
CLEAN = a_milestone(at(8), key="B", visit="v4")


def test_one_message_is_released_once_on_each_route() -> None:
    outcomes = decided(ONE)
    assert of(outcomes, ONE, "state") == of(outcomes, ONE, "event") == RELEASED
    assert not aside(outcomes)
    assert [(o.facts, o.ordinal) for o in outcomes if o.route] == [((PERMIT,), 1)] * 2


def test_a_second_and_a_third_copy_are_repeated_and_numbered() -> None:
    outcomes = decided(ONE, ONE, ONE)
    assert of(outcomes, ONE) == RELEASED
    assert aside(outcomes) == [SAME_MESSAGE, SAME_MESSAGE]
    assert [o.copy for o in outcomes if o.reason is Reason.SAME_MESSAGE] == [1, 2]


def test_the_same_milestone_under_another_message_id_is_repeated() -> None:
    again = a_milestone(at(5), key="B")
    assert again.what == ONE.what and again.key != ONE.key
    outcomes = decided(ONE, again)
    assert aside(outcomes) == [SAME_MILESTONE]
    assert Counter(o.verdict for o in outcomes if o.route) == {Verdict.RELEASED: 2}


def test_what_differs_in_a_value_is_another_milestone_of_the_same_record() -> None:
    richer = a_milestone(at(5), service_class="emergency")
    outcomes = decided(ONE, richer)
    newest, older = sorted((ONE, richer), key=lambda one: one.what, reverse=True)
    for route in ("state", "event"):
        assert of(outcomes, newest, route) == RELEASED
        assert of(outcomes, older, route) == SUPERSEDED


@pytest.mark.parametrize(
    "copies", [(ONE, OTHER), (ONE, OTHER, THIRD), (OTHER, ONE, OTHER)], ids=["two", "three", "again"]
)
def test_conflicting_copies_all_go_to_review(copies: tuple[Milestone, ...]) -> None:
    outcomes = decided(*copies)
    for route in ("state", "event"):
        assert {of(outcomes, one, route) for one in set(copies)} == {CONFLICT}
    assert Counter(aside(outcomes)) == ({SAME_MESSAGE: 1} if len(set(copies)) < len(copies) else {})


BESIDE = a_milestone(ONE.time, key="A", values={**ONE.values, "channel": "phone"})
RETOLD = [replace(BESIDE, stated=ONE.what), ONE]


@pytest.mark.parametrize("copies", [RETOLD, RETOLD[::-1]], ids=["with it first", "with it last"])
def test_what_lies_around_a_message_is_no_other_content(copies: list[Milestone]) -> None:
    """A Bundle that tells besides how its patient is best reached: two milestones of a record, and no conflict."""
    at_once = decided(*copies)
    assert sorted(of(at_once, one) for one in copies) == [RELEASED, SUPERSEDED]
    timeline, rules, seen = Timeline(), BOTH._replace(keeps=True), set[Verdict]()
    for one in copies:
        timeline, outcomes, _, _ = advance(unpack(pack(timeline)), [PERMIT, one], HORIZON, rules)
        seen |= {outcome.verdict for outcome in outcomes if outcome.route}
    assert seen <= {Verdict.RELEASED, Verdict.RESTORED, Verdict.SUPPRESSED, Verdict.HELD}
    shown = {pair.what for pair in timeline.pairs if pair.shown}
    assert shown == {one.what for one in copies if of(at_once, one) == RELEASED}
    assert of(decided(*copies, OTHER), OTHER) == CONFLICT


def test_a_conflict_stains_the_milestone_under_its_other_messages_too() -> None:
    clean = a_milestone(at(5), key="B")
    outcomes = decided(ONE, OTHER, clean)
    assert {o.verdict for o in outcomes if o.route} == {Verdict.REVIEW}
    assert aside(outcomes) == [SAME_MILESTONE]


def test_a_conflict_touches_nothing_else() -> None:
    outcomes = decided(ONE, OTHER, CLEAN)
    assert of(outcomes, CLEAN) == RELEASED


def test_a_cancellation_among_the_copies_is_a_conflict_and_binds() -> None:
    cancels = a_cancellation(at(6), key="A")
    outcomes = decided(ONE, cancels)
    assert of(outcomes, ONE) == of(outcomes, cancels) == CONFLICT
    bystander = a_milestone(at(4), kind=Kind.REGISTERED)
    assert of(decided(ONE, cancels, bystander), bystander) == CANCELLED


def test_conflicting_consents_ground_nothing() -> None:
    copies = [a_consent(key="C"), a_consent(key="C", end=at(90))]
    outcomes = advance(Timeline(), [*copies, ONE], HORIZON, BOTH)[1]
    assert of(outcomes, ONE) == (Verdict.REVIEW, Reason.CONSENT_UNCLEAR)
    denied = advance(
        Timeline(), [PERMIT, a_consent(key="C"), a_consent(Says.DENY, key="C", given=at(1)), ONE], HORIZON, BOTH
    )[1]
    assert of(denied, ONE) == (Verdict.SUPPRESSED, Reason.DENIED)


# --- cancellations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cancelled", "by", "expected"),
    [
        pytest.param(a_milestone(at(5)), a_cancellation(at(5)), CANCELLED, id="at its time"),
        pytest.param(a_milestone(at(5)), a_cancellation(at(6)), CANCELLED, id="after it"),
        pytest.param(a_milestone(at(5)), a_cancellation(at(5) - 1), RELEASED, id="before it: admitted again"),
        pytest.param(a_milestone(at(5), kind=Kind.REGISTERED), a_cancellation(at(6)), CANCELLED, id="registered"),
        pytest.param(
            a_milestone(at(5), kind=Kind.DISCHARGED), a_cancellation(at(6)), RELEASED, id="discharged: not taken back"
        ),
        pytest.param(a_milestone(at(5), visit="v2"), a_cancellation(at(6)), RELEASED, id="another visit"),
        pytest.param(a_milestone(at(5)), a_cancellation(at(6), visit=""), CANCELLED, id="of no visit number: of any"),
        pytest.param(
            a_milestone(at(5)), a_cancellation(at(5) - 1, visit=""), RELEASED, id="of no visit number, before it"
        ),
        pytest.param(
            a_milestone(at(5), kind=Kind.DISCHARGED),
            a_cancellation(at(6), visit=""),
            RELEASED,
            id="of no visit number, another kind",
        ),
        pytest.param(a_milestone(at(5), visit=""), a_cancellation(at(6)), CANCELLED, id="no visit number: by any"),
        pytest.param(
            a_milestone(at(5), visit=""), a_cancellation(at(5) - 1), RELEASED, id="no visit number, after any"
        ),
        pytest.param(
            a_milestone(at(5), visit=""), a_cancellation(at(6), visit=""), CANCELLED, id="no visit number on both"
        ),
        pytest.param(a_milestone(at(5)), a_cancellation(None), CANCELLED, id="of unknown time"),
        pytest.param(a_milestone(at(5)), a_cancellation(at(1), span=DAY), CANCELLED, id="by its day"),
        pytest.param(
            a_milestone(at(5)), a_cancellation(at(5) - DAY, span=DAY), RELEASED, id="by the day that ends there"
        ),
        pytest.param(a_milestone(at(5)), a_cancellation(at(20)), CANCELLED, id="dated after the horizon"),
        pytest.param(
            replace(a_milestone(at(5)), also=("F1",)),
            a_cancellation(at(6), visit="F1"),
            CANCELLED,
            id="by another number",
        ),
        pytest.param(
            a_milestone(at(5), visit="F1"),
            replace(a_cancellation(at(6)), also=("F1",)),
            CANCELLED,
            id="by both numbers",
        ),
    ],
)
@pytest.mark.parametrize("route", ["state", "event"])
def test_a_cancellation_withdraws_its_visit_and_kinds(
    cancelled: Milestone, by: Milestone, expected: Answer, route: str
) -> None:
    for order in ((cancelled, by), (by, cancelled)):
        outcomes = decided(*order)
        assert of(outcomes, cancelled, route) == expected
        assert of(outcomes, by, route) == CANCELLATION


@pytest.mark.parametrize("first", [0, 1])
def test_a_visit_is_known_by_the_numbers_of_all_its_copies(first: int) -> None:
    """Of two messages that say the same one names the visit by one number more: whichever comes first."""
    one, two = a_milestone(at(5), key="A"), replace(a_milestone(at(5), key="B"), also=("F1",))
    both = [one, two][:: 1 - 2 * first]
    named = [replace(fact, key=digest("message", key)) for fact, key in zip(both, ("A", "B"), strict=True)]
    outcomes = decided(*named, a_cancellation(at(6), visit="F1"))
    said = {
        (o.verdict, o.reason)
        for o in outcomes
        if o.route and isinstance(o.event, Milestone) and o.event.what == one.what
    }
    assert said == {CANCELLED}


def test_a_cancellation_of_no_visit_number_withdraws_every_visit() -> None:
    visits = [a_milestone(at(n), visit=name) for n, name in enumerate(("v1", "v2", "", "v3"), 3)]
    later = a_milestone(at(8), visit="v4")
    outcomes = decided(*visits, later, a_cancellation(at(6), visit=""))
    assert [of(outcomes, one) for one in visits] == [CANCELLED] * 4
    assert of(outcomes, later) == RELEASED


def test_a_cancellation_of_a_visit_is_not_outdone_by_one_of_none() -> None:
    outcomes = decided(ONE, a_cancellation(at(6)), a_cancellation(at(3), visit=""))
    assert of(outcomes, ONE) == CANCELLED


def test_a_cancellation_that_no_route_takes_is_routed_by_another_kind_and_binds() -> None:
    rules = the_rules(kinds={Kind.REGISTERED: (EVENT,)})
    registered, cancels = a_milestone(at(5), kind=Kind.REGISTERED), a_cancellation(at(6))
    assert cancels.kind not in rules.routes
    for order in ((registered, cancels), (cancels, registered)):
        outcomes = decided(*order, rules=rules)
        assert of(outcomes, registered) == CANCELLED
        assert [(o.verdict, o.reason) for o in outcomes if o.event.key == cancels.key] == [CANCELLATION]
    nowhere = decided(registered, a_milestone(at(6), cancels=(Kind.ADMITTED,)), rules=rules)
    assert aside(nowhere) == [(Verdict.UNROUTED, Reason.NO_ROUTE)]


@pytest.mark.parametrize("keys", [("A", "B"), ("B", "A")], ids=["later first", "earlier first"])
def test_of_two_cancellations_the_later_counts(keys: tuple[str, str]) -> None:
    earlier, later = a_cancellation(at(3), key=keys[0]), a_cancellation(at(6), key=keys[1])
    assert of(decided(a_milestone(at(5)), earlier, later), a_milestone(at(5))) == CANCELLED


def test_the_cancelled_newest_milestone_leaves_the_record_to_nobody_older() -> None:
    older = a_milestone(at(4), visit="v0")
    outcomes = decided(older, ONE, a_cancellation(at(6)))
    assert of(outcomes, older, "state") == SUPERSEDED
    assert of(outcomes, older, "event") == RELEASED


# --- which milestone decides ---------------------------------------------------------------------------------------


def test_a_patient_record_follows_the_newest_milestone_alone() -> None:
    outcomes = decided(ONE, CLEAN)
    assert of(outcomes, ONE, "state") == SUPERSEDED
    assert of(outcomes, CLEAN, "state") == RELEASED
    assert of(outcomes, ONE, "event") == RELEASED


def test_an_event_record_follows_the_newest_milestone_of_its_visit_and_kind() -> None:
    later, other_kind = a_milestone(at(7)), a_milestone(at(8), kind=Kind.DISCHARGED)
    outcomes = decided(ONE, later, other_kind)
    assert of(outcomes, ONE) == SUPERSEDED
    assert of(outcomes, later) == of(outcomes, other_kind) == RELEASED


def test_milestones_without_a_visit_number_are_visits_of_their_own() -> None:
    first, second = a_milestone(at(5), visit=""), a_milestone(at(7), visit="")
    outcomes = decided(first, second)
    assert of(outcomes, first) == of(outcomes, second) == RELEASED
    assert of(outcomes, first, "state") == SUPERSEDED


def test_the_newest_decides_whatever_becomes_of_it() -> None:
    until = a_consent(of="short", end=at(6))
    older, newest = a_milestone(at(5), visit="v0"), a_milestone(at(7))
    outcomes = advance(Timeline(), [until, older, newest], at(9), BOTH)[1]
    assert of(outcomes, older, "state") == SUPERSEDED
    assert of(outcomes, newest, "state") == (Verdict.SUPPRESSED, Reason.EXPIRED)


def test_equal_times_are_ordered_by_digest() -> None:
    low, high = a_milestone(at(5), visit="v1", what=b"a" * 16), a_milestone(at(5), visit="v2", what=b"b" * 16)
    for order in ((low, high), (high, low)):
        outcomes = decided(*order)
        assert of(outcomes, low, "state") == SUPERSEDED
        assert of(outcomes, high, "state") == RELEASED


def test_no_time_goes_to_review_and_supersedes_nothing() -> None:
    timeless = a_milestone(None, visit="v9")
    outcomes = decided(ONE, timeless)
    assert of(outcomes, timeless, "state") == NO_TIME
    assert of(outcomes, ONE, "state") == RELEASED


def test_after_the_horizon_is_suppressed_and_supersedes_nothing() -> None:
    ahead = a_milestone(HORIZON + 1, visit="v9")
    outcomes = decided(ONE, ahead)
    assert of(outcomes, ahead, "state") == AHEAD
    assert of(outcomes, ONE, "state") == RELEASED
    assert of(decided(a_milestone(HORIZON)), a_milestone(HORIZON)) == RELEASED


def test_without_a_ledger_nothing_is_held() -> None:
    outcomes = advance(Timeline(), [a_milestone(at(8)), a_milestone(HORIZON + 1)], HORIZON, BOTH)[1]
    assert of(outcomes, a_milestone(at(8))) == (Verdict.SUPPRESSED, Reason.NO_CONSENT)
    assert Verdict.HELD not in {o.verdict for o in outcomes}


# --- too late ------------------------------------------------------------------------------------------------------

LATE = at(5 + TIME_TO_LIVE) + 1


def test_what_is_published_after_its_time_to_live_goes_to_review() -> None:
    late, timely = a_milestone(at(5), published=LATE), a_milestone(at(5), published=LATE - 1)
    assert of(decided(late, horizon=LATE), late) == TOO_LATE
    assert of(decided(timely, horizon=LATE), timely) == RELEASED


def test_what_is_too_late_conflicts_with_nothing_and_supersedes_nothing() -> None:
    late = a_milestone(at(6), key="A", visit="v2", published=LATE + DAY)
    outcomes = decided(ONE, late, horizon=LATE + DAY)
    assert of(outcomes, ONE, "state") == RELEASED
    assert of(outcomes, late, "state") == TOO_LATE


@pytest.mark.parametrize("key", ["0", "A", "Z"])
def test_a_late_copy_takes_nothing_from_a_timely_one(key: str) -> None:
    again = a_milestone(at(5), key=key, published=LATE)
    outcomes = decided(again, ONE, horizon=LATE)
    assert of(outcomes, ONE) == RELEASED
    assert aside(outcomes) == [SAME_MILESTONE]


def test_a_late_cancellation_binds_but_conflicts_with_nothing() -> None:
    late = a_cancellation(at(5), key="A", visit="v2", published=LATE)
    withdrawn = a_milestone(at(5), visit="v2")
    outcomes = decided(ONE, late, withdrawn, horizon=LATE)
    assert of(outcomes, ONE) == RELEASED
    assert of(outcomes, withdrawn) == CANCELLED
    assert of(outcomes, late) == CANCELLATION


# --- routes --------------------------------------------------------------------------------------------------------


def test_a_route_that_is_off_or_in_the_shadow_releases_nothing() -> None:
    rules = the_rules(a_route("off", enabled=False), a_route("shadow", shadow=True), a_route("on"))
    outcomes = decided(ONE, rules=rules)
    assert of(outcomes, ONE, "off") == (Verdict.SUPPRESSED, Reason.ROUTE_OFF)
    assert of(outcomes, ONE, "shadow") == (Verdict.SUPPRESSED, Reason.SHADOW)
    assert of(outcomes, ONE, "on") == RELEASED


def test_a_shadow_says_why_not_as_the_real_route_would() -> None:
    rules = the_rules(a_route("shadow", shadow=True))
    outcomes = advance(Timeline(), [ONE], HORIZON, rules)[1]
    assert of(outcomes, ONE, "shadow") == (Verdict.SUPPRESSED, Reason.NO_CONSENT)


def test_a_kind_that_no_route_takes_is_unrouted() -> None:
    rules = the_rules(kinds={Kind.DISCHARGED: (STATE,)})
    _, outcomes, counts, _ = advance(Timeline(), [ONE, ONE], HORIZON, rules)
    assert aside(outcomes) == [(Verdict.UNROUTED, Reason.NO_ROUTE)] * 2
    assert [o.copy for o in outcomes] == [1, 2]
    assert counts == (0, 0)


def test_each_route_asks_for_its_own_consent() -> None:
    rules = the_rules(STATE, a_route("hcp", scope=a_scope("HCPVISIBLE")))
    outcomes = decided(ONE, rules=rules)
    assert of(outcomes, ONE, "state") == RELEASED
    assert of(outcomes, ONE, "hcp") == (Verdict.SUPPRESSED, Reason.OUT_OF_SCOPE)


# --- identity ------------------------------------------------------------------------------------------------------


def test_a_merge_sends_the_patient_to_review() -> None:
    outcomes = decided(ONE, a_change(at(6)))
    assert of(outcomes, ONE) == (Verdict.REVIEW, Reason.IDENTITY_CHANGED)
    assert aside(outcomes) == [(Verdict.CONTROL, Reason.IDENTITY)]


def test_a_merge_is_counted_on_one_side_only() -> None:
    other_side = a_change(at(6), counted=False)
    outcomes = decided(ONE, other_side, other_side)
    assert of(outcomes, ONE) == (Verdict.REVIEW, Reason.IDENTITY_CHANGED)
    assert aside(outcomes) == []
    assert aside(decided(a_change(), a_change())) == [(Verdict.CONTROL, Reason.IDENTITY), SAME_MESSAGE]


def test_of_two_times_in_one_merge_message_the_later_binds() -> None:
    again = a_consent(of="again", given=at(6))
    for order in ((a_change(at(5)), a_change(at(7))), (a_change(at(7)), a_change(at(5)))):
        assert of(decided(ONE, again, *order), ONE) == (Verdict.REVIEW, Reason.IDENTITY_CHANGED)


FORM = a_consent(of="another form")
BESIDE = replace(FORM, counted=False)


def without(*facts: AnyFact, rules: Rules = BOTH) -> list[Outcome]:
    """The outcomes of one call without the permit for everything."""
    return advance(Timeline(), facts, HORIZON, rules)[1]


def test_a_consent_that_rides_along_is_recorded_and_not_counted() -> None:
    outcomes = without(ONE, BESIDE)
    assert of(outcomes, ONE) == RELEASED
    assert aside(outcomes) == aside(without(BESIDE, BESIDE)) == []


def test_of_equal_consents_the_one_that_stands_for_a_message_is_recorded() -> None:
    recorded = (Verdict.CONSENT, Reason.RECORDED)
    assert aside(without(BESIDE, FORM)) == aside(without(FORM, BESIDE)) == [recorded]
    assert aside(without(BESIDE, FORM, FORM)) == [recorded, SAME_MESSAGE]


def test_the_rules_of_one_version_are_one_message() -> None:
    version = [FORM, replace(FORM, rule=1, says=Says.DENY, purposes=("HMARKT",), counted=False)]
    outcomes = without(ONE, *version, *version)
    assert of(outcomes, ONE) == RELEASED
    assert aside(outcomes) == [(Verdict.CONSENT, Reason.RECORDED), SAME_MESSAGE]
    denial = replace(version[1], purposes=())
    assert of(without(ONE, FORM, denial), ONE) == (Verdict.SUPPRESSED, Reason.DENIED)


def test_a_rule_for_some_kinds_decides_these_alone() -> None:
    """Two milestones of one patient on one route, each under its own standing."""
    booked, events = a_milestone(kind=Kind.BOOKED, visit="v2"), the_rules(EVENT)
    outcomes = without(ONE, booked, a_consent(kinds=(Kind.BOOKED,)), rules=events)
    assert of(outcomes, ONE) == (Verdict.SUPPRESSED, Reason.OUT_OF_SCOPE)
    assert of(outcomes, booked) == RELEASED
    refused = a_consent(Says.DENY, of="no", given=at(1), kinds=(Kind.BOOKED,))
    outcomes = without(ONE, booked, FORM, refused, rules=events)
    assert of(outcomes, ONE) == RELEASED
    assert of(outcomes, booked) == (Verdict.SUPPRESSED, Reason.DENIED)


def test_a_waiver_ends_without_an_arrival() -> None:
    """With a ledger: due at its last instant, and what was released under it is retracted."""
    waived = a_route(scope=a_scope("CLINTRCH", needs_permit=False, begins=at(6), ends=at(20)))
    rules = the_rules(waived, keeps=True)
    kept, outcomes, _, due = advance(Timeline(), [ONE], at(5), rules)
    assert of(outcomes, ONE, "state") == (Verdict.HELD, Reason.NOT_COVERED) and due == at(6), "until the waiver begins"
    kept, outcomes, _, _ = advance(kept, [], at(10), rules)
    assert of(outcomes, ONE, "state") == (Verdict.RELEASED, Reason.NO_CONSENT_NEEDED)
    kept, outcomes, _, due = advance(kept, [], at(19), rules)
    assert (outcomes, due) == ([], at(20))
    _, outcomes, _, _ = advance(kept, [], due, rules)
    assert of(outcomes, ONE, "state") == (Verdict.RETRACTED, Reason.EXPIRED)


# --- everything is counted -----------------------------------------------------------------------------------------


def test_a_message_whose_outcome_is_made_keeps_it() -> None:
    made = Made(b"k", PATIENT, "Observation", Verdict.UNROUTED, Reason.NO_ROUTE)
    assert aside(decided(made)) == [(Verdict.UNROUTED, Reason.NO_ROUTE)]


def test_counts() -> None:
    _, _, counts, due = advance(Timeline(), [PERMIT, ONE, ONE, OTHER, CLEAN, a_change()], HORIZON, BOTH)
    assert counts.events_routed == 3 and counts.pairs == 6
    assert due == FOREVER, "without a ledger nobody comes back"


FACTS = st.lists(
    st.one_of(
        st.builds(
            a_milestone,
            st.sampled_from([None, at(4), at(5), at(6), at(30)]),
            key=st.sampled_from([None, 1, 2]),
            visit=st.sampled_from(["v1", "v2"]),
            kind=st.sampled_from([Kind.ADMITTED, Kind.DISCHARGED, Kind.BOOKED]),
            cancels=st.sampled_from([(), (), (), (Kind.ADMITTED, Kind.REGISTERED)]),
            published=st.sampled_from([None, None, at(90)]),
        ),
        st.builds(
            a_consent,
            st.sampled_from(list(Says)),
            of=st.integers(0, 2),
            version=st.integers(1, 2),
            key=st.sampled_from([None, 1]),
            given=st.sampled_from([at(0), at(5), at(40)]),
            rule=st.sampled_from([0, 0, 1]),
            kinds=st.sampled_from([None, None, (Kind.ADMITTED,)]),
            counted=st.booleans(),
        ),
        st.builds(a_change, st.sampled_from([at(1), at(6)]), key=st.just("told here")),
        st.builds(a_change, st.sampled_from([at(1), at(6)]), key=st.just("told there"), counted=st.just(False)),
    ),
    max_size=8,
)
TAKEN = the_rules(kinds={Kind.ADMITTED: (STATE, EVENT), Kind.DISCHARGED: (STATE,)})


@settings(deadline=None)
@given(FACTS)
def test_every_message_has_one_outcome_and_every_pair_one_verdict(facts: list[AnyFact]) -> None:
    _, outcomes, counts, _ = advance(Timeline(), facts, at(100), TAKEN)
    messages = sum(not o.route for o in outcomes)
    pairs = [(o.event.what, o.route) for o in outcomes if o.route and isinstance(o.event, Milestone)]
    uncounted = sum(isinstance(fact, Identity | Consent) and not fact.counted for fact in facts)
    assert messages + counts.events_routed + uncounted == len(facts)
    assert len(pairs) == len(set(pairs)) == counts.pairs
    verdicts = {o.verdict for o in outcomes if o.route}
    assert verdicts <= {Verdict.RELEASED, Verdict.SUPPRESSED, Verdict.REVIEW}
    named = [o for o in outcomes if not isinstance(o.event, Identity)]
    evidence = {(o.event.key, type(o.event), o.route, o.verdict, o.copy) for o in named}
    assert len(named) == len(evidence), "two outcomes would share one audit record"


@settings(deadline=None)
@given(FACTS, st.data())
def test_the_order_of_arrival_changes_nothing(facts: list[AnyFact], data: st.DataObject) -> None:
    other = data.draw(st.permutations(facts))

    def run(order: list[AnyFact]) -> Counter[tuple[object, ...]]:
        outcomes = advance(Timeline(), order, at(100), TAKEN)[1]
        return Counter((o.event.key, o.route, o.verdict, o.reason, o.facts, o.copy, o.ordinal) for o in outcomes)

    assert run(facts) == run(other)


def test_the_wait_is_the_routes_own() -> None:
    patient = a_consent(given=at(5 + WAIT) + 1)
    longer = the_rules(STATE, a_route("long", scope=a_scope(wait=at(10) - at(5))))
    outcomes = advance(Timeline(), [patient, ONE], at(10), longer)[1]
    assert of(outcomes, ONE, "state") == (Verdict.SUPPRESSED, Reason.NOT_COVERED)
    assert of(outcomes, ONE, "long") == RELEASED
