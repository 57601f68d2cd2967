"""`limen feed check`: right counts, drift that is reported, and nothing of a patient in table, JSON or profile."""

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hospital_files import Said, admission, by_identifier, command, ndjson, permit
from test_canary import found_in
from test_canary import write as canaries

from pipelines import feed_record, feed_shape
from pipelines.feed_check import Feed, check
from pipelines.simulated import feeds
from pipelines.simulated.simulate import simulate
from schemas import feed_profile
from schemas.errors import ConfigurationError
from schemas.event import Kind, Says
from schemas.feed_profile import Change, FeedProfile, Shape, drift
from schemas.policy import Policy
from transforms.rules.vocabulary import MESSAGE_CODES, RESOURCE_TYPES

AT = "20260301120000+0000"
Json = dict[str, Any]
Limen = Callable[..., Said]


@pytest.fixture
def limen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Limen:
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: command(capsys, monkeypatch, "feed", "check", *arguments)


@pytest.fixture
def held(tmp_path: Path, policy: Policy) -> Callable[..., Feed]:
    """Check a feed of these HL7 messages and JSON documents."""

    def of(*messages: bytes | Json, recorded: FeedProfile | None = None) -> Feed:
        (tmp_path / "feed").mkdir(exist_ok=True)
        (tmp_path / "feed/a.hl7").write_bytes(b"".join(one for one in messages if isinstance(one, bytes)) or b"\n")
        ndjson(tmp_path / "feed/b.ndjson", [one for one in messages if isinstance(one, dict)] or [{}])
        return check([str(tmp_path / "feed")], policy, recorded)

    return of


def admissions(number: int, *segments: str, patients: int = 100) -> list[bytes]:
    extra = feeds.hl7(*segments)
    return [admission(f"M{n % patients}", f"V{n}", AT) + extra for n in range(number)]


def encounter(n: int, **changes: Any) -> Json:
    return {
        "resourceType": "Encounter",
        "id": f"e{n}",
        "status": "finished",
        "subject": {"reference": f"Patient/{n}"},
        "period": {"end": "2026-03-01T12:00:00Z"},
        **changes,
    }


# --- counts -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital")
    simulate(150, 3, 1, folder / "hospital")
    return folder / "hospital"


def test_counts_are_those_of_the_truth(hospital: Path, policy: Policy) -> None:
    """Copies are counted like the first: what is repeated is found out by the run."""
    truth = json.loads((hospital / "truth.json").read_bytes())["counts"]
    feed = check([str(hospital / "feeds")], policy)
    became = feed.outcomes
    assert feed.received == truth["received"]
    assert became["rejected"] == feed.rejected.total() == truth["rejected"] > 0
    assert became["unrouted"] == truth["unrouted"] > 0
    assert became["control"] + became["identity"] == truth["control"]
    told = truth["events_routed"] + truth["consent"] + truth["repeated"]
    assert became["milestone"] + became["consent"] == told
    assert sum(one.stated + one.cancelled for one in feed.milestones.values()) == became["milestone"]
    assert sum(one.consents for one in feed.consents.values()) == became["consent"]
    assert set(feed.versions) == {"2.5.1"} and set(feed.charsets) == {"UNICODE UTF-8"}
    assert feed.carried.total() == feed.received
    assert feed.carried["cloudevents"] > 0
    assert feed.senders == 2
    assert set(feed.milestones) == set(Kind) - {Kind.REFILL_GAP}  # which falls due without a message


def test_types_by_outcome_and_reasons(held: Callable[..., Feed]) -> None:
    nobody = admission("", "V", AT)
    lab = feeds.hl7(rf"MSH|^~\&|EPIC|GENERAL|||{AT}||ORU^R01|1|T|2.3", "PID|1||M1^^^GENERAL^MR")
    feed = held(*admissions(2), nobody, lab, encounter(1), encounter(2, status="planned"), {"resourceType": "Smith"})
    assert dict(feed.types) == {
        ("ADT^A01", "milestone"): 2,
        ("ADT^A01", "rejected"): 1,
        ("ORU^R01", "unrouted"): 1,
        ("Encounter", "milestone"): 1,
        ("Encounter", "unrouted"): 1,
        ("unreadable", "rejected"): 1,
    }
    assert dict(feed.rejected) == {"no_patient": 1, "unknown_kind": 1}
    assert dict(feed.versions) == {"2.5.1": 3, "2.3": 1}
    assert dict(feed.charsets) == {"none": 4}


