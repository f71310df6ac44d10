"""The loop of a process that makes others: orders in, births and deaths out.

Law: every process below this one ends with it, and is reaped by it. The launcher is a nursery
of interpreters, a template a nursery of forked children; they differ in `make` alone. One
thread, no signal handler, nothing but descriptors to wait for:

- the control socket: orders, and EOF when the engine closes it;
- the engine's pidfd: the engine died although a process it forked keeps the socket open;
- one pidfd per process made, readable when that process has ended.

A process whose parent died is adopted here (subreaper). What appears among our children and
was not made by us is such an orphan: its execution is over, so it is killed.

A process in a sandbox has a guardian, the first process of its pid namespace, which ends with it, or
a cell, which is cleared after it. Only then is its end told: nothing that ran inside is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from . import kernel, wire

# Our own descriptors live from this number up, so that a forked child drops them all with one
# close_range and whatever a preloaded package holds open stays open.
PRIVATE_FD_BASE = 400
ORPHAN = 0  # the id of a process that we adopted rather than made
LAST_REAP_S = 1.0  # a killed process that has not died by then sits in an uninterruptible call


class Born(NamedTuple):
    """A process that was made, with its guardian or its cell, if it has one.

    `fds` go to the engine with the news, and are closed here.
    """

    pid: int
    guardian: int | None = None
    cell: Cell | None = None
    fds: tuple[int, ...] = ()


class Cell(Protocol):
    """Where a process lived; see sandbox/cell.py."""

    @property
    def socket(self) -> socket.socket: ...

    def clear(self) -> None: ...

    def cleared(self) -> bool: ...


class Make(Protocol):
    """Makes the process an order asks for. Its descriptors are the nursery's to close."""

    def __call__(self, nursery: Nursery, order: dict[str, Any], fds: list[int]) -> Born: ...


class _Made:
    """One process in the books; `left` are the pidfds of those of its two that have not ended."""

    __slots__ = ("cell", "cpu_s", "id", "left", "pid", "pids", "process", "status")

    def __init__(self, process_id: int, born: Born) -> None:
        self.id, self.pid, self.cell = process_id, born.pid, born.cell
        self.pids = {pid for pid in (born.pid, born.guardian) if pid is not None}
        self.left: list[int] = []  # the guardian's first: to kill it is to kill both
        self.process = -1  # the pidfd of the process itself
        self.status = 0
        self.cpu_s = 0.0


