"""All rows, in the order they are measured and reported."""

from __future__ import annotations

from collections.abc import Sequence

from hotbed.bench import fresh_rows, memory_rows, sandbox_rows, scenario_rows, worker_rows
from hotbed.bench.row import Row

ROWS: tuple[Row, ...] = (
    *fresh_rows.ROWS,
    *sandbox_rows.ROWS,
    *worker_rows.ROWS,
    *memory_rows.ROWS,
    *scenario_rows.ROWS,
)


def choose(names: str | None) -> Sequence[Row]:
    """The rows of a comma-separated list; a name that ends in "*" takes all that begin with it.

    Raises:
        ValueError: If a name fits no row.
    """
    if names is None:
        return ROWS
    chosen: dict[str, Row] = {}
    for name in filter(None, (part.strip() for part in names.split(","))):
        found = [row for row in ROWS if _fits(row.id, name)]
        if not found:
            raise ValueError(f"no row is named {name!r}; `hotbed bench --list` shows them all")
        chosen |= {row.id: row for row in found}
    if not chosen:
        raise ValueError("--rows names no row; `hotbed bench --list` shows them all")
    return [row for row in ROWS if row.id in chosen]


def _fits(row_id: str, name: str) -> bool:
    return row_id.startswith(name[:-1]) if name.endswith("*") else row_id == name
