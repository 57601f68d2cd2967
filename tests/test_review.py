"""Review from end to end, through the command: what waits, who looked, who decided, and what a verdict comes to."""

import base64
import json
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hospital_files import (
    TERMINOLOGY,
    Said,
    admission,
    by_identifier,
    command,
    lines,
    ndjson,
    payloads,
    permit,
    records,
    tree,
)

from pipelines import keys, review
from pipelines import policy as policies
from schemas.errors import MessageError
from schemas.outcome import ALLOWABLE, Reason
from schemas.policy import ReviewTerms
from schemas.verdict import Because, Notary
from transforms.rules.signed_verdicts import SignedVerdicts

ROOT = Path(__file__).parent.parent
WHO = by_identifier("urn:id:GENERAL", "4711")
MERGE = admission("4711", "V1", "20260303090000", kind="ADT^A24")
ADMISSION = admission("4711", "V1", "20260302100000")
SIGNED = permit(WHO, dateTime="2026-03-01T00:00:00Z")
REFUSED = {**SIGNED, "meta": {"versionId": "2"}, "dateTime": "2026-03-04T12:00:00Z", "provision": {"type": "deny"}}
CHILD = {
    "resourceType": "Patient",
    "id": "p1",
    "birthDate": "2015-05-05",
    "identifier": [{**WHO["identifier"], "type": {"coding": [{"system": f"{TERMINOLOGY}/v2-0203", "code": "MR"}]}}],
}


class Desk:
    """A reviewers' desk beside one ledger: everything goes through the command."""

    def __init__(self, folder: Path, limen: Callable[..., Said]) -> None:
        self.folder, self.limen = folder, limen
        self.out, self.state, self.ledger = folder / "out", folder / "state", folder / "ledger.sqlite"
        self.key, self.verdicts = self.state / "review/private.key", folder / "verdicts.jsonl"

    def run(self, day: str, *messages: dict[str, Any] | bytes | Path, **options: Path) -> dict[str, Any]:
        feeds = self.folder / f"feeds-{day[:13]}-{options.get('output', self.out).name}"
        feeds.mkdir()
        for place, one in enumerate(messages):
            if isinstance(one, bytes):
                (feeds / f"{place}.hl7").write_bytes(one)
            elif isinstance(one, Path):
                (feeds / f"{place}.ndjson").write_bytes(one.read_bytes())
            else:
                ndjson(feeds / f"{place}.ndjson", [one])
        chosen: dict[str, Path] = {"output": self.out, "ledger": self.ledger, "state": self.state, **options}
        flags = [part for name, path in chosen.items() if path != Path() for part in (f"--{name}", path)]
        said = self.limen("run", "--input", feeds, "--as-of", day, *flags, "--json")
        assert said.code == 0, said
        summary: dict[str, Any] = json.loads(said.out)
        return summary

    def items(self, as_of: str = "2026-03-05", folder: Path | None = None) -> dict[str, dict[str, Any]]:
        said = self.limen("review", "list", folder or self.out, "--as-of", as_of, "--json")
        assert said.code == 0, said
        return {one["route"]: one for one in json.loads(said.out)["items"]}

    def decide(self, name: str, *how: str, **options: str | Path) -> Said:
        given: dict[str, str | Path] = {
            "by": "mueller", "role": "privacy-officer", "because": "identity_verified", "private-key": self.key,
            "output": self.verdicts, "as-of": "2026-03-05T12:00:00Z", "state": self.state, "dir": self.out, **options,
        }  # fmt: skip
        folder = given.pop("dir")
        flags = [part for option, value in given.items() for part in (f"--{option}", value)]
        return self.limen("review", "decide", folder, name, *(how or ("--allow",)), *flags)

    def reasons(self, verdict: str) -> dict[str, str]:
        """Of the newest records of that verdict: route → reason."""
        return {one["route"]: one["reason"] for one in records(self.out) if one["verdict"] == verdict}


@pytest.fixture
def limen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    return lambda *arguments: command(capsys, monkeypatch, *arguments)


