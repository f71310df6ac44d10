"""A cell: a pid namespace and a mount namespace with a private file system, for one child at a time.

Its first process, the *keeper*, is made by the template's guardian and outlives the children: to make
two namespaces and four mounts for each child, and to take them down, cost more than the child
itself. Between two children it clears the cell: every process in it is killed, the file system is
replaced by an empty one, and the next pid is 2 again.

Law: a cell is given to the next child only after its keeper has seen that nobody else is in it. One
that does not manage in time ends itself, and with itself all that is in the cell.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from .. import kernel
from . import namespaces, root
from .namespaces import StepError, step
from .profile import BOX

MAKING_S = 10.0  # for a new cell, on a machine with other work to do
CLEARING_S = 2.0  # a killed process that has not died by then sits in an uninterruptible call
_PAUSE_S = 0.0002  # the first between two looks at who is left; doubled each time
_CLEAR, _READY = b"clear", b"ready"
_WORD = 4096


# In the template.


class Cell:
    """A cell as the template holds it."""

    __slots__ = ("mounts", "pids", "socket")

    def __init__(self, keeper: socket.socket, pids: int, mounts: int) -> None:
        """The socket of its keeper, and the descriptors of its two namespaces."""
        self.socket, self.pids, self.mounts = keeper, pids, mounts

    def enter_pids(self) -> None:
        """Have the next fork of this process take place inside."""
        with step("enter a pid namespace"):
            namespaces.enter(self.pids, namespaces.NEW_PID)

    def enter_mounts(self) -> None:
        """In the child: see the cell's file system."""
        with step("enter a mount namespace"):
            namespaces.enter(self.mounts, namespaces.NEW_MOUNT)

    def clear(self) -> None:
        """Its child has been reaped: ask for its clearing; `cleared` tells when the socket is readable."""
        with contextlib.suppress(OSError):  # the keeper is gone: its socket says so
            self.socket.send(_CLEAR)

    def cleared(self) -> bool:
        """Whether it can be used again, once its keeper has said something."""
        try:
            return self.socket.recv(_WORD) == _READY
        except OSError:
            return False

    def close(self) -> None:
        """Let go of it; its keeper ends, and everything in it."""
        self.socket.close()
        os.close(self.pids)
        os.close(self.mounts)


def ask(guardian: socket.socket, keep: Callable[[int], int]) -> Cell:
    """A new cell from the template's guardian; `keep` takes descriptors that no child may have.

    Raises:
        OSError: If it could not be made, with the step that failed.
    """
    guardian.send(b"another")
    data, fds, _flags, _address = socket.recv_fds(guardian, _WORD, 1)
    said: dict[str, Any] = json.loads(data or b'{"error": "the guardian is gone"}')
    if "error" in said:
        raise StepError("make a cell", OSError(said.get("errno") or 0, said["error"]))
    keeper = socket.socket(fileno=keep(fds[0]))
    poll = select.poll()
    poll.register(keeper, select.POLLIN)
    word, spaces = b"its keeper does not answer", list[int]()
    if poll.poll(MAKING_S * 1000.0):
        word, spaces, _flags, _address = socket.recv_fds(keeper, _WORD, 2)
    if word != _READY or len(spaces) != 2:
        keeper.close()
        raise StepError("make a cell", OSError(0, word.decode("utf-8", "replace") or "its keeper was killed"))
    pids, mounts = map(keep, spaces)
    return Cell(keeper, pids, mounts)


# In the guardian.


def make(guardian: socket.socket, size_bytes: int) -> None:
    """Make a cell for the template at the other end of this socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = namespaces.clone(namespaces.NEW_PID | namespaces.NEW_MOUNT)
        if pid == 0:
            try:
                guardian.close()
                theirs.close()
                _keep(ours, size_bytes)
            finally:
                os._exit(1)
        socket.send_fds(guardian, [b"{}"], [theirs.fileno()])
    except OSError as error:
        guardian.send(json.dumps({"error": str(error.strerror), "errno": error.errno}).encode())
    finally:
        ours.close()
        theirs.close()


# In the keeper.


def _keep(template: socket.socket, size_bytes: int) -> None:
    kernel.set_parent_death_signal()
    kernel.set_name("hotbed-cell")
    try:
        root.mount_proc("/proc")
        root.mount_box(size_bytes)
        spaces = [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("pid", "mnt")]
    except OSError as error:
        template.send(str(error).encode())
        return
    socket.send_fds(template, [_READY], spaces)
    for fd in spaces:
        os.close(fd)
    while template.recv(_WORD):
        _clear_processes()
        namespaces.unmount(BOX)
        root.mount_box(size_bytes)
        _begin_pids_again()
        template.send(_READY)


def _clear_processes() -> None:
    """Kill everybody else in this pid namespace, and wait until nobody is left.

    The kernel ends the dead by itself: this process ignores SIGCHLD. A fork under way when all are
    signalled is caught too: it fails, or its child is signalled.
    """
    deadline = time.monotonic() + CLEARING_S
    pause_s = _PAUSE_S
    while True:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        if time.monotonic() > deadline:
            os._exit(1)
        time.sleep(pause_s)
        pause_s *= 2


def _begin_pids_again() -> None:
    """The next process is number 2, as in a new namespace; without the file, numbers go on."""
    with contextlib.suppress(OSError):
        fd = os.open("/proc/sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"1")
        finally:
            os.close(fd)
