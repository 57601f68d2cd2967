"""Files for a CRM's loader: the vendors' rules as checks, and what is refused before anything is written.

The rules and where the vendors state them are in `pipelines.export`.
"""

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hospital_files import AS_OF, Said, command, decide, payloads, without_consents

from pipelines import keys, options
from pipelines.export import FORMULA, OPERATIONS, SALESFORCE, VAULT_LOADER, Exported, Loader, export
from pipelines.run import run as do
from pipelines.screen import many
from pipelines.simulated.simulate import Simulated, simulate
from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Manifest, Published, Signed
from schemas.opaque import opaque
from schemas.policy import Policy
from schemas.recipe import Action

RULES = {"vault-loader": (500, b"\r\n"), "salesforce": (10_000, b"\n")}  # rows in a request, line ending
LOADERS = (VAULT_LOADER, SALESFORCE)
each_loader = pytest.mark.parametrize("loader", LOADERS, ids=lambda loader: loader.name)


class Ran(NamedTuple):
    hospital: Simulated
    output: Path


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run over a simulated hospital."""
    folder = tmp_path_factory.mktemp("export")
    hospital = simulate(60, 10, 1, folder / "hospital")
    decide([hospital.feeds], folder / "out", folder / "state", hospital.as_of)
    return Ran(hospital, folder / "out")


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The runs of a ledger over a simulated hospital, in which what was released is taken back and written again."""
    folder = tmp_path_factory.mktemp("stream")
    hospital = simulate(120, 8, 5, folder / "hospital", batches=4)
    for feeds, as_of in hospital.batches:
        request = options.request([str(feeds)], folder / "out", folder / "state", None, as_of, [], folder / "ledger")
        do(request)
    return Ran(hospital, folder / "out")


@pytest.fixture(params=["ran", "stream"])
def either(request: pytest.FixtureRequest) -> Ran:
    """One run, or a ledger's."""
    found: Ran = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def done(ran: Ran, tmp_path: Path) -> Path:
    """A copy of the run's outputs, to spoil."""
    return Path(shutil.copytree(ran.output, tmp_path / "out"))


def payload(number: int, recordseq: int = 1, route: str = "hcp-notification", **changes: Any) -> dict[str, Any]:
    """One payload of a record; only what the exporter reads is worth reading."""
    word = opaque(number.to_bytes(16))
    attributes = dict.fromkeys(
        ("id", "source", "type", "purpose", "dest", "consentref", "deidlevel", "policyrev", "recipe", "correlationid",
         "specversion", "datacontenttype"), "x",
    )  # fmt: skip
    data = {"milestone": "admitted", "clinician_npi": "1234567893"}
    if route == "patient-support":
        data = {
            "milestone": "admitted",
            "next_action": "wait",
            "consent_state": "support-permitted",
            "outreach": "eligible",
        }
    seen = {"subject": word, "record": word, "recordseq": recordseq, "time": "2026-05-01T00:00:00Z", "data": data}
    return {**attributes, **seen, **changes}


def retraction(number: int, recordseq: int, rule: str = "delete", **changes: Any) -> dict[str, Any]:
    """What takes a record back."""
    data = {"after_revocation": rule}
    return payload(number, recordseq, **{"data": data, "retracts": recordseq - 1, **changes})


def published(
    folder: Path, policy: Policy, files: dict[str, Iterable[dict[str, Any]]], run: str = "a-run", **facts: Any
) -> Path:
    """The output folder of a run that wrote these payload files, signed as a run signs; with one more run, if it is
    there."""
    listed = []
    for path, lines in files.items():
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        listed.append(Published(path, hashlib.sha256(content).hexdigest(), len(content)))
    state = folder.parent / f"{folder.name}-state"
    keyset = keys.load(state) if state.exists() else keys.create(state)
    for name in ("audit", "manifest"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / f"audit/limen-{keyset.keyid}.pem").write_bytes(keyset.public_key_pem)
    said = {"what_if": False, "policy": policy.name, "policy_digest": policy.digest, "as_of": AS_OF, **facts}
    (folder / f"manifest/{run}.json").write_bytes(Manifest.sign(Signed(run, [], listed, said), keyset))
    return folder


