"""The commit protocol: a run has happened or has not, whatever stops it, and readers can check every byte of one."""

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from hospital_files import AS_OF, Said, admission, by_identifier, command, decide, lines, ndjson, permit, records, tree

from pipelines import outputs
from pipelines.keys import load
from pipelines.outputs import PUBLISHED, STAGED, Outputs, held
from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Manifest


class Place(NamedTuple):
    """A small hospital's feeds, a state folder, and a clean run to compare with."""

    folder: Path
    feeds: Path
    state: Path
    clean: Path

    def run(self, output: Path) -> Any:
        return decide([self.feeds], output, self.state)

    def arguments(self, output: Path, as_of: str = AS_OF) -> tuple[str | Path, ...]:
        return ("run", "--input", self.feeds, "--output", output, "--state", self.state, "--as-of", as_of, "--json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Enough for a file of each kind: 12 patients in a cell, a conflict for the reviewers, a reject."""
    folder = tmp_path_factory.mktemp("place")
    patients = [f"M{n}" for n in range(12)]
    ndjson(folder / "feeds/c.ndjson", (permit(by_identifier("urn:id:GENERAL", p), f"c-{p}") for p in patients))
    messages = [admission(p, f"V{p}", "20260301120000+0000") for p in patients]
    conflict = [admission("M1", f"W{n}", "20260302120000+0000", control="same") for n in range(2)]
    (folder / "feeds/a.hl7").write_bytes(b"".join(messages + conflict) + b"MSH|&&&&|broken\r")
    place = Place(folder, folder / "feeds", folder / "state", folder / "clean")
    place.run(place.clean)
    return place


@pytest.fixture
def done(place: Place, tmp_path: Path) -> Path:
    """A copy of the clean run, to spoil."""
    return Path(shutil.copytree(place.clean, tmp_path / "out"))


def run_again(place: Place, output: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> Said:
    return command(capsys, patch, *place.arguments(output))


def same_as_clean(output: Path, place: Place) -> bool:
    """Everything but what is sealed (random) and what names it (the manifest); and nothing is left over."""
    assert not (output / STAGED).exists()
    assert set(tree(output)) == set(tree(place.clean))
    assert lines(output) == lines(place.clean)
    assert records(output) == records(place.clean)
    return True


def test_the_clean_run_has_a_file_of_each_kind(place: Place) -> None:
    kinds = {path.split("/")[0] for path in tree(place.clean)}
    assert kinds == {"audit", "quarantine", "review", "aggregates", "crm", "manifest", "summary.json", ".lock"}


# --- a run that stops before its commit never happened ------------------------------------------------------------


class Stop(BaseException):
    """A process that is killed: nothing that catches errors catches it."""


def stopping(real: Callable[..., Any], at: int, *, after: bool = False) -> Callable[..., Any]:
    """`real` until its call number `at` (from 0), which stops the process before or after it takes effect."""
    calls = iter(range(1_000_000))

    def call(*arguments: Any, **named: Any) -> Any:
        if next(calls) == at:
            if after:
                real(*arguments, **named)
            raise Stop
        return real(*arguments, **named)

    return call


@pytest.mark.parametrize("at", ["staged", "manifest written", "before the link"])
def test_a_stop_before_the_manifest_starts_over(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        if at == "staged":
            patch.setattr(Outputs, "commit", stopping(Outputs.commit, 0))
        elif at == "manifest written":
            patch.setattr(Manifest, "sign", stopping(Manifest.sign, 0, after=True))
        else:
            patch.setattr(os, "link", stopping(os.link, 0))
        with pytest.raises(Stop):
            place.run(output)
    assert not any((output / kind).exists() for kind in ("crm", "aggregates", "review", "audit", "quarantine"))
    assert list((output / STAGED).rglob("*.jsonl"))
    assert place.run(output).repeated is False
    assert same_as_clean(output, place)


def test_a_stop_before_the_manifest_leaves_the_folder_to_any_run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(os, "link", stopping(os.link, 0))
        place.run(output)
    assert decide([place.feeds], output, place.state, "2026-05-01").repeated is False


def test_what_a_manifest_names_is_found_after_a_power_cut(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes and names of all that was staged are on the disk before the commit, those of each kind before the next."""
    output, steps = tmp_path / "out", list[tuple[str, int]]()
    fsync, link, replace = os.fsync, os.link, os.replace

    def synced(handle: int) -> None:
        steps.append(("synced", os.fstat(handle).st_ino))
        fsync(handle)

    def linked(staged: Path, target: Path) -> None:
        every = [path for path in (output, *output.rglob("*")) if "counts" not in path.parts and path.name != ".lock"]
        unsafe = {path for path in every if ("synced", path.stat().st_ino) not in steps} - {output / "manifest"}
        assert unsafe == set()
        steps.append(("committed", 0))
        link(staged, target)

    def moved(source: Path, target: Path) -> None:
        replace(source, target)
        steps.append((Path(target).relative_to(output).parts[0], Path(target).parent.stat().st_ino))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    monkeypatch.setattr(os, "replace", moved)
    place.run(output)
    published = steps[steps.index(("committed", 0)) :]
    folders = {step for step in published if step[0] in PUBLISHED}
    assert {kind for kind, _ in folders} == set(PUBLISHED)
    for kind, folder in folders:
        last = max(place for place, step in enumerate(published) if step == (kind, folder))
        later = [other for other, _ in published[last:] if other in PUBLISHED[PUBLISHED.index(kind) + 1 :]]
        until = published.index(next(s for s in published[last:] if s[0] == later[0])) if later else len(published)
        assert ("synced", folder) in published[last:until], kind


# --- one that stops after it is finished, not done again ----------------------------------------------------------


def number_of_moves(place: Place) -> int:
    return len(json.loads(next(place.clean.glob("manifest/*.json")).read_bytes())["signed"]["files"])


@pytest.mark.parametrize("at", ["link", "first move", "audit moved", "half", "last move", "clearing"])
def test_a_stop_after_the_manifest_is_finished_by_the_next_run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    output, moves = tmp_path / "out", number_of_moves(place)
    audit = sum(path.startswith("audit/") for path in tree(place.clean))
    with monkeypatch.context() as patch:
        if at == "link":
            patch.setattr(os, "link", stopping(os.link, 0, after=True))
        elif at == "clearing":
            real = shutil.rmtree

            def clear(path: Path, **named: Any) -> None:
                if (output / "manifest").exists():
                    raise Stop
                real(path, **named)

            patch.setattr(shutil, "rmtree", clear)
        else:
            number = {"first move": 0, "audit moved": audit, "half": moves // 2, "last move": moves - 1}[at]
            moving = stopping(os.replace, number)
            patch.setattr(
                os, "replace", lambda a, b: moving(a, b) if STAGED in str(a) and at_publish(a, b) else os.rename(a, b)
            )
        with pytest.raises(Stop):
            place.run(output)
    assert list(output.glob("manifest/*.json"))
    if list(output.glob("crm/*/*.jsonl")):
        published = {path for path in tree(output) if path.startswith("audit/")}
        assert published == {path for path in tree(place.clean) if path.startswith("audit/")}  # evidence first
    with monkeypatch.context() as patch:
        patch.setattr("pipelines.run._pipeline", stopping(len, 0))
        done = place.run(output)
    assert done.repeated is True
    assert done.summary["released"] == 47
    assert same_as_clean(output, place)
    assert json.loads((output / "summary.json").read_bytes())["released"] == 47


def at_publish(source: Any, target: Any) -> bool:
    """A move out of the staging folder, not one within it."""
    return STAGED in str(source) and STAGED not in str(target)


def _killed(place: Place, output: Path) -> None:
    """A process that dies without a word as soon as its run has happened."""
    outputs.os.link = lambda source, target: (os.rename(source, target), os._exit(9))  # type: ignore[assignment]
    place.run(output)


def test_a_killed_process_is_finished_by_the_next(place: Place, tmp_path: Path) -> None:
    output = tmp_path / "out"
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(place, output))
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert not (output / "crm").exists()
    assert place.run(output).repeated is True
    assert same_as_clean(output, place)


# --- what is published is what the manifest says ------------------------------------------------------------------


def published(output: Path) -> list[str]:
    """Published files, one of each kind."""
    kinds = {path.split("/")[0]: path for path in sorted(tree(output)) if "/" in path}
    return sorted(kinds.values())


@pytest.mark.parametrize("kind", ["aggregates", "audit", "crm", "quarantine", "review"])
@pytest.mark.parametrize("change", ["flipped", "longer", "missing"])
def test_a_changed_file_breaks_the_run(
    place: Place,
    done: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    change: str,
) -> None:
    path = done / next(path for path in published(done) if path.startswith(kind))
    content = path.read_bytes()
    if change == "missing":
        path.unlink()
    elif change == "longer":
        path.write_bytes(content + b"\n")
    else:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    said = run_again(place, done, capsys, monkeypatch)
    assert (said.code, said.err.count("\n"), said.out) == (3, 1, "")
    assert "missing_or_changed" in said.err


@pytest.mark.parametrize("change", ["digest", "facts", "signature", "no signature", "not JSON", "empty"])
def test_a_changed_manifest_breaks_the_run(
    place: Place, done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = next(done.glob("manifest/*.json"))
    said = json.loads(path.read_bytes())
    match change:
        case "digest":
            said["signed"]["files"][0]["sha256"] = "0" * 64
        case "facts":
            said["signed"]["facts"]["released"] += 1
        case "signature":
            said["signatures"][0]["sig"] = "00" * 64
        case "no signature":
            said["signatures"] = []
    path.write_bytes({"not JSON": b"{", "empty": b""}.get(change, json.dumps(said).encode()))
    before = tree(done)
    assert run_again(place, done, capsys, monkeypatch).code == 3
    assert tree(done) == before


def test_a_manifest_of_another_key_is_not_believed(
    place: Place, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = place._replace(state=tmp_path / "state")
    said = run_again(elsewhere, done, capsys, monkeypatch)
    assert (said.code, "--state" in said.err) == (2, True)
    assert not elsewhere.state.exists()


def test_the_manifest_lists_every_file(place: Place) -> None:
    signed = json.loads(next(place.clean.glob("manifest/*.json")).read_bytes())["signed"]
    said = {one["path"]: (one["sha256"], one["bytes"]) for one in signed["files"]}
    found = {
        path: (hashlib.sha256(content).hexdigest(), len(content))
        for path, (content, _) in tree(place.clean).items()
        if path not in ("summary.json", ".lock") and not path.startswith("manifest/")
    }
    assert said == found
    inputs = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in place.feeds.iterdir())
    assert signed["inputs"] == inputs
    summary = json.loads((place.clean / "summary.json").read_bytes())
    assert signed["facts"] == {name: value for name, value in summary.items() if name != "seconds"}


def test_the_signature_holds_with_the_published_key_alone(place: Place) -> None:
    """As an auditor checks it: nothing of Limen, the PEM of DIR/audit and the manifest's canonical JSON."""
    key = load_pem_public_key(next(place.clean.glob("audit/*.pem")).read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    manifest = json.loads(next(place.clean.glob("manifest/*.json")).read_bytes())
    canonical = json.dumps(manifest["signed"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    signature = bytes.fromhex(manifest["signatures"][0]["sig"])
    key.verify(signature, canonical)
    for position in range(0, len(canonical), 97):
        spoilt = bytearray(canonical)
        spoilt[position] ^= 1
        with pytest.raises(InvalidSignature):
            key.verify(signature, bytes(spoilt))


def test_any_changed_byte_of_the_manifest_is_noticed(place: Place) -> None:
    """Each byte, but those that JSON does not mean anything by."""
    content = next(place.clean.glob("manifest/*.json")).read_bytes()
    key = load(place.state).public_key
    before = Manifest.verified(content, key)
    for position in range(0, len(content), 13):
        spoilt = bytearray(content)
        spoilt[position] ^= 1
        try:
            after = Manifest.verified(bytes(spoilt), key)
        except LawBroken:
            continue
        assert after == before  # a changed key id: it names the key, it proves nothing


# --- one folder, one run, one process -----------------------------------------------------------------------------


def test_one_process_at_a_time(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    with held(output, "another"):
        said = run_again(place, output, capsys, monkeypatch)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "another run is writing" in said.err
    assert set(tree(output)) == {".lock"}
    assert run_again(place, output, capsys, monkeypatch).code == 0


def test_a_dead_process_holds_nothing(place: Place, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    handle = os.open(output / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.close(handle)
    assert place.run(output).repeated is False


@pytest.mark.parametrize("name", ["notes.txt", "crm/patient-support/x.jsonl", ".hidden"])
def test_a_folder_of_something_else_is_left_alone(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    output = tmp_path / "out"
    (output / name).parent.mkdir(parents=True)
    (output / name).write_text("mine")
    fresh = place._replace(state=tmp_path / "state")
    said = run_again(fresh, output, capsys, monkeypatch)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert set(tree(output)) == {name}
    assert not fresh.state.exists()


def test_another_run_is_refused_before_anything_is_written(
    place: Place, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(done)
    fresh = place._replace(state=tmp_path / "state")
    said = command(capsys, monkeypatch, *fresh.arguments(done, "2026-05-01"))
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"--as-of {AS_OF}" in said.err
    assert tree(done) == before
    assert not fresh.state.exists()


def test_published_files_without_a_manifest_are_not_adopted(
    place: Place, done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    next(done.glob("manifest/*.json")).unlink()
    before = tree(done)
    assert run_again(place, done, capsys, monkeypatch).code == 2
    assert tree(done) == before


def test_held_says_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--output"), held(tmp_path / "file" / "out", "run"):
        pass
