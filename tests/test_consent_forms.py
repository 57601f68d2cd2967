"""What a source's profile and the policy's forms come to, and what the CRM may learn of a permit."""

from datetime import UTC

import pytest
from builders import UNFILTERED, at

from schemas.instant import BEGINNING, DAY, FOREVER, from_fhir
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules.consent_forms import Form, Profile, form_of, profile
from transforms.rules.routing import rules

ONE, OTHER = Form(("PATSUPPORT",), (), (), None, FOREVER), Form(("HMARKT",), (), (), None, 30 * DAY)
KNOWN = Profile(forms={"a|1": ONE, "a|2": ONE, "b|1": OTHER})


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([], None),
        (["a|9"], None),
        (["a|1"], ONE),
        (["a|1", "a|2", "x|y"], ONE),
        (["a|1", "b|1"], None),
    ],
)
def test_the_one_form_that_codes_name(codes: list[str], expected: Form | None) -> None:
    assert form_of(codes, KNOWN) == expected


def test_how_long_a_signature_lasts() -> None:
    assert (ONE.end(at(0)), OTHER.end(at(0))) == (FOREVER, at(0) + 30 * DAY)


def test_a_form_is_good_where_it_was_drafted(policy: Policy) -> None:
    american, german = profile(policy), profile(policy.model_copy(update={"jurisdiction": "DE"}))
    assert {form.purposes for form in american.forms.values()} == {("HCPVISIBLE", "PATSUPPORT")}
    assert {form.purposes for form in german.forms.values()} == {("HRESCH",), ("CLINTRCH",)}
    elsewhere = policy.model_copy(update={"jurisdiction": "FR", "jurisdictions": {"FR": policy.jurisdictions["DE"]}})
    assert not profile(elsewhere).forms
    assert profile(policy.model_copy(update={"jurisdiction": "US-MD"})) == american


def test_the_default_policy_s_broad_consent_reaches_no_crm(policy: Policy) -> None:
    german = profile(policy.model_copy(update={"jurisdiction": "DE"}))
    named = {name for form in german.forms.values() for name in form.recipients}
    assert named and not any(named & set(route.destination.recipients) for route in policy.routes)


def test_the_reader_knows_its_source_s_profile(policy: Policy) -> None:
    source = policy.source.model_copy(update={"consent_profile": "root-is-context", "consent_verified": True})
    known = reader(policy.model_copy(update={"source": source}))._reading.consents
    assert (known.root, known.verified, known.forms) == ("root-is-context", True, profile(policy).forms)


def test_a_waiver_s_dates_are_whole_days_of_the_policy_s_zone(policy: Policy) -> None:
    written = {
        "protocol": "P-1", "board": "IRB-1", "approved": "2026-01-01", "expires": "2026-06-30",
        "recipient": "Organization/crm", "elements": ["patient", "time", "kind", "npi"],
    }  # fmt: skip
    tree = policy.model_dump(by_alias=True, exclude=UNFILTERED)
    for route in tree["routes"]:
        if route["route"] == "hcp-notification":
            route |= {"basis": "irb-waiver", "waiver": written}
    waived = Policy.model_validate(tree)
    found = {rule.name: rule.scope for routes in rules(waived, keeps=False).routes.values() for rule in routes}
    first, after = from_fhir("2026-01-01", UTC), from_fhir("2026-07-01", UTC)
    assert first and after
    scope = found["hcp-notification"]
    assert (scope.begins, scope.ends, scope.needs_permit) == (first.time, after.time, False)
    assert (found["patient-support"].begins, found["patient-support"].ends) == (BEGINNING, FOREVER)
