"""What was measured, as tables of text; the report and the terminal show the same ones.

Pure. Times are milliseconds here, since people compare them so; everywhere else seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hotbed.bench.figures import Ratio, flat, median, ratio, summarise
from hotbed.bench.row import Bar, Kind, Sense
from hotbed.bench.verdict import Outcome, Samples, Verdict

NOTHING = "–"
SHORT = 90  # characters of a reason in a table; the row's own section has all of it
MEGABYTE = 1_000_000
KINDS = {
    Kind.PACED: ("Fresh executions, paced", "One caller, 20 ms of rest before each call."),
    Kind.SATURATED: ("Saturated", "Several callers without rest; executions a second."),
    Kind.BACK_TO_BACK: ("One caller without rest", "Each call follows the last at once."),
    Kind.MEMORY: (
        "Memory",
        "Private bytes of one waiting process and its page tables, in MB (10^6); PSS is with its share of "
        "the pages it shares.",
    ),
}
SCENARIOS = (
    "Against a plain `python file` for each call. Ceiling: how many times as quick a warm process runs the "
    "same program, which no engine can exceed."
)
SCENARIO_HEADS = (
    "row",
    "contender",
    "p50 / p95 / p99 ms",
    "python file p50 ms",
    "ratio",
    "quartiles",
    "overall",
    "ceiling",
    "bar",
    "met",
)


@dataclass(frozen=True, slots=True)
class Table:
    """A title, what it measures in a sentence, column heads, and lines of cells."""

    title: str
    caption: str
    heads: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]


def tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """One table for each kind of row that was measured; paced and saturated come first."""
    found = []
    for kind, (title, caption) in KINDS.items():
        chosen = [each for each in outcomes if each.row.kind is kind and not each.row.ceiling]
        lines = tuple(_line(outcome, verdict) for outcome in chosen for verdict in outcome.verdicts)
        if lines:
            found.append(Table(title, caption, _heads(kind), lines))
    chosen = [each for each in outcomes if each.row.ceiling]
    lines = tuple(_scenario(outcome, verdict) for outcome in chosen for verdict in outcome.verdicts)
    if lines:
        found.append(Table("Standard scenarios", SCENARIOS, SCENARIO_HEADS, lines))
    return found


def _heads(kind: Kind) -> tuple[str, ...]:
    own: tuple[str, ...]
    if kind is Kind.SATURATED:
        own, base = ("per second", "p50 / p95 / p99 ms"), "per second"
    elif kind is Kind.MEMORY:
        own, base = ("MB", "PSS MB"), "MB"
    else:
        own, base = ("p50 / p95 / p99 ms",), "p50 ms"
    return ("row", "contender", *own, "baseline", base, "ratio", "quartiles", "overall", "bar", "met")


def _line(outcome: Outcome, verdict: Verdict) -> tuple[str, ...]:
    comparison, kind = verdict.comparison, outcome.row.kind
    contender = outcome.samples.get(comparison.contender)
    baseline = outcome.samples.get(comparison.baseline or "")
    own = own_figures(kind, contender)
    base = main_figure(kind, baseline, comparison.q)
    return (
        outcome.row.id,
        comparison.contender,
        *own,
        comparison.baseline or NOTHING,
        base,
        *ratio_cells(kind, verdict),
        bar_text(kind, comparison.bar, comparison.q, absolute=comparison.baseline is None),
        met_text(verdict),
    )


def _scenario(outcome: Outcome, verdict: Verdict) -> tuple[str, ...]:
    comparison, kind = verdict.comparison, outcome.row.kind
    top = ceiling(outcome)
    return (
        outcome.row.id,
        comparison.contender,
        *own_figures(kind, outcome.samples.get(comparison.contender)),
        main_figure(kind, outcome.samples.get(comparison.baseline or ""), 0.5),
        *ratio_cells(kind, verdict),
        NOTHING if top is None else f"{number(top.by_round)}x",
        bar_text(kind, comparison.bar, comparison.q, absolute=False),
        met_text(verdict),
    )


def ceiling(outcome: Outcome) -> Ratio | None:
    """The ratio that no contender of this row can exceed, if the row has one and measured it."""
    if outcome.row.ceiling is None:
        return None
    slow, quick = (outcome.samples.get(name) for name in outcome.row.ceiling)
    return None if slow is None or quick is None else ratio(slow.rounds, quick.rounds)


def own_figures(kind: Kind, samples: Samples | None) -> tuple[str, ...]:
    """The cells of a contender's own figures, as many as its kind of row has heads."""
    if samples is None:
        return (NOTHING,) if kind in (Kind.PACED, Kind.BACK_TO_BACK) else (NOTHING, NOTHING)
    if kind is Kind.SATURATED:
        return (main_figure(kind, samples, 0.5), times(samples.seconds))
    if kind is Kind.MEMORY:
        return (main_figure(kind, samples, 0.5), number(median(samples.shared) / MEGABYTE))
    return (times(samples.seconds),)


def main_figure(kind: Kind, samples: Samples | None, q: float) -> str:
    """What the row compares, of one entrant, in the unit of its column."""
    if samples is None:
        return NOTHING
    if kind is Kind.SATURATED:
        return f"{median(flat(samples.rounds)):,.0f}"
    if kind is Kind.MEMORY:
        return number(median(flat(samples.rounds)) / MEGABYTE)
    summary = summarise(samples.seconds)
    if q == 0.95 and summary.p95 is not None:
        return f"{number(1000 * summary.p95)} (p95)"
    return number(1000 * summary.p50)


def times(seconds: Sequence[float]) -> str:
    """The quantiles of some durations in ms; a dash where the samples are too few for one."""
    summary = summarise(seconds)
    found = (summary.p50, summary.p95, summary.p99)
    return " / ".join(NOTHING if value is None else number(1000 * value) for value in found)


def ratio_cells(kind: Kind, verdict: Verdict) -> tuple[str, str, str]:
    """The ratio by rounds with what it means, its quartiles, and the ratio of all samples."""
    found = verdict.ratio
    if found is None:
        return (NOTHING, NOTHING, NOTHING)
    if kind is Kind.SATURATED:
        meaning = "of its rate"
    elif verdict.sense is Sense.AT_LEAST:
        meaning = "less" if kind is Kind.MEMORY else "as quick"
    else:
        meaning = "its size" if kind is Kind.MEMORY else "its time"
    quartiles = NOTHING if verdict.comparison.q != 0.5 else f"{number(found.low)}-{number(found.high)}"
    return (f"{number(found.by_round)}x {meaning}", quartiles, number(found.overall))


def bar_text(kind: Kind, bar: Bar | None, q: float, *, absolute: bool) -> str:
    """A bar in words: "at most 1.6x"."""
    if bar is None:
        return NOTHING
    if absolute:
        return (
            f"{bar.sense} {bar.value / MEGABYTE:g} MB"
            if kind is Kind.MEMORY
            else f"{bar.sense} {bar.value:g}"
        )
    return f"{bar.sense} {bar.value:g}x" + ("" if q == 0.5 else f" at p{100 * q:.0f}")


def met_text(verdict: Verdict) -> str:
    """Yes, no, or why it is not known."""
    if verdict.reason:
        return verdict.reason if len(verdict.reason) <= SHORT else verdict.reason[: SHORT - 1] + "…"
    return NOTHING if verdict.met is None else "yes" if verdict.met else "NO"


def number(value: float) -> str:
    """Three significant digits, and never an exponent."""
    if value >= 99.95:
        return f"{value:,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    if value >= 0.9995:
        return f"{value:.2f}"
    return f"{value:.3f}"
