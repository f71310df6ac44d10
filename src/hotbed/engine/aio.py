"""The engine for event loops: the same plan and processes, awaited instead of blocked on.

Law: no thread per call and no hop through one: the loop watches the child's own descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Mapping
from typing import Any

from hotbed.config import Pool
from hotbed.core.classify import Verdict
from hotbed.engine.assignment import Assignment
from hotbed.engine.drive import LINGER_S, NEWS_S, Drive
from hotbed.engine.engine import Engine
from hotbed.engine.options import DEFAULT, Default, Isolation, Listener, ModeName, Options
from hotbed.model import Environment, Limits, Mode, Result
from hotbed.proc.exchange import Exchange


class _LoopWaiter:
    """A caller that awaits on a loop; woken from any thread, it sets an event there."""

    __slots__ = ("_loop", "event")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.event = asyncio.Event()

    def wake(self) -> None:
        """Set the event; nothing once the loop is closed: nobody waits then."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.event.set)


class AsyncEngine:
    """`Engine` for asyncio: the same arguments, the same results, awaited.

    Makes an engine of its own from the arguments of `Engine`, or shares the one given as
    `engine`, which then stays its owner's to close. Cancelling a task ends its execution.
    """

    def __init__(
        self,
        environment: Environment | None = None,
        *,
        limits: Limits | None = None,
        ceiling: Limits | None = None,
        pool: Pool | None = None,
        isolation: Isolation | None = None,
        name: str = "",
        engine: Engine | None = None,
    ) -> None:
        self._owns = engine is None
        self.engine = engine or Engine(
            environment, limits=limits, ceiling=ceiling, pool=pool, isolation=isolation, name=name
        )

    async def run(
        self,
        code: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes | str] | None = None,
        mode: Mode | ModeName = Mode.FRESH,
        environment: Environment | None = None,
        isolation: Isolation | None = None,
        env: Mapping[str, str] | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        timeout: float | Default | None = DEFAULT,
        queue_timeout: float | None = None,
        on_stdout: Listener | None = None,
        on_stderr: Listener | None = None,
        id: str | None = None,
    ) -> Result:
        """As `Engine.run`; the listeners are called in the loop's thread."""
        options = Options(
            mode, environment, isolation, env, seed, limits, timeout, queue_timeout, on_stdout, on_stderr, id
        )
        return await _drive(self.engine, self.engine.assign_run(code, inputs, options, files))

    async def call(
        self,
        target: str,
        /,
        *args: Any,
        mode: Mode | ModeName = Mode.WORKER,
        environment: Environment | None = None,
        isolation: Isolation | None = None,
        env: Mapping[str, str] | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        timeout: float | Default | None = DEFAULT,
        queue_timeout: float | None = None,
        on_stdout: Listener | None = None,
        on_stderr: Listener | None = None,
        id: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Result:
        """As `Engine.call`."""
        options = Options(
            mode, environment, isolation, env, seed, limits, timeout, queue_timeout, on_stdout, on_stderr, id
        )
        work = self.engine.assign_call(target, args, kwargs or {}, options)
        return (await _drive(self.engine, work)).raise_for_error()

    async def warm(self, environment: Environment | None = None, *, timeout: float = 60.0) -> None:
        """As `Engine.warm`."""
        await asyncio.to_thread(self.engine.warm, environment, timeout=timeout)

    def cancel(self, id: str) -> bool:
        """As `Engine.cancel`."""
        return self.engine.cancel(id)

    def stats(self) -> dict[str, Any]:
        """As `Engine.stats`."""
        return self.engine.stats()

    async def close(self) -> None:
        """End the engine, if it is this object's own."""
        if self._owns:
            await asyncio.to_thread(self.engine.close)

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self.engine).replace("<Engine", "<AsyncEngine", 1)


async def _drive(engine: Engine, work: Assignment) -> Result:
    loop = asyncio.get_running_loop()
    run = Drive(engine.dispatcher, work, lambda: _LoopWaiter(loop))
    try:
        run.submit()
        while True:
            waiter = run.job.waiter
            if isinstance(waiter, _LoopWaiter):
                refusal = await _wait_for_lease(run, waiter, work)
                if refusal is not None:
                    raise refusal
            exchange = run.start()
            if exchange is None:
                return run.conclude(None)
            verdict = await _converse(loop, run, exchange)
            if not run.must_retry():
                break
            await asyncio.to_thread(run.dispatcher.wait_for_death, exchange.link, NEWS_S)
            run.retry()
        if run.needs_news():
            await _await_death(run, exchange)
        return run.conclude(verdict)
    except BaseException:  # a cancelled task too
        run.abandon()
        raise


async def _wait_for_lease(run: Drive, waiter: _LoopWaiter, work: Assignment) -> Exception | None:
    try:
        await asyncio.wait_for(waiter.event.wait(), work.queue_timeout_s)
    except TimeoutError:
        refusal = run.out_of_patience()
        if refusal is not None:
            return refusal
        await waiter.event.wait()
    return None


async def _converse(loop: asyncio.AbstractEventLoop, run: Drive, exchange: Exchange) -> Verdict | None:
    """Wait on the loop until the exchange is over or its deadline has passed."""
    link = exchange.link
    done: asyncio.Future[Verdict | None] = loop.create_future()
    timer: list[asyncio.TimerHandle] = []

    def step(fd: int, events: int) -> None:
        if done.done():
            return
        try:
            if events:
                exchange.ready(fd, events)
            sending = exchange.sending
            if not sending and writing[0]:
                loop.remove_writer(link.poll_channel)
                writing[0] = False
            if exchange.is_silent(fd):
                loop.remove_reader(fd)
            deadline = run.deadline
            verdict = run.progressed()
            if verdict is not None or exchange.closed is not None:
                done.set_result(verdict)
            elif run.deadline != deadline:
                arm()
        except BaseException as error:  # a listener's; the task raises it
            done.set_exception(error)

    def arm() -> None:
        for handle in timer:
            handle.cancel()
        timer.clear()
        if run.deadline is not None:
            timer.append(loop.call_later(max(0.0, run.deadline - time.monotonic()), on_time))

    def on_time() -> None:
        step(link.poll_channel, 0)
        if not done.done():  # the clocks differ by a rounding
            arm()

    writing = [exchange.sending]
    if exchange.closed is not None:
        return None
    fds = (link.poll_channel, link.out, link.err)
    for fd in fds:
        loop.add_reader(fd, step, fd, select.POLLIN)
    if writing[0]:
        loop.add_writer(link.poll_channel, step, link.poll_channel, select.POLLOUT)
    arm()
    try:
        return await done
    finally:
        for fd in fds:
            loop.remove_reader(fd)
        if writing[0]:
            loop.remove_writer(link.poll_channel)
        for handle in timer:
            handle.cancel()


async def _await_death(run: Drive, exchange: Exchange) -> None:
    """Wait for the kernel's word on a process that closed its channel without an answer."""
    link = exchange.link
    if not await asyncio.to_thread(link.is_dead, LINGER_S):
        await asyncio.to_thread(run.dispatcher.wait_for_death, link, LINGER_S)
    if link.is_dead(0.0):
        await asyncio.to_thread(run.dispatcher.wait_for_death, link, NEWS_S)
    else:
        link.kill()
