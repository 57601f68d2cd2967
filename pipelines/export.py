"""What a CRM team loads and builds upon: a run's payloads as CSV files for a vendor's loader, and routes' contracts.

The run is read through its manifest alone: its signature is checked with the key that lies in DIR/audit, and each
payload file against its digest. A what-if is not deliverable. Everything is read and checked before anything is
written, and load.json, which names all the files, is written last.

Vault Loader (Veeva)
    UTF-8, RFC 4180: general.veevavault.dev/safety/migrations/references/data-transformation, which also gives
    dates as YYYY-MM-DD. Upsert by a unique key field, columns named as the object's fields:
    platform.veevavault.help/en/gr/26607. At most 500 rows a request, and of rows that repeat an id in one request the
    repeats fail: limited.veevavault.dev/vault-api/api-reference/25.2/vault-objects/update-object-records.
Salesforce Bulk API 2.0
    UTF-8; columns named by API name; comma and LF are the defaults; no padding; an empty cell is ignored in an update
    and `#N/A` sets null; at most 100 MB before base64:
    developer.salesforce.com/docs/platform/api-asynch/guide/datafiles-prepare-csv. Batches of 10,000 records:
    …/api_asynch/datafiles_understanding_bulk2_ingest. Dates as yyyy-MM-dd: …/valid_date_format_in_records__2_0.
    Repeated ids in a batch fail: help.salesforce.com article 000384876.
"""

import csv
import hashlib
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from schemas.contract import contract, file_name, published
from schemas.errors import ConfigurationError, LawBroken
from schemas.manifest import Manifest, Published, Signed
from schemas.policy import Policy, Route
from schemas.recipe import Action

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # at the start of a cell, what a spreadsheet may compute or run

_API_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
_LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}


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
    """One route's rows, a row for each record, in the order of the records' keys."""

    route: Route
    object: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def export(folder: Path, output: Path, loader: Loader, policy: Policy) -> Exported:
    """Write the payloads of the run in `folder` as files for `loader`. A run without payloads gives no file.

    Raises ConfigurationError if there is nothing to export from or to, or the policy is not the run's; LawBroken if
    what is there is not what the run published.
    """
    if output.exists() and not (output.is_dir() and next(output.iterdir(), None) is None):
        raise ConfigurationError("--output", "the folder is not empty", "name a new folder")
    signed, keyid = _verified(folder)
    if signed.facts["what_if"]:
        raise ConfigurationError("DIR", "a what-if is not deliverable", "run with an --as-of after the newest fact")
    if signed.facts["policy_digest"] != policy.digest:
        raise ConfigurationError("--policy", "not the one that decided the run", f"name {signed.facts['policy']}")
    tables = list(_tables(folder, signed, loader, policy))
    numbers: Counter[str] = Counter()
    files: dict[str, bytes] = {}
    listed: list[dict[str, Any]] = []
    for table in tables:
        for start in range(0, len(table.rows), loader.rows):
            rows = table.rows[start : start + loader.rows]
            numbers[table.object] += 1
            name = f"{table.object}-{numbers[table.object]:04d}.csv"
            files[name] = _csv(table.header, rows, loader)
            listed.append({
                "file": name, "object": table.object, "external_id": table.header[0], "route": table.route.route,
                "dest": table.route.destination.name, "rows": len(rows), "sha256": _digest(files[name]),
            })  # fmt: skip
    if files:
        load = {
            "loader": loader.name, "run": signed.run, "policy": signed.facts["policy"], "keyid": keyid,
            "operation": "upsert", "column_delimiter": "COMMA", "line_ending": loader.line_ending, "files": listed,
        }  # fmt: skip
        _write(output, {**files, "load.json": msgspec.json.format(msgspec.json.encode(load), indent=2) + b"\n"})
    return Exported(len(files), sum(len(table.rows) for table in tables), len(numbers))


def publish_contracts(folder: Path, policy: Policy) -> list[str]:
    """Write the contract of each payload route that is not there yet, and name what was written.

    Raises ConfigurationError, and writes nothing, if one that is there says something else: it has been promised.
    """
    routes = [route for route in policy.routes if route.delivers == "payloads"]
    new = {file_name(route): published(route, policy) for route in routes if not (folder / file_name(route)).exists()}
    for route in routes:
        if file_name(route) not in new and (folder / file_name(route)).read_bytes() != published(route, policy):
            raise ConfigurationError("DIR", f"{file_name(route)} was published otherwise", "step recipe_revision")
    _write(folder, new)
    return sorted(new)


