"""Consecutive runs over one ledger act as one stream: what is held and taken back, and whose ledger is refused."""

import json
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from builders import PATIENT, a_consent, a_milestone
from deliveries import WHO, Place, discharge, refused, signed, stored
from hospital_files import admission, command, payloads, permit, records, rows, tree

from pipelines import keys, options
from pipelines import ledger as ledgers
from pipelines import policy as policies
from pipelines.ledger import LedgerRef, Run
from pipelines.outputs import STAGED
from pipelines.run import run as do
from pipelines.vault import VaultRef
from schemas.errors import ConfigurationError, LimenError, SourceHeld, StoreError
from schemas.instant import DAY, from_fhir, micros
from schemas.opaque import plain
from schemas.timeline import Row, Timeline, pack, unpack
from transforms.timeline import coarse


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def published(output: Path) -> dict[str, tuple[bytes, int]]:
    """Every file that a reader may look at, but the summary."""
    return {
        name: found for name, found in tree(output).items() if name != "summary.json" and not name.startswith(STAGED)
    }


@pytest.fixture
def cautious(tmp_path: Path) -> Path:
    """The default policy, whose source is held after a consent of nobody."""
    folder = tmp_path / "cautious"
    shutil.copytree(policies.default(), folder)
    text = (folder / "policy.yaml").read_text()
    (folder / "policy.yaml").write_text(text.replace("  # unread_consent: hold ", "  unread_consent: hold "))
    return folder


# --- what one stream does -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "unread",
    [
        pytest.param({"patient": {"display": "Jane Roe"}}, id="of nobody"),
        pytest.param({"resourceType": "consent"}, id="that cannot be read"),
    ],
)
def test_a_held_source_publishes_nothing_until_its_consent_is_sent_again(
    place: Place, cautious: Path, unread: dict[str, object]
) -> None:
    place.run("2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"), policy=cautious)
    before, taken_in = published(place.output), stored(place.ledger)
    later = discharge("e2", "2026-03-04T10:00:00Z")
    nobody = {**refused(2, "2026-03-04T12:00:00Z"), **unread}
    with pytest.raises(SourceHeld, match="^the source is held, nothing was published: .*: 1; find .* feed check"):
        place.run("2026-03-05", later, nobody, policy=cautious)
    assert published(place.output) == before
    assert stored(place.ledger) == taken_in
    assert json.loads((place.output / "summary.json").read_bytes())["unusable"] == ["the source is held"]

    done = place.run("2026-03-05", later, refused(2, "2026-03-04T12:00:00Z"), name="again", policy=cautious)
    assert (done.summary["released"], done.summary["retracted"]) == (0, 2)


def test_by_default_a_consent_of_nobody_holds_nothing(place: Place) -> None:
    nobody = {**refused(2, "2026-03-04T12:00:00Z"), "patient": {"display": "Jane Roe"}}
    done = place.run("2026-03-05", signed(), discharge("e1", "2026-03-04T10:00:00Z"), nobody)
    assert (done.summary["released"], done.summary["reasons"]["consent_of_nobody"]) == (2, 1)


