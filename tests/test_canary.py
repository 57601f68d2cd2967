"""The canary: a marked value in every field that comes in, well-formed and malformed, appears nowhere.

Not in outputs (decoded, too), names of files, log records at DEBUG (Beam's included), errors, the job graph, options,
metrics, stdout or stderr; sealed bytes are scanned like all others. Failures are forced, with the marker in their text.
"""

import base64
import bz2
import json
import logging
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.fn_api_runner import fn_runner
from hospital_files import by_identifier, command, debug_log, lines, permit, records

from pipelines.simulated import feeds
from pipelines.simulated.chart import Clinician, Fate, Milestone, Patient, Visit
from pipelines.simulated.malformed import DEFECTS, malformed

AS_OF = "2026-06-01T00:00:00Z"
AT = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
WORD = "zqCanary"  # in whatever can hold a word
DIGITS = "70771077"  # in whatever must look like a number
Json = dict[str, Any]


def spellings() -> list[bytes]:
    """The marker as it might be written: as it is, in base64 at each alignment, hexadecimal, UTF-16; a birth date."""
    word, digits = WORD.encode(), DIGITS.encode()
    in_base64 = [base64.b64encode(b"\0" * n + word)[4 * (n > 0) :].rstrip(b"=")[:-2] for n in range(3)]
    born = (b"1977-07-07", b"19770707")
    return [
        word.lower(),
        digits,
        *born,
        word.hex().encode(),
        WORD.encode("utf-16-le").lower(),
        *(x.lower() for x in in_base64),
    ]


SPELLINGS = spellings()


def found_in(text: bytes | str) -> list[bytes]:
    """The spellings of the marker in a text, whatever the case."""
    raw = (text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text).lower()
    return [one for one in SPELLINGS if one in raw]


# --- what comes in ------------------------------------------------------------------------------------------------


def patient(n: int | str = "") -> Patient:
    """Every string of a patient marked. `n` tells patients apart."""
    return Patient(
        f"{WORD}mrn{n}", f"{WORD}res{n}", f"{WORD}fam", f"{WORD}giv", "F", date(1977, 7, 7), f"{WORD} street",
        f"{WORD}city", f"{WORD}zip", f"({DIGITS})", f"{DIGITS}-ssn", f"{WORD}acc", f"{WORD}pol", f"{WORD} note",
    )  # fmt: skip


P = patient()
DOCTOR = Clinician("1245319599", f"{WORD}doc", f"{WORD}doc")  # the NPI may cross; the name may not
KINDS = ("admitted", "registered", "discharged", "booked", "attended", "episode-completed")


def milestone(kind: str, n: object) -> Milestone:
    """One milestone of a visit of its own, so that each can be released."""
    return Milestone(kind, AT, Visit(f"{WORD}{n}", "I", DOCTOR, "ATND"), Fate.STANDS)


def booking(n: object) -> Milestone:
    """A SIU message wants a digit in its tenth place."""
    return milestone("booked", f"00{n}")


# Segments of ADT and SIU messages and beyond, and a local one; each gets 50 fields.
SEGMENTS = (
    "SFT PD1 ARV ROL NK1 PV1 PV2 DB1 OBX AL1 DG1 DRG PR1 GT1 IN1 IN2 IN3 ACC UB1 UB2 PDA MRG NTE SCH TQ1 RGS AIS AIG "
    "AIL AIP APR ORC OBR RXA ZPD"
).split()