def routed(policy: Policy, name: str, **destination: str) -> Policy:
    """The policy with one route's destination changed."""
    routes = tuple(
        route.model_copy(update={"destination": route.destination.model_copy(update=destination)})
        if route.route == name
        else route
        for route in policy.routes
    )
    return policy.model_copy(update={"routes": routes})


HCP, SUPPORT = "crm/hcp-notification/0.jsonl", "crm/patient-support/0.jsonl"


class Files(NamedTuple):
    """What was exported: load.json, and each file's bytes and rows (header first)."""

    done: Exported
    load: dict[str, Any]
    content: dict[str, bytes]
    rows: dict[str, list[list[str]]]


def exported(folder: Path, output: Path, loader: Loader, policy: Policy, since: str = "") -> Files:
    done = export(folder, output, loader, policy, since)
    content = {path.name: path.read_bytes() for path in output.glob("*.csv")}
    rows = {name: list(csv.reader(text.decode().splitlines(), strict=True)) for name, text in content.items()}
    return Files(done, json.loads((output / "load.json").read_bytes()), content, rows)


# --- the vendors' rules, on runs ----------------------------------------------------------------------------------


@each_loader
def test_files_follow_the_vendor_s_rules(either: Ran, tmp_path: Path, policy: Policy, loader: Loader) -> None:
    files = exported(either.output, tmp_path / "for-crm", loader, policy)
    assert files.rows
    most, ending = RULES[loader.name]
    for one in files.load["files"]:
        content, (header, *rows) = files.content[one["file"]], files.rows[one["file"]]
        assert not content.startswith(b"\xef\xbb\xbf")
        assert set(re.findall(rb"[^\x20-\x7e]+", content)) == {ending}  # and no other byte that is not printable ASCII
        assert content.endswith(ending)
        assert len(content) < 50_000_000
        assert 1 <= len(rows) <= most
        assert {len(row) for row in rows} == {len(header)}
        assert [row[0] for row in rows] == sorted({row[0] for row in rows})  # in order, and none twice
        assert not any(cell.startswith(FORMULA) or cell != cell.strip() for row in rows for cell in row)
        assert not re.search(rb"T\d\d:", content)
        assert (len(header) == 1) == (one["operation"] == "delete")  # the key and nothing else
    names = [(one["object"], row[0]) for one in files.load["files"] for row in files.rows[one["file"]][1:]]
    assert len(set(names)) == len(names)  # a record is in one file, whatever is to become of it
    asked = [OPERATIONS.index(one["operation"]) for one in files.load["files"]]
    assert asked == sorted(asked)


@each_loader
def test_every_record_is_in_the_files_as_its_newest_line_says(
    either: Ran, tmp_path: Path, policy: Policy, loader: Loader
) -> None:
    files = exported(either.output, tmp_path / "for-crm", loader, policy)
    found: Counter[tuple[str, ...]] = Counter()
    for one in files.load["files"]:
        header, *rows = files.rows[one["file"]]
        plain = ["record", *(name.lower().removesuffix("__c") for name in header[1:])]
        found.update(
            (one["route"], one["operation"], *sorted(f"{k}={v}" for k, v in zip(plain, row, strict=True)))
            for row in rows
        )
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for one in sorted(payloads(either.output), key=lambda line: int(line["recordseq"])):
        newest[one["recipe"], one["record"]] = one
    wanted: Counter[tuple[str, ...]] = Counter()
    for one in newest.values():
        route = next(route for route in policy.routes if route.recipe_name == one["recipe"])
        if "retracts" in one:
            wanted[route.route, "delete", f"record={one['record']}"] += 1
            continue
        values = {row.to: loader.absent for row in route.recipe if row.action is not Action.DROP}
        values |= {"record": one["record"], "subject": one["subject"], "time": one["time"][:10], **one["data"]}
        wanted[route.route, "upsert", *sorted(f"{k}={v}" for k, v in values.items())] += 1
    assert found == wanted
    assert files.done.rows == wanted.total() > 100


