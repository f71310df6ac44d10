"""How strangers' code is confined in one place: which tier this host allows, and its messages.

Law: a tier is believed only after it was tried, in processes that are thrown away. What is found is
remembered by the engine: hosts do not change while it runs.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from typing import Any

from hotbed.errors import RefusedError
from hotbed.isolation import Mechanism, Tier
from hotbed.model import Environment
from hotbed.proc import view
from hotbed.proc.launch import guest_variables
from hotbed.proc.places import seed_directory
from hotbed.seed import allowlist, proxy
from hotbed.seed.sandbox.profile import BOX, HOME, OUTSIDE_USER, TEMPORARY, WORK

ABI_SETTING = "HOTBED_LANDLOCK_ABI"  # uses less of Landlock than the kernel has: to see what remains
_NEWEST_ABI = 99


@dataclass(frozen=True, slots=True)
class Confinement:
    """What makes two sandboxes different, beside the environment."""

    directory: str = ""  # the code's own, read-only; "" if it comes as text
    network: bool | tuple[str, ...] = False
    disk_bytes: int = 256 * 1024**2

    @property
    def network_kind(self) -> str:
        """As seed/sandbox/profile.py names it."""
        return "proxy" if isinstance(self.network, tuple) else "host" if self.network else "none"


@dataclass(slots=True)
class Trials:
    """What was tried on this host for one kind of network."""

    tier: Tier
    mechanisms: tuple[str, ...] = ()
    failures: dict[Tier, str] = field(default_factory=dict)  # of the tiers above, with the step that failed


def directory_of(target: str) -> str:
    """What confined code sees of the host to be called: its file's directory.

    Of a directory that holds much else (a home, a temporary one) the file alone.
    """
    file = os.path.abspath(os.path.expanduser(target.rpartition(":")[0]))
    directory = os.path.dirname(file)
    return file if view.is_shared(directory) else directory


def setup_fields(
    environment: Environment,
    confinement: Confinement,
    tier: Tier,
    engine_directory: str,
    *,
    memory_counted: bool,
) -> dict[str, Any]:
    """The fields of bootstrap.Setup that a sandbox decides."""
    enclosed = tier in (Tier.FULL, Tier.SHARED)
    where = work_root(environment, tier, engine_directory)
    mounted = [mount.target for mount in environment.mounts]
    return {
        "cwd": WORK if tier is Tier.FULL else "/",
        "work_root": where,
        "sandbox": {
            "tier": str(tier),
            "disk_bytes": confinement.disk_bytes,
            "network": confinement.network_kind,
            "landlock": int(os.environ.get(ABI_SETTING, _NEWEST_ABI)),
            "readable": [] if enclosed else [*readable(environment, confinement), "/proc", *mounted],
            "writable": [mount.target for mount in environment.mounts if mount.writable],
            "work_root": where,
            "user": user_outside(environment, tier),
            "memory_counted": memory_counted,
        },
    }


def work_root(environment: Environment, tier: Tier, engine_directory: str) -> str:
    """Where children make their work directories, made if it is missing; "" where each has a mount."""
    if tier is Tier.FULL:
        return ""
    if tier is Tier.SHARED:
        return BOX
    user = user_outside(environment, tier)
    if user is None:
        return engine_directory
    path = os.path.join(engine_directory, str(user))
    os.chmod(engine_directory, 0o711)
    os.makedirs(path, 0o700, exist_ok=True)
    os.chown(path, user, user)
    return path


def user_outside(environment: Environment, tier: Tier) -> int | None:
    """Who the code is on the host, if it is not who the engine is: only root can choose.

    Without namespaces the interpreter must be within that user's reach.
    """
    if os.geteuid() != 0 or not _exists(OUTSIDE_USER):
        return None
    if tier in (Tier.FULL, Tier.SHARED):
        return OUTSIDE_USER
    paths = [environment.executable, os.path.realpath(environment.executable), seed_directory()]
    paths.append(tempfile.gettempdir())  # work directories are made there
    return OUTSIDE_USER if all(view.is_open_to_all(path) for path in paths) else None


def _exists(user: int) -> bool:
    """Whether a user of this number is mapped into the user namespace that this process is in."""
    with open("/proc/self/uid_map", encoding="ascii") as file:
        ranges = [tuple(map(int, line.split())) for line in file]
    return any(first <= user < first + count for first, _outside, count in ranges)


def readable(environment: Environment, confinement: Confinement) -> list[str]:
    """All that code may read of the host."""
    others = [seed_directory(), *view.user_site_paths()]
    if confinement.directory:
        others.append(confinement.directory)
    return view.read_only_paths(environment.executable, others, network=confinement.network is True)


def enclosure(environment: Environment, confinement: Confinement, tier: Tier) -> dict[str, Any] | None:
    """The launcher's part: what seed/sandbox/enclosure.py takes; None in a tier without namespaces."""
    if tier not in (Tier.FULL, Tier.SHARED):
        return None
    return {
        "view": view.view(
            readable(environment, confinement), environment.mounts, network=confinement.network is True
        ),
        "network": confinement.network_kind,
        "cells": tier is Tier.FULL,
        "disk_bytes": confinement.disk_bytes,
        "user": user_outside(environment, tier),
    }