def hl7() -> Iterator[bytes]:
    """Messages of every kind; each field of each segment marked, alone and all at once; then what is no message."""
    for kind in ("admitted", "registered", "discharged"):
        for evn in ("EVN-6", "EVN-2", "MSH-7"):
            yield feeds.adt(P, milestone(kind, f"{kind}{evn}"), f"{WORD}{kind}{evn}", evn)
    yield feeds.siu(P, booking("siu"), f"{WORD}siu")
    for kind in ("admitted", "discharged"):
        yield feeds.cancellation(patient("c"), milestone(kind, f"c{kind}"), f"{WORD}c{kind}")
    yield feeds.cancellation(patient("c"), booking("csiu"), f"{WORD}csiu")
    yield feeds.merge(patient("m"), patient("n"), f"{WORD}merge", AT)
    yield feeds.laboratory(P, f"{WORD}lab", AT)
    yield feeds.vaccination(P, f"{WORD}vac", AT)
    everything = b"".join(f"{name}|{'|'.join([f'{WORD}&{WORD}^{WORD}~{WORD}'] * 50)}\r".encode() for name in SEGMENTS)
    yield feeds.adt(P, milestone("admitted", "all"), f"{WORD}all", "EVN-6") + everything
    signed = f"CON|{'|'.join([f'{WORD}&{WORD}^{WORD}~{WORD}'] * 25)}\r".encode()
    yield feeds.adt(patient("s"), milestone("admitted", "signed"), f"{WORD}signed", "EVN-6") + signed
    yield feeds.laboratory(patient("s"), f"{WORD}signed alone", AT) + signed
    protected = f"DG1|1||F10.20^{WORD}^I10|{WORD}\rARV|1|A|{WORD}\r".encode()
    update = feeds.adt(patient("u"), milestone("admitted", "u"), f"{WORD}update", "EVN-6")
    yield update.replace(b"ADT^A01", b"ADT^A08") + protected
    yield feeds.laboratory(patient("u"), f"{WORD}protected", AT) + protected
    count = 0
    for kind in ("admitted", "discharged"):
        whole = feeds.adt(P, milestone(kind, "place"), f"{WORD}place", "EVN-6").decode().rstrip("\r").split("\r")
        for row, segment in enumerate(whole):
            for place in range(1, 52):
                count += 1
                fields = segment.split("|") + [""] * 52
                fields[place] = f"{WORD}{count}"
                marked = [*whole[:row], "|".join(fields), *whole[row + 1 :]]
                yield ("\r".join(marked).replace(f"{WORD}place", f"{WORD}place{count}") + "\r").encode()
    sound = feeds.adt(P, milestone("admitted", "cut"), f"{WORD}cut", "EVN-6")
    yield from (sound[:end] for end in range(5, len(sound), 31))
    for old, new in (
        (b"|^~\\&|", b"|&&&&|"), (b"MSH|", b"MSHz"), (b"UNICODE UTF-8", f"{WORD}".encode()), (b"fam", b"\xff\xfe"),
        (b"ADT^A01", f"{WORD}^{WORD}".encode()), (b"ADT^A01", f"ADT^{WORD}".encode()), (b"PID|", b"PI|"),
        (b"20260301", DIGITS.encode()), (b"|MR~", b"|SS~"), (b"\r", b"\r\r\n"), (b"^", b"\\X7a71\\^"),
    ):  # fmt: skip
        yield sound.replace(old, new)
    yield from (malformed(defect, P, milestone("admitted", "bad"), f"{WORD}bad")
                for defect, (file, _) in DEFECTS.items() if file.endswith(".hl7"))  # fmt: skip


def resources() -> Iterator[Json]:
    """One of each resource, each string that may be one marked, with elements that nobody knows."""
    extra = {f"{WORD}Key": WORD, "extension": [{"url": f"urn:{WORD}", "valueString": WORD}],
             "text": {"status": "generated", "div": f"<div>{WORD}</div>"},
             "contained": [{"resourceType": "Basic", "id": WORD, f"{WORD}Key": DIGITS}]}  # fmt: skip
    for n, kind in enumerate(("discharged", "booked", "attended", "episode-completed")):
        yield feeds.resource(P, milestone(kind, f"f{n}"), 1) | extra
    yield feeds.demographics(P) | {"id": WORD} | extra
    yield feeds.demographics(patient("l")) | {
        "id": f"{WORD}l",
        "link": [{"other": feeds.subject(patient("k")), "type": "seealso"}],
    }
    attached = {"data": WORD, "url": f"urn:{WORD}", "title": WORD, "hash": WORD}
    yield permit(feeds.subject(patient("x")), f"{WORD}consent", sourceAttachment=attached, **extra)
    yield feeds.observation(P, f"{WORD}obs", AT) | extra
    about = {"subject": feeds.subject(patient("u")), "encounter": {"reference": f"Encounter/{WORD}"}}
    yield {"resourceType": "Condition", "id": WORD, "code": {"coding": [{"code": "B20"}], "text": WORD}} | about | extra
    yield feeds.bundle(P, milestone("discharged", "bundle"), f"urn:uuid:{WORD}")
    yield {"resourceType": "Parameters", "id": WORD, "parameter": [{"name": WORD, "valueString": WORD}]}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all elements of a JSON value."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def with_value(document: Json, path: tuple[str | int, ...], value: Any) -> Json:
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def variants(document: Json) -> Iterator[Json]:
    """The document with each of its elements replaced: by a marked string, by a marked element of another type."""
    yield document
    for path in places(document):
        yield with_value(document, path, f"{WORD}x")
        yield with_value(document, path, {f"{WORD}Key": [WORD, 3.5]})
        yield with_value(document, path, None)


