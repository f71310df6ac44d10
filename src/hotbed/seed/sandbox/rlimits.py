"""Resource limits: what one process may use, as the kernel counts it process by process.

Law: soft and hard limit are one, so code cannot raise its own; and no limit is ever raised above the
hard one found. Only a process that serves several requests, each with its own, gets soft ones.

What they do not hold: a tree of processes (each has the whole allowance again; a cgroup counts the
tree), and with `data` memory that is not private: shared mappings, files in a tmpfs, mappings that grow
downwards. `processes` counts all processes and threads of the user, wherever in the same user namespace
they are, and binds neither the host's root nor a holder of CAP_SYS_ADMIN or CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from typing import NamedTuple

_KIB, _MIB = 1024, 1024**2


class Rlimits(NamedTuple):
    """Limits of one process; None leaves one as it is. Sizes are in bytes.

    cpu_s: CPU time from the process's birth; see `cpu_allowance`. At the limit comes SIGXCPU,
        which code may catch, a second later SIGKILL.
    processes: above it a fork or a new thread fails with EAGAIN.
    open_files: the number above all descriptors; opening more fails with EMFILE.
    file_size: of each file written; Python ignores SIGXFSZ, so that writing more fails with EFBIG.
    data: private writable memory from the process's birth, see `data_allowance`; asking for more
        fails with ENOMEM. The stack of each further thread counts whole, 8 MiB as a rule.
    stack: of the main thread, and of each further one in programs executed later. Never left open:
        a stack is not counted as data.
    """

    cpu_s: int | None = None
    processes: int | None = None
    open_files: int | None = None
    file_size: int | None = None
    data: int | None = None
    stack: int = 8 * _MIB


# Limits that are the same for everybody. Those that a system does not have are left out. Not here, as they
# limit nothing: LOCKS and RSS, which Linux ignores, and RTTIME, which takes a real-time priority.
_ALWAYS = tuple(
    (getattr(resource, f"RLIMIT_{name}"), value)
    for name, value in (
        # Not 0: where cores are piped to a program, 0 does not keep it from running, as root, for each
        # crash. The kernel takes 1, and 1 alone, as no dump at all; nor does it write a file of 1 byte.
        ("CORE", 1),
        # Memory that cannot be swapped out; what libraries take to keep a key in.
        ("MEMLOCK", 64 * _KIB),
        # POSIX message queues: kernel memory that outlives its process.
        ("MSGQUEUE", 0),
        # No priority above the normal one.
        ("NICE", 0),
        ("RTPRIO", 0),
        # Queued signals and timers, counted by user: code that fills its own limit leaves the user's other
        # processes, whose limit is the system's tens of thousands, the rest.
        ("SIGPENDING", 1024),
    )
    if hasattr(resource, f"RLIMIT_{name}")
)


def apply(limits: Rlimits) -> None:
    """Put these limits on this process, for good and for all that it starts.

    Raises:
        ValueError: If one of them is negative.
    """
    for which, value in _ALWAYS:
        _lower(which, value)
    for which, wanted in _chosen(limits):
        if wanted is not None:
            _lower(which, wanted)
    if limits.cpu_s is not None:
        _lower(resource.RLIMIT_CPU, limits.cpu_s, grace=1)


def apply_for_now(limits: Rlimits) -> None:
    """Put these limits on this process until the next call: one that serves several requests.

    The hard limits stay as they are, so code could raise these; None gives back what was there
    before the first call.
    """
    for which, value in _ALWAYS:
        _lower(which, value)
    for which, wanted in (*_chosen(limits), (resource.RLIMIT_CPU, limits.cpu_s)):
        soft, hard = resource.getrlimit(which)
        first = _first.setdefault(which, soft)
        value = first if wanted is None else wanted
        resource.setrlimit(which, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


_first: dict[int, int] = {}


def _chosen(limits: Rlimits) -> tuple[tuple[int, int | None], ...]:
    return (
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_FSIZE, limits.file_size),
        (resource.RLIMIT_DATA, limits.data),
        (resource.RLIMIT_STACK, limits.stack),
    )


def data_in_use() -> int:
    """Bytes of private writable memory that this process has now, its stack included.

    Raises:
        OSError: Where /proc is not there or not to be read: ask before the sandbox closes it.
    """
    # statm takes half the time of status, which tells the stack apart; of 132 KiB that is not worth it.
    fd = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 256).split()[5]) * resource.getpagesize()
    finally:
        os.close(fd)


def data_allowance(memory_bytes: int) -> int:
    """The `data` limit with which this process may use so many bytes more than it does now.

    A limit on the address space (RLIMIT_AS) would not do: a few threads reserve gigabytes of it
    that they never use.

    Raises:
        OSError: As `data_in_use`.
    """
    return data_in_use() + memory_bytes


def cpu_allowance(seconds: float) -> int:
    """The `cpu_s` limit with which this process may use so many seconds more than it has, rounded up."""
    return math.ceil(time.process_time() + seconds)


def _lower(which: int, value: int, grace: int = 0) -> None:
    if value < 0:
        raise ValueError(f"a limit cannot be negative: {value}")
    _soft, hard = resource.getrlimit(which)
    most = hard if hard != resource.RLIM_INFINITY else sys.maxsize  # none reads as -1
    resource.setrlimit(which, (min(value, most), min(value + grace, most)))
