"""The kernel's calls for namespaces and mounts, each with the errno and the name of the step.

Law: nothing is decided here. A step that fails raises StepError, which says what was tried: it is
how an engine tells a host which permission is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
from collections.abc import Iterator

from .. import kernel

NEW_MOUNT = 0x00020000
NEW_CGROUP = 0x02000000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000
CLONE_PARENT = 0x00008000  # the new process is a child of our parent, not ours
_SIGCHLD = 17

READ_ONLY, NO_SUID, NO_DEVICES = 1, 2, 4
REMOUNT, BIND, RECURSIVE, PRIVATE = 32, 4096, 16384, 1 << 18
DETACH = 2

_MACHINE = platform.machine()
_CLONE = {"x86_64": 56, "aarch64": 220}.get(_MACHINE, 0)
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(_MACHINE, 0)
_MOUNT_SETATTR = 442  # Linux 5.12, the same number on every machine
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000


class StepError(OSError):
    """A step of the confinement failed; `step` says which, in plain words."""

    def __init__(self, step: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror)
        self.step = step

    def __str__(self) -> str:
        code = errno.errorcode.get(self.errno or 0)
        return f"{self.step}: {code} ({self.strerror})" if code else f"{self.step}: {self.strerror}"


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Name what is being tried."""
    try:
        yield
    except StepError:
        raise
    except OSError as error:
        if error.errno is None:  # it says by itself what happened
            raise
        raise StepError(name, error) from error


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_mount = _libc.mount
_mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_setns, _unshare, _umount = _libc.setns, _libc.unshare, _libc.umount2


def _checked(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def clone(flags: int) -> int:
    """Fork into new namespaces: the child's pid, or 0 in the child.

    For a process with one thread whose child soon execs or only waits: nothing that Python or the
    C library do around a fork is done.

    Raises:
        OSError: If the kernel refuses.
    """
    if not _CLONE:
        raise OSError(errno.ENOSYS, f"no sandbox on {_MACHINE}: only on x86_64 and aarch64")
    return kernel.syscall(_CLONE, flags | _SIGCHLD, 0, 0, 0, 0)


def enter(fd: int, kinds: int) -> None:
    """Join the namespaces of a pidfd's process, or of one namespace's own descriptor."""
    _checked(_setns(fd, kinds))


def unshare(kinds: int) -> None:
    """Leave these kinds of namespace for new ones."""
    _checked(_unshare(kinds))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _checked(
        _mount(
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() or None,
            flags,
            options.encode() or None,
        )
    )


def unmount(path: str) -> None:
    """Unmount what is mounted there, now for the path and later for who still has it open."""
    _checked(_umount(os.fsencode(path), DETACH))


def set_attributes(path: str, flags: int) -> None:
    """Add mount attributes (READ_ONLY, NO_SUID, NO_DEVICES) to a mount and all below it."""
    attributes = _MountAttributes(set=flags)  # these three have the same values here as in mount(2)
    where = ctypes.create_string_buffer(os.fsencode(path))
    kernel.syscall(
        _MOUNT_SETATTR,
        _AT_FDCWD,
        ctypes.addressof(where),
        _AT_RECURSIVE,
        ctypes.addressof(attributes),
        ctypes.sizeof(attributes),
    )


def make_root(path: str) -> None:
    """Make a mounted directory this process's root; the old one is let go of entirely."""
    os.chdir(path)
    here = ctypes.create_string_buffer(b".")
    kernel.syscall(_PIVOT_ROOT, ctypes.addressof(here), ctypes.addressof(here))
    # The old root is now mounted over the new one, at the same place.
    _checked(_umount(b".", DETACH))
    os.chdir("/")


def map_user(proc: int, pid: int, *, inside: int, uid: int, gid: int, privileged: bool) -> None:
    """Give a process in a new user namespace its one user and group; called outside it.

    `proc` is a descriptor of /proc. Without privilege the kernel wants setgroups denied, and
    maps nobody but the caller.
    """
    if not privileged:
        _write(proc, f"{pid}/setgroups", "deny")
    _write(proc, f"{pid}/uid_map", f"{inside} {uid} 1")
    _write(proc, f"{pid}/gid_map", f"{inside} {gid} 1")


def _write(directory: int, path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
