"""The attributes of a patient support programme: enrolment, tier, channel, consent state, next action, outreach.

Each is a value of the milestone itself, so that no order of arrival can change it, and a word of a closed set.
"""

from datetime import UTC
from typing import Any

import msgspec
import pytest
from builders import a_consent, a_milestone

from schemas.event import Kind, Milestone, encode
from schemas.outcome import Reason
from schemas.policy import Policy
from schemas.recipe import Action
from transforms.decode import reader
from transforms.rules import hl7_events
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around
from transforms.rules.reading import Reading
from transforms.rules.recipe import compiled
from transforms.rules.tables import Tables

PROGRAMME = "urn:limen:programme"
TABLES = Tables(programmes={f"{PROGRAMME}|PLUS": "plus", f"{PROGRAMME}|CORE": "core"})
READING = Reading("ehr", "UTF-8", UTC, ("MR", ""), tables=TABLES)
NUMBER = "5551234"


def episode(status: str = "active", **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "EpisodeOfCare", "id": "ep1", "status": status, "patient": {"reference": "Patient/7"},
        "period": {"start": "2026-01-01T08:00:00Z", "end": "2026-02-01T08:00:00Z"}, **fields,
    }  # fmt: skip


def told(tree: dict[str, Any]) -> Milestone:
    (fact,) = read(tree, Around(READING))
    assert isinstance(fact, Milestone)
    return fact


# --- enrolment and tier ---------------------------------------------------------------------------------------------


def test_enrolment_begins_and_ends_with_the_episode() -> None:
    begun, ended = told(episode()), told(episode("finished"))
    assert (begun.kind, begun.values["enrolment"]) == (Kind.ENROLLED, "active")
    assert (ended.kind, ended.values["enrolment"]) == (Kind.EPISODE_COMPLETED, "finished")
    assert begun.time is not None and ended.time is not None and begun.time < ended.time
    withdrawn = told(episode("entered-in-error"))
    assert (withdrawn.cancels, withdrawn.values) == ((Kind.EPISODE_COMPLETED, Kind.ENROLLED), {})


def typed(*codes: str, system: str = PROGRAMME) -> dict[str, Any]:
    return {"type": [{"coding": [{"system": system, "code": code} for code in codes]}]}


@pytest.mark.parametrize(
    "fields, tier",
    [
        pytest.param(typed("PLUS"), "plus", id="a programme"),
        pytest.param(typed("PLUS", "OTHER"), "plus", id="beside another"),
        pytest.param(typed("PLUS", "CORE"), None, id="two tiers"),
        pytest.param(typed("PLUS", system="urn:other"), None, id="another system"),
        pytest.param(typed("plus"), None, id="another code"),
        pytest.param({"type": [{"text": "PLUS"}]}, None, id="a text"),
        pytest.param({}, None, id="none"),
    ],
)
def test_the_tier_is_the_policy_s(fields: dict[str, Any], tier: str | None) -> None:
    assert told(episode(**fields)).values.get("tier") == tier


# --- channel --------------------------------------------------------------------------------------------------------

HOME, MOBILE, MAIL = {"system": "phone", "use": "home"}, {"system": "phone", "use": "mobile"}, {"system": "email"}
TELECOMS: list[tuple[str, Any, str]] = [
    ("the first", [HOME, MAIL], "phone"),
    ("a mobile", [MOBILE], "mobile"),
    ("messages", [{"system": "sms"}], "mobile"),
    ("the best rank", [{**HOME, "rank": 2}, {**MAIL, "rank": 1}], "email"),
    ("a rank before none", [HOME, {**MAIL, "rank": 9}], "email"),
    ("a rank that is none", [HOME, {**MAIL, "rank": 0}, {**MAIL, "rank": True}, {**MAIL, "rank": "1"}], "phone"),
    ("no longer in use", [{**HOME, "use": "old"}, MAIL], "email"),
    ("for a time", [{**HOME, "period": {"end": "2020"}}, {**HOME, "use": "temp"}, MAIL], "email"),
    ("of another kind", [{"system": "fax"}, {"system": "pager"}, {"system": "url"}, {"use": "home"}], ""),
    ("nonsense", [None, "phone", {"system": {}, "use": {}, "rank": []}], ""),
    ("no list", {"system": "phone"}, ""),
    ("none", None, ""),
]


