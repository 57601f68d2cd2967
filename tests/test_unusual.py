"""Files as senders really make them: whatever lies in one, every message comes out, and nothing vanishes silently."""

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hospital_files import admission, decide

from pipelines.inputs import find
from pipelines.sources import read, spans
from schemas.policy import Policy
from transforms.decode import reader

AT = "20260520120000+0000"
A, B = (admission(name, f"v{name}", AT) for name in "12")
ENCOUNTER: dict[str, Any] = {
    "resourceType": "Encounter",
    "id": "e",
    "status": "finished",
    "subject": {"reference": "Patient/7"},
    "period": {"end": "2026-05-20T12:00:00Z"},
}
LINE = json.dumps(ENCOUNTER).encode()
PRETTY = json.dumps(ENCOUNTER, indent=2).encode()
BOM = b"\xef\xbb\xbf"


def event(data: Any = None, **more: Any) -> bytes:
    known = {"specversion": "1.0", "id": "1", "source": "urn:ehr", "type": "t", **more}
    return json.dumps(known | ({"data": data} if data is not None else {})).encode()


BUNDLE = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": ENCOUNTER}, {"resource": ENCOUNTER}]}
LINKED = [{"other": {"reference": f"urn:uuid:{n}"}} for n in (2, 3)]
CYCLE = {
    "resourceType": "Bundle",
    "entry": [
        {"fullUrl": "urn:uuid:1", "resource": {**ENCOUNTER, "subject": {"reference": "urn:uuid:2"}}},
        {"fullUrl": "urn:uuid:2", "resource": {"resourceType": "Patient", "id": "7", "link": LINKED}},
        {"fullUrl": "urn:uuid:3", "resource": {"resourceType": "Patient", "link": LINKED[:1]}},
    ],
}