@pytest.fixture
def desk(tmp_path: Path, limen: Callable[..., Said]) -> Desk:
    return Desk(tmp_path, limen)


@pytest.fixture
def merged(desk: Desk) -> Desk:
    """A released admission whose patient is linked to another later: taken back, and a person is asked."""
    desk.run("2026-03-02T12:00:00Z", ADMISSION, SIGNED)
    assert len(payloads(desk.out)) == 2
    done = desk.run("2026-03-04", MERGE)
    assert (done["retracted"], done["asked_again"], done["review"]) == (2, 2, 2)  # two were held: their day was open
    return desk


# --- what a verdict does --------------------------------------------------------------------------------------------


def test_a_merge_is_reviewed_allowed_and_written_again(merged: Desk) -> None:
    asked = merged.items()
    assert {one["reason"] for one in asked.values()} == {"identity_changed"}
    assert merged.decide(asked["patient-support"]["id"]).code == 0
    done = merged.run("2026-03-06", merged.verdicts)
    assert (done["consent"], done["restored"], done["review_closed"], done["released"]) == (1, 1, 1, 0)
    *_, newest = [one for one in payloads(merged.out) if one["type"] == "limen.patient-support.v3"]
    assert sorted(one["recordseq"] for one in payloads(merged.out) if one["record"] == newest["record"]) == [1, 2, 3]
    assert "patient-support" not in (left := merged.items("2026-03-07")) and len(left) == 3  # the other routes wait
    again = merged.run("2026-03-07", merged.verdicts)
    assert (again["repeated"], again["restored"]) == (1, 0)


def test_without_a_consent_an_allow_releases_nothing(desk: Desk) -> None:
    desk.run("2026-03-03T12:00:00Z", ADMISSION, CHILD)
    asked = desk.items("2026-03-04")
    assert {one["reason"] for one in asked.values()} == {"minor"}
    for one in asked.values():
        assert desk.decide(one["id"], because="guardian_consented").code == 0
    done = desk.run("2026-03-06", desk.verdicts)
    assert (done["review_closed"], done["restored"]) == (2, 0)
    assert desk.reasons("review_closed") == dict.fromkeys(asked, "no_consent") and not payloads(desk.out)
    assert not desk.items("2026-03-07")


def test_a_minor_is_released_with_consent_and_guardian(desk: Desk) -> None:
    first = desk.run("2026-03-02T12:00:00Z", ADMISSION, SIGNED, CHILD)
    assert first["review"] == 2 and not payloads(desk.out)
    [item, _] = desk.items().values()
    assert item["deadline"] == "2026-04-01T12:00:00Z"  # 30 days, by its reason
    desk.decide(item["id"], because="guardian_consented")
    assert desk.run("2026-03-06", desk.verdicts)["restored"] == 1 and len(payloads(desk.out)) == 1


def test_a_refusal_ends_it(merged: Desk) -> None:
    name = merged.items()["patient-support"]["id"]
    assert merged.decide(name, "--deny", because="identity_in_doubt", role="health-information").code == 0
    done = merged.run("2026-03-06", merged.verdicts)
    assert (done["review_closed"], done["restored"]) == (1, 0)
    assert merged.reasons("review_closed") == {"patient-support": "reviewed"}
    assert name not in {one["id"] for one in merged.items("2026-03-07").values()}


def test_nobody_answers(merged: Desk) -> None:
    assert merged.run("2026-03-17T23:59:00Z")["review_closed"] == 0
    done = merged.run("2026-03-18T23:59:59Z")
    assert done["review_closed"] == 4 and set(merged.reasons("review_closed").values()) == {"review_expired"}
    assert merged.items("2026-03-04") == {}


