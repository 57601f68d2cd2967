"""Any byte sequence gives outcomes, never an exception: random bytes, JSON that is nearly FHIR, and mutated messages.

LIMEN_FUZZ=<n> sets how many messages each loop tries; Hypothesis, which takes its time, tries a fiftieth. What it once
found has become a case with a name at the end.
"""

import copy
import json
import os
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hospital_files import hl7_messages
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import sources
from pipelines.formats import recognise
from pipelines.inputs import find
from pipelines.simulated.simulate import simulate
from schemas.event import Consent, Identity, Mark, Milestone, Person, decode, encode
from schemas.message import Format, Message
from schemas.outcome import Reason
from schemas.policy import Policy
from transforms.decode import reader

TRIES = int(os.environ.get("LIMEN_FUZZ", "0"))
LOOP = TRIES or 4_000
few = settings(max_examples=max(TRIES // 50, 150))


def outcome(policy: Policy, form: Format, body: bytes) -> str:
    """Read a message and check what must hold whatever it is; a word for the first thing that it became."""
    found = reader(policy).read(form, Message(body, 0))
    assert found
    for one in found:
        assert one.reason is not Reason.DEFECT
        assert one.reason in (None, *Reason)
        if one.reason is None:
            several = Identity | Person | Milestone | Consent
            facts = [fact for fact in one.facts if not isinstance(fact, Mark)]
            assert sum(not isinstance(fact, several) or fact.counted for fact in facts) == 1
            assert decode(encode(one.facts)) == one.facts
        else:
            assert one.facts == []
    return str(found[0].reason or type(found[0].facts[0]).__name__)


# --- Bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", Format)
@few
@given(body=st.binary(max_size=400))
def test_bytes(policy: Policy, form: Format, body: bytes) -> None:
    outcome(policy, form, body)


@few
@given(lines=st.lists(st.binary(max_size=40) | st.sampled_from((b"PID|1||42^^^M^MR", b"EVN||20240501", b"MRG|7"))))
@pytest.mark.parametrize("trigger", [b"A01", b"A40", b"A08"])
def test_bytes_that_begin_as_hl7(policy: Policy, trigger: bytes, lines: list[bytes]) -> None:
    outcome(policy, Format.HL7, b"\r".join([b"MSH|^~\\&|A|B|||20240501||ADT^" + trigger, *lines]))


@few
@given(body=st.binary(max_size=300), whole=st.booleans())
def test_any_file_is_recognised(body: bytes, whole: bool) -> None:
    assert recognise(body, whole) is None or isinstance(recognise(body, whole), Format)


@settings(max_examples=max(TRIES // 50, 60))
@given(
    pieces=st.lists(
        st.binary(max_size=30)
        | st.sampled_from(
            (
                b"MSH|^~\\&|A\r",
                b"\n",
                b"\x0b",
                b"\x1c\r",
                b'{"a":1}\n',
                b"[",
                b"{",
                b"BHS|^~\\&\r",
                b"\x1f\x8b\x08",
                b"PK\x03\x04",
                b"PK\x05\x06" + bytes(18),
            )
        ),
        max_size=12,
    ),
    grid=st.integers(1, 64),
)
def test_any_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, policy: Policy, pieces: list[bytes], grid: int
) -> None:
    path = tmp_path_factory.mktemp("fuzz", numbered=True) / "file"
    path.write_bytes(b"".join(pieces))
    inputs, messages = find([str(path)]), 0
    for span in sources.spans(inputs, block_bytes=grid):
        for block in sources.read(span, limit=100, chunk=16):
            for message in block.messages:
                outcome(policy, block.form, message.body)
                messages += 1
    assert messages or inputs[0].form is Format.HL7, "every file is a message; a batch alone may hold none"


# --- JSON that is nearly FHIR ----------------------------------------------------------------------------------------

KEYS = (
    "actor class code coding contained created data data_base64 datacontenttype dateTime end entry fullUrl id "
    "identifier implicitRules individual lastUpdated link meta modifierExtension other participant patient "
    "period provision purpose reference resource resourceType role scope source specversion start status "
    "subject system type use value versionId"
).split()
WORDS = (
    "Appointment Bundle Consent Encounter EpisodeOfCare Group/1 Patient Patient/1 Patient?identifier=a|b #p "
    "urn:uuid:1 1.0 2024-05-01 9999-12-31 0001-01-01T00:00:00+14:00 active application/fhir+json application/hl7-v2 "
    "booked cancelled deny entered-in-error finished fulfilled history permit rejected MSH|^~\\& 1234567893 "
    "http://hl7.org/fhir/sid/us-npi"
).split()
TEXTS = st.sampled_from(WORDS) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=25,
)
TYPES = st.sampled_from(("Encounter", "Appointment", "EpisodeOfCare", "Patient", "Consent", "Bundle", None))


@few
@given(tree=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12), kind=TYPES, form=st.sampled_from(Format))
def test_json_that_is_nearly_fhir(policy: Policy, tree: dict[str, Any], kind: str | None, form: Format) -> None:
    typed = (
        {**tree, "resourceType": kind}
        if kind
        else {"specversion": "1.0", "id": "1", "source": "s", "type": "t", **tree}
    )
    outcome(policy, form, json.dumps(typed).encode("utf-8", "surrogatepass"))


# --- Mutated messages ------------------------------------------------------------------------------------------------

SPLICES = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"NaN", b"1e999", b"\x00", b"\xff", b"|", b"^", b"~",
    b"&", b"\r", b"\n", b"\x0b", b"\x1c\r", b"\\X0D\\", b"MSH|^~\\&|", b'"status":"finished",', b"\\ud800", b"\\u0022",
    b'""', b"9" * 400, b"Patient/", b"[" * 1000, b'{"a":' * 200, b"99991231", b"0001-01-01",
    b"||||8859/1~UNICODE UTF-8",
]  # fmt: skip


