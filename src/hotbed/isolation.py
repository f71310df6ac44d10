"""Words for isolation: the tiers, and the kernel mechanisms that a tier is made of.

`Result.isolation` is the tier, then every mechanism that was in force: what stands there was
applied to the process that ran the code, and nothing else stands there.
"""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """How strongly strangers' code is held, the strongest first."""

    FULL = "full"  # namespaces of its own for every execution
    SHARED = "shared"  # namespaces per environment; its executions share them
    LANDLOCK = "landlock"  # no namespaces (as in most containers): Landlock, seccomp, limits
    LIMITS = "limits"  # resource limits only: not a security boundary


class Mechanism(StrEnum):
    """One thing the kernel enforces."""

    USER_NS = "user-ns"
    MOUNT_NS = "mount-ns"  # a read-only root of its own, private tmpfs on the work directory and /tmp
    PID_NS = "pid-ns"  # no process but its own is seen or signalled; its whole tree ends at once
    NET_NS = "net-ns"  # no interface but loopback
    IPC_NS = "ipc-ns"
    UTS_NS = "uts-ns"
    CGROUP_NS = "cgroup-ns"
    UNPRIVILEGED_UID = "unprivileged-uid"  # not the uid of the engine
    NO_NEW_PRIVS = "no-new-privs"
    NO_CAPABILITIES = "no-capabilities"
    LANDLOCK = "landlock"  # files: only what is granted, checked by path
    LANDLOCK_TCP = "landlock-tcp"  # ABI 4
    LANDLOCK_SCOPES = "landlock-scopes"  # ABI 6: no signal and no abstract socket beyond itself
    SECCOMP = "seccomp"
    RLIMITS = "rlimits"
    MEMORY_CGROUP = "memory-cgroup"  # the memory of the whole tree
    PIDS_CGROUP = "pids-cgroup"  # the number of its processes and threads
    CPU_CGROUP = "cpu-cgroup"  # its share of the cores
    PROXY = "proxy"  # network: only to the hosts allowed, through a proxy of the engine


class IsolationWarning(UserWarning):
    """Strangers' code is held by less than a sandbox; given once for each engine."""
