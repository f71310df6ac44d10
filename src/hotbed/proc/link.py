"""The engine's end of one child: its channel, its output pipes, its pidfd.

Law: each descriptor has this one owner, and `close` closes each once. The pair of sockets and
the pipes are made here, before the child exists: a request can be written ahead of its birth.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket

from hotbed.core.ids import ChildId
from hotbed.proc.control import Control
from hotbed.proc.slot import Slot

DEEPEST = 8  # generations from a child up to the launcher


class Link:
    """A child as the engine holds it. `pid` and `pidfd` come with the news of its birth."""

    __slots__ = (
        "child",
        "closed",
        "cpu_s",
        "damaged",
        "ended",
        "err",
        "far_ends",
        "nursery",
        "orphaned",
        "out",
        "out_of_memory",
        "pid",
        "pidfd",
        "poll",
        "poll_channel",
        "slot",
        "socket",
        "wait_status",
    )

    def __init__(self, child: ChildId, nursery: Control) -> None:
        """Open its descriptors.

        Raises:
            OSError: If this process has none left; nothing stays open then.
        """
        self.child = child
        self.nursery = nursery
        with contextlib.ExitStack() as on_failure:
            self.socket, far = socket.socketpair()
            on_failure.callback(self.socket.close)
            on_failure.callback(far.close)
            self.out, far_out = os.pipe()
            on_failure.callback(os.close, self.out)
            on_failure.callback(os.close, far_out)
            self.err, far_err = os.pipe()
            on_failure.pop_all()
        self.socket.setblocking(False)
        os.set_blocking(self.out, False)
        os.set_blocking(self.err, False)
        self.far_ends = [far.detach(), far_out, far_err]
        self.poll_channel = self.socket.fileno()
        self.poll = select.poll()
        self.poll.register(self.poll_channel, select.POLLIN)
        self.poll.register(self.out, select.POLLIN)
        self.poll.register(self.err, select.POLLIN)
        self.pid: int | None = None
        self.pidfd: int | None = None
        self.ended = False  # the kernel says so, through the nursery
        self.wait_status: int | None = None
        self.cpu_s = 0.0  # with those of its children that it waited for; known when it has ended
        self.slot: Slot | None = None  # its cgroup; the dispatcher's
        self.out_of_memory = False  # the kernel counted a kill for memory in its cgroup
        self.orphaned = False  # its nursery went down, and took it along
        self.damaged = False  # its streams are closed: fit for no further execution
        self.closed = False

    def close_far_ends(self) -> None:
        """Let go of the child's ends once they have been handed over."""
        for fd in self.far_ends:
            os.close(fd)
        self.far_ends = []

    def born(self, pid: int | None, pidfd: int | None) -> None:
        """The nursery has made the process."""
        if self.closed:
            if pidfd is not None:
                os.close(pidfd)
            return
        self.pid, self.pidfd = pid, pidfd

    def kill(self) -> None:
        """SIGKILL, through the nursery while the news of its birth is still on the way."""
        pidfd = self.pidfd
        if pidfd is None:
            self.nursery.say({"op": "kill", "id": self.child})
            return
        with contextlib.suppress(OSError):  # it has ended; or a hostile template sent no pidfd
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def is_dead(self, wait_s: float) -> bool:
        """Whether the process has ended, waiting up to `wait_s` for it."""
        if self.pidfd is None:
            return self.ended
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000.0))

    def close(self) -> None:
        """Close every descriptor; once."""
        if self.closed:
            return
        self.closed = True
        self.close_far_ends()
        self.socket.close()
        os.close(self.out)
        os.close(self.err)
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def pid_of(pidfd: int) -> int | None:
    """The pid, here, of a pidfd's process; None once it has been reaped."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pid:"):
                pid = int(line[4:])
                return pid if pid > 0 else None
    return None


def is_below(pidfd: int, ancestor: int) -> bool:
    """Whether a pidfd is one, and of a living descendant of a process of ours."""
    try:
        pid = pid_of(pidfd)
        for _generation in range(DEEPEST):
            if pid is None or pid <= 1:
                return False
            if pid == ancestor:
                return True
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                # The command's name may hold anything: fields count from its last bracket.
                pid = int(file.read().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return False
    return False
