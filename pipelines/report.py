"""What a person reads at the end: a summary for the eye, or the same as JSON for machines."""

import json
from pathlib import Path

from rich.table import Table

from pipelines import screen
from pipelines.outputs import PUBLISHED
from pipelines.run import Done
from pipelines.score import Score
from pipelines.screen import many
from schemas.outcome import Reason
from schemas.policy import Policy


def finished(done: Done, output: Path, policy: Policy, *, as_json: bool) -> None:
    """The summary of a run by a policy, and where its outputs lie."""
    summary = done.summary
    if as_json:
        print(json.dumps(summary))
        return
    console = screen.console()
    if done.keys_made:
        console.print("[bold]development keys were made[/]: for tests only; keys of a key service cannot be named yet")
    left = sum(summary["routes"][one.route]["released"] for one in policy.routes if one.delivers == "payloads")
    counted = many(summary["released"] - left, "event")
    before = "had run already, verified: " if done.repeated else ""
    console.print(
        f"{before}[bold]released {many(left, 'payload')}[/] for the CRM, and counted {counted} for aggregates, "
        f"of {many(summary['pairs'], 'pair')} (event, route)"
    )
    console.print(
        f"{many(summary['received'], 'message')}: {many(summary['events_routed'], 'event')}, "
        f"{many(summary['consent'], 'consent')}, "
        f"{summary['repeated']:,} repeated, {summary['control']:,} control, {summary['unrouted']:,} unrouted, "
        f"{summary['rejected']:,} rejected"
    )
    table = Table("route", "released", "suppressed", "review", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for route, verdicts in summary["routes"].items():
        table.add_row(route, *(f"{verdicts[name]:,}" for name in ("released", "suppressed", "review")))
    console.print(table)
    if summary["cells"] or summary["cells_withheld"] or summary["cells_open"]:
        console.print(
            f"{many(summary['cells'], 'aggregate cell')} published, {summary['cells_withheld']:,} withheld as too "
            f"small, {summary['cells_open']:,} wait for their day to end"
        )
    if summary["held"] or summary["retracted"] or summary["restored"]:
        console.print(
            f"{many(summary['held'], 'pair')} held for later, {many(summary['retracted'], 'record')} taken back, "
            f"{summary['restored']:,} restored"
        )
    if unread := summary["reasons"].get(Reason.CONSENT_OF_NOBODY, 0):
        said = f"no patient can be read in {many(unread, 'consent')}: somebody may have refused, see quarantine/"
        console.print(f"[bold red]alarm:[/] {said}")
    if summary["what_if"]:
        newer = "facts that were read, or before the ledger's last run"
        console.print(f"[bold red]what-if:[/] --as-of lies before {newer}; not deliverable")
    console.print(f"as of {summary['as_of']} by {summary['policy']}, run {summary['run']}, {summary['seconds']} s")
    kinds = [f"{kind}/" for kind in (*PUBLISHED, "manifest") if (output / kind).is_dir()]
    console.print(f"outputs in {output}: {' '.join(kinds)} summary.json", markup=False, soft_wrap=True)


SHOWN = 5  # of what is wrong or missing


def scored(result: Score, *, as_json: bool) -> None:
    """A score: each route's releases, and what it withheld, against the truth."""
    if as_json:
        routes = {name: route._asdict() for name, route in result.routes.items()}
        print(json.dumps({"right": result.right, **result._asdict(), "routes": routes}))
        return
    console = screen.console()
    compared = any(route.withheld for route in result.routes.values())  # over a ledger what is withheld has many runs
    columns = ("released", "wrongly", "missing", "taken back", *(("withheld",) if compared else ()))
    table = Table("route", *columns, box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, route in result.routes.items():
        numbers = (route.right + route.wrong, route.wrong, route.missing, route.retracted)
        withheld = [f"{route.withheld[0]:,} of {route.withheld[1]:,}"] if route.withheld else []
        table.add_row(name, *(f"{number:,}" for number in numbers), *withheld)
    console.print(table)
    for what, entries in (("released wrongly", result.wrong), ("missing", result.missing)):
        for entry in entries[:SHOWN]:
            console.print(f"{what}: {' '.join(entry.values())}", markup=False)
        if len(entries) > SHOWN:
            console.print(f"{what}: {len(entries) - SHOWN:,} more")
    for name, (run, truth) in result.counts.items():
        console.print(f"{name}: the run counts {run:,}, the truth {truth:,}")
    console.print(
        "the run agrees with the truth" if result.right else "[bold red]the run does not agree with the truth[/]"
    )
