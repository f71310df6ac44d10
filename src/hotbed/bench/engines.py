"""hotbed itself as an entrant: one engine, one way to execute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hotbed.bench import weigh, work
from hotbed.bench.arrays import digest
from hotbed.bench.loop import Subject
from hotbed.bench.peers import arguments
from hotbed.config import Pool
from hotbed.engine.engine import Engine
from hotbed.engine.options import Isolation
from hotbed.model import OWN_CODE, Environment, Limits, Mode

TIMEOUT_S = 30.0


@contextmanager
def engine(
    mode: str,
    *,
    preload: list[str] | None = None,
    warmup: str = "",
    standby: int = 2,
    workers: int = 2,
    trusted: bool = False,
    isolation: Isolation = "none",
) -> Iterator[Engine]:
    """A warm engine with processes for this mode alone."""
    fresh = Mode(mode) is Mode.FRESH
    pool = Pool(
        standby=standby if fresh else 0,
        min_workers=0 if fresh else workers,
        max_workers=workers,
    )
    environment = Environment(preload=preload or [], warmup=warmup, trusted=trusted)
    limits = OWN_CODE.with_timeout(TIMEOUT_S) if isolation == "none" else Limits(timeout=TIMEOUT_S)
    with Engine(environment=environment, pool=pool, limits=limits, isolation=isolation) as made:
        made.warm()
        yield made


@contextmanager
def program(
    code: str,
    data: Any,
    mode: str,
    preload: list[str],
    warmup: str,
    standby: int = 2,
    workers: int = 2,
    isolation: Isolation = "none",
) -> Iterator[Subject]:
    """A program that finds `data` and leaves `result`, sent as text."""
    inputs = {} if data is None else {"data": data}
    with engine(
        mode, preload=preload, warmup=warmup, standby=standby, workers=workers, isolation=isolation
    ) as made:
        yield Subject(lambda: made.run(code, inputs=inputs, mode=Mode(mode)).raise_for_error().value)


@contextmanager
def function(
    name: str,
    args: list[Any] | None,
    mode: str,
    preload: list[str] | None = None,
    warmup: str = "",
    standby: int = 2,
    workers: int = 2,
    trusted: bool = False,
) -> Iterator[Subject]:
    """A function of work.py, as a user's file; without args it gets the one big array."""
    target, given = f"{work.__file__}:{name}", arguments(args)
    with engine(
        mode, preload=preload, warmup=warmup, standby=standby, workers=workers, trusted=trusted
    ) as made:
        yield Subject(
            lambda: made.call(target, *given, mode=Mode(mode)).value, answer=digest if args is None else None
        )


@contextmanager
def waiting(preload: list[str], warmup: str, standby: int) -> Iterator[Subject]:
    """Standby children that have rehearsed and wait."""
    with engine("fresh", preload=preload, warmup=warmup, standby=standby) as made:
        yield Subject(lambda: None, weigh=lambda: [weigh.process(pid) for pid in standby_pids(made)])


def standby_pids(made: Engine) -> list[int]:
    """The rehearsed processes that wait for a fresh execution.

    Raises:
        RuntimeError: If there is none.
    """
    found = [
        child["pid"]
        for environment in made.stats()["environments"]
        for child in environment["children"]
        if child["mode"] == Mode.FRESH and child["state"] == "standby" and child["rehearsed"]
    ]
    if not found:
        raise RuntimeError(f"no rehearsed child waits in {made!r}")
    return found
