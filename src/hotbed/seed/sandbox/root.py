"""The file system that confined code sees: a small read-only root, made of what a view names.

A view is data from the engine: what to bind, which links and files to make. Everything in it is
read-only but what it says is writable; nothing that it does not name exists.

    /usr, /lib, ...          the system's, read-only
    interpreter, packages    read-only, where they are on the host
    /etc                     a few files, made or bound
    /dev                     null, zero, full, random, urandom
    /proc                    of its own pid namespace
    /home/box                one private tmpfs for each child: work, home, tmp, shm
"""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

from . import namespaces
from .namespaces import step
from .profile import BOX

PLACES = {"work": 0o700, "home": 0o700, "tmp": 0o700, "shm": 0o700}
LINKS = {
    "/tmp": f"{BOX}/tmp",
    "/var/tmp": f"{BOX}/tmp",
    "/dev/shm": f"{BOX}/shm",
    "/dev/fd": "/proc/self/fd",
    "/dev/stdin": "/proc/self/fd/0",
    "/dev/stdout": "/proc/self/fd/1",
    "/dev/stderr": "/proc/self/fd/2",
}
DEVICES = ("null", "zero", "full", "random", "urandom")
STAGE = "/tmp"  # any directory of the host: the new root is mounted over it, in a namespace of ours
_SAFE = namespaces.NO_SUID | namespaces.NO_DEVICES
_INODE_BYTES = 4096  # a file takes at least a page: so many inodes go with a size


class View(NamedTuple):
    """What is to be seen."""

    binds: list[tuple[str, str, bool]]  # source on the host, target inside, whether writable
    links: dict[str, str]  # path -> what it points to
    files: dict[str, str]  # path -> text

    @classmethod
    def of(cls, message: dict[str, Any]) -> View:
        return cls([tuple(bind) for bind in message["binds"]], message["links"], message["files"])


def build(view: View, *, empty_proc: bool) -> None:
    """Make what a view names, ready to be entered. In a mount namespace of its own.

    `empty_proc` puts a /proc into it that shows no process: a mount of another one over it, made
    later with less privilege, is allowed only where one is in sight.

    Raises:
        StepError: Naming what could not be mounted.
    """
    with step("make the mounts private"):
        namespaces.mount("", "/", flags=namespaces.PRIVATE | namespaces.RECURSIVE)
    # Opened before the stage is mounted: it may hide some of them.
    opened: list[tuple[int, str, bool, bool]] = []
    try:
        for name in DEVICES:
            opened.append((_open(f"/dev/{name}"), f"/dev/{name}", True, True))
        for source, target, writable in sorted(view.binds, key=lambda bind: bind[1].count("/")):
            opened.append((_open(source), target, writable, False))
        with step("mount a tmpfs"):
            namespaces.mount("hotbed", STAGE, "tmpfs", _SAFE, "mode=755,size=1m,nr_inodes=4k")
        for fd, target, writable, device in opened:
            with step(f"bind {target}"):
                _bind(fd, STAGE + target, writable=writable, device=device)
    finally:
        for fd, *_rest in opened:
            os.close(fd)
    with step("fill the root"):
        _fill(view)
    if empty_proc:
        _mount_empty_proc(f"{STAGE}/proc")


def _mount_empty_proc(path: str) -> None:
    """Mount the /proc of a pid namespace whose one process has ended."""
    with step("make a pid namespace"):
        pid = namespaces.clone(namespaces.NEW_PID)
    if pid == 0:
        status = 1
        try:
            mount_proc(path)
            status = 0
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        raise namespaces.StepError("mount an empty /proc", OSError(0, "it is not permitted"))


def _fill(view: View) -> None:
    for directory in (f"{STAGE}{BOX}", f"{STAGE}/proc"):
        os.makedirs(directory, 0o755, exist_ok=True)
    for path, target in {**LINKS, **view.links}.items():
        if not os.path.lexists(STAGE + path):
            os.makedirs(os.path.dirname(STAGE + path), 0o755, exist_ok=True)
            os.symlink(target, STAGE + path)
    for path, text in view.files.items():
        os.makedirs(os.path.dirname(STAGE + path), 0o755, exist_ok=True)
        with open(STAGE + path, "x", encoding="utf-8") as file:
            file.write(text)
        os.chmod(STAGE + path, 0o444)


def enter() -> None:
    """Make what `build` made the root, read-only itself."""
    with step("pivot_root"):
        namespaces.make_root(STAGE)
    with step("make the root read-only"):
        namespaces.mount("", "/", flags=namespaces.REMOUNT | namespaces.BIND | namespaces.READ_ONLY | _SAFE)


def mount_proc(path: str) -> None:
    """Mount the /proc of this process's pid namespace."""
    with step("mount /proc"):
        namespaces.mount("proc", path, "proc", _SAFE | 8)  # 8: MS_NOEXEC


def mount_box(size_bytes: int) -> None:
    """Mount this process's private, writable file system and make its directories."""
    inodes = max(64, size_bytes // _INODE_BYTES)
    with step("mount a private tmpfs"):
        namespaces.mount("box", BOX, "tmpfs", _SAFE, f"mode=700,size={size_bytes},nr_inodes={inodes}")
    for name, mode in PLACES.items():
        os.mkdir(f"{BOX}/{name}", mode)


def _open(source: str) -> int:
    with step(f"find {source}"):
        return os.open(source, os.O_PATH | os.O_CLOEXEC)


def _bind(source: int, target: str, *, writable: bool, device: bool) -> None:
    if not os.path.lexists(target):
        if stat.S_ISDIR(os.fstat(source).st_mode):
            os.makedirs(target, 0o755)
        else:
            os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    namespaces.mount(f"/proc/self/fd/{source}", target, flags=namespaces.BIND | namespaces.RECURSIVE)
    flags = namespaces.NO_SUID | (0 if writable else namespaces.READ_ONLY)
    namespaces.set_attributes(target, flags | (0 if device else namespaces.NO_DEVICES))
