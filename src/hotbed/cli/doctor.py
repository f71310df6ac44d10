"""`hotbed doctor`: what this host offers for isolation, and whether attacks are held by it."""

from __future__ import annotations

import sys

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hotbed.engine.diagnosis import Diagnosis, diagnose
from hotbed.engine.engine import Engine


def show(*, as_json: bool) -> None:
    """Print the diagnosis of this host, as tables or as one JSON document."""
    with Engine(name="hotbed doctor") as engine:
        diagnosis = diagnose(engine.dispatcher, engine.environment)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(diagnosis), indent=2).decode())
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    _print(console, diagnosis)


def _print(console: Console, diagnosis: Diagnosis) -> None:
    console.print(
        f"[bold]{escape(diagnosis.system)}[/bold], Python {escape(diagnosis.python)}, {diagnosis.user}"
    )
    console.print()
    table = Table(title="Tiers, the strongest first", title_justify="left", box=None, pad_edge=False)
    for column in ("tier", "here", "why not"):
        table.add_column(column)
    for one in diagnosis.tiers:
        mark = (
            "[bold green]in force[/]"
            if one.tier is diagnosis.tier
            else "yes"
            if one.allowed
            else "[red]no[/]"
        )
        table.add_row(str(one.tier), mark, escape(one.problem))
    console.print(table)
    console.print()
    console.print(f"In force: {', '.join(diagnosis.in_force)}")
    console.print(f"cgroups: {escape(diagnosis.groups)}")
    strict = "[green]runs[/]" if diagnosis.strict else "[red]refuses[/]"
    console.print(f'isolation="strict": {strict}')
    if diagnosis.missing:
        console.print()
        table = Table(title="Missing", title_justify="left", box=None, pad_edge=False)
        for column in ("mechanism", "what that costs", "how to get it"):
            table.add_column(column)
        for lack in diagnosis.missing:
            table.add_row(str(lack.mechanism), escape(lack.cost), escape(lack.remedy))
        console.print(table)
