"""What the sandbox promises, and which mechanisms of the kernel keep each promise.

A case of the catalogue names the promises it tests. Where a promise is not kept by what is in force,
the case is reported as not enforceable here, and never counts as held.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum

from hotbed.isolation import Mechanism as M


class Guard(Enum):
    """One promise; the value is the promise in plain words."""

    FILES = "files of the host are neither read nor written"
    HIDDEN_FILES = "files of the host are not even seen"
    FILE_MODES = "owners, modes and times of the host's files stay as they are"
    READ_ONLY = "the interpreter and its packages cannot be changed"
    DISK = "files take no more than their limit"
    SYSTEM = "settings of the kernel are not written"
    DEVICES = "no device but the harmless ones"
    PROCESSES = "no process but its own is seen"
    PROCESS_MEMORY = "no other process's memory, environment or descriptors"
    SIGNALS = "no signal reaches another process"
    SCHEDULING = "priorities and limits of other processes stay as they are"
    SIBLINGS = "executions at the same time do not reach each other's files"
    ABSTRACT_SOCKETS = "no abstract socket of the host or of another execution"
    PATH_SOCKETS = "no socket in the host's file system"
    NETWORK = "no network"
    ALLOW_LIST = "no host that is not on the list"
    CALLS = "system calls beyond an allow-list are refused"
    PRIVILEGES = "no capability and no way to get one"
    SETUID = "set-uid programs give nothing"
    USER = "it does not run as root"
    HOST_NAME = "the host's name stays what it is"
    SYSV = "no System V memory or message queue outlives it"
    MEMORY = "a process's memory has a limit"
    TREE_MEMORY = "the memory of all its processes together has a limit"
    PROCESS_COUNT = "the number of its processes has a limit"
    DESCRIPTOR_COUNT = "the number of its descriptors has a limit"
    FILE_SIZE = "each file's size has a limit"
    CPU_TIME = "a process's CPU time has a limit"
    CPU_SHARE = "its share of the cores has a limit"
    TEMPORARY = "what it left in /tmp and /dev/shm is gone"
    KEYRINGS = "no key is kept in the kernel"
    # The engine keeps these everywhere.
    ENGINE = "the engine answers in time, correctly, and serves on"
    DESCRIPTORS = "no descriptor of anybody else"
    ENVIRONMENT = "no environment variable of the host"
    ARTIFACTS = "only its own files come back, within their limit"
    CLEAN_START = "the next execution finds nothing of it"


Way = frozenset[str]  # mechanisms that keep a promise together
NOT_ROOT = "an engine that is not root's"  # what such an engine starts is not root's either
_ALWAYS: tuple[Way, ...] = (frozenset(),)


def _any(*ways: str | Way) -> tuple[Way, ...]:
    return tuple(frozenset({way}) if isinstance(way, str) else way for way in ways)


# Each promise with the sets of mechanisms that keep it; any one of them is enough.
KEPT_BY: dict[Guard, tuple[Way, ...]] = {
    Guard.FILES: _any(M.MOUNT_NS, M.LANDLOCK),
    Guard.HIDDEN_FILES: _any(M.MOUNT_NS),  # Landlock does not hide names, sizes and times
    Guard.FILE_MODES: _any(M.MOUNT_NS, M.SECCOMP),  # the filter, since Landlock leaves chmod and utime free
    Guard.READ_ONLY: _any(M.MOUNT_NS, M.LANDLOCK),
    Guard.DISK: _any(M.MOUNT_NS),
    Guard.SYSTEM: _any(M.MOUNT_NS, M.LANDLOCK, M.UNPRIVILEGED_UID),
    Guard.DEVICES: _any(M.MOUNT_NS, M.LANDLOCK),
    Guard.PROCESSES: _any(M.PID_NS),
    Guard.PROCESS_MEMORY: _any(M.PID_NS, M.LANDLOCK),
    Guard.SIGNALS: _any(M.PID_NS, M.LANDLOCK_SCOPES),
    Guard.SCHEDULING: _any(M.PID_NS, M.SECCOMP),
    Guard.SIBLINGS: _any(M.MOUNT_NS, M.LANDLOCK),
    # Siblings share a network namespace. Where neither scopes nor mounts part them, the filter lets
    # no Unix socket be made.
    Guard.ABSTRACT_SOCKETS: _any(M.LANDLOCK_SCOPES, M.SECCOMP),
    Guard.PATH_SOCKETS: _any(M.MOUNT_NS, M.SECCOMP),
    Guard.NETWORK: _any(M.SECCOMP),
    Guard.ALLOW_LIST: _any(frozenset({M.PROXY, M.NET_NS})),
    Guard.CALLS: _any(M.SECCOMP),
    Guard.PRIVILEGES: _any(M.NO_CAPABILITIES),
    Guard.SETUID: _any(M.NO_NEW_PRIVS),
    Guard.USER: _any(M.USER_NS, M.UNPRIVILEGED_UID, NOT_ROOT),
    Guard.HOST_NAME: _any(M.UTS_NS, M.SECCOMP),
    Guard.SYSV: _any(M.SECCOMP, M.IPC_NS),
    Guard.MEMORY: _any(M.MEMORY_CGROUP, M.RLIMITS),
    Guard.TREE_MEMORY: _any(M.MEMORY_CGROUP),
    Guard.PROCESS_COUNT: _any(M.PIDS_CGROUP),
    Guard.DESCRIPTOR_COUNT: _any(M.RLIMITS),
    Guard.FILE_SIZE: _any(M.RLIMITS),
    Guard.CPU_TIME: _any(M.RLIMITS),
    Guard.CPU_SHARE: _any(M.CPU_CGROUP),
    Guard.TEMPORARY: _any(M.MOUNT_NS, M.LANDLOCK),
    Guard.KEYRINGS: _any(M.SECCOMP),
    Guard.ENGINE: _ALWAYS,
    Guard.DESCRIPTORS: _ALWAYS,
    Guard.ENVIRONMENT: _ALWAYS,
    Guard.ARTIFACTS: _ALWAYS,
    Guard.CLEAN_START: _ALWAYS,
}


def lacking(guard: Guard, in_force: Collection[str]) -> str:
    """What would be needed to keep a promise, in plain words; "" if it is kept.

    in_force: the mechanisms, and NOT_ROOT where that is so.
    """
    ways = KEPT_BY[guard]
    if any(way <= set(in_force) for way in ways):
        return ""
    needed = " or ".join(" with ".join(sorted(way)) for way in ways if way != {NOT_ROOT})
    return f"{guard.value}: needs {needed}"