def test_a_ledger_s_runs_delete_and_write(stream: Ran, tmp_path: Path, policy: Policy) -> None:
    """The stream of the tests above has what they are about."""
    files = exported(stream.output, tmp_path / "for-crm", VAULT_LOADER, policy)
    rows: Counter[str] = Counter()
    for one in files.load["files"]:
        rows[one["operation"]] += one["rows"]
    assert rows["delete"] > 10 < rows["upsert"]
    lines = payloads(stream.output)
    assert len({one["record"] for one in lines}) < len(lines) and len(files.load["runs"]) == 4


def test_names_are_the_policy_s(ran: Ran, tmp_path: Path, policy: Policy) -> None:
    for loader in LOADERS:
        files = exported(ran.output, tmp_path / loader.name, loader, policy)
        for one in files.load["files"]:
            route = next(route for route in policy.routes if route.route == one["route"])
            fields = [f"{row.to}__c" for row in route.recipe if row.action is not Action.DROP]
            assert one["operation"] == "upsert"
            header = files.rows[one["file"]][0]
            assert header[0] == one["external_id"]
            names = [route.destination.object, route.destination.external_id, *fields]
            assert [name.lower() for name in (one["object"], *header)] == names
            assert loader is SALESFORCE or [one["object"], *header] == names
    assert SALESFORCE.api_name("patient_attribute__c") == "Patient_Attribute__c"
    assert SALESFORCE.api_name("clinician_NPI__c") == "Clinician_NPI__c"
    assert SALESFORCE.api_name("patient_journey__v") == "patient_journey__v"


@each_loader
def test_load_json_lists_what_is_there(ran: Ran, tmp_path: Path, policy: Policy, loader: Loader) -> None:
    files = exported(ran.output, tmp_path / "for-crm", loader, policy)
    runs = [path.stem for path in (ran.output / "manifest").iterdir()]
    [keyid] = (path.stem.removeprefix("limen-") for path in (ran.output / "audit").glob("*.pem"))
    said = {name: files.load[name] for name in ("loader", "runs", "since", "policy", "keyid", "line_ending")}
    assert said == {
        "loader": loader.name, "runs": runs, "since": None, "policy": policy.name, "keyid": keyid,
        "line_ending": loader.line_ending,
    }  # fmt: skip
    assert {one["file"] for one in files.load["files"]} == set(files.content)
    for one in files.load["files"]:
        assert one["sha256"] == hashlib.sha256(files.content[one["file"]]).hexdigest()
        assert one["rows"] == len(files.rows[one["file"]]) - 1
        assert re.fullmatch(rf"{one['object']}-{one['operation']}-\d{{4}}\.csv", one["file"])
    objects = {one["object"] for one in files.load["files"]}
    assert files.done == (len(files.content), sum(one["rows"] for one in files.load["files"]), len(objects))


# --- the vendors' rules, where they bite --------------------------------------------------------------------------


@each_loader
def test_files_are_cut_where_a_request_ends(tmp_path: Path, policy: Policy, loader: Loader) -> None:
    most, _ = RULES[loader.name]
    number = most + 1
    folder = published(tmp_path / "out", policy, {HCP: map(payload, range(number)), SUPPORT: [
        payload(n, route="patient-support") for n in range(3)]})  # fmt: skip
    files = exported(folder, tmp_path / "for-crm", loader, policy)
    task, attribute = (loader.api_name(name) for name in ("hcp_task__c", "patient_attribute__c"))
    sizes = {one["file"]: one["rows"] for one in files.load["files"]}
    assert sizes == {f"{task}-upsert-0001.csv": most, f"{task}-upsert-0002.csv": 1, f"{attribute}-upsert-0001.csv": 3}
    assert files.rows[f"{task}-upsert-0001.csv"][0] == files.rows[f"{task}-upsert-0002.csv"][0]


@each_loader
def test_deletes_are_cut_too(tmp_path: Path, policy: Policy, loader: Loader) -> None:
    most, _ = RULES[loader.name]
    lines = [line for n in range(most + 1) for line in (payload(n), retraction(n, 2))]
    files = exported(published(tmp_path / "out", policy, {HCP: lines}), tmp_path / "for-crm", loader, policy)
    task = loader.api_name("hcp_task__c")
    assert {one["file"]: one["rows"] for one in files.load["files"]} == {
        f"{task}-delete-0001.csv": most, f"{task}-delete-0002.csv": 1,
    }  # fmt: skip
    assert {tuple(rows[0]) for rows in files.rows.values()} == {(loader.api_name("limen_record__c"),)}


