"""Figures from samples: quantiles, and ratios that a noisy machine does not bend.

Pure. Two entrants of a row take turns in short batches, so a slow second of the machine hits
both: the ratio within a round is steady where the times themselves are not. The stated ratio is
the median over rounds of the ratio of the two batches' medians; the ratio of the overall
quantiles stands beside it, and where the two disagree the run was disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# A quantile is stated only if about one sample lies beyond it; fewer would print the maximum twice.
LEAST_FOR_P95 = 20
LEAST_FOR_P99 = 100


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile with linear interpolation (type 7 of Hyndman and Fan, 1996; NumPy's default).

    Raises:
        ValueError: If there are no values, or q is outside [0, 1].
    """
    if not values:
        raise ValueError("a quantile needs at least one value")
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q={q} must lie in [0, 1]")
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median(values: Sequence[float]) -> float:
    """The 0.5-quantile."""
    return quantile(values, 0.5)


@dataclass(frozen=True, slots=True)
class Summary:
    """A sample in four numbers; a quantile that the count cannot support is None."""

    count: int
    p50: float
    p95: float | None
    p99: float | None


def summarise(values: Sequence[float]) -> Summary:
    """Summary of at least one value.

    Raises:
        ValueError: If there are no values.
    """
    count = len(values)
    return Summary(
        count,
        median(values),
        quantile(values, 0.95) if count >= LEAST_FOR_P95 else None,
        quantile(values, 0.99) if count >= LEAST_FOR_P99 else None,
    )


@dataclass(frozen=True, slots=True)
class Ratio:
    """One entrant's figure over another's.

    by_round: median over the rounds; low and high are its quartiles over the rounds.
    overall: ratio of the quantiles of all samples.
    """

    by_round: float
    low: float
    high: float
    overall: float


def ratio(above: Sequence[Sequence[float]], below: Sequence[Sequence[float]], q: float = 0.5) -> Ratio:
    """`above` over `below`, each a list of rounds, each round a list of positive samples.

    Round i of both was measured at nearly the same time. For q other than 0.5 a round holds too
    few samples to have that quantile, so `by_round` then equals `overall`.

    Raises:
        ValueError: If the numbers of rounds differ, or a round is empty.
    """
    if len(above) != len(below) or not above:
        raise ValueError(f"rounds must pair: {len(above)} against {len(below)}")
    overall = quantile(flat(above), q) / quantile(flat(below), q)
    if q != 0.5:
        return Ratio(overall, overall, overall, overall)
    each = [median(upper) / median(lower) for upper, lower in zip(above, below, strict=True)]
    return Ratio(median(each), quantile(each, 0.25), quantile(each, 0.75), overall)


def flat(rounds: Sequence[Sequence[float]]) -> list[float]:
    """All samples of all rounds."""
    return [value for samples in rounds for value in samples]
