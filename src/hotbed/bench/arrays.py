"""The 10 MB array that travels: the same numbers for every entrant, and its digest."""

from __future__ import annotations

from typing import Any

ROWS, COLUMNS = 12_500, 100  # of float64: 10,000,000 bytes


def make() -> Any:
    """A fresh array of ROWS x COLUMNS float64."""
    import numpy

    return numpy.random.default_rng(20_240_229).normal(3.0, 2.0, (ROWS, COLUMNS))


def digest(array: Any) -> list[Any]:
    """What two equal arrays share, as JSON data."""
    return [list(array.shape), str(array.dtype), float(array.sum()), float(array[-1, -1])]
