"""The whole job on a simulated hospital: golden facts, laws, and what changes nothing."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from hospital_files import (
    AS_OF,
    Said,
    admission,
    by_identifier,
    command,
    decide,
    lines,
    ndjson,
    payloads,
    permit,
    records,
    reframed,
    rows,
    shuffled,
    tree,
    without_consents,
)

from pipelines import options, sources
from pipelines import policy as policies
from pipelines.run import Done, _pipeline
from pipelines.run import run as do
from pipelines.score import score
from pipelines.simulated.simulate import Simulated, simulate
from pipelines.simulated.truth import CRM
from pipelines.summary import broken_laws
from schemas.errors import StoreError
from schemas.instant import text_of
from transforms import audit

MESSAGES = ("rejected", "repeated", "consent", "control", "unrouted")
PAIRS = ("released", "suppressed", "review", "held")
SUMMARY = {
    "received", *MESSAGES, "events_routed", "pairs", *PAIRS, "retracted", "routes", "reasons", "policy", "run",
    "what_if", "seconds",
}  # fmt: skip
# What one simulated hospital comes to, read once by a person and compared with its truth; a change here wants a reason.
GOLDEN = {
    "received": 1199,
    "rejected": 11,
    "repeated": 134,
    "consent": 198,
    "control": 176,
    "unrouted": 43,
    "events_routed": 637,
    "pairs": 2283,
    "released": 1256,
    "suppressed": 799,
    "review": 228,
    "held": 0,
    "retracted": 0,
    "cells": 44,
}


class Ran(NamedTuple):
    """A hospital, its state folder and what a run over it wrote."""

    hospital: Simulated
    state: Path
    output: Path
    done: Done

    @property
    def folder(self) -> Path:
        return self.output.parent


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("run")
    hospital = simulate(150, 3, 1, folder / "hospital")
    output, state = folder / "out", folder / "state"
    return Ran(hospital, state, output, decide([hospital.feeds], output, state, hospital.as_of))


def again(ran: Ran, feeds: Path, name: str, *flags: str) -> Path:
    """Another run with the same keys and vault, into a folder of its own."""
    output = ran.folder / name
    decide([feeds], output, ran.state, ran.hospital.as_of, flags)
    return output


# --- what comes out is right --------------------------------------------------------------------------------------


def test_golden_run(ran: Ran) -> None:
    assert {name: ran.done.summary[name] for name in GOLDEN} == GOLDEN


def test_released_is_what_the_truth_says(ran: Ran) -> None:
    result = score(ran.output, ran.hospital.truth, ran.state)
    assert result.right, result
    assert sum(result.routes[name].right for name in CRM) == ran.hospital.released > 100


def test_released_is_what_the_truth_says_of_another_hospital(tmp_path: Path) -> None:
    hospital = simulate(70, 20, 2, tmp_path / "hospital")
    done = decide([hospital.feeds], tmp_path / "out", tmp_path / "state", hospital.as_of)
    assert score(tmp_path / "out", hospital.truth, tmp_path / "state").right
    assert broken_laws(done.summary) == []


def test_the_score_sees_what_is_wrong(ran: Ran, tmp_path: Path) -> None:
    truth = json.loads(ran.hospital.truth.read_bytes())
    truth["released"].pop()
    truth["released"][0]["day"] = "2026-01-01"
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    result = score(ran.output, tmp_path / "truth.json", ran.state)
    assert not result.right
    assert sum(route.wrong for route in result.routes.values()) == 2
    assert sum(route.missing for route in result.routes.values()) == 1


def test_laws_hold(ran: Ran) -> None:
    said = ran.done.summary
    assert said["received"] == sum(said[name] for name in MESSAGES) + said["events_routed"]
    assert said["pairs"] == sum(said[name] for name in PAIRS)
    for verdict in ("released", "suppressed", "review"):
        assert said[verdict] == sum(route[verdict] for route in said["routes"].values())
    assert sum(said["reasons"].values()) == sum(said[name] for name in MESSAGES + PAIRS)


def test_no_payload_without_consents(ran: Ran) -> None:
    output = again(ran, without_consents(ran.hospital.feeds, ran.folder / "unsigned"), "unsigned-out")
    said = json.loads((output / "summary.json").read_bytes())
    assert said["consent"] == 0 < said["events_routed"]
    assert not (output / "crm").exists()
    assert all(said["routes"][route]["released"] == 0 for route in CRM)


# --- payloads -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def crm(ran: Ran) -> dict[str, list[dict[str, Any]]]:
    """Payloads by route."""
    found: dict[str, list[dict[str, Any]]] = {}
    for payload in payloads(ran.output):
        found.setdefault(payload["recipe"].split("@")[0], []).append(payload)
    assert set(found) == set(CRM)
    return found


def test_two_routes_share_nothing_that_joins(crm: dict[str, list[dict[str, Any]]]) -> None:
    """But for the patient's token, where both are of one destination and purpose."""
    for one, other in combinations(crm.values(), 2):
        together = {(p["dest"], p["purpose"]) for p in one} == {(p["dest"], p["purpose"]) for p in other}
        for name in ("id", "correlationid", "record", "consentref", *(() if together else ("subject",))):
            mine, theirs = ({payload[name] for payload in payloads} for payloads in (one, other))
            assert mine
            assert "" not in mine | theirs
            assert not mine & theirs, name
            assert all(re.fullmatch(r"[bcdfghjkmnpqrstz]{32}(-\d+)*", value) for value in mine | theirs)


