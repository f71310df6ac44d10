"""Many at once: each execution ends exactly once, with its own answer; queue, limits, fairness."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hotbed import AsyncEngine, Engine, Environment, Pool, RefusedError, Result, Status
from hotbed.engine.options import Isolation, ModeName

# A sandbox is dear in throughput, so the thousands are not isolated.
MANY = [("none", 300), ("auto", 300), pytest.param("none", 5_000, marks=pytest.mark.slow)]
CALLERS = 8
PATIENCE_S = 120.0


def check(results: list[Result]) -> None:
    wrong = [(number, result) for number, result in enumerate(results) if result.value != number * number]
    assert not wrong, wrong[:3]
    assert Counter(result.status for result in results) == {Status.OK: len(results)}
    assert len({result.id for result in results}) == len(results)


def run_from_threads(engine: Engine, count: int, mode: ModeName, isolation: Isolation) -> list[Result]:
    def one(n: int) -> Result:
        return engine.run("n * n", inputs={"n": n}, mode=mode, isolation=isolation)

    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(one, range(count)))


async def run_from_a_loop(engine: Engine, count: int, mode: ModeName, isolation: Isolation) -> list[Result]:
    async with AsyncEngine(engine=engine) as shared:
        room = asyncio.Semaphore(64)

        async def one(n: int) -> Result:
            async with room:
                return await shared.run("n * n", inputs={"n": n}, mode=mode, isolation=isolation)

        return await asyncio.gather(*(one(n) for n in range(count)))


@pytest.mark.parametrize("mode", ["fresh", "worker"])
@pytest.mark.parametrize(("isolation", "count"), MANY)
def test_each_execution_from_threads_ends_once_with_its_own_answer(
    forking: Engine, isolation: Isolation, count: int, mode: ModeName
) -> None:
    check(run_from_threads(forking, count, mode, isolation))
    assert forking.stats()["running"] == forking.stats()["queued"] == 0


@pytest.mark.parametrize("mode", ["fresh", "worker"])
@pytest.mark.parametrize(("isolation", "count"), MANY)
def test_each_execution_from_a_loop_ends_once_with_its_own_answer(
    forking: Engine, isolation: Isolation, count: int, mode: ModeName
) -> None:
    check(asyncio.run(run_from_a_loop(forking, count, mode, isolation)))
    assert forking.stats()["running"] == forking.stats()["queued"] == 0


def test_no_more_run_at_once_than_max_concurrency(shared: Path, sharing: Environment) -> None:
    code = f"""
