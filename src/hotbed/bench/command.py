"""The command `hotbed bench`: chooses rows, measures them, shows and writes what they came to."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hotbed.bench import machine
from hotbed.bench.catalogue import ROWS, choose
from hotbed.bench.report import Run, markdown, results
from hotbed.bench.rounds import FULL, QUICK, measure
from hotbed.bench.row import Row
from hotbed.bench.tables import Table, bar_text, main_figure, met_text, ratio_cells, tables
from hotbed.bench.verdict import Outcome

REPORT_ONLY = ("quartiles", "overall")  # a terminal is narrow
RESULTS, REPORT = "benchmark-results.json", "benchmark-report.md"


def bench(quick: bool, rows: str | None, output: Path | None, list_rows: bool) -> int:
    """Measure and report; the exit status.

    Prints progress to stderr and the tables to stdout, and writes benchmark-results.json and
    benchmark-report.md into `output`, by default the current directory.

    Returns 0 when every row was measured, bars met or not; 1 when an entrant failed, the files
    then written all the same; 2 when a row's name is unknown.
    """
    if list_rows:
        for row in ROWS:
            print(f"{row.id:24} {row.kind.value:13} {row.sentence}")
        return 0
    try:
        chosen = choose(rows)
    except ValueError as error:
        _tell(f"hotbed bench: {error}")
        return 2
    if sys.platform != "linux":
        _tell("hotbed bench: measures forks through /proc and pidfds, which only Linux has")
        return 2
    directory = output or Path()
    directory.mkdir(parents=True, exist_ok=True)
    run = _run(command_line(quick, rows), chosen, quick=quick)
    for table in tables(run.outcomes):
        _show(table)
    (directory / RESULTS).write_text(results(run))
    (directory / REPORT).write_text(markdown(run))
    met, missed, unknown = run.tally
    print(f"{met} bars met, {missed} not met, {unknown} not measured: {directory / REPORT}")
    failed = any(why.startswith("failed") for each in run.outcomes for why in each.absent.values())
    return 1 if failed else 0


def command_line(quick: bool, rows: str | None) -> str:
    """The command again, without the place of its output."""
    return "hotbed bench" + (" --quick" if quick else "") + (f" --rows {rows}" if rows else "")


def _run(command: str, chosen: Sequence[Row], *, quick: bool) -> Run:
    here = machine.here()
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    started = time.monotonic()
    outcomes = []
    pace = QUICK if quick else FULL
    for index, row in enumerate(chosen, 1):
        shares_left = sum(later.share for later in chosen[index - 1 :])
        budget_s = pace.budget_s(row.share, shares_left, time.monotonic() - started)
        _tell(f"[{index}/{len(chosen)}] {row.id}: {row.sentence}")
        outcome = measure(row, pace, budget_s, _tell)
        _tell(_summary(outcome))
        outcomes.append(outcome)
    return Run(command, date, here, outcomes, time.monotonic() - started)


def _summary(outcome: Outcome) -> str:
    lines = [f"    {outcome.rounds} rounds, {outcome.wall_s:.1f} s, {outcome.stolen:.0%} of it stolen"]
    kind = outcome.row.kind
    for verdict in outcome.verdicts:
        comparison = verdict.comparison
        if comparison.bar is None:
            continue
        if comparison.baseline is None:
            figure = f"{main_figure(kind, outcome.samples.get(comparison.contender), 0.5)} MB"
        else:
            figure = f"against {comparison.baseline} {ratio_cells(kind, verdict)[0]}"
        bar = bar_text(kind, comparison.bar, comparison.q, absolute=comparison.baseline is None)
        lines.append(f"    {comparison.contender}: {figure}, {bar}: {met_text(verdict)}")
    return "\n".join(lines)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(table: Table) -> None:
    try:
        from rich.console import Console
        from rich.table import Table as Grid
    except ImportError:
        _show_plain(table)
        return
    grid = Grid(title=table.title, caption=table.caption, title_justify="left", caption_justify="left")
    shown = [index for index, head in enumerate(table.heads) if head not in REPORT_ONLY]
    for index in shown:
        grid.add_column(table.heads[index], overflow="fold")
    for cells in table.lines:
        grid.add_row(*[cells[index] for index in shown], style="red" if cells[-1] == "NO" else None)
    Console().print(grid)


def _show_plain(table: Table) -> None:
    widths = [max(map(len, column)) for column in zip(table.heads, *table.lines, strict=True)]
    print(f"\n{table.title}: {table.caption}")
    for cells in (table.heads, *table.lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