@each_loader
def test_the_newest_payload_of_a_record_wins(tmp_path: Path, policy: Policy, loader: Loader) -> None:
    def of(number: int, recordseq: int, kind: str) -> dict[str, Any]:
        return payload(number, recordseq, data={"milestone": kind})

    one = [of(2, 10, "discharged"), of(1, 1, "admitted"), *(of(2, n, "admitted") for n in range(1, 10))]
    other = [of(1, 2, "discharged")]
    folder = published(tmp_path / "out", policy, {HCP: one, HCP.replace("0", "1"): other})
    files = exported(folder, tmp_path / "for-crm", loader, policy)
    [[_, *rows]] = files.rows.values()
    assert [row[:4] for row in rows] == [
        [opaque(n.to_bytes(16)), opaque(n.to_bytes(16)), "2026-05-01", "discharged"] for n in (1, 2)
    ]
    assert {row[4] for row in rows} == {loader.absent}


def test_an_absent_value_clears_the_field_in_salesforce(tmp_path: Path, policy: Policy) -> None:
    """An empty cell would leave there what an older payload wrote."""
    folder = published(tmp_path / "out", policy, {HCP: [payload(1, data={"milestone": "admitted"})]})
    [[_, row]] = exported(folder, tmp_path / "for-crm", SALESFORCE, policy).rows.values()
    assert row[-1] == "#N/A"


def test_values_are_quoted_as_rfc_4180_says(tmp_path: Path, policy: Policy) -> None:
    data = {"milestone": 'a "b", c', "clinician_npi": "1234567893"}
    folder = published(tmp_path / "out", policy, {HCP: [payload(1, data=data)]})
    [content] = exported(folder, tmp_path / "for-crm", VAULT_LOADER, policy).content.values()
    assert content.split(b"\r\n")[1].endswith(b',"a ""b"", c",1234567893')


# --- what is taken back -------------------------------------------------------------------------------------------


@each_loader
def test_a_record_that_is_taken_back_is_deleted(tmp_path: Path, policy: Policy, loader: Loader) -> None:
    lines = [payload(1), payload(2), retraction(2, 2), payload(3), retraction(3, 2), payload(3, 3)]
    files = exported(published(tmp_path / "out", policy, {HCP: lines}), tmp_path / "for-crm", loader, policy)
    task, key = loader.api_name("hcp_task__c"), loader.api_name("limen_record__c")
    assert [one["file"] for one in files.load["files"]] == [f"{task}-delete-0001.csv", f"{task}-upsert-0001.csv"]
    assert files.rows[f"{task}-delete-0001.csv"] == [[key], [opaque((2).to_bytes(16))]]
    written = [row[0] for row in files.rows[f"{task}-upsert-0001.csv"][1:]]
    assert written == [opaque(n.to_bytes(16)) for n in (1, 3)]  # written again: not deleted


@each_loader
@pytest.mark.parametrize("rule, word", [("freeze", "frozen"), ("retain", "retained")])
def test_a_record_that_stays_is_marked(tmp_path: Path, policy: Policy, loader: Loader, rule: str, word: str) -> None:
    """What else stands in it is not touched; and who is written again is active again."""
    lines = [payload(1), payload(2), retraction(2, 2, rule), payload(3), retraction(3, 2, rule), payload(3, 3)]
    folder = published(tmp_path / "out", policy, {HCP: lines})
    nothing_from(folder, policy, ConfigurationError, "status_field")
    files = exported(
        folder, tmp_path / "with", loader, routed(policy, "hcp-notification", status_field="limen_state__c")
    )
    update, upsert = (files.rows[one["file"]] for one in files.load["files"])
    names = [loader.api_name(name) for name in ("limen_record__c", "limen_state__c")]
    assert update == [names, [opaque((2).to_bytes(16)), word]]
    assert (upsert[0][0], upsert[0][-1]) == tuple(names)
    assert [(row[0], row[-1]) for row in upsert[1:]] == [(opaque(n.to_bytes(16)), "active") for n in (1, 3)]
    assert [one["operation"] for one in files.load["files"]] == ["update", "upsert"]