def events() -> Iterator[Json]:
    """CloudEvents with marked attributes, extensions and data of every kind."""
    extensions = {"zqcanaryext": WORD, "partitionkey": f"{WORD}key", "dataschema": f"urn:{WORD}"}
    for n, resource in enumerate(resources()):
        yield feeds.cloud_event(P, f"{WORD}e{n}", AT, resource) | extensions
    yield feeds.cloud_event(P, f"{WORD}adt", AT, feeds.adt(P, milestone("admitted", "ce"), f"{WORD}ce", "EVN-2"))
    sound = feeds.cloud_event(P, f"{WORD}c", AT, feeds.resource(P, milestone("discharged", "cloud"), 1)) | extensions
    for name in sound:
        if name != "data":
            yield sound | {name: f"{WORD}y"}
            yield sound | {name: {f"{WORD}Key": WORD}}
            yield {key: value for key, value in sound.items() if key != name}
    yield sound | {"data": f"{WORD} is no resource"}
    yield sound | {"data": {"resourceType": f"{WORD}Type"}}
    yield {k: v for k, v in sound.items() if k != "data"} | {"data_base64": base64.b64encode(WORD.encode()).decode()}
    yield {k: v for k, v in sound.items() if k != "data"} | {"data_base64": f"{WORD} is no base64!"}


def broken_lines() -> Iterator[bytes]:
    """What is no JSON, or none that two readers read alike."""
    sound = feeds.line(feeds.resource(P, milestone("discharged", "line"), 1))
    yield from (sound[:end] for end in range(1, len(sound), 41))
    yield sound[:-1] + b',"subject":{"reference":"Patient/' + WORD.encode() + b'"}}'
    yield sound.replace(b'"finished"', b'"finished","x":NaN')
    yield sound.replace(b'"finished"', b'"\xff\xfe"')
    yield sound.replace(b'"finished"', b'"\\ud800' + WORD.encode() + b'"')
    yield b'{"resourceType":"Encounter","x":' + b"[" * 9000 + f'"{WORD}"'.encode() + b"]" * 9000 + b"}"
    yield b'{"resourceType":"Consent","x":' + b'{"a":' * 9000 + f'"{WORD}"'.encode() + b"}" * 9001
    yield f'{{"{WORD}":"{WORD}"}}'.encode()
    yield f'"{WORD}"'.encode()
    yield f"{WORD}, {DIGITS}".encode()
    yield from (malformed(defect, P, milestone("admitted", "bad"), f"{WORD}bad")
                for defect, (file, _) in DEFECTS.items() if file.endswith(".ndjson"))  # fmt: skip


def write(folder: Path, *, all_of_it: bool) -> Path:
    """Feeds, with a permit for the patient that most of it is about."""
    folder.mkdir()
    usual = list(resources())
    for n in range(6):  # enough milestones that certainly cross
        usual.append(feeds.resource(P, milestone("discharged", f"sure{n}"), 1))
    known = [permit(by_identifier(feeds.SYSTEM, P.mrn), f"{WORD}permit"), *usual]
    messages = list(hl7())
    if all_of_it:
        variant = [one for document in usual[:-6] for one in variants(document)]
        known += [moved(one, n) for n, one in enumerate(variant)] + list(events())
        (folder / "unknown.txt").write_text(f"{WORD} is in no format at all")
        (folder / "batch.json").write_text(json.dumps(list(events())[:5]))
        (folder / "document.json").write_text(json.dumps(usual[8], indent=1))
        (folder / "broken.json").write_text(json.dumps(usual[8], indent=1)[:-30])
    else:
        messages = messages[:30]
    (folder / "a.hl7").write_bytes(b"".join(messages))
    broken = broken_lines() if all_of_it else ()
    (folder / "b.ndjson").write_bytes(b"\n".join([*map(feeds.line, known), *broken]) + b"\n")
    return folder


def moved(document: Json, n: int) -> Json:
    """The document as one of its own, and a Consent as another patient's, so that the permit stays clear."""
    text = json.dumps(document).replace(f"{WORD}f", f"{WORD}v{n}f")
    if '"Consent"' in text:
        text = text.replace(P.mrn, f"{P.mrn}x")
    return dict(json.loads(text))


