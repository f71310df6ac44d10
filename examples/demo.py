"""The same work cold and warm, and a proof that a fresh execution leaves nothing behind.

    make demo

Runs examples/provider.py and examples/analysis.py with `python`, then with hotbed; compares every
output; then lets one execution change all it can and looks what the next one finds. Leaves with 1
if an output differs or anything was left. Needs the `demo` extra and no network.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import hotbed

HERE = Path(__file__).resolve().parent
COLD_RUNS, WARM_RUNS = 5, 20
GAP_S = 0.05  # between warm calls, as in a program that does something else too
WIDTH = 100

QUESTIONS = (
    "Which airport serves Bay Springs, MS?",
    "an airport near Martha's Vineyard",
    "O'Hare in Chicago",
    "Where is Kodiak?",
    "Is there one on Olympus Mons?",
)

# What every child does once before it waits, so that its first real request meets warm code.
WARMUP = """
import io
import pandas as pd
text = "date,value,kind\\n" + "".join(f"2012/01/{day:02},{day}.5,{day % 3}\\n" for day in range(1, 29))
days = pd.read_csv(io.StringIO(text), parse_dates=["date"])
days.groupby(days["date"].dt.month).agg(most=("value", "max"), sum=("value", "sum")).round(1)
days["kind"].value_counts().to_dict()
days["value"].ne(days["value"].shift()).cumsum().mode()
"""

# The first execution changes everything it can reach in its process ...
LEAVE = """
import builtins, collections, json, os
secret = "a global"
builtins.sneaky = "a name that every module sees"
json.loads = lambda text: "patched"
collections.counter_of_runs = getattr(collections, "counter_of_runs", 0) + 1
os.environ["LEFT_BEHIND"] = "a variable"
os.mkdir("elsewhere")
os.chdir("elsewhere")
open("left.txt", "w").close()
"""
# ... and this one, run before and after, tells what it finds.
LOOK = """
import builtins, collections, json, os
result = {
    "a global variable": "secret" in globals(),
    "a new built-in name": hasattr(builtins, "sneaky"),
    "json.loads replaced": json.loads("1") != 1,
    "a counter in a module": getattr(collections, "counter_of_runs", 0) > 0,
    "an environment variable": "LEFT_BEHIND" in os.environ,
    "the working directory": os.path.basename(os.getcwd()) == "elsewhere",
    "a file": os.path.exists("left.txt") or os.path.exists("elsewhere/left.txt"),
}
"""
# The same two in one ordinary interpreter: without this column the other would prove nothing.
ONE_PROCESS = """
import json, sys
names = {}
exec(sys.argv[1], names)
exec(sys.argv[2], names)
print(json.dumps(names["result"]))
"""


@dataclass(frozen=True)
class Work:
    """One function of a file, the arguments of its calls, and how a shell would run it."""

    title: str
    target: str
    arguments: list[tuple[Any, ...]]
    command: Callable[..., list[str]]


@dataclass(frozen=True)
class Way:
    """How long each run of one way took, in seconds, and what each gave."""

    seconds: list[float]
    outputs: list[Any]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def works() -> list[Work]:
    data = resources.files("vega_datasets") / "_data"
    weather, airports = str(data / "seattle-weather.csv"), str(data / "airports.csv")
    options = {"config": {"airports": airports}}
    return [
        Work(
            "provider.py",
            f"{HERE / 'provider.py'}:call_api",
            [(question, options, {}) for question in QUESTIONS],
            lambda prompt, options, _context: [str(HERE / "provider.py"), prompt, json.dumps(options)],
        ),
        Work(
            "analysis.py, pandas",
            f"{HERE / 'analysis.py'}:analyse",
            [(weather,)],
            lambda path: [str(HERE / "analysis.py"), path],
        ),
    ]


def cold(work: Work) -> Way:
    """Each run a new `python FILE`."""

    def run(*arguments: Any) -> Any:
        command = [sys.executable, *work.command(*arguments)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    return timed(run, work.arguments, COLD_RUNS, 0.0)


def warm(engine: hotbed.Engine, work: Work, mode: hotbed.Mode) -> Way:
    """The same function through hotbed."""

    def run(*arguments: Any) -> Any:
        return engine.call(work.target, *arguments, mode=mode).value

    run(*work.arguments[0])  # a worker's first call loads the file; the others are what is compared
    return timed(run, work.arguments, WARM_RUNS, GAP_S)


def timed(run: Callable[..., Any], arguments: list[tuple[Any, ...]], count: int, gap_s: float) -> Way:
    seconds, outputs = [], []
    for number in range(count):
        time.sleep(gap_s)
        started = time.perf_counter()
        output = run(*arguments[number % len(arguments)])
        seconds.append(time.perf_counter() - started)
        outputs.append(output)
    return Way(seconds, outputs)


def differences(expected: Way, got: Way, period: int) -> int:
    """How many outputs differ from the cold run with the same arguments."""
    return sum(output != expected.outputs[number % period] for number, output in enumerate(got.outputs))


def left_in_one_process() -> set[str]:
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-c", ONE_PROCESS, LEAVE, LOOK]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=directory)
    return {name for name, present in json.loads(done.stdout).items() if present}


def found(result: hotbed.Result) -> set[str]:
    return {name for name, present in result.raise_for_error().value.items() if present}


def tell(text: str) -> None:
    """Show on a terminal what is being done, in a line that the next one replaces."""
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="", flush=True)


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 0.1 else f"{seconds * 1000:,.0f} ms"


def show(title: str, heads: list[str], rows: list[list[str]], note: str) -> None:
    """A table, with rich if it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        show_plain(title, heads, rows, note)
        return
    console = Console(width=min(WIDTH, Console().width) if sys.stdout.isatty() else WIDTH, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for number, head in enumerate(heads):
        style = {"ratio": "green", "two hotbed runs": "green", "both in one process": "yellow"}.get(head, "")
        table.add_column(head, justify="right" if number else "left", no_wrap=True, style=style)
    for row in rows:
        table.add_row(*row)
    console.print(f"\n[bold]{title}[/bold]\n")
    console.print(table)
    console.print(f"\n[dim]{note}[/dim]")


def show_plain(title: str, heads: list[str], rows: list[list[str]], note: str) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print(f"\n{title}\n")
    for first, *rest in (heads, *rows):
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("   ".join([first.ljust(widths[0]), *cells]).rstrip())
    print(f"\n{note}")


def compare_work(engine: hotbed.Engine) -> int:
    """Part one: latencies, and how many outputs differ."""
    rows, differing, compared = [], 0, 0
    for work in works():
        tell(f"running {work.title} with python ...")
        by_python = cold(work)
        tell(f"running {work.title} with hotbed, fresh processes ...")
        by_fresh = warm(engine, work, hotbed.Mode.FRESH)
        tell(f"running {work.title} with hotbed, a worker ...")
        by_worker = warm(engine, work, hotbed.Mode.WORKER)
        row = [work.title, milliseconds(by_python.median)]
        for way in (by_fresh, by_worker):
            differing += differences(by_python, way, len(work.arguments))
            compared += len(way.outputs)
            row += [milliseconds(way.median), f"{by_python.median / way.median:,.0f}x"]
        rows.append(row)
    tell("")
    show(
        "1  The same work, cold and warm",
        ["", "python FILE", "hotbed fresh", "ratio", "hotbed worker", "ratio"],
        rows,
        f"Medians of {COLD_RUNS} cold and {WARM_RUNS} warm runs, these {GAP_S * 1000:.0f} ms apart.\n"
        "fresh: a new process each time. worker: one process that keeps its state.\n"
        f"{compared - differing} of {compared} outputs equal those of python.",
    )
    return differing


def compare_state(engine: hotbed.Engine) -> int:
    """Part two: what a second execution finds of the first one; how many rows are not as they must be."""
    before = engine.run(LOOK)
    leaving = engine.run(LEAVE).raise_for_error()
    after = engine.run(LOOK)
    inside = found(engine.run(LEAVE + LOOK))  # the changes do take effect: in the run that makes them
    alone = left_in_one_process()
    names = list(before.value)
    wrong = len(found(before)) + len(found(after)) + len(set(names) - inside) + len(set(names) - alone)
    told = {True: "still there", False: "gone"}
    show(
        "2  What the first run changed, as the second run finds it",
        ["", "both in one process", "two hotbed runs"],
        [[name, told[name in alone], told[name in found(after)]] for name in names],
        f"Processes: {before.pid} looked before, {leaving.pid} made the changes, {after.pid} looked after.",
    )
    return wrong


def main() -> int:
    started = time.perf_counter()
    print(f"hotbed {hotbed.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores")
    environment = hotbed.Environment(preload=["pandas"], warmup=WARMUP)
    with hotbed.Engine(environment, name="demo") as engine:
        engine.warm(isolation="none")
        ready_s = time.perf_counter() - started
        waiting = engine.pool.standby
        print(f"engine ready in {ready_s:.1f} s, once: pandas is imported, {waiting} children wait")
        differing = compare_work(engine)
        left = compare_state(engine)
    if differing or left:
        print(f"\ndemo: FAILED: {differing} outputs differ, {left} traces of state are not as they must be")
        return 1
    print("\ndemo: all outputs equal, no state left")
    return 0


if __name__ == "__main__":
    try:
        import pandas  # noqa: F401
        import vega_datasets  # noqa: F401
    except ModuleNotFoundError as error:
        sys.exit(f"demo: needs {error.name}; install it with: pip install 'hotbed[demo]'")
    sys.exit(main())
