"""Routes with filters through the whole job: by programme, service and place, from HL7 and from FHIR."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hospital_files import by_identifier, command, debug_log, lines, ndjson, payloads, permit, records, tree

from pipelines import options
from pipelines import policy as policies
from pipelines.run import Done
from pipelines.run import run as do
from pipelines.simulated import feeds
from schemas.errors import ConfigurationError

WHO = by_identifier("urn:id:GENERAL", "4711")
SUPPORT, NOTIFY = "patient-support", "hcp-notification"
PROGRAMMES = "filters: {programmes: [plus]}\n"
CARE = 'filters: {services: [zqCAR, "urn:s|zqHEART"], locations: [zqCARDIO, Location/zq-heart]}\n'
WORDS = (b"zqcar", b"zqheart", b"zq-heart", b"zqpsych", b"zqcardio")  # texts of services and places, in small letters
Json = dict[str, Any]


def bundle(folder: Path, support: str = PROGRAMMES, notify: str = CARE) -> Path:
    """The default policy, with filters."""
    copy = folder / "policy"
    shutil.copytree(policies.default(), copy)
    for name, filters in ((SUPPORT, support), (NOTIFY, notify)):
        route = copy / f"routes/{name}.yaml"
        route.write_text(route.read_text().replace("wait_days: 1\n", f"wait_days: 1\n{filters}"))
    return copy


def admitted(visit: str, at: str, place: str, service: str) -> bytes:
    return feeds.hl7(
        rf"MSH|^~\&|EPIC|GENERAL|LIMEN|CRM|{at}||ADT^A01|{visit}|T|2.5.1",
        f"EVN||{at}",
        "PID|1||4711^^^GENERAL^MR",
        f"PV1|1|I|{place}|||||||{service}" + "|" * 9 + visit,
    )


def discharged(name: str, end: str, place: str, service: str) -> Json:
    return {
        "resourceType": "Encounter", "id": name, "status": "finished", "subject": WHO, "period": {"end": end},
        "serviceType": {"coding": [{"system": "urn:s", "code": service}]},
        "location": [{"location": {"reference": place}}],
    }  # fmt: skip


def episode(status: str = "active", code: str = "SUPPORT-PLUS", **fields: Any) -> Json:
    coded = {"coding": [{"system": "urn:limen:programme", "code": code}]}
    period = {"start": "2026-03-01T08:00:00Z", **fields.pop("period", {})}
    return {
        "resourceType": "EpisodeOfCare", "id": "ep", "status": status, "patient": WHO, "type": [coded],
        "period": period, **fields,
    }  # fmt: skip


class Place:
    """A policy, a state, and an output folder."""

    def __init__(self, folder: Path, policy: Path) -> None:
        self.folder, self.policy, self.output = folder, policy, folder / "out"

    def run(self, as_of: str, *messages: Json | bytes, ledger: bool = False) -> Done:
        feed = self.folder / as_of.replace(":", "")
        ndjson(feed / "a.ndjson", [one for one in messages if isinstance(one, dict)])
        if told := b"".join(one for one in messages if isinstance(one, bytes)):
            (feed / "b.hl7").write_bytes(told)
        kept = self.folder / "ledger.sqlite" if ledger else None
        state = self.folder / "state"
        return do(options.request([str(feed)], self.output, state, self.policy, as_of, [], ledger=kept))

    def shown(self, route: str) -> list[tuple[str, str]]:
        """(verdict, reason) of a route's pairs by the audit log, sorted."""
        return sorted((one["verdict"], one["reason"]) for one in records(self.output) if one["route"] == route)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, bundle(tmp_path))


CARDIOLOGY = (
    admitted("V1", "20260302100000", "zqCARDIO^1", "zqCAR"),
    discharged("E1", "2026-03-03T10:00:00Z", "Location/zq-heart", "zqHEART"),
)
ELSEWHERE = (
    admitted("V2", "20260304100000", "zqCARDIO", "zqPSYCH"),
    admitted("V3", "20260305100000", "zqPSYCH", "zqCAR"),
    admitted("V4", "20260306100000", "zqCARDIO", "zqCAR~zqPSYCH"),
    discharged("E2", "2026-03-07T10:00:00Z", "Location/zq-psych", "zqHEART"),
    discharged("E3", "2026-03-08T10:00:00Z", "Location/zq-heart", "zqPSYCH"),
)
OVER = episode("finished", period={"end": "2026-03-06T20:00:00Z"})