def variables(environment: Environment, confinement: Confinement, tier: Tier) -> dict[str, str]:
    """The variables that a confined process starts with."""
    found = guest_variables()
    if tier in (Tier.FULL, Tier.SHARED):
        bins = [os.path.dirname(environment.executable), "/usr/local/bin", "/usr/bin", "/bin"]
        found.update(PATH=":".join(dict.fromkeys(bins)), HOME=HOME, USER="user", LOGNAME="user")
        found.pop("SHELL", None)
        found["TMPDIR"] = TEMPORARY
    if isinstance(confinement.network, tuple):
        found.update(proxy.variables(allow=map(allowlist.parse, confinement.network)))
    return found


def require_network(trials: Trials, confinement: Confinement) -> None:
    """Refuse an allow-list where code could reach the network beside it.

    Raises:
        RefusedError: Saying what is missing.
    """
    if confinement.network_kind == "proxy" and trials.tier not in (Tier.FULL, Tier.SHARED):
        raise RefusedError(
            f"network={confinement.network!r} needs a network namespace, which this host does not "
            f"allow ({next(iter(trials.failures.values()), '')}); give network=False, or network=True if "
            "the code may reach everything"
        )


def require_mounts(trials: Trials, environment: Environment) -> None:
    """Refuse a mount at another path where nothing can be mounted.

    Raises:
        RefusedError: Naming the mount.
    """
    if trials.tier in (Tier.FULL, Tier.SHARED):
        return
    for mount in environment.mounts:
        if mount.target != mount.source:
            raise RefusedError(
                f"mounts: {mount.source!r} cannot be at {mount.target!r}: this host allows no mounts "
                f"({next(iter(trials.failures.values()), '')}); leave its target out"
            )


def require_strict(trials: Trials, mechanisms: tuple[str, ...]) -> None:
    """Refuse what is less than everything.

    Raises:
        RefusedError: Naming what is missing and how to get it.
    """
    missing = [f"tier {tier}: {why}" for tier, why in trials.failures.items() if tier is Tier.FULL]
    if trials.tier not in (Tier.FULL, Tier.SHARED):
        missing.append(HOW_TO_GET[Mechanism.USER_NS])
    wanted = (
        *(Mechanism.LANDLOCK, Mechanism.LANDLOCK_SCOPES, Mechanism.SECCOMP),
        *(Mechanism.MEMORY_CGROUP, Mechanism.PIDS_CGROUP),
    )
    missing += [HOW_TO_GET[one] for one in wanted if one not in mechanisms]
    if missing:
        raise RefusedError(
            "isolation='strict' cannot be kept on this host: " + "; ".join(missing) + "; `hotbed doctor` "
            "shows what there is, and isolation='auto' takes it"
        )


HOW_TO_GET = {
    Mechanism.USER_NS: "allow user namespaces and mounts in them: in Docker --security-opt "
    "seccomp=unconfined, apparmor=unconfined and systempaths=unconfined, for root also --cap-add "
    "SYS_ADMIN and SYS_PTRACE; on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; elsewhere user.max_user_namespaces above 0",
    Mechanism.UNPRIVILEGED_UID: "put the interpreter, hotbed and TMPDIR where every user may read them",
    Mechanism.LANDLOCK: "no Landlock: needs Linux 6.2 with `landlock` in the kernel's lsm= list",
    Mechanism.LANDLOCK_SCOPES: "no Landlock scopes: needs Linux 6.12",
    Mechanism.SECCOMP: "no seccomp: needs a kernel with CONFIG_SECCOMP_FILTER",
    Mechanism.MEMORY_CGROUP: "no memory cgroup: run under systemd with Delegate=yes, or as root with a "
    "writable /sys/fs/cgroup",
    Mechanism.PIDS_CGROUP: "no pids cgroup: the same as for memory",
}