M, BAD = "Milestone", "malformed"
UNUSUAL: list[tuple[str, bytes, list[str]]] = [
    ("a byte order mark before HL7", BOM + A, [M]),
    ("byte order marks before every message", BOM + A + BOM + B, [M, M]),
    ("a byte order mark before a document", BOM + PRETTY, [M]),
    ("byte order marks before every line", BOM + LINE + b"\n" + BOM + LINE, [M, M]),
    ("lines that end in CRLF", LINE + b"\r\n" + LINE + b"\r\n", [M, M]),
    ("lines that end in CR", LINE + b"\r" + LINE + b"\r", [BAD]),
    ("empty lines", b"\n\r\n" + LINE + b"\n\n \n", [M]),
    ("nothing but white space", b" \r\n\t\n", ["empty_file"]),
    ("nothing", b"", ["empty_file"]),
    ("zeros", b"\0" * 2000, ["unknown_format"]),
    ("HL7 in UTF-16", A.decode().encode("utf-16"), ["unknown_format"]),
    ("JSON in UTF-16", LINE.decode().encode("utf-16"), ["unknown_format"]),
    ("JSON in UTF-16 without a mark", LINE.decode().encode("utf-16-le"), [BAD]),
    ("HL7 in UTF-32", A.decode().encode("utf-32"), ["unknown_format"]),
    ("JSON text sequences", b"\x1e" + LINE + b"\n\x1e" + LINE + b"\n", ["unknown_format"]),
    ("blocks", b"\x0b" + A + b"\x1c\r\x0b" + B + b"\x1c\r", [M, M]),
    ("junk between blocks", b"\x0b" + A + b"\x1c\rERROR timeout\r\n\x0b" + B + b"\x1c\r", [M, BAD, M]),
    ("junk behind the last block", b"\x0b" + A + b"\x1c\rERROR\r\n", [M, BAD]),
    ("JSON between blocks", b"\x0b" + A + b"\x1c\r" + LINE + b"\r\n\x0b" + B + b"\x1c\r", [M, BAD, M]),
    ("segments between blocks", b"\x0b" + A + b"\x1c\rPID|1||9^^^GENERAL^MR\r\x0b" + B + b"\x1c\r", [M, BAD, M]),
    ("an empty block", b"\x0b" + A + b"\x1c\r\x0b\x1c\r\x0b" + B + b"\x1c\r", [M, M]),
    ("junk before the first message is no message", b"log\r\nPID of 1\r\n" + A, [M]),
    ("what has lost its MSH before the first message", b"log\r\nPID|1\r\n" + A, ["unknown_format", M]),
    ("a batch that holds nothing holds no message", b"FHS|^~\\&\rBHS|^~\\&\rBTS|0\rFTS|0\r", []),
    ("messages that a form feed divides", A + b"\x0c" + B, [M, M]),
    ("messages that nothing divides", A.rstrip(b"\r") + B, [BAD]),
    ("lines of JSON behind HL7", A + b"\n" + LINE + b"\n" + LINE + b"\n", [BAD]),
    ("lines of JSON between HL7", A + B + b"\n" + LINE + b"\n" + A, [M, BAD, M]),
    ("a document behind HL7", A + PRETTY + b"\n", [BAD]),
    ("HL7 behind lines of JSON", LINE + b"\n" + A.rstrip(b"\r") + b"\n" + LINE, [M, BAD, M]),
    ("HL7 behind a document", PRETTY + b"\n" + A, [BAD]),
    ("two documents", PRETTY + b"\n" + PRETTY, [BAD]),
    ("a line separator within a line", LINE[:-1] + ',"x":"\u2028"}\n'.encode() + LINE, [M, M]),
    ("HL7 in base64 in an event",
     event(datacontenttype="application/hl7-v2", data_base64=base64.b64encode(A).decode()), [M]),
    ("a block in base64 in an event",
     event(datacontenttype="application/hl7-v2", data_base64=base64.b64encode(b"\x0b" + A + b"\x1c\r").decode()), [M]),
    ("two messages in one event", event((A + B).decode(), datacontenttype="application/hl7-v2"), [BAD]),
    ("a Bundle in an event", event(BUNDLE), [M, M]),
    ("a Bundle in base64 in an event",
     event(data_base64=base64.b64encode(json.dumps(BUNDLE).encode()).decode()), [M, M]),
    ("a batch of events", b"[" + event(ENCOUNTER) + b",\n" + event(BUNDLE) + b"]", [M, M, M]),
    ("references in a circle", json.dumps(CYCLE).encode(), [M, "Identity", "Identity"]),
]  # fmt: skip


def said(path: Path, policy: Policy) -> list[str]:
    messages = [
        counted
        for piece in spans(find([str(path)]), 50)
        for block in read(piece)
        for message in block.messages
        for counted in reader(policy).read(block.form, message)
    ]
    return [str(one.reason or type(one.facts[0]).__name__) for one in messages]


@pytest.mark.parametrize("data, words", [pytest.param(*case, id=name) for name, *case in UNUSUAL])
def test_what_an_unusual_file_comes_to(tmp_path: Path, policy: Policy, data: bytes, words: list[str]) -> None:
    (tmp_path / "file").write_bytes(data)
    assert said(tmp_path / "file", policy) == words
    (tmp_path / "file").write_bytes(gzip.compress(data))
    assert said(tmp_path / "file", policy) == words, "in gzip"


def test_a_run_over_all_of_them_loses_nothing(tmp_path: Path, state: Path) -> None:
    (tmp_path / "feeds").mkdir()
    for place, (_, data, _) in enumerate(UNUSUAL):
        (tmp_path / "feeds" / str(place)).write_bytes(data)
    summary = decide([tmp_path / "feeds"], tmp_path / "out", state).summary
    words = [word for _, _, found in UNUSUAL for word in found]
    assert summary["received"] == len(words)
    assert summary["events_routed"] + summary["repeated"] == words.count(M)
    for reason in (BAD, "unknown_format", "empty_file"):
        assert summary["reasons"][reason] == words.count(reason)
    assert summary["rejected"] == sum(words.count(reason) for reason in (BAD, "unknown_format", "empty_file"))