def test_each_of_two_copies_that_conflict_is_asked_about_for_itself(desk: Desk) -> None:
    """Two visits under one key: each item shows its own, and is answered for itself."""
    copies = [admission("4711", f"V{n}", "20260302100000", control="same") for n in (1, 2)]
    desk.run("2026-03-02T12:00:00Z", *copies, SIGNED)
    found = json.loads(desk.limen("review", "list", desk.out, "--as-of", "2026-03-05", "--json").out)["items"]
    names = [one["id"] for one in found if one["route"] == "hcp-notification"]
    shown = [show(desk, name, desk.key).out for name in names]
    visits = {visit: name for name, text in zip(names, shown, strict=True) for visit in ("V1", "V2") if visit in text}
    assert len(names) == len(visits) == 2
    assert desk.decide(visits["V1"], "--deny", because="wrong_at_source", role="health-information").code == 0
    assert desk.decide(visits["V2"], because="confirmed_at_source", role="health-information").code == 0
    done = desk.run("2026-03-06", desk.verdicts)
    assert (done["consent"], done["restored"], done["review_closed"]) == (2, 1, 2)
    (left,) = payloads(desk.out)
    closed = [one for one in records(desk.out) if one["verdict"] == "review_closed"]
    assert {one["reason"] for one in closed} == {"permitted", "reviewed"} and left["recordseq"] == 1


def test_an_overdue_item_is_not_answered(merged: Desk) -> None:
    name = merged.items()["patient-support"]["id"]
    said = merged.decide(name, **{"as-of": "2026-04-01"})
    assert said.code == 2 and "its deadline is over" in said.err
    assert merged.items("2026-04-01") == {} and not merged.verdicts.exists()


def test_a_denial_is_not_overruled(merged: Desk) -> None:
    merged.decide(merged.items()["patient-support"]["id"])
    done = merged.run("2026-03-06", merged.verdicts, REFUSED)
    assert done["restored"] == 0 and merged.reasons("review_closed")["patient-support"] == "denied"
    assert not merged.items("2026-03-07")  # nor is anybody asked about it any more


def test_another_merge_is_another_question(merged: Desk) -> None:
    first = merged.items()["patient-support"]["id"]
    merged.decide(first)
    assert merged.run("2026-03-06", merged.verdicts)["restored"] == 1
    done = merged.run("2026-03-08", admission("4711", "V1", "20260307090000", kind="ADT^A24"))
    assert (done["retracted"], done["asked_again"], done["review_closed"]) == (1, 4, 3)
    second = merged.items("2026-03-09")["patient-support"]["id"]
    assert second != first
    names = [one["record"] for one in records(merged.out)]
    assert len(set(names)) == len(names)


def test_without_a_ledger_a_verdict_counts_beside_its_event(desk: Desk) -> None:
    none = {"ledger": Path()}
    desk.run("2026-03-05", ADMISSION, SIGNED, CHILD, **none)
    name = desk.items()["patient-support"]["id"]
    desk.decide(name, because="guardian_consented")
    other = desk.folder / "decided"
    done = desk.run("2026-03-06", ADMISSION, SIGNED, CHILD, desk.verdicts, output=other, **none)
    assert (done["routes"]["patient-support"]["released"], done["review"], done["consent"]) == (1, 1, 2)
    assert [one["type"] for one in payloads(other)] == ["limen.patient-support.v3"]


def test_a_verdict_on_another_run_s_item_is_recorded_and_does_nothing(desk: Desk) -> None:
    desk.run("2026-03-05", ADMISSION, SIGNED, CHILD, ledger=Path())
    desk.decide(desk.items()["patient-support"]["id"], because="guardian_consented")
    other = desk.folder / "other"
    done = desk.run("2026-03-06", admission("4711", "V9", "20260302110000"), SIGNED, CHILD, desk.verdicts, output=other)
    assert (done["consent"], done["released"], done["review"]) == (2, 2, 2) and not payloads(other)


# --- who may --------------------------------------------------------------------------------------------------------


def verdict(desk: Desk) -> dict[str, Any]:
    assert desk.decide(desk.items()["patient-support"]["id"]).code == 0
    event: dict[str, Any] = json.loads(desk.verdicts.read_bytes())
    return event


