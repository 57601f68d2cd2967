"""What the law of the policy's jurisdiction adds: the ends of permits, the age of majority, whose forms and classes.

Borders and formats case by case are in tests/consent_vectors/jurisdiction.json.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import a_consent, a_milestone, a_person, at, the_rules
from hospital_files import Said, admission, by_identifier, command, ndjson, payloads, permit, records
from msgspec.structs import replace

from pipelines import policy as policies
from schemas.errors import ConfigurationError
from schemas.event import Consent, Says
from schemas.instant import BEGINNING, DAY, FOREVER, HOUR
from schemas.jurisdiction import Jurisdiction
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy, ProtectedClass
from schemas.timeline import Timeline
from transforms.rules.jurisdiction import NO_LIMITS, OPEN_ENDED, Law, law_of, lawful
from transforms.rules.sensitivity import compiled
from transforms.rules.timeline import advance

YEAR = Law(longest=365 * DAY)
STATED = Law(needs_end=True)
SILENT = Law(silent=365 * DAY)
STRICT = Law(needs_end=True, longest=10 * HOUR)


# --- the ends of permits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "end", "expected"),
    [
        pytest.param(NO_LIMITS, FOREVER, FOREVER, id="no limits, no end"),
        pytest.param(NO_LIMITS, OPEN_ENDED, OPEN_ENDED, id="no limits, the end of the calendar"),
        pytest.param(YEAR, FOREVER, at(0) + 365 * DAY, id="a year, no end"),
        pytest.param(YEAR, at(0) + 365 * DAY + 1, at(0) + 365 * DAY, id="a year, and it states an instant more"),
        pytest.param(YEAR, at(0) + 365 * DAY - 1, at(0) + 365 * DAY - 1, id="a year, and it states an instant less"),
        pytest.param(YEAR, at(-9), at(-9), id="a year, and it ended before it was given"),
        pytest.param(STATED, FOREVER, BEGINNING, id="must state an end, and states none"),
        pytest.param(STATED, OPEN_ENDED, BEGINNING, id="must state an end, and states that of the calendar"),
        pytest.param(STATED, OPEN_ENDED - 1, OPEN_ENDED - 1, id="must state an end, and states one"),
        pytest.param(SILENT, FOREVER, at(0) + 365 * DAY, id="a year if silent, and it is"),
        pytest.param(SILENT, OPEN_ENDED, at(0) + 365 * DAY, id="a year if silent, and it states the calendar's"),
        pytest.param(SILENT, OPEN_ENDED - 1, OPEN_ENDED - 1, id="a year if silent, and it states an end"),
        pytest.param(SILENT, at(1), at(1), id="a year if silent, and it states an early end"),
        pytest.param(STRICT, at(99), at(10), id="both, and it states too much"),
        pytest.param(STRICT, FOREVER, BEGINNING, id="both, and it states none"),
        pytest.param(Law(longest=9, silent=5), FOREVER, at(0) + 5, id="the shorter of two, if silent"),
        pytest.param(Law(longest=5, silent=9), FOREVER, at(0) + 5, id="the shorter of two, of all"),
        pytest.param(Law(True, 5, 9), FOREVER, BEGINNING, id="silence is no end, however long it would hold"),
    ],
)
def test_a_permit_ends_when_the_law_ends_it(law: Law, end: int, expected: int) -> None:
    """Nothing but its end changes, nor does anything that stands beside it."""
    consent = a_consent(end=end)
    beside = [a_consent(says, of=says, end=end) for says in Says if says is not Says.PERMIT]
    assert list(lawful([*beside, consent], law)) == [*beside, replace(consent, end=expected)]


@pytest.mark.parametrize("law", [YEAR, SILENT, STRICT])
def test_a_permit_of_no_date_never_was_in_force(law: Law) -> None:
    [one] = lawful([a_consent(given=BEGINNING)], law)
    assert one.end < 0


def test_where_the_law_adds_nothing_nothing_is_looked_at() -> None:
    consents = [a_consent()]
    assert lawful(consents, Law()) is consents


@pytest.mark.parametrize(
    ("place", "law", "years"),
    [
        ("US", NO_LIMITS, 18),
        ("US-CA", Law(needs_end=True, longest=365 * DAY), 18),
        ("US-MD", Law(needs_end=True, longest=365 * DAY), 18),
        ("US-MN", SILENT, 18),
        ("US-NE", NO_LIMITS, 19),
        ("US-AL", NO_LIMITS, 19),
        ("DE", NO_LIMITS, 18),
    ],
)
def test_the_laws_of_the_default_policy(policy: Policy, place: str, law: Law, years: int) -> None:
    there = policy.model_copy(update={"jurisdiction": place})
    assert (law_of(there), there.majority_years) == (law, years)
    assert compiled(there).majority_years == years
    assert set(policy.jurisdictions) == {"US", "US-CA", "US-MD", "US-MN", "US-NE", "US-AL", "DE"}


def within(policy: Policy, outer: dict[str, Any], inner: dict[str, Any]) -> Policy:
    known = {
        "US": Jurisdiction(law="outer", **{"majority_years": 18, **outer}),
        "US-MD": Jurisdiction(law="inner", within="US", **inner),
    }
    return policy.model_copy(update={"jurisdictions": known, "jurisdiction": "US-MD"})


@pytest.mark.parametrize(
    ("outer", "inner", "law"),
    [
        ({"permit_days": 5}, {"permit_days": 9}, Law(longest=5 * DAY)),
        ({"permit_days": 9}, {"permit_days": 5}, Law(longest=5 * DAY)),
        ({"silent_permit_days": 5}, {}, Law(silent=5 * DAY)),
        ({}, {"silent_permit_days": 5}, Law(silent=5 * DAY)),
        ({"permit_needs_end": True}, {"permit_days": 5}, Law(needs_end=True, longest=5 * DAY)),
    ],
)
def test_of_two_limits_the_stricter_holds(
    policy: Policy, outer: dict[str, Any], inner: dict[str, Any], law: Law
) -> None:
    assert law_of(within(policy, outer, inner)) == law


@pytest.mark.parametrize(("outer", "inner", "years"), [(18, None, 18), (18, 19, 19), (19, 18, 18)])
def test_the_nearest_law_says_who_is_of_age(policy: Policy, outer: int, inner: int | None, years: int) -> None:
    assert within(policy, {"majority_years": outer}, {"majority_years": inner}).majority_years == years


# --- on a timeline ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("law", "consent", "due"),
    [
        (Law(longest=20 * HOUR), a_consent(), at(20)),
        (Law(longest=20 * HOUR), a_consent(end=at(30)), at(20)),
        (Law(longest=20 * HOUR), a_consent(end=at(15)), at(15)),
        (Law(silent=20 * HOUR), a_consent(), at(20)),
        (NO_LIMITS, a_consent(), FOREVER),
    ],
)
def test_with_a_ledger_the_end_that_the_law_gives_falls_due(law: Law, consent: Consent, due: int) -> None:
    """Nothing arrives on that day, and what was released is taken back."""
    known = the_rules(keeps=True)._replace(law=law)
    timeline, outcomes, _, woken = advance(Timeline(), [consent, a_milestone(at(5))], at(10), known)
    assert [o.verdict for o in outcomes if o.route] == [Verdict.RELEASED]
    assert woken == due
    if due < FOREVER:
        assert not advance(timeline, [], due - 1, known)[1]
        [taken] = advance(timeline, [], due, known)[1]
        assert (taken.verdict, taken.reason) == (Verdict.RETRACTED, Reason.EXPIRED)


def test_another_law_decides_anew_over_what_is_kept() -> None:
    known = the_rules(keeps=True)
    timeline = advance(Timeline(), [a_consent(), a_milestone(at(5))], at(10), known)[0]
    [taken] = advance(timeline, [], at(11), known._replace(law=STATED))[1]
    assert (taken.verdict, taken.reason) == (Verdict.RETRACTED, Reason.PERMIT_INCOMPLETE)
    assert timeline.consents[0].end == FOREVER  # what was read stays as it was read


def test_majority_is_no_end_that_a_parent_s_permit_states() -> None:
    facts = [a_consent(guardian=True), a_person(at(4)), a_milestone(at(5))]
    _, outcomes, _, _ = advance(Timeline(), facts, at(8), the_rules()._replace(law=STATED))
    assert [o.reason for o in outcomes if o.route] == [Reason.PERMIT_INCOMPLETE]


# --- whose classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "marked"),
    [(None, True), (("US",), True), (("US-MD", "DE"), True), (("US-CA",), False), (("DE",), False)],
)
def test_a_class_of_one_jurisdiction_is_one_under_its_law_alone(
    policy: Policy, places: tuple[str, ...] | None, marked: bool
) -> None:
    one = ProtectedClass(services=frozenset({"HIV"}), jurisdictions=places)
    sensitivity = policy.sensitivity.model_copy(update={"classes": {"hiv": one}})
    known = compiled(policy.model_copy(update={"sensitivity": sensitivity, "jurisdiction": "US-MD"}))
    assert known.services == ({"HIV": ("hiv",)} if marked else {})


def test_every_class_of_the_default_policy_applies_everywhere(policy: Policy) -> None:
    assert all(one.jurisdictions is None for one in policy.sensitivity.classes.values())


# --- what does not load -------------------------------------------------------------------------------------------

Bundle = Callable[..., Path]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """The default policy under another law; `changes`: file → what is replaced, and by what."""

    def made(place: str = "US", **changes: tuple[str, str]) -> Path:
        folder = tmp_path / f"policy-{place}"
        shutil.copytree(policies.default(), folder)
        changed = {"policy": ("jurisdiction: US ", f"jurisdiction: {place} "), **changes}
        for name, (old, new) in changed.items():
            path = folder / f"{name.replace('_', '-')}.yaml"
            text = path.read_text()
            assert text.count(old) == 1
            path.write_text(text.replace(old, new))
        return folder

    return made


WRONG: list[tuple[str, dict[str, tuple[str, str]], str]] = [
    ("FR", {},
     "policy.yaml: unknown jurisdiction FR; jurisdictions.yaml knows DE, US, US-AL, US-CA, US-MD, US-MN, US-NE"),
    ("Maryland", {}, "policy.yaml: jurisdiction: String should match pattern"),
    ("US", {"jurisdictions": ("  permit_needs_end: true\n  permit_days: 365  ", "  permit_end: true # ")},
     "jurisdictions.yaml: US-CA.permit_end: Extra inputs are not permitted"),
    ("US", {"jurisdictions": ("DE:\n", "DE:\n  within: FR\n")}, "unknown jurisdiction FR"),
    ("US", {"jurisdictions": ("DE:\n", "DE:\n  within: DE\n")}, "jurisdictions.yaml: DE lies within itself"),
    ("US", {"jurisdictions": ("US-CA:\n", "US-VT:\n  law: a state that nothing names\n  within: FR\n\nUS-CA:\n")},
     "unknown jurisdiction FR"),
    ("US", {"jurisdictions": ("  majority_years: 18\n  #", "  #")}, "nothing says from when a patient is of age in US"),
    ("US", {"jurisdictions": ("silent_permit_days: 365", "silent_permit_days: 0")}, "US-MN.silent_permit_days: Input"),
    ("US", {"consent_forms": ("jurisdictions: [US]", "jurisdictions: [FR]")}, "unknown jurisdiction FR"),
    ("US", {"sensitivity": ("    alone: true ", "    jurisdictions: [FR] ")}, "unknown jurisdiction FR"),
    ("US", {"sensitivity": ("  restricted:\n", "  restricted:\n    jurisdictions: [US]\n")},
     "sensitivity.yaml: classes: restricted: what is marked without saying why is protected everywhere"),
    ("US", {"sensitivity": ("classes:\n", "majority_age: 18\nclasses:\n")}, "majority_age: Extra inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "changes", "problem"), WRONG)
def test_a_policy_of_no_known_law_does_not_load(
    bundle: Bundle, place: str, changes: dict[str, tuple[str, str]], problem: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        policies.load(bundle(place, **changes))
    assert problem in str(refused.value)


# --- through the whole job ----------------------------------------------------------------------------------------

WHO = by_identifier("urn:id:GENERAL", "4711")
DISCHARGE = {
    "resourceType": "Encounter", "id": "e1", "status": "finished", "subject": WHO,
    "period": {"end": "2026-03-02T10:00:00Z"},
}  # fmt: skip


def signed(end: str | None, **changes: Any) -> dict[str, Any]:
    """A permit of noon on 1 March 2026."""
    period = {"start": "2026-03-01"} | ({"end": end} if end else {})
    provision = {**permit(WHO)["provision"], "period": period}
    return permit(WHO, provision=provision, **{"dateTime": "2026-03-01T12:00:00Z", **changes})


Limen = Callable[..., tuple[Said, dict[str, Any]]]


@pytest.fixture
def limen(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Limen:
    """`limen run` as of a day on what is delivered with it, and its summary."""

    def ran(policy: Path, day: str, *documents: dict[str, Any], ledger: bool = False) -> tuple[Said, dict[str, Any]]:
        feeds, out = tmp_path / f"feeds-{day.replace(':', '')}", tmp_path / "out"
        feeds.mkdir(exist_ok=True)
        if documents:
            ndjson(feeds / "a.ndjson", documents)
        kept = ("--ledger", tmp_path / "ledger.sqlite") if ledger else ()
        said = command(capsys, monkeypatch, "run", "--input", feeds, "--output", out, "--state", tmp_path / "state",
                       "--policy", policy, "--as-of", day, *kept)  # fmt: skip
        summary = out / "summary.json"
        return said, json.loads(summary.read_bytes()) if summary.exists() else {}

    return ran


def test_an_unknown_jurisdiction_stops_the_command_before_anything_is_written(
    limen: Limen, bundle: Bundle, tmp_path: Path
) -> None:
    said, summary = limen(bundle("FR"), "2026-03-03", signed("2026-12-31"), DISCHARGE)
    assert (said.code, summary) == (2, {})
    assert "unknown jurisdiction FR; jurisdictions.yaml knows DE, US" in said.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("place", "end", "reason"),
    [
        ("US", None, "permitted"),
        ("US-MD", "2035-12-31", "permitted"),
        ("US-MD", None, "permit_incomplete"),
        ("US-CA", None, "permit_incomplete"),
        ("US-MN", None, "permitted"),
    ],
)
def test_a_run_under_each_law(
    limen: Limen, bundle: Bundle, tmp_path: Path, place: str, end: str | None, reason: str
) -> None:
    said, summary = limen(bundle(place), "2026-03-03", signed(end), DISCHARGE)
    assert (said.code, len(payloads(tmp_path / "out"))) == (0, 2 if reason == "permitted" else 0)
    assert summary["reasons"][reason] == 2


def test_a_year_and_a_day_later_an_empty_delivery_takes_it_back(limen: Limen, bundle: Bundle, tmp_path: Path) -> None:
    maryland = bundle("US-MD")
    _, first = limen(maryland, "2026-03-03", signed("2035-12-31"), DISCHARGE, ledger=True)
    _, before = limen(maryland, "2027-03-01T11:59:59Z", ledger=True)
    _, after = limen(maryland, "2027-03-02", ledger=True)
    assert first["released"] == 2
    assert [one["retracted"] for one in (first, before, after)] == [0, 0, 2]
    assert after["reasons"] == {"expired": 2}
    assert {one["reason"] for one in records(tmp_path / "out") if one["verdict"] == "retracted"} == {"expired"}


def test_under_a_new_law_what_is_out_is_looked_at_again(limen: Limen, bundle: Bundle) -> None:
    _, first = limen(bundle("US"), "2026-03-03", signed(None), DISCHARGE, ledger=True)
    _, after = limen(bundle("US-MD"), "2026-03-05", ledger=True)
    assert (first["released"], after["retracted"], after["reasons"]["permit_incomplete"]) == (2, 2, 2)


@pytest.mark.parametrize(("place", "reason"), [("US", "permitted"), ("US-NE", "minor")])
@pytest.mark.parametrize("form", ["fhir", "hl7"])
def test_who_is_eighteen_may_be_a_minor(
    limen: Limen, bundle: Bundle, tmp_path: Path, place: str, reason: str, form: str
) -> None:
    """Born on 1 February 2008, whichever format says so."""
    patient = {"resourceType": "Patient", "id": "p", "birthDate": "2008-02-01", "identifier": [WHO["identifier"]]}
    told = [patient, DISCHARGE]
    if form == "hl7":
        message = admission("4711", "V1", "20260302100000").replace(b"MR\r", b"MR||||20080201\r")
        assert b"20080201" in message
        (tmp_path / "feeds-2026-03-03").mkdir()
        (tmp_path / "feeds-2026-03-03/a.hl7").write_bytes(message)
        told = []
    _, summary = limen(bundle(place), "2026-03-03", signed(None), *told)
    assert summary["reasons"][reason] == 2