def test_a_destination_of_which_all_is_deleted_needs_no_status_field(tmp_path: Path, policy: Policy) -> None:
    folder = published(tmp_path / "out", policy, {HCP: [payload(1), retraction(1, 2)]})
    [rows] = exported(folder, tmp_path / "for-crm", SALESFORCE, policy).rows.values()
    assert rows == [["Limen_Record__c"], [opaque((1).to_bytes(16))]]


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a rule of no policy": lambda line: line["data"].update(after_revocation="keep"),
    "no rule": lambda line: line["data"].clear(),
    "more than a rule": lambda line: line["data"].update(milestone="admitted"),
    "what leaves a payload standing": lambda line: line.update(retracts=1),
    "a what-if": lambda line: line.update(whatif=True),
    "an attribute less": lambda line: line.pop("consentref"),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_a_retraction_that_is_not_of_its_contract_is_refused(
    tmp_path: Path, policy: Policy, spoil: Callable[[dict[str, Any]], object]
) -> None:
    wrong = retraction(1, 3)
    spoil(wrong)
    folder = published(tmp_path / "out", policy, {HCP: [payload(1), payload(1, 2), wrong]})
    nothing_from(folder, policy, LawBroken, "not_of_its_contract")


# --- many runs ----------------------------------------------------------------------------------------------------

Crm = dict[tuple[str, str], dict[str, str]]  # (object, key) → field → value


def load(crm: Crm, files: Files) -> None:
    """What a vendor's loader does, file after file."""
    for one in files.load["files"]:
        header, *rows = files.rows[one["file"]]
        for row in rows:
            name = (one["object"], row[0])
            if one["operation"] == "delete":
                crm.pop(name, None)  # of a record that never came, the row fails and nothing else
            elif one["operation"] == "upsert" or name in crm:
                crm[name] = crm.get(name, {}) | dict(zip(header[1:], row[1:], strict=True))


def as_it_was(stream: Ran, runs: int, folder: Path) -> Path:
    """The output folder as it was after so many runs."""
    names = sorted(path.stem for path in (stream.output / "manifest").iterdir())[:runs]
    shutil.copytree(stream.output, folder, ignore=lambda where, _: ["manifest"] if where == str(stream.output) else [])
    (folder / "manifest").mkdir()
    for name in names:
        shutil.copy(stream.output / f"manifest/{name}.json", folder / "manifest")
    return folder


@each_loader
def test_loading_what_is_new_after_each_run_ends_in_the_net_state(
    stream: Ran, tmp_path: Path, policy: Policy, loader: Loader
) -> None:
    whole = exported(stream.output, tmp_path / "whole", loader, policy)
    at_once: Crm = {}
    load(at_once, whole)
    step_by_step: Crm = {}
    since, rows = "", []
    for number in range(1, 5):
        out = as_it_was(stream, number, tmp_path / f"out-{number}")
        files = exported(out, tmp_path / f"for-crm-{number}", loader, policy, since)
        load(step_by_step, files)
        assert files.load["since"] == (since or None) and len(files.load["runs"]) == 1
        since = files.load["runs"][-1]
        rows.append(files.done.rows)
    assert step_by_step == at_once and len(at_once) > 100
    assert max(rows[1:]) < whole.done.rows  # and is less than everything
    assert export(stream.output, tmp_path / "again", loader, policy, since) == (0, 0, 0)
    assert not (tmp_path / "again").exists()


