"""The commands and their options; each does its work in a module of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hotbed.version import __version__

app = typer.Typer(
    name="hotbed",
    help="Every Python execution a fresh process, in about a millisecond.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hotbed {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Every Python execution a fresh process, in about a millisecond."""


@app.command()
def ps(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Show this user's engines: templates, children, workers, their memory and what they do."""
    from hotbed.cli.ps import show

    show(as_json=as_json)


@app.command()
def doctor(
    attack: Annotated[
        bool, typer.Option("--attack", help="Run the attack catalogue: about a minute; 1 if not all is held.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of tables.")] = False,
) -> None:
    """Show what this host offers to hold strangers' code, and what is missing."""
    from hotbed.cli import doctor as door

    raise typer.Exit(door.attack(as_json=as_json) if attack else door.show(as_json=as_json))


@app.command()
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repetitions: about three minutes.")] = False,
    rows: Annotated[str | None, typer.Option(help="Only these rows: names with commas between.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Directory for the report; by default the current one.")
    ] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="List the rows and end.")] = False,
) -> None:
    """Measure hotbed against its peers, interleaved, and write a report."""
    from hotbed.bench.command import bench as measure

    raise typer.Exit(measure(quick=quick, rows=rows, output=output, list_rows=list_rows))