# --- from the run's folder ---


def _verified(folder: Path) -> tuple[Signed, str]:
    """What the run published, and the id of the key that signed it."""
    manifests = sorted((folder / "manifest").glob("*.json"))
    if len(manifests) != 1:
        raise ConfigurationError("DIR", "the folder holds no run, or more than one", "name the --output of a run")
    try:
        [pem] = (folder / "audit").glob("limen-*.pem")
        key = load_pem_public_key(pem.read_bytes())
    except (OSError, ValueError):
        raise LawBroken("public_key_missing_or_unreadable") from None
    if not isinstance(key, Ed25519PublicKey):
        raise LawBroken("public_key_missing_or_unreadable")
    raw = key.public_bytes_raw()
    return Manifest.verified(manifests[0].read_bytes(), raw), _digest(raw)[:16]


def _tables(folder: Path, signed: Signed, loader: Loader, policy: Policy) -> Iterator[_Table]:
    """The tables of all routes that wrote payloads."""
    by_route: dict[str, list[Published]] = {}
    for one in signed.files:
        kind, _, rest = one.path.partition("/")
        if kind == "crm":
            by_route.setdefault(rest.partition("/")[0], []).append(one)
    for route in policy.routes:
        if not (files := by_route.pop(route.route, [])):
            continue
        where = route.destination
        if not (_API_NAME.fullmatch(where.object) and _API_NAME.fullmatch(where.external_id)):
            raise ConfigurationError("--policy", f"route {route.route} names no CRM object and key", "name them")
        fields = [row.to for row in route.recipe if row.action is not Action.DROP]
        header = tuple(loader.api_name(name) for name in (where.external_id, *(f"{field}__c" for field in fields)))
        if len({name.lower() for name in header}) != len(header):
            raise ConfigurationError("--policy", f"route {route.route}: its key is named as a field", "name it apart")
        lines = (line for one in files for line in _content(folder, one).splitlines())
        newest = _newest(lines, fields, contract(route, policy), loader)
        rows = [(_cell(record, loader), *newest[record]) for record in sorted(newest)]
        yield _Table(route, loader.api_name(where.object), header, rows)
    if by_route:
        raise LawBroken("payloads_of_no_route")


def _newest(
    lines: Iterable[bytes], fields: list[str], shape: Mapping[str, Any], loader: Loader
) -> dict[str, tuple[str, ...]]:
    """Of each record the cells of its newest payload: one request must not name a record twice.

    A line with other attributes than the contract's (a retraction, which this version does not write, or a what-if) is
    refused: as a plain row it would say the opposite.
    """
    attributes = shape["properties"].keys()
    allowed = shape["properties"]["data"]["properties"].keys()
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    newest: dict[str, tuple[int, tuple[str, ...]]] = {}
    for line in lines:
        payload = decode(line)
        if payload.keys() != attributes or not payload["data"].keys() <= allowed:
            raise LawBroken("a_payload_is_not_of_its_contract")
        record, place = payload["record"], payload["recordseq"]
        if (known := newest.get(record)) and known[0] == place:
            raise LawBroken("two_payloads_at_one_place_of_a_record")
        if known is None or known[0] < place:
            # A day is written as a date: as an instant at midnight UTC it would show as the day before in New York.
            values = {**payload["data"], "subject": payload["subject"], "time": payload["time"][:10]}
            newest[record] = (place, tuple(_cell(values.get(field, ""), loader) for field in fields))
    return {record: cells for record, (_, cells) in newest.items()}


def _cell(value: str, loader: Loader) -> str:
    """A value as it is: a prefix that defuses a formula would be another value, so that one is refused instead."""
    if value.startswith(FORMULA):
        raise LawBroken("a_value_would_be_a_formula")
    return value or loader.absent


def _content(folder: Path, one: Published) -> bytes:
    """A published file, if it is still what was published."""
    try:
        content = (folder / one.path).read_bytes()
    except OSError:
        raise LawBroken("a_published_file_is_missing_or_changed") from None
    if _digest(content) != one.sha256:
        raise LawBroken("a_published_file_is_missing_or_changed")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- to the loader's folder ---


def _csv(header: tuple[str, ...], rows: list[tuple[str, ...]], loader: Loader) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=_LINE_ENDINGS[loader.line_ending]).writerows([header, *rows])
    return text.getvalue().encode()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
    except OSError:
        raise ConfigurationError("--output", "cannot be written", "name a folder that this user may write") from None
