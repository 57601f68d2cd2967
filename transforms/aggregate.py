"""Aggregate: cells of distinct patients, published once, and none of fewer than k.

A patient lives in one shard and is counted there once in a cell, so the shards' counts add up to distinct patients. A
day is counted when it is over and the lateness has passed, never before and never again: nothing to difference. Every
row says whose it is: the tables of all routes lie in one folder, and one patient is counted on each of them.
Rule source: DESIGN section 3, De-identification; the k of CMS's cell size policy is 11.
"""

import json
from collections import Counter
from collections.abc import Iterable
from datetime import date
from typing import Literal, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas.policy import Policy
from transforms.rules.routing import window_of


class Aggregated(NamedTuple):
    """`tables`: (file, Parquet). `counts`: (name, JSON) with the number of cells published, withheld and still open."""

    tables: beam.PCollection[tuple[str, bytes]]
    counts: beam.PCollection[tuple[str, bytes]]


class Aggregate(beam.PTransform):
    """(route, contributions of a shard) → one table for each route."""

    def __init__(self, policy: Policy, horizon: int, run: str) -> None:
        super().__init__()
        self._arguments = (policy, horizon, run)

    @no_annotations
    def expand(self, cells):
        out = (
            cells
            | "OneRoute" >> beam.GroupByKey()
            | "CountPatients" >> beam.ParDo(_Aggregate(*self._arguments)).with_outputs("counts", main="tables")
        )
        return Aggregated(out.tables, out.counts)


class _Aggregate(beam.DoFn):
    def __init__(self, policy: Policy, horizon: int, run: str) -> None:
        self._policy, self._horizon, self._run = policy, horizon, run

    def process(
        self, route: tuple[str, Iterable[bytes]]
    ) -> Iterable[tuple[str, bytes] | TaggedOutput[Literal["counts"], tuple[str, bytes]]]:
        name, shards = route
        patients: Counter[tuple[str, ...]] = Counter()
        for shard in shards:
            for cell, count in json.loads(shard):
                patients[tuple(json.loads(cell))] += count
        columns = [row.to for r in self._policy.routes if r.route == name for row in r.recipe if row.to]
        over = [cell for cell in patients if self._closed(dict(zip(columns, cell, strict=True))["day"])]
        shown = sorted(cell for cell in over if patients[cell] >= self._policy.limits.smallest_cell)
        if shown:
            yield f"aggregates/{name}-{self._run}.parquet", self._parquet(name, columns, shown, patients)
        counts = {
            "cells": len(shown),
            "cells_withheld": len(over) - len(shown),
            "cells_open": len(patients) - len(over),
        }
        yield TaggedOutput("counts", (f"aggregate-{name}", json.dumps(counts).encode()))

    def _closed(self, day: str) -> bool:
        return window_of(self._policy).closes_on(day) <= self._horizon

    def _parquet(
        self, route: str, columns: list[str], cells: list[tuple[str, ...]], patients: Counter[tuple[str, ...]]
    ) -> bytes:
        """route, run, policy; what the recipe writes; patients. `day` is a date."""
        of = {"route": route, "run": self._run, "policy": self._policy.name}
        arrays = {name: pa.array([value] * len(cells), pa.string()) for name, value in of.items()}
        for place, name in enumerate(columns):
            values = [cell[place] for cell in cells]
            arrays[name] = (
                pa.array([date.fromisoformat(day) for day in values], pa.date32())
                if name == "day"
                else pa.array(values, pa.string())
            )
        arrays["patients"] = pa.array([patients[cell] for cell in cells], pa.int64())
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(arrays), sink)
        return sink.getvalue().to_pybytes()