def test_each_route_takes_what_its_filters_name(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    with debug_log() as logged:
        place.run("2026-04-01", permit(WHO), episode(), OVER, *CARDIOLOGY, *ELSEWHERE)
    out = [json.loads(line) for line in lines(place.output, f"crm/{NOTIFY}")]
    assert sorted((one["time"][:10], one["data"]["milestone"]) for one in out) == [
        ("2026-03-02", "admitted"),
        ("2026-03-03", "discharged"),
    ]
    [one] = [json.loads(line) for line in lines(place.output, f"crm/{SUPPORT}")]  # later discharges outrank nothing
    assert (one["time"][:10], one["data"]["milestone"]) == ("2026-03-06", "episode-completed")
    assert place.shown(NOTIFY) == [("released", "permitted")] * 2 + [("suppressed", "filtered")] * 6
    assert place.shown(SUPPORT).count(("suppressed", "not_enrolled")) == 2
    for route in ("closed-loop", "operations"):
        assert "filtered" not in {reason for _, reason in place.shown(route)}

    audited = json.dumps(records(place.output), default=str).encode()
    written = [content for content, _ in tree(place.output).values()]
    for text in (*written, audited, *capfd.readouterr(), *logged):
        raw = (text if isinstance(text, bytes) else text.encode()).lower()
        assert [word for word in WORDS if word in raw] == []


def test_the_same_run_again_changes_nothing(place: Place) -> None:
    feed = (permit(WHO), episode(), OVER, *CARDIOLOGY, *ELSEWHERE)
    place.run("2026-04-01", *feed)
    before = tree(place.output)
    assert place.run("2026-04-01", *feed).repeated
    assert {name for name, content in tree(place.output).items() if before.get(name) != content} == {"summary.json"}


def test_no_filter_reads_nothing(tmp_path: Path) -> None:
    """What differs only in service and place is one milestone where no route filters on them."""
    twice = (
        discharged("E1", "2026-03-03T10:00:00Z", "Location/a", "A"),
        discharged("E1", "2026-03-03T10:00:00Z", "", ""),
    )
    twice[1]["meta"] = {"versionId": "2"}
    plain, filtered = (
        Place(tmp_path / "a", bundle(tmp_path / "a", "", "")),
        Place(tmp_path / "b", bundle(tmp_path / "b")),
    )
    assert plain.run("2026-04-01", *twice).summary["reasons"]["same_milestone"] == 1
    assert "same_milestone" not in filtered.run("2026-04-01", *twice).summary["reasons"]


def test_an_enrolment_that_comes_within_the_wait_releases(place: Place) -> None:
    stay = discharged("E1", "2026-03-02T10:00:00Z", "Location/zq-heart", "zqHEART")
    first = place.run("2026-03-02T11:00:00Z", permit(WHO), stay, ledger=True).summary
    assert first["reasons"]["not_enrolled"] == 1 and not list(lines(place.output, f"crm/{SUPPORT}"))
    place.run("2026-03-02T20:00:00Z", episode(), ledger=True)
    [one] = [json.loads(line) for line in lines(place.output, f"crm/{SUPPORT}")]
    assert (one["time"][:10], one["data"]["milestone"]) == ("2026-03-02", "discharged")


def test_an_enrolment_that_comes_after_the_wait_releases_nothing_old(place: Place) -> None:
    stay = discharged("E1", "2026-03-02T10:00:00Z", "Location/zq-heart", "zqHEART")
    place.run("2026-03-02T11:00:00Z", permit(WHO), stay, ledger=True)
    place.run("2026-03-03T11:00:00Z", ledger=True)
    assert ("suppressed", "not_enrolled") in place.shown(SUPPORT)
    place.run("2026-03-04", episode(), ledger=True)
    assert not [one for one in payloads(place.output) if one["data"].get("milestone") == "discharged"
                and one["purpose"] == "PATSUPPORT"]  # fmt: skip


def test_an_enrolment_that_is_taken_back_takes_its_record_back(place: Place) -> None:
    stay = discharged("E1", "2026-03-02T10:00:00Z", "Location/zq-heart", "zqHEART")
    place.run("2026-03-03", permit(WHO), episode(), stay, ledger=True)
    wrong = episode("entered-in-error", meta={"versionId": "2", "lastUpdated": "2026-03-04T00:00:00Z"})
    assert place.run("2026-03-05", wrong, ledger=True).summary["retracted"] == 1
    *_, last = [json.loads(line) for line in lines(place.output, f"crm/{SUPPORT}")]
    assert last["retracts"] == 1
    assert ("retracted", "not_enrolled") in place.shown(SUPPORT)
    assert ("retracted", "not_enrolled") not in place.shown(NOTIFY)


WRONG: dict[str, tuple[str, str]] = {
    "an unknown programme": ("filters: {programmes: [gold]}\n", "programmes.yaml does not: gold"),
    "an empty list": ("filters: {services: []}\n", "routes/patient-support.yaml: filters.services"),
    "a list without content": ("filters:\n  locations:\n", "routes/patient-support.yaml: filters.locations"),
    "a list that is a word": ("filters: {services: CAR}\n", "filters.services"),
    "a number": ("filters: {services: [12]}\n", "filters.services"),
    "an empty word": ('filters: {services: [""]}\n', "filters.services"),
    "a word with blanks around": ('filters: {locations: [" CARD"]}\n', "filters.locations"),
    "an unknown key": ("filters: {wards: [A]}\n", "filters.wards"),
    "no list": ("filters: {}\n", "leave them out"),
    "no content": ("filters:\n", "routes/patient-support.yaml: filters"),
}


@pytest.mark.parametrize("filters", WRONG)
def test_filters_of_another_form_do_not_load(
    filters: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written, problem = WRONG[filters]
    feed, policy = ndjson(tmp_path / "in/a.ndjson", [episode()]), bundle(tmp_path, written)
    out = tmp_path / "out"
    said = command(
        capsys, monkeypatch, "run", "--input", feed, "--output", out, "--policy", policy, "--state", out / "s"
    )
    assert said.code == 2 and problem in said.err and not out.exists()


@pytest.mark.parametrize("kind", ["enrolled", "episode-completed"])
def test_programmes_need_a_route_that_hears_of_both_ends(kind: str, tmp_path: Path) -> None:
    policy = bundle(tmp_path)
    for route in (policy / "routes").glob("*.yaml"):
        route.write_text(route.read_text().replace(f", {kind}", "", 1))
    with pytest.raises(ConfigurationError, match="must take the kinds enrolled and episode-completed"):
        policies.load(policy)


@pytest.mark.parametrize("field", ["service", "location"])
@pytest.mark.parametrize(
    "action", ["keep, to: it", "enumerate, to: it, values: {a: a}", "year, to: it", "token, to: it"]
)
@pytest.mark.parametrize("identifies", ["directly", "not"])
def test_no_recipe_lets_a_service_or_a_place_pass(field: str, action: str, identifies: str, tmp_path: Path) -> None:
    """Whatever fields.yaml says of it."""
    policy = bundle(tmp_path)
    route, fields = policy / f"routes/{NOTIFY}.yaml", policy / "fields.yaml"
    row = f"{{field: {field}, action: {action}}}"
    route.write_text(route.read_text().replace("{field: visit, action: drop}", row))
    text = fields.read_text().split(f"- field: {field}\n")
    fields.write_text(
        f"- field: {field}\n".join([text[0], text[1].replace("identifies: directly", f"identifies: {identifies}", 1)])
    )
    with pytest.raises(ConfigurationError, match="reaches only identified|a token stands|must classify each field"):
        policies.load(policy)
    route.write_text(route.read_text().replace(row, f"{{field: {field}, action: drop}}"))
    if identifies == "directly":
        policies.load(policy)
