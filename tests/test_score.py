"""The score: it sees what is released wrongly, missing, miscounted, taken back; and reads what manifests name only."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hospital_files import command, decide, payloads

from pipelines import keys
from pipelines.score import _net, score
from pipelines.simulated.simulate import Simulated, simulate
from pipelines.simulated.truth import CRM, ROUTES
from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Manifest, Published, Signed
from transforms.rules import consent, first_copy, known


class Ran(NamedTuple):
    hospital: Simulated
    output: Path
    state: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("score")
    hospital = simulate(120, 5, 1, folder / "hospital")
    decide([hospital.feeds], folder / "out", folder / "state", hospital.as_of)
    return Ran(hospital, folder / "out", folder / "state")


@pytest.fixture
def copy(ran: Ran, tmp_path: Path) -> Ran:
    """The same run, to be changed."""
    shutil.copytree(ran.output, tmp_path / "out")
    return ran._replace(output=tmp_path / "out")


def changed(ran: Ran, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    truth = json.loads(ran.hospital.truth.read_bytes())
    change(truth)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    return tmp_path / "truth.json"


# --- a boundary that is wrong -------------------------------------------------------------------------------------


@pytest.mark.swaps
@pytest.mark.parametrize(
    "module, rule, broken",
    [
        pytest.param(consent, "denies", lambda *_: False, id="denials are ignored"),
        pytest.param(consent, "ended", lambda one, _: one.end, id="a permit that was taken back goes on"),
        pytest.param(known.Known, "_withdraw", lambda *_: None, id="cancellations are ignored"),
        pytest.param(known.Known, "_refilled", lambda *_: False, id="refills are ignored"),
        pytest.param(known.Known, "_recruits", lambda *_: True, id="any study may recruit"),
        pytest.param(known, "until_majority", lambda consents, _: consents, id="a parent's permit goes on"),
        pytest.param(first_copy.Received, "_mark", lambda *_: None, id="marks of sensitivity are ignored"),
        pytest.param(consent, "_names", lambda *_: True, id="a permit need not name what is specially protected"),
        pytest.param(first_copy.Received, "conflicting", lambda _: set(), id="copies that conflict are ignored"),
    ],
)
def test_a_rule_that_does_nothing_is_found_out(
    ran: Ran,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    module: object,
    rule: str,
    broken: Callable[..., object],
) -> None:
    monkeypatch.setattr(module, rule, broken)
    decide([ran.hospital.feeds], tmp_path / "out", tmp_path / "state", ran.hospital.as_of)
    result = score(tmp_path / "out", ran.hospital.truth, tmp_path / "state")
    assert len(result.wrong) == sum(result.routes[name].wrong for name in CRM) > 0
    said = command(
        capsys, monkeypatch, "score", tmp_path / "out", "--truth", ran.hospital.truth, "--state", tmp_path / "state"
    )
    assert said.code == 3
    assert "released wrongly: " in said.out and "does not agree" in said.out


# --- what it says -------------------------------------------------------------------------------------------------


def test_each_route_is_scored(ran: Ran, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = score(ran.output, ran.hospital.truth, ran.state)
    summary = json.loads((ran.output / "summary.json").read_bytes())["routes"]
    assert result.right and set(result.routes) == set(ROUTES) == set(summary)
    for name, route in result.routes.items():
        withheld = summary[name]["suppressed"] + summary[name]["review"]
        assert route == (summary[name]["released"], 0, 0, 0, (withheld, withheld))
        assert route.right > 0, name
    arguments = ("score", ran.output, "--truth", ran.hospital.truth, "--state", ran.state)
    said = command(capsys, monkeypatch, *arguments)
    assert said.code == 0 and "agrees with the truth" in said.out
    for name in ROUTES:
        assert f"{result.routes[name].right:,}" in next(line for line in said.out.splitlines() if name in line)
    as_json = json.loads(command(capsys, monkeypatch, *arguments, "--json").out)
    assert as_json["right"] is True and as_json["missing"] == as_json["wrong"] == []
    assert as_json["routes"]["patient-support"]["right"] == result.routes["patient-support"].right


@pytest.mark.parametrize(
    "change, difference",
    [
        pytest.param(lambda t: t["counts"].update(rejected=0), "rejected", id="a count of messages"),
        pytest.param(
            lambda t: t["messages"]["control"].update(identity=0), "control identity", id="a reason of messages"
        ),
        pytest.param(
            lambda t: t["pairs"]["patient-support"].update(denied=0), "patient-support denied", id="a reason of pairs"
        ),
        pytest.param(lambda t: t["pairs"]["operations"].update(released=0), "operations released", id="aggregates"),
    ],
)
def test_what_is_miscounted_is_said(
    ran: Ran, tmp_path: Path, change: Callable[[dict[str, Any]], object], difference: str
) -> None:
    result = score(ran.output, changed(ran, tmp_path, change), ran.state)
    assert list(result.counts) == [difference] and not result.right


def test_what_is_missing_is_said(ran: Ran, tmp_path: Path) -> None:
    def add(truth: dict[str, Any]) -> None:
        truth["released"].append(truth["released"][-1] | {"value": "GX9999999", "visit": "VN99999999"})

    result = score(ran.output, changed(ran, tmp_path, add), ran.state)
    assert [one["visit"] for one in result.missing] == ["VN99999999"]
    assert result.wrong == [] and not result.right


# --- what it reads ------------------------------------------------------------------------------------------------


def test_only_what_a_manifest_names_is_read(copy: Ran) -> None:
    (copy.output / "crm" / "patient-support" / "more.jsonl").write_text("no payload\n")
    assert score(copy.output, copy.hospital.truth, copy.state).right


@pytest.mark.parametrize("kind", ["crm", "audit"])
@pytest.mark.parametrize(
    "damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes() + b" ")]
)
def test_what_was_published_must_be_there_as_it_was(copy: Ran, kind: str, damage: Callable[[Path], object]) -> None:
    damage(next(path for path in sorted((copy.output / kind).rglob("*")) if path.suffix in (".jsonl", ".parquet")))
    with pytest.raises(LawBroken, match="a_published_file"):
        score(copy.output, copy.hospital.truth, copy.state)


def test_another_state_is_told_from_tampering(copy: Ran, tmp_path: Path) -> None:
    """Of no run there: the wrong --state. Of some but not of all: somebody put a manifest beside them."""
    other = keys.create(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="--state: the folder was written with other keys"):
        score(copy.output, copy.hospital.truth, tmp_path / "other")
    [path] = (copy.output / "manifest").glob("*.json")
    signed = Manifest.verified(path.read_bytes(), keys.load(copy.state).public_key)
    (path.parent / "more.json").write_bytes(Manifest.sign(msgspec.structs.replace(signed, run="more"), other))
    with pytest.raises(LawBroken, match="signature"):
        score(copy.output, copy.hospital.truth, copy.state)
    path.write_bytes(path.read_bytes().replace(b'"released": ', b'"released": 1', 1))
    with pytest.raises(LawBroken, match="signature"):
        score(copy.output, copy.hospital.truth, copy.state)


@pytest.mark.parametrize("content", [None, "", "[]", "7", '{"released": []}'])
def test_what_is_no_truth_is_refused(ran: Ran, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "truth.json").write_text(content)
    with pytest.raises(ConfigurationError, match="--truth"):
        score(ran.output, tmp_path / "truth.json", ran.state)


def test_a_folder_without_a_run_is_refused(ran: Ran, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="DIR"):
        score(tmp_path, ran.hospital.truth, ran.state)


# --- several runs -------------------------------------------------------------------------------------------------


def later_run(ran: Ran, route: str, lines: list[dict[str, Any]]) -> None:
    """A further run in the same folder, as one on a ledger leaves it: its own files, its own manifest."""
    keyset = keys.load(ran.state)
    path = ran.output / "crm" / route / "later.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    content = path.read_bytes()
    file = Published(f"crm/{route}/later.jsonl", hashlib.sha256(content).hexdigest(), len(content))
    facts = dict.fromkeys(json.loads(ran.hospital.truth.read_bytes())["counts"], 0)
    (ran.output / "manifest" / "later.json").write_bytes(Manifest.sign(Signed("later", [], [file], facts), keyset))


def test_what_a_later_run_takes_back_is_out_no_more(copy: Ran) -> None:
    one = next(line for line in payloads(copy.output) if line["type"] == "limen.hcp-notification.v1")
    later_run(copy, "hcp-notification", [{**one, "id": "r", "recordseq": 2, "retracts": one["recordseq"], "data": {}}])
    result = score(copy.output, copy.hospital.truth, copy.state)
    assert (len(result.missing), result.wrong, result.counts) == (1, [], {})
    assert result.routes["hcp-notification"].retracted == 1


def test_what_a_later_run_writes_again_is_what_the_record_shows(copy: Ran) -> None:
    one = next(line for line in payloads(copy.output) if line["type"] == "limen.patient-support.v3")
    back = {**one, "id": "r", "recordseq": 2, "retracts": 1, "data": {}}
    again = {**one, "id": "a", "recordseq": 3}
    later_run(copy, "patient-support", [back, again])
    assert score(copy.output, copy.hospital.truth, copy.state).right
    later_run(copy, "patient-support", [back, {**again, "time": "2020-01-01T00:00:00Z"}])
    result = score(copy.output, copy.hospital.truth, copy.state)
    assert (len(result.missing), len(result.wrong)) == (1, 1)


def a_line(sequence: int, milestone: str = "admitted", **more: Any) -> dict[str, Any]:
    return {"record": "r", "recordseq": sequence, "time": "2026-01-05T00", "data": {"milestone": milestone}, **more}


@pytest.mark.parametrize(
    "lines, shows",
    [
        pytest.param([a_line(1)], {"admitted"}, id="one payload"),
        pytest.param([a_line(2, "discharged"), a_line(1)], {"discharged"}, id="the last one counts, in any order"),
        pytest.param([a_line(1), a_line(1, "discharged")], {"admitted", "discharged"}, id="two at once: both are out"),
        pytest.param([a_line(1), a_line(2, retracts=1)], set(), id="taken back"),
        pytest.param([a_line(1), a_line(2), a_line(3, retracts=2)], set(), id="all up to it are taken back"),
        pytest.param([a_line(1), a_line(2, retracts=1), a_line(3)], {"admitted"}, id="written again"),
        pytest.param([a_line(2, "booked"), a_line(3, retracts=1)], {"booked"}, id="only what came before it"),
    ],
)
def test_what_a_record_shows(lines: list[dict[str, Any]], shows: set[str]) -> None:
    out, retracted = _net(lines, ["milestone"])
    assert out == {("r", milestone, "2026-01-05") for milestone in shows}
    assert retracted == any("retracts" in line for line in lines)