def test_a_revocation_takes_back_what_was_released(place: Place) -> None:
    place.run("2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    [released] = place.lines()
    vault = VaultRef(str(place.state)).open()
    assert vault.resolve("crm|PATSUPPORT", plain(released["record"])) == "urn:id:GENERAL\x1f4711"

    done = place.run("2026-03-05", refused(2, "2026-03-04T00:00:00Z"))
    [_, taken] = place.lines()
    assert (done.summary["retracted"], done.summary["released"]) == (2, 0)
    same = ("source", "record", "subject", "dest", "purpose", "recipe", "correlationid")
    assert (released["type"], taken["type"]) == ("limen.patient-support.v3", "limen.patient-support.retraction.v2")
    assert {name: taken[name] for name in same} == {name: released[name] for name in same}
    assert (taken["recordseq"], taken["retracts"]) == (2, 1) and taken["id"] != released["id"]
    assert taken["data"] == {"after_revocation": "delete"} and not taken["consentref"]  # neutral: no cause is given
    assert taken["time"] == "2026-03-05T00:00:00Z"
    assert vault.resolve("crm|PATSUPPORT", plain(released["record"])) is None  # the token is severed
    [row] = [one for one in records(place.output) if one["payload"] == taken["id"]]
    assert (row["verdict"], row["reason"], row["crm_record"]) == ("retracted", "denied", released["record"])
    assert row["fates"] == "record:retract>delete delivered-before:remains" and row["consents"]

    place.run("2026-03-08", signed("c2", dateTime="2026-03-06"), discharge("e2", "2026-03-07T10:00:00Z"))
    *_, anew = place.lines()
    assert (anew["record"], anew["recordseq"]) == (released["record"], 3) and "retracts" not in anew
    assert vault.resolve("crm|PATSUPPORT", plain(released["record"]))  # and resolves again


def test_when_somebody_is_woken_tells_no_second_and_no_birthday(place: Place) -> None:
    place.run("2026-03-03T00:00:00Z", discharge("e1", "2026-03-02T10:15:37Z"))
    with sqlite3.connect(place.ledger) as ledger:
        [(told,)] = ledger.execute("SELECT due FROM timelines")
    ends, majority = from_fhir("2026-03-03T10:00:00Z"), from_fhir("2033-09-13")
    assert ends and majority and told == ends.time  # of the wait, which ends at 10:15:37
    horizon = ends.time
    while (woken := coarse(majority.time, horizon)) > horizon + 32 * DAY:
        assert woken % (32 * DAY) == 0
        horizon = woken
    assert coarse(majority.time, majority.time - DAY) == majority.time  # in time, to the hour


def test_one_run_may_release_and_take_back_on_one_route(place: Place) -> None:
    """The file of a route holds both, sorted by id."""
    place.run("2026-03-02", signed(), admission("4711", "V1", "20260302100000"))
    gone, new = admission("4711", "V1", "20260302110000", kind="ADT^A11"), discharge("e1", "2026-03-03T10:00:00Z")
    done = place.run("2026-03-04", gone, new)
    # patient-support's record was updated, not taken back
    assert (done.summary["released"], done.summary["retracted"]) == (2, 1)
    [file] = place.output.glob("crm/hcp-notification/20260304*")
    found = file.read_bytes().splitlines()
    assert found == sorted(found) and [b"retracts" in line for line in found].count(True) == 1 and len(found) == 2


def test_nothing_is_taken_back_that_was_not_released(place: Place) -> None:
    place.run("2026-03-03", discharge("e1", "2026-03-02T10:00:00Z"))
    done = place.run("2026-03-05", refused(2, "2026-03-04T00:00:00Z"))
    assert done.summary["retracted"] == 0 and not place.lines()


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        pytest.param(admission("4711", "V1", "20260303090000", kind="ADT^A11"), "cancelled", id="cancelled"),
        pytest.param(admission("4711", "V1", "20260303090000", kind="ADT^A24"), "identity_changed", id="linked"),
        pytest.param(signed(version=2, status="entered-in-error"), "revoked", id="consent in error"),
        pytest.param(signed(version=2, status="inactive", dateTime="2026-03-03"), "revoked", id="consent ended"),
    ],
)
def test_what_takes_its_ground_away_takes_it_back(place: Place, message: Any, reason: str) -> None:
    place.run("2026-03-02", signed(), admission("4711", "V1", "20260302100000"))
    assert len(payloads(place.output)) == 2
    done = place.run("2026-03-05", message)
    assert done.summary["retracted"] == 2
    assert {one["reason"] for one in records(place.output) if one["verdict"] == "retracted"} == {reason}