def test_what_is_new_is_whole_records(tmp_path: Path, policy: Policy) -> None:
    """Of a record that a later run wrote, all runs decide. Others are left out, even if they are wrong."""
    folder = published(tmp_path / "out", policy, {HCP: [payload(1), payload(2), payload(3, name="x")]}, "a")
    later = {HCP.replace("0", "1"): [retraction(1, 2), payload(2, 2)]}
    published(folder, policy, later, "b", as_of="2026-06-02T00:00:00Z")
    nothing_from(folder, policy, LawBroken, "not_of_its_contract")
    files = exported(folder, tmp_path / "new", VAULT_LOADER, policy, "a")
    found = {one["operation"]: files.rows[one["file"]][1:] for one in files.load["files"]}
    assert {name: [row[0] for row in rows] for name, rows in found.items()} == {
        "delete": [opaque((1).to_bytes(16))], "upsert": [opaque((2).to_bytes(16))],
    }  # fmt: skip
    assert (files.load["since"], files.load["runs"]) == ("a", ["b"])


def test_of_two_runs_at_one_instant_either_may_be_the_later(tmp_path: Path, policy: Policy) -> None:
    folder = published(tmp_path / "out", policy, {HCP: [payload(1), payload(3)]}, "b")
    published(folder, policy, {HCP.replace("0", "1"): [payload(2), payload(3, 2)]}, "a")
    for since, others in (("a", (1, 3)), ("b", (2, 3))):
        [rows] = exported(folder, tmp_path / since, VAULT_LOADER, policy, since).rows.values()
        assert [row[0] for row in rows[1:]] == [opaque(n.to_bytes(16)) for n in others]


@pytest.mark.parametrize("since", ["20260101T000000Z-none", "2", "-", "none"])
def test_a_run_that_is_not_there_or_not_the_only_one_is_refused(
    stream: Ran, tmp_path: Path, policy: Policy, since: str
) -> None:
    with pytest.raises(ConfigurationError, match="--since"):
        export(stream.output, tmp_path / "for-crm", VAULT_LOADER, policy, since)


def test_how_a_run_s_name_begins_is_enough(stream: Ran, tmp_path: Path, policy: Policy) -> None:
    name = min(path.stem for path in (stream.output / "manifest").iterdir())
    for place, since in enumerate((name, name.partition("-")[0])):
        files = exported(stream.output, tmp_path / str(place), VAULT_LOADER, policy, since)
        assert (files.load["since"], len(files.load["runs"])) == (name, 3)


def test_a_run_whose_manifest_is_gone_is_noticed(stream: Ran, tmp_path: Path, policy: Policy) -> None:
    """It may be the one that takes back."""
    for place in range(3):
        folder = as_it_was(stream, 4, tmp_path / f"out-{place}")
        sorted((folder / "manifest").iterdir())[place].unlink()
        nothing_from(folder, policy, LawBroken, "missing_or_doubled")


def test_a_manifest_under_another_name_is_refused(done: Path, policy: Policy) -> None:
    [manifest] = done.glob("manifest/*.json")
    shutil.copy(manifest, manifest.with_name("another.json"))
    nothing_from(done, policy, LawBroken, "another_name")


def test_the_policy_is_that_of_the_newest_run(tmp_path: Path, policy: Policy) -> None:
    older = policy.model_copy(update={"digest": "1" * 64})
    folder = published(tmp_path / "out", older, {HCP: [payload(1)]}, "z", as_of="2026-05-01T00:00:00Z")
    published(folder, policy, {HCP.replace("0", "1"): [payload(2)]}, "a", as_of="2026-05-01T00:00:00.5Z")
    assert exported(folder, tmp_path / "for-crm", VAULT_LOADER, policy).done.rows == 2
    with pytest.raises(ConfigurationError, match=f"the newest run was decided by one of digest {policy.digest[:12]}"):
        export(folder, tmp_path / "again", VAULT_LOADER, older)


def test_a_what_if_among_runs_is_refused(tmp_path: Path, policy: Policy) -> None:
    folder = published(tmp_path / "out", policy, {HCP: [payload(1)]}, "a", what_if=True)
    published(folder, policy, {HCP.replace("0", "1"): [payload(2)]}, "b", as_of="2026-06-02T00:00:00Z")
    nothing_from(folder, policy, ConfigurationError, "what-if")


def test_two_routes_that_write_one_record_are_refused(tmp_path: Path, policy: Policy) -> None:
    """One could delete what the other writes."""
    lines = {HCP: [payload(1), retraction(1, 2)], SUPPORT: [payload(1, route="patient-support")]}
    folder = published(tmp_path / "out", policy, lines)
    assert exported(folder, tmp_path / "two", VAULT_LOADER, policy).done == (2, 2, 2)  # two objects
    nothing_from(
        folder, routed(policy, "hcp-notification", object="patient_attribute__c"), ConfigurationError, "one record"
    )


