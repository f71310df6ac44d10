"""What confines the code of one environment: decided by the engine, applied by template and child."""

from __future__ import annotations

from typing import Any, NamedTuple

# One tmpfs holds all that a child may write, so that one size bounds it; /tmp and /dev/shm are links
# into it. Rules of Landlock for a mount are looked up from the parent of its mount point.
PARENT = "/home"
BOX = f"{PARENT}/box"
WORK = f"{BOX}/work"
HOME = f"{BOX}/home"
TEMPORARY = f"{BOX}/tmp"
# Who confined code is outside, where the engine runs as root: in the range that Debian reserves and
# that neither systemd nor adduser gives away.
OUTSIDE_USER = 65432


class Profile(NamedTuple):
    """One environment's sandbox."""

    tier: str  # "full", "shared", "landlock" or "limits"
    disk_bytes: int  # of each child's private file system; only where mounts are
    network: str  # "none"; "proxy": TCP to the engine's proxy; "host": as the host
    landlock: int  # the highest ABI to make use of
    readable: list[str]  # directories and files; what the root of tier full does not need
    writable: list[str]  # beside the child's own directory
    work_root: str  # where children make their directories; "" where each has a mount of its own
    user: int | None  # who the code is outside, where that is not the engine's user
    memory_counted: bool  # a cgroup counts the memory of each child's tree

    @classmethod
    def of(cls, message: dict[str, Any]) -> Profile:
        return cls(**{name: message[name] for name in cls._fields})

    @property
    def enclosed(self) -> bool:
        """Whether the process stands in namespaces that the launcher made."""
        return self.tier in ("full", "shared")
