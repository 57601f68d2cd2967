"""Whatever was asked for wrongly: exit 2 before anything is written, and one line: the option, the problem, the fix."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from hospital_files import Said, admission, command, tree

from pipelines import cli, options
from pipelines import policy as policies
from schemas.errors import ConfigurationError

Spoil = Callable[[Path], None]


class Desk:
    """A working directory with one input, and the command. What a test makes wrong beforehand is there beforehand."""

    def __init__(self, folder: Path, run: Callable[..., Said]) -> None:
        self.folder = folder
        self._run = run

    def refused(self, *arguments: str | Path) -> str:
        """The one line of a refusal; nothing may have been made or changed."""
        before, names = tree(self.folder), sorted(self.folder.rglob("*"))
        said = self._run(*arguments)
        assert said.code == 2, said
        assert said.out == ""
        assert said.err.endswith("\n") and said.err.count("\n") == 1, said.err
        assert said.err.startswith("limen: ")
        assert said.err.count(": ") >= 2 and "; " in said.err  # option: problem; fix
        assert sorted(self.folder.rglob("*")) == names
        assert tree(self.folder) == before
        return said.err.removeprefix("limen: ").strip()

    def run(self, *arguments: str | Path) -> str:
        """A refused `run` with whatever is not said otherwise."""
        usual: dict[str, str] = {"--input": "in.hl7", "--output": "out", "--state": "state"}
        given = [name for name in usual if name not in arguments]
        return self.refused("run", *(part for name in given for part in (name, usual[name])), *arguments)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.hl7").write_bytes(admission("M1", "V1", "20260301120000+0000"))
    return Desk(tmp_path, lambda *arguments: command(capsys, monkeypatch, *arguments))


# --- options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, option, said",
    [
        pytest.param(["--frobnicate"], "--frobnicate", "no such option", id="an unknown option"),
        pytest.param(["--frobnicate=3"], "--frobnicate", "no such option", id="an unknown option with a value"),
        pytest.param(["-x"], "-x", "no such option", id="an unknown short option"),
        pytest.param(["--frobnicate"], "--frobnicate", "see limen run --help", id="an unknown option like no other"),
        pytest.param(["--ouptut", "x"], "--ouptut", "no such option; did you mean --output?", id="a misspelt option"),
        pytest.param(["--streming"], "--streming", "did you mean --streaming?", id="a misspelt Beam option"),
        pytest.param(["--direct_num_workers=many"], "--direct_num_workers: its value is missing or of the wrong kind",
                     "Beam wants a number", id="a Beam option of the wrong kind"),
        pytest.param(["--direct_num_workers"], "--direct_num_workers: ", "missing", id="a Beam option without a value"),
        pytest.param(["--direct_running_mode=sideways"], "--direct_running_mode: ", "one of in_memory, multi_threading",
                     id="a Beam choice that there is not"),
        pytest.param(["--runner=Sprint"], "--runner", "Sprint", id="a runner that there is not"),
        pytest.param(["--as-of", "yesterday"], "--as-of", "not a time", id="no time"),
        pytest.param(["--as-of", "2026-05"], "--as-of", "not a time", id="a month"),
        pytest.param(["--as-of", "2026-02-30"], "--as-of", "not a time", id="a day that there is not"),
        pytest.param(["--as-of", "2026-05-01T12:00:00"], "--as-of", "not a time", id="a time without a zone"),
        pytest.param(["--as-of", ""], "--as-of", "not a time", id="an empty time"),
        pytest.param(["--as-of", "1999-12-31"], "--policy", "not valid on that day", id="before the policy is valid"),
        pytest.param(["--as-of", "2100-01-01"], "--policy", "not valid on that day", id="after the policy is valid"),
        pytest.param(["--input", "nowhere"], "--input", "no file matches nowhere", id="an input that is not there"),
        pytest.param(["--input", "*.nothing"], "--input", "no file matches", id="a glob that matches nothing"),
        pytest.param(["--input", "pubsub://p/s"], "--input", "not available", id="a source of a later version"),
        pytest.param(["more.hl7"], "--input", "no file matches more.hl7", id="a second input that is not there"),
        pytest.param(["--policy", "nowhere"], "--policy", "no policy.yaml", id="a policy that is not there"),
        pytest.param(["--policy", "in.hl7"], "--policy", "no policy.yaml", id="a policy that is a file"),
        pytest.param(["--output", "in.hl7"], "--output", "cannot be written", id="an output that is a file"),
        pytest.param(["--output", "in.hl7/out"], "--output", "cannot be written", id="an output below a file"),
        pytest.param(["--output", "/proc/limen"], "--output", "cannot be written", id="an output that cannot be made"),
        pytest.param(["--state", "in.hl7"], "--state", "cannot be", id="a state that is a file"),
        pytest.param(["--state", "in.hl7/state"], "--state", "cannot be", id="a state below a file"),
    ],
)  # fmt: skip
def test_options(desk: Desk, arguments: list[str], option: str, said: str) -> None:
    line = desk.run(*arguments)
    assert line.startswith(option)
    assert said in line


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["run", "--output", "out"], id="no input"),
        pytest.param(["run", "--input", "in.hl7"], id="no output"),
        pytest.param(["run", "--input"], id="an option without its value"),
        pytest.param(["frobnicate"], id="an unknown verb"),
        pytest.param(["simulate"], id="nowhere to simulate to"),
        pytest.param(["simulate", "--output", "h", "--patients", "none"], id="patients that are no number"),
    ],
)
def test_usage(desk: Desk, arguments: list[str]) -> None:
    """What the parser of the command line itself refuses."""
    names = sorted(desk.folder.rglob("*"))
    said = desk._run(*arguments)
    assert (said.code, said.out) == (2, "")
    no_verb = arguments[0] == "frobnicate" or arguments[-1] == "--input"  # there the parser does not say where it was
    assert said.err.endswith("; see limen --help\n" if no_verb else f"; see limen {arguments[0]} --help\n")
    assert sorted(desk.folder.rglob("*")) == names


@pytest.mark.parametrize("given, slip", [("--output", "--outptu"), ("--output", "--outptu=o"), ("--input", "--inputs")])
def test_a_required_option_that_is_misspelt(desk: Desk, given: str, slip: str) -> None:
    """What is unknown is said, not what is missing because of it."""
    usual = {"--input": "in.hl7", "--output": "out"}
    right = [part for option, value in usual.items() if option != given for part in (option, value)]
    name = slip.split("=", maxsplit=1)[0]
    assert desk.refused("run", *right, slip, "o") == f"{name}: no such option; did you mean {given}?"


def test_every_option_of_run_is_known_to_the_parser_of_beam_s() -> None:
    """Where one is missing, a slip of it is taken for another."""
    command = typer.main.get_command(cli.app).commands["run"]  # type: ignore[attr-defined]
    assert {name for one in command.params for name in one.opts if name[0] == "-"} == {*options.OURS} - {"--help"}


def test_a_folder_without_files(desk: Desk) -> None:
    (desk.folder / "feeds").mkdir()
    assert desk.run("--input", "feeds").startswith("--input: the folder feeds holds no file; ")


def test_an_unwritable_folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked of the system, which lets root write anywhere: so the answer is given here."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert desk.run().startswith("--output: out cannot be written; ")


def test_an_unreadable_input(desk: Desk) -> None:
    (desk.folder / "gone.hl7").symlink_to("nowhere.hl7")
    assert desk.run("--input", "gone.hl7").startswith("--input: ")


def test_a_message_of_a_found_file_name_is_not_quoted(desk: Desk) -> None:
    """A file that was found in a folder may be named after a patient."""
    (desk.folder / "feeds").mkdir()
    (desk.folder / "feeds/Quillfeather.hl7").symlink_to("nowhere")
    assert "Quillfeather" not in desk.run("--input", "feeds")


def test_simulate_into_a_folder_that_is_not_empty(desk: Desk) -> None:
    (desk.folder / "h").mkdir()
    (desk.folder / "h/x").write_text("mine")
    assert desk.refused("simulate", "--output", "h").startswith("--output: ")


def test_score_without_a_run(desk: Desk) -> None:
    assert desk.refused("score", "out", "--truth", "truth.json").startswith("--truth: ")


@pytest.mark.parametrize("key", ["nowhere.key", "in.hl7"])
def test_quarantine_open_with_no_key(desk: Desk, key: str) -> None:
    (desk.folder / "in.hl7").chmod(0o600)
    assert desk.refused("quarantine", "open", "in.hl7", "--private-key", key).startswith("--private-key: ")


@pytest.mark.parametrize("option", ["--output", "--state"])
@pytest.mark.parametrize(
    "inputs, folder",
    [
        pytest.param("feeds", "feeds", id="an input folder"),
        pytest.param("feeds", "feeds/new", id="below one"),
        pytest.param("feeds", "feeds/ward/new/deep", id="far below one"),
        pytest.param("feeds", "feeds/../feeds/new", id="by another spelling"),
        pytest.param("feeds", "link/new", id="by a link"),
        pytest.param("link", "feeds/new", id="of an input that is a link"),
        pytest.param("feeds/ward/a.hl7", "feeds/ward", id="the folder of an input file"),
        pytest.param("feeds/ward/*.hl7", "feeds", id="a folder above what a glob found"),
        pytest.param("fee*", "feeds/new", id="below a folder that a glob found"),
    ],
)
def test_a_folder_within_the_input(desk: Desk, option: str, inputs: str, folder: str) -> None:
    (desk.folder / "feeds/ward").mkdir(parents=True)
    (desk.folder / "in.hl7").rename(desk.folder / "feeds/ward/a.hl7")
    (desk.folder / "link").symlink_to("feeds")
    line = desk.run("--input", inputs, option, folder)
    assert line.startswith(f"{option}: ")
    assert f"{folder} lies within --input" in line or "no keyset.json" in line  # a folder of files is no state anyway


@pytest.mark.parametrize(
    "option, place, other, said",
    [
        pytest.param("--state", "out/keys", "out", "--state: out/keys lies within --output", id="keys in what leaves"),
        pytest.param("--state", "out", "out", "--state: out lies within --output", id="one folder for both"),
        pytest.param("--state", "keys", "keys/out", "--output: keys/out lies within --state", id="outputs among keys"),
        pytest.param("--ledger", "feeds/ledger.sqlite", "out", "--ledger: feeds/ledger.sqlite lies within --input",
                     id="a ledger among the inputs"),
    ],
)  # fmt: skip
def test_places_that_must_be_apart(desk: Desk, option: str, place: str, other: str, said: str) -> None:
    (desk.folder / "feeds").mkdir()
    (desk.folder / "in.hl7").rename(desk.folder / "feeds/a.hl7")
    assert desk.run("--input", "feeds", "--output", other, option, place).startswith(said)


# --- the state folder ---------------------------------------------------------------------------------------------


def test_keys_are_made_once(desk: Desk) -> None:
    assert desk._run("keys", "new", "state").code == 0
    kept = (desk.folder / "state/keyset.json").read_bytes()
    again = desk._run("keys", "new", "state")
    assert (again.code, again.out) == (2, "") and again.err.startswith("limen: DIR: state holds a keyset already")
    assert (desk.folder / "state/keyset.json").read_bytes() == kept


def state_of(desk: Desk) -> Path:
    assert desk._run("keys", "new", "state").code == 0
    return desk.folder / "state"


@pytest.mark.parametrize(
    "content, said",
    [
        pytest.param(b"", "damaged", id="an empty keyset"),
        pytest.param(b"{}", "damaged", id="a keyset without keys"),
        pytest.param(b"\xff\xfe", "damaged", id="a binary"),
    ],
)
def test_a_damaged_keyset(desk: Desk, content: bytes, said: str) -> None:
    (state_of(desk) / "keyset.json").write_bytes(content)
    line = desk.run()
    assert line.startswith("--state: ")
    assert said in line


def test_a_keyset_that_others_may_read(desk: Desk) -> None:
    (state_of(desk) / "keyset.json").chmod(0o644)
    assert "chmod 600" in desk.run()


def test_a_keyset_that_cannot_be_read(desk: Desk) -> None:
    keyset = state_of(desk) / "keyset.json"
    keyset.unlink()
    keyset.mkdir()
    assert desk.run().startswith("--state: ")


def test_a_state_folder_that_lost_its_keyset(desk: Desk) -> None:
    (state_of(desk) / "vault.sqlite").write_bytes(b"x")
    (desk.folder / "state/keyset.json").unlink()
    assert "restore keyset.json" in desk.run()


def test_a_state_folder_of_something_else(desk: Desk) -> None:
    (desk.folder / "state").mkdir()
    (desk.folder / "state/thesis.tex").write_text("mine")
    assert desk.run().startswith("--state: ")


def ran(desk: Desk) -> tuple[str, ...]:
    """A run that happened, and the arguments to repeat it with."""
    arguments = ("--as-of", "2026-05-01")
    assert desk._run("run", "--input", "in.hl7", "--output", "out", "--state", "state", *arguments).code == 0
    return arguments


@pytest.mark.parametrize("output", ["out", "another"])
@pytest.mark.parametrize("vault", ["damaged", "empty of what it was", "of another state"])
def test_a_vault_that_is_not_of_this_keyset(desk: Desk, vault: str, output: str) -> None:
    arguments = ran(desk)
    for path in (desk.folder / "state").glob("vault.sqlite-*"):
        path.unlink()
    file = desk.folder / "state/vault.sqlite"
    if vault == "damaged":
        file.write_bytes(b"x" * 5000)
    elif vault == "empty of what it was":
        file.write_bytes(file.read_bytes()[:100])
    else:
        assert desk._run("run", "--input", "in.hl7", "--output", "o2", "--state", "s2", *arguments).code == 0
        shutil.copyfile(desk.folder / "s2/vault.sqlite", file)
    line = desk.run("--output", output, *arguments)
    assert line.startswith("--state: ") and "restore the vault" in line
    if vault == "damaged":
        reader = desk.refused("score", "out", "--truth", a_truth(desk), "--state", "state")
        assert line == reader == "--state: vault.sqlite is no vault; restore the vault of this keyset"


def test_a_repeat_with_another_state(desk: Desk) -> None:
    arguments = ran(desk)
    assert "other keys" in desk.run("--state", "fresh", *arguments)
    assert desk._run("keys", "new", "other").code == 0
    assert "other keys" in desk.run("--state", "other", *arguments)


def a_truth(desk: Desk) -> str:
    """An empty truth.json."""
    (desk.folder / "truth.json").write_text('{"released":[],"pairs":{},"messages":{},"counts":{},"batches":[]}')
    return "truth.json"


ANSWER = ["--allow", "--by", "me", "--role", "privacy-officer", "--because", "consent_read", "--output", "verdicts"]
REVIEWER = ["--private-key", "other/review/private.key"]


@pytest.mark.parametrize(
    "verb",
    [
        pytest.param(["score", "out", "--truth", "truth.json"], id="score"),
        pytest.param(["story", "out", "--truth", "truth.json"], id="story"),
        pytest.param(["review", "decide", "out", "x", *ANSWER, *REVIEWER], id="review"),
    ],
)
def test_a_reader_with_another_state(desk: Desk, verb: list[str]) -> None:
    ran(desk)
    assert desk._run("keys", "new", "other").code == 0
    a_truth(desk)
    said = desk.refused(*verb, "--state", "other")
    assert said == "--state: the folder was written with other keys; name the state of its runs"


def test_a_repeat_from_another_folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state folder of a run that names none is that of where it started."""
    arguments = ("run", "--input", desk.folder / "in.hl7", "--output", desk.folder / "out", "--as-of", "2026-05-01")
    assert desk._run(*arguments).code == 0
    (desk.folder / "elsewhere").mkdir()
    monkeypatch.chdir(desk.folder / "elsewhere")
    assert desk.refused(*arguments).startswith("--state: ")
    monkeypatch.chdir(desk.folder)
    assert desk._run(*arguments).code == 0


