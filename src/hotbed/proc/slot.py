"""One group of processes: who enters it, what it may use, what it has used.

A process enters by writing "0" to each entrance in turn; what it forks is born inside. It can
leave only by dying, as long as it cannot write to the tree of cgroups.

Law: nobody waits here. A slot is in one holder's hands at a time; its methods take no lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Sequence

from hotbed.errors import EngineError
from hotbed.proc.hierarchy import CONTROLLERS, Site

CPU_PERIOD_US = 100_000  # the kernel's own default: a share of 0.5 runs 50 ms of every 100
CPU_QUOTA_LEAST_US = 1000  # the kernel takes no less: a hundredth of a core
PROCESSES_MOST = 4 * 1024**2  # PID_MAX_LIMIT; pids.max takes no more, nor can a machine have more
KILL_BATCH = 64  # pidfds held open at once
KILL_ROUNDS = 1000  # a fork bomb without a limit on processes is left for later after as many

_LIMITS = {
    1: {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"},
    2: {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.max"},
}
# Counter -> controller (none: any group has it), file, name of the line.
_COUNTERS = {
    1: {
        "oom_kills": ("memory", "memory.oom_control", "oom_kill"),
        "fork_refusals": ("pids", "pids.events", "max"),
        "cpu": ("cpu", "cpuacct.usage", ""),
    },
    2: {
        "oom_kills": ("memory", "memory.events", "oom_kill"),
        "fork_refusals": ("pids", "pids.events", "max"),
        "cpu": ("", "cpu.stat", "usage_usec"),
    },
}
_CPU_UNITS = {1: 1e9, 2: 1e6}  # of that counter in a second
_MEMSW = "memory.memsw.limit_in_bytes"  # version 1: memory and swap together; not on every kernel


class Slot:
    """A group, in version 1 one in each tree. Holds at most 3 descriptors: its entrances (1 to
    3 in version 1, 1 in version 2) and in version 2, from kernel 6.12, the peak of its memory.
    """

    def __init__(self, version: int, sites: Sequence[Site], name: str) -> None:
        """Make the group below each site.

        Raises:
            OSError: With what the kernel says; nothing is left then.
        """
        self.directories: list[str] = []
        self.entrances: list[int] = []  # hand them over in this order: they are entered in it
        self._version = version
        self._homes: dict[str, str] = {}  # controller -> directory
        self._set: dict[str, int | None] = dict.fromkeys(CONTROLLERS)  # None: no limit
        self._base: dict[str, int] = {}  # what a counter showed when the slot was last given back
        self._peak_fd: int | None = None
        self._peak_is_stale = False
        self._is_fit = True
        try:
            for site in sites:
                directory = os.path.join(site.directory, name)
                os.mkdir(directory, 0o755)
                self.directories.append(directory)
                self._homes.update(dict.fromkeys(site.controllers, directory))
                # A thread that enters by itself, alone, through `tasks` takes no lock of the whole system;
                # through `cgroup.procs` it waits for an RCU grace period, up to 20 ms. Version 2 has
                # no such way into another domain.
                door = "tasks" if version == 1 else "cgroup.procs"
                self.entrances.append(os.open(f"{directory}/{door}", os.O_WRONLY | os.O_CLOEXEC))
            self._prepare_memory()
        except OSError:
            self.close()
            self.remove()
            raise

    def __repr__(self) -> str:
        limits = ", ".join(f"{name} {value}" for name, value in self._set.items() if value is not None)
        return f"<Slot {self.directories[0]} | {limits or 'no limit'}>"

    def _prepare_memory(self) -> None:
        """No swap, since a limit of memory that spills into it is none; one dies, all die."""
        home = self._homes.get("memory")
        if home is None:
            return
        if self._version == 2:
            for name, value in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
                with contextlib.suppress(FileNotFoundError):  # no swap in this kernel; before 4.19
                    _write(f"{home}/{name}", value)
            self._peak_fd = _resettable(f"{home}/memory.peak")
        elif not os.path.exists(f"{home}/{_MEMSW}"):
            _write(f"{home}/memory.swappiness", "0")

    # ── limits ──

    def limit(self, memory_bytes: int | None, processes: int | None, cpu_cores: float | None) -> None:
        """Set what its processes may use together; None is no limit. Only what differs is written.

        `processes` counts threads too. A core's worth of CPU is 1.0; less than 0.01 becomes
        0.01. What has no controller here is not set: see `Cgroups.controllers`.

        Raises:
            EngineError: If the kernel refuses. The slot is then not used again; give it back.
        """
        cpu_us = None
        if cpu_cores is not None and cpu_cores < (os.cpu_count() or 1):
            cpu_us = max(round(cpu_cores * CPU_PERIOD_US), CPU_QUOTA_LEAST_US)
        if processes is not None:
            processes = min(processes, PROCESSES_MOST)
        for controller, value in (("memory", memory_bytes), ("pids", processes), ("cpu", cpu_us)):
            if controller in self._homes and value != self._set[controller]:
                self._change(controller, value)

    def _change(self, controller: str, value: int | None) -> None:
        path = f"{self._homes[controller]}/{_LIMITS[self._version][controller]}"
        try:
            if self._version == 1 and controller == "memory":
                self._change_memory_of_1(path, value)
            elif self._version == 1 and controller == "cpu":
                _write_share_of_1(path, value)
            elif controller == "cpu":
                _write(path, f"{_or_max(value)} {CPU_PERIOD_US}")
            else:
                _write(path, _or_max(value))
        except OSError as error:
            self._is_fit = False
            raise EngineError(f"cannot set {path} to {_or_max(value)}: {error.strerror}") from error
        self._set[controller] = value

    def _change_memory_of_1(self, path: str, value: int | None) -> None:
        """Memory without swap may never exceed memory with it, so the order is up or down."""
        before = self._set["memory"]
        paths = [path, f"{self._homes['memory']}/{_MEMSW}"]
        if value is None or (before is not None and value > before):
            paths.reverse()
        for each in paths:
            try:
                _write(each, "-1" if value is None else str(value))
            except FileNotFoundError:
                if each == path:
                    raise

    # ── what happened since the slot was taken ──

    def oom_kills(self) -> int:
        """How many of its processes the kernel has killed for lack of memory."""
        return self._since("oom_kills") or 0

    def fork_refusals(self) -> int:
        """How many processes or threads the limit on them has prevented."""
        return self._since("fork_refusals") or 0

    def cpu_s(self) -> float | None:
        """Seconds of CPU that its processes have used; None where the kernel does not say.

        Version 1 says it where the trees of cpu and cpuacct are one.
        """
        used = self._since("cpu")
        return None if used is None else used / _CPU_UNITS[self._version]

    def memory_peak(self) -> int | None:
        """The most bytes it held at a time; None where the kernel does not say.

        Counts files that it caused to be cached, those cached for earlier holders included. In
        version 2 before kernel 5.19 it is not counted, and before 6.12 for the first holder only.
        """
        if "memory" not in self._homes or self._peak_is_stale:
            return None
        try:
            if self._peak_fd is not None:
                return int(os.pread(self._peak_fd, 32, 0))
            name = "memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"
            return int(_read(f"{self._homes['memory']}/{name}"))
        except OSError:
            return None

    def _since(self, counter: str) -> int | None:
        """A counter of the kernel, less what it showed for earlier holders."""
        try:
            now = self._count(counter)
        except OSError:
            return None
        return None if now is None else now - self._base.get(counter, 0)

    def _count(self, counter: str) -> int | None:
        controller, name, field = _COUNTERS[self._version][counter]
        home = self._homes.get(controller) if controller else self.directories[0]
        if home is None:
            return None
        try:
            return _number(_read(f"{home}/{name}"), field)
        except FileNotFoundError:  # not on this kernel, or not in this tree
            return None

    # ── between holders ──

    def is_empty(self) -> bool:
        """Whether no process is left in it; one that nobody has reaped yet is left.

        Raises:
            FileNotFoundError: If the group is gone, made away with by somebody else.
            OSError: If it cannot be read, for want of descriptors.
        """
        if "pids" in self._homes:
            return int(_read(f"{self._homes['pids']}/pids.current")) == 0
        return not self._pids()

    def renew(self) -> bool:
        """Make it as good as new for the next holder; False if it cannot be used again."""
        if not self._is_fit:
            return False
        try:
            self._base = {counter: self._count(counter) or 0 for counter in _COUNTERS[self._version]}
            if self._peak_fd is not None:
                os.write(self._peak_fd, b"0")
            elif self._version == 1 and "memory" in self._homes:
                _write(f"{self._homes['memory']}/memory.max_usage_in_bytes", "0")
            else:
                self._peak_is_stale = True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL everything in it; they are dying, not dead, when this returns."""
        try:
            _write(f"{self.directories[0]}/cgroup.kill", "1")
        except FileNotFoundError:  # version 1, and version 2 before 5.14; or the group is gone
            with contextlib.suppress(OSError):
                self._kill_each()
        except OSError:
            pass
        if self._set["cpu"] is not None:
            with contextlib.suppress(EngineError):
                self._change("cpu", None)  # dying takes CPU, and must not wait for the next period

    def _kill_each(self) -> None:
        if "pids" in self._homes:
            _write(f"{self._homes['pids']}/pids.max", "0")  # nobody is born while we kill
            self._set["pids"] = 0
        killed: set[int] = set()
        for _round in range(KILL_ROUNDS):
            living = sorted(self._pids() - killed)
            if not living:
                return
            for start in range(0, len(living), KILL_BATCH):
                self._kill_batch(living[start : start + KILL_BATCH])
            killed.update(living)

    def _kill_batch(self, pids: list[int]) -> None:
        """A pid may end and be another's meanwhile: whoever is still inside once we hold it is meant."""
        with contextlib.ExitStack() as opened:
            held: dict[int, int] = {}
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    held[pid] = os.pidfd_open(pid)
                    opened.callback(os.close, held[pid])
            inside = self._pids()
            for pid, pidfd in held.items():
                if pid in inside:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _pids(self) -> set[int]:
        """Who is inside, by the first tree: it is entered first, and nobody leaves."""
        pids = set(map(int, _read(f"{self.directories[0]}/cgroup.procs").split()))
        return pids - {0}  # 0 stands for one that our pid namespace does not show

    # ── the end ──

    def close(self) -> None:
        """Close its descriptors; it is not used again."""
        self._is_fit = False
        fds, self.entrances = self.entrances, []
        if self._peak_fd is not None:
            fds = [*fds, self._peak_fd]
            self._peak_fd = None
        for fd in fds:
            os.close(fd)

    def remove(self) -> bool:
        """Remove the groups if they are empty; whether they are gone. Does not wait."""
        gone = True
        for directory in self.directories:
            gone = _removed(directory) and gone
        return gone


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:  # EBUSY: somebody is inside, or has just died
        return False
    return True


def _resettable(path: str) -> int | None:
    """A peak that this descriptor can reset; before kernel 6.12 none can be, before 5.19 none is kept."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.write(fd, b"0")
    except OSError:
        os.close(fd)
        return None
    return fd


def _write_share_of_1(path: str, quota_us: int | None) -> None:
    """Set the quota; where the group above allows less than that, it alone decides."""
    try:
        _write(path, "-1" if quota_us is None else str(quota_us))
    except OSError as error:
        if error.errno != errno.EINVAL or quota_us is None:
            raise
        _write(path, "-1")


def _or_max(value: int | None) -> str:
    return "max" if value is None else str(value)


def _number(text: str, field: str) -> int | None:
    """A number from lines of "field number", or the only one there is if `field` is empty."""
    if not field:
        return int(text)
    for line in text.splitlines():
        name, _space, number = line.partition(" ")
        if name == field:
            return int(number)
    return None


def _read(path: str) -> str:
    """All of a file of the kernel's, whatever its length."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
        return b"".join(chunks).decode("ascii")
    finally:
        os.close(fd)


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode("ascii"))
    finally:
        os.close(fd)
