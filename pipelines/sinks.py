"""Where files go until the run commits: below the staging folder, written aside and renamed, so that none is ever half
there and a retried bundle writes the same again. The audit log is durable before it returns.

Each sink is bound to one folder and refuses a file that belongs elsewhere: what is for the hospital alone cannot be
written among what leaves, however the graph is wired."""

import os
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.durable import sync
from schemas.audit_record import UNIQUE
from schemas.errors import LawBroken


class StagedLog(NamedTuple):
    """The audit log of a run, as a Beam graph may carry it and as a worker uses it."""

    staging: str

    def open(self) -> "StagedLog":
        return self

    def append(self, segment: str, records: pa.Table) -> None:
        """Write one segment as Parquet and make it durable."""
        target = Path(self.staging) / "audit" / f"{segment}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_suffix(f".{os.getpid()}.tmp")
        words = [name for name in records.column_names if name not in UNIQUE]
        # Bounds of what is sorted let a reader skip; those of other columns say nothing and cost a sixth of the time.
        sorted_by = ["record", "event"]
        pq.write_table(records, aside, compression="zstd", use_dictionary=words, write_statistics=sorted_by)
        sync(aside)
        os.replace(aside, target)
        sync(target.parent)


class Stage(beam.PTransform):
    """(path below `folder`, content) → a file there. `below`: the one folder in it that this sink may write to, at any
    depth; "": the folder itself and none in it. Raises LawBroken for any other file."""

    def __init__(self, folder: str, *, below: str) -> None:
        super().__init__()
        self._folder, self._below = folder, below

    def expand(self, files: beam.PCollection[tuple[str, bytes]]) -> beam.PCollection[None]:
        return files | "Write" >> beam.ParDo(_Write(self._folder, self._below))


class _Write(beam.DoFn):
    def __init__(self, folder: str, below: str) -> None:
        self._folder, self._below = Path(folder), below

    def process(self, file: tuple[str, bytes]) -> None:
        name, content = file
        first, *more = PurePosixPath(name).parts
        if (first if more else "") != self._below or ".." in more:
            raise LawBroken("a_file_of_another_sink")  # without its name, which may say whose it is
        target = self._folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        aside.write_bytes(content)
        os.replace(aside, target)