def with_pid_3(value: str) -> bytes:
    return admission("M1", "V1", AT).replace(b"M1^^^GENERAL^MR", value.encode())


@pytest.mark.parametrize(
    "message, found",
    [
        pytest.param(with_pid_3("M1^^^GENERAL^MR"), {"MR": 1}, id="record number"),
        pytest.param(with_pid_3("123456789^^^SSA^SS~M1^^^GENERAL^PI"), {"PI": 1}, id="after one that is never used"),
        pytest.param(with_pid_3("M1"), {"untyped": 1}, id="untyped"),
        pytest.param(with_pid_3("123456789^^^SSA^SS"), {}, id="social security number alone"),
        pytest.param(with_pid_3(""), {}, id="none"),
        pytest.param(encounter(1), {"reference": 1}, id="reference"),
        pytest.param(encounter(1, subject=by_identifier("urn:id:A", "7")), {"untyped": 1}, id="identifier"),
        pytest.param(encounter(1, subject={"reference": "Patient?identifier=urn:id:A|7"}), {"resolved": 1}, id="query"),
        pytest.param(
            encounter(1, subject={"reference": "#p"}, contained=[
                {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:id:A", "value": "7"}]}]),
            {"resolved": 1}, id="contained",
        ),
        pytest.param(encounter(1, subject={"reference": "Group/1"}), {}, id="a group"),
    ],
)  # fmt: skip
def test_how_the_patient_is_found(held: Callable[..., Feed], message: bytes | Json, found: dict[str, int]) -> None:
    others = {"unknown_kind": 1} if isinstance(message, bytes) else {"empty_file": 1}
    feed = held(message)
    assert dict(feed.found_by) == found
    assert feed.routable == 1
    assert dict(feed.rejected) in ({**others}, {**others, "no_patient": 1}, {"no_patient": 1}, {})


def test_coverage_of_milestones(held: Callable[..., Feed]) -> None:
    whole = admission("M1", "V1", AT)
    dated = admission("M2", "", "20260301")
    timeless = admission("M3", "V3", "2026")
    seen = admission("M4", "V4", AT).replace(b"PV1|1|I|||||", b"PV1|1|I|||||1245319599^Doe^^^^^^^NPI")
    cancelled = admission("M5", "V5", AT, kind="ADT^A11")
    [admitted] = held(whole, dated, timeless, seen, cancelled).milestones.values()
    assert vars(admitted) == {
        "stated": 4, "cancelled": 1, "time": 4, "time_of_day": 3, "visit": 4, "npi": 1,
    }  # fmt: skip


def test_consents_by_what_they_say(held: Callable[..., Feed]) -> None:
    mine = {"reference": "Patient/1"}
    denied = permit(mine, "c2")
    denied["provision"] = {"type": "deny"}
    nobody = permit(mine, "c3")
    del nobody["provision"]["actor"]
    unclear = permit(mine, "c4", provision={"type": "permit", "provision": [{"type": "deny"}]})
    said = held(permit(mine), denied, nobody, unclear).consents
    assert {says: vars(one) for says, one in said.items()} == {
        Says.PERMIT: {"consents": 2, "purpose": 2, "recipient": 1},
        Says.DENY: {"consents": 1, "purpose": 0, "recipient": 0},
        Says.UNCLEAR: {"consents": 1, "purpose": 0, "recipient": 0},
    }


def test_words_about_a_message_are_of_closed_lists(held: Callable[..., Feed]) -> None:
    odd = admission("M1", "V1", AT).replace(b"|2.5.1", b"|Smith|||||Jones").replace(b"ADT^A01", b"ADT^DOE")
    feed = held(odd)
    assert "Smith" not in str(vars(feed)) and "Jones" not in str(vars(feed)) and "DOE" not in str(vars(feed))
    coded = admission("M1", "V1", AT).replace(b"|2.5.1", b"|Smith||||||ASCII")
    assert dict(held(coded).versions) == {"other": 1}


# --- names that may be a patient's -----------------------------------------------------------------------------------


def named(feed: Feed) -> set[str]:
    """All names of the profile but those of fields."""
    shapes = feed.profile.types.values()
    return {name for s in shapes for some in (s.segments, s.elements, s.extensions, s.code_systems) for name in some}


URL = "https://ehr.example/fhir/StructureDefinition/doe-jane"
SYSTEM = "https://doe.example/jane"
LOCAL = {
    "segment": ("ZJD", lambda n: admission(f"M{n}", f"V{n}", AT) + feeds.hl7("ZJD|1|x")),
    "segment of no Z": ("DOE", lambda n: admission(f"M{n}", f"V{n}", AT) + feeds.hl7("DOE|1|x")),
    "element": ("doeJane", lambda n: encounter(n, doeJane="x")),
    "extended element": ("doeJane", lambda n: encounter(n, _doeJane={"id": "x"})),
    "extension": (URL, lambda n: encounter(n, extension=[{"url": URL, "valueBoolean": True}])),
    "extension deep": (URL, lambda n: encounter(n, period={"end": "2026-03-01", "extension": [{"url": URL}]})),
    "code system": (SYSTEM, lambda n: encounter(n, type=[feeds.coded(SYSTEM, "x")])),
    "in an unrouted one": ("doeJane", lambda n: encounter(n, doeJane="x") | {"resourceType": "Observation"}),
}


@pytest.mark.parametrize("name, message", LOCAL.values(), ids=LOCAL)
def test_a_name_is_written_down_only_with_enough_patients(
    held: Callable[..., Feed], name: str, message: Callable[[int], bytes | Json]
) -> None:
    few = held(*(message(n) for n in range(feed_shape.FEW - 1)), *(message(0) for _ in range(20)))
    assert name not in named(few) and name not in json.dumps(few.as_json())
    assert "other" in named(few)
    enough = held(*(message(n) for n in range(feed_shape.FEW)))
    assert name in named(enough) and "other" not in named(enough)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(lambda n: admission(f"M{n}", f"V{n}", AT) + feeds.hl7("Zjd|1|Jane"), id="small letters"),
        pytest.param(lambda n: encounter(n, **{"jane doe": 1}), id="element with a space"),
        pytest.param(lambda n: encounter(n, **{"jane" * 11: 1}), id="element too long"),
        pytest.param(lambda n: encounter(n, extension=[{"url": "https://e.x/jane"}]), id="extension of no form"),
        pytest.param(lambda n: encounter(n, extension=[{"url": f"{URL}?q=jane"}]), id="extension with a query"),
        pytest.param(lambda n: encounter(n, extension=[{"url": f"{URL} jane"}]), id="extension with a space"),
        pytest.param(lambda n: encounter(n, type=[feeds.coded("urn:jane:doe", "x")]), id="code system of another form"),
        pytest.param(lambda n: encounter(n, type=[feeds.coded("https://jane@e.x/", "x")]), id="with a user"),
    ],
)
def test_a_name_of_another_form_never_is(held: Callable[..., Feed], message: Callable[[int], bytes | Json]) -> None:
    feed = held(*(message(n) for n in range(50)))
    assert "jane" not in json.dumps(feed.as_json()).lower()
    assert "other" in named(feed)


def test_messages_of_nobody_do_not_count(held: Callable[..., Feed]) -> None:
    orphans = [{"resourceType": "Location", "id": f"l{n}", "doeJane": "x"} for n in range(50)]
    assert "doeJane" not in named(held(*orphans))


def test_what_is_watched_is_bounded(held: Callable[..., Feed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_shape, "MOST", 7)
    many = [encounter(n, **dict.fromkeys(("a", "b", "c", "d", "e"), 1)) for n in range(10)]
    assert {"a", "e"} <= named(held(*many))
    feed = held(*(encounter(n, **{"x" * (n + 1): 1}) for n in range(7)), *many)
    assert not named(feed) & {"a", "b", "c", "d", "e"}
    assert feed.profile.types["Encounter"].elements["other"] == 1.0
    assert not named(held(*many, *(encounter(n, **dict.fromkeys(("f", "g", "h"), 1)) for n in range(10)))) >= {
        "f",
        "g",
        "h",
    }


# --- nothing of a patient ---------------------------------------------------------------------------------------------


def everything(limen: Limen, folder: Path, *inputs: Path) -> str:
    """All that the command says and writes: table, JSON, profile, drift against another feed's profile."""
    other, texts = folder / "other.json", []
    other.write_bytes(feed_profile.encode(a_profile(10, segments={"MSH": 1.0, "ZZZ": 1.0})))
    compared = ("--profile", other)
    for flags in (("--record", folder / "profile.json"), ("--json",), compared, (*compared, "--json")):
        said = limen(*inputs, *flags)
        assert said.code == 0, said
        texts += [said.out, said.err]
    return "\n".join([*texts, (folder / "profile.json").read_text()])


def test_no_canary_is_said(limen: Limen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marked values in every field of every kind of message, well-formed and not. All of them carry one and the same
    marked element, so that its name would be nobody's; whose names are written down is tested above."""
    monkeypatch.setattr(feed_shape, "FEW", 25)
    text = everything(limen, tmp_path, canaries(tmp_path / "feeds", all_of_it=True))
    assert not found_in(text)
    assert "rejected" in text and "drift:" in text


def test_no_identifier_of_the_hospital_is_said(limen: Limen, hospital: Path, tmp_path: Path) -> None:
    text = everything(limen, tmp_path, hospital / "feeds")
    identifiers = json.loads((hospital / "truth.json").read_bytes())["identifiers"]
    assert len(identifiers) > 1000
    assert [one for one in identifiers if one in text] == []


def of_patients(files: list[Path]) -> Iterator[str]:
    """Values of PID, NK1 and GT1 segments, and of Patient resources."""
    for path in files:
        text = path.read_bytes().decode("latin-1")
        for line in re.findall(r"(?:^|[\r\n])(?:PID|NK1|GT1)\|([^\r\n]*)", text):
            yield from (part.strip() for part in re.split(r"[|^~&]", line))
        if path.suffix in (".json", ".ndjson"):
            for part in text.splitlines() if path.suffix == ".ndjson" else [text]:
                try:
                    yield from _demographics(json.loads(part))
                except ValueError:
                    continue


def _demographics(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict) and tree.get("resourceType") == "Patient":
        for name in ("name", "address", "telecom", "identifier", "birthDate", "id", "text"):
            yield from re.findall(r'"(?:family|text|line|city|value|div|birthDate|id)": *\[? *"([^"]+)"',
                                  json.dumps({name: tree.get(name)}))  # fmt: skip
    for inner in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _demographics(inner)


def test_nothing_of_the_corpus_is_said(limen: Limen, corpus: Path, tmp_path: Path) -> None:
    folders = sorted(path for pattern in ("hl7v2-*", "fhir-*") for path in corpus.glob(pattern))
    values = of_patients([path for folder in folders for path in folder.rglob("*") if path.is_file()])
    sought = {value for value in values if len(value) >= 5 and re.search(r"\w", value)}
    assert len(sought) > 1000
    text = everything(limen, tmp_path, *folders)
    assert '"defect"' not in text
    said = {value for value in sought if value in text}
    words = {"2.5.1", "Patient", "patient", "human", "mother", "2.16.840.1.113883.6.238"}  # a version, names of types
    assert said <= words, said


def test_the_profile_holds_no_free_text(hospital: Path, policy: Policy) -> None:
    profile = json.loads(feed_profile.encode(check([str(hospital / "feeds")], policy).profile))
    assert sorted(profile) == ["messages", "profile", "types"]
    known = RESOURCE_TYPES | MESSAGE_CODES | {"other"}
    for kind, shape in profile["types"].items():
        assert kind.split("^")[0] in known
        for facet, shares in shape.items():
            pattern = {
                "segments": feed_profile.SEGMENT,
                "fields": r"(MSH|EVN|PID|MRG|PV1|PV2|DG1|SCH|CON|ARV)-\d\d?",
                "elements": feed_profile.ELEMENT,
                "code_systems": r"http://(loinc\.org|terminology\.hl7\.org/CodeSystem/[a-z0-9-]+)|other"
                r"|http://(www\.nlm\.nih\.gov/research/umls/rxnorm|unitsofmeasure\.org)",
            }.get(facet, "")
            assert facet == "messages" or all(re.fullmatch(pattern, name, re.IGNORECASE) for name in shares)
            assert facet == "messages" or all(type(share) is float and 0 <= share <= 1 for share in shares.values())


# --- drift ------------------------------------------------------------------------------------------------------------


def a_profile(messages: int = 100, **facets: dict[str, float]) -> FeedProfile:
    return FeedProfile(1, messages, {"ADT^A01": Shape(messages, **facets)})


@pytest.mark.parametrize(
    "facet, before, now, change",
    [
        pytest.param("segments", {}, {"ZPD": 0.01}, Change.NEW, id="new segment, however rare"),
        pytest.param("elements", {}, {"newElement": 0.2}, Change.NEW, id="new element"),
        pytest.param("extensions", {}, {URL: 0.2}, Change.NEW, id="new extension"),
        pytest.param("code_systems", {}, {"urn:oid:2.16.840": 0.2}, Change.NEW, id="new code system"),
        pytest.param("code_systems", {}, {"other": 0.2}, Change.NEW, id="new names that are not shown"),
        pytest.param("fields", {"PID-7": 0.98}, {}, Change.MISSING, id="field suddenly empty"),
        pytest.param("fields", {"PID-7": 0.5}, {"PID-7": 0.04}, Change.MISSING, id="nearly empty"),
        pytest.param("fields", {"PID-7": 0.49}, {}, None, id="had not been in half of them"),
        pytest.param("fields", {"PID-7": 0.98}, {"PID-7": 0.05}, None, id="still in one of twenty"),
        pytest.param("fields", {}, {"PID-7": 0.5}, Change.PRESENT, id="field suddenly filled"),
        pytest.param("fields", {"PID-7": 0.04}, {"PID-7": 0.9}, Change.PRESENT, id="had been rare"),
        pytest.param("fields", {}, {"PID-7": 0.49}, None, id="not yet in half of them"),
        pytest.param("fields", {"PID-7": 0.05}, {"PID-7": 0.9}, None, id="had not been rare"),
        pytest.param("segments", {"ZPD": 0.0}, {"ZPD": 0.4}, None, id="seen before"),
        pytest.param("segments", {"PV2": 0.9}, {}, Change.MISSING, id="segment gone"),
        pytest.param("elements", {"period": 0.9}, {"period": 0.9}, None, id="nothing changed"),
    ],
)
def test_drift(facet: str, before: dict[str, float], now: dict[str, float], change: Change | None) -> None:
    found = drift(a_profile(**{facet: before}), a_profile(**{facet: now}))
    [name] = before.keys() | now.keys()
    expected = [] if change is None else [(facet, name, change, before.get(name, 0.0), now.get(name, 0.0))]
    facets = {what: plural for plural, what in feed_profile.FACETS.items()}
    assert [(facets[one.what], one.name, one.change, one.before, one.now) for one in found] == expected


def test_a_handful_of_messages_is_no_drift() -> None:
    few, many = a_profile(4, fields={"PID-7": 1.0}), a_profile(100, fields={"PV1-2": 1.0}, segments={"ZPD": 1.0})
    assert drift(few, many) == []
    assert [one.change for one in drift(many, few)] == []


def test_types_that_come_and_go() -> None:
    two = FeedProfile(1, 100, {"ADT^A01": Shape(90), "SIU^S12": Shape(10)})
    assert [(one.type, one.change) for one in drift(two, a_profile(49))] == []
    assert [(one.type, one.change) for one in drift(two, a_profile(50))] == [("SIU^S12", Change.MISSING)]
    assert [(one.type, one.change) for one in drift(a_profile(), two)] == [("SIU^S12", Change.NEW)]
    assert drift(two, two) == [] == drift(FeedProfile(1, 0, {}), FeedProfile(1, 0, {}))


def test_drift_of_feeds(held: Callable[..., Feed]) -> None:
    """An interface engine's upgrade: a new segment, and no record number any more, so that all is rejected."""
    before = held(*admissions(20)).profile
    broken = [message.replace(b"^^^GENERAL^MR", b"^^^GENERAL^SS") for message in admissions(20, "ZPD|1")]
    assert [one.name for one in held(*broken, recorded=before).drift or ()] == ["ZPD"]
    empty = [re.sub(rb"M\d+\^\^\^GENERAL\^MR", b"", message) for message in admissions(20)]
    feed = held(*empty, recorded=before)
    assert feed.rejected["no_patient"] == 20
    assert [(one.what, one.name, one.change) for one in feed.drift or ()] == [("field", "PID-3", Change.MISSING)]
    null = [re.sub(rb"PV1\|1\|I", b'PV1|1|""', message) for message in admissions(20)]
    assert [one.name for one in held(*null, recorded=before).drift or ()] == ["PV1-2"]


def test_what_is_recorded_is_not_missed_in_a_short_feed(held: Callable[..., Feed]) -> None:
    before = held(*admissions(20, "ZPD|1")).profile
    assert before.types["ADT^A01"].segments["ZPD"] == 1.0
    assert held(*admissions(8, "ZPD|1", patients=2), recorded=before).drift == []
    assert [one.name for one in held(*admissions(8, patients=2), recorded=before).drift or ()] == ["ZPD"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_record_and_compare(limen: Limen, hospital: Path, tmp_path: Path) -> None:
    feed, file = hospital / "feeds/siu.hl7", tmp_path / "profile.json"
    assert f"profile written to {file}" in limen(feed, "--record", file).out
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    first = file.read_bytes()
    same = limen(feed, "--profile", file, "--record", file)
    assert same.code == 0 and "no drift" in same.out and file.read_bytes() == first
    changed = tmp_path / "changed.hl7"
    changed.write_bytes(re.sub(rb"SCH\|[^|]*\|", b"SCH||", feed.read_bytes()))
    said = limen(changed, "--profile", file)
    share = json.loads(first)["types"]["SIU^S12"]["fields"]["SCH-1"]
    assert said.code == 0
    assert f"drift: SIU^S12: field SCH-1 suddenly missing: {100 * share:.3g} % before, 0 % now" in said.out
    as_json = json.loads(limen(changed, "--profile", file, "--json").out)["drift"]
    gone = {"type": "SIU^S12", "what": "field", "name": "SCH-1", "change": "suddenly missing"}
    assert gone | {"before": share, "now": 0.0} in as_json
    assert json.loads(limen(changed, "--json").out)["drift"] is None


def test_in_a_pipe_nothing_is_cut_off(limen: Limen, hospital: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = limen(hospital).out
    monkeypatch.delenv("COLUMNS")
    narrow = limen(hospital).out
    assert narrow == wide and " milestone " in f" {narrow} " and "…" not in narrow
    assert max(map(len, narrow.splitlines())) > 80


def test_the_order_of_messages_changes_nothing(held: Callable[..., Feed]) -> None:
    messages: list[bytes | Json] = [*admissions(9, "ZPD|1"), *(encounter(n, local=1) for n in range(9))]
    first = held(*messages)
    random.Random(1).shuffle(messages)
    assert feed_profile.encode(held(*messages).profile) == feed_profile.encode(first.profile)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda p: p.update(profile=2), id="another version"),
        pytest.param(lambda p: p.update(patient="Jane"), id="another key"),
        pytest.param(lambda p: p["types"].update({"Jane Doe": {"messages": 1}}), id="no type"),
        pytest.param(lambda p: p["types"]["ADT^A01"]["segments"].update({"Jane": 1.0}), id="no segment"),
        pytest.param(lambda p: p["types"]["ADT^A01"]["segments"].update({"ZPD\n": 1.0}), id="a line more"),
        pytest.param(lambda p: p["types"]["ADT^A01"].update(elements={"Jane Doe": 1.0}), id="no element"),
        pytest.param(lambda p: p["types"]["ADT^A01"].update(extensions={"https://e.x/Jane": 1.0}), id="no extension"),
        pytest.param(lambda p: p["types"]["ADT^A01"].update(code_systems={"Jane": 1.0}), id="no code system"),
        pytest.param(lambda p: p["types"]["ADT^A01"]["segments"].update({"MSH": 1.5}), id="no share"),
    ],
)
def test_a_profile_is_read_as_strictly_as_it_is_written(spoil: Callable[[Json], object], tmp_path: Path) -> None:
    sound = feed_profile.encode(a_profile(segments={"MSH": 1.0}))
    assert feed_profile.decode(sound) == a_profile(segments={"MSH": 1.0})
    document = json.loads(sound)
    spoil(document)
    (tmp_path / "p.json").write_text(json.dumps(document))
    with pytest.raises(ConfigurationError, match="^--profile: .* is no feed profile; ") as refused:
        feed_record.recorded(tmp_path / "p.json")
    assert "Jane" not in str(refused.value)


@pytest.mark.parametrize(
    "arguments, option",
    [
        pytest.param(("nothing.hl7",), "PATH", id="no such file"),
        pytest.param((".", "--profile", "nothing.json"), "--profile", id="no profile"),
        pytest.param((".", "--record", "nowhere/p.json"), "--record", id="no folder to record in"),
        pytest.param((".", "--record", "a.hl7"), "--record", id="over the feed itself"),
        pytest.param((".", "--policy", "."), "--policy", id="no policy"),
    ],
)
def test_asked_wrongly(
    limen: Limen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.hl7").write_bytes(admission("M1", "V1", AT))
    said = limen(*arguments)
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(rf"limen: {option}: .+; .+\n", said.err)
    assert [path.name for path in tmp_path.iterdir()] == ["a.hl7"]


# --- notifications and archives -----------------------------------------------------------------------------------


def test_notifications(limen: Limen, tmp_path: Path) -> None:
    def told(number: int, kind: str = "event-notification") -> Json:
        events = [{"eventNumber": number, "focus": {"reference": f"Encounter/ZQ{number}"}}]
        return {
            "resourceType": "SubscriptionStatus",
            "type": kind,
            "subscription": {"reference": "https://zqhost/Subscription/zq"},
            "eventsSinceSubscriptionStart": number,
            "notificationEvent": events if kind == "event-notification" else [],
        }

    ndjson(tmp_path / "feed", [told(3), told(4), told(7), told(9, "heartbeat"), encounter(1)])
    said = limen(tmp_path / "feed", "--json")
    assert json.loads(said.out)["notifications"] == {"statuses": 4, "fetch_needed": 3, "missed": 4}
    shown = limen(tmp_path / "feed").out
    assert "subscription notifications: 4, of them without the resource 3; missed 4" in shown
    assert "zq" not in (said.out + shown).lower()


def test_an_archive_is_as_good_as_its_files(limen: Limen, hospital: Path, tmp_path: Path) -> None:
    plain = json.loads(limen(hospital / "feeds", "--json").out)
    for kind in ("tar", "gztar", "zip"):
        packed = shutil.make_archive(str(tmp_path / f"ROE{kind}"), kind, hospital / "feeds")
        said = limen(packed, "--json")
        found = json.loads(said.out)
        assert found.pop("files") == {"zip" if kind == "zip" else "tar": 1}
        assert found == {name: value for name, value in plain.items() if name != "files"}
        assert "ROE" not in said.out + said.err
