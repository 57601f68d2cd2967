"""The ledger: every patient's timeline between two runs, so that consecutive runs behave as one stream.

    timelines   name of the patient → when something is due, the timeline sealed
    runs        what was committed, in order: the run, its horizon, its signed manifest, whether it is published
    routes      what each route's records are, so that no later policy can lose a record that it may have to take back
    standing    which keyset this ledger belongs to, and in which form it is written

name = HMAC-SHA256(patient key, patient), cut to 16 bytes; a shard of the job is a range of names. A run reads the rows
of the patients that it hears of and those that are due; the commit of a run is one transaction: its timelines, its
manifest, its name. Rule source: DESIGN sections 1 (three drivers, one rule) and 7 (commit).
"""

import hmac
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    URL,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.schema import CreateIndex, CreateTable

from pipelines import keys, sql
from pipelines.outputs import alone
from schemas.errors import ConfigurationError, StoreError
from schemas.instant import BEGINNING
from schemas.keyset import KeyPurpose, Keyset
from schemas.timeline import Row
from transforms.rules.digests import Mac

VERSION = 3  # raised with schemas.timeline.TIMELINE_VERSION: an older ledger is refused before anything is done
_SCHEMA = MetaData()
_TIMELINES = Table(
    "timelines",
    _SCHEMA,
    Column("patient", sql.Bytes, primary_key=True),
    Column("due", BigInteger, nullable=False),
    Column("timeline", sql.Bytes, nullable=False),
    sqlite_with_rowid=False,
)
_DUE = Index("timelines_due", _TIMELINES.c.due, _TIMELINES.c.patient)
_RUNS = Table(
    "runs",
    _SCHEMA,
    Column("place", Integer, primary_key=True),  # the order of runs
    Column("run", String, nullable=False, unique=True),
    Column("horizon", BigInteger, nullable=False),
    Column("policy", String, nullable=False),  # its digest
    Column("held", BigInteger, nullable=False),
    Column("published", Boolean, nullable=False),
    Column("manifest", sql.Bytes, nullable=False),
)
_ROUTES = Table("routes", _SCHEMA, Column("route", String, primary_key=True), Column("records", String, nullable=False))
_STANDING = Table(
    "standing",
    _SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("key_check", sql.Bytes, nullable=False),
)
_ROWS = select(_TIMELINES.c.patient, _TIMELINES.c.timeline)
_OF = _ROWS.where(_TIMELINES.c.patient.in_(bindparam("patients", expanding=True)))
_OVERDUE = _ROWS.where(
    _TIMELINES.c.due <= bindparam("due"),
    _TIMELINES.c.patient >= bindparam("first"),
    _TIMELINES.c.patient < bindparam("beyond"),
)


class Committed(NamedTuple):
    """A run that the ledger holds: its manifest, and whether all of its files are in place."""

    manifest: bytes
    published: bool


class Standing(NamedTuple):
    """How far the ledger has come: the horizon and the policy (digest) of its last run, how many pairs it holds back,
    all of its runs, and what the CRM records of each of their routes are."""

    horizon: int
    policy: str
    held: int
    runs: Mapping[str, Committed]
    routes: Mapping[str, str]


NEW = Standing(BEGINNING, "", 0, {}, {})


class Run(NamedTuple):
    """A run as it is committed. `policy`: its digest; `held`: how many pairs the ledger holds back after it; `routes`:
    what each route's CRM records are."""

    run: str
    horizon: int
    policy: str
    held: int
    routes: Mapping[str, str]


@dataclass(frozen=True)
class LedgerRef:
    """Where the ledger is: what a Beam graph may carry. `state` is the folder of its keyset."""

    path: str
    state: str

    def open(self) -> "SqlLedger":
        """Raises ConfigurationError as `pipelines.keys.load`, StoreError as `SqlLedger`."""
        return SqlLedger(keys.load(Path(self.state)), Path(self.path))


@contextmanager
def consulted(path: Path | None, state: Path) -> Iterator[Standing]:
    """How far the ledger has come, with the ledger held against a second process. One that is not there yet, or none at
    all, stands at the beginning (of two first runs at once, one commits and the other is told).

    Raises ConfigurationError.
    """
    if path is None or not path.exists():
        yield NEW
        return
    if not _is_database(path):  # nothing is written beside a file that is something else
        raise _not_ours(path, "ledger_unavailable")
    with alone("--ledger", _lock(path)):
        try:
            ledger = LedgerRef(str(path), str(state)).open()
        except StoreError as error:
            raise _not_ours(path, str(error)) from None
        try:
            yield ledger.standing()
        finally:
            ledger.close()


def _is_database(path: Path) -> bool:
    try:
        return sql.is_database(path)
    except OSError:
        return False


def _not_ours(path: Path, code: str) -> ConfigurationError:
    problem = f"{path} is no ledger of this --state ({code})"
    return ConfigurationError("--ledger", problem, "name the ledger that belongs to it")


def beside(path: Path | None) -> list[str]:
    """The names of a ledger's files."""
    return [f"{path.name}{end}" for end in ("", "-wal", "-shm", "-journal", ".lock")] if path else []


def _lock(path: Path) -> Path:
    """Not the file itself: SQLite loses its own locks on a file that its process opens and closes beside it."""
    return path.with_name(f"{path.name}.lock")


