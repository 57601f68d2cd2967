"""The HL7 v2 reader against python-hl7, on real messages that nobody of this project wrote.

They differ in nothing once python-hl7 is given CR alone as segment terminator, but for the messages that are refused:
their MSH-2 says a delimiter twice (python-hl7 splits them all the same, into other values than the sender meant).
"""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hl7  # type: ignore[import-untyped]
import pytest

from schemas.errors import MessageError
from schemas.outcome import Reason
from transforms.rules.hl7 import NULL, Segment, read

CORPUS = os.environ.get("LIMEN_CORPUS")
pytestmark = pytest.mark.skipif(CORPUS is None, reason="LIMEN_CORPUS is not set")
NAMES = ("MSH", "EVN", "PID", "PV1", "MRG", "SCH")


def bodies() -> Iterator[bytes]:
    """Every message of the corpus, cut as a source cuts: from MSH to the next."""
    for path in sorted(Path(CORPUS or "").glob("hl7v2-*/**/*.hl7")):
        for body in re.split(rb"(?m)(?:^|(?<=[\r\n\xbf\x0b]))(?=MSH\W)", path.read_bytes()):
            if body.startswith(b"MSH"):
                yield body


def nested(field: object) -> list[list[list[str]]]:
    """Repetitions, components and subcomponents of a field of python-hl7, which does not nest what is not divided."""
    if isinstance(field, str):
        return [[[field]]]
    repetitions = [[one] if isinstance(one, str) else list(one) for one in field]  # type: ignore[attr-defined]
    return [[[part] if isinstance(part, str) else [str(p) for p in part] for part in one] for one in repetitions]


def agree(ours: Segment, theirs: hl7.Segment, whole: hl7.Message) -> int:
    """Assert that two readings of one segment are equal, and count the values compared."""
    compared = 0
    for n in range(len(theirs)):
        assert ours.field(n) == str(theirs[n])
        if ours.field(0) == "MSH" and n in (1, 2):
            continue
        expected = nested(theirs[n])
        if str(theirs[n]) in ("", NULL):
            assert ours.repeats(n) == []
            continue
        repeats = ours.repeats(n)
        assert len(repeats) == len(expected)
        for repetition, components in zip(repeats, expected, strict=True):
            for c, parts in enumerate(components, 1):
                values = ["" if part == NULL else whole.unescape(part) for part in parts]
                assert [repetition.value(c, s) for s in range(1, len(parts) + 2)] == [*values, ""]
                compared += len(parts)
            assert repetition.value(len(components) + 1) == ""
        assert ours.value(n) == repeats[0].value()
    assert ours.field(len(theirs)) == ""
    return compared


def test_python_hl7_reads_the_same() -> None:
    logging.getLogger("hl7").disabled = True
    refused: Counter[tuple[Reason, bytes]] = Counter()
    messages = segments = values = 0
    for body in bodies():
        try:
            msg = read(body, "UTF-8")
        except MessageError as error:
            refused[error.reason, body.split(b"|")[1]] += 1
            continue
        whole = hl7.parse(re.sub(r"[\r\n]+", "\r", body.decode(msg.charset)))
        theirs = [segment for name in NAMES for segment in whole if str(segment[0]) == name]
        ours = [segment for name in NAMES for segment in msg.every(name)]
        assert [s.field(0) for s in ours] == [str(s[0]) for s in theirs]
        values += sum(agree(s, t, whole) for s, t in zip(ours, theirs, strict=True))
        segments += len(ours)
        messages += 1
    assert set(refused) == {(Reason.BAD_DELIMITERS, rb"^~\\&"), (Reason.BAD_DELIMITERS, b"&&&&")}
    assert (messages > 300, segments > 800, values > 20_000, sum(refused.values()) < 20) == (True,) * 4