# --- what is left -------------------------------------------------------------------------------------------------


class Left(NamedTuple):
    """All that a run leaves: exit code, outputs, log, job graph (unpacked), options and metrics, stdout and stderr."""

    code: int
    output: Path
    log: list[str]
    graph: list[bytes]
    options: str
    said: str

    def clean(self) -> bool:
        assert not found_in(self.options)
        assert not found_in(self.said)
        assert not [line[:300] for line in self.log if found_in(line)]
        assert not [part[:300] for part in self.graph if found_in(part)]
        for path in sorted(self.output.parent.rglob("*")):
            if "feeds" in path.parts:
                continue
            assert not found_in(str(path.relative_to(self.output.parent)))
            if path.is_file():
                assert not found_in(path.read_bytes()), path
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                assert not found_in(repr(table.to_pylist()) + repr(table.schema) + repr(table.schema.metadata)), path
        return True


def unpacked(graph: bytes) -> list[bytes]:
    """The bytes of a job graph, and whatever in it is pickled: Beam writes a pickle as base64 of bz2."""
    parts = [graph]
    for found in re.findall(rb"[A-Za-z0-9+/]{60,}={0,2}", graph):
        for start in range(4):  # a length byte before it may look like base64 too
            try:
                parts.append(bz2.decompress(base64.b64decode(found[start : start + (len(found) - start) // 4 * 4])))
                break
            except (ValueError, OSError):
                continue
    return parts


Go = Callable[[Path], Left]


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Go:
    """Run the command over feeds, at DEBUG, and gather all that it leaves."""
    graphs: list[bytes] = []
    options: list[str] = []
    real = fn_runner.FnApiRunner.run_via_runner_api

    def watched(self: Any, proto: Any, given: Any) -> Any:
        graphs.extend(unpacked(proto.SerializeToString(deterministic=True)))
        options.append(repr(given.get_all_options()))
        result = real(self, proto, given)
        options.append(repr(result.metrics().query()))
        return result

    monkeypatch.setattr(fn_runner.FnApiRunner, "run_via_runner_api", watched)

    def run(inputs: Path) -> Left:
        output = tmp_path / "out"
        with debug_log() as log:
            try:
                said = command(capsys, monkeypatch, "run", "--input", inputs, "--output", output,
                               "--state", tmp_path / "state", "--as-of", AS_OF)  # fmt: skip
                code, text = said.code, said.out + said.err
            except Exception as error:  # what the interpreter would print  # noqa: BLE001
                caught: BaseException | None = error
                code, text = 1, "".join(capsys.readouterr())
                while caught is not None:
                    text += f"{caught!r}{caught.args}{getattr(caught, '__notes__', '')}"
                    caught = caught.__cause__ or caught.__context__
        return Left(code, output, log, graphs, "\n".join(options), text)

    return run


# --- the tests ----------------------------------------------------------------------------------------------------


def test_no_marked_value_leaves(go: Go, tmp_path: Path) -> None:
    left = go(write(tmp_path / "feeds", all_of_it=True))
    assert left.code == 0, left.said
    summary = json.loads((left.output / "summary.json").read_bytes())
    assert summary["routes"]["hcp-notification"]["released"] > 500, summary  # so that it does not pass by refusing
    assert summary["routes"]["patient-support"]["released"] > 0
    assert min(summary[name] for name in ("rejected", "review", "suppressed", "consent", "control", "unrouted")) > 0
    assert "defect" not in summary["reasons"]  # what is sent wrongly is no fault of ours
    assert len(left.log) > 100
    assert len(left.graph) > 20
    assert left.clean()


def test_the_canary_would_be_seen(tmp_path: Path) -> None:
    """The search itself, on each kind of thing that is searched."""
    for text in (WORD, f"x{WORD.upper()}", f"a{DIGITS}b", WORD.encode().hex(), WORD.encode("utf-16-le")):
        assert found_in(text)
    for n in range(4):
        assert found_in(base64.b64encode(b"x" * n + WORD.encode() + b"yz"))
    assert any(map(found_in, unpacked(b"\x12\xff" + base64.b64encode(bz2.compress(WORD.encode() * 9)) + b"\x00")))
    with debug_log() as log:
        logging.getLogger("apache_beam.anything").debug("it says %s", WORD)
        try:
            raise ValueError(WORD)
        except ValueError:
            logging.getLogger("other").exception("failed")
    assert [bool(found_in(line)) for line in log] == [True, True]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{WORD}.txt").write_text("")
    with pytest.raises(AssertionError):
        Left(0, tmp_path / "out", [], [], "", "").clean()


def test_a_file_may_be_named_after_a_patient(go: Go, tmp_path: Path) -> None:
    """Names of inputs stay out of outputs and log; the job graph must hold them, since a worker opens them."""
    feeds_ = write(tmp_path / "feeds", all_of_it=False)
    inner = feeds_ / f"{WORD}_family"
    inner.mkdir()
    for path in [path for path in feeds_.iterdir() if path.is_file()]:
        path.rename(inner / f"{WORD}{path.name}")
    left = go(feeds_)
    assert left.code == 0
    assert left._replace(graph=[]).clean()


def raising(text: Callable[..., str]) -> Callable[..., Any]:
    """A rule with a defect whose message quotes what it was given."""

    def rule(*arguments: Any, **_: Any) -> Any:
        raise ValueError(text(*arguments))

    return rule


def quoted(*arguments: Any) -> str:
    return f"{WORD} {arguments!r} {arguments[0]!r}"


@pytest.mark.swaps
@pytest.mark.parametrize(
    "rule",
    ["transforms.rules.hl7_events.read", "transforms.rules.fhir_events.read", "transforms.rules.fhir_consent.consent"],
)
def test_a_defect_in_reading_says_nothing(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """But that it may have been a refusal, where it was a consent."""
    monkeypatch.setattr(rule, raising(quoted))
    left = go(write(tmp_path / "feeds", all_of_it=False))
    assert left.code == 0, left.said
    reason = "consent_of_nobody" if rule.endswith("consent") else "defect"
    assert json.loads((left.output / "summary.json").read_bytes())["reasons"][reason] > 0
    assert any("defect in decode: ValueError" in line for line in left.log)  # the alarm rings
    assert left.clean()


def test_a_defect_in_a_timeline_says_nothing(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.timeline.advance", raising(quoted))
    left = go(write(tmp_path / "feeds", all_of_it=False))
    assert left.code == 0, left.said
    summary = json.loads((left.output / "summary.json").read_bytes())
    assert (summary["released"], summary["review"]) == (0, summary["pairs"])
    assert {item["reason"] for item in map(json.loads, lines(left.output, "review"))} == {"defect"}
    assert any("defect in timeline: ValueError" in line for line in left.log)
    assert left.clean()


def test_a_defect_of_one_patient_stops_nobody_else(go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transforms import timeline  # noqa: PLC0415

    real = timeline.advance

    def sometimes(known: Any, facts: Any, *rest: Any) -> Any:
        if any(fact.patient.endswith(P.mrn) for fact in facts):
            raise KeyError(P.mrn)
        return real(known, facts, *rest)

    monkeypatch.setattr(timeline, "advance", sometimes)
    left = go(write(tmp_path / "feeds", all_of_it=False))
    assert left.code == 0
    reasons = {record["reason"] for record in records(left.output)}
    assert {"defect", "cancellation"} <= reasons
    assert left.clean()


@pytest.mark.parametrize(
    "rule, text",
    [
        pytest.param("transforms.deidentify.compiled", lambda event, *_: event.visit, id="deidentify"),
        pytest.param("transforms.rules.records.Names.visit_record", lambda _, visit, __: visit, id="tokenize"),
        pytest.param("pipelines.vault.SqlVault.records", lambda *given: repr(given), id="vault"),
        pytest.param("transforms.audit.Records.table", lambda known, *_: repr(vars(known)), id="audit"),
        pytest.param("pipelines.run.counted", lambda *_: WORD, id="outside of the stages"),
    ],
)
def test_a_defect_elsewhere_stops_the_run_and_says_nothing(
    go: Go, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, text: Callable[..., str]
) -> None:
    """Each with a message that quotes what the rule was given."""
    defect = raising(text)
    monkeypatch.setattr(rule, (lambda *_: defect) if rule.endswith("compiled") else defect)
    left = go(write(tmp_path / "feeds", all_of_it=False))
    assert left.code == 1
    assert "ValueError" in left.said
    assert not any((left.output / kind).exists() for kind in ("crm", "manifest", "aggregates"))
    assert left.clean()