def test_an_expiry_takes_back_without_an_arrival(place: Place) -> None:
    ends = signed(provision={**permit(WHO)["provision"], "period": {"end": "2026-03-10"}})
    place.run("2026-03-03", ends, discharge("e1", "2026-03-02T10:00:00Z"))
    assert place.run("2026-03-10T12:00:00Z").summary["retracted"] == 0
    done = place.run("2026-03-11")
    assert (done.summary["received"], done.summary["retracted"]) == (0, 2)
    assert done.summary["reasons"] == {"expired": 2}


def test_what_waits_for_consent_is_held_and_released_with_it(place: Place) -> None:
    first = place.run("2026-03-02T11:00:00Z", discharge("e1", "2026-03-02T10:00:00Z")).summary
    assert (first["pairs"], first["held"], first["released"]) == (4, 4, 0)
    assert {one["reason"] for one in records(place.output)} == {"no_consent", "window_open"}
    second = place.run("2026-03-02T20:00:00Z", signed(dateTime="2026-03-02T19:00:00Z")).summary
    assert (second["held_before"], second["released"], second["held"]) == (4, 2, 2)
    assert len(payloads(place.output)) == 2


def test_the_wait_ends_without_an_arrival(place: Place) -> None:
    place.run("2026-03-02T11:00:00Z", discharge("e1", "2026-03-02T10:00:00Z"))
    late = place.run("2026-03-03T11:00:00Z").summary
    assert (late["held_before"], late["suppressed"], late["held"]) == (4, 2, 2)
    assert place.run("2026-03-04", signed(dateTime="2026-03-04")).summary["released"] == 2  # the aggregates' day closed
    assert not payloads(place.output)


def test_what_is_dated_ahead_is_held(place: Place) -> None:
    first = place.run("2026-03-02", signed(), discharge("e1", "2026-03-05T10:00:00Z")).summary
    assert (first["what_if"], first["held"], first["reasons"]["after_horizon"]) == (False, 4, 4)
    assert place.run("2026-03-06").summary["released"] == 2


def test_a_second_delivery_is_repeated(place: Place) -> None:
    messages = (signed(), discharge("e1", "2026-03-02T10:00:00Z"), admission("4711", "V1", "20260302100000"))
    place.run("2026-03-03", *messages)
    before = payloads(place.output)
    for day in ("2026-03-04", "2026-03-05"):
        assert place.run(day, *messages, name="again" + day).summary["repeated"] == 3
    assert payloads(place.output) == before
    assert max(rows(place.output).values()) == 1
    names = [one["record"] for one in records(place.output)]
    assert len(set(names)) == len(names)  # each repeat has an audit record of its own name


