"""Rows of fresh executions: paced, on demand, and at full speed."""

from __future__ import annotations

import os

from hotbed.bench.row import Comparison, Entrant, Kind, Row, at_least, at_most
from hotbed.bench.scenario import GROUPBY, WARMUP, Scenario

PANDAS = ("numpy", "pandas")
SUM = "result = data[0] + data[1]"
CORES = len(os.sched_getaffinity(0))
# A second caller per core keeps the cores busy while the first one's answer travels.
CALLERS = 2 * CORES


def fresh(name: str, scenario: Scenario, *, standby: int = 2, callers: int = 1) -> Entrant:
    """hotbed's fresh mode on a program."""
    return _program(name, scenario, "fresh", standby=standby, callers=callers)


def worker(name: str, scenario: Scenario) -> Entrant:
    """hotbed's worker mode on the same program."""
    return _program(name, scenario, "worker", standby=0, callers=1)


def _program(name: str, scenario: Scenario, mode: str, *, standby: int, callers: int) -> Entrant:
    options = {**scenario.options, "mode": mode, "standby": standby}
    return Entrant(
        name,
        "hotbed.bench.engines:program",
        options,
        callers=callers,
        needs=scenario.preload,
    )


def raw_fork(preload: tuple[str, ...], *, copies: int = 1) -> Entrant:
    """fork + _exit + wait4 in a template like the engine's."""
    options = {"preload": list(preload)}
    return Entrant("raw fork+exit+reap", options=options, copies=copies, needs=preload, works=False, raw=True)


def paced_trivial(id_: str, preload: tuple[str, ...], what: str) -> Row:
    """A sum of two numbers in a fresh child of a template, against everything comparable."""
    trivial = Scenario(SUM, [1, 2], preload)
    call = {"name": "add", "args": [1, 2], "preload": list(preload)}
    entrants = (
        fresh("hotbed fresh run", trivial),
        Entrant(
            "hotbed worker call", "hotbed.bench.engines:function", {**call, "mode": "worker"}, needs=preload
        ),
        worker("hotbed worker run", trivial),
        Entrant(
            "hotbed fresh call", "hotbed.bench.engines:function", {**call, "mode": "fresh"}, needs=preload
        ),
        Entrant(
            "forkserver process per call",
            "hotbed.bench.peers:forkserver",
            {"args": [1, 2], "preload": list(preload)},
            needs=preload,
        ),
        Entrant(
            "multiprocessing.Pool(8, maxtasksperchild=1)",
            "hotbed.bench.peers:fresh_pool",
            {"args": [1, 2], "preload": list(preload), "workers": 8},
            needs=preload,
        ),
        raw_fork(preload),
    )
    contender = "hotbed fresh run"
    return Row(
        id_,
        f"a sum of two numbers in a fresh process of {what}, 20 ms between calls",
        Kind.PACED,
        entrants,
        (
            Comparison(contender, "hotbed worker call", at_most(1.6)),
            Comparison(contender, "hotbed worker call", at_most(2.0), q=0.95),
            Comparison(contender, "forkserver process per call", at_least(10.0)),
            Comparison(contender, "multiprocessing.Pool(8, maxtasksperchild=1)", at_most(1.0)),
            Comparison(contender, "hotbed worker run"),
            Comparison("hotbed fresh call", "hotbed worker call"),
            Comparison(contender, "raw fork+exit+reap"),
        ),
        note="Run means source text, compiled anew each time; call means a function of a file, which a "
        "worker has loaded and a fresh child must load. The pool has 8 workers because its keeper "
        "replaces used ones every 0.1 s only.",
        share=1.6,
    )


def paced_groupby() -> Row:
    """A pandas groupby in a fresh child that has rehearsed another one."""
    scenario = Scenario(GROUPBY, preload=PANDAS, warmup=WARMUP)
    return Row(
        "fresh-groupby",
        "a pandas program that builds 10,000 rows and groups them, in a fresh process whose warm-up "
        "snippet grouped other data, 20 ms between calls",
        Kind.PACED,
        (
            fresh("hotbed fresh run", scenario),
            worker("hotbed worker run", scenario),
            fresh("hotbed fresh run, no warm-up snippet", Scenario(GROUPBY, preload=PANDAS)),
            Entrant("python -c", "hotbed.bench.floors:command", {"code": GROUPBY}, batch=1, needs=PANDAS),
        ),
        (
            Comparison("hotbed fresh run", "hotbed worker run", at_most(1.3)),
            Comparison("hotbed fresh run", "python -c", at_least(100.0)),
            Comparison("hotbed fresh run, no warm-up snippet", "hotbed worker run"),
        ),
        share=1.4,
    )


def on_demand(id_: str, preload: tuple[str, ...], what: str) -> Row:
    """A fresh execution that no child was waiting for."""
    trivial = Scenario(SUM, [1, 2], preload)
    return Row(
        id_,
        f"a sum of two numbers in a process forked on demand from {what} (no standby), 20 ms between calls",
        Kind.PACED,
        (fresh("hotbed fresh run, standby=0", trivial, standby=0), raw_fork(preload)),
        (Comparison("hotbed fresh run, standby=0", "raw fork+exit+reap", at_most(2.0)),),
        share=0.8,
    )


def saturated(id_: str, preload: tuple[str, ...], what: str) -> Row:
    """Fresh executions as fast as the machine goes."""
    trivial = Scenario(SUM, [1, 2], preload)
    return Row(
        id_,
        f"sums of two numbers in fresh processes of {what}, {CALLERS} callers on {CORES} cores without rest",
        Kind.SATURATED,
        (
            fresh("hotbed fresh run", trivial, callers=CALLERS),
            raw_fork(preload, copies=CORES),
        ),
        (Comparison("hotbed fresh run", "raw fork+exit+reap", at_least(0.6)),),
        note="The floor is one raw fork loop on each core. Under load children are not rehearsed.",
        share=1.2,
    )


ROWS = (
    paced_trivial("fresh-trivial-bare", (), "a bare template"),
    paced_trivial("fresh-trivial-pandas", PANDAS, "a template with NumPy and pandas"),
    paced_groupby(),
    on_demand("fresh-on-demand-bare", (), "a bare template"),
    on_demand("fresh-on-demand-pandas", PANDAS, "a template with NumPy and pandas"),
    saturated("fresh-saturated-bare", (), "a bare template"),
    saturated("fresh-saturated-pandas", PANDAS, "a template with NumPy and pandas"),
)
