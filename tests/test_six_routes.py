"""All six routes of the default policy through the whole job: what a small hospital sends, what each route gets."""

from pathlib import Path
from shutil import copytree
from typing import Any

import pyarrow.parquet as pq
import pytest
from hospital_files import admission, by_identifier, decide, lines, ndjson, payloads, permit, records

from pipelines.policy import default
from pipelines.run import Done

AS_OF = "2026-06-01T00:00:00Z"
PATIENT = by_identifier("urn:id:GENERAL", "M1")
PURPOSE = "urn:limen:purpose"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SITE = {"system": "urn:limen:organization", "value": "crm-research"}
TRIAL = {"reference": "Organization/crm-research", "identifier": SITE}
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
DRUG = {"coding": [{"system": RXNORM, "code": "DRUG197361", "display": "DRUGNAME"}]}


def research() -> dict[str, Any]:
    """A permit for clinical trial research, given to the research side of the CRM."""
    found = permit(PATIENT, "c2")
    found["provision"]["actor"][0]["reference"] = TRIAL
    found["provision"]["purpose"] = [{"system": ACT_REASON, "code": "CLINTRCH"}]
    return found


def dispense(day: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "resourceType": "MedicationDispense", "id": name, "status": "completed", "subject": PATIENT,
        "medicationCodeableConcept": DRUG, "whenHandedOver": f"{day}T09:00:00Z",
        "daysSupply": {"value": 30, "code": "d"}, **fields,
    }  # fmt: skip


EPISODE = {
    "resourceType": "EpisodeOfCare", "id": "ep", "status": "active", "patient": PATIENT,
    "type": [{"coding": [{"system": "urn:limen:programme", "code": "SUPPORT-PLUS"}]}],
    "period": {"start": "2026-04-01T09:00:00Z"},
}  # fmt: skip
CANDIDATE = {
    "resourceType": "ResearchSubject", "id": "rs", "status": "candidate", "individual": PATIENT,
    "study": {"identifier": {"system": "http://clinicaltrials.gov", "value": "NCT00000000"}},
    "period": {"start": "2026-04-02T09:00:00Z"},
}  # fmt: skip
TYPES = ("ResearchStudy", "ServiceRequest", "Condition")
UNROUTED = [{"resourceType": kind, "status": "active", "subject": PATIENT} for kind in TYPES]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    """Twelve patients were admitted, of whom one allows all, was enrolled, found eligible, and ran out of medicine."""
    folder = tmp_path_factory.mktemp("routes")
    people = [permit(PATIENT), research(), EPISODE, CANDIDATE, dispense("2026-03-01", "d1"), *UNROUTED]
    feed = ndjson(folder / "in/a.ndjson", people)
    (folder / "in/b.hl7").write_bytes(b"".join(admission(f"M{n}", f"V{n}", "20260301080000") for n in range(1, 13)))
    return folder / "out", decide([feed.parent], folder / "out", folder / "state", AS_OF)


def test_every_route_releases(out: tuple[Path, Done]) -> None:
    said = out[1].summary
    assert {route: counts["released"] for route, counts in said["routes"].items()} == {
        "adherence": 1, "closed-loop": 12, "hcp-notification": 1, "operations": 12, "patient-support": 1,
        "trial-recruitment": 1,
    }  # fmt: skip
    assert said["unrouted"] == 3 and said["rejected"] == 0
    # twelve admissions, an enrolment, a candidate and a dispense; the gap is a pair and no event
    assert (said["received"], said["consent"], said["events_routed"]) == (20, 2, 15)
    assert said["pairs"] == 12 * 4 + 1 + 1 + 2


