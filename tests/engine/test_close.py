"""The end of an engine: by close, with, the collector, the program's end; nothing is left."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest

from hotbed import Engine, Pool, RefusedError, Result, Status

PATIENCE_S = 60.0


def test_close_may_be_called_twice() -> None:
    engine = Engine()
    assert engine.run("40 + 2").value == 42
    engine.close()
    engine.close()
    assert engine.closed


def test_close_works_on_an_engine_that_never_ran_anything() -> None:
    Engine().close()


def test_close_while_the_template_starts_leaves_nothing() -> None:
    engine = Engine()
    refused = threading.Event()

    def run() -> None:
        try:
            engine.run("1")
        except RefusedError:
            refused.set()

    thread = threading.Thread(target=run)
    thread.start()
    while not engine.stats()["queued"]:
        thread.join(0.001)
    engine.close()
    thread.join(PATIENCE_S)
    assert refused.is_set()


def test_with_closes_also_where_its_body_raises() -> None:
    with pytest.raises(LookupError), Engine() as engine:
        raise LookupError
    assert engine.closed


def test_the_collector_closes_an_engine_that_was_dropped() -> None:
    engine = Engine()
    engine.run("1")
    gone = weakref.ref(engine)
    del engine
    gc.collect()
    assert gone() is None  # the fixture looks for what it left


def test_close_ends_running_executions_as_cancelled() -> None:
    engine = Engine(pool=Pool(max_concurrency=4))
    begun = threading.Barrier(5)
    results: list[Result] = []

    def one() -> None:
        results.append(
            engine.run(
                "print('in')\nwhile True: pass", timeout=None, on_stdout=lambda _: begun.wait() and None
            )
        )

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait(PATIENCE_S)
    engine.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [result.status for result in results] == [Status.CANCELLED] * 4


@pytest.mark.parametrize(
    "use",
    [
        lambda engine: engine.run("1"),
        lambda engine: engine.call(f"{__file__}:f"),
        lambda engine: engine.warm(),
        lambda engine: engine.cancel("x"),
    ],
)
def test_use_after_close_is_refused(use: Callable[[Any], object]) -> None:
    engine = Engine()
    engine.close()
    with pytest.raises(RefusedError, match="closed"):
        use(cast(Any, engine))


def test_a_closed_engine_still_shows_itself() -> None:
    engine = Engine()
    assert repr(engine) == "<Engine 0 environments | 0 standby, 0 leased, 0 queued>"
    engine.close()
    assert repr(engine) == "<Engine closed>"


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "import sys; sys.exit(3)",
        "raise SystemExit",
        "1 / 0",
        "import threading\nbegun = threading.Event()\n"
        "def run(): engine.run('print(1)\\nwhile True: pass', on_stdout=lambda _: begun.set())\n"
        "threading.Thread(target=run, daemon=True).start(); begun.wait(60)",
        "del engine",
        "engine.__class__.kept = engine",
    ],
)
def test_a_program_that_ends_without_close_ends_its_engine(rest: str) -> None:
    code = f"import hotbed\nengine = hotbed.Engine()\nprint(engine.run('40 + 2').value)\n{rest}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.stdout == "42\n"
    assert ("ZeroDivisionError" in done.stderr) == (rest == "1 / 0")
    assert "hotbed" not in done.stderr.replace("hotbed.run", "")