def changed(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda event: event["data"]["signed"].update({name: value})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (changed("verdict", "deny"), "invalid_signature"),
        (changed("route", "hcp-notification"), "invalid_signature"),
        (changed("role", "health-information"), "invalid_signature"),
        (changed("because", "no such code"), "invalid_envelope"),
        (changed("more", "than there is"), "invalid_envelope"),
        (lambda event: event["data"].update(signatures=[]), "invalid_signature"),
        (lambda event: event["data"]["signatures"][0].update(sig="00" * 64), "invalid_signature"),
        (lambda event: event.update(data={"resourceType": "Encounter"}), "invalid_envelope"),
        (lambda event: event.update(type="limen.review.verdict.v2"), "unknown_kind"),
    ],
    ids=["verdict", "route", "role", "code", "more", "unsigned", "forged", "no verdict", "version"],
)
def test_what_is_not_signed_as_it_stands_is_rejected(
    merged: Desk, spoil: Callable[[dict[str, Any]], object], reason: str
) -> None:
    event = verdict(merged)
    spoil(event)
    done = merged.run("2026-03-06", event)
    assert (done["rejected"], done["restored"], done["reasons"]) == (1, 0, {reason: 1})


def test_a_verdict_of_other_keys_is_rejected(merged: Desk, tmp_path: Path) -> None:
    event = verdict(merged)
    with pytest.raises(MessageError, match="invalid_signature"):
        SignedVerdicts(keys.create(tmp_path / "other"), policies.load(policies.default()).review).read(event["data"])


def test_a_manifest_s_signature_is_none(merged: Desk) -> None:
    """The same key signs both: what it says of one must not pass for the other."""
    event, keyset = verdict(merged), keys.load(merged.state)
    bare = json.dumps(event["data"]["signed"], sort_keys=True, separators=(",", ":")).encode()
    event["data"]["signatures"][0]["sig"] = keyset.sign(bare).hex()
    with pytest.raises(MessageError, match="invalid_signature"):
        Notary(keyset).verified(event["data"])


@pytest.mark.parametrize(
    ("roles", "answer", "taken"),
    [
        ({"privacy-officer": ["minor"]}, "--allow", False),
        ({"somebody": ["identity_changed"]}, "--allow", False),
        ({"somebody": ["identity_changed"]}, "--deny", False),
        ({"privacy-officer": []}, "--deny", True),
    ],
)
def test_the_policy_of_the_run_says_who_may(merged: Desk, roles: dict[str, Any], answer: str, taken: bool) -> None:
    """A verdict may have been signed under another policy, or by somebody who went round the command."""
    merged.decide(merged.items()["patient-support"]["id"], answer)
    data = json.loads(merged.verdicts.read_bytes())["data"]
    read = SignedVerdicts(keys.load(merged.state), ReviewTerms(deadline_days=1, roles=roles)).read  # type: ignore[arg-type]
    if taken:
        assert len(read(data)) == 1
    else:
        with pytest.raises(MessageError, match="role_not_allowed"):
            read(data)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"role": "janitor"}, "--role: the policy knows no such role"),
        ({"because": "I say so"}, "--because: unknown code"),
        ({"by": " "}, "--by: no name"),
    ],
)
def test_the_command_refuses_what_would_not_count(merged: Desk, options: dict[str, str], said: str) -> None:
    refused = merged.decide(merged.items()["patient-support"]["id"], **options)
    assert refused.code == 2 and said in refused.err and not merged.verdicts.exists()


def test_a_role_overrules_only_what_it_may(desk: Desk) -> None:
    desk.run("2026-03-05", ADMISSION, SIGNED, CHILD)
    name = desk.items()["patient-support"]["id"]
    refused = desk.decide(name, role="health-information")
    assert refused.code == 2 and "it may not overrule minor" in refused.err
    assert desk.decide(name, "--deny", role="health-information").code == 0
    assert desk.decide(name, "--allow", "--deny").code == desk.decide("bcdf").code == 2


