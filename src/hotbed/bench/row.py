"""What a row is: who takes part, how they are driven, who is compared with whom, and the bar.

Pure values; names are unique within a row, and a comparison names only entrants of its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

GAP_S = 0.020  # between paced calls: long enough for a child to be replaced, short enough to stay in caches


class Kind(StrEnum):
    """How a row drives its entrants; the report lists kinds in this order."""

    PACED = "paced"  # one caller, GAP_S of rest before each call
    SATURATED = "saturated"  # several callers without rest; what counts is executions a second
    BACK_TO_BACK = "back to back"  # one caller without rest
    MEMORY = "memory"  # nobody calls: the waiting process is weighed


class Sense(StrEnum):
    """What a bar demands of the ratio."""

    AT_MOST = "at most"  # contender / baseline: what it costs
    AT_LEAST = "at least"  # how many times better the contender is


@dataclass(frozen=True, slots=True)
class Bar:
    """A promise of SPEC section 6 about one comparison.

    A comparison without a baseline is held to `value` itself: bytes in a memory row.
    """

    sense: Sense
    value: float


def at_most(value: float) -> Bar:
    """The contender costs no more than this many times its baseline."""
    return Bar(Sense.AT_MOST, value)


def at_least(value: float) -> Bar:
    """The contender is this many times better than its baseline, or more."""
    return Bar(Sense.AT_LEAST, value)


@dataclass(frozen=True, slots=True)
class Entrant:
    """One way of doing the row's work, opened in a process of its own.

    opener: "module:function", a context manager that yields a loop.Subject.
    options: its keyword arguments, as JSON.
    batch: calls in one round; a slow entrant takes one where a quick one takes many.
    callers: threads that call at once in a saturated row.
    copies: processes that run it side by side; their rates are added.
    needs: modules it cannot do without.
    works: False for a floor that does less than the row's work, so that its answer is not checked.
    raw: runs in a bare template (rawfork), not in an ordinary interpreter; `opener` is then unused.
    """

    name: str
    opener: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 5
    callers: int = 1
    copies: int = 1
    needs: tuple[str, ...] = ()
    works: bool = True
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Contender against baseline at a quantile; without a bar it is for the reader's information."""

    contender: str
    baseline: str | None
    bar: Bar | None = None
    q: float = 0.5


@dataclass(frozen=True, slots=True)
class Row:
    """One promise, or a few that one run of entrants can answer.

    share: of a row's time, where 1 is the usual.
    ceiling: two entrants whose ratio no contender can exceed, where there is such a pair.
    """

    id: str
    sentence: str
    kind: Kind
    entrants: tuple[Entrant, ...]
    comparisons: tuple[Comparison, ...]
    note: str = ""
    share: float = 1.0
    ceiling: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        names = [entrant.name for entrant in self.entrants]
        if len(set(names)) < len(names):
            raise ValueError(f"row {self.id!r} has two entrants of one name: {names}")
        for comparison in self.comparisons:
            for name in (comparison.contender, comparison.baseline):
                if name is not None and name not in names:
                    raise ValueError(f"row {self.id!r} compares {name!r}, which is none of {names}")

    @property
    def command(self) -> str:
        """What produces this row alone."""
        return f"hotbed bench --rows {self.id}"
