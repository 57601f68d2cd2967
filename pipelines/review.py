"""Review: what waits for a person at the hospital, opened for the key holder, answered by a signed verdict.

    list     what the manifests name below DIR/review, less what is closed and what is overdue
    show     opens the sealed subject; who looked is on the disk, in DIR/access/review.jsonl, before anything is shown
    decide   the same, and adds a signed verdict to a file, which is input of a run

The access log lies with what was accessed: whoever shows an item needs the reviewers' key and no state folder, and who
holds the folder sees who looked (45 CFR 164.312(b), audit controls). It is only ever appended to, and its time is the
wall clock's, whatever instant a test of the deadlines names.
"""

import fcntl
import getpass
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pipelines import keys, published
from pipelines.durable import sync
from schemas.errors import ConfigurationError, LawBroken, StoreError
from schemas.instant import from_fhir, micros, text_of
from schemas.keyset import keyid_of
from schemas.manifest import Signed
from schemas.outcome import Reason
from schemas.policy import Policy
from schemas.verdict import NONCE, Because, Matter, Said, event
from transforms.rules.identity import SEPARATOR
from transforms.rules.judgement import reason_of
from transforms.rules.review import Closed, Item, Subject

ACCESS = "access/review.jsonl"


class Opened(NamedTuple):
    """An item and whom it is about."""

    item: Item
    subject: Subject


class Answer(NamedTuple):
    """What a reviewer says of an item."""

    verdict: Literal["allow", "deny"]
    by: str
    role: str
    because: str


# --- what waits ----------------------------------------------------------------------------------------------------


def waiting(folder: Path, as_of: str | None) -> tuple[list[Item], int]:
    """The open items whose deadline lies ahead, the most urgent first, and how many others nobody answered in time.

    Raises ConfigurationError where there is no run, LawBroken if the items are not those that a run published.
    """
    runs = published.runs(folder)
    items, instant = _open(folder, runs).values(), _instant(as_of, runs)
    ahead = sorted((one for one in items if instant < _time(one.deadline)), key=lambda one: (one.deadline, one.id))
    return ahead, len(items) - len(ahead)


def shown(item: Item) -> dict[str, Any]:
    """An item without its sealed subject."""
    return {name: value for name, value in msgspec.structs.asdict(item).items() if name != "subject"}


def subject(one: Subject) -> dict[str, Any]:
    """Whom an item is about and when it was, for the eyes of a reviewer."""
    event_ = one.milestone
    system, _, value = event_.patient.partition(SEPARATOR)
    at = None if event_.time is None else text_of(event_.time)
    return {"system": system, "identifier": value, "visit": event_.visit, "time": at, "message_type": event_.type}


def now() -> int:
    """The wall clock, to the second."""
    return micros(datetime.now(UTC).replace(microsecond=0))


def _instant(as_of: str | None, runs: Sequence[Signed], *environments: str) -> int:
    """The instant it is: a deadline is kept, and a verdict dated, by the wall clock. Where nothing is for real, in runs
    of policies of the environment `test`, a command may name another; a date is its beginning.

    Raises ConfigurationError.
    """
    if as_of is None:
        return now()
    if {*environments, *(str(run.facts.get("environment")) for run in runs)} != {"test"}:
        raise ConfigurationError("--as-of", "it is for policies of environment test", "leave it out: it is now")
    found = from_fhir(as_of)
    if found is None:
        raise ConfigurationError("--as-of", "not a time", "write it as 2026-05-01T12:00:00Z or 2026-05-01")
    return found.time


# --- one item ------------------------------------------------------------------------------------------------------


def opened(
    folder: Path, name: str, key: Path, verb: str, by: str | None, runs: Sequence[Signed] | None = None
) -> Opened:
    """Open an item's subject, once the access is on record. `runs`: those of the folder, where they were read already.

    Raises ConfigurationError: no such item, no such key, or no place for the record.
    """
    private = keys.private_key(key)
    item = _open(folder, published.runs(folder) if runs is None else runs).get(name)
    if item is None:
        raise ConfigurationError("ID", "no such item is open", "see limen review list")
    holder = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    keyid = keyid_of(holder)
    access = {"at": text_of(now()), "verb": verb, "item": name, "by": by or _login(), "key": keyid}
    _append(folder / ACCESS, msgspec.json.encode(access) + b"\n", "DIR")
    try:
        return Opened(item, Subject.opened(item.subject, private))
    except StoreError:
        raise ConfigurationError(
            "--private-key", "it does not open this item", "name the key of the state folder that sealed it"
        ) from None


def decide(
    folder: Path, name: str, key: Path, answer: Answer, state: Path, policy: Policy, output: Path, as_of: str | None
) -> None:
    """Add a signed verdict on an item to `output`. Raises ConfigurationError if it would not count."""
    keyset = keys.load(state)
    runs = published.runs(folder, keyset.public_key)
    said = _instant(as_of, runs, policy.environment)
    if answer.because not in set(Because):
        raise ConfigurationError("--because", "unknown code", f"name one of {', '.join(Because)}")
    if answer.role not in policy.review.roles:
        known = ", ".join(sorted(policy.review.roles)) or "none: the policy has no review.roles"
        raise ConfigurationError("--role", "the policy knows no such role", f"name one of {known}")
    if not answer.by.strip() or not answer.by.isprintable() or len(answer.by) > 100:
        raise ConfigurationError("--by", "no name", "say who decides")
    item, subject_ = opened(folder, name, key, "decide", answer.by, runs)
    reason = reason_of(subject_.question)
    if reason is None or reason != item.reason:
        raise ConfigurationError("ID", "it asks nothing that a verdict could answer", "mend what caused it, run again")
    if answer.verdict == "allow" and reason not in policy.review.roles[answer.role]:
        raise ConfigurationError("--role", f"it may not overrule {reason}", "have it answered by a role that may")
    if said >= _time(item.deadline):
        raise ConfigurationError("ID", "its deadline is over, it counts as suppressed", "have the event sent again")
    event_ = subject_.milestone
    matter = Matter(event_.patient, event_.what, subject_.question).sealed(keyset, os.urandom(NONCE))
    because = Because(answer.because)
    verdict = Said(
        name, item.route, Reason(reason), answer.verdict, answer.by, answer.role, because, text_of(said), matter
    )  # fmt: skip
    _append(output, event(verdict, keyset), "--output")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def _append(path: Path, line: bytes, option: str) -> None:
    """Add a line to a file, on the disk before this returns. Raises ConfigurationError."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            os.write(handle, line)
            os.fsync(handle)
        finally:
            os.close(handle)
        sync(path.parent)
    except OSError:
        raise ConfigurationError(option, f"{path.name} cannot be written", "name what this user may write") from None


# --- what runs published -------------------------------------------------------------------------------------------


def _open(folder: Path, runs: Sequence[Signed]) -> dict[str, Item]:
    """The items that no later line closed, by id; of the files that the signed manifests name, and of no other."""
    asked: dict[str, Item] = {}
    closed: set[str] = set()
    for _, content in published.files(folder, runs, "review", ".jsonl"):
        for line in content.splitlines():
            one = msgspec.json.decode(line, type=dict[str, Any])
            if "closed" in one:
                closed.add(msgspec.convert(one, Closed).id)
            else:
                item = msgspec.json.decode(line, type=Item)
                asked[item.id] = item
    return {name: item for name, item in asked.items() if name not in closed}


def _time(text: str) -> int:
    found = from_fhir(text)
    if found is None:
        raise LawBroken("a_deadline_is_unreadable")
    return found.time
