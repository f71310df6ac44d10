"""The standard scenarios: fresh and worker against `python file`, with the ceiling beside them."""

from __future__ import annotations

from typing import Any

from hotbed.bench.fresh_rows import fresh, worker
from hotbed.bench.row import Bar, Comparison, Entrant, Kind, Row, at_least
from hotbed.bench.scenario import SCENARIOS

FRESH, WORKER, DIRECT, WARM = "hotbed fresh", "hotbed worker", "python file", "warm process"
NOTE = (
    "The ceiling is python file / the same program in a warm process: no engine that runs the program "
    "can be quicker by more."
)


def standard(name: str, sentence: str, bar: float | None) -> Row:
    """One program of scenario.py, from the same text everywhere."""
    scenario = SCENARIOS[name]
    entrants = (
        fresh(FRESH, scenario),
        worker(WORKER, scenario),
        Entrant(DIRECT, "hotbed.bench.floors:direct", scenario.options, batch=1, needs=scenario.preload),
        Entrant(WARM, "hotbed.bench.floors:warm", scenario.options, needs=scenario.preload),
    )
    return _row(name, sentence, entrants, at_least(bar) if bar else None)


def provider() -> Row:
    """A provider's function with dicts in and out."""
    args: list[Any] = [
        "Tell {name} about {topic} in two sentences.",
        {"config": {"prefix": "> ", "price": 0.0001}},
        {"vars": {"name": "Ada", "topic": "hotbeds"}},
    ]
    options = {"name": "call_api", "args": args}
    opener = "hotbed.bench.engines:function"
    entrants = (
        Entrant(FRESH, opener, {**options, "mode": "fresh"}),
        Entrant(WORKER, opener, {**options, "mode": "worker"}),
        Entrant(DIRECT, "hotbed.bench.floors:direct_provider", {"args": args}, batch=1),
        Entrant(WARM, "hotbed.bench.floors:function", options),
    )
    return _row(
        "provider", "a provider's call_api(prompt, options, context) that returns a dict", entrants, None
    )


def _row(name: str, sentence: str, entrants: tuple[Entrant, ...], bar: Bar | None) -> Row:
    return Row(
        f"scenario-{name}",
        sentence,
        Kind.PACED,
        entrants,
        (
            Comparison(FRESH, DIRECT, bar),
            Comparison(WORKER, DIRECT, bar),
        ),
        note=NOTE,
        share=0.7,
        ceiling=(DIRECT, WARM),
    )


ROWS = (
    standard("sum", "the sum of the first thousand squares", 6.25),
    provider(),
    standard("json-10k", "10 KB of JSON in, through json.dumps and json.loads, and out", 6.67),
    standard("json-100k", "100 KB of JSON in, through json.dumps and json.loads, and out", None),
    standard("numpy", "the product of two 200 x 200 matrices", 6.25),
    standard("pandas", "a groupby over 10,000 rows", 6.67),
    standard("file", "write a temporary file of 1 MB and read it back", 8.0),
)
