"""The option `limen --version`: which program this is."""

from typing import Annotated

import typer

from pipelines import program


def _shown(asked: bool) -> None:
    if asked:
        typer.echo(f"limen {program.VERSION}, source {program.source_digest()}")
        raise typer.Exit


def limen(
    version: Annotated[
        bool, typer.Option("--version", callback=_shown, is_eager=True, help="Print version and source digest.")
    ] = False,
) -> None:
    """Limen, the guarded threshold between a hospital's EHR and a life-science company's CRM."""
