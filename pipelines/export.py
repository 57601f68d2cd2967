"""What a CRM team loads and builds upon: runs' payloads as CSV files for a vendor's loader, and routes' contracts.

A folder holds one run or the runs of one ledger; `published` reads it. Its key is the one that lies in DIR/audit. What
is exported is the net state: what each record's newest line says. A what-if is not deliverable. Everything is read and
checked before anything is written, and load.json, which names all the files in the order of loading, is written last.

    newest line               file                  columns
    a payload                 <object>-upsert-…     key, the recipe's outbound fields[, the status field: active]
    a retraction, delete      <object>-delete-…     key
    a retraction, freeze      <object>-update-…     key, the status field: frozen
    a retraction, retain      <object>-update-…     key, the status field: retained

Vault Loader (Veeva)
    UTF-8, RFC 4180: general.veevavault.dev/safety/migrations/references/data-transformation, which also gives
    dates as YYYY-MM-DD. Upsert, update and delete by a unique key field, columns named as the object's fields:
    platform.veevavault.help/en/gr/26607. At most 500 rows a request, and of rows that repeat an id in one request the
    repeats fail: limited.veevavault.dev/vault-api/api-reference/25.2/vault-objects/update-object-records. A delete
    wants the key and nothing else, any unique field: …/24.2/vault-objects/delete-object-records.
Salesforce Bulk API 2.0
    UTF-8; columns named by API name; comma and LF are the defaults; no padding; an empty cell is ignored in an update
    and `#N/A` sets null; at most 100 MB before base64:
    developer.salesforce.com/docs/platform/api-asynch/guide/datafiles-prepare-csv. Batches of 10,000 records:
    …/api_asynch/datafiles_understanding_bulk2_ingest. Dates as yyyy-MM-dd: …/valid_date_format_in_records__2_0.
    Repeated ids in a batch fail: help.salesforce.com article 000384876.
    Only an upsert takes an external id (…/guide/walkthrough-upsert). A delete job wants the one column `Id`
    (…/salesforce-cli-reference/guide/cli_reference_data_delete_bulk), an update job `Id` too; by external id both are
    REST calls: …/api-rest/guide/resources-sobject-upsert-delete, and …/resources-sobject-upsert-patch with
    `updateOnly`, for an upsert would make a record of one that is not there.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipelines import published
from pipelines.published import Record
from schemas.contract import contract, documents, retraction
from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Signed
from schemas.policy import Policy
from schemas.recipe import Action
from schemas.route import Route

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # at the start of a cell, what a spreadsheet may compute or run
OPERATIONS = ("delete", "update", "upsert")  # in the order of loading: what is taken back goes first
ACTIVE = "active"
WITHDRAWN = {"freeze": "frozen", "retain": "retained"}  # after_revocation → what the status field says

_API_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
_LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}
_RETRACTION = retraction()["properties"].keys()


class Loader(NamedTuple):
    """How a vendor's loader wants its files: rows a file, line ending, the cell of an absent value, and whether names
    are written `Patient_Attribute__c` (else `patient_attribute__c`)."""

    name: str
    rows: int
    line_ending: str
    absent: str
    capitals: bool

    def api_name(self, name: str) -> str:
        """A custom name as this vendor writes it; a standard one (without `__c`) as the policy has it."""
        if not self.capitals or not name.endswith("__c"):
            return name
        return "_".join(part[:1].upper() + part[1:] for part in name.removesuffix("__c").split("_")) + "__c"


VAULT_LOADER = Loader("vault-loader", 500, "CRLF", "", capitals=False)
SALESFORCE = Loader("salesforce", 10_000, "LF", "#N/A", capitals=True)


class Exported(NamedTuple):
    """What was written besides load.json."""

    files: int
    rows: int
    objects: int


class _Table(NamedTuple):
    """One route's rows for one operation, a row for each record, in the order of the records' keys."""

    operation: str
    route: Route
    object: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def export(folder: Path, output: Path, loader: Loader, policy: Policy, since: str = "") -> Exported:
    """Write the net state of the runs in `folder` as files for `loader`: of all records, or of those that runs after
    `since` (a run's name, or how it begins) wrote. Nothing to load gives no file.

    Raises ConfigurationError if there is nothing to export from or to, or the policy is not the newest run's; LawBroken
    if what is there is not what the runs published.
    """
    if output.exists() and not (output.is_dir() and next(output.iterdir(), None) is None):
        raise ConfigurationError("--output", "the folder is not empty", "name a new folder")
    runs = sorted(published.runs(folder), key=_horizon)
    _deliverable(runs, policy)
    known = _named(since, runs) if since else None
    covered = _after(known, runs) if known else runs
    tables = _tables(folder, runs, {run.run for run in covered}, loader, policy)
    numbers: Counter[str] = Counter()
    files: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    for table in sorted(tables, key=lambda one: OPERATIONS.index(one.operation)):
        for start in range(0, len(table.rows), loader.rows):
            rows = table.rows[start : start + loader.rows]
            kind = f"{table.object}-{table.operation}"
            numbers[kind] += 1
            name = f"{kind}-{numbers[kind]:04d}.csv"
            files[name] = _csv(table.header, rows, loader)
            listed.append({
                "file": name, "operation": table.operation, "object": table.object, "external_id": table.header[0],
                "route": table.route.route, "dest": table.route.destination.name, "rows": len(rows),
                "sha256": _digest(files[name]),
            })  # fmt: skip
    if files:
        load = {
            "loader": loader.name, "runs": [run.run for run in covered], "since": known and known.run,
            "policy": policy.name, "keyid": _digest(published.public_key(folder))[:16], "column_delimiter": "COMMA",
            "line_ending": loader.line_ending, "files": listed,
        }  # fmt: skip
        listing = msgspec.json.format(msgspec.json.encode(load), indent=2) + b"\n"
        _write("--output", output, {**files, "load.json": listing})
    return Exported(len(files), sum(one["rows"] for one in listed), len({one["object"] for one in listed}))


def publish_contracts(folder: Path, policy: Policy) -> list[str]:
    """Write each contract that is not there yet, and name what was written.

    Raises ConfigurationError, and writes nothing, if one that is there says something else: it has been promised.
    """
    promised = documents(policy)
    new = {name: content for name, content in promised.items() if not (folder / name).exists()}
    for name in promised.keys() - new.keys():
        if (folder / name).read_bytes() != promised[name]:
            raise ConfigurationError("DIR", f"{name} was published otherwise", "step recipe_revision")
    _write("DIR", folder, new)
    return sorted(new)


# --- from the runs' folder ---


def _horizon(run: Signed) -> datetime:
    """The instant up to which a run decided; two of one ledger may share it."""
    return datetime.fromisoformat(run.facts["as_of"])


def _deliverable(runs: list[Signed], policy: Policy) -> None:
    if any(run.facts["what_if"] for run in runs):
        raise ConfigurationError("DIR", "a what-if is not deliverable", "run with an --as-of after the newest fact")
    newest = [run.facts for run in runs if _horizon(run) == _horizon(runs[-1])]
    if policy.digest not in {facts["policy_digest"] for facts in newest}:
        mine, theirs = policy.digest[:12], newest[-1]["policy_digest"][:12]
        problem = f"{policy.name} of digest {mine}, but the newest run was decided by one of digest {theirs}"
        raise ConfigurationError("--policy", problem, "name that bundle")


def _named(since: str, runs: list[Signed]) -> Signed:
    """The run whose name is so or begins so."""
    found = [run for run in runs if run.run.startswith(since)]
    if len(found) != 1:
        raise ConfigurationError("--since", "the folder holds no such run, or several", "name one of its load.json")
    return found[0]


def _after(known: Signed, runs: list[Signed]) -> list[Signed]:
    """The runs that came after a run. Which of two of one horizon was first is not told: the other is taken as later,
    and loading a record's net state again changes nothing."""
    return [run for run in runs if run is not known and _horizon(run) >= _horizon(known)]


def _tables(folder: Path, runs: list[Signed], covered: Collection[str], loader: Loader, policy: Policy) -> list[_Table]:
    """The tables of all routes of which something is to be loaded. A record stands in one of them, once."""
    by_route = published.records(folder, runs, covered)
    tables = [one for route in policy.routes for one in _of(route, by_route.pop(route.route, {}), loader, policy)]
    if by_route:
        raise LawBroken("payloads_of_no_route")
    writers: dict[tuple[str, str], str] = {}
    for one in tables:
        for row in one.rows:
            if (writer := writers.setdefault((one.object, row[0]), one.route.route)) != one.route.route:
                problem = f"routes {writer} and {one.route.route} write one record of {one.object}"
                raise ConfigurationError("--policy", problem, "give each an object of its own")
    return tables


def _of(route: Route, records: Mapping[str, Record], loader: Loader, policy: Policy) -> Iterator[_Table]:
    """One route's tables."""
    newest = [records[record].newest for record in sorted(records) if records[record].touched]
    if not newest:
        return
    where = route.destination
    if not all(_API_NAME.fullmatch(name) for name in (where.object, where.external_id, where.status_field or "none")):
        raise ConfigurationError("--policy", f"route {route.route} names no CRM object and key", "name them")
    fields = [row.to for row in route.recipe if row.action is not Action.DROP]
    status = [where.status_field] if where.status_field else []
    headers = {
        "delete": [where.external_id],
        "update": [where.external_id, *status],
        "upsert": [where.external_id, *(f"{one}__c" for one in fields), *status],
    }
    if len({name.lower() for name in headers["upsert"]}) != len(headers["upsert"]):
        raise ConfigurationError("--policy", f"route {route.route}: two columns of one name", "name its key apart")
    rows: dict[str, list[tuple[str, ...]]] = {operation: [] for operation in OPERATIONS}
    shape = contract(route, policy)["properties"]
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for line in map(decode, newest):
        operation, values = _net(line, shape, fields, status=bool(status))
        if operation == "update" and not status:
            problem = f"route {route.route}: records are to be marked, and its destination names no status_field"
            raise ConfigurationError("--policy", problem, "name the field of the object that is to say so")
        rows[operation].append(tuple(_cell(value, loader) for value in (line["record"], *values)))
    for operation in OPERATIONS:
        if rows[operation]:
            header = tuple(loader.api_name(name) for name in headers[operation])
            yield _Table(operation, route, loader.api_name(where.object), header, rows[operation])


def _net(
    line: Mapping[str, Any], shape: Mapping[str, Any], fields: Iterable[str], *, status: bool
) -> tuple[str, Iterable[str]]:
    """What a record's newest line asks for: the operation, and the cells after the key.

    A line of other attributes than a contract's (a what-if's) is refused: as a plain row it would say the opposite.
    """
    data = line["data"]
    if "retracts" in line:
        if (
            line.keys() != _RETRACTION
            or line["retracts"] != line["recordseq"] - 1
            or data.keys() != {"after_revocation"}
        ):
            raise LawBroken("a_retraction_is_not_of_its_contract")
        if (rule := data["after_revocation"]) == "delete":
            return "delete", ()
        if rule not in WITHDRAWN:
            raise LawBroken("a_retraction_is_not_of_its_contract")
        return "update", (WITHDRAWN[rule],)
    if line.keys() != shape.keys() or not data.keys() <= shape["data"]["properties"].keys():
        raise LawBroken("a_payload_is_not_of_its_contract")
    # A day is written as a date: as an instant at midnight UTC it would show as the day before in New York.
    values = {**data, "subject": line["subject"], "time": line["time"][:10]}
    return "upsert", (*(values.get(one, "") for one in fields), *([ACTIVE] if status else ()))


def _cell(value: str, loader: Loader) -> str:
    """A value as it is: a prefix that defuses a formula would be another value, so that one is refused instead."""
    if value.startswith(FORMULA):
        raise LawBroken("a_value_would_be_a_formula")
    return value or loader.absent


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- to the loader's folder ---


def _csv(header: tuple[str, ...], rows: list[tuple[str, ...]], loader: Loader) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=_LINE_ENDINGS[loader.line_ending]).writerows([header, *rows])
    return text.getvalue().encode()


def _write(option: str, folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError:
        problem = f"{folder} cannot be written"
        raise ConfigurationError(option, problem, "name a folder that this user may write") from None
