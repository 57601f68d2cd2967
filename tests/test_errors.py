"""Wrong options, keys and folders: exit 2 before anything is written, and one line: option, problem, fix."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hospital_files import Desk

from pipelines import cli, options
from pipelines import policy as policies


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk.at(tmp_path, capsys, monkeypatch)


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