def test_a_policy_cannot_let_anybody_overrule_what_is_no_question() -> None:
    for reason in set(Reason) - ALLOWABLE:
        with pytest.raises(ValueError, match="may overrule these only"):
            ReviewTerms(deadline_days=1, roles={"privacy-officer": frozenset({reason})})
    default = yaml.safe_load((policies.default() / "policy.yaml").read_bytes())["review"]
    assert set(default["roles"]["privacy-officer"]) == ALLOWABLE


# --- who looks ------------------------------------------------------------------------------------------------------


def test_the_list_names_no_patient(merged: Desk) -> None:
    said = merged.limen("review", "list", merged.out, "--as-of", "2026-03-05")
    plain = said.out + merged.limen("review", "list", merged.out, "--as-of", "2026-03-05", "--json").out
    assert "identity_changed" in plain and "to be answered: 4 items" in said.out
    for secret in ("4711", "GENERAL", "V1", "2026-03-02", "subject"):
        assert secret not in plain
    merged.decide(merged.items()["patient-support"]["id"])
    written = merged.verdicts.read_bytes() + b"".join(lines(merged.out, "review"))
    decoded = written + base64.b64decode(json.loads(merged.verdicts.read_bytes())["data"]["signed"]["matter"])
    assert not any(secret in decoded for secret in (b"4711", b"GENERAL"))


def show(desk: Desk, name: str, key: Path) -> Said:
    return desk.limen("review", "show", desk.out, name, "--private-key", key, "--by", "mueller", "--json")


def test_who_looks_is_on_record(merged: Desk) -> None:
    name = merged.items()["patient-support"]["id"]
    said = json.loads(show(merged, name, merged.key).out)
    assert (said["identifier"], said["visit"], said["time"]) == ("4711", "V1", "2026-03-02T10:00:00Z")
    merged.decide(name)
    first, second = [json.loads(line) for line in (merged.out / review.ACCESS).read_bytes().splitlines()]
    assert (first["verb"], first["item"], first["by"]) == ("show", name, "mueller") and first["key"] == second["key"]
    assert second["verb"] == "decide" and "4711" not in json.dumps([first, second])
    assert merged.run("2026-03-06", merged.verdicts)["restored"] == 1  # the folder goes on as the ledger's


def production(folder: Path) -> Path:
    """The default policy as it would stand in production."""
    shutil.copytree(policies.default(), folder)
    file = folder / "policy.yaml"
    file.write_text(file.read_text().replace("environment: test ", "environment: production "))
    assert policies.load(folder).environment == "production"
    return folder


def test_nobody_can_say_when_it_was_that_they_looked(merged: Desk) -> None:
    """45 CFR 164.312(b): an access log that its writer dates is none. A test may date its verdict."""
    before = review.now()
    assert merged.decide(merged.items()["patient-support"]["id"]).code == 0
    [looked] = (merged.out / review.ACCESS).read_bytes().splitlines()
    assert before <= review._time(json.loads(looked)["at"]) <= review.now()
    [verdict] = merged.verdicts.read_bytes().splitlines()
    assert json.loads(verdict)["data"]["signed"]["said"] == "2026-03-05T12:00:00Z"


