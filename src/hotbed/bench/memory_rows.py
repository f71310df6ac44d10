"""Rows of memory: what one waiting pandas child holds."""

from __future__ import annotations

from hotbed.bench.row import Comparison, Entrant, Kind, Row, at_least, at_most
from hotbed.bench.scenario import WARMUP

PANDAS = ("numpy", "pandas")
MEGABYTE = 1_000_000


def waiting(id_: str, what: str, warmup: str, most_mb: float, times: float) -> Row:
    """One standby child against an interpreter of its own with the same imports."""
    child, separate = "hotbed standby child", "separate interpreter"
    return Row(
        id_,
        f"private memory of a waiting child of a pandas template, {what}, its page tables included",
        Kind.MEMORY,
        (
            Entrant(
                child,
                "hotbed.bench.engines:waiting",
                {"preload": list(PANDAS), "warmup": warmup, "standby": 4},
                needs=PANDAS,
            ),
            Entrant(
                separate, "hotbed.bench.floors:idle_interpreter", {"preload": list(PANDAS)}, needs=PANDAS
            ),
        ),
        (
            Comparison(child, None, at_most(most_mb * MEGABYTE)),
            Comparison(child, separate, at_least(times)),
        ),
        note="Private pages (smaps_rollup: Private_Clean + Private_Dirty) and VmPTE; the kernel's task, "
        "stack and descriptors, some 30 KB a process, cannot be read. Isolation is none: no init.",
        share=0.3,
    )


ROWS = (
    waiting("memory-trivial", "after the built-in rehearsal", "", 1.5, 7.0),
    waiting("memory-groupby", "after a rehearsal that grouped 10,000 rows", WARMUP, 6.0, 7.0),
)
