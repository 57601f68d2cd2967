"""Trial recruitment: who is found eligible, and that no study recruits before it is approved or after it is closed."""

from datetime import UTC, date
from typing import Any

import pytest
from builders import PATIENT, UNFILTERED, a_consent, a_milestone, at

from schemas.event import Kind, Made, Milestone
from schemas.instant import DAY, from_fhir
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.timeline import Timeline
from transforms.decode import reader
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.reading import Reading
from transforms.rules.recipe import compiled
from transforms.rules.routing import rules
from transforms.rules.tables import Tables, tables
from transforms.rules.timeline import advance

NCT = "http://clinicaltrials.gov"
KNOWN = Tables(studies={f"{NCT}|NCT00000000": "LMN-1", "ResearchStudy/s1": "LMN-1", "ResearchStudy/s2": "LMN-2"})
AROUND = Around(Reading("ehr", "UTF-8", UTC, ("MR", ""), tables=KNOWN))
TOUCHED = "2026-03-02T08:00:00Z"


def subject(status: str | None = "candidate", **fields: Any) -> dict[str, Any]:
    known = {
        "resourceType": "ResearchSubject", "id": "rs1", "status": status, "study": {"reference": "ResearchStudy/s1"},
        "individual": {"reference": "Patient/7"}, "meta": {"lastUpdated": TOUCHED},
    }  # fmt: skip
    return {name: value for name, value in (known | fields).items() if value is not None}


# --- what is read ---------------------------------------------------------------------------------------------------

ELIGIBLE = ("candidate", "potential-candidate", "eligible")
GONE = ("ineligible", "not-registered", "off-study", "withdrawn", "cancelled", "entered-in-error")
RECRUITED = ("screening", "on-study", "on-study-intervention", "on-study-observation", "pending-on-study", "follow-up")


@pytest.mark.parametrize("status", [*ELIGIBLE, *GONE, *RECRUITED, "Candidate", None])
def test_statuses(status: str | None) -> None:
    (fact,) = read(subject(status), AROUND)
    if status in (*ELIGIBLE, *GONE):
        assert isinstance(fact, Milestone)
        assert (fact.kind, fact.visit) == (Kind.TRIAL_ELIGIBLE, "rs1")
        assert fact.cancels == ((Kind.TRIAL_ELIGIBLE,) if status in GONE else ())
        assert fact.values == ({} if status in GONE else {"protocol": "LMN-1"})
    else:
        assert isinstance(fact, Made)
        assert (fact.verdict, fact.reason) == (Verdict.UNROUTED, Reason.NO_MILESTONE)


STUDIES: list[tuple[str, Any, str]] = [
    ("a reference", {"reference": "ResearchStudy/s1"}, "LMN-1"),
    ("one version of it", {"reference": "ResearchStudy/s1/_history/2"}, "LMN-1"),
    ("an identifier", {"identifier": {"system": NCT, "value": "NCT00000000"}}, "LMN-1"),
    ("both", {"reference": "ResearchStudy/s1", "identifier": {"system": NCT, "value": "NCT00000000"}}, "LMN-1"),
    ("two studies", {"reference": "ResearchStudy/s2", "identifier": {"system": NCT, "value": "NCT00000000"}}, ""),
    ("the number of another system", {"identifier": {"system": "urn:x", "value": "NCT00000000"}}, ""),
    ("of another server", {"reference": "https://b.example/ResearchStudy/s1"}, ""),
    ("unknown", {"reference": "ResearchStudy/s9"}, ""),
    ("a display", {"display": "LMN-1"}, ""),
    ("none", None, ""),
]


@pytest.mark.parametrize("study, protocol", [pytest.param(*case, id=name) for name, *case in STUDIES])
def test_of_a_study_only_the_policy_s_own_code_is_kept(study: Any, protocol: str) -> None:
    (fact,) = read(subject(study=study), AROUND)
    assert isinstance(fact, Milestone)
    assert fact.values.get("protocol", "") == protocol


def test_when_a_patient_was_found_eligible() -> None:
    began = subject(period={"start": "2026-02-01T00:00:00Z"})
    for tree, expected in ((began, "2026-02-01T00:00:00Z"), (subject(), TOUCHED)):
        (fact,) = read(tree, AROUND)
        found = from_fhir(expected)
        assert isinstance(fact, Milestone) and found is not None
        assert fact.time == found.time


@pytest.mark.parametrize("kind", ["ResearchStudy", "ServiceRequest", "Condition"])
def test_what_no_route_asks_for_needs_no_patient(policy: Policy, kind: str) -> None:
    (one,) = reader(policy)._envelopes.line(b'{"resourceType": "%b", "status": "active"}' % kind.encode())
    (fact,) = one.facts
    assert isinstance(fact, Made)
    assert (fact.type, fact.reason) == (kind, Reason.NO_ROUTE)


# --- what becomes of it ---------------------------------------------------------------------------------------------

ZERO = date(2024, 10, 4)  # of the test clock


def day(number: int) -> date:
    return date.fromordinal(ZERO.toordinal() + number)


