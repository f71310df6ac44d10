"""What a row came to: samples in, comparisons held to their bars out.

Pure. An entrant that could not be measured is named with its reason, and so is every
comparison that needed it: nothing is dropped and nothing is made up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hotbed.bench.figures import LEAST_FOR_P95, Ratio, flat, median, ratio
from hotbed.bench.row import Comparison, Kind, Row, Sense

TOLERANCE = 1e-9  # relative: entrants sum the same floats in the same order, or nearly


@dataclass(slots=True)
class Samples:
    """What one entrant was seen to do.

    rounds: seconds of each call; executions a second (one a round) in a saturated row; bytes of
        each process in a memory row.
    seconds: of every call, whatever the kind of row; empty in a memory row.
    shared: bytes of each process with its share of common pages; memory rows only.
    """

    rounds: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    shared: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison's outcome.

    sense: how to read the ratio; that of the bar, or the kind's natural one.
    ratio: None if there is no baseline, or it could not be measured.
    value: the contender's own figure, where there is no baseline.
    met: None without a bar or without a figure; `reason` then says which entrant is missing.
    """

    comparison: Comparison
    sense: Sense
    ratio: Ratio | None = None
    value: float | None = None
    met: bool | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A row with what was measured: samples by entrant, reasons by absent entrant.

    stolen: the part of the processors' time that other guests of the same host took meanwhile.
    """

    row: Row
    samples: Mapping[str, Samples]
    absent: Mapping[str, str]
    rounds: int
    wall_s: float
    stolen: float

    @property
    def verdicts(self) -> list[Verdict]:
        """One for each comparison of the row, in its order."""
        return [judge(self, comparison) for comparison in self.row.comparisons]


def judge(outcome: Outcome, comparison: Comparison) -> Verdict:
    """Hold one comparison to its bar."""
    kind, bar = outcome.row.kind, comparison.bar
    natural = Sense.AT_LEAST if kind is Kind.SATURATED else Sense.AT_MOST
    # Against a baseline that is far slower, "as quick" reads better than thousandths of its time.
    sense = bar.sense if bar else Sense.AT_LEAST if outcome.row.ceiling else natural
    for name in (comparison.contender, comparison.baseline):
        if name is not None and name in outcome.absent:
            return Verdict(comparison, sense, reason=f"{name}: {outcome.absent[name]}")
    contender = outcome.samples[comparison.contender].rounds
    if comparison.baseline is None:
        value = median(flat(contender))
        return Verdict(comparison, sense, value=value, met=_holds(sense, value, bar.value) if bar else None)
    baseline = outcome.samples[comparison.baseline].rounds
    fewest = min(len(flat(contender)), len(flat(baseline)))
    if comparison.q != 0.5 and fewest < LEAST_FOR_P95:
        return Verdict(comparison, sense, reason=f"too few samples: {fewest} of {LEAST_FOR_P95}")
    # Less time and less memory are better, more executions a second are: "at least" asks for better.
    above, below = (contender, baseline) if sense is natural else (baseline, contender)
    found = ratio(above, below, comparison.q)
    return Verdict(comparison, sense, found, met=_holds(sense, found.by_round, bar.value) if bar else None)


def _holds(sense: Sense, value: float, bar: float) -> bool:
    return value <= bar if sense is Sense.AT_MOST else value >= bar


def disagreement(answers: Mapping[str, Any]) -> str:
    """Why these entrants did not do the same work; "" if their answers are equal."""
    names = list(answers)
    for name in names[1:]:
        if not same(answers[names[0]], answers[name]):
            return f"{names[0]} answered {_short(answers[names[0]])}, {name} answered {_short(answers[name])}"
    return ""


def same(one: Any, other: Any) -> bool:
    """Whether two pieces of JSON data are equal, floats nearly."""
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