def test_no_time_finer_than_a_day_in_crm(ran: Ran) -> None:
    text = b"\n".join(lines(ran.output)).decode()
    clocks = set(re.findall(r"T?\d\d:\d\d(?::\d\d)?[^\",}]*", text))
    assert clocks == {"T00:00:00Z"}
    days = {payload["time"][:10] for payload in payloads(ran.output)}
    assert {payload["time"] for payload in payloads(ran.output)} == {f"{day}T00:00:00Z" for day in days}
    # No other spelling of a time either: the longest run of digits is an NPI (10), and no number is a count of seconds.
    assert all(len(run) <= 10 for run in re.findall(r"\d+", text))
    strings = [v for p in payloads(ran.output) for v in [*p.values(), *p["data"].values()] if v != p.get("data")]
    tens = {v for v in strings if isinstance(v, str) and re.search(r"\d{9}", v)}
    assert tens <= {payload["data"].get("clinician_npi") for payload in payloads(ran.output)}
    assert all(isinstance(v, str) or 0 <= v < 1000 for v in strings)


def test_payloads_are_cloud_events(ran: Ran) -> None:
    for payload in payloads(ran.output):
        assert payload["specversion"] == "1.0"
        assert all(isinstance(payload[name], str) and payload[name] for name in ("id", "source", "type"))
        assert re.fullmatch(r"[a-z][a-z0-9+.-]*:\S+", payload["source"])  # URI, RFC 3986
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", payload["time"])  # RFC 3339
        assert payload["datacontenttype"] == "application/json"
        attributes = {name: value for name, value in payload.items() if name != "data"}
        for name, value in attributes.items():
            assert re.fullmatch("[a-z0-9]{1,20}", name)  # CloudEvents 1.0, naming conventions
            assert isinstance(value, str | bool) or (isinstance(value, int) and -(2**31) <= value < 2**31)
        assert all(isinstance(value, str) for value in payload["data"].values())


def test_payloads_say_what_the_design_promises(ran: Ran) -> None:
    promised = {"subject", "record", "recordseq", "purpose", "dest", "consentref", "deidlevel", "policyrev", "recipe",
                "correlationid", "data"}  # fmt: skip
    for payload in payloads(ran.output):
        assert promised <= set(payload)
        assert (payload["recordseq"], payload["deidlevel"]) == (1, "limited-data-set")
        assert "whatif" not in payload


def test_payload_lines_are_sorted_by_id(ran: Ran) -> None:
    for file in ran.output.glob("crm/*/*.jsonl"):
        ids = [json.loads(line)["id"] for line in file.read_bytes().splitlines()]
        assert ids == sorted(ids)


