"""The Decode stage: every message is counted once, what is rejected is sealed, and only facts cross."""

import json
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.event import AnyFact, Identity, Made, Mark, Person, decode
from schemas.instant import BEGINNING, from_fhir
from schemas.keyset import Keyset
from schemas.message import Block, Format, Message
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.seal import QUARANTINE_INFO, Quarantined, unseal
from transforms.decode import Decode, _Decode
from transforms.rules import hl7_events

PRIVATE = b"\x11" * 32
FILE = "f" * 64
SHARDS = 4
ADMISSION = "MSH|^~\\&|EPIC|SITE|||20240501120000||ADT^A01|M{n}|P|2.5.1\rPID|1||{n}^^^MAIN^MR||DOE^JANE\rPV1|1|I\r"
MERGE = ADMISSION.replace("ADT^A01", "ADT^A40") + "MRG|7^^^MAIN^MR\r"


class Keys:
    """A reference to a keyset whose quarantine key this test holds."""

    def open(self) -> Keyset:
        public = X25519PrivateKey.from_private_bytes(PRIVATE).public_key().public_bytes_raw()
        return Keyset(1, b"\x01" * 32, b"\x02" * 32, public, public)


class Came(NamedTuple):
    """What a block became: shards of facts, and what was counted."""

    shards: dict[bytes, list[AnyFact]]
    counts: dict[str, dict[str, object]]
    wires: bytes

    @property
    def facts(self) -> list[AnyFact]:
        return [fact for facts in self.shards.values() for fact in facts]

    @property
    def made(self) -> list[Made]:
        return [fact for fact in self.facts if isinstance(fact, Made)]


def hl7(*bodies: str | bytes, part: int = 0) -> Block:
    raw = [body if isinstance(body, bytes) else body.encode() for body in bodies]
    return Block(Format.HL7, FILE, [Message(body, 1000 * n) for n, body in enumerate(raw)], part)


def ndjson(*bodies: bytes, part: int = 1) -> Block:
    return Block(Format.NDJSON, FILE, [Message(body, 1000 * n) for n, body in enumerate(bodies)], part)


def decoded(policy: Policy, *blocks: Block) -> Came:
    """What the stage's DoFn makes of these blocks, without a runner."""
    stage = _Decode(policy, Keys(), SHARDS)
    stage.setup()
    out = [each for block in blocks for each in stage.process(block)]
    return came([o for o in out if isinstance(o, tuple)], [o.value for o in out if isinstance(o, TaggedOutput)])


def came(facts: list[tuple[bytes, bytes]], counts: list[tuple[str, bytes]]) -> Came:
    shards: dict[bytes, list[AnyFact]] = {}
    for shard, wire in facts:
        shards.setdefault(shard, []).extend(decode(wire))
    return Came(shards, {name: json.loads(text) for name, text in counts}, b"".join(wire for _, wire in facts))


def counted(facts: list[AnyFact]) -> int:
    several = [fact for fact in facts if not isinstance(fact, Mark)]
    return sum(not isinstance(fact, Identity | Person) or fact.counted for fact in several)


BLOCKS = [
    hl7(
        *(ADMISSION.format(n=n) for n in range(20)), MERGE.format(n=3), b"MSH|^~", b"MSH|^~", "MSH|^~\\&|||||||ORU^R01"
    ),
    ndjson(
        b'{"resourceType":"Observation"}',
        b"{",
        b'{"name":"DOE"}',
        b'{"resourceType":"Patient","id":"7","name":[{"family":"DOE"}]}',
    ),
    Block(Format.UNKNOWN, FILE, [Message(b"DOE JANE", 0)], 2),
    Block(Format.EMPTY, FILE, [Message(b"", 0)], 3),
    Block(Format.TOO_LARGE, FILE, [Message(b"", 7), Message(b"", 9)], 4),
    Block(
        Format.JSON, FILE, [Message(b'{"resourceType":"Bundle","entry":[{"resource":{}},{"resource":{}},{}]}', 0)], 5
    ),
]
RECEIVED = 24 + 4 + 1 + 1 + 2 + 3