def to_private(fd: int) -> int:
    """Move a descriptor into the range that forked children drop."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    base = PRIVATE_FD_BASE if soft == resource.RLIM_INFINITY else min(PRIVATE_FD_BASE, soft // 2)
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, base)
    os.close(fd)
    return moved


class Nursery:
    """Makes processes on order until the engine is gone or asks for an end."""

    def __init__(
        self,
        control_fd: int,
        engine_pidfd: int,
        make: Make,
        forget: Callable[[int], None] = lambda _id: None,
        take_back: Callable[..., None] = lambda _cell, **_: None,
    ) -> None:
        """`forget` is told the id of each process that has ended, before the engine is; `take_back`
        is given its cell, with whether it could be cleared."""
        self.pid = os.getpid()
        self._make, self._forget, self._take_back = make, forget, take_back
        self.engine_fd = to_private(engine_pidfd)
        self._control = socket.socket(fileno=to_private(control_fd))
        epoll = select.epoll()
        self._epoll = select.epoll.fromfd(fcntl.fcntl(epoll.fileno(), fcntl.F_DUPFD_CLOEXEC, self.engine_fd))
        epoll.close()
        self._made: dict[int, _Made] = {}  # by the pidfds of its processes
        self._clearing: dict[int, _Made] = {}  # by the socket of its cell: it has ended itself
        self._by_id: dict[int, _Made] = {}
        self._lowest = min(self.engine_fd, self._control.fileno(), self._epoll.fileno())
        self._highest = max(self.engine_fd, self._control.fileno(), self._epoll.fileno())
        self._retiring = False
        self._epoll.register(self._control, select.EPOLLIN)
        self._epoll.register(self.engine_fd, select.EPOLLIN)
        kernel.adopt_orphans()

    def keep(self, fd: int) -> int:
        """Take a descriptor that children must not have: its new number."""
        moved = to_private(fd)
        self._highest = max(self._highest, moved)
        return moved

    def drop_in_child(self) -> None:
        """Close every descriptor of the nursery; for the first line of a forked child."""
        self._control.detach()
        os.closerange(self._lowest, self._highest + 1)

    def receive(self) -> dict[str, Any] | None:
        """Wait for the first message, which says what kind of nursery this is to be."""
        received = wire.receive_message(self._control)
        return received[0] if received else None

    def tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        """Send the engine a message; silently nothing once the engine is gone."""
        while True:
            try:
                wire.send_message(self._control, message, fds)
                return
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._control, select.POLLOUT)
                poll.register(self.engine_fd, select.POLLIN)
                if any(fd == self.engine_fd for fd, _event in poll.poll()):
                    return
            except OSError:
                return

    def serve(self) -> None:
        """Carry out orders until the control socket closes, the engine dies or retirement is done."""
        self._control.setblocking(False)
        try:
            while not (self._retiring and not self._made and not self._clearing):
                for fd, _event in self._epoll.poll():
                    if fd == self.engine_fd:
                        return
                    if fd == self._control.fileno():
                        if not self._take_orders():
                            return
                    elif fd in self._clearing:
                        self._end_clearing(fd)
                    else:
                        self._reap(fd)
        finally:
            self._end_all()

    def _take_orders(self) -> bool:
        while True:
            try:
                received = wire.receive_message(self._control)
            except BlockingIOError:
                return True
            if received is None:
                return False
            order, fds = received
            if order["op"] == "make":
                self._give_birth(order, fds)
            elif order["op"] == "kill":
                made = self._by_id.get(order["id"])
                if made is not None and made.left:
                    kill(made.left[0])
            elif order["op"] == "retire":
                self._retiring = True
            else:
                raise AssertionError(f"unknown order {order['op']!r}")

    def _give_birth(self, order: dict[str, Any], fds: list[int]) -> None:
        try:
            born = self._make(self, order, fds)
            made = self._watch(order["id"], born)
        except OSError as error:  # EAGAIN: out of processes; ENOMEM; EMFILE; or no sandbox here
            self.tell({"op": "failed", "id": order["id"], "error": f"{type(error).__name__}: {error}"})
            return
        finally:
            for fd in fds:
                os.close(fd)
        self.tell({"op": "made", "id": order["id"], "pid": born.pid}, [made.process, *born.fds])
        for fd in born.fds:
            os.close(fd)

    def _watch(self, process_id: int, born: Born) -> _Made:
        made = _Made(process_id, born)
        for pid in (born.guardian, born.pid):
            if pid is not None:
                made.process = self.keep(os.pidfd_open(pid))
                made.left.append(made.process)
                self._made[made.process] = made
                self._epoll.register(made.process, select.EPOLLIN)
        if process_id != ORPHAN:
            self._by_id[process_id] = made
        return made

    def _reap(self, pidfd: int) -> None:
        made = self._made.pop(pidfd)
        if pidfd == made.process:
            _pid, made.status, usage = os.wait4(made.pid, 0)
            made.cpu_s = usage.ru_utime + usage.ru_stime
        else:
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        self._epoll.unregister(pidfd)
        os.close(pidfd)
        made.left.remove(pidfd)
        if made.left:
            kill(made.left[0])
        elif made.cell is not None:
            made.cell.clear()
            fd = made.cell.socket.fileno()
            self._clearing[fd] = made
            self._epoll.register(fd, select.EPOLLIN)
        elif made.id != ORPHAN:
            self._tell_end(made)
        self._kill_orphans()

    def _end_clearing(self, fd: int) -> None:
        made = self._clearing.pop(fd)
        self._epoll.unregister(fd)
        if made.cell is not None:
            self._take_back(made.cell, cleared=made.cell.cleared())
        self._tell_end(made)

    def _tell_end(self, made: _Made) -> None:
        del self._by_id[made.id]
        self._forget(made.id)
        self.tell({"op": "ended", "id": made.id, "status": made.status, "cpu_s": made.cpu_s})

    def _kill_orphans(self) -> None:
        known = {pid for made in self._made.values() for pid in made.pids}
        for pid in kernel.children_of_self():
            if pid not in known:
                kill(self._watch(ORPHAN, Born(pid)).process)

    def _end_all(self) -> None:
        """Kill what is left and reap it: killing a process may hand us its children."""
        deadline = time.monotonic() + LAST_REAP_S
        for pidfd in self._made:
            kill(pidfd)
        self._kill_orphans()
        while (self._made or self._clearing) and (left_s := deadline - time.monotonic()) > 0:
            for fd, _event in self._epoll.poll(left_s):
                if fd in self._made:
                    self._reap(fd)
                elif fd in self._clearing:
                    self._end_clearing(fd)
                else:
                    self._epoll.unregister(fd)


def kill(pidfd: int) -> None:
    """SIGKILL; nothing where the process has ended already."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
