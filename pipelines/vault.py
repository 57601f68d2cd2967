"""The token vault in SQL: SQLite in the state folder; PostgreSQL by address, which no option names yet.

    patients    fingerprint → data key wrapped under the vault's wrap key, identity sealed under the data key
    records     (fingerprint, scope) → record key, and whether it is severed
    key_check   which keyset this vault belongs to

fingerprint = HMAC-SHA256(vault fingerprint key, patient). Wrapped and sealed: AES-256-GCM (NIST SP 800-38D), a random
12-byte nonce in front, bound to the row by the fingerprint as associated data. Every patient has a data key of its
own, so that deleting it shreds that patient alone; the row and its records stay, so that the patient stays severed and
what was released can still be retracted.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    bindparam,
    inspect,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError
from sqlalchemy.schema import CreateTable

from pipelines import keys, sql
from schemas.errors import ConfigurationError, StoreError
from schemas.keyset import KeyPurpose, Keyset
from transforms.rules.digests import Mac

RECORD_BYTES = 16
FILE = "vault.sqlite"
_LOCK = "vault.lock"


_SCHEMA = MetaData()
_PATIENTS = Table(
    "patients",
    _SCHEMA,
    Column("fingerprint", sql.Bytes, primary_key=True),
    Column("data_key", sql.Bytes),  # both null: shredded
    Column("identity", sql.Bytes),
    sqlite_with_rowid=False,
)
_RECORDS = Table(
    "records",
    _SCHEMA,
    Column("fingerprint", sql.Bytes, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("record", sql.Bytes, nullable=False),
    Column("severed", Boolean, nullable=False),
    UniqueConstraint("scope", "record"),
    sqlite_with_rowid=False,
)
_KEY_CHECK = Table(
    "key_check",
    _SCHEMA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", sql.Bytes, nullable=False),
)
_FIND = select(_RECORDS.c.fingerprint, _RECORDS.c.record, _RECORDS.c.severed).where(
    _RECORDS.c.scope == bindparam("scope"), _RECORDS.c.fingerprint.in_(bindparam("fingerprints", expanding=True))
)
_RESOLVE = (
    select(_PATIENTS.c.fingerprint, _PATIENTS.c.data_key, _PATIENTS.c.identity)
    .join(_RECORDS, _RECORDS.c.fingerprint == _PATIENTS.c.fingerprint)
    .where(_RECORDS.c.scope == bindparam("scope"), _RECORDS.c.record == bindparam("record"), ~_RECORDS.c.severed)
)


class _Known(NamedTuple):
    record: bytes
    severed: bool


@dataclass(frozen=True)
class VaultRef:
    """Where the vault is: what a Beam graph may carry.

    `state` is the folder of the keyset; `database` a PostgreSQL address (SQLAlchemy URL) without a password, which
    libpq finds by itself (a service, a password file); empty: SQLite in the state folder, on a local disk.
    Raises ConfigurationError for an address that is another database's or that holds a password.
    """

    state: str
    database: str = ""

    def __post_init__(self) -> None:
        if not self.database:
            return
        try:
            url = make_url(self.database)
        except (ArgumentError, ValueError):
            raise ConfigurationError("vault database", "not an address", "write postgresql://host/name") from None
        if url.get_backend_name() != "postgresql":
            raise ConfigurationError("vault database", "not PostgreSQL", "write postgresql://host/name")
        if url.password is not None or "password" in url.query:
            raise ConfigurationError("vault database", "the address holds a password", "use libpq's password file")

    def open(self) -> "SqlVault":
        """Raises ConfigurationError as `keys.load` and for a file that is no vault, StoreError as `SqlVault`."""
        folder = Path(self.state)
        keyset = keys.load(folder)
        if self.database:
            return SqlVault(keyset, make_url(self.database))
        url = URL.create("sqlite", database=str(folder / FILE))
        try:
            # Two first uses at once: SQLite does not wait when it changes to WAL, so the lock does.
            with keys.locked(folder / _LOCK):
                sql.make_file(folder / FILE)
                if not sql.is_database(folder / FILE):
                    raise ConfigurationError("--state", f"{FILE} is no vault", "restore the vault of this keyset")
                return SqlVault(keyset, url)
        except OSError:
            raise StoreError("vault_unavailable") from None


class SqlVault:
    """`schemas.stores.Vault`, and what no stage asks for: `find`, for the score; `resolve` and `shred`, the way back
    and its end, for which there is no verb yet. Safe under any number of processes and threads.

    Opening makes the tables on first use. Raises StoreError: "vault_of_another_keyset", "vault_unavailable" (retry),
    "vault_row_corrupt", "vault_scope_missing", "vault_patient_missing".
    """

    def __init__(self, keyset: Keyset, url: URL) -> None:
        self._fingerprints = Mac(keyset.derive(KeyPurpose.VAULT_FINGERPRINT))
        self._wrap = AESGCM(keyset.derive(KeyPurpose.VAULT_WRAP))
        with _guarded():
            self._engine = sql.engine(url, "limen_vault")
            self._insert = (sqlite if self._engine.dialect.name == "sqlite" else postgresql).insert
            self._bind(keyset.derive(KeyPurpose.VAULT_FINGERPRINT, "check"))

    def records(self, scope: str, patients: Sequence[str], *, revive: bool = False) -> list[bytes]:
        """The record key of each patient, in the order asked; made where there is none."""
        _check_scope(scope)
        asked = [self._fingerprint(patient) for patient in patients]
        identities = dict(zip(asked, patients, strict=True))
        ordered = sorted(identities)  # one order for all writers: no deadlock, and neighbours share pages
        found: dict[bytes, _Known] = {}
        for start in range(0, len(ordered), sql.BATCH):
            batch = ordered[start : start + sql.BATCH]
            known = self._known(scope, batch)
            missing = [fingerprint for fingerprint in batch if fingerprint not in known]
            if missing:
                self._make(scope, {fingerprint: identities[fingerprint] for fingerprint in missing})
                known |= self._known(scope, missing)  # another process may have been first: its keys count
            found |= known
        if revive and (severed := [fingerprint for fingerprint, one in found.items() if one.severed]):
            self._mark(scope, severed, severed=False)
        try:
            return [found[fingerprint].record for fingerprint in asked]
        except KeyError:
            raise StoreError("vault_unavailable") from None

    def sever(self, scope: str, patients: Sequence[str]) -> None:
        """Let the record keys of these patients resolve no more, until `records` revives them."""
        _check_scope(scope)
        self._mark(scope, [self._fingerprint(patient) for patient in patients], severed=True)

    def find(self, scope: str, patient: str) -> bytes | None:
        """The record key, if there is one."""
        _check_scope(scope)
        fingerprint = self._fingerprint(patient)
        known = self._known(scope, [fingerprint]).get(fingerprint)
        return None if known is None else known.record

    def resolve(self, scope: str, record: bytes) -> str | None:
        """The patient of a record key; None if it is unknown in this scope, severed, or its patient was shredded."""
        _check_scope(scope)
        with _guarded(), self._engine.connect() as connection:
            row = connection.execute(_RESOLVE, {"scope": scope, "record": record}).one_or_none()
        if row is None or row.data_key is None:
            return None
        try:
            data_key = sql.unsealed(self._wrap, row.data_key, row.fingerprint)
            return sql.unsealed(AESGCM(data_key), row.identity, row.fingerprint).decode()
        except (InvalidTag, TypeError, ValueError):
            raise StoreError("vault_row_corrupt") from None

    def shred(self, patient: str) -> bool:
        """Delete the patient's data key: no record leads back any more, now or after another `records`.

        False if there was nothing to delete. Backups, and PostgreSQL's dead rows until VACUUM, are the operator's.
        """
        statement = (
            _PATIENTS.update()
            .where(_PATIENTS.c.fingerprint == self._fingerprint(patient), _PATIENTS.c.data_key.is_not(None))
            .values(data_key=None, identity=None)
        )
        with _guarded():
            with self._engine.begin() as connection:
                shredded = connection.execute(statement).rowcount > 0
            if self._engine.dialect.name == "sqlite":  # the write-ahead log still holds the old page
                with self._engine.connect() as connection:
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").close()
        return shredded

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def _fingerprint(self, patient: str) -> bytes:
        if not patient:
            raise StoreError("vault_patient_missing")
        return self._fingerprints.names(patient.encode())

    def _known(self, scope: str, fingerprints: Sequence[bytes]) -> dict[bytes, "_Known"]:
        with _guarded(), self._engine.connect() as connection:
            rows = connection.execute(_FIND, {"scope": scope, "fingerprints": fingerprints}).all()
        known = {fingerprint: _Known(record, severed) for fingerprint, record, severed in rows}
        if any(type(one.record) is not bytes or len(one.record) != RECORD_BYTES for one in known.values()):
            raise StoreError("vault_row_corrupt")
        return known

    def _mark(self, scope: str, fingerprints: Sequence[bytes], *, severed: bool) -> None:
        with _guarded(), self._engine.begin() as connection:
            for start in range(0, len(fingerprints), sql.BATCH):
                batch = fingerprints[start : start + sql.BATCH]
                theirs = (_RECORDS.c.scope == scope, _RECORDS.c.fingerprint.in_(batch), _RECORDS.c.severed != severed)
                connection.execute(_RECORDS.update().where(*theirs).values(severed=severed))

    def _make(self, scope: str, identities: Mapping[bytes, str]) -> None:
        """One short write transaction. Rows that are there stay as they are, a shredded patient's too."""
        patients, records = [], []
        for fingerprint, patient in identities.items():
            data_key = os.urandom(32)
            patients.append(
                {
                    "fingerprint": fingerprint,
                    "data_key": sql.sealed(self._wrap, data_key, fingerprint),
                    "identity": sql.sealed(AESGCM(data_key), patient.encode(), fingerprint),
                }
            )
            records.append(
                {"fingerprint": fingerprint, "scope": scope, "record": os.urandom(RECORD_BYTES), "severed": False}
            )
        with _guarded(), self._engine.begin() as connection:
            self._insert_new(connection, _PATIENTS, patients)
            self._insert_new(connection, _RECORDS, records)

    def _insert_new(self, connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
        connection.execute(self._insert(table).on_conflict_do_nothing(index_elements=table.primary_key), rows)

    def _bind(self, check: bytes) -> None:
        """Make the tables if they are not there, and refuse a vault whose fingerprints other keys made."""
        if not inspect(self._engine).has_table(_KEY_CHECK.name):
            try:
                self._make_tables()
            except (IntegrityError, ProgrammingError):  # PostgreSQL, two at once: the other's are there now
                self._make_tables()
        with self._engine.begin() as connection:
            self._insert_new(connection, _KEY_CHECK, [{"id": 1, "value": check}])
        with self._engine.connect() as connection:
            found = connection.execute(select(_KEY_CHECK.c.value)).scalar_one()
        if not hmac.compare_digest(found, check):
            self.close()
            raise StoreError("vault_of_another_keyset")

    def _make_tables(self) -> None:
        with self._engine.begin() as connection:
            for table in (_PATIENTS, _RECORDS, _KEY_CHECK):
                connection.execute(CreateTable(table, if_not_exists=True))


def _check_scope(scope: str) -> None:
    """There is no default scope: both the destination and the purpose are named."""
    if not all(scope.partition("|")):
        raise StoreError("vault_scope_missing")


def _guarded() -> AbstractContextManager[None]:
    return sql.guarded("vault_unavailable")