def test_one_crm_record_per_patient_or_per_visit_and_kind(crm: dict[str, list[dict[str, Any]]]) -> None:
    for payloads_ in crm.values():
        assert max(Counter(payload["record"] for payload in payloads_).values()) == 1
    assert {p["record"] for p in crm["patient-support"]}.isdisjoint(p["subject"] for p in crm["patient-support"])


def test_admissions_without_a_visit_number_are_records_of_their_own(tmp_path: Path) -> None:
    ndjson(tmp_path / "in/c.ndjson", [permit(by_identifier("urn:id:GENERAL", "M1"))])
    days = ("20260301", "20260302")
    numberless = b"".join(admission("M1", "", f"{day}120000+0000") for day in days)
    (tmp_path / "in/a.hl7").write_bytes(numberless)
    decide([tmp_path / "in"], tmp_path / "out", tmp_path / "state")
    sent = [payload for payload in payloads(tmp_path / "out") if payload["recipe"].startswith("hcp-notification")]
    assert sorted(payload["time"][:10] for payload in sent) == ["2026-03-01", "2026-03-02"]
    assert len({payload["record"] for payload in sent}) == 2


# --- evidence -----------------------------------------------------------------------------------------------------


def test_every_payload_has_its_audit_record(ran: Ran) -> None:
    released = {r["payload"]: r for r in records(ran.output) if r["payload"]}
    sent = payloads(ran.output)
    assert Counter(p["id"] for p in sent) == Counter(r["payload"] for r in records(ran.output) if r["payload"])
    assert len({p["id"] for p in sent}) == len(sent)
    for payload in sent:
        record = released[payload["id"]]
        assert (record["verdict"], record["reason"]) == ("released", "permitted")
        assert record["correlationid"] == payload["correlationid"]
        assert record["crm_record"] == payload["record"]
        assert (record["recipe"], record["level"]) == (payload["recipe"], payload["deidlevel"])
        assert len(record["consents"]) == 1


def test_one_audit_record_for_each_outcome(ran: Ran) -> None:
    said, audit = ran.done.summary, records(ran.output)
    assert len(audit) == sum(said[name] for name in MESSAGES + PAIRS)
    verdicts = Counter(record["verdict"] for record in audit)
    assert {name: verdicts[name] for name in MESSAGES + PAIRS} == {name: said[name] for name in MESSAGES + PAIRS}
    assert dict(Counter(record["reason"] for record in audit)) == said["reasons"]
    for route, counts in said["routes"].items():
        mine = Counter(record["verdict"] for record in audit if record["route"] == route)
        assert {verdict: mine[verdict] for verdict in counts} == counts
    assert {record["policy_digest"] for record in audit} == {said["policy_digest"]}


def test_no_two_audit_records_share_an_id(ran: Ran) -> None:
    audit = records(ran.output)
    assert len({record["record"] for record in audit}) == len(audit)


def test_copies_of_a_consent_that_differ_have_audit_records_of_their_own(tmp_path: Path) -> None:
    who = by_identifier("urn:id:GENERAL", "M1")
    copies = [permit(who), permit(who, provision={"type": "deny"})]
    decide([ndjson(tmp_path / "in.ndjson", copies)], tmp_path / "out", tmp_path / "state")
    audit = records(tmp_path / "out")
    assert [record["verdict"] for record in audit] == ["consent", "consent"]
    assert len({record["record"] for record in audit}) == 2


def test_sealed_and_reviewed_as_counted(ran: Ran) -> None:
    said = ran.done.summary
    assert len(list(ran.output.glob("quarantine/*.sealed"))) == said["rejected"] > 0
    items = [json.loads(line) for line in lines(ran.output, "review")]
    assert len(items) == len({item["id"] for item in items}) == said["review"] > 0
    assert {item["reason"] for item in items} <= set(said["reasons"])


def test_aggregates_are_published_and_of_k_patients(ran: Ran) -> None:
    tables = [pq.read_table(file) for file in ran.output.glob("aggregates/*.parquet")]
    assert sum(table.num_rows for table in tables) == ran.done.summary["cells"] > 0
    assert min(n for table in tables for n in table["patients"].to_pylist()) >= 11