# --- the output folder --------------------------------------------------------------------------------------------


def test_a_folder_of_something_else(desk: Desk) -> None:
    (desk.folder / "out").mkdir()
    (desk.folder / "out/thesis.tex").write_text("mine")
    assert "name a new folder" in desk.run()


def test_a_folder_of_another_run(desk: Desk) -> None:
    arguments = ("run", "--input", "in.hl7", "--output", "out", "--state", "state", "--json")
    assert desk._run(*arguments, "--as-of", "2026-05-01").code == 0
    line = desk.run("--as-of", "2026-05-02")
    assert "--as-of 2026-05-01T23:59:59Z" in line


# --- the policy ---------------------------------------------------------------------------------------------------


WAIVER = (
    "waiver: {protocol: P-1, board: IRB-1, approved: 2026-01-01, expires: 2027-01-01, recipient: Organization/crm,"
    " elements: [patient, time, kind, consent]}"
)


def edited(name: str, *changes: tuple[str, str]) -> Spoil:
    """Text of a file replaced by other text; each must be there."""

    def spoil(bundle: Path) -> None:
        text = (bundle / name).read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (bundle / name).write_text(text)

    return spoil


def added(name: str, text: str) -> Spoil:
    def spoil(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        with (bundle / name).open("a") as file:
            file.write(text)

    return spoil


def removed(name: str) -> Spoil:
    return lambda bundle: (bundle / name).unlink()


SUPPORT, NOTIFY, LOOP = "routes/patient-support.yaml", "routes/hcp-notification.yaml", "routes/closed-loop.yaml"
DROP_VISIT = "{field: visit, action: drop}"
BROKEN: dict[str, tuple[Spoil, str]] = {
    "an unknown key in policy.yaml": (added("policy.yaml", "colour: blue\n"), "colour"),
    "an unknown key in a route": (added(SUPPORT, "colour: blue\n"), "colour"),
    "an unknown key in a row": (edited(SUPPORT, ("action: drop}", "action: drop, why: so}")), "why"),
    "an unknown file": (added("extra.yaml", "a: 1\n"), "extra.yaml"),
    "a route that is no YAML file": (added("routes/patient-support.yaml.bak", "a: 1\n"), "patient-support.yaml.bak"),
    "a missing file": (removed("fields.yaml"), "fields.yaml"),
    "no routes": (lambda bundle: shutil.rmtree(bundle / "routes"), "at least one route"),
    "broken YAML": (added("policy.yaml", "]: [\n"), "policy.yaml"),
    "a list for a mapping": (lambda bundle: (bundle / "policy.yaml").write_text("- 1\n") and None, "Field required"),
    "a YAML key that stands twice": (added("policy.yaml", "revision: 2\n"), "policy.yaml"),
    "a YAML key that stands twice deep down": (
        edited(SUPPORT, ("{admitted: admitted,", "{admitted: admitted, admitted: discharged,")),
        SUPPORT,
    ),
    "a YAML object of Python": (added("policy.yaml", "x: !!python/object/apply:os.getpid []\n"), "policy.yaml"),
    "an identifier that passes": (
        edited(SUPPORT, (DROP_VISIT, "{field: visit, action: keep, to: visit}")),
        "reaches only identified",
    ),
    "an identifier that passes for another name": (
        edited(SUPPORT, (DROP_VISIT, "{field: visit, action: year, to: visit}")),
        "reaches only identified",
    ),
    "the patient that passes": (
        edited(NOTIFY, ("{field: patient, action: token, to: subject}", "{field: patient, action: keep, to: subject}")),
        "reaches only identified",
    ),
    "an identifier that passes by a route that admits it": (
        edited(
            SUPPORT,
            (DROP_VISIT, "{field: visit, action: keep, to: visit}"),
            ("level: limited-data-set", "level: identified"),
        ),
        "lets an identifier of the patient pass",
    ),
    "a token for something else": (
        edited(NOTIFY, (DROP_VISIT, "{field: visit, action: token, to: visit}")),
        "a token stands for the patient",
    ),
    "a field that passes where nobody consumes it": (
        edited(SUPPORT, ("{field: npi, action: drop}", "{field: npi, action: keep, to: npi}")),
        "consumers in fields.yaml do not name it: npi",
    ),
    "an identifier in an aggregate": (
        edited(LOOP, (DROP_VISIT, "{field: visit, action: keep, to: visit}")),
        "reaches only identified",
    ),
    "a level that is not reached": (
        edited(SUPPORT, ("level: limited-data-set", "level: safe-harbor")),
        "reaches only limited-data-set",
    ),
    "a level that there is not": (edited(SUPPORT, ("level: limited-data-set", "level: quite-safe")), "level must be"),
    "a limited data set without its agreement": (
        edited(SUPPORT, ("data_use_agreement: DUA-EXAMPLE-1\n", "")),
        "data_use_agreement",
    ),
    "a recipe that reads an unknown field": (
        edited(SUPPORT, (DROP_VISIT, "{field: shoe_size, action: keep, to: shoe_size}")),
        "shoe_size",
    ),
    "two rows that write one field": (
        edited(SUPPORT, ("to: next_action", "to: milestone")),
        "write the same outbound field",
    ),
    "a payload without subject": (
        edited(SUPPORT, ("{field: patient, action: token, to: subject}", "{field: patient, action: drop}")),
        "subject",
    ),
    "an action that there is not": (edited(SUPPORT, ("action: token", "action: shuffle")), "recipe"),
    "a row that says what it may not": (
        edited("fields.yaml", ("identifies: not", "identifies: maybe")),
        "fields.yaml: kind.identifies: ",
    ),
    "a row of a recipe": (edited(SUPPORT, ("action: token", "action: shuffle")), f"{SUPPORT}: recipe.patient.action: "),
    "a row whose name is no word": (edited("fields.yaml", ("field: visit", "field: 7")), "fields.yaml: row "),
    "a field without classification": (edited("fields.yaml", ("- field: visit", "- field: visits")), "fields.yaml"),
    "a purpose that there is not": (edited(SUPPORT, ("purpose: PATSUPPORT", "purpose: WORLDPEACE")), "purpose"),
    "treatment as purpose": (edited(SUPPORT, ("purpose: PATSUPPORT", "purpose: TREAT")), "treatment"),
    "break-glass as purpose": (edited(SUPPORT, ("purpose: PATSUPPORT", "purpose: BTG")), "break-glass"),
    "payloads without authorization": (
        edited(SUPPORT, ("basis: authorization", "basis: de-identified")),
        "aggregates only",
    ),
    "an authorization without recipients": (
        edited(SUPPORT, ('recipients: ["Organization/crm", "urn:limen:organization|crm"]', "recipients: []")),
        "recipient",
    ),
    "a kind that there is not": (edited(SUPPORT, ("kinds: [admitted,", "kinds: [reborn,")), "kinds"),
    "two routes of one name": (edited(NOTIFY, ("route: hcp-notification", "route: patient-support")), "one name"),
    "cells that are too small": (edited("policy.yaml", ("smallest_cell: 11", "smallest_cell: 1")), "smallest_cell"),
    "the social security number as identity": (edited("policy.yaml", ("[MR,", "[SS,")), "social security"),
    "a zone that there is not": (edited("policy.yaml", ("zone: UTC  ", "zone: Atlantis/Capital  ")), "zone"),
    "a waiver without its terms": (edited(SUPPORT, ("basis: authorization", "basis: irb-waiver")), "states its waiver"),
    "a waiver beside an authorization": (
        edited(SUPPORT, ("basis: authorization", f"basis: authorization\n{WAIVER}")),
        "states its waiver",
    ),
    "a waiver for another recipient": (
        edited(SUPPORT, ("basis: authorization", f"basis: irb-waiver\n{WAIVER.replace('/crm', '/other')}")),
        "another recipient",
    ),
    "a waiver that does not name what passes": (
        edited(SUPPORT, ("basis: authorization", f"basis: irb-waiver\n{WAIVER.replace('time, ', '')}")),
        "elements pass that the waiver does not name: ",
    ),
    "a waiver that expires before it begins": (
        edited(SUPPORT, ("basis: authorization", f"basis: irb-waiver\n{WAIVER.replace('2027', '2025')}")),
        "expires after",
    ),
    "a form for a purpose that there is not": (
        edited("consent-forms.yaml", ("[PATSUPPORT, HCPVISIBLE]", "[WORLDPEACE]")),
        "unknown purposes: WORLDPEACE",
    ),
    "two forms of one code": (
        edited("consent-forms.yaml", ('"LIMEN|patient-support"', '"urn:limen:form|patient-support"')),
        "two forms of one code",
    ),
    "a word with NUL": (
        edited(SUPPORT, ("  name: crm", '  name: "cr\\0m"')),
        "patient-support.yaml holds a control character",
    ),
    "a word that moves the cursor": (
        edited("policy.yaml", ("jurisdiction: US", 'jurisdiction: "US\\e[2K"')),
        "policy.yaml holds a control character",
    ),
    "a key with a control character": (
        edited("policy.yaml", ("zone: UTC  ", '"zo\\x85ne": UTC  ')),
        "policy.yaml holds a control character",
    ),
    "a form without a system": (edited("consent-forms.yaml", ("LIMEN|patient", "LIMEN-patient")), "forms"),
    "no table of forms": (lambda bundle: (bundle / "consent-forms.yaml").unlink(), "consent-forms.yaml is missing"),
    "a profile that there is not": (
        edited("policy.yaml", ("consent_profile: root-is-rule", "consent_profile: whatever")),
        "consent_profile",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_policy(desk: Desk, name: str) -> None:
    spoil, said = BROKEN[name]
    shutil.copytree(policies.default(), desk.folder / "policy")
    spoil(desk.folder / "policy")
    line = desk.run("--policy", "policy")
    assert line.startswith("--policy: ")
    assert said in line


def test_the_policy_that_is_spoilt_above_is_sound_before(tmp_path: Path) -> None:
    shutil.copytree(policies.default(), tmp_path / "policy")
    assert policies.load(tmp_path / "policy").digest == policies.load(policies.default()).digest


def test_a_refusal_quotes_no_value(tmp_path: Path) -> None:
    """A bundle may hold what somebody pasted there by mistake."""
    shutil.copytree(policies.default(), tmp_path / "policy")
    content = yaml.safe_load((tmp_path / "policy/policy.yaml").read_text())
    content["revision"] = "Quillfeather 123-45-6789"
    (tmp_path / "policy/policy.yaml").write_text(yaml.safe_dump(content, default_flow_style=False))
    with pytest.raises(ConfigurationError) as refused:
        policies.load(tmp_path / "policy")
    assert "Quillfeather" not in str(refused.value)
    assert refused.value.__cause__ is None


# --- stopped by hand ----------------------------------------------------------------------------------------------


def test_stopped_by_the_operator(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.run._pipeline", stop)
    said = desk._run("run", "--input", "in.hl7", "--output", "out", "--state", "state")
    assert (said.code, said.out, said.err.count("\n")) == (130, "", 1)
    assert said.err.startswith("limen: stopped; ")
    assert not any((desk.folder / "out" / kind).exists() for kind in ("crm", "audit", "manifest"))


# --- as a process of its own --------------------------------------------------------------------------------------


def test_the_exit_code_of_the_process(tmp_path: Path) -> None:
    """In-process runs stand for all others; this one shows that they may."""
    root = str(Path(policies.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "run", "--input", "nowhere", "--output", "out"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if not line.startswith("WARNING:root:apitools")]
    assert (done.returncode, done.stdout, len(ours)) == (2, "", 1)
    assert ours[0].startswith("limen: --input: no file matches nowhere; ")
    assert not list(tmp_path.iterdir())