@pytest.mark.parametrize("option", ["run", "decide"])
def test_in_production_nobody_says_when_it_is(desk: Desk, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """Neither of runs of a production policy nor for one: no verdict is signed, and no access is made."""
    policy = production(desk.folder / "policy")
    of_the_run = {"policy": policy} if option == "run" else {}
    at_the_desk = {"policy": policy} if option == "decide" else {}
    message = {**SIGNED, "meta": {"versionId": "1"}}
    desk.run("2026-03-05", ADMISSION.replace(b"|T|2.5.1", b"|P|2.5.1"), message, CHILD, **of_the_run)
    items = json.loads((desk.out / "summary.json").read_bytes())["review"]
    assert items
    monkeypatch.setattr(review, "now", lambda: review._time("2026-03-06T08:00:00Z"))
    listed = desk.limen("review", "list", desk.out, "--json")
    name = json.loads(listed.out)["items"][0]["id"]
    refused = desk.decide(name, because="guardian_consented", **at_the_desk)
    assert refused.code == 2 and "--as-of: it is for policies of environment test" in refused.err
    assert desk.limen("review", "list", desk.out, "--as-of", "2026-03-05").code == (2 if of_the_run else 0)
    assert not desk.verdicts.exists() and not (desk.out / review.ACCESS).exists()
    how = ("--by", "mueller", "--role", "privacy-officer", "--because", "guardian_consented", "--allow")
    where = ("--private-key", desk.key, "--output", desk.verdicts, "--state", desk.state)
    assert desk.limen("review", "decide", desk.out, name, *how, *where, "--policy", policy).code == 0
    said = json.loads(desk.verdicts.read_bytes())
    assert said["data"]["signed"]["said"] == said["time"] == "2026-03-06T08:00:00Z"


def test_without_a_record_nothing_is_shown(merged: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    name = merged.items()["patient-support"]["id"]

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(review.os, "fsync", full)
    said = show(merged, name, merged.key)
    assert said.code == 2 and not said.out and "4711" not in said.err


def test_without_a_place_for_the_record_nothing_is_shown(merged: Desk) -> None:
    (merged.out / review.ACCESS).parent.write_bytes(b"")
    said = show(merged, merged.items()["patient-support"]["id"], merged.key)
    assert said.code == 2 and not said.out and said.err.startswith("limen: DIR:"), said.err


def test_the_record_is_on_the_disk_before_the_subject_is_open(merged: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    name, steps = merged.items()["patient-support"]["id"], list[str]()
    fsync, unsealed = review.os.fsync, review.Subject.opened

    def synced(handle: int) -> None:
        steps.append("file" if stat.S_ISREG(review.os.fstat(handle).st_mode) else "folder")
        fsync(handle)

    def opened(*arguments: bytes) -> review.Subject:
        steps.append("open")
        return unsealed(*arguments)

    monkeypatch.setattr(review.os, "fsync", synced)
    monkeypatch.setattr(review.Subject, "opened", opened)
    assert show(merged, name, merged.key).code == 0 and steps == ["file", "folder", "open"]


def test_without_the_key_nothing_is_shown(merged: Desk, tmp_path: Path) -> None:
    name = merged.items()["patient-support"]["id"]
    keys.create(tmp_path / "other")
    said = show(merged, name, tmp_path / "other/review/private.key")
    assert said.code == 2 and "does not open this item" in said.err and not said.out
    assert len((merged.out / review.ACCESS).read_bytes().splitlines()) == 1  # that somebody tried is on record
    assert show(merged, name, tmp_path / "none").code == 2
    assert merged.limen("review", "show", merged.out, name).code == 2
    assert merged.limen("review", "list", tmp_path / "nowhere").code == 2


def test_items_that_no_run_published_are_refused(merged: Desk) -> None:
    """Whoever can write the folder cannot turn one question into another."""
    name = merged.items()["patient-support"]["id"]
    [file] = [path for path in merged.out.glob("review/*") if name in path.read_text()]
    file.write_text(file.read_text().replace("patient-support", "hcp-notification"))
    before = tree(merged.out)
    for said in (merged.decide(name), show(merged, name, merged.key)):
        assert said.code == 3 and "a_published_file_is_missing_or_changed" in said.err
    assert tree(merged.out) == before and not merged.verdicts.exists()


def test_decide_wants_the_run_s_own_keys(merged: Desk, tmp_path: Path) -> None:
    keys.create(tmp_path / "other")
    said = merged.decide(merged.items()["patient-support"]["id"], state=tmp_path / "other")
    assert said.code == 2 and "--state: the folder was written with other keys" in said.err
    assert not merged.verdicts.exists()


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_names_every_code() -> None:
    page = (ROOT / "docs/review.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(Because)
    assert all(f"`{reason}`" in page for reason in ALLOWABLE)
