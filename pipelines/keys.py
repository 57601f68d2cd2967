"""The state folder's keys: development keys, made on first use and safe under any number of first runs at once.

    STATE/keyset.json               the keyset (mode 0600); all that the job ever opens
    STATE/quarantine/private.key    X25519, opens sealed messages; made here once, never opened by the job
    STATE/review/private.key        X25519, opens review items; the same
    STATE/README.txt                says what these are

keyset.json appears last and atomically: where it is, everything else is. Without it nothing was ever sealed or signed,
and an interrupted first use is taken up where it stopped.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from pipelines.durable import sync
from schemas.errors import ConfigurationError, StoreError
from schemas.keyset import KEY_BYTES, Keyset

KEYSET = "keyset.json"
PRIVATE_KEY = "private.key"
_LOCK = "keyset.lock"
_README = "README.txt"
_NOTICE = b"""\
DEVELOPMENT KEYS. DO NOT USE THEM FOR REAL PATIENTS IN PRODUCTION.
Limen made them on first use, as files in this folder. Keys of a key service and a vault in a database server cannot be
named yet: that is not built.
Whoever holds keyset.json can link what left to patients; whoever holds quarantine/private.key or review/private.key
can read sealed messages. Losing keyset.json gives every patient new identifiers. Keep this folder private; back it up.
"""
# What an interrupted first use may leave. Anything else says that a keyset was here, or that this is no state folder.
_OURS = {_LOCK, _README, KEYSET, "quarantine", "review", "lost+found"}


@dataclass(frozen=True)
class KeysetRef:
    """Where the keyset is: what a Beam graph may carry."""

    folder: str

    def open(self) -> Keyset:
        """Raises ConfigurationError, as `load`."""
        return load(Path(self.folder))


def load(folder: Path) -> Keyset:
    """The keyset of an existing state folder. Raises ConfigurationError: missing, readable by others, or damaged."""
    try:
        keyset = _read_keyset(folder)
    except OSError:
        raise _no_folder() from None
    if keyset is None:
        raise ConfigurationError("--state", "the folder holds no keyset.json", "name a state folder that a run made")
    return keyset


def create(folder: Path) -> Keyset:
    """Make the folder and its keys, or return the keyset of whoever was first. Raises ConfigurationError."""
    return load_or_create(folder)[0]


def load_or_create(folder: Path) -> tuple[Keyset, bool]:
    """The keyset, and whether this call made it: of all first runs at once exactly one is told so.

    Raises ConfigurationError, also for a folder with other things but no keyset: a new keyset there would give every
    patient of its vault new identifiers.
    """
    try:
        keyset = _read_keyset(folder)
        if keyset is not None:
            return keyset, False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(folder / _LOCK):
            keyset = _read_keyset(folder)
            if keyset is not None:
                return keyset, False
            _refuse_strangers(folder)
            return _create(folder), True
    except OSError:
        raise _no_folder() from None


def usable(folder: Path) -> None:
    """Check, without writing anything, that `load_or_create` will do. Raises ConfigurationError."""
    try:
        if _read_keyset(folder) is None and folder.is_dir():
            _refuse_strangers(folder)
    except OSError:
        raise _no_folder() from None


def _refuse_strangers(folder: Path) -> None:
    if any(name.removesuffix(".part") not in _OURS for name in os.listdir(folder)):
        raise ConfigurationError(
            "--state", "the folder holds files but no keyset.json", "restore keyset.json or name a new folder"
        )


def private_key(path: Path) -> bytes:
    """The 32 raw bytes of an X25519 private key file (PEM, PKCS #8). Raises ConfigurationError."""
    option, fix = "--private-key", "name a private.key of the state folder"
    try:
        key = load_pem_private_key(_read_own(path, option), password=None)
    except OSError:
        raise ConfigurationError(option, "the file cannot be read", fix) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(option, "the file holds no private key", fix) from None
    if not isinstance(key, X25519PrivateKey):
        raise ConfigurationError(option, "the key is not an X25519 key", fix)
    return key.private_bytes_raw()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock of this machine, by a file that stays; a process that dies lets go of it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _create(folder: Path) -> Keyset:
    """Under the lock: private keys first, the keyset last."""
    os.chmod(folder, 0o700)
    public = [_private_key_of(folder / use, use) for use in ("quarantine", "review")]
    keyset = Keyset(1, os.urandom(KEY_BYTES), os.urandom(KEY_BYTES), *public)
    _write(folder / _README, _NOTICE)
    _write(folder / KEYSET, keyset.to_bytes())
    return keyset


def _private_key_of(folder: Path, use: str) -> bytes:
    """The public key (32 raw bytes) of a folder's private key, made if it is not there: never overwritten."""
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / PRIVATE_KEY
    if path.exists():
        key = X25519PrivateKey.from_private_bytes(private_key(path))
    else:
        key = X25519PrivateKey.generate()
        header = f"Limen development key: X25519 private key, opens what is sealed for {use}. Keep it private.\n"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(path, header.encode() + pem)  # text before a PEM block is explanatory (RFC 7468 section 2)
    return key.public_key().public_bytes_raw()


def _read_keyset(folder: Path) -> Keyset | None:
    """None if there is no keyset file. Raises OSError, ConfigurationError."""
    try:
        return Keyset.from_bytes(_read_own(folder / KEYSET, "--state"))
    except FileNotFoundError:
        return None
    except StoreError:
        raise ConfigurationError("--state", "keyset.json is damaged", "restore it from a backup") from None


def _read_own(path: Path, option: str) -> bytes:
    """Read a secret file that its owner alone may touch."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ConfigurationError(option, f"{path.name} is open to other users", f"chmod 600 {path.name}")
        return file.read()


def _write(path: Path, content: bytes) -> None:
    """Write a file (mode 0600) whole or not at all, and onto the disk before anything that depends on it."""
    part = path.with_name(f"{path.name}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, path)
    sync(path.parent)


def _no_folder() -> ConfigurationError:
    return ConfigurationError("--state", "the folder cannot be read or made", "name a folder that you own")