def check(examine: Callable[[Came], None]) -> Callable[[list[tuple[str, Any]]], None]:
    """A matcher for the two outputs of the stage, gathered under one key."""

    def match(gathered: list[tuple[str, Any]]) -> None:
        examine(came(*([pair for tag, pair in gathered if tag == kind] for kind in ("facts", "counts"))))

    return match


def test_on_beam_every_message_comes_out_once(policy: Policy) -> None:
    def examine(out: Came) -> None:
        assert sum(int(str(one["received"])) for one in out.counts.values()) == counted(out.facts) == RECEIVED
        alone = decoded(policy, *BLOCKS)
        assert Counter(map(_but_the_seal, out.facts)) == Counter(map(_but_the_seal, alone.facts))
        assert out.counts == alone.counts
        assert set(out.shards) == set(alone.shards)

    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        blocks = pipeline | "Blocks" >> beam.Create(BLOCKS)
        out = blocks | "Decode" >> Decode(policy, Keys(), SHARDS)
        facts = out.facts | "Facts" >> beam.Map(lambda pair: ("facts", pair))
        counts = out.counts | "Counts" >> beam.Map(lambda pair: ("counts", pair))
        assert_that((facts, counts) | "Both" >> beam.Flatten(), check(examine))


def _but_the_seal(fact: AnyFact) -> tuple[object, ...]:
    """A sealed form is random: no two are equal."""
    return (fact.key, fact.patient, fact.type, getattr(fact, "reason", None))


def test_what_is_rejected_is_sealed_and_opens_with_the_private_key_alone(policy: Policy) -> None:
    out = decoded(policy, *BLOCKS)
    rejected = [fact for fact in out.made if fact.verdict is Verdict.REJECTED]
    opened = [Quarantined.decode(unseal(fact.sealed, PRIVATE, QUARANTINE_INFO)) for fact in rejected]
    assert Counter((one.position, one.reason, one.body) for one in opened) == {
        (21_000, "no_type", b"MSH|^~"): 1, (22_000, "no_type", b"MSH|^~"): 1,
        (1_000, "malformed", b"{"): 1, (2_000, "unknown_kind", b'{"name":"DOE"}'): 1,
        (0, "unknown_format", b"DOE JANE"): 1, (0, "empty_file", b""): 1,
        (7, "too_large", b""): 1, (9, "too_large", b""): 1, (0, "unknown_kind", b"{}"): 2,
    }  # fmt: skip
    assert {one.file for one in opened} == {FILE}
    assert [fact.reason for fact in rejected] == [one.reason for one in opened]
    assert all((fact.type, fact.patient) == ("", "") for fact in rejected)
    assert not any(fact.sealed for fact in out.made if fact.verdict is not Verdict.REJECTED)


def test_nothing_of_a_message_is_in_its_facts(policy: Policy) -> None:
    facts = decoded(policy, *BLOCKS).facts
    values = [value for fact in facts for value in msgspec.structs.astuple(fact)]
    said = " ".join(str(value) for value in values if not isinstance(value, bytes))
    assert "MAIN\x1f3" in said, "the patient key is"
    assert not [text for text in ("DOE", "JANE", "EPIC", "SITE", "MSH", '{"', "Observation.") if text in said]
    for fact in facts:
        hashes = [value for value in msgspec.structs.astuple(fact) if isinstance(value, bytes) and value]
        if not isinstance(fact, Made):
            assert [len(one) for one in hashes] == ([16] if isinstance(fact, Identity | Person) else [16, 16])
        else:
            assert len(hashes) == (2 if fact.verdict is Verdict.REJECTED else 1)


