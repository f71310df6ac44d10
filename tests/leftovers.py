"""What a test left behind: processes, descriptors, threads, files and control groups.

The test process is made a subreaper, so whatever it starts stays its descendant: an orphan comes to it
instead of to init. That makes "no process is left" a question with an answer, also for processes whose parent
died. The price: a dead orphan stays a zombie until somebody here reaps it, so a test that waits for one to
vanish uses `wait_gone`, or a pidfd, never the existence of /proc/PID.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_S = 5.0
OWNER_S = 0.3  # a zombie is left to whoever started it for this long, then reaped as an orphan
STEP_S = 0.02

_PR_SET_CHILD_SUBREAPER = 36

# The standard library's helpers live as long as the process that first needed them, by design.
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "loky.backend.resource_tracker")
# Opened once, on first use, by libraries that never close them.
_LASTING = ("/dev/null", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Process:
    """One descendant; pid and start time name it, since pids are used again."""

    pid: int
    started: int  # clock ticks since boot
    parent: int = field(compare=False)
    state: str = field(compare=False)  # the kernel's letter; Z is a zombie

    def __str__(self) -> str:
        return f"process {self.pid} ({self.state}, parent {self.parent}): {_command(self.pid) or 'gone'}"


@dataclass(frozen=True, slots=True)
class Traces:
    """What exists at one moment."""

    processes: frozenset[Process]
    descriptors: frozenset[tuple[int, str]]
    threads: frozenset[str]
    files: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.processes or self.descriptors or self.threads or self.files)

    def __str__(self) -> str:
        lines = [str(process) for process in sorted(self.processes, key=lambda process: process.pid)]
        lines += [f"descriptor {number}: {target}" for number, target in sorted(self.descriptors)]
        lines += [f"thread {name}" for name in sorted(self.threads)]
        lines += [f"file {name}" for name in sorted(self.files)]
        return "\n".join(f"  {line}" for line in lines)


def adopt_orphans() -> None:
    """Make this process the reaper of all its descendants (Linux; elsewhere nothing)."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed; orphans of the tests would not be seen")


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _process(pid: int) -> Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses: the fields start after the last one.
    state, parent, *rest = text.rpartition(")")[2].split()
    return Process(pid=pid, started=int(rest[17]), parent=int(parent), state=state)


def _childless() -> bool:
    """Whether this process has no child at all; as a subreaper it then has no descendant either."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def descendants() -> frozenset[Process]:
    """All processes below this one, zombies included, the standard library's helpers not."""
    # Most tests start nothing: one system call spares them the walk.
    if sys.platform != "linux" or _childless():
        return frozenset()
    found: dict[int, Process] = {}
    unread = [os.getpid()]
    while unread:
        for pid in _children(unread.pop()):
            process = _process(pid)
            if process is not None and pid not in found:
                found[pid] = process
                unread.append(pid)
    return frozenset(
        process for process in found.values() if not any(name in _command(process.pid) for name in _HELPERS)
    )


def _children(pid: int) -> list[int]:
    """The children of all tasks of a process; a walk down the tree beats a scan of /proc tenfold."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        except OSError:
            continue
    return found


def _descriptors() -> Iterator[tuple[int, str]]:
    if sys.platform != "linux":
        return
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    helper = getattr(getattr(tracker, "_resource_tracker", None), "_fd", None)
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the descriptor of this very listing
        if int(name) != helper and target not in _LASTING:
            yield int(name), target


def _files() -> Iterator[str]:
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield from (str(path) for path in Path(runtime, "hotbed").rglob("*"))
    for path in Path(tempfile.gettempdir()).glob("hotbed*"):
        yield str(path)
    # Control groups: tests/conftest.py has made this session one in each tree.
    for group in filter(None, os.environ.get("HOTBED_CGROUP", "").split(":")):
        yield from (str(path) for path in Path(group).glob("hotbed*"))


def traces() -> Traces:
    return Traces(
        processes=descendants(),
        descriptors=frozenset(_descriptors()),
        threads=frozenset(
            f"{thread.name} ({thread.ident})"
            for thread in threading.enumerate()
            if thread.name.startswith("hotbed")
        ),
        files=frozenset(_files()),
    )


def _new(before: Traces) -> Traces:
    now = traces()
    # What a fixture of a wider scope owns may come and go; that fixture's own end is checked by its scope.
    owners = {process.pid for process in before.processes}
    shared = bool(owners or before.threads)
    while more := {process.pid for process in now.processes if process.parent in owners} - owners:
        owners |= more
    return Traces(
        processes=frozenset(
            process for process in now.processes - before.processes if process.pid not in owners
        ),
        descriptors=frozenset() if shared else now.descriptors - before.descriptors,
        threads=now.threads - before.threads,
        files=frozenset() if shared else now.files - before.files,
    )


def _reap(processes: Iterable[Process]) -> None:
    for process in processes:
        if process.state == "Z" and process.parent == os.getpid():
            try:
                os.waitpid(process.pid, os.WNOHANG)
            except ChildProcessError:
                continue  # its owner was quicker


def left_since(before: Traces, patience_s: float = PATIENCE_S) -> Traces:
    """What exists now and did not at `before`, after giving it `patience_s` to vanish.

    Processes still there at the end are killed, so that one leak fails one test.
    """
    started = time.monotonic()
    left = _new(before)
    if left:
        gc.collect()  # a descriptor held by a cycle is a matter of time, not a leak
    while left and time.monotonic() - started < patience_s:
        if time.monotonic() - started > OWNER_S:
            _reap(left.processes)
        time.sleep(STEP_S)
        left = _new(before)
    for process in left.processes:
        if _process(process.pid) == process:
            os.kill(process.pid, signal.SIGKILL)
    return left


def wait_gone(pids: Iterable[int], patience_s: float = PATIENCE_S) -> set[int]:
    """Those of `pids` still alive after `patience_s`; a zombie is dead, and reaped if it is ours."""
    deadline = time.monotonic() + patience_s
    waited = set(pids)
    while True:
        found = {process for pid in waited if (process := _process(pid)) is not None}
        _reap(found)
        alive = {process.pid for process in found if process.state not in "ZX"}
        if not alive or time.monotonic() >= deadline:
            return alive
        time.sleep(STEP_S)
