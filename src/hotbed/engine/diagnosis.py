"""What this host offers for isolation, tried one by one; for `hotbed doctor`."""

from __future__ import annotations

import os
import platform
import sys

import msgspec

from hotbed.engine.confinement import HOW_TO_GET, Confinement
from hotbed.engine.dispatcher import Dispatcher
from hotbed.isolation import Mechanism, Tier
from hotbed.model import Environment
from hotbed.proc.cgroup import Unavailable

# What each missing mechanism costs the user, in words.
COST = {
    Mechanism.USER_NS: "no namespaces: names of files and other processes can be seen, `disk` is not kept, "
    "network is none or all",
    Mechanism.MOUNT_NS: "names, sizes and times of the host's files can be seen; `disk` is not kept",
    Mechanism.PID_NS: "other processes can be seen, though not traced",
    Mechanism.NET_NS: "no allow-list of hosts: network=False or True only",
    Mechanism.IPC_NS: "none: System V memory and queues are refused by seccomp",
    Mechanism.UTS_NS: "the host's name can be read",
    Mechanism.CGROUP_NS: "the engine's place in the cgroups can be read",
    Mechanism.UNPRIVILEGED_UID: "code has the engine's own user id",
    Mechanism.NO_NEW_PRIVS: "set-uid programs give their rights",
    Mechanism.NO_CAPABILITIES: "code keeps capabilities of the engine's",
    Mechanism.LANDLOCK: "one line of defence less: files rest on the mount namespace alone",
    Mechanism.LANDLOCK_TCP: "none where a network namespace is",
    Mechanism.LANDLOCK_SCOPES: "executions of one environment can meet over abstract sockets",
    Mechanism.SECCOMP: "all system calls of the kernel can be attacked",
    Mechanism.RLIMITS: "no limits of single processes",
    Mechanism.MEMORY_CGROUP: "memory is bounded in each process, and the tree's looked at ten times a second",
    Mechanism.PIDS_CGROUP: "processes are counted together with those of other executions",
    Mechanism.CPU_CGROUP: "Limits(cpu=...) is not kept",
}


class TierTrial(msgspec.Struct, frozen=True):
    """One tier: whether this host allows it, or the step that failed."""

    tier: Tier
    allowed: bool
    problem: str
    mechanisms: tuple[str, ...]


class Missing(msgspec.Struct, frozen=True):
    """A mechanism that is not in force: what that costs, and how to get it."""

    mechanism: Mechanism
    cost: str
    remedy: str


class Diagnosis(msgspec.Struct, frozen=True):
    """What strangers' code is held by on this host.

    groups: where cgroups are used, or why they are not. strict: whether isolation="strict" runs.
    """

    system: str
    python: str
    user: str
    tier: Tier
    in_force: tuple[str, ...]
    tiers: tuple[TierTrial, ...]
    groups: str
    missing: tuple[Missing, ...]
    strict: bool


def diagnose(dispatcher: Dispatcher, environment: Environment) -> Diagnosis:
    """Try every tier for an environment, and say what is missing to the strongest.

    Raises:
        EngineError: If the launcher is gone.
    """
    confinement = Confinement()
    tiers = []
    for tier in Tier:
        trial = dispatcher.try_tier(environment, confinement, tier)
        tiers.append(TierTrial(tier, not trial.error, trial.error, trial.isolation))
    best = next((one for one in tiers if one.allowed), tiers[-1])
    groups = dispatcher.groups
    in_force = (*best.mechanisms, *dispatcher.group_mechanisms())
    expected = [one for one in Mechanism if one is not Mechanism.PROXY]
    if os.geteuid() != 0:
        expected.remove(Mechanism.UNPRIVILEGED_UID)  # the user's own is unprivileged
    if Mechanism.USER_NS not in in_force:  # the others come with it
        expected = [one for one in expected if one is Mechanism.USER_NS or not one.endswith("-ns")]
    missing = tuple(
        Missing(one, COST[one], HOW_TO_GET.get(one, "")) for one in expected if one not in in_force
    )
    where = (
        groups.reason
        if isinstance(groups, Unavailable)
        else f"version {groups.version}: " + ", ".join(groups.paths)
    )
    return Diagnosis(
        system=f"{platform.system()} {platform.release()} on {platform.machine()}",
        python=f"{platform.python_version()} ({sys.executable})",
        user="root" if os.geteuid() == 0 else f"uid {os.geteuid()}",
        tier=best.tier,
        in_force=in_force,
        tiers=tuple(tiers),
        groups=where,
        missing=missing,
        strict=best.tier is Tier.FULL and not any(one.remedy for one in missing),
    )
