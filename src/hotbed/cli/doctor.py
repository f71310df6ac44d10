"""`hotbed doctor`: what this host offers for isolation, and whether attacks are held by it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from hotbed.engine.diagnosis import Diagnosis, diagnose
from hotbed.engine.engine import Engine

if TYPE_CHECKING:
    from hotbed.attack.runner import Outcome


def show(*, as_json: bool) -> int:
    """Print the diagnosis of this host, as tables or as one JSON document."""
    with Engine(name="hotbed doctor") as engine:
        diagnosis = diagnose(engine.dispatcher, engine.environment)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(diagnosis), indent=2).decode())
        return 0
    _print(_console(), diagnosis)
    return 0


def attack(*, as_json: bool) -> int:
    """Run every case of the catalogue; print what was not held, and the score.

    Gives the exit status: 1 if a promise that this host can keep was not kept.
    """
    from hotbed.attack.catalogue import CATALOGUE
    from hotbed.attack.runner import Ground, Verdict, score

    console = _console()
    outcomes: list[Outcome] = []
    with Ground() as ground, Progress(console=console, transient=True, disable=as_json) as progress:
        task = progress.add_task("attacking", total=len(CATALOGUE))
        for case in CATALOGUE:
            progress.update(task, description=f"{case.group}: {case.name}")
            outcome = ground.attack(case)
            outcomes.append(outcome)
            if outcome.verdict is Verdict.FAILED and not as_json:
                line = f"[red]NOT HELD[/] {case.name}: {escape(case.law)} {escape(outcome.detail)}"
                progress.console.print(line)
            progress.advance(task)
        left = ground.finish()
        tier = ground.tier
    counts = Counter(outcome.verdict for outcome in outcomes)
    if as_json:
        cases = [
            {
                "case": outcome.case.name,
                "group": outcome.case.group,
                "law": outcome.case.law,
                "verdict": outcome.verdict,
                "detail": outcome.detail,
                "wall_s": outcome.wall_s,
            }
            for outcome in outcomes
        ]
        document = {"tier": tier, "counts": counts, "left": left, "cases": cases}
        print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        _print_groups(console, outcomes)
        if left:
            console.print(f"[red]left behind:[/] {escape(left)}")
        console.print(escape(score(tier, outcomes)))
    return 1 if counts[Verdict.FAILED] or left else 0


def _print_groups(console: Console, outcomes: Sequence[Outcome]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("group")
    for name in ("held", "not enforceable here", "NOT HELD"):
        table.add_column(name, justify="right")
    for group in dict.fromkeys(outcome.case.group for outcome in outcomes):
        counts = Counter(outcome.verdict.name for outcome in outcomes if outcome.case.group is group)
        table.add_row(str(group), *(str(counts[name]) for name in ("HELD", "NOT_ENFORCEABLE", "FAILED")))
    console.print(table)
    console.print()


def _console() -> Console:
    # A pipe has no width: 120 columns keep a table readable there.
    return Console(width=None if sys.stdout.isatty() else 120)


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
