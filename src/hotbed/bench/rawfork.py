"""A template of hotbed's own making that does nothing but fork: the floor under every fresh child.

Run as a script, with the interpreter flags and variables that a real template gets. It loads
the real seed and becomes the real template, so what is forked has the same size; then each
"call" is fork, _exit in the child, wait4 in the parent, timed here. With a sandbox it stands in the
real one's namespaces, and the child takes the steps named before it exits.

    python -I -S rawfork.py SEED_DIRECTORY SETUP_AS_JSON [ENCLOSURE_AS_JSON STEPS]
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

PACKAGE = "_hotbed_seed"  # the name under which the seed's modules know each other


def main() -> None:
    """Become the template, then fork on order until the input ends."""
    here = os.path.dirname(os.path.abspath(__file__))
    seed, setup = sys.argv[1], json.loads(sys.argv[2])
    bench = types.ModuleType("_hotbed_bench")
    bench.__path__ = [here]
    package = types.ModuleType(PACKAGE)
    package.__path__ = [seed]
    sys.modules |= {"_hotbed_bench": bench, PACKAGE: package}
    loop = importlib.import_module("_hotbed_bench.loop")
    importlib.import_module(f"{PACKAGE}.template")  # with all that it imports
    line = loop.Line()
    if len(sys.argv) == 3:
        serve(loop, line, setup, lambda _sandbox: fork)
        return
    spec, steps = json.loads(sys.argv[3]), sys.argv[4].split(",")
    enclosure = importlib.import_module(f"{PACKAGE}.sandbox.enclosure")

    def become(guardian_fd: int) -> None:
        os.dup2(guardian_fd, 5)
        serve(loop, line, setup, lambda sandbox: confined_fork(sandbox, steps))

    born = enclosure.start(spec, become)
    os.waitpid(born.pid, 0)
    os.kill(born.guardian, signal.SIGKILL)
    os.waitpid(born.guardian, 0)


def serve(loop: Any, line: Any, setup: dict[str, Any], way: Callable[[Any], Callable[[], None]]) -> None:
    """Become the template and answer orders."""
    bootstrap = importlib.import_module(f"{PACKAGE}.bootstrap")
    child = importlib.import_module(f"{PACKAGE}.child")
    try:
        ready = bootstrap.Setup.of(setup)
        sandbox = bootstrap.confine(ready, lambda fd: fd)
        bootstrap.become(ready)
        child.prepare(ready, sandbox)
        call = way(sandbox)
    except BaseException as error:  # the border of this process: told to the parent
        loop.fail(line, error)
    loop.serve(line, loop.Subject(call))


def fork() -> None:
    """One child from its birth to its reaping."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.wait4(pid, 0)


def confined_fork(sandbox: Any, steps: list[str]) -> Callable[[], None]:
    """One child that takes some of the real one's steps, from its birth until its cell is clear."""
    parts = {
        name: importlib.import_module(f"{PACKAGE}.sandbox.{name}") for name in ("landlock", "privileges")
    }
    ways: dict[str, Callable[[], object]] = {
        "cell": sandbox.mount,
        "new cell": sandbox.mount,
        "landlock": lambda: parts["landlock"].enforce(sandbox._ruleset),
        "capabilities": lambda: parts["privileges"].set_capabilities(frozenset()),
    }
    taken = [ways[step] for step in steps if step in ways]
    celled = {"cell", "new cell"} & set(steps)

    def call() -> None:
        pid, cell = sandbox.fork() if celled else (os.fork(), None)
        if pid == 0:
            try:
                for take in taken:
                    take()
            finally:
                os._exit(0)
        os.wait4(pid, 0)
        if cell is not None:
            keeps = "cell" in celled
            if keeps:
                cell.clear()
            sandbox.take_back(cell, cleared=keeps and cell.cleared())

    return call


if __name__ == "__main__":
    main()
