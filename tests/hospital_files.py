"""Files for whole-job tests: simulated hospitals, one-line messages of any kind, and readers of what a run wrote."""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from pipelines import cli, options
from pipelines.run import Done
from pipelines.run import run as do
from pipelines.simulated import feeds
from pipelines.simulated.interface_engine import FRAMINGS
from pipelines.simulated.simulate import simulate

AS_OF = "2026-06-01T00:00:00Z"
TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_SPLIT = re.compile(rb"(?:^|(?<=[\r\n\x1c\x0b]))\x0b?(?=MSH[^0-9A-Za-z])")


# --- running ------------------------------------------------------------------------------------------------------


def decide(
    inputs: Iterable[Path],
    output: Path,
    state: Path,
    as_of: str = AS_OF,
    flags: Sequence[str] = (),
    policy: Path | None = None,
) -> Done:
    """One run in this process, through the same two functions as the command."""
    return do(options.request([str(path) for path in inputs], output, state, policy, as_of, list(flags)))


def of_every_kind(folder: Path) -> Path:
    """The outputs of a simulated hospital in which every kind of file occurs."""
    hospital = simulate(150, 3, 1, folder / "hospital")
    decide([hospital.feeds], folder / "out", folder / "state", hospital.as_of)
    return folder / "out"


class Said(NamedTuple):
    """What a command wrote and how it ended."""

    code: int
    out: str
    err: str


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> Said:
    """The command `limen` in this process, with its own way of turning errors into exit codes."""
    monkeypatch.setattr("sys.argv", ["limen", *map(str, arguments)])
    capsys.readouterr()
    code = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    out, err = capsys.readouterr()
    return Said(code, out, err)