@pytest.mark.parametrize("telecom, channel", [pytest.param(*case, id=name) for name, *case in TELECOMS])
@pytest.mark.parametrize("contained", [True, False])
def test_the_channel_of_fhir(policy: Policy, telecom: Any, channel: str, contained: bool) -> None:
    told = [{**one, "value": NUMBER} if isinstance(one, dict) else one for one in telecom or ()]
    typed = {"type": {"coding": [{"system": "http://x/v2-0203", "code": "MR"}]}, "system": "urn:id:A", "value": "1"}
    patient = {
        "resourceType": "Patient", "id": "7", "identifier": [typed],
        "telecom": told if isinstance(telecom, list) else telecom,
    }  # fmt: skip
    tree: dict[str, Any] = episode(patient={"reference": "#7"}, contained=[patient])
    if not contained:
        tree = {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": episode()}, {"resource": patient}]}
    found = reader(policy)._envelopes.line(msgspec.json.encode(tree))
    facts = [fact for one in found for fact in one.facts]
    (fact,) = [fact for fact in facts if isinstance(fact, Milestone)]
    assert fact.values.get("channel", "") == channel
    assert NUMBER.encode() not in encode(facts)


def test_a_name_that_means_two_patients_has_no_channel(policy: Policy) -> None:
    def patient(system: str, value: str) -> dict[str, Any]:
        identifier = [{"system": "urn:id:A", "value": value}]
        return {"resourceType": "Patient", "id": "7", "identifier": identifier, "telecom": [{"system": system}]}

    by_identifier = {"reference": "Patient/7", "identifier": {"system": "urn:id:A", "value": "1"}}
    entries = [episode(patient=by_identifier), patient("phone", "1"), patient("email", "2")]
    tree = {"resourceType": "Bundle", "type": "batch", "entry": [{"resource": one} for one in entries]}
    facts = [fact for one in reader(policy)._envelopes.line(msgspec.json.encode(tree)) for fact in one.facts]
    assert ["channel" in fact.values for fact in facts if isinstance(fact, Milestone)] == [False]


CONTACTS = [
    ("a phone", f"{NUMBER}^PRN^PH", "", "phone"),
    ("a mobile", f"{NUMBER}^PRN^CP", "", "mobile"),
    ("mail by its equipment", f"^NET^Internet^{NUMBER}", "", "email"),
    ("mail by its use", f"{NUMBER}^NET", "", "email"),
    ("a phone by its use", f"{NUMBER}^PRN", "", "phone"),
    ("an untyped number may be of any kind", NUMBER, "", ""),
    ("the first is the primary one", f"{NUMBER}^PRN^CP~{NUMBER}^NET^Internet", "", "mobile"),
    ("the preferred one", f"{NUMBER}^PRN^PH{'^' * 15}2~{NUMBER}^PRN^CP{'^' * 15}1", "", "mobile"),
    ("a preference that is none", f"{NUMBER}^PRN^PH~{NUMBER}^PRN^CP{'^' * 15}x", "", "phone"),
    ("business", "", f"{NUMBER}^WPN^PH", "phone"),
    ("home before business", f"{NUMBER}^PRN^CP", f"{NUMBER}^WPN^PH", "mobile"),
    ("another kind", f"{NUMBER}^PRN^FX~{NUMBER}^BPN^BP", "", ""),
    ("null", '""', "", ""),
]


@pytest.mark.parametrize("home, business, channel", [pytest.param(*case, id=name) for name, *case in CONTACTS])
def test_the_channel_of_hl7(home: str, business: str, channel: str) -> None:
    for trigger in ("A01", "A11"):
        body = (
            rf"MSH|^~\&|EPIC|SITE|||20260101||ADT^{trigger}|1|P|2.5" + f"\rPID|1||42^^^A^MR{'|' * 10}{home}|{business}"
        )
        (fact,) = hl7_events.read(body.encode(), READING)
        assert isinstance(fact, Milestone)
        assert fact.values.get("channel", "") == ("" if fact.cancels else channel)
        assert NUMBER.encode() not in encode([fact])


# --- what crosses ---------------------------------------------------------------------------------------------------


def crossed(policy: Policy, event: Milestone, *purposes: str) -> dict[str, str]:
    (route,) = [route for route in policy.routes if route.route == "patient-support"]
    made = compiled(route, policy)(event, Reason.PERMITTED, (a_consent(purposes=purposes),))
    return dict(made.values)


@pytest.mark.parametrize(
    "purposes, state",
    [
        (("PATSUPPORT",), "support-only"),
        (("PATSUPPORT", "HCPVISIBLE"), "support-hcp-visible"),
        (("HCPVISIBLE", "PATSUPPORT"), "support-hcp-visible"),
        (("PATSUPPORT", "CLINTRCH"), "support-research-eligible"),
        (("CLINTRCH", "PATSUPPORT", "HCPVISIBLE"), "support-hcp-visible-research-eligible"),
        (("PATSUPPORT", "HMARKT", "TREAT"), "support-only"),
    ],
)
def test_the_consent_state_is_what_the_grounding_permit_names(
    policy: Policy, purposes: tuple[str, ...], state: str
) -> None:
    values = crossed(policy, a_milestone(), *purposes)
    assert (values["consent_state"], values["outreach"]) == (state, "eligible")


def test_all_attributes(policy: Policy) -> None:
    values = {"enrolment": "active", "tier": "nurse-led", "channel": "mobile"}
    event = a_milestone(kind=Kind.ENROLLED, values=values)
    assert crossed(policy, event, "PATSUPPORT") == {
        "time": "2024-10-04", "milestone": "enrolled", "next_action": "welcome-call", "consent_state": "support-only",
        "outreach": "eligible", "enrolment": "enrolled", "support_tier": "nurse-led", "channel_preference": "mobile",
    }  # fmt: skip


def test_a_value_of_no_closed_set_becomes_nothing(policy: Policy) -> None:
    event = a_milestone(kind=Kind.ENROLLED, values=dict.fromkeys(("enrolment", "tier", "channel", "extra"), NUMBER))
    assert NUMBER not in str(crossed(policy, event, "PATSUPPORT"))


def test_every_kind_that_a_route_takes_has_its_words(policy: Policy) -> None:
    for route in policy.routes:
        for row in route.recipe:
            if row.field == "kind" and row.action is Action.ENUMERATE:
                assert set(row.values) == set(route.kinds), (route.route, row.to)


def test_values_are_part_of_a_milestone() -> None:
    assert told(episode(**typed("PLUS"))).what != told(episode(**typed("CORE"))).what
    assert a_milestone(values={"a": "1", "b": "2"}).what == a_milestone(values={"b": "2", "a": "1"}).what


# --- a patient declines ---------------------------------------------------------------------------------------------


def response(status: str = "declined", **fields: Any) -> dict[str, Any]:
    known = {
        "resourceType": "AppointmentResponse", "id": "ar1", "participantStatus": status,
        "actor": {"reference": "Patient/7"}, "appointment": {"reference": "Appointment/a1"},
        "meta": {"lastUpdated": "2026-01-01T08:00:00Z"},
    }  # fmt: skip
    return {**known, **fields}


def test_a_patient_who_declines_takes_the_booking_back() -> None:
    fact = told(response())
    assert (fact.cancels, fact.visit, fact.key != told(response(id="ar2")).key) == (
        (Kind.BOOKED, Kind.ATTENDED),
        "a1",
        True,
    )
    assert told(response(appointment={"identifier": {"value": "AP7"}})).visit == "AP7"
    assert told(response(appointment=None)).visit == "", "of no appointment: of any"
    coding = [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}]
    numbered = {"identifier": {"type": {"coding": coding}, "system": "urn:id:MAIN", "value": "42"}}
    assert told(response(actor=numbered)).patient == "urn:id:MAIN\x1f42"


@pytest.mark.parametrize(
    "tree",
    [
        *[response(status) for status in ("accepted", "tentative", "needs-action", "")],
        response(actor={"reference": "Practitioner/1"}),
        response(actor=None),
        response(actor={"identifier": {"system": "urn:id:MAIN", "value": "42"}}),
        {**response(""), "status": "declined"},
    ],
)
def test_any_other_answer_says_nothing(tree: dict[str, Any]) -> None:
    (fact,) = read(tree, Around(READING))
    assert not isinstance(fact, Milestone)