def test_the_same_run_again_changes_nothing(place: Place) -> None:
    place.run("2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    place.run("2026-03-05", refused(2, "2026-03-04T00:00:00Z"))
    before, kept = tree(place.output), stored(place.ledger)
    for day in ("2026-03-03", "2026-03-05"):
        feeds = place.folder / "feeds" / day
        assert do(place.request(feeds, day)).repeated
    changed = {name for name, content in tree(place.output).items() if before.get(name) != content}
    assert changed == {"summary.json"} and set(tree(place.output)) == set(before)
    assert stored(place.ledger) == kept


def test_a_day_of_aggregates_is_counted_once(place: Place) -> None:
    def admitted(*patients: int) -> Iterable[bytes]:
        return (admission(f"9{n:03}", f"V{n}", "20260302100000") for n in patients)

    assert place.run("2026-03-02", *admitted(*range(8))).summary["cells"] == 0
    assert place.run("2026-03-03T23:00:00Z", *admitted(*range(6, 12))).summary["cells"] == 0  # still open for late ones
    assert not list(place.output.glob("aggregates/*"))
    done = place.run("2026-03-04").summary
    assert (done["cells"], done["held"]) == (2, 0)
    for file in place.output.glob("aggregates/*"):
        assert pq.read_table(file).column("patients").to_pylist() == [12]
    late = place.run("2026-03-05", *admitted(50)).summary
    assert late["reasons"]["window_closed"] == 2 and late["cells"] == late["cells_withheld"] == 0


def test_a_denial_stops_an_aggregate_until_its_day_closes(place: Place) -> None:
    place.run("2026-03-02", discharge("e1", "2026-03-02T10:00:00Z"))
    place.run("2026-03-03T20:00:00Z", refused(1, "2026-03-03T00:00:00Z"))
    assert place.run("2026-03-05").summary["released"] == 0


# --- whose ledger, and how far ------------------------------------------------------------------------------------


def test_no_patient_stands_in_the_ledger(place: Place) -> None:
    place.run("2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    content = b"".join(path.read_bytes() for path in place.folder.glob("ledger.sqlite*"))
    assert content and not any(word in content for word in (b"GENERAL", b"discharged"))
    assert not re.search(rb"(?<![0-9a-f])4711(?![0-9a-f])", content)  # a digest may hold it by chance


def refusal(place: Place, *arguments: Any, **named: Any) -> str:
    """The one line of a refusal, with nothing written."""

    def left() -> tuple[dict[str, Any], Any]:
        files = {name: content for name, content in tree(place.folder).items() if "feeds" not in name}
        kept = {name: content for name, content in files.items() if "ledger.sqlite" not in name}
        return kept, stored(place.ledger) if len(files.get("ledger.sqlite", (b"", 0))[0]) > 100 else None

    before = left()
    with pytest.raises(ConfigurationError) as refused:
        place.run(*arguments, **named)
    assert left() == before
    return str(refused.value)


@pytest.fixture
def begun(place: Place) -> Place:
    place.run("2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    return place


def test_a_ledger_of_another_keyset_is_refused(begun: Place, tmp_path: Path) -> None:
    keys.create(tmp_path / "other")
    assert "ledger_of_another_keyset" in refusal(begun, "2026-03-04", state=tmp_path / "other", output=tmp_path / "o")


def test_what_is_no_ledger_is_refused(place: Place) -> None:
    place.ledger.write_bytes(b"no database, but somebody's notes")
    keys.create(place.state)
    assert "ledger_unavailable" in refusal(place, "2026-03-04")
    place.ledger.unlink()
    place.ledger.mkdir()
    assert "is a folder" in refusal(place, "2026-03-04")


def test_a_ledger_of_another_form_is_refused(begun: Place) -> None:
    _change(begun.ledger, "UPDATE standing SET version = version + 1")
    assert "ledger_of_unknown_version" in refusal(begun, "2026-03-04")


def test_a_policy_that_lost_a_route_is_refused(begun: Place, tmp_path: Path) -> None:
    shutil.copytree(policies.default(), tmp_path / "policy")
    (tmp_path / "policy/routes/hcp-notification.yaml").unlink()
    said = refusal(begun, "2026-03-04", policy=tmp_path / "policy")
    assert said.startswith("--policy: route hcp-notification of the ledger") and "enabled: false" in said


def test_another_policy_looks_at_everything_that_is_shown(begun: Place, tmp_path: Path) -> None:
    begun.run("2026-03-06")  # now nothing is due any more
    shutil.copytree(policies.default(), tmp_path / "policy")
    path = tmp_path / "policy/routes/hcp-notification.yaml"
    path.write_text(path.read_text().replace("enabled: true", "enabled: false"))
    done = begun.run("2026-03-07", policy=tmp_path / "policy").summary
    assert (done["retracted"], done["reasons"]) == (1, {"route_off": 1})


def test_a_run_belongs_to_its_ledger_and_its_folder(begun: Place, tmp_path: Path) -> None:
    same = ("2026-03-03", signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    assert "into another folder" in refusal(begun, *same, output=tmp_path / "another")
    assert "decided without the ledger" in refusal(begun, *same, ledger=tmp_path / "another.sqlite")
    assert begun.run(*same, ledger=None).repeated  # its manifest says all that there is to verify


def test_a_row_that_names_nobody_any_more_is_passed_over(place: Place, tmp_path: Path) -> None:
    """What is older than the time to live and shown nowhere is let go; another policy looks at every row."""
    place.run("2026-03-03", discharge("e1", "2024-01-02T10:00:00Z"))
    shutil.copytree(policies.default(), tmp_path / "policy")
    path = tmp_path / "policy/routes/hcp-notification.yaml"
    path.write_text(path.read_text().replace("wait_days: 1", "wait_days: 2"))
    assert place.run("2026-03-04", policy=tmp_path / "policy").summary["pairs"] == 0


def test_a_rejected_message_that_comes_again_leaves_the_sealed_one(place: Place) -> None:
    nobody = {key: value for key, value in discharge("e1", "2026-03-02T10:00:00Z").items() if key != "subject"}
    place.run("2026-03-03", nobody)
    before = {name: content for name, content in tree(place.output).items() if "quarantine" in name}
    assert place.run("2026-03-04", nobody, signed(), name="again").summary["rejected"] == 1
    names = [one["record"] for one in records(place.output)]
    assert len(set(names)) == len(names)  # two rejects, two records
    assert {name: content for name, content in tree(place.output).items() if "quarantine" in name} == before
    assert place.run("2026-03-03", nobody).repeated and place.run("2026-03-04", nobody, signed(), name="again").repeated


def test_only_a_run_that_binds_revives_a_token(begun: Place, tmp_path: Path) -> None:
    """Neither a what-if nor a run without a ledger on the same state undoes what a revocation severed."""
    [record] = {one["record"] for one in begun.lines()}
    begun.run("2026-03-05", refused(2, "2026-03-04T00:00:00Z"))
    vault = VaultRef(str(begun.state)).open()
    assert vault.resolve("crm|PATSUPPORT", plain(record)) is None
    first = (signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    begun.run("2026-03-03", *first, output=tmp_path / "alone", ledger=None)
    begun.run("2026-03-04", *first, discharge("e8", "2026-03-03T11:00:00Z"), output=tmp_path / "back", name="back")
    assert payloads(tmp_path / "alone")
    assert vault.resolve("crm|PATSUPPORT", plain(record)) is None


def test_a_merged_patient_that_is_sent_again_takes_nothing_back(place: Place) -> None:
    """Every later version of a Patient carries its links: an address that changed is no second merge."""
    link = {"other": {"reference": "Patient/old"}, "type": "replaces"}
    merged = {"resourceType": "Patient", "id": "p", "identifier": [WHO["identifier"]], "link": [link]}
    first = {**merged, "meta": {"versionId": "2", "lastUpdated": "2026-02-01T00:00:00Z"}}
    place.run("2026-03-03", first, signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    again = {**merged, "meta": {"versionId": "3", "lastUpdated": "2026-03-04T00:00:00Z"}}
    done = place.run("2026-03-05", again).summary
    assert (done["retracted"], done["review"], done["repeated"]) == (0, 0, 1)
    assert len(place.lines()) == 1
    another = {**again, "link": [link, {"other": {"reference": "Patient/older"}, "type": "replaces"}]}
    assert place.run("2026-03-06", another).summary["retracted"] == 2


def test_a_mark_of_sensitivity_is_never_forgotten(place: Place) -> None:
    """The mark of a stay outlives the key of the message that said it."""
    marked = admission("4711", "V1", "20250103100000").replace(b"PV1|1|I|", b"PV1|1|I|PSYCH^1^1")
    place.run("2025-01-04", permit(WHO), marked)
    place.run("2026-11-21", admission("4711", "V9", "20261121080000", kind="ADT^A04"))
    late = place.run("2026-11-25", admission("4711", "V1", "20261123080000", kind="ADT^A03")).summary
    assert late["reasons"].get("sensitive") == 4, late["reasons"]


def test_a_mark_takes_back_until_a_permit_names_its_class(place: Place) -> None:
    """42 CFR Part 2: the same Encounter comes again, labelled; then its patient signs a consent for that, in time."""
    label = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "ETH"}]
    encounter = discharge("e1", "2026-03-02T10:00:00Z")
    place.run("2026-03-02T20:00:00Z", signed(), encounter)
    marked = place.run("2026-03-03T02:00:00Z", {**encounter, "meta": {"security": label}}).summary
    assert (marked["retracted"], marked["repeated"], marked["released"]) == (2, 1, 0)
    [_, taken] = place.lines()
    assert taken["retracts"] == 1 and taken["data"] == {"after_revocation": "delete"}

    place.run("2026-03-03T04:00:00Z", discharge("e2", "2026-03-02T09:00:00Z"))  # of the same patient, not marked
    assert [one["recordseq"] for one in place.lines()] == [1, 2]  # the marked one is the newest, and decides alone
    provision = signed()["provision"] | {"securityLabel": label}
    place.run("2026-03-03T09:00:00Z", signed("c2", dateTime="2026-03-03T08:00:00Z", provision=provision))
    *_, anew = place.lines()
    assert anew["recordseq"] == 3 and anew["id"] != taken["id"] and "retracts" not in anew
    stopped = Counter(row["verdict"] for row in records(place.output) if row["reason"] == "sensitive")
    assert stopped == {"retracted": 2, "suppressed": 2}  # and is counted in no aggregate


def test_what_was_held_is_counted_though_the_lateness_shrinks(place: Place, tmp_path: Path) -> None:
    shutil.copytree(policies.default(), tmp_path / "policy")
    path = tmp_path / "policy/policy.yaml"
    path.write_text(re.sub(r"lateness_days: 1", "lateness_days: 5", path.read_text()))
    several = [admission(f"9{n:03}", f"V{n}", "20260302100000") for n in range(12)]
    assert place.run("2026-03-05", *several, policy=tmp_path / "policy").summary["held"] == 24
    assert place.run("2026-03-06").summary["cells"] == 2


def test_a_policy_that_lost_an_aggregate_route_is_refused(begun: Place, tmp_path: Path) -> None:
    shutil.copytree(policies.default(), tmp_path / "policy")
    (tmp_path / "policy/routes/operations.yaml").unlink()
    assert "route operations of the ledger" in refusal(begun, "2026-03-04", policy=tmp_path / "policy")


def test_the_vault_is_no_ledger(begun: Place) -> None:
    assert "is the vault" in refusal(begun, "2026-03-04", ledger=begun.state / "vault.sqlite")


def test_a_ledger_does_not_go_back_by_itself(begun: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_horizon", lambda *_: micros(datetime(2026, 3, 2, tzinfo=UTC)))
    assert refusal(begun, None).startswith("--as-of: the ledger stands at 2026-03-03")


def test_looking_back_is_a_what_if(begun: Place, tmp_path: Path) -> None:
    kept, vault = stored(begun.ledger), VaultRef(str(begun.state)).open()
    [record] = {one["record"] for one in begun.lines()}
    done = begun.run("2026-03-02", refused(2, "2026-03-01T12:00:00Z"), output=tmp_path / "back")
    assert done.summary["what_if"] is True and done.summary["retracted"] == 2
    assert {one["whatif"] for one in payloads(tmp_path / "back")} == {True}
    assert stored(begun.ledger) == kept and vault.resolve("crm|PATSUPPORT", plain(record))
    assert refusal(begun, "2026-03-02", name="into the same folder").startswith(
        "--output: an --as-of before the ledger's last run is a what-if"
    )


def test_a_vault_that_is_gone_stops_the_run(begun: Place) -> None:
    """A new one would give every patient new records, and no denial would reach what is shown under the old ones."""
    for path in begun.state.glob("vault.sqlite*"):
        path.unlink()
    kept = stored(begun.ledger)
    assert refusal(begun, "2026-03-04").startswith("--state: the vault of the ledger's runs is gone; restore it")
    assert stored(begun.ledger) == kept and not (begun.state / "vault.sqlite").exists()


def test_nothing_is_written_beside_what_is_no_ledger(place: Place) -> None:
    place.ledger.write_text("a note of mine")
    assert "is no ledger" in refusal(place, "2026-03-04")
    assert [path.name for path in place.folder.iterdir() if path.name.startswith("ledger")] == ["ledger.sqlite"]


def test_an_unknown_timeline_or_a_broken_row_stops_the_run(begun: Place) -> None:
    before = stored(begun.ledger)
    _change(begun.ledger, "UPDATE timelines SET timeline = zeroblob(length(timeline))")
    with pytest.raises(StoreError, match="ledger_row_corrupt"):
        begun.run("2026-03-04", refused(2, "2026-03-04"))
    ledger = LedgerRef(str(begun.ledger), str(begun.state)).open()
    for name, due, _ in before["timelines"]:
        ledger.commit(Run("spoil", 0, "", 0, {}), [[Row(name, due, ledger.sealed(name, b"\x01rest"))]], 1, b"")
    _change(begun.ledger, "DELETE FROM runs WHERE run = 'spoil'")
    with pytest.raises(StoreError, match="timeline_of_unknown_version"):
        begun.run("2026-03-04", refused(2, "2026-03-04"))
    assert len(stored(begun.ledger)["runs"]) == 1


def test_two_runs_at_once_are_one(begun: Place) -> None:
    """A second process is refused while a run holds the ledger; one that came in between stops the commit."""
    with ledgers.consulted(begun.ledger, begun.state):
        assert "another run" in refusal(begun, "2026-03-04")
    ledger = LedgerRef(str(begun.ledger), str(begun.state)).open()
    with pytest.raises(StoreError, match="ledger_moved_on"):
        ledger.commit(Run("late", 0, "", 0, {}), [], 0, b"")


def test_the_command_takes_a_ledger(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = place.deliver("a", signed(), discharge("e1", "2026-03-02T10:00:00Z"))
    inside = place.output / "ledger.sqlite"  # the most natural place to type
    for day, code in (("2026-03-03", 0), ("2026-03-04", 0), ("2026-03-04", 0)):
        said = command(capsys, monkeypatch, "run", "--input", feeds, "--output", place.output, "--state", place.state,
                       "--ledger", inside, "--as-of", day)  # fmt: skip
        assert (said.code, said.err) == (code, "")
    assert "held" in said.out


# --- the store ------------------------------------------------------------------------------------------------------


def test_a_shard_reads_its_own_rows_and_those_that_are_due(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledgers.create(path)
    ledger = LedgerRef(str(path), str(state)).open()
    names = {n: ledger.name(f"patient {n}") for n in range(200)}
    kept = [Row(name, n, ledger.sealed(name, b"%d" % n)) for n, name in names.items()]
    ledger.commit(Run("one", 0, "", 0, {}), [kept[:150], kept[150:]], 0, b"manifest")
    assert ledger.due(49) == 50
    found = [ledger.timelines([], shard, 7, 49) for shard in range(7)]
    assert sum(len(one) for one in found) == 50 and len({k for one in found for k in one}) == 50
    assert ledger.timelines([names[150], names[199], b"x" * 16], 0, 7, -1) == {names[150]: b"150", names[199]: b"199"}
    swapped = ledger.sealed(names[1], b"1")
    ledger.commit(Run("two", 0, "", 0, {}), [[Row(names[2], 2, swapped)]], 1, b"manifest")  # another patient's row
    with pytest.raises(LimenError, match="ledger_row_corrupt"):
        ledger.timelines([names[2]], 0, 1, -1)


def test_a_timeline_reads_back() -> None:
    timeline = Timeline((a_milestone(),), (a_consent(),), written=((("r", "", ""), 3),), repeats=((b"k", 2),))
    assert unpack(pack(timeline)) == timeline and PATIENT.encode() in pack(timeline)
    with pytest.raises(StoreError, match="timeline_unreadable"):
        unpack(b"\x03\xc1")


def _change(path: Path, statement: str) -> None:
    with sqlite3.connect(path) as database:
        database.execute(statement)