def test_two_files_without_a_message_are_sealed_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of what is empty or too large, so each is known by where it stood."""
    monkeypatch.setattr(sources.read, "__defaults__", (5000, sources.CHUNK))
    (tmp_path / "in").mkdir()
    for name, content in {
        "empty": b"", "a line": b"\n", "lines": b"\n\n", "large": b"{" + b" " * 6000, "larger": b"{" + b" " * 7000,
    }.items():  # fmt: skip
        (tmp_path / "in" / name).write_bytes(content)
    done = decide([tmp_path / "in"], tmp_path / "out", tmp_path / "state")
    assert done.summary["rejected"] == len(list((tmp_path / "out").glob("quarantine/*.sealed"))) == 5
    assert {"empty_file", "too_large"} <= set(done.summary["reasons"])
    audit = records(tmp_path / "out")
    assert len({record["event"] for record in audit}) == len(audit) == 5


# --- what must change nothing -------------------------------------------------------------------------------------


def test_the_same_run_again_changes_no_file_but_the_summary(ran: Ran) -> None:
    before = tree(ran.output)
    done = decide([ran.hospital.feeds], ran.output, ran.state, ran.hospital.as_of)
    assert done.repeated
    after = tree(ran.output)
    summaries = [files.pop("summary.json")[0] for files in (before, after)]
    assert before == after
    first, second = (json.loads(summary) for summary in summaries)
    assert first | {"seconds": 0} == second | {"seconds": 0}


def test_the_same_inputs_into_another_folder_give_the_same_payloads_and_records(ran: Ran) -> None:
    output = again(ran, ran.hospital.feeds, "second")
    for kind in ("crm", "aggregates"):
        one, other = ({name: file[0] for name, file in tree(o / kind).items()} for o in (ran.output, output))
        assert one == other != {}, kind
    assert records(output) == records(ran.output)
    one, other = ({p.name: p.read_bytes() for p in o.glob("audit/*.parquet")} for o in (ran.output, output))
    assert one == other != {}


@pytest.fixture(scope="module")
def framings(ran: Ran) -> Iterator[dict[str, Path]]:
    names = ("cr", "lf", "crlf", "mllp")
    yield {n: again(ran, reframed(ran.hospital.feeds, ran.folder / f"as-{n}", n), f"{n}-out") for n in names}


def test_any_framing_gives_the_same_payloads(ran: Ran, framings: dict[str, Path]) -> None:
    for output in framings.values():
        assert sorted(lines(output)) == sorted(lines(ran.output))


def test_any_framing_gives_the_same_audit_records(ran: Ran, framings: dict[str, Path]) -> None:
    """But for rejects, whose only identity is their bytes."""
    expected = Counter(r["record"] for r in records(ran.output) if r["verdict"] not in ("rejected", "unrouted"))
    for output in framings.values():
        audit = records(output)
        assert Counter(r["record"] for r in audit if r["verdict"] not in ("rejected", "unrouted")) == expected
        assert len(audit) == len(records(ran.output))


@pytest.mark.parametrize("seed", [1, 2])
def test_any_order_gives_the_same_payloads_and_records(ran: Ran, framings: dict[str, Path], seed: int) -> None:
    feeds = shuffled(ran.hospital.feeds, ran.folder / f"shuffled-{seed}", seed)
    output = again(ran, feeds, f"shuffled-out-{seed}")
    assert sorted(lines(output)) == sorted(lines(ran.output))
    assert rows(output) == rows(framings["cr"])  # in one framing, since a reject's identity is its bytes


def test_two_processes_give_the_same_payloads_and_records(ran: Ran) -> None:
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    output = again(ran, ran.hospital.feeds, "two-processes", *flags)
    assert sorted(lines(output)) == sorted(lines(ran.output))
    assert rows(output) == rows(ran.output)


def test_another_state_folder_gives_other_names_for_everyone(ran: Ran) -> None:
    output = ran.folder / "other-state-out"
    decide([ran.hospital.feeds], output, ran.folder / "other-state", ran.hospital.as_of)
    for name in ("id", "correlationid", "subject", "record", "consentref"):
        assert {p[name] for p in payloads(output)}.isdisjoint(p[name] for p in payloads(ran.output))
    assert len(payloads(output)) == len(payloads(ran.output))


def test_an_input_that_changes_while_it_is_read_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = tmp_path / "a.hl7"
    message = admission("M1", "V1", "20260301120000+0000")
    changes: dict[str, Callable[[], object]] = {
        "longer": lambda: feed.write_bytes(message + admission("M1", "V2", "20260302120000+0000")),
        "of the same size": lambda: feed.write_bytes(message.replace(b"M1", b"M2")),
        "gone": feed.unlink,
    }
    for name, change in changes.items():
        feed.write_bytes(message)
        asked = options.request([str(feed)], tmp_path / name, tmp_path / "state", None, AS_OF, [])
        with monkeypatch.context() as patch:
            patch.setattr("pipelines.run._pipeline", lambda *given, change=change: (_pipeline(*given), change()))
            with pytest.raises(StoreError, match="an_input_changed_while_it_was_read"):
                do(asked)
        kinds = ("crm", "aggregates", "review", "audit", "quarantine", "manifest", "summary.json")
        assert not any((tmp_path / name / kind).exists() for kind in kinds), name


# --- the instant of decision --------------------------------------------------------------------------------------


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    """One permitted patient with an admission of 2026-03-01."""
    folder = tmp_path / "feeds"
    ndjson(folder / "c.ndjson", [permit(by_identifier("urn:id:GENERAL", "M1"))])
    (folder / "a.hl7").write_bytes(admission("M1", "V1", "20260301120000+0000"))
    return folder


def test_a_look_back_is_a_what_if_and_says_so(patient: Path, tmp_path: Path) -> None:
    (patient / "b.hl7").write_bytes(admission("M1", "V2", "20260501120000+0000"))
    done = decide([patient], tmp_path / "out", tmp_path / "state", "2026-04-01T00:00:00Z")
    assert done.summary["what_if"] is True
    assert done.summary["reasons"] == {
        "after_horizon": 4, "no_consent_needed": 2, "permitted": 2, "recorded": 1
    }  # fmt: skip
    assert [payload["whatif"] for payload in payloads(tmp_path / "out")] == [True, True]
    assert json.loads((tmp_path / "out/summary.json").read_bytes())["what_if"] is True


def test_the_newest_instant_itself_is_no_look_back(patient: Path, tmp_path: Path) -> None:
    done = decide([patient], tmp_path / "out", tmp_path / "state", "2026-03-01T12:00:00Z")
    assert done.summary["what_if"] is False
    assert done.summary["released"] == 4


def test_a_date_as_of_means_the_end_of_that_day(patient: Path, tmp_path: Path) -> None:
    done = decide([patient], tmp_path / "out", tmp_path / "state", "2026-03-01")
    assert done.summary["as_of"] == "2026-03-01T23:59:59Z"
    assert done.summary["released"] == 4


def test_the_day_is_meant_in_the_policy_s_zone(patient: Path, tmp_path: Path) -> None:
    """The last day on which a policy is valid is its last as-of."""
    bundle = Path(shutil.copytree(policies.default(), tmp_path / "policy"))
    text = (bundle / "policy.yaml").read_text()
    edits = {"2000-01-01, ends: 2099-12-31": "2026-03-01, ends: 2026-03-01", "zone: UTC  ": "zone: Pacific/Auckland  "}
    for old, new in edits.items():
        assert old in text
        text = text.replace(old, new)
    (bundle / "policy.yaml").write_text(text)
    asked = options.request([str(patient)], tmp_path / "out", tmp_path / "state", bundle, "2026-03-01", [])
    assert text_of(asked.horizon) == "2026-03-01T10:59:59Z"


# --- the command --------------------------------------------------------------------------------------------------


class _Command:
    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *arguments: str | Path) -> Said:
        return command(self._capsys, self._monkeypatch, *arguments)


@pytest.fixture
def limen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> _Command:
    return _Command(capsys, monkeypatch)


def test_json_is_for_machines(ran: Ran, limen: _Command) -> None:
    said = limen("run", "--input", ran.hospital.feeds, "--output", ran.output, "--state", ran.state,
                 "--as-of", ran.hospital.as_of, "--json")  # fmt: skip
    assert said.code == 0
    summary = json.loads(said.out)
    assert set(summary) >= SUMMARY
    assert summary == json.loads((ran.output / "summary.json").read_bytes())


def test_the_readable_summary_says_released(ran: Ran, limen: _Command) -> None:
    said = limen("run", "--input", ran.hospital.feeds, "--output", ran.folder / "readable", "--state", ran.state,
                 "--as-of", ran.hospital.as_of)  # fmt: skip
    assert said.code == 0
    left = len(lines(ran.folder / "readable"))
    counted = ran.done.summary["released"] - left
    head = f"released {left:,} payloads for the CRM, and counted {counted:,} events for aggregates, of "
    assert said.out.splitlines()[0].startswith(head) and left > 0 < counted
    assert said.err == ""


def test_one_is_not_many(limen: _Command, tmp_path: Path) -> None:
    (tmp_path / "in.hl7").write_bytes(admission("M1", "V1", "20260301120000+0000"))
    where = ("--output", tmp_path / "out", "--state", tmp_path / "state", "--as-of", "2026-05-01")
    said = limen("run", "--input", tmp_path / "in.hl7", *where)
    assert "released 0 payloads for the CRM, and counted 2 events for aggregates, of 4 pairs (event, route)" in said.out
    assert "1 message: 1 event, 0 consents, 0 repeated, " in said.out


def test_several_inputs_after_one_option(ran: Ran, limen: _Command) -> None:
    files = sorted(path for path in ran.hospital.feeds.rglob("*") if path.is_file())
    said = limen("run", "--input", *files, "--output", ran.folder / "several", "--state", ran.state,
                 "--as-of", ran.hospital.as_of, "--json")  # fmt: skip
    assert said.code == 0, said
    assert sorted(lines(ran.folder / "several")) == sorted(lines(ran.output))


@pytest.mark.parametrize("change", ["another as-of", "another input"])
def test_a_folder_belongs_to_one_run(ran: Ran, limen: _Command, tmp_path: Path, change: str) -> None:
    before = tree(ran.output)
    inputs, as_of = [ran.hospital.feeds], ran.hospital.as_of
    if change == "another as-of":
        as_of = "2026-05-01T00:00:00Z"
    else:
        inputs.append(ndjson(tmp_path / "more.ndjson", [permit(by_identifier("urn:id:GENERAL", "M1"))]))
    said = limen("run", "--input", *inputs, "--output", ran.output, "--state", ran.state, "--as-of", as_of)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert f"--as-of {ran.hospital.as_of}" in said.err
    assert tree(ran.output) == before


def test_score_verb(ran: Ran, limen: _Command) -> None:
    said = limen("score", ran.output, "--truth", ran.hospital.truth, "--state", ran.state)
    assert (said.code, "agrees with the truth" in said.out) == (0, True)


def test_a_broken_law_leaves_nothing_to_read(ran: Ran, monkeypatch: pytest.MonkeyPatch, limen: _Command) -> None:
    real = audit._Audit.process

    def forgets(self: Any, batch: Any) -> Any:
        for one in real(self, batch):
            if not str(getattr(one, "value", one)[0]).startswith("audit-suppressed"):
                yield one

    monkeypatch.setattr(audit._Audit, "process", forgets)
    output = ran.folder / "broken"
    arguments = ("run", "--input", ran.hospital.feeds, "--output", output, "--state", ran.state)
    said = limen(*arguments, "--as-of", ran.hospital.as_of)
    assert said.code == 3
    assert "pairs = released + suppressed + review + held" in said.err
    assert not any((output / kind).exists() for kind in ("crm", "audit", "manifest", "aggregates", "review"))
    assert "unusable" in json.loads((output / "summary.json").read_bytes())
    monkeypatch.setattr(audit._Audit, "process", real)
    assert limen(*arguments, "--as-of", ran.hospital.as_of).code == 0
    assert sorted(lines(output)) == sorted(lines(ran.output))