def test_equal_bytes_share_one_name_that_cannot_be_guessed(policy: Policy) -> None:
    out = decoded(policy, BLOCKS[0], ndjson(b"MSH|^~", b'{"resourceType":"Observation"}'))
    names = [fact.key for fact in out.made if fact.reason in (Reason.NO_TYPE, Reason.MALFORMED)]
    assert len(names) == 3
    assert len(set(names)) == 1
    assert all(len(fact.key) == 16 for fact in out.made)

    class OtherKeys(Keys):
        def open(self) -> Keyset:
            return Keyset(1, b"\x09" * 32, *[b"\x02" * 32] * 3)

    stage = _Decode(policy, OtherKeys(), SHARDS)
    stage.setup()
    elsewhere = [each for each in stage.process(BLOCKS[0]) if isinstance(each, tuple)]
    assert not set(names) & {fact.key for fact in came(elsewhere, []).facts}


def test_what_is_counted(policy: Policy) -> None:
    counts = decoded(policy, *BLOCKS).counts
    assert sorted(counts) == [
        "decode-0-hl7-0", "decode-1-ndjson-0", "decode-2-unknown-0", "decode-3-empty-0", "decode-4-too_large-7",
        "decode-5-json-0",
    ]  # fmt: skip
    noon = from_fhir("2024-05-01T12:00:00Z")
    assert noon is not None
    assert counts["decode-0-hl7-0"] == {
        "received": 24, "newest": noon.time, "types": {"rejected ": 2, "unrouted ORU^R01": 1},
    }  # fmt: skip
    assert counts["decode-1-ndjson-0"] == {
        "received": 4, "newest": BEGINNING,
        "types": {"unrouted Observation": 1, "rejected ": 2},
    }  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r\r"])
def test_framing_changes_no_fact(policy: Policy, end: str) -> None:
    bodies = [ADMISSION.format(n=1), MERGE.format(n=2)]
    plain = set(decoded(policy, hl7(*bodies)).facts)
    assert len(plain) == 3
    assert set(decoded(policy, hl7(*(body.replace("\r", end) for body in bodies))).facts) == plain
    assert set(decoded(policy, hl7(*(f"\x0b{body}\x1c\r" for body in bodies))).facts) == plain


def test_a_patient_has_one_shard_whatever_the_block_and_the_format(policy: Policy) -> None:
    subject = b'{"identifier":{"system":"urn:id:MAIN","value":"%d"}}'
    line = b'{"resourceType":"Encounter","status":"finished","subject":' + subject + b"}"
    mixed = [hl7(*(ADMISSION.format(n=n) for n in range(40))), ndjson(*(line % n for n in range(40)))]
    places: dict[str, set[bytes]] = {}
    for out in (decoded(policy, *mixed), decoded(policy, *(hl7(ADMISSION.format(n=n)) for n in range(40)))):
        for shard, facts in out.shards.items():
            for fact in facts:
                places.setdefault(fact.patient, set()).add(shard)
    assert len(places) == 40
    assert all(len(shards) == 1 for shards in places.values())
    assert set.union(*places.values()) == {n.to_bytes(4, "big") for n in range(SHARDS)}


def test_a_defect_of_ours_seals_the_message_and_names_no_value(
    policy: Policy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> list[AnyFact]:
        raise ValueError("SECRET")

    monkeypatch.setattr(hl7_events, "read", broken)
    body = ADMISSION.format(n=1)
    carried = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "datacontenttype": "application/hl7-v2"}
    with caplog.at_level(logging.DEBUG):
        out = decoded(policy, hl7(body), ndjson(json.dumps({**carried, "data": body}).encode(), b"{}"))
    assert sorted(fact.reason for fact in out.made) == [Reason.DEFECT, Reason.DEFECT, Reason.UNKNOWN_KIND]
    sealed = [Quarantined.decode(unseal(fact.sealed, PRIVATE, QUARANTINE_INFO)).body for fact in out.made]
    assert body.encode() in sealed
    assert [record.getMessage() for record in caplog.records] == ["defect in decode: ValueError"] * 2
    assert all(record.exc_info is None for record in caplog.records)
    assert "SECRET" not in caplog.text
