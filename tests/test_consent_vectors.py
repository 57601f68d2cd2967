"""The conformance suite of consent: tests/consent_vectors, run as its README says, on the product's own `advance`."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from builders import a_change, a_milestone, a_person, a_route, the_rules
from msgspec.structs import replace

from pipelines import policy as policies
from schemas.consent_form import ConsentForm
from schemas.event import AnyFact, Consent, Kind
from schemas.instant import BEGINNING, FOREVER, HOUR, from_fhir
from schemas.policy import Policy, Sensitivity
from schemas.timeline import Outcome, Timeline
from transforms.rules import fhir_consent, hl7_events
from transforms.rules.consent import Scope
from transforms.rules.consent_forms import profile
from transforms.rules.envelope import Envelopes
from transforms.rules.fhir_parts import Around
from transforms.rules.identity import patient_key
from transforms.rules.jurisdiction import law_of
from transforms.rules.reading import Reading
from transforms.rules.sensitivity import adult_at, compiled
from transforms.rules.timeline import advance

FOLDER = Path(__file__).parent / "consent_vectors"
PATIENT = {patient_key("ehr", "Patient/p"), patient_key("urn:oid:1.2.3", "p")}
PURPOSES = dict.fromkeys(
    "PATSUPPORT HCPVISIBLE HMARKT HRESCH CLINTRCH HOPERAT TREAT CAREMGT BTG".split()
)  # the codes that a provision may name
EVENT = {"kind": "discharged", "time": "2026-03-05T12:00:00Z"}
ROUTE = {
    "purpose": "PATSUPPORT",
    "broader": [],
    "recipients": ["Organization/crm", "urn:limen:organization|crm"],
    "scopes": ["patient-privacy"],
    "wait_hours": 24,
    "needs_permit": True,
    "begins": None,
    "ends": None,
}
PROFILE = {"root": "root-is-rule", "verified": False, "documented": False, "forms": []}
HORIZON = "2026-03-10T00:00:00Z"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CLASSES = {
    "substance-use": {"labels": {ACT_CODE: ["ETH", "BH"]}},
    "hiv": {"labels": {ACT_CODE: ["HIV"]}},
    "mental-health": {"labels": {ACT_CODE: ["PSY", "BH"]}},
    "psychotherapy-notes": {"labels": {ACT_CODE: ["PSYTHPN", "BH"]}, "alone": True},
    "reproductive": {"labels": {ACT_CODE: ["SEX"]}},
    "sexuality": {"labels": {ACT_CODE: ["SEX"]}},
    "restricted": {"labels": {ACT_CODE: ["TABOO"], "http://terminology.hl7.org/CodeSystem/v3-Confidentiality": ["R"]}},
}
MARKED = policies.load(policies.default()).model_copy(
    update={"sensitivity": Sensitivity.model_validate({"classes": CLASSES})}
)
Json = dict[str, Any]


def vectors() -> list[Any]:
    files = sorted(FOLDER.glob("*.json"))
    return [
        pytest.param(one, id=f"{file.stem}/{one['id']}")
        for file in files
        for one in json.loads(file.read_text())["vectors"]
    ]


def instant(text: str | None, otherwise: int) -> int:
    if text is None:
        return otherwise
    found = from_fhir(text)
    assert found is not None
    return found.time


def policy_of(vector: Json) -> Policy:
    """The default policy, with the profile and the jurisdiction of a vector."""
    written = {**PROFILE, **vector.get("profile", {})}
    meant = {
        "consent_profile": written["root"],
        "consent_verified": written["verified"],
        "consent_document": written["documented"],
    }
    forms = [ConsentForm.model_validate({"form": "a-form", "jurisdictions": ["US"], **one}) for one in written["forms"]]
    place = vector.get("jurisdiction", "US")
    return MARKED.model_copy(
        update={"forms": tuple(forms), "source": MARKED.source.model_copy(update=meant), "jurisdiction": place}
    )


def reading(policy: Policy) -> Reading:
    return Reading("ehr", "UTF-8", UTC, ("MR", ""), sensitivity=compiled(policy), consents=profile(policy))


def facts(document: Json, known: Reading) -> list[Consent]:
    """What a document says, of this patient."""
    if document.get("resourceType") == "Bundle":
        carried = Envelopes(known, PURPOSES, hl7_events.read).document(json.dumps(document).encode())
        messages: list[list[Any]] = [one.facts for one in carried if any(isinstance(f, Consent) for f in one.facts)]
    elif "hl7" in document:
        messages = [list(hl7_events.read("\r".join(document["hl7"]), known))]
    else:
        messages = [list(fhir_consent.consent(document, Around(known), PURPOSES))]
    assert all(sum(fact.counted for fact in found) == 1 for found in messages), "a message is counted once"
    found = [fact for facts in messages for fact in facts]
    return [fact for fact in found if fact.patient in PATIENT]


def decided(vector: Json, consents: list[Consent]) -> Outcome:
    event, route = {**EVENT, **vector.get("event", {})}, {**ROUTE, **vector.get("route", {})}
    time = None if event["time"] is None else instant(event["time"], BEGINNING)
    milestone = replace(
        a_milestone(time, kind=Kind(event["kind"]), span=event.get("span_hours", 0) * HOUR),
        classes=tuple(event.get("classes", ())),
    )
    scope = Scope(
        route["purpose"],
        frozenset({route["purpose"], *route["broader"]}),
        frozenset(route["recipients"]),
        frozenset(route["scopes"]),
        route["wait_hours"] * HOUR,
        route["needs_permit"],
        instant(route["begins"], BEGINNING),
        instant(route["ends"], FOREVER),
    )
    changed = vector.get("identity_changed")
    beside: list[AnyFact] = [a_change(instant(changed, BEGINNING))] if changed else []
    policy = policy_of(vector)
    if "born" in vector:
        beside.append(a_person(adult_at(vector["born"], compiled(policy), UTC)))
    horizon = instant(vector.get("horizon", HORIZON), FOREVER)
    known = the_rules(a_route("r", scope=scope))._replace(law=law_of(policy))
    _, outcomes, _, _ = advance(Timeline(), [milestone, *beside, *consents], horizon, known)
    [outcome] = [one for one in outcomes if one.route == "r"]
    return outcome


@pytest.mark.parametrize("vector", vectors())
def test_vector(vector: Json) -> None:
    known = reading(policy_of(vector))
    consents = [fact for document in vector["consents"] for fact in facts(document, known)]
    for arrived in (consents, consents[::-1]):
        outcome = decided(vector, arrived)
        assert (outcome.verdict.value, outcome.reason.value) == (
            vector["expect"]["verdict"],
            vector["expect"]["reason"],
        )


def test_there_are_enough_and_no_two_of_one_name() -> None:
    ids = [one.values[0]["id"] for one in vectors()]
    assert len(ids) >= 150 and len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "bug",
    ["LEAP-CDS", "LEAP#40", "INT#622", "torch#409", "torch#467", "torch#1250", "torch#1251", "torch#1264",
     "torch ignores codes", "torch: a resource type without", "torch fetches active", "torch: validity gate", "Cedar",
     "HAPI#6855", "HL7#4115", "RIVO-Noord", "Google FHIR de-id", "gcp-ingestion#455", "fts-next", "Veeva", "IRB"],
)  # fmt: skip
def test_each_known_bug_of_other_engines_has_its_vector(bug: str) -> None:
    assert any(bug in one.values[0].get("seed", "") for one in vectors())


def test_a_denial_more_never_adds_a_release() -> None:
    """Every vector again, with a denial of everything beside it."""
    denial = json.loads(
        '{"resourceType": "Consent", "id": "no", "status": "rejected", "patient": {"reference": "Patient/p"},'
        ' "dateTime": "2026-03-09T00:00:00Z"}'
    )
    for one in vectors():
        vector = one.values[0]
        known = reading(policy_of(vector))
        consents = [fact for document in [*vector["consents"], denial] for fact in facts(document, known)]
        assert decided(vector, consents).verdict.value != "released", vector["id"]