# --- what is refused ----------------------------------------------------------------------------------------------


def nothing_from(folder: Path, policy: Policy, error: type[Exception], match: str) -> None:
    output = folder.parent / "for-crm"
    for loader in LOADERS:
        with pytest.raises(error, match=match):
            export(folder, output, loader, policy)
        assert not output.exists()


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before


def test_a_changed_payload_file_is_refused(done: Path, policy: Policy) -> None:
    file = max(done.glob("crm/*/*.jsonl"))
    rewrite(file, lambda content: content.replace(b"discharged", b"registered", 1))
    nothing_from(done, policy, LawBroken, "missing_or_changed")
    file.unlink()
    nothing_from(done, policy, LawBroken, "missing_or_changed")


def test_a_changed_manifest_is_refused(done: Path, policy: Policy) -> None:
    """Also one that fits the changed file."""
    file = min(done.glob("crm/hcp-notification/*.jsonl"))
    old = hashlib.sha256(file.read_bytes()).hexdigest().encode()
    rewrite(file, lambda content: content.replace(b"admitted", b"attended", 1))
    new = hashlib.sha256(file.read_bytes()).hexdigest().encode()
    [manifest] = done.glob("manifest/*.json")
    rewrite(manifest, lambda content: content.replace(old, new))
    nothing_from(done, policy, LawBroken, "signature_invalid")


def test_another_key_or_none_is_refused(done: Path, policy: Policy, tmp_path: Path) -> None:
    [pem] = done.glob("audit/*.pem")
    pem.write_bytes(keys.create(tmp_path / "another").public_key_pem)
    nothing_from(done, policy, LawBroken, "signature_invalid")
    pem.write_bytes(b"no key")
    nothing_from(done, policy, LawBroken, "public_key")
    pem.unlink()
    nothing_from(done, policy, LawBroken, "public_key")


def test_a_file_that_the_manifest_does_not_name_is_not_read(done: Path, policy: Policy, tmp_path: Path) -> None:
    before = exported(done, tmp_path / "before", VAULT_LOADER, policy)
    (done / SUPPORT.replace("0", "more")).write_text(json.dumps(payload(1, route="patient-support")) + "\n")
    assert exported(done, tmp_path / "after", VAULT_LOADER, policy).content == before.content


def test_a_what_if_is_refused(ran: Ran, tmp_path: Path, policy: Policy) -> None:
    decide([ran.hospital.feeds], tmp_path / "out", tmp_path / "state", ran.hospital.as_of.replace("2026", "2025"))
    assert json.loads((tmp_path / "out/summary.json").read_bytes())["what_if"]
    nothing_from(tmp_path / "out", policy, ConfigurationError, "what-if")


def test_another_policy_is_refused(done: Path, policy: Policy) -> None:
    nothing_from(done, policy.model_copy(update={"digest": "0" * 64}), ConfigurationError, policy.name)


def test_a_folder_without_a_run_is_refused(tmp_path: Path, policy: Policy) -> None:
    nothing_from(tmp_path / "none", policy, ConfigurationError, "no run has published")


def test_a_folder_that_is_not_empty_is_refused(ran: Ran, tmp_path: Path, policy: Policy) -> None:
    (tmp_path / "old.csv").write_text("of another run")
    with pytest.raises(ConfigurationError, match="not empty"):
        export(ran.output, tmp_path, VAULT_LOADER, policy)
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]


@pytest.mark.parametrize("begin", FORMULA, ids=repr)
@pytest.mark.parametrize("place", ["milestone", "subject", "record"])
def test_a_value_that_would_be_a_formula_is_refused(tmp_path: Path, policy: Policy, begin: str, place: str) -> None:
    evil = f"{begin}1+1"
    changes = {place: evil} if place != "milestone" else {"data": {"milestone": evil}}
    folder = published(tmp_path / "out", policy, {HCP: [payload(1), payload(2, **changes)]})
    nothing_from(folder, policy, LawBroken, "formula")