def create(path: Path) -> None:
    """Make an empty file for the ledger, where there is none. Raises ConfigurationError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in (path, _lock(path)):
            sql.make_file(file)
    except OSError:
        raise ConfigurationError("--ledger", f"{path} cannot be written", "name a file this user may write") from None


class SqlLedger:
    """`schemas.stores.Ledger`, and the commit. One process at a time commits; any number of workers read.

    Raises StoreError: "ledger_of_another_keyset", "ledger_of_unknown_version", "ledger_row_corrupt",
    "ledger_unavailable", "ledger_moved_on".
    """

    def __init__(self, keyset: Keyset, path: Path) -> None:
        self._names = Mac(keyset.derive(KeyPurpose.PATIENT))
        self._cipher = AESGCM(keyset.derive(KeyPurpose.LEDGER))
        with _guarded():
            self._engine = sql.engine(URL.create("sqlite", database=str(path)), "limen_ledger")
            self._bind(keyset.derive(KeyPurpose.LEDGER, "check"))

    # --- what a shard reads ---

    def name(self, patient: str) -> bytes:
        """What stands for a patient, 16 bytes."""
        return self._names.name(patient.encode())

    def timelines(self, patients: Sequence[bytes], shard: int, shards: int, due: int) -> dict[bytes, bytes]:
        """The timelines of these patients, and of all of the shard's for whom something is due by then."""
        edges = {
            "first": _edge(shard, shards),
            "beyond": _edge(shard + 1, shards) if shard + 1 < shards else b"\xff" * 17,
        }
        with _guarded(), self._engine.connect() as connection:
            rows = list(connection.execute(_OVERDUE, {**edges, "due": due}))
            for start in range(0, len(patients), sql.BATCH):
                batch = patients[start : start + sql.BATCH]
                rows += connection.execute(_OF, {"patients": batch})
        try:
            return {row.patient: sql.unsealed(self._cipher, row.timeline, row.patient) for row in rows}
        except (InvalidTag, TypeError, ValueError):
            raise StoreError("ledger_row_corrupt") from None

    def sealed(self, name: bytes, timeline: bytes) -> bytes:
        """A timeline as it may lie in a file."""
        return sql.sealed(self._cipher, timeline, name)

    # --- the commit ---

    def standing(self) -> Standing:
        """How far the ledger has come."""
        with _guarded(), self._engine.connect() as connection:
            rows = connection.execute(select(_RUNS).order_by(_RUNS.c.place)).all()
            routes = {row.route: row.records for row in connection.execute(select(_ROUTES))}
        runs = {row.run: Committed(row.manifest, row.published) for row in rows}
        return Standing(rows[-1].horizon, rows[-1].policy, rows[-1].held, runs, routes) if rows else NEW

    def due(self, due: int) -> int:
        """For how many patients something is due by then."""
        with _guarded(), self._engine.connect() as connection:
            return connection.execute(
                select(func.count()).select_from(_TIMELINES).where(_TIMELINES.c.due <= due)
            ).scalar_one()

    def commit(self, run: Run, rows: Iterable[Sequence[Row]], runs_before: int, manifest: bytes) -> None:
        """The commit point: everything of a run, or nothing. Refused if another run came in between."""
        with _guarded(), self._engine.begin() as connection:
            if connection.execute(select(func.count()).select_from(_RUNS)).scalar_one() != runs_before:
                raise StoreError("ledger_moved_on")
            for batch in rows:
                _put(connection, _TIMELINES, [row._asdict() for row in batch])
            _put(connection, _ROUTES, [{"route": route, "records": records} for route, records in run.routes.items()])
            row = {name: value for name, value in run._asdict().items() if name != "routes"}
            connection.execute(_RUNS.insert(), {**row, "published": False, "manifest": manifest})

    def published(self, runs: Sequence[str]) -> None:
        """All files of these runs are in place."""
        with _guarded(), self._engine.begin() as connection:
            connection.execute(_RUNS.update().where(_RUNS.c.run.in_(runs)).values(published=True))

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def _bind(self, check: bytes) -> None:
        """Make the tables if they are not there, and refuse a ledger of other keys or of another form."""
        with self._engine.begin() as connection:
            for table in _SCHEMA.sorted_tables:
                connection.execute(CreateTable(table, if_not_exists=True))
            connection.execute(CreateIndex(_DUE, if_not_exists=True))
            standing = insert(_STANDING).on_conflict_do_nothing()
            connection.execute(standing, {"id": 1, "version": VERSION, "key_check": check})
            found = connection.execute(select(_STANDING)).one()
        if found.version != VERSION:
            self.close()
            raise StoreError("ledger_of_unknown_version")
        if not hmac.compare_digest(found.key_check, check):
            self.close()
            raise StoreError("ledger_of_another_keyset")


def _edge(shard: int, shards: int) -> bytes:
    """The first name of a shard: names are cut into even ranges by their first 32 bits."""
    return (-(-(shard << 32) // shards)).to_bytes(4, "big")


def _put(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    if rows:
        statement = insert(table)
        columns = {column.name: statement.excluded[column.name] for column in table.columns if not column.primary_key}
        connection.execute(
            statement.on_conflict_do_update(index_elements=table.primary_key, set_=columns), rows
        )  # fmt: skip


def _guarded() -> AbstractContextManager[None]:
    return sql.guarded("ledger_unavailable")
