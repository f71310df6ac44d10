"""The life of a process that runs user code: set up, rehearse, wait, answer, park, end.

Law: what can be done before the request is done before it. A fresh child serves one request
and then parks: its teardown costs milliseconds of kernel time and must not stand between the
answer and the caller, so the engine ends it when nobody waits. A worker serves many.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from . import bootstrap, capture, imports, kernel, perform, rehearse, reseed, wire
from .bootstrap import Setup
from .launcher import enter_groups

if TYPE_CHECKING:
    from .sandbox.cell import Cell
    from .sandbox.confine import Sandbox

_setup: Setup
_sandbox: Sandbox | None = None
_entered = False


def prepare(setup: Setup, sandbox: Sandbox | None) -> None:
    """Do once, in the template, what every child would otherwise do for itself."""
    global _setup, _sandbox
    _setup, _sandbox = setup, sandbox
    capture.prepare()
    rehearse.prepare(setup.warmup, trusted=setup.trusted)
    imports.prepare()
    perform.at_home(os.getcwd(), private=False)  # for the rehearsal; a child has its own


def enter(setup: Setup, sandbox: Sandbox | None, process_id: int) -> None:
    """Go to this process's own place: its directory, and into its sandbox for good.

    A forked child does so after its template's imports. An interpreter has no template and does
    so before any: a package's threads must not be left outside.

    Raises:
        OSError: If the host does not allow it.
    """
    global _entered
    if sandbox is not None:
        sandbox.mount()
    directory = setup.cwd
    if setup.work_root:
        directory = os.path.join(setup.work_root, str(process_id))
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        os.environ["TMPDIR"] = os.environ["HOME"] = directory
    os.chdir(directory)
    if sandbox is not None:
        sandbox.confine(directory)
    _entered = True


def rehearse_in_template(threads: dict[str, list[str]]) -> None:
    """Run the rehearsal once before any fork: what it warms, every child inherits warm.

    A small request to an unrehearsed child then takes less than half the time. Adds to
    `threads` those that the warm-up snippet started and that no fork survives.

    Raises:
        BrokenError: If the warm-up snippet fails.
    """
    before = len(bootstrap.surviving_threads())
    problem = rehearse.once(in_template=True)
    if problem:
        raise bootstrap.BrokenError(f"the warm-up snippet fails\n{problem}")
    after = bootstrap.surviving_threads()
    if len(after) > before:
        threads["the warm-up snippet"] = after


def fork() -> tuple[int, Cell | None]:
    """Fork a child: its pid and, in a sandbox, its cell; pid 0 in the child."""
    return (os.fork(), None) if _sandbox is None else _sandbox.fork()


def forget(process_id: int) -> None:
    """In the template: a child has ended."""
    if _sandbox is not None:
        _sandbox.forget(process_id)


def take_back(cell: Cell, *, cleared: bool) -> None:
    """In the template: a child's cell is free."""
    if _sandbox is not None:
        _sandbox.take_back(cell, cleared=cleared)


def main(order: dict[str, Any], fds: list[int]) -> None:
    """Live as a forked child on these descriptors: channel, stdout, stderr, entrances of cgroups."""
    channel_fd, out, err, *entrances = fds
    enter_groups(entrances)
    os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    for fd in (null, out, err):
        os.close(fd)
    live(wire.Channel(channel_fd), order)


def live(channel: wire.Channel, order: dict[str, Any]) -> None:
    """Serve this process's requests; does not return."""
    if _setup.trusted:
        from . import shared

        channel = shared.SharingChannel(channel.fd)
    end = os._exit  # user code may replace the module's
    kernel.adopt_orphans()  # a grandchild that outlives its parent is killed with us, not lost
    try:
        if not _entered:
            enter(_setup, _sandbox, order["id"])
    except OSError as error:
        channel.send(wire.BROKEN, wire.encode({"error": f"its sandbox cannot be made: {error}"}))
        end(70)
    _settle()
    if order["rehearse"]:
        _rehearse(channel, order)
    reseed.from_system()
    while (frame := channel.receive()) is not None:
        if frame.kind == wire.REHEARSE:
            _rehearse(channel, order)
            reseed.from_system()
            continue
        perform.answer(channel, frame, persistent=order["persistent"])
        if not order["persistent"]:
            channel.receive()  # parked: the engine hangs up, or more often kills
            break
    end(0)


def _settle() -> None:
    """Give this process its own streams and home, and no exit hooks of the template."""
    perform.at_home(os.getcwd(), private=bool(_setup.work_root) or _setup.sandbox is not None)
    tempfile.tempdir = None
    # Exit hooks of preloaded packages belong to the template's life: one of them may remove
    # a directory that its siblings still use.
    atexit._clear()
    capture.install()
    sys.argv = [""]


def _rehearse(channel: wire.Channel, order: dict[str, Any]) -> None:
    problem = rehearse.once(in_template=False)
    channel.send(wire.READY, wire.encode({"problem": problem, "directories": order.get("directories", {})}))
