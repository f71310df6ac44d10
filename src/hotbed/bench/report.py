"""The report: benchmark-report.md for people, benchmark-results.json for programs.

Pure. Both start with the command that made them, and neither names the machine or a path on it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hotbed.bench.figures import flat, median, summarise
from hotbed.bench.machine import Machine
from hotbed.bench.row import Kind
from hotbed.bench.tables import MEGABYTE, NOTHING, Table, ceiling, main_figure, number, tables, times
from hotbed.bench.verdict import Outcome, Samples, Verdict

READING = """\
Entrants of a row run in processes of their own and take turns in short batches, in changing order.
**ratio** is the median over the rounds of the ratio between the two batches' medians; **quartiles** are
its quartiles over the rounds, **overall** is the ratio of the quantiles of all samples. Where the three
disagree, the machine was disturbed. A bar is held against **ratio**; one at p95 against the ratio of all
samples. A dash in place of p95 or p99 means fewer than 20 or 100 samples. "1.5x its time" is contender
over baseline, "3x as quick" baseline over contender."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the benchmark: how it was asked for, when and where it ran, what came of it."""

    command: str
    date: str  # ISO 8601, UTC
    machine: Machine
    outcomes: Sequence[Outcome]
    wall_s: float

    @property
    def tally(self) -> tuple[int, int, int]:
        """How many bars were met, were not, and could not be judged."""
        held = [v for outcome in self.outcomes for v in outcome.verdicts if v.comparison.bar]
        met = sum(verdict.met is True for verdict in held)
        missed = sum(verdict.met is False for verdict in held)
        return met, missed, len(held) - met - missed


def markdown(run: Run) -> str:
    """The whole report."""
    met, missed, unknown = run.tally
    wall_s = sum(outcome.wall_s for outcome in run.outcomes) or 1.0
    stolen = sum(outcome.stolen * outcome.wall_s for outcome in run.outcomes) / wall_s
    parts = [
        "# hotbed benchmark",
        f"```sh\n{run.command}\n```",
        f"{run.date}, {run.wall_s:.0f} s, {stolen:.0%} of the processors' time stolen by other guests of the "
        f"host. **{met} bars met, {missed} not met, {unknown} not measured.**",
        _markdown_table(Table("", "", ("machine", ""), tuple(facts(run.machine)))),
        READING,
    ]
    for table in tables(run.outcomes):
        parts += [f"## {table.title}", table.caption, _markdown_table(table)]
    parts += ["## Row by row", "Every entrant that took part, and the command that measures the row alone."]
    for outcome in run.outcomes:
        parts += _details(outcome)
    return "\n\n".join(parts) + "\n"


def facts(machine: Machine) -> list[tuple[str, str]]:
    """The machine as lines of a table."""
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return [
        ("CPU", machine.cpu + (" (virtual machine)" if machine.virtual else "")),
        ("cores", str(machine.cores)),
        ("memory", f"{machine.memory_bytes / 2**30:.0f} GiB"),
        ("kernel", machine.kernel),
        ("Python", machine.python),
        ("transparent huge pages", machine.huge_pages),
        ("load before the run", f"{machine.load:g}"),
        ("packages", packages),
    ]


def _details(outcome: Outcome) -> list[str]:
    row = outcome.row
    heads = ("entrant", *_unit_heads(row.kind), "samples")
    lines = []
    for entrant in row.entrants:
        if entrant.name in outcome.absent:
            lines.append((entrant.name, outcome.absent[entrant.name], *[NOTHING] * (len(heads) - 2)))
        else:
            lines.append((entrant.name, *_own_line(row.kind, outcome.samples[entrant.name])))
    described = (
        f"{row.sentence[0].upper()}{row.sentence[1:]}. {row.kind.capitalize()}, {outcome.rounds} rounds, "
        f"{outcome.stolen:.0%} of the processors' time stolen."
    )
    parts = [f"### {row.id}", described]
    if row.note:
        parts.append(row.note)
    return [*parts, f"`{row.command}`", _markdown_table(Table("", "", heads, tuple(lines)))]