class Desk:
    """A working directory with one input, and the command. What a test makes wrong beforehand is there beforehand."""

    def __init__(self, folder: Path, run: Callable[..., Said]) -> None:
        self.folder = folder
        self._run = run

    @classmethod
    def at(cls, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> "Desk":
        monkeypatch.chdir(folder)
        (folder / "in.hl7").write_bytes(admission("M1", "V1", "20260301120000+0000"))
        return cls(folder, lambda *arguments: command(capsys, monkeypatch, *arguments))

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


# --- what anyone logs ---------------------------------------------------------------------------------------------


class _Records(logging.Handler):
    """Every log record as its full text, traceback included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(pathname)s %(threadName)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))


@contextmanager
def debug_log() -> Iterator[list[str]]:
    """Everything that anyone logs, from DEBUG on."""
    handler, root = _Records(), logging.getLogger()
    known = [root, *(one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    before = [(one, one.level, one.disabled) for one in known]
    for one in known:
        one.setLevel(logging.NOTSET)
        one.disabled = False
    root.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield handler.texts
    finally:
        root.removeHandler(handler)
        for one, level, disabled in before:
            one.setLevel(level)
            one.disabled = disabled


# --- reading what a run wrote -------------------------------------------------------------------------------------


def lines(output: Path, kind: str = "crm") -> list[bytes]:
    """The lines of all files of a kind, in no particular order."""
    return [line for file in sorted(output.glob(f"{kind}/**/*.jsonl")) for line in file.read_bytes().splitlines()]


def payloads(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(output)]


def records(output: Path) -> list[dict[str, Any]]:
    """All audit records."""
    return [row for file in sorted(output.glob("audit/*.parquet")) for row in pq.read_table(file).to_pylist()]


def rows(output: Path) -> Counter[str]:
    """Audit records over all columns, each as text: comparable as a multiset."""
    return Counter(json.dumps(row, sort_keys=True, default=str) for row in records(output))


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder: bytes and time of its last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- rearranging feeds --------------------------------------------------------------------------------------------


def hl7_messages(content: bytes) -> list[bytes]:
    """The messages of a simulated HL7 file in any framing, each with segments that end in CR."""
    found = (re.sub(rb"\r\n|\n", b"\r", piece).replace(b"\x1c\r", b"") for piece in _SPLIT.split(content))
    return [message.rstrip(b"\r") + b"\r" for message in found if message]


def reframed(source: Path, target: Path, framing: str) -> Path:
    """A copy of the feeds with all HL7 files in one framing."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.name in FRAMINGS:
            content = b"".join(feeds.framed(message, framing) for message in hl7_messages(content))
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    return target


def shuffled(source: Path, target: Path, seed: int) -> Path:
    """The same messages in another order, in other files under other names, each format apart."""
    random = Random(seed)
    messages, objects, documents = [], [], []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.name in FRAMINGS:
            messages += [feeds.framed(message, "cr") for message in hl7_messages(content)]
        elif path.suffix == ".ndjson":
            objects += [line + b"\n" for line in content.splitlines() if line]
        else:
            documents.append(content)
    target.mkdir(parents=True)
    for name, content in (("z.dat", messages), ("a.dat", objects)):
        random.shuffle(content)
        middle = len(content) // 3
        for file, part in ((name, content[:middle]), (f"more-{name}", content[middle:])):
            if part:  # an empty file would be one more rejected message
                (target / file).write_bytes(b"".join(part))
    random.shuffle(documents)
    for place, document in enumerate(documents):
        (target / f"document-{place}").write_bytes(document)
    return target


def without_consents(source: Path, target: Path) -> Path:
    """A copy of the feeds that nobody signed anything in."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        content = path.read_bytes()
        if path.name in FRAMINGS:
            messages = [message for message in hl7_messages(content) if b"\rCON|" not in message]
            kept = [feeds.framed(message, FRAMINGS[path.name]) for message in messages]
        else:
            kept = [line for line in content.splitlines(keepends=True) if b'"resourceType":"Consent"' not in line]
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(b"".join(kept))
    return target


# --- single messages ----------------------------------------------------------------------------------------------


def permit(patient: Mapping[str, Any], name: str = "c1", **changes: Any) -> dict[str, Any]:
    """A Consent that permits both CRM purposes for ever. `patient` is its reference to the patient."""
    actor = {
        "role": feeds.coded(f"{TERMINOLOGY}/v3-ParticipationType", "PRCP"),
        "reference": {
            "reference": "Organization/crm",
            "identifier": {"system": "urn:limen:organization", "value": "crm"},
        },
    }
    purposes = [{"system": "urn:limen:purpose", "code": code} for code in ("PATSUPPORT", "HCPVISIBLE")]
    return {
        "resourceType": "Consent",
        "id": name,
        "meta": {"versionId": "1", "lastUpdated": "1990-01-01T00:00:00Z"},
        "status": "active",
        "scope": feeds.coded(f"{TERMINOLOGY}/consentscope", "patient-privacy"),
        "category": [feeds.coded("http://loinc.org", "59284-0")],
        "patient": dict(patient),
        "dateTime": "1990-01-01T00:00:00Z",
        "policyRule": feeds.coded(f"{TERMINOLOGY}/consentpolicycodes", "hipaa-auth"),
        "provision": {
            "type": "permit",
            "period": {"start": "1990-01-01T00:00:00Z"},
            "actor": [actor],
            "action": [feeds.coded(f"{TERMINOLOGY}/consentaction", "disclose")],
            "purpose": purposes,
        },
        **changes,
    }


def by_identifier(system: str, value: str) -> dict[str, Any]:
    """A reference to a patient by identifier."""
    return {"type": "Patient", "identifier": {"system": system, "value": value}}


def admission(
    mrn: str, visit: str, at: str, *, kind: str = "ADT^A01", patient_class: str = "I", control: str = ""
) -> bytes:
    """A minimal ADT message; `at` as HL7 writes time. Two with equal arguments are copies of one message."""
    return feeds.hl7(
        rf"MSH|^~\&|EPIC|GENERAL|LIMEN|CRM|{at}||{kind}|{control or f'{mrn}{visit}{kind}{at}'}|T|2.5.1",
        f"EVN||{at}",
        f"PID|1||{mrn}^^^GENERAL^MR",
        f"PV1|1|{patient_class}" + "|" * 17 + visit,
    )


def ndjson(path: Path, documents: Iterable[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(feeds.line(dict(document)) + b"\n" for document in documents))
    return path