import os, time
path = {str(shared)!r}
open(f"{{path}}/{{n}}", "w").close()
seen = len(os.listdir(path))
time.sleep(0.02)
os.unlink(f"{{path}}/{{n}}")
result = seen
"""
    with Engine(sharing, pool=Pool(max_concurrency=3)) as engine, ThreadPoolExecutor(12) as pool:
        seen = [result.value for result in pool.map(lambda n: engine.run(code, inputs={"n": n}), range(60))]
    assert max(seen) == 3


# ── the queue ──


class Blocker:
    """An execution that takes the only place until it is let go."""

    def __init__(self, engine: Engine, go: Path) -> None:
        engine.warm(timeout=PATIENCE_S)  # so that it need not queue for a template
        self.begun = threading.Event()
        self._go = go
        code = f"import os, time\nprint('in')\nwhile not os.path.exists({str(go)!r}): time.sleep(0.005)"
        self._thread = threading.Thread(
            target=lambda: engine.run(code, timeout=PATIENCE_S, on_stdout=lambda _: self.begun.set())
        )
        self._thread.start()
        assert self.begun.wait(PATIENCE_S)

    def let_go(self) -> None:
        self._go.touch()
        self._thread.join(PATIENCE_S)


def test_a_wait_longer_than_queue_timeout_is_refused_with_the_numbers(
    shared: Path, sharing: Environment
) -> None:
    with Engine(sharing, pool=Pool(max_concurrency=1)) as engine:
        blocker = Blocker(engine, shared / "go")
        with pytest.raises(RefusedError, match=r"queue_timeout=0\.05 s \(1 running") as caught:
            engine.run("1", queue_timeout=0.05)
        assert caught.value.retry_after_s
        blocker.let_go()
        assert engine.run("40 + 2", queue_timeout=PATIENCE_S).value == 42


def test_a_full_queue_refuses_at_once(shared: Path, sharing: Environment) -> None:
    with Engine(sharing, pool=Pool(max_concurrency=1, max_queue=0)) as engine:
        blocker = Blocker(engine, shared / "go")
        with pytest.raises(RefusedError, match="the queue is full"):
            engine.run("1")
        blocker.let_go()
        assert engine.run("40 + 2").value == 42


def test_cancel_ends_a_waiting_execution_before_it_runs(shared: Path, sharing: Environment) -> None:
    with Engine(sharing, pool=Pool(max_concurrency=1)) as engine:
        blocker = Blocker(engine, shared / "go")
        code = f"open({str(shared / 'ran')!r}, 'w')"
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.append(engine.run(code, id="waiting")))
        thread.start()
        while not engine.cancel("waiting"):  # it has not been submitted yet
            thread.join(0.001)
        thread.join(PATIENCE_S)
        assert results[0].status is Status.CANCELLED
        blocker.let_go()
        assert engine.run("40 + 2").value == 42
        assert not (shared / "ran").exists()


# ── asyncio ──


def test_a_cancelled_task_ends_its_execution_and_the_next_is_served() -> None:
    async def main() -> None:
        async with AsyncEngine(pool=Pool(max_concurrency=1)) as engine:
            begun = asyncio.Event()
            task = asyncio.create_task(
                engine.run(
                    "print('in')\nwhile True: pass", timeout=PATIENCE_S, on_stdout=lambda _: begun.set()
                )
            )
            await asyncio.wait_for(begun.wait(), PATIENCE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await engine.run("40 + 2")).value == 42

    asyncio.run(main())


def test_a_loop_goes_on_while_code_runs(shared: Path, sharing: Environment) -> None:
    go = shared / "go"

    async def main() -> Result:
        async with AsyncEngine(sharing) as engine:
            begun = asyncio.Event()
            wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.005)"
            code = f"import os, time\nprint('in')\n{wait}\nresult = 42"
            task = asyncio.create_task(engine.run(code, timeout=PATIENCE_S, on_stdout=lambda _: begun.set()))
            await begun.wait()
            go.touch()  # only a loop that is not blocked gets here
            return await task

    assert asyncio.run(main()).value == 42


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("while True: pass", Status.TIMEOUT),
        ("import os; os._exit(3)", Status.CRASHED),
        ("import os; os.closerange(0, 100)\nwhile True: pass", Status.CRASHED),
        ("import os; os.close(1); os.close(2); result = 42", Status.OK),
        ("1 / 0", Status.ERROR),
    ],
)
def test_an_awaited_execution_ends_as_a_blocking_one_does(forking: Engine, code: str, status: Status) -> None:
    async def main() -> tuple[Result, Result]:
        async with AsyncEngine(engine=forking) as engine:
            return await engine.run(code, timeout=1.0), await engine.run("40 + 2")

    result, following = asyncio.run(main())
    assert (result.status, following.value) == (status, 42)


def test_a_queue_timeout_of_an_awaited_execution_is_refused(shared: Path, sharing: Environment) -> None:
    async def main(engine: Engine) -> None:
        async with AsyncEngine(engine=engine) as waiting:
            with pytest.raises(RefusedError, match="queue_timeout"):
                await waiting.run("1", queue_timeout=0.05)

    with Engine(sharing, pool=Pool(max_concurrency=1)) as engine:
        blocker = Blocker(engine, shared / "go")
        asyncio.run(main(engine))
        blocker.let_go()


def test_fifty_megabytes_are_awaited_both_ways(forking: Engine) -> None:
    async def main() -> Result:
        async with AsyncEngine(engine=forking) as engine:
            return await engine.run("result = x", inputs={"x": "y" * 50_000_000}, timeout=PATIENCE_S)

    assert asyncio.run(main()).value == "y" * 50_000_000