def _own_line(kind: Kind, samples: Samples) -> tuple[str, ...]:
    if kind is Kind.MEMORY:
        found = flat(samples.rounds)
        return (
            main_figure(kind, samples, 0.5),
            f"{number(min(found) / MEGABYTE)}-{number(max(found) / MEGABYTE)}",
            number(median(samples.shared) / MEGABYTE),
            str(len(found)),
        )
    count = str(len(samples.seconds))
    if kind is Kind.SATURATED:
        rates = flat(samples.rounds)
        spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
        return (main_figure(kind, samples, 0.5), spread, times(samples.seconds), count)
    return (times(samples.seconds), count)


def _unit_heads(kind: Kind) -> tuple[str, ...]:
    if kind is Kind.MEMORY:
        return ("MB", "least to most", "PSS MB")
    if kind is Kind.SATURATED:
        return ("per second", "least to most", "p50 / p95 / p99 ms")
    return ("p50 / p95 / p99 ms",)


def _markdown_table(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(table.heads), "|" + "---|" * len(table.heads), *map(line, table.lines)])


def results(run: Run) -> str:
    """The same as one JSON document; seconds and bytes, and every round's median for later statistics."""
    met, missed, unknown = run.tally
    document = {
        "format": 1,
        "command": run.command,
        "date": run.date,
        "wall_s": round(run.wall_s, 1),
        "machine": dataclasses.asdict(run.machine),
        "bars": {"met": met, "not_met": missed, "not_measured": unknown},
        "rows": [_row(outcome) for outcome in run.outcomes],
    }
    return json.dumps(document, indent=1) + "\n"


def _row(outcome: Outcome) -> dict[str, Any]:
    row, top = outcome.row, ceiling(outcome)
    return {
        "id": row.id,
        "sentence": row.sentence,
        "kind": row.kind.value,
        "command": row.command,
        "rounds": outcome.rounds,
        "stolen": round(outcome.stolen, 4),
        "entrants": [_entrant(outcome, entrant.name) for entrant in row.entrants],
        "comparisons": [_comparison(verdict) for verdict in outcome.verdicts],
        "ceiling": None if top is None else dataclasses.asdict(top),
    }


def _entrant(outcome: Outcome, name: str) -> dict[str, Any]:
    if name in outcome.absent:
        return {"name": name, "absent": outcome.absent[name]}
    kind, samples = outcome.row.kind, outcome.samples[name]
    medians = [median(each) for each in samples.rounds]
    unit = {Kind.SATURATED: "per_second", Kind.MEMORY: "bytes"}.get(kind, "seconds")
    found: dict[str, Any] = {
        "name": name,
        "unit": unit,
        "round_medians": [_short(value) for value in medians],
    }
    if kind is Kind.MEMORY:
        found |= {"bytes": median(flat(samples.rounds)), "pss_bytes": median(samples.shared)}
    else:
        summary = summarise(samples.seconds)
        quantiles = {"p50_s": summary.p50, "p95_s": summary.p95, "p99_s": summary.p99}
        found |= {"samples": summary.count}
        found |= {key: None if value is None else _short(value) for key, value in quantiles.items()}
        if kind is Kind.SATURATED:
            found["per_second"] = _short(median(medians))
    return found


def _comparison(verdict: Verdict) -> dict[str, Any]:
    comparison = verdict.comparison
    bar = comparison.bar
    return {
        "contender": comparison.contender,
        "baseline": comparison.baseline,
        "quantile": comparison.q,
        "sense": verdict.sense.value,
        "ratio": None if verdict.ratio is None else dataclasses.asdict(verdict.ratio),
        "value": verdict.value,
        "bar": None if bar is None else bar.value,
        "met": verdict.met,
        "reason": verdict.reason,
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
