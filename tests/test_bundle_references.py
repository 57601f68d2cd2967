"""Whom a reference in a Bundle means: what withholds binds by each name and number, a permit by one (Bundle 2.36.4)."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from fhir_resources import typed
from hospital_files import decide, ndjson, payloads, permit

from pipelines import options
from pipelines.run import run as do
from schemas.event import Consent, Identity, Mark, Milestone, Person, Says
from schemas.instant import BEGINNING
from transforms.rules import hl7_events
from transforms.rules.envelope import Envelopes
from transforms.rules.fhir_parts import base_of
from transforms.rules.reading import Reading
from transforms.rules.sensitivity import Sensitivity

BASE = "https://e.example/fhir"
RELATIVE, ABSOLUTE = "ehr\x1fPatient/7", f"{BASE}\x1fPatient/7"
PATIENT = {"reference": "Patient/7"}
ENCOUNTER = {
    "resourceType": "Encounter", "id": "e1", "status": "finished", "subject": PATIENT,
    "period": {"end": "2026-05-20T12:00:00Z"},
}  # fmt: skip
Json = dict[str, Any]


def bundle(*resources: Json, base: str = BASE) -> Json:
    """Each in an entry of its own, with the fullUrl that it has on a server."""
    entries = [{"fullUrl": f"{base}/{one['resourceType']}/{one['id']}", "resource": one} for one in resources]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries}


def facts(document: Json, source: str = "ehr") -> list[Any]:
    known = Sensitivity(labels={(None, "HIV"): ("hiv",)}, diagnoses={"B": [("B20", ("hiv",))]})
    reading = Reading(source, "UTF-8", UTC, ("MR", "PI", ""), sensitivity=known)
    opened = Envelopes(reading, {"PATSUPPORT": (), "HCPVISIBLE": ()}, hl7_events.read)
    return [fact for one in opened.document(json.dumps(document).encode()) for fact in one.facts]


def told(found: list[Any]) -> dict[str, list[bool]]:
    """To whom, and whether it is counted there."""
    names: dict[str, list[bool]] = {}
    for fact in found:
        names.setdefault(fact.patient, []).append(fact.counted)
    return names


@pytest.mark.parametrize(
    "changes, says",
    [({"status": "rejected"}, Says.DENY), ({"status": "inactive"}, Says.ENDS),
     ({"status": "entered-in-error"}, Says.VOID), ({"status": "on-hold"}, Says.UNCLEAR)],
    ids=lambda value: value.value if isinstance(value, Says) else "",
)  # fmt: skip
def test_what_withholds_is_told_by_both_names_and_counted_once(changes: Json, says: Says) -> None:
    found = facts(bundle(permit(PATIENT, **changes)))
    assert {fact.says for fact in found} == {says}
    assert told(found) == {RELATIVE: [True], ABSOLUTE: [False]}
    assert len({fact.key for fact in found}) == 1


def test_by_the_other_name_it_is_the_very_consent_that_says_so_itself() -> None:
    """Else the two would be copies of one version that differ, and ground nothing."""
    document = permit(PATIENT)
    document["provision"]["provision"] = [{"type": "deny", "code": [{"coding": [{"system": "urn:x", "code": "y"}]}]}]
    allowed, denied, beyond = facts(bundle(document))
    direct = facts({**document, "patient": {"reference": f"{BASE}/Patient/7"}})
    assert [(allowed.says, denied.says, beyond.says)] == [(Says.PERMIT, Says.DENY, Says.DENY)]
    assert (beyond.patient, beyond.what, beyond.consent, beyond.version, beyond.rule) == (
        direct[1].patient, direct[1].what, direct[1].consent, direct[1].version, direct[1].rule,
    )  # fmt: skip


def test_permits_and_events_keep_the_one_name() -> None:
    assert told(facts(bundle(permit(PATIENT), ENCOUNTER))) == {RELATIVE: [True, True]}


def test_an_absolute_reference_on_the_same_server_binds_the_relative_one() -> None:
    denial = permit({"reference": f"{BASE}/Patient/7"}, status="rejected")
    assert told(facts(bundle(denial))) == {ABSOLUTE: [True], RELATIVE: [False]}
    assert told(facts(bundle(denial, base="https://other.example/fhir"))) == {ABSOLUTE: [True]}


@pytest.mark.parametrize(
    "patient, url",
    [
        (PATIENT, None),
        (PATIENT, "urn:uuid:1"),
        (PATIENT, f"{BASE}/Encounter/c1"),
        (PATIENT, "ftp://e.example/Consent/c1"),
        ({"identifier": {"system": "urn:id:A", "value": "7"}}, f"{BASE}/Consent/c1"),
    ],
    ids=["no fullUrl", "a urn", "of another type", "no http", "no literal reference"],
)
def test_a_denial_with_one_name(patient: Json, url: str | None) -> None:
    entry = {"fullUrl": url, "resource": permit(patient, status="rejected")}
    found = facts({"resourceType": "Bundle", "entry": [entry]})
    assert [fact.counted for fact in found] == [True]


def test_a_patient_in_the_bundle_is_known_by_number_and_by_both_names_of_the_reference() -> None:
    person = {"resourceType": "Patient", "id": "7", "identifier": [{"system": "urn:id:A", "value": "7"}]}
    found = facts(bundle(person, permit(PATIENT, status="rejected")))
    consents = [fact for fact in found if isinstance(fact, Consent)]
    assert told(consents) == {"urn:id:A\x1f7": [True], ABSOLUTE: [False]}


@pytest.mark.parametrize("more", [{"deceasedBoolean": True}, {"birthDate": "2015-02-01"}], ids=["died", "a minor"])
def test_who_died_or_is_no_adult_is_so_by_both_names(more: Json) -> None:
    found = facts(bundle({"resourceType": "Patient", "id": "7", **more}))
    assert told(found) == {RELATIVE: [True], ABSOLUTE: [False]}
    assert all(
        (fact.died, fact.adult_at != BEGINNING) == ("birthDate" not in more, "birthDate" in more) for fact in found
    )


def test_who_died_in_a_stay_is_dead_by_both_names() -> None:
    expired = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
    stay, *people = facts(bundle({**ENCOUNTER, "hospitalization": expired}))
    assert isinstance(stay, Milestone) and stay.patient == RELATIVE
    assert {fact.patient for fact in people if isinstance(fact, Person) and fact.died} == {RELATIVE, ABSOLUTE}


def test_a_link_changes_the_identity_of_all_names() -> None:
    linked = {"resourceType": "Patient", "id": "7", "link": [{"other": {"reference": "Patient/8"}, "type": "replaces"}]}
    found = facts(bundle(linked))
    assert all(isinstance(fact, Identity) for fact in found)
    eight = ("ehr\x1fPatient/8", f"{BASE}\x1fPatient/8")
    assert told(found) == {RELATIVE: [True], eight[0]: [False], ABSOLUTE: [False], eight[1]: [False]}
    assert {fact.key for fact in found} == {fact.key for fact in facts(linked)}


def test_the_base_of_an_entry() -> None:
    assert base_of(f"{BASE}/Patient/7/_history/2", "Patient") == BASE
    assert [base_of(url, "Patient") for url in (None, "", "Patient/7", "https://e.example", f"{BASE}/Group/7")] == [
        ""
    ] * 5


def test_no_release_by_the_other_name_through_the_whole_job(tmp_path: Path) -> None:
    """The Encounter and its permit name the patient by URL, the denial comes in a Bundle of that server."""
    whole = {"reference": f"{BASE}/Patient/7"}
    ndjson(tmp_path / "in/feed.ndjson", [permit(whole), {**ENCOUNTER, "subject": whole}])
    decide([tmp_path / "in"], tmp_path / "out", tmp_path / "state")
    assert len(payloads(tmp_path / "out")) == 2
    denial = bundle(permit(PATIENT, "d1", status="rejected", dateTime="2026-05-21T00:00:00Z"))
    (tmp_path / "in/denial.json").write_text(json.dumps(denial))
    done = decide([tmp_path / "in"], tmp_path / "out2", tmp_path / "state2")
    assert (payloads(tmp_path / "out2"), done.summary["consent"]) == ([], 2)


# --- what another entry says of a milestone --------------------------------------------------------------------------

NPI = {"system": "http://hl7.org/fhir/sid/us-npi", "value": "1234567893"}
SEEN = {**ENCOUNTER, "meta": {"versionId": "1"}, "participant": [{"individual": {"reference": "Practitioner/n"}}]}
AROUND: list[list[Json]] = [
    [{"resourceType": "Patient", "id": "7", "telecom": [{"system": system, "value": "x", "rank": 1}]}]
    for system in ("phone", "email")
] + [[{"resourceType": "Practitioner", "id": "n", "identifier": [NPI]}]]


@pytest.mark.parametrize("others", AROUND, ids=["reached by phone", "reached by mail", "the clinician's number"])
def test_the_same_version_with_something_beside_it_conflicts_with_nothing(others: list[Json]) -> None:
    """Alone and in a Bundle it is one message; what the Bundle adds is a value, and no content of it."""
    (alone,) = facts(SEEN)
    (beside,) = [fact for fact in facts(bundle(SEEN, *others)) if isinstance(fact, Milestone)]
    assert (alone.key, alone.patient, alone.what, alone.stated) == (beside.key, beside.patient, beside.stated, b"")
    assert beside.what != alone.what and beside.values.items() > alone.values.items()


def test_a_number_that_it_states_itself_is_its_content() -> None:
    (stated,) = facts({**SEEN, "participant": [{"individual": {"identifier": NPI}}]})
    (silent,) = facts(SEEN)
    assert stated.key == silent.key and not stated.stated and stated.what != silent.what


def test_a_poll_takes_nothing_back(tmp_path: Path) -> None:
    """The same Encounter again, with its Patient, who wants to be reached in another way by now."""
    person = {"identifier": {"system": "urn:id:GENERAL", "value": "9"}}
    seen = {**SEEN, "subject": {**PATIENT, **person}}
    for day, others in zip(("2026-05-21", "2026-05-22", "2026-05-23"), (AROUND[0], AROUND[1], []), strict=True):
        ndjson(tmp_path / day / "f.ndjson", [bundle(seen, *others), permit(person)])
        ledger = tmp_path / "ledger.sqlite"
        asked = options.request([str(tmp_path / day)], tmp_path / "out", tmp_path / "state", None, day, [], ledger)
        done = do(asked).summary
        assert (done["retracted"], done["review"], done["asked_again"]) == (0, 0, 0), day
    assert {one["data"]["milestone"] for one in payloads(tmp_path / "out")} == {"discharged"}


# --- one patient, several numbers ----------------------------------------------------------------------------------

MR, PI = "urn:id:A\x1f1", "urn:id:B\x1f2"
BY_PI = {"identifier": typed("PI", value="2", system="urn:id:B")}
NUMBERS = [
    typed("PI", value="2", system="urn:id:B"), typed("MR", value="1", system="urn:id:A"),
    typed("SS", value="3", system="urn:id:C"), typed("DL", value="4", system="urn:id:D"),
    typed("MR", value="5", system="urn:id:A", use="old"), {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "6"},
]  # fmt: skip
LABELLED = {"meta": {"security": [{"code": "HIV"}]}}


def person(**more: Any) -> Json:
    return {"resourceType": "Patient", "id": "7", "identifier": NUMBERS, **more}


def together(*resources: Json) -> list[Any]:
    """What is told beside the Patient with several numbers, in a Bundle without any fullUrl."""
    entries = [{"resource": one} for one in (person(), *resources)]
    found = facts({"resourceType": "Bundle", "entry": entries})
    return [fact for fact in found if fact.type != "Patient"]


def test_what_withholds_is_told_by_every_number_of_the_patient_and_counted_once() -> None:
    for who, counted, other in ((PATIENT, MR, PI), (BY_PI, PI, MR), ({**PATIENT, **BY_PI}, PI, MR)):
        found = together(permit(who, status="rejected"))
        assert told(found) == {counted: [True], other: [False]}
        assert len({fact.key for fact in found}) == 1 and len({fact.what for fact in found}) == 2
        assert told(together(permit(who), {**ENCOUNTER, "subject": who})) == {counted: [True, True]}


def test_what_withholds_reaches_the_patient_in_the_bundle_whatever_number_stands_beside_its_name() -> None:
    found = together(permit({**PATIENT, "identifier": typed("MR", value="9")}, status="rejected"))
    assert told(found) == {"urn:id:MAIN\x1f9": [True], MR: [False], PI: [False]}
    alone = {**person(), "identifier": NUMBERS[1:2]}
    denial = permit({**PATIENT, **BY_PI}, status="rejected")
    beside = facts({"resourceType": "Bundle", "entry": [{"resource": alone}, {"resource": denial}]})
    assert told([fact for fact in beside if isinstance(fact, Consent)]) == {PI: [True], MR: [False]}


def test_a_mark_and_a_death_are_told_by_every_number() -> None:
    for status in ("finished", "in-progress"):
        found = together({**ENCOUNTER, "status": status, **LABELLED})
        assert {one.patient for one in found if isinstance(one, Mark) or getattr(one, "classes", ())} == {MR, PI}
    code = {"code": {"coding": [{"code": "B20"}]}}
    marks = together({"resourceType": "Condition", "subject": PATIENT, **code})
    assert {one.patient for one in marks if isinstance(one, Mark)} == {MR, PI}
    expired = {"dischargeDisposition": {"coding": [{"code": "exp"}]}}
    died = together({**ENCOUNTER, "hospitalization": expired})
    assert {one.patient for one in died if isinstance(one, Person) and one.died} == {MR, PI}


@pytest.mark.parametrize(
    "more", [{"deceasedBoolean": True}, {"birthDate": "2015-02-01"}, LABELLED], ids=["died", "a minor", "a label"]
)
def test_a_patient_is_told_of_by_every_number(more: Json) -> None:
    for document in (person(**more), bundle(person(**more), base="urn:no")):
        found = facts(document)
        people = [fact for fact in found if isinstance(fact, Person)]
        assert told(people) == {RELATIVE: [True], MR: [False], PI: [False]}
        assert {(one.died, one.adult_at != BEGINNING) for one in people} == {
            ("deceasedBoolean" in more, "birthDate" in more)
        }
        marked = {one.patient for one in found if isinstance(one, Mark)}
        assert marked == ({RELATIVE, MR, PI} if more is LABELLED else set())


def test_a_link_changes_the_identity_of_every_number() -> None:
    other = {"resourceType": "Patient", "id": "8", "identifier": [typed("MR", "PI", value=n) for n in ("8", "9")]}
    linked = person(link=[{"other": {"reference": "Patient/8"}, "type": "replaces"}], deceasedBoolean=True)
    found = facts({"resourceType": "Bundle", "entry": [{"resource": linked}, {"resource": other}]})
    sides = told([fact for fact in found if isinstance(fact, Identity)])
    eight, nine = "urn:id:MAIN\x1f8", "urn:id:MAIN\x1f9"
    assert set(sides) == {RELATIVE, MR, PI, eight, nine} and [True] in sides.values()
    assert {fact.patient for fact in found if isinstance(fact, Person) and fact.died} == {RELATIVE, MR, PI}


def test_no_release_by_another_number_through_the_whole_job(tmp_path: Path) -> None:
    """The Encounter and its permit go by one number, the denial by the Patient, whose first number is another."""
    ndjson(tmp_path / "in/feed.ndjson", [permit(BY_PI), {**ENCOUNTER, "subject": {**PATIENT, **BY_PI}}])
    decide([tmp_path / "in"], tmp_path / "out", tmp_path / "state")
    assert len(payloads(tmp_path / "out")) == 2
    denial = permit(PATIENT, "d1", status="rejected", dateTime="2026-05-21T00:00:00Z")
    for place, resources in enumerate(([person(), denial], [person(deceasedBoolean=True)])):
        (tmp_path / "in/more.json").write_text(json.dumps(bundle(*resources)))
        decide([tmp_path / "in"], tmp_path / f"out{place}", tmp_path / f"state{place}")
        assert payloads(tmp_path / f"out{place}") == []
