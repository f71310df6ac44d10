"""Somebody kills a process of the engine's: what had not begun is repeated, the rest reported."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hotbed import Engine, Environment, HotbedError, Pool, Result, Status
from hotbed.model import ErrorKind
from tests import leftovers
from tests.engine.inside import NAMESPACE, Started

PATIENCE_S = 60.0


@pytest.fixture(params=["auto", "none"])
def engine(request: pytest.FixtureRequest, sharing: Environment) -> Iterator[Engine]:
    with Engine(sharing, pool=Pool(max_concurrency=4), isolation=request.param) as engine:
        engine.warm(timeout=PATIENCE_S)
        yield engine


def template_pids(engine: Engine) -> list[int]:
    found = engine.stats()["environments"][0]["templates"]
    return [template["pid"] for template in found if template["pid"]]


def child_pids(engine: Engine, state: str) -> list[int]:
    children = engine.stats()["environments"][0]["children"]
    return [child["pid"] for child in children if child["state"] == state and child["pid"]]


def launcher_pid(engine: Engine) -> list[int]:
    return [engine.stats()["launcher_pid"]]


VICTIMS: dict[str, Callable[[Engine], list[int]]] = {
    "template": template_pids,
    "launcher": launcher_pid,
    "standby children": lambda engine: child_pids(engine, "standby"),
}


def kill(pids: list[int], number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        os.kill(pid, number)


@pytest.mark.parametrize("victim", VICTIMS)
def test_the_next_execution_is_served_after_a_kill(engine: Engine, victim: str) -> None:
    for _ in range(3):
        pids = VICTIMS[victim](engine)
        assert pids
        below = [*child_pids(engine, "standby"), *(template_pids(engine) if victim == "launcher" else [])]
        kill(pids)
        # The kernel takes those below one by one, and one that is alive still may begin.
        assert leftovers.wait_gone([*pids, *below]) == set()
        assert engine.run("40 + 2").value == 42
        engine.warm(timeout=PATIENCE_S)


@pytest.mark.parametrize("victim", ["template", "launcher"])
def test_running_code_that_goes_down_with_its_template_is_reported_and_not_repeated(
    engine: Engine, victim: str, shared: Path
) -> None:
    log = shared / "log"
    code = f"open({str(log)!r}, 'a').write('begun\\n')\nprint('begun')\nimport time; time.sleep(1000)"
    result = engine.run(code, timeout=PATIENCE_S, on_stdout=lambda _: kill(VICTIMS[victim](engine)))
    assert result.status is Status.CRASHED
    assert result.error is not None
    assert result.error.kind is ErrorKind.LOST
    assert log.read_text() == "begun\n"
    assert engine.run("40 + 2").value == 42


def test_running_code_that_is_killed_is_reported_as_killed(engine: Engine) -> None:
    def kill_it(_text: str) -> None:
        kill(child_pids(engine, "leased"))

    result = engine.run("print('begun')\nwhile True: pass", timeout=PATIENCE_S, on_stdout=kill_it)
    assert (result.status, result.exit_code) == (Status.CRASHED, -9)
    assert "SIGKILL" in (result.error.message if result.error else "")
    assert engine.run("40 + 2").value == 42


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_amid_executions_runs_none_twice_and_loses_none(
    engine: Engine, victim: str, shared: Path
) -> None:
    count, callers = 200, 4
    done = threading.Event()

    def one(number: int) -> Result | HotbedError:
        own = shared / str(number)
        code = f"with open({str(own)!r}, 'a') as file: file.write('begun\\n')\nresult = {number}"
        try:
            return engine.run(code, timeout=PATIENCE_S)
        except HotbedError as error:  # the environment died too often: nothing was run
            return error

    def killer() -> None:
        for target in (50, 100, 150):
            # Progress, not time, says when the next kill is due.
            while not done.is_set() and len(os.listdir(shared)) < target:
                done.wait(0.002)
            try:
                kill(VICTIMS[victim](engine))
            except ProcessLookupError:
                continue

    thread = threading.Thread(target=killer)
    thread.start()
    with ThreadPoolExecutor(callers) as pool:
        results = list(pool.map(one, range(count)))
    done.set()
    thread.join()
    for number, result in enumerate(results):
        own = shared / str(number)
        begun = own.read_text() if own.exists() else ""
        if isinstance(result, HotbedError):
            assert begun == ""
        elif result.ok:
            assert (result.value, begun) == (number, "begun\n")
        else:
            assert result.status is Status.CRASHED, result
            assert begun in ("", "begun\n")
    assert sum(isinstance(result, Result) and result.ok for result in results) > count // 2
    assert engine.run("40 + 2").value == 42


def test_a_worker_killed_while_idle_costs_its_caller_nothing(engine: Engine) -> None:
    told = engine.run(NAMESPACE + "print(os.getpid(), namespace)", mode="worker").stdout
    pid = Started.told(told).pid
    assert pid is not None
    kill([pid])
    assert engine.run("40 + 2", mode="worker").value == 42


def test_a_stopped_template_costs_a_start_timeout_and_no_more() -> None:
    with Engine(pool=Pool(standby=0, start_timeout=2.0)) as engine:
        assert engine.run("1").value == 1
        [pid] = template_pids(engine)
        kill([pid], signal.SIGSTOP)
        try:
            started = time.monotonic()
            result = engine.run("40 + 2")
            assert result.value == 42 or result.error is not None
            assert time.monotonic() - started < PATIENCE_S
        finally:
            kill([pid], signal.SIGCONT)
        assert engine.run("40 + 2").value == 42
