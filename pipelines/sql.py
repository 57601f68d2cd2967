"""What vault and ledger have in common: SQL that quotes no row in an error or a log, and rows sealed at rest.

Sealed is AES-256-GCM (NIST SP 800-38D), a random 12-byte nonce in front, bound to its row by associated data.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import URL, Dialect, Engine, LargeBinary, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from schemas.errors import StoreError

BATCH = 2000  # rows a statement and a write transaction; one transaction is one fsync
_NONCE_BYTES = 12
_BUSY_SECONDS = 60  # how long a writer waits for the others


class Bytes(LargeBinary):
    """Bytes as they are: a view around each, for drivers that ask for one, was half of what a record key cost."""

    cache_ok = True

    def bind_processor(self, _: Dialect) -> None:
        return None


def engine(url: URL, name: str) -> Engine:
    """An engine that shows no parameter in an error and no row in a log."""
    sqlite_only = {"connect_args": {"timeout": _BUSY_SECONDS}} if url.get_backend_name() == "sqlite" else {}
    # SQLAlchemy logs every row at DEBUG, whatever hide_parameters says.
    logging.getLogger(f"sqlalchemy.engine.Engine.{name}").setLevel(logging.WARNING)
    made = create_engine(url, hide_parameters=True, logging_name=name, **sqlite_only)
    if sqlite_only:
        event.listen(made, "connect", _set_up_sqlite)
    return made


def _set_up_sqlite(connection: DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")  # readers never wait for the writer; kept in the file
    # What is committed may leave right after: losing a record key or a timeline to a power cut would undo a promise.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA secure_delete=ON")  # a shredded key is overwritten, not only unlinked
    cursor.close()


def make_file(path: Path) -> None:
    """An empty database file that its owner alone may touch; SQLite gives its side files the same mode."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def is_database(path: Path) -> bool:
    """Is the file SQLite's, or still empty? (https://www.sqlite.org/fileformat.html, 1.3)"""
    with path.open("rb") as file:
        return file.read(16) in (b"", b"SQLite format 3\0")


def sealed(cipher: AESGCM, plaintext: bytes, bound_to: bytes) -> bytes:
    # Random nonces are safe for 2^32 messages under one key (SP 800-38D section 8.3).
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, bound_to)


def unsealed(cipher: AESGCM, sealed: bytes, bound_to: bytes) -> bytes:
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)


@contextmanager
def guarded(code: str) -> Iterator[None]:
    """SQLAlchemy's errors quote statements: none of them leaves."""
    try:
        yield
    except SQLAlchemyError:
        raise StoreError(code) from None