def test_what_the_crm_gets(out: tuple[Path, Done]) -> None:
    data = {one["recipe"].partition("@")[0]: (one["dest"], one["time"][:10], one["data"]) for one in payloads(out[0])}
    assert data == {
        "patient-support": ("crm", "2026-04-01", {
            "milestone": "enrolled", "next_action": "welcome-call", "consent_state": "support-hcp-visible",
            "outreach": "eligible", "enrolment": "enrolled", "support_tier": "plus",
        }),
        "hcp-notification": ("crm", "2026-03-01", {"milestone": "admitted"}),
        "adherence": ("crm", "2026-04-07", {"adherence_flag": "gap", "next_action": "adherence-call"}),
        "trial-recruitment": ("crm-research", "2026-04-02", {"task": "contact-candidate", "protocol": "LMN-EXAMPLE-1"}),
    }  # fmt: skip
    subjects = {one["subject"] for one in payloads(out[0])}
    assert len(subjects) == 3, "one for each destination and purpose: nothing can be joined"


def test_nothing_of_the_chart_crosses(out: tuple[Path, Done]) -> None:
    said = b"".join(lines(out[0])) + str(records(out[0])).encode()
    for secret in (b"DRUG", b"197361", b"NCT0", b"SUPPORT-PLUS", b"clinicaltrials", b"GENERAL", b"M1", b"daysSupply"):
        assert secret not in said
    for table in (out[0] / "aggregates").glob("*.parquet"):
        assert pq.read_table(table).schema.names[3:] == ["day", "milestone", "service_class", "patients"]


@pytest.mark.parametrize(
    "more, flag",
    [
        pytest.param([dispense("2026-03-30", "d2")], ("2026-05-06", "gap"), id="refilled once"),
        pytest.param(
            [dispense("2026-03-30", "d2", daysSupply={"value": 90})], ("2026-03-30", "on-track"), id="for long"
        ),
        pytest.param([dispense("2026-05-20", "d2")], ("2026-05-20", "on-track"), id="back on track"),
        pytest.param([dispense("2026-03-01", "d1", status="entered-in-error")], None, id="an error"),
    ],
)
def test_the_flag_follows_what_is_dispensed(tmp_path: Path, more: list[Any], flag: tuple[str, str] | None) -> None:
    for place, facts in enumerate([[dispense("2026-03-01", "d1"), *more], [*more, dispense("2026-03-01", "d1")]]):
        feed = ndjson(tmp_path / f"{place}/in.ndjson", [permit(PATIENT), *facts])
        decide([feed], tmp_path / f"{place}/out", tmp_path / "state", AS_OF)
        found = [(one["time"][:10], one["data"]["adherence_flag"]) for one in payloads(tmp_path / f"{place}/out")]
        assert found == ([flag] if flag else [])


def test_a_gap_that_is_to_come_is_no_newer_fact(tmp_path: Path) -> None:
    """Else every run whose patients have medicine left would look like one that looks back."""
    feed = ndjson(tmp_path / "in.ndjson", [permit(PATIENT), dispense("2026-05-30", "d1")])
    done = decide([feed], tmp_path / "out", tmp_path / "state", AS_OF)
    assert done.summary["what_if"] is False
    assert [one["data"]["adherence_flag"] for one in payloads(tmp_path / "out")] == ["on-track"]


def test_a_gap_of_a_policy_without_the_route_leaves_no_trace(tmp_path: Path) -> None:
    feed = ndjson(tmp_path / "in.ndjson", [dispense("2026-03-01", "d1")])
    for name, known in (("with", None), ("without", bundle(tmp_path))):
        done = decide([feed], tmp_path / name, tmp_path / "state", AS_OF, policy=known)
        routed = 0 if known else 1
        said = [done.summary[word] for word in ("received", "unrouted", "events_routed", "pairs")]
        assert said == [1, 1 - routed, routed, 2 * routed]


def bundle(folder: Path) -> Path:
    """The default policy without the route `adherence`."""
    copytree(default(), folder / "policy")
    (folder / "policy/routes/adherence.yaml").unlink()
    fields = folder / "policy/fields.yaml"
    fields.write_text(fields.read_text().replace("adherence, ", ""))
    return folder / "policy"
