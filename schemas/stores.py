"""What the stages ask of the stores. The stores themselves are in `pipelines` and are passed in by reference."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

T_co = TypeVar("T_co", covariant=True)


class Opens(Protocol[T_co]):
    """A small picklable reference to a store. A DoFn keeps it in `__init__` and opens it in `setup()`: the graph and
    its logs never hold a key, nor an address with a password."""

    def open(self) -> T_co: ...


class Vault(Protocol):
    """The stable, random record key of each (scope, patient).

    `scope` is "destination|purpose": two scopes share nothing. `patient` is opaque to the vault.
    All methods raise StoreError with a constant code.
    """

    def records(self, scope: str, patients: Sequence[str], *, revive: bool = False) -> list[bytes]:
        """The 16-byte record key of each patient, in the order asked; made where there is none.

        Get-or-create in one batch: the same answer for ever, under retries and from any number of processes at once.
        `revive`: one that was severed resolves again.
        """
        ...

    def sever(self, scope: str, patients: Sequence[str]) -> None:
        """Let the record keys of these patients resolve no more, until `records` revives them."""
        ...

    def close(self) -> None:
        """Let go of what `open` took hold of."""
        ...


class Ledger(Protocol):
    """Every patient's timeline between two runs. All methods raise StoreError with a constant code."""

    def name(self, patient: str) -> bytes:
        """What stands for a patient, 16 bytes; a shard is a range of names (`transforms.rules.identity.shard_of`)."""
        ...

    def timelines(self, patients: Sequence[bytes], shard: int, shards: int, due: int) -> dict[bytes, bytes]:
        """The timelines of these patients, and of all of the shard's for whom something is due by then."""
        ...

    def sealed(self, name: bytes, timeline: bytes) -> bytes:
        """A timeline as it may lie in a file until the run commits."""
        ...

    def close(self) -> None:
        """Let go of what `open` took hold of."""
        ...


class AuditLog(Protocol):
    """Where audit records become durable before their effect may leave."""

    def append(self, segment: str, records: pa.Table) -> None:
        """Write a segment of records and make it durable; writing the same segment again changes nothing."""
        ...
