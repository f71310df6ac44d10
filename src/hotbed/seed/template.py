"""One process per environment: packages imported, one thread, forks a child per order."""

from __future__ import annotations

import gc
import os
from typing import Any

from . import bootstrap, child, kernel
from .launcher import CHANNEL_FD, ENGINE_FD
from .nursery import Born, Nursery

_exit = os._exit  # user code may replace the module's


def main() -> None:
    """Become the environment's template, say so, and fork until the engine is gone."""
    kernel.set_name("hotbed-template")
    nursery = Nursery(CHANNEL_FD, ENGINE_FD, make=fork_child, forget=child.forget, take_back=child.take_back)
    message = nursery.receive()
    if message is None:
        return
    setup = bootstrap.Setup.of(message)
    try:
        sandbox = bootstrap.confine(setup, nursery.keep)
        report = bootstrap.become(setup)
        child.prepare(setup, sandbox)
        child.rehearse_in_template(report["threads"])
    except bootstrap.BrokenError as error:
        nursery.tell({"op": "broken", "error": str(error)})
        return
    gc.collect()
    gc.freeze()  # a collection in a child then leaves the inherited objects' pages alone
    nursery.tell({"op": "ready", **report})
    nursery.serve()


def fork_child(nursery: Nursery, order: dict[str, Any], fds: list[int]) -> Born:
    """Fork one child onto the descriptors (channel, stdout, stderr) of its order."""
    pid, cell = child.fork()
    if pid == 0:
        try:
            nursery.drop_in_child()
            if cell is None:
                kernel.die_with_parent(nursery.pid)
            child.main(order, fds)
        finally:
            _exit(70)  # main ends in an _exit of its own; 70 is EX_SOFTWARE
    return Born(pid, cell=cell)