def mutated(chance: random.Random, body: bytes, others: list[bytes]) -> bytes:
    """Bits flipped, bytes lost, doubled, cut off, and pieces of other messages put in."""
    raw = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(raw) + 1)
        to = at + chance.randrange(60)
        other = chance.choice(others)
        start = chance.randrange(len(other))
        match chance.randrange(6):
            case 0 if at < len(raw):
                raw[at] ^= 1 << chance.randrange(8)
            case 1:
                del raw[at:to]
            case 2:
                raw[at:at] = raw[at:to]
            case 3 if chance.random() < 0.3:
                del raw[at:]
            case 4:
                raw[at : chance.choice((at, to))] = chance.choice(SPLICES)
            case _:
                raw[at:to] = other[start : start + chance.randrange(200)]
    return bytes(raw)


Bodies = tuple[list[bytes], list[bytes]]


@pytest.fixture(scope="module", params=["invented", "public"])
def bodies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bodies:
    """(HL7 messages, JSON texts), none of them long: of a simulated hospital, and of the corpus where there is one."""
    if request.param == "invented":
        feeds = simulate(100, 3, 1, tmp_path_factory.mktemp("fuzz") / "hospital").feeds
        files = [path.read_bytes() for path in sorted(feeds.rglob("*")) if path.is_file()]
        hl7 = [one for content in files for one in hl7_messages(content)]
        lines = [line for content in files for line in content.splitlines() if line.startswith(b"{")]
        return hl7, [line for line in lines if line.endswith(b"}")]  # one is cut off on purpose
    corpus: Path = request.getfixturevalue("corpus")
    cut = re.compile(rb"(?m)(?:^|(?<=[\r\n\xbf\x0b]))(?=MSH\W)")
    hl7 = [part for path in sorted(corpus.glob("hl7v2-*/**/*.hl7")) for part in cut.split(path.read_bytes())]
    lines = [line for path in sorted(corpus.glob("fhir-*/**/*.ndjson")) for line in path.read_bytes().splitlines()[:30]]
    texts = [
        path.read_bytes()
        for folder in ("fhir-*", "cloudevents-*")
        for path in sorted(corpus.glob(f"{folder}/**/*.json"))
    ]
    return [m for m in hl7 if m.startswith(b"MSH")], [t for t in (*lines, *texts) if 1 < len(t) < 40_000]


