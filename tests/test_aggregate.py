"""Aggregates: distinct patients in cells of at least k, each day once when it is over, and nobody who said no."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hospital_files import admission, by_identifier, decide, ndjson, permit, records

from pipelines import policy as policies
from schemas.instant import DAY, from_fhir
from schemas.policy import Policy
from schemas.route import Route
from transforms.aggregate import Aggregate

SYSTEM = "urn:id:GENERAL"
COLUMNS = ["route", "run", "policy", "day", "milestone", "service_class", "patients"]
PAGE = Path(__file__).parent.parent / "docs/contracts.md"
Cell = tuple[str, str, str, int]  # day, milestone, service class, patients

# --- the stage ----------------------------------------------------------------------------------------------------

SEEN: dict[str, list[Any]] = {"tables": [], "counts": []}


def keep(element: Any, where: str) -> None:
    SEEN[where].append(element)


def aggregated(
    policy: Policy, horizon: int, shards: Iterable[tuple[str, list[Cell]]]
) -> tuple[dict[str, set[Cell]], dict[str, Any]]:
    """(cells by route, counts) of what the shards contribute."""
    for seen in SEEN.values():
        seen.clear()
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        cells = pipeline | beam.Create([(route, contributions(cells)) for route, cells in shards])
        out = cells | Aggregate(policy, horizon, "run")
        _ = out.tables | "Tables" >> beam.Map(keep, "tables")
        _ = out.counts | "Counts" >> beam.Map(keep, "counts")
    names = [name for name, _ in SEEN["tables"]]
    assert len(names) == len(set(names))  # one pane: no table comes twice
    tables = {name: table_cells(content) for name, content in SEEN["tables"]}
    sums: Counter[str] = Counter()
    for _, content in SEEN["counts"]:
        sums.update(json.loads(content))
    return tables, dict(sums)


def contributions(cells: list[Cell]) -> bytes:
    """As `Audit` writes those of a shard: each cell as JSON, and its patients."""
    return json.dumps([[json.dumps(cell), patients] for *cell, patients in cells]).encode()


def table_cells(content: bytes | Path) -> set[Cell]:
    rows = pq.read_table(BytesIO(content) if isinstance(content, bytes) else content).to_pylist()
    cells = {(str(row["day"]), row["milestone"], row["service_class"], row["patients"]) for row in rows}
    assert len(cells) == len(rows)
    return cells


def instant(text: str) -> int:
    found = from_fhir(text)
    assert found is not None
    return found.time


def test_shards_add_up_and_small_cells_are_withheld(policy: Policy) -> None:
    def a(day: str, n: int) -> Cell:
        return (day, "admitted", "inpatient", n)

    tables, counts = aggregated(
        policy,
        instant("2026-03-10T00:00:00Z"),
        [
            ("closed-loop", [a("2026-03-01", 6), a("2026-03-02", 6), a("2026-03-09", 99)]),
            ("closed-loop", [a("2026-03-01", 5), a("2026-03-02", 4), a("2026-03-03", 10)]),
            ("operations", [a("2026-03-01", 10)]),
        ],
    )
    assert tables == {"aggregates/closed-loop-run.parquet": {a("2026-03-01", 11)}}  # none for a route without a cell
    assert counts == {"cells": 1, "cells_withheld": 3, "cells_open": 1}


@pytest.mark.parametrize(
    "horizon, closed",
    [
        pytest.param("2026-03-02T23:59:59Z", False, id="the day is over, its lateness is not"),
        pytest.param("2026-03-03T00:00:00Z", True, id="both are over"),
    ],
)
def test_a_day_is_counted_when_it_is_over(policy: Policy, horizon: str, closed: bool) -> None:
    assert policy.limits.lateness_days * DAY == DAY
    cell: Cell = ("2026-03-01", "admitted", "inpatient", 50)
    tables, counts = aggregated(policy, instant(horizon), [("closed-loop", [cell])])
    assert bool(tables) is closed
    assert counts == {"cells": int(closed), "cells_withheld": 0, "cells_open": int(not closed)}


# --- the whole job ------------------------------------------------------------------------------------------------


def feeds(folder: Path, messages: Iterable[bytes], documents: Iterable[dict[str, Any]] = ()) -> Path:
    folder.mkdir()
    (folder / "a.hl7").write_bytes(b"".join(messages))
    ndjson(folder / "c.ndjson", documents)
    return folder


def tables(output: Path) -> dict[str, set[Cell]]:
    """Cells by route, of a run that wrote at most one table for each."""
    files = list(output.glob("aggregates/*.parquet"))
    assert len({file.name.split("-2026")[0] for file in files}) == len(files)
    return {file.name.split("-2026")[0]: table_cells(file) for file in files}


def refusal(mrn: str, code: str) -> dict[str, Any]:
    """A denial of one purpose of v3-ActReason."""
    purpose = [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": code}]
    return permit(by_identifier(SYSTEM, mrn), f"no-{mrn}", provision={"type": "deny", "purpose": purpose})


def stay(mrn: int, day: int, n: int = 0, kind: str = "ADT^A01") -> bytes:
    return admission(f"M{mrn}", f"V{mrn}-{day}-{n}", f"202603{day:02}1{n}0000+0000", kind=kind)


def test_patients_are_counted_and_not_visits(tmp_path: Path) -> None:
    """Day 1: 11 patients, one of them twice. Day 2: 10 patients, each twice. Day 3: 12, one cancelled."""
    messages = [stay(m, 1) for m in range(11)] + [stay(0, 1, 1)]
    messages += [stay(m, 2, n) for m in range(10) for n in range(2)]
    messages += [stay(m, 3) for m in range(12)]
    messages += [admission("M0", "V0-3-0", "20260303150000+0000", kind="ADT^A11")]
    done = decide([feeds(tmp_path / "in", messages)], tmp_path / "out", tmp_path / "state", "2026-04-01")
    expected = {("2026-03-01", "admitted", "inpatient", 11), ("2026-03-03", "admitted", "inpatient", 11)}
    assert tables(tmp_path / "out") == {"closed-loop": expected, "operations": expected}
    assert (done.summary["cells"], done.summary["cells_withheld"], done.summary["cells_open"]) == (4, 2, 0)
    assert not (tmp_path / "out" / "crm").exists()


def test_admissions_without_a_visit_number_both_count(tmp_path: Path) -> None:
    messages = [admission(f"M{m}", "", f"2026030{day}120000+0000") for m in range(11) for day in (1, 2)]
    decide([feeds(tmp_path / "in", messages)], tmp_path / "out", tmp_path / "state", "2026-04-01")
    expected: set[Cell] = {(f"2026-03-0{day}", "admitted", "inpatient", 11) for day in (1, 2)}
    assert tables(tmp_path / "out") == {"closed-loop": expected, "operations": expected}


def test_a_repeat_in_another_message_counts_once(tmp_path: Path) -> None:
    again = admission("M0", "V0-1-0", "20260301100000+0000", control="another message")
    feed = feeds(tmp_path / "in", [*(stay(m, 1) for m in range(10)), again, again])
    assert decide([feed], tmp_path / "out", tmp_path / "state", "2026-04-01").summary["cells"] == 0


def test_a_denial_stops_a_contribution_for_its_purpose_alone(tmp_path: Path) -> None:
    """12 patients on day 1, 11 on day 2; two say no to the one purpose, one to the other."""
    messages = [stay(m, 1) for m in range(12)] + [stay(m, 2) for m in range(11)]
    documents = [refusal("M0", "HMARKT"), refusal("M11", "HOPERAT")]
    decide([feeds(tmp_path / "in", messages, documents)], tmp_path / "out", tmp_path / "state", "2026-04-01")
    first, second = ("2026-03-01", "admitted", "inpatient", 11), ("2026-03-02", "admitted", "inpatient", 11)
    assert tables(tmp_path / "out") == {"closed-loop": {first}, "operations": {first, second}}
    denied = Counter(r["route"] for r in records(tmp_path / "out") if r["reason"] == "denied")
    assert denied["closed-loop"] == 2
    assert denied["operations"] == 1


def test_a_denial_of_everything_stops_every_contribution(tmp_path: Path) -> None:
    no = permit(by_identifier(SYSTEM, "M0"), "no", provision={"type": "deny"})
    feed = feeds(tmp_path / "in", (stay(m, 1) for m in range(11)), [no])
    assert decide([feed], tmp_path / "out", tmp_path / "state", "2026-04-01").summary["cells"] == 0


def test_a_contribution_without_a_patient_key_in_it(tmp_path: Path) -> None:
    """What an aggregate says of a visit: day, milestone, class and a number, in a file of these columns alone."""
    feed = feeds(tmp_path / "in", (stay(m, 1) for m in range(11)))
    decide([feed], tmp_path / "out", tmp_path / "state", "2026-04-01")
    for file in (tmp_path / "out").glob("aggregates/*.parquet"):
        assert pq.read_table(file).schema.names == COLUMNS
    contributions = [r for r in records(tmp_path / "out") if r["verdict"] == "released"]
    assert len(contributions) == 22
    assert not any(r["payload"] or r["crm_record"] for r in contributions)


def test_tables_of_all_routes_and_runs_lie_in_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads them all at once can tell them apart, as the page shows; a sum over all counts patients twice."""
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    feed = feeds(tmp_path / "in", (stay(m, 1) for m in range(12)))
    other = feeds(tmp_path / "in2", (stay(m, 2) for m in range(13)))
    runs = [
        decide([one], tmp_path / f"out{place}", tmp_path / "state", "2026-04-01").summary["run"]
        for place, one in enumerate((feed, other))
    ]
    for place in (0, 1):
        shutil.copytree(tmp_path / f"out{place}/aggregates", tmp_path / "out/aggregates", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    everything = "read_parquet('out/aggregates/*.parquet')"
    assert set(duckdb.sql(f"SELECT route, run, policy, patients FROM {everything}").fetchall()) == {
        (route, run, "limen-default@1", patients)
        for run, patients in zip(runs, (12, 13), strict=True)
        for route in ("closed-loop", "operations")
    }
    [query] = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    shown = [(str(day), *rest) for day, *rest in duckdb.sql(query).fetchall()]
    assert shown == [("2026-03-01", "admitted", "inpatient", 12), ("2026-03-02", "admitted", "inpatient", 13)]


def test_the_page_names_every_column_of_an_aggregate(policy: Policy) -> None:
    [table] = re.findall(r"^\| column .*?\n\n", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    named = [name for row in table.strip().splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert named == COLUMNS
    for route in policy.routes:
        if route.delivers == "aggregates":
            assert [row.to for row in route.recipe if row.to] == COLUMNS[3:-1]


@pytest.mark.parametrize("column", ["route", "run", "policy", "patients"])
def test_a_recipe_cannot_say_whose_a_row_is(policy: Policy, column: str) -> None:
    route = next(one for one in policy.routes if one.route == "operations").model_dump(
        mode="json", by_alias=True, exclude={"filters"}
    )
    next(row for row in route["recipe"] if row["to"] == "milestone")["to"] = column
    with pytest.raises(ValueError, match="columns route, run, policy and patients of its own"):
        Route.model_validate(route)


def test_a_value_outside_of_a_closed_set_is_a_cell_of_its_own(tmp_path: Path) -> None:
    """A recipe whose closed set leaves a value out makes nothing of it; the cell is then without that value."""
    bundle = tmp_path / "policy"
    for path in policies.default().rglob("*.yaml"):
        target = bundle / path.relative_to(policies.default())
        target.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        if path.name == "operations.yaml":
            assert "values: {inpatient: inpatient, outpatient: outpatient, " in text
            text = text.replace(
                "values: {inpatient: inpatient, outpatient: outpatient, ", "values: {outpatient: outpatient, "
            )
        target.write_text(text)
    feed = feeds(tmp_path / "in", (stay(m, 1) for m in range(11)))
    done = decide([feed], tmp_path / "out", tmp_path / "state", "2026-04-01", policy=bundle)
    assert done.summary["cells"] == 2
    ((day, milestone, service_class, patients),) = tables(tmp_path / "out")["operations"]
    assert (day, milestone, service_class or "", patients) == ("2026-03-01", "admitted", "", 11)
