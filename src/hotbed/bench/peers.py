"""Other people's pools, each in the best shape its own manual gives it.

All run one function of work.py with the same arguments and are warm before the clock starts.
A sandbox, limits or captured output none of them has; that is not what is compared here.
"""

from __future__ import annotations

import collections
import concurrent.futures
import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hotbed.bench import work
from hotbed.bench.arrays import digest, make
from hotbed.bench.loop import Subject

EXTRA = "pip install 'hotbed[bench]'"


def arguments(args: Sequence[Any] | None) -> tuple[Any, ...]:
    """The positional arguments; None stands for the one big array."""
    return (make(),) if args is None else tuple(args)


def _subject(call: Callable[[], Any], args: Sequence[Any] | None) -> Subject:
    return Subject(call, answer=digest if args is None else None)


@contextmanager
def executor(function: str, args: list[Any] | None, workers: int = 2) -> Iterator[Subject]:
    """concurrent.futures.ProcessPoolExecutor, as the interpreter's version starts it by default."""
    target, given = getattr(work, function), arguments(args)
    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        concurrent.futures.wait([pool.submit(target, *given) for _ in range(2 * workers)])
        yield _subject(lambda: pool.submit(target, *given).result(), args)


@contextmanager
def pebble(function: str, args: list[Any], workers: int = 2) -> Iterator[Subject]:
    """pebble.ProcessPool."""
    from pebble import ProcessPool

    target = getattr(work, function)
    with ProcessPool(max_workers=workers) as pool:
        concurrent.futures.wait([pool.schedule(target, args=args) for _ in range(2 * workers)])
        yield Subject(lambda: pool.schedule(target, args=args).result())


@contextmanager
def mpire(function: str, args: list[Any], workers: int = 2) -> Iterator[Subject]:
    """mpire.WorkerPool with its workers kept alive between calls."""
    from mpire.pool import WorkerPool

    target, given = getattr(work, function), tuple(args)
    with WorkerPool(n_jobs=workers, keep_alive=True) as pool:
        for result in [pool.apply_async(target, given) for _ in range(2 * workers)]:
            result.get()
        yield Subject(lambda: pool.apply(target, given))


@contextmanager
def loky(function: str, args: list[Any], workers: int = 2) -> Iterator[Subject]:
    """loky's reusable executor, which is what joblib runs on."""
    from loky import get_reusable_executor

    target = getattr(work, function)
    pool = get_reusable_executor(max_workers=workers, timeout=3600)
    try:
        concurrent.futures.wait([pool.submit(target, *args) for _ in range(2 * workers)])
        yield Subject(lambda: pool.submit(target, *args).result())
    finally:
        pool.shutdown(wait=True)


@contextmanager
def forkserver(args: list[Any], preload: list[str]) -> Iterator[Subject]:
    """A multiprocessing.Process per call from a forkserver that has the modules loaded.

    The clock stops when the value is there; the join comes after it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hotbed.bench.work", *preload])
    alive: collections.deque[Any] = collections.deque()

    def call() -> Any:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=work.add_to, args=(sender, *args))
        process.start()
        sender.close()
        with receiver:
            value = receiver.recv()
        alive.append(process)
        return value

    def tidy() -> None:
        process = alive.popleft()
        process.join()
        process.close()

    yield Subject(call, tidy=tidy)


@contextmanager
def fresh_pool(args: list[Any], preload: list[str], workers: int) -> Iterator[Subject]:
    """multiprocessing.Pool(maxtasksperchild=1) forked from a process that has the modules loaded.

    Its keeper looks for ended workers every 0.1 s, so at 20 ms a call fewer than six workers
    would leave the queue waiting.
    """
    for name in preload:
        importlib.import_module(name)
    with multiprocessing.get_context("fork").Pool(workers, maxtasksperchild=1) as pool:
        yield Subject(lambda: pool.apply(work.add, tuple(args)))