def test_mutated_messages(policy: Policy, bodies: Bodies) -> None:
    chance = random.Random(LOOP)
    hl7, texts = bodies
    seen: Counter[str] = Counter()
    for _ in range(LOOP):
        seen[outcome(policy, Format.HL7, mutated(chance, chance.choice(hl7), hl7))] += 1
        form = chance.choice((Format.JSON, Format.NDJSON))
        seen[outcome(policy, form, mutated(chance, chance.choice(texts), texts))] += 1
    assert {"Milestone", "Made", "Consent", "Identity", "malformed", "bad_encoding"} <= set(seen), (
        "the mutants are too broken"
    )


def places(tree: object) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    inner = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(tree, key) for key, _ in inner] + [place for _, value in inner for place in places(value)]


def test_mutated_trees(policy: Policy, bodies: Bodies) -> None:
    """Well-formed JSON with values in the wrong places, which the parser lets pass."""
    chance = random.Random(LOOP)
    texts = [text for text in bodies[1] if text.startswith(b"{") and len(text) < 6_000]
    values: list[object] = [
        None,
        True,
        0,
        10**30,
        1.5,
        "",
        [],
        {},
        [None],
        [[]],
        {"a": {}},
        "\x00",
        "\u202e",
        "a" * 3000,
        *WORDS,
    ]
    seen: Counter[str] = Counter()
    for _ in range(LOOP):
        tree, other = json.loads(chance.choice(texts)), json.loads(chance.choice(texts))
        for _ in range(chance.choice((1, 1, 2, 3))):
            container, key = chance.choice(places(tree) or [({}, "x")])
            source, name = chance.choice(places(other))
            container[key] = copy.deepcopy(chance.choice((chance.choice(values), source[name])))
            if isinstance(container, dict):
                container[chance.choice(KEYS)] = copy.deepcopy(chance.choice((chance.choice(values), source[name])))
        match chance.randrange(5):
            case 0:
                tree = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": tree}
            case 1:
                tree = {"resourceType": "Bundle", "type": "history", "entry": [{"resource": tree}, {"resource": other}]}
        seen[outcome(policy, Format.JSON, json.dumps(tree).encode())] += 1
    assert {"Milestone", "Made", "Consent", "malformed", "unknown_kind"} <= set(seen), "the mutants are too broken"


# --- What was found ---------------------------------------------------------------------------------------------------


def an_encounter(**fields: object) -> str:
    known = {"resourceType": "Encounter", "status": "finished", "subject": {"reference": "Patient/1"}}
    return json.dumps(known | fields)


BUNDLE = {"resourceType": "Bundle", "identifier": {"value": "1"}}
FOUND = [
    ("a link to a number", '{"resourceType":"Patient","id":"1","link":[{"other":5}]}', "malformed"),
    ("a list of types, as every Encounter has", an_encounter(type=[{"text": "x"}]), "Milestone"),
    ("an object for a source", '{"resourceType":"AuditEvent","source":{"site":"x"}}', "Made"),
    ("a contained Bundle, with its one identifier", an_encounter(contained=[BUNDLE]), "Milestone"),
    ("an end after the last year", an_encounter(period={"end": "9999-12-31T23:59:59-14:00"}), "Milestone"),
    ("an empty batch", "[]", "Made"),
]


@pytest.mark.parametrize("text, word", [pytest.param(*case, id=name) for name, *case in FOUND])
def test_what_was_found(policy: Policy, text: str, word: str) -> None:
    assert outcome(policy, Format.JSON, text.encode()) == word


ADMISSION, MERGE = b"MSH|^~\\&|||||||ADT^A01\rPID|||", b"MSH|^~\\&|||||||ADT^A40\r"
LARGE = [
    ("a line of 10 MB", Format.NDJSON, b'{"a":"' + b"x" * 10_000_000 + b'"}', "unknown_kind"),
    ("10,000 levels", Format.NDJSON, b'{"a":' * 10_000, "too_deep"),
    ("10 million fields", Format.HL7, b"MSH|^~\\&" + b"|" * 10_000_000, "no_type"),
    ("100,000 repetitions", Format.HL7, ADMISSION + b"~" * 100_000, "no_patient"),
    ("100,000 segments", Format.HL7, MERGE + b"MRG|\r" * 100_000, "no_patient"),
]


@pytest.mark.parametrize("form, body, word", [pytest.param(*case, id=name) for name, *case in LARGE])
def test_what_is_large(policy: Policy, form: Format, body: bytes, word: str) -> None:
    assert outcome(policy, form, body) == word
