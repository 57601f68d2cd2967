"""The story: right in every file and line, silent about everybody else, and told only of what is signed and whole."""

import gzip
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hospital_files import Said, command, decide

from pipelines import keys, options, run
from pipelines.inputs import find
from pipelines.simulated.simulate import simulate
from pipelines.simulated.truth import CRM
from pipelines.sources import read, spans
from pipelines.story import Became, Story, _line, story
from pipelines.vault import VaultRef
from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Manifest
from schemas.policy import Policy
from transforms.rules.identity import patient_key
from transforms.rules.records import Names, scope_of


class Place(NamedTuple):
    """A simulated hospital, and the folder of all runs over its deliveries."""

    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def truth(self) -> Path:
        return self.folder / "hospital/truth.json"

    def says(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.truth.read_bytes())
        return facts

    def story(self) -> Story:
        return story(self.out, self.truth, self.state)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Three deliveries on one ledger: discharged in the first, revoked in the last."""
    place = Place(tmp_path_factory.mktemp("story"))
    for feeds, as_of in simulate(150, 7, 1, place.folder / "hospital", 3).batches:
        ledger = place.folder / "ledger.sqlite"
        run.run(options.request([str(feeds)], place.out, place.state, None, as_of, [], ledger))
    return place


@pytest.fixture
def copy(told: Place, tmp_path: Path) -> Place:
    """The same, to be changed."""
    return Place(Path(shutil.copytree(told.folder, tmp_path / "copy")))


@pytest.fixture
def said(told: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """What the command prints."""
    return command(capsys, monkeypatch, "story", told.out, "--truth", told.truth, "--state", told.state)


def line(place: str) -> bytes:
    """The line that file:line names."""
    path, _, number = place.rpartition(":")
    content = Path(path).read_bytes()
    content = gzip.decompress(content) if path.endswith(".gz") else content
    return re.split(rb"\r\n|\r|\n", content)[int(number) - 1]


# --- it is right --------------------------------------------------------------------------------------------------


def test_it_tells_what_befell_the_patient(told: Place) -> None:
    words = {one.told.what: one.told.when for _, entries in told.story().runs for one in entries}
    truth = told.says()["story"]
    said = {"enrolled": "consent given", "discharged": "discharged", "revoked": "consent revoked"}
    assert {name: words[word] for name, word in said.items()} == {name: truth[name] for name in said}


def test_each_message_stands_where_it_says(told: Place) -> None:
    value, runs = told.says()["story"]["value"].encode(), told.story().runs
    for word in ("consent given", "consent revoked", "admitted", "discharged"):
        [places] = [one.places for _, entries in runs for one in entries if one.told.what == word and one.places]
        assert all(value in line(place) for place in places), word
    [revoked] = [place for one in runs[-1][1] if one.told.what == "consent revoked" for place in one.places]
    consent = json.loads(line(revoked))
    assert (consent["resourceType"], consent["status"]) == ("Consent", "inactive")


def test_each_payload_and_each_retraction_stands_where_it_says(told: Place) -> None:
    left = [one for one in told.story().became if one.place]
    for one in left:
        assert json.loads(line(one.place)) == one.payload
        assert f"/crm/{one.route}/" in one.place
    out, back = ([one for one in left if ("retracts" in one.payload) is taken] for taken in (False, True))
    assert {one.verdict for one in out} == {"released"} and {one.verdict for one in back} == {"retracted"}
    records = sorted(one.payload["record"] for one in out)
    assert len(records) == 3 and sorted(one.payload["record"] for one in back) == records


def test_it_is_the_truth(told: Place) -> None:
    """Per route: what came, and what of it is no more."""
    truth = told.says()
    mine = [entry for entry in truth["retracted"] if entry["value"] == truth["story"]["value"]]
    retracted = [(one.route, entry.told.what) for one, entry in of_routes(told.story()) if one.verdict == "retracted"]
    assert sorted(retracted) == sorted((entry["route"], entry["kind"]) for entry in mine)
    assert {route for route, _ in retracted} == {"patient-support", "hcp-notification"}


def of_routes(one: Story) -> list[tuple[Became, Any]]:
    return [(became, entry) for _, entries in one.runs for entry in entries for became in entry.became]


def test_what_was_withheld_is_said_with_its_reason(told: Place, said: Said) -> None:
    [withheld] = [(one, entry) for one, entry in of_routes(told.story()) if one.verdict == "suppressed"]
    assert (withheld[0].route, withheld[0].reason, withheld[1].told.what) == (
        "patient-support",
        "superseded",
        "admitted",
    )
    assert re.search(r"patient-support +suppressed superseded: a newer milestone decides alone", said.out)
    assert re.search(r"revoked: the permit was taken back; after_revocation delete", said.out)
    assert said.out.splitlines()[-1].startswith("3 payloads went to the CRM and 3 were taken back: none of its records")


def test_each_run_tells_its_own_part(told: Place) -> None:
    runs = told.story().runs
    assert [as_of for as_of, _ in runs] == [one["as_of"] for one in told.says()["batches"]]
    for number, (_, entries) in enumerate(runs, 1):
        assert entries
        for place in (place for one in entries for place in one.places):
            assert f"/feeds/{number:02}/" in place
    assert {one.verdict for entry in runs[-1][1] if not entry.places for one in entry.became} == {"retracted"}


def test_without_a_ledger_nothing_of_who_revoked_ever_leaves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    hospital = simulate(60, 7, 1, tmp_path / "hospital")
    decide([hospital.feeds], place.out, place.state, hospital.as_of)
    pairs = [one for one, _ in of_routes(place.story()) if one.route in CRM]
    assert {one.verdict for one in pairs} == {"suppressed"} and "revoked" in {one.reason for one in pairs}
    said = command(capsys, monkeypatch, "story", place.out, "--truth", place.truth, "--state", place.state)
    assert "0 payloads went to the CRM and 0 were taken back: none" in said.out


def test_lines_are_counted_in_every_framing(told: Place) -> None:
    """A message begins in the line that is named, whatever ends the lines of its file."""
    seen: dict[str, int] = {}
    for span in spans(find([str(told.folder / "hospital/feeds")])):
        for block in read(span):
            for message in block.messages[:20]:
                first = re.split(rb"[\r\n]", message.body)[0]
                assert line(f"{span.path}:{_line(span, message.position)}").strip(b"\x0b ") == first
                seen[Path(span.path).name] = seen.get(Path(span.path).name, 0) + 1
    assert {f"adt-{number}.hl7" for number in range(1, 5)} | {"siu.hl7", "fhir-archive.ndjson.gz"} <= seen.keys()


# --- it is silent -------------------------------------------------------------------------------------------------


def test_no_identifier_of_anybody_is_shown(told: Place, said: Said) -> None:
    assert said.code == 0
    assert {value for value in told.says()["identifiers"] if value in said.out} == set()


def test_no_payload_of_another_patient_is_shown(told: Place, policy: Policy) -> None:
    one = told.says()["story"]
    vault = VaultRef(str(told.state)).open()
    key = patient_key(one["system"], one["value"])
    scopes = {scope_of(route.destination.name, route.purpose) for route in policy.routes}
    subjects = {Names(found).subject for scope in scopes if (found := vault.find(scope, key))}
    vault.close()
    assert {one.payload["subject"] for one in told.story().became if one.place} <= subjects


# --- it is told of what is signed and whole -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["crm", "audit", "manifest"])
def test_what_was_published_must_be_as_it_was(copy: Place, kind: str) -> None:
    file = next(path for path in sorted((copy.out / kind).rglob("*.[jp]*")) if path.suffix != ".pem")
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"released": ', b'"released": 1', 1) if kind == "manifest" else content + b"\n")
    with pytest.raises(LawBroken):
        copy.story()


def test_a_feed_must_be_as_it_was_read(copy: Place) -> None:
    feed = copy.folder / "hospital/feeds/01/fhir.ndjson"
    feed.write_bytes(feed.read_bytes() + b"\n")
    with pytest.raises(ConfigurationError, match="--truth: the runs read other files"):
        copy.story()


def resigned(place: Place, left_out: str) -> None:
    """Sign all manifests anew, without files of a kind: what only a fault of ours could do."""
    keyset = keys.load(place.state)
    for path in (place.out / "manifest").glob("*.json"):
        signed = Manifest.verified(path.read_bytes(), keyset.public_key)
        signed.files[:] = [one for one in signed.files if not one.path.startswith(left_out)]
        path.write_bytes(Manifest.sign(signed, keyset))


@pytest.mark.parametrize(
    "left_out, law", [("audit/", "a_message_without_a_record"), ("crm/", "a_record_without_its_payload")]
)
def test_what_is_not_accounted_for_is_no_story(copy: Place, left_out: str, law: str) -> None:
    resigned(copy, left_out)
    with pytest.raises(LawBroken, match=law):
        copy.story()


def break_story(text: str) -> str:
    return text.replace('"story"', '"novel"')


@pytest.mark.parametrize("change", [break_story, lambda _: "[]", lambda _: "no JSON"])
def test_what_is_no_truth_is_refused(copy: Place, change: Callable[[str], str]) -> None:
    copy.truth.write_text(change(copy.truth.read_text()))
    with pytest.raises(ConfigurationError, match="--truth: no truth there"):
        copy.story()


def test_runs_of_another_policy_are_refused(copy: Place) -> None:
    keyset = keys.load(copy.state)
    for path in (copy.out / "manifest").glob("*.json"):
        signed = Manifest.verified(path.read_bytes(), keyset.public_key)
        signed.facts["policy_digest"] = "0" * 64
        path.write_bytes(Manifest.sign(signed, keyset))
    with pytest.raises(ConfigurationError, match="DIR: not decided by the default policy"):
        copy.story()