def with_study(policy: Policy, **changes: Any) -> Policy:
    """The policy with one study: both approvals on day 1, closed on day 10."""
    study = {"protocol": "LMN-1", "names": ["ResearchStudy/s1"], "protocol_approved": day(1), "site_approved": day(1)}
    document = policy.model_dump(mode="json", by_alias=True, exclude=UNFILTERED)
    document["studies"] = [{**study, "closes": day(10), **changes}]
    return Policy.model_validate(document)


PERMIT = a_consent(purposes=("CLINTRCH",), recipients=("Organization/crm-research",), scope="research")


def answer(
    policy: Policy, *, hours: float = 48, protocol: str = "LMN-1", horizon: float = 96, permit: Any = PERMIT
) -> Reason:
    event = a_milestone(at(hours), kind=Kind.TRIAL_ELIGIBLE, values={"protocol": protocol} if protocol else {})
    _, outcomes, _, _ = advance(Timeline(), [permit, event], at(horizon), rules(policy, keeps=False))
    ((verdict, reason),) = [(o.verdict, o.reason) for o in outcomes if o.route]
    assert (verdict is Verdict.RELEASED) is (reason is Reason.PERMITTED)
    return reason


CASES: list[tuple[str, dict[str, Any], dict[str, Any], Reason]] = [
    ("approved and open", {}, {}, Reason.PERMITTED),
    ("at the first instant", {}, {"hours": 24}, Reason.PERMITTED),
    ("the instant before", {}, {"hours": 23.99}, Reason.STUDY_NOT_APPROVED),
    ("the protocol is not approved yet", {"protocol_approved": day(3)}, {}, Reason.STUDY_NOT_APPROVED),
    ("the site is not approved yet", {"site_approved": day(3)}, {}, Reason.STUDY_NOT_APPROVED),
    ("approved later, decided after that", {"site_approved": day(3)}, {"horizon": 200}, Reason.STUDY_NOT_APPROVED),
    ("closed when it is decided", {}, {"horizon": 240}, Reason.STUDY_NOT_APPROVED),
    ("the last instant", {}, {"horizon": 239.99}, Reason.PERMITTED),
    ("closed before it was approved", {"closes": day(0)}, {}, Reason.STUDY_NOT_APPROVED),
    ("another study", {}, {"protocol": "LMN-2"}, Reason.STUDY_NOT_APPROVED),
    ("no study", {}, {"protocol": ""}, Reason.STUDY_NOT_APPROVED),
    ("a permit of another recipient", {}, {"permit": a_consent(purposes=("CLINTRCH",))}, Reason.OUT_OF_SCOPE),
    ("care under a protocol is not recruitment", {},
     {"permit": a_consent(purposes=("CLINTRL",), recipients=("Organization/crm-research",))}, Reason.OUT_OF_SCOPE),
]  # fmt: skip


@pytest.mark.parametrize("study, event, expected", [pytest.param(*case, id=name) for name, *case in CASES])
def test_no_study_recruits_unless_approved_and_open(
    policy: Policy, study: dict[str, Any], event: dict[str, Any], expected: Reason
) -> None:
    assert answer(with_study(policy, **study), **event) is expected


def test_a_task_is_taken_back_when_its_study_closes(policy: Policy) -> None:
    """With a ledger that is due without an arrival."""
    known = rules(with_study(policy), keeps=True)
    event = a_milestone(at(48), kind=Kind.TRIAL_ELIGIBLE, values={"protocol": "LMN-1"})
    timeline, outcomes, _, due = advance(Timeline(), [PERMIT, event], at(80), known)
    assert [o.verdict for o in outcomes if o.route] == [Verdict.RELEASED]
    assert due == at(240)
    _, outcomes, _, _ = advance(timeline, [], due, known)
    assert [(o.verdict, o.reason) for o in outcomes] == [(Verdict.RETRACTED, Reason.STUDY_NOT_APPROVED)]


def test_what_crosses(policy: Policy) -> None:
    (route,) = [route for route in policy.routes if route.route == "trial-recruitment"]
    event = a_milestone(at(48), kind=Kind.TRIAL_ELIGIBLE, values={"protocol": "LMN-1"})
    values = compiled(route, policy)(event, Reason.PERMITTED, (PERMIT,)).values
    assert values == {"time": "2024-10-06", "task": "contact-candidate", "protocol": "LMN-1"}


@pytest.mark.parametrize(
    "studies",
    [
        [{"protocol": "LMN-1", "names": ["a"]}, {"protocol": "LMN-1", "names": ["b"]}],
        [{"protocol": "LMN-1", "names": ["a"]}, {"protocol": "LMN-2", "names": ["a"]}],
        [{"protocol": "jane doe", "names": ["a"]}],
    ],
    ids=["one protocol twice", "one name twice", "a protocol that is no code"],
)
def test_a_table_that_does_not_hold_together_does_not_load(policy: Policy, studies: list[dict[str, Any]]) -> None:
    dates = {"protocol_approved": ZERO, "site_approved": ZERO, "closes": ZERO}
    document = policy.model_dump(mode="json", by_alias=True, exclude=UNFILTERED)
    with pytest.raises(ValueError):
        Policy.model_validate({**document, "studies": [{**study, **dates} for study in studies]})


def test_the_default_table(policy: Policy) -> None:
    known = tables(policy)
    assert set(known.studies.values()) == {study.protocol for study in policy.studies}
    assert PATIENT not in known.studies and known.gap == policy.refill.gap_days * DAY
