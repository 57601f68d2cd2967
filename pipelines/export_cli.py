"""The verbs `limen export …`: what a run published, as files for a CRM's own loader."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.screen import many

if TYPE_CHECKING:
    from pipelines.export import Loader

export_app = typer.Typer(no_args_is_help=True, help="Runs' payloads as files that a CRM loads today.")
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of a run, or of a ledger's runs.")]
LoadFolder = Annotated[Path, typer.Option("--output", help="New folder for the files and load.json.")]
RunPolicy = Annotated[
    Path | None, typer.Option("--policy", help="Policy bundle of the newest run; default: the shipped example.")
]
Since = Annotated[
    str,
    typer.Option("--since", metavar="RUN", help="The last run that was loaded: only records that later ones wrote."),
]


@export_app.command("vault-loader")
def export_vault_loader(
    folder: RunFolder,
    output: LoadFolder,
    since: Since = "",
    policy: RunPolicy = None,
) -> None:
    """Write CSV files for Veeva Vault Loader: deletes, updates and upserts by external id, at most 500 rows a file.

    Example: limen export vault-loader out --output vault
    """
    from pipelines.export import VAULT_LOADER

    _export(folder, output, VAULT_LOADER, policy, since)


@export_app.command("salesforce")
def export_salesforce(
    folder: RunFolder,
    output: LoadFolder,
    since: Since = "",
    policy: RunPolicy = None,
) -> None:
    """Write CSV files for Salesforce Bulk API 2.0: deletes, updates and upserts, at most 10,000 rows a file.

    Example: limen export salesforce out --output salesforce
    """
    from pipelines.export import SALESFORCE

    _export(folder, output, SALESFORCE, policy, since)


def _export(folder: Path, output: Path, loader: "Loader", policy: Path | None, since: str) -> None:
    from pipelines import policy as policies
    from pipelines.export import export

    done = export(folder, output, loader, policies.load(policy or policies.default()), since)
    if done.files:
        counts = f"{many(done.files, 'file')}, {many(done.rows, 'row')}, {many(done.objects, 'object')}"
        print(f"{counts} in {output}; load.json names them")
    else:
        print("no record was written or taken back: nothing to load, nothing written")