SHAPES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a retraction with a payload's data": lambda line: line.update(retracts=1),
    "a what-if": lambda line: line.update(whatif=True),
    "a field of no recipe": lambda line: line["data"].update(name="x"),
    "an attribute less": lambda line: line.pop("consentref"),
}


@pytest.mark.parametrize("spoil", SHAPES.values(), ids=SHAPES)
def test_a_payload_that_is_not_of_its_contract_is_refused(
    tmp_path: Path, policy: Policy, spoil: Callable[[dict[str, Any]], object]
) -> None:
    wrong = payload(2)
    spoil(wrong)
    nothing_from(
        published(tmp_path / "out", policy, {HCP: [payload(1), wrong]}), policy, LawBroken, "not_of_its_contract"
    )


@pytest.mark.parametrize("places", [(1, 1), (2,), (1, 3), (1, 2, 2), (0, 1), (-1,), (1, 1, 3)], ids=repr)
def test_lines_of_a_record_that_are_no_sequence_are_refused(
    tmp_path: Path, policy: Policy, places: tuple[int, ...]
) -> None:
    folder = published(tmp_path / "out", policy, {HCP: [payload(2), *(payload(1, place) for place in places)]})
    nothing_from(folder, policy, LawBroken, "missing_or_doubled")


def test_payloads_of_no_route_are_refused(tmp_path: Path, policy: Policy) -> None:
    folder = published(tmp_path / "out", policy, {HCP: [payload(1)], "crm/another/0.jsonl": [payload(2)]})
    nothing_from(folder, policy, LawBroken, "no_route")


@pytest.mark.parametrize("name", ["", "../../elsewhere", "a b", "=1+1", "x\n"])
@pytest.mark.parametrize("key", ["object", "external_id"])
def test_an_object_without_a_name_is_refused(tmp_path: Path, policy: Policy, key: str, name: str) -> None:
    folder = published(tmp_path / "out", policy, {HCP: [payload(1)]})
    nothing_from(folder, routed(policy, "hcp-notification", **{key: name}), ConfigurationError, "CRM object")


# --- the command --------------------------------------------------------------------------------------------------


@each_loader
def test_the_command_says_what_it_wrote(
    ran: Ran, tmp_path: Path, policy: Policy, loader: Loader,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said = command(capsys, monkeypatch, "export", loader.name, ran.output, "--output", tmp_path / "for-crm")
    files, rows, objects = exported(ran.output, tmp_path / "again", loader, policy).done
    assert (said.code, said.err, said.out.count("\n")) == (0, "", 1)
    assert said.out.startswith(f"{many(files, 'file')}, {many(rows, 'row')}, {many(objects, 'object')} in ")
    name = min(path.stem for path in (ran.output / "manifest").iterdir())
    new = ("--output", tmp_path / "new", "--since", name)
    assert command(capsys, monkeypatch, "export", loader.name, ran.output, *new).out.endswith("nothing written\n")
    made, again = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("for-crm", "again"))
    assert made == again


@pytest.mark.parametrize("spoil, code", [("crm/*/*.jsonl", 3), ("manifest/*.json", 3), ("no such file", 0)])
def test_the_command_ends_with_3_if_a_file_was_changed(
    done: Path, spoil: str, code: int, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for file in done.glob(spoil):
        rewrite(file, lambda content: content.replace(b"1", b"2"))
    said: Said = command(capsys, monkeypatch, "export", "salesforce", done, "--output", tmp_path / "for-crm")
    assert said.code == code
    assert (tmp_path / "for-crm").exists() == (code == 0)


def test_a_run_that_released_nothing_gives_no_file_and_says_so(
    ran: Ran, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = without_consents(ran.hospital.feeds, tmp_path / "feeds")
    decide([feeds], tmp_path / "out", tmp_path / "state", ran.hospital.as_of)
    said = command(capsys, monkeypatch, "export", "vault-loader", tmp_path / "out", "--output", tmp_path / "for-crm")
    assert (said.code, said.out) == (0, "no record was written or taken back: nothing to load, nothing written\n")
    assert not (tmp_path / "for-crm").exists()
