"""Rows of worker calls: one caller at full speed, two callers, large arrays."""

from __future__ import annotations

from typing import Any

from hotbed.bench.row import Comparison, Entrant, Kind, Row, at_least, at_most

ADD: dict[str, Any] = {"function": "add", "args": [1, 2]}


def call(name: str, *, batch: int = 20, callers: int = 1) -> Entrant:
    """hotbed's worker mode on the smallest function."""
    options = {"name": "add", "args": [1, 2], "mode": "worker"}
    return Entrant(name, "hotbed.bench.engines:function", options, batch=batch, callers=callers)


def executor(*, batch: int = 20, callers: int = 1) -> Entrant:
    """The standard library's pool on the same function."""
    return Entrant("ProcessPoolExecutor", "hotbed.bench.peers:executor", ADD, batch=batch, callers=callers)


def back_to_back() -> Row:
    """One caller, one call after the other, against the pools people use."""
    contender = "hotbed worker call"
    return Row(
        "worker-call",
        "a sum of two numbers in a persistent process, one caller, no rest; every pool has 2 workers",
        Kind.BACK_TO_BACK,
        (
            call(contender),
            executor(),
            Entrant("Pebble", "hotbed.bench.peers:pebble", ADD, batch=20, needs=("pebble",)),
            Entrant("mpire", "hotbed.bench.peers:mpire", ADD, batch=20, needs=("mpire",)),
            Entrant("loky", "hotbed.bench.peers:loky", ADD, batch=20, needs=("loky",)),
            Entrant("raw socket ping", "hotbed.bench.floors:ping", batch=20, works=False),
        ),
        (
            Comparison(contender, "ProcessPoolExecutor", at_least(2.5)),
            Comparison(contender, "Pebble", at_least(2.5)),
            Comparison(contender, "mpire", at_least(2.5)),
            Comparison(contender, "loky", at_least(8.0)),
            Comparison(contender, "raw socket ping"),
        ),
        note="The ping is 96 bytes to a forked process and back, and does no work: nothing can beat it.",
    )


def two_callers() -> Row:
    """Two threads that call without rest."""
    return Row(
        "worker-saturated",
        "sums of two numbers in 2 persistent processes, 2 callers without rest",
        Kind.SATURATED,
        (call("hotbed worker call", callers=2), executor(callers=2)),
        (Comparison("hotbed worker call", "ProcessPoolExecutor", at_least(3.0)),),
    )


def array(function: str, sentence: str, *, bar: bool) -> Row:
    """10 MB of NumPy in and out, in an environment that may share memory."""
    options = {"name": function, "args": None, "preload": ["numpy"], "trusted": True}
    needs = ("numpy",)
    base = "the same in one process"
    return Row(
        f"array-{function}",
        sentence,
        Kind.BACK_TO_BACK,
        (
            Entrant(
                "hotbed worker call, trusted",
                "hotbed.bench.engines:function",
                {**options, "mode": "worker"},
                batch=3,
                needs=needs,
            ),
            Entrant(
                "hotbed fresh call, trusted",
                "hotbed.bench.engines:function",
                {**options, "mode": "fresh"},
                batch=3,
                needs=needs,
            ),
            Entrant(
                base, "hotbed.bench.floors:function", {"name": function, "args": None}, batch=3, needs=needs
            ),
            Entrant(
                "ProcessPoolExecutor",
                "hotbed.bench.peers:executor",
                {"function": function, "args": None},
                batch=3,
                needs=needs,
            ),
        ),
        (
            Comparison("hotbed worker call, trusted", base, at_most(1.5) if bar else None),
            Comparison("hotbed fresh call, trusted", base),
            Comparison("ProcessPoolExecutor", base),
        ),
        share=0.8,
    )


ROWS = (
    back_to_back(),
    two_callers(),
    array(
        "standardise",
        "standardise the columns of a 10 MB float64 array that goes in, and bring the new one out",
        bar=True,
    ),
    array(
        "double",
        "double a 10 MB float64 array: as little work as there is, so that the transport shows",
        bar=False,
    ),
)
