"""What the kernel offers and the standard library does not: raw system calls, prctl, children."""

from __future__ import annotations

import errno
import os
import signal
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NAME = 15
_JOIN_SESSION_KEYRING = 1

_prctl: Any
_syscall: Any
try:
    import ctypes

    _libc = ctypes.CDLL(None, use_errno=True)
    _prctl = _libc.prctl
    _prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
    _prctl.restype = ctypes.c_int
    _syscall = _libc.syscall
    _syscall.argtypes = (ctypes.c_long,) * 7
    _syscall.restype = ctypes.c_long
except (ImportError, OSError, AttributeError):  # an interpreter built without libffi
    _prctl = _syscall = None


def syscall(number: int, *arguments: int) -> int:
    """Make a system call by its number; pointers are passed as addresses.

    Raises:
        OSError: With the kernel's errno; ENOSYS where this interpreter cannot call at all.
    """
    if _syscall is None:
        raise OSError(errno.ENOSYS, "this interpreter was built without ctypes")
    result: int = _syscall(number, *arguments, *(0,) * (6 - len(arguments)))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> int:
    """Call prctl.

    Raises:
        OSError: With the kernel's errno.
    """
    if _prctl is None:
        raise OSError(errno.ENOSYS, "this interpreter was built without ctypes")
    result: int = _prctl(option, *arguments, *(0,) * (4 - len(arguments)))
    if result == -1:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    The parent must be single-threaded: the signal follows the thread that forked. `parent` is
    the pid that forked us; if it is gone already, this process ends here.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def set_parent_death_signal() -> None:
    """Have the kernel kill this process when the thread that made it ends.

    A change of user or of capabilities takes it back: it comes after them.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_keyrings() -> None:
    """Have a new, empty session keyring: the keys of whoever started us are not for strangers."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)
    if number is not None:
        try:
            syscall(number, _JOIN_SESSION_KEYRING, 0)
        except OSError:  # a container's filter refuses it, or there are no keyrings: no key is in reach
            return


def close_all_but(fd: int) -> None:
    """Close every other descriptor of this process."""
    limit = 1 << 20
    os.closerange(0, fd)
    os.closerange(fd + 1, limit)  # one close_range call where the kernel has it


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent dies."""
    if _prctl is not None:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def set_name(name: str) -> None:
    """Set the name that `ps` and `top` show, at most 15 bytes."""
    if _prctl is not None:
        buffer = ctypes.create_string_buffer(name.encode()[:15])
        _prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def children_of_self() -> list[int]:
    """The pids of this single-threaded process's children, the dead but unreaped included."""
    pid = os.getpid()
    try:
        with open(f"/proc/self/task/{pid}/children", "rb", buffering=0) as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return _children_by_scan(pid)


def _children_by_scan(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    # The command's name may hold anything: fields count from its last bracket.
                    if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                        found.append(int(name))
            except (OSError, IndexError):
                continue
    return found


def task_names() -> list[str]:
    """The names of this process's tasks (threads), the main one first."""
    names = []
    for task in sorted(os.listdir("/proc/self/task"), key=int):
        try:
            with open(f"/proc/self/task/{task}/comm", encoding="utf-8", errors="replace") as file:
                names.append(file.read().strip())
        except OSError:
            continue
    return names
