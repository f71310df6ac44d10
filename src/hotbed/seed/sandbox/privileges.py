"""What a process may do beyond its user's rights: capabilities, and the ways to get some back.

Set once in a template and inherited by its children: no_new_privs, the bounding set, securebits, not
being dumpable. Left for a child: one capset call.

With no_new_privs no exec grants anything, not even one by uid 0 or of a set-uid file. The bounding set
and securebits say the same again, for code that finds a way around one of them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from .. import kernel

CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_KILL = 5
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8
CAP_NET_ADMIN = 12
CAP_IPC_LOCK = 14
CAP_SYS_CHROOT = 18
CAP_SYS_PTRACE = 19
CAP_SYS_ADMIN = 21
CAP_SYS_RESOURCE = 24
CAP_MKNOD = 27

_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _AMBIENT_RAISE = 47, 2

_NOROOT, _NO_SETUID_FIXUP, _KEEP_CAPS, _NO_AMBIENT_RAISE = 1 << 0, 1 << 2, 1 << 4, 1 << 6
_SET = _NOROOT | _NO_SETUID_FIXUP | _NO_AMBIENT_RAISE
_LOCKS = (_SET | _KEEP_CAPS) << 1  # the lock of each bit is the one above it

# From the C library: the numbers of these calls differ from machine to machine. Looked up and laid out here,
# so that a child has only the call left.
_libc = ctypes.CDLL(None, use_errno=True)
_capget, _capset = _libc.capget, _libc.capset
_capget.argtypes = _capset.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
_header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3; the calling thread
# Effective, permitted and inheritable: of capabilities 0 to 31, then of 32 to 63.
_sets = (ctypes.c_uint32 * 6)()
_addresses = ctypes.addressof(_header), ctypes.addressof(_sets)


def forbid_new() -> None:
    """Let no exec grant a privilege, for this thread and all that it starts (no_new_privs)."""
    kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def drop_bounding(keep: frozenset[int]) -> None:
    """Take all capabilities but these out of what an exec may ever give.

    Raises:
        PermissionError: If there is one to be taken and this process has not CAP_SETPCAP.
    """
    for capability in range(64):
        if capability in keep:
            continue
        try:
            held = kernel.prctl(_PR_CAPBSET_READ, capability)
        except OSError:  # the last one that this kernel knows is behind us
            return
        if held:
            kernel.prctl(_PR_CAPBSET_DROP, capability)


def lock_securebits() -> None:
    """Make uid 0 a user like any other: no capability by exec, none kept or raised; for good.

    After this `keep_across_exec` fails. A new user namespace starts without these bits.

    Raises:
        PermissionError: If this process has not CAP_SETPCAP.
    """
    kernel.prctl(_PR_SET_SECUREBITS, _SET | _LOCKS)


def set_capabilities(keep: frozenset[int]) -> None:
    """Have these capabilities, effective and permitted, and no other in any set.

    The ambient set needs no call of its own: the kernel keeps in it only what is inheritable,
    and here nothing is.

    Raises:
        PermissionError: If one of them is not permitted to this process.
    """
    mask = _mask(keep)
    _sets[0] = _sets[1] = mask & 0xFFFFFFFF
    _sets[3] = _sets[4] = mask >> 32
    _sets[2] = _sets[5] = 0
    _call(_capset)


def keep_across_exec(capabilities: frozenset[int]) -> None:
    """Add these to the inheritable and ambient sets: a program executed by a user but uid 0 has them.

    It then has them alone: whatever else is permitted to this process ends with the exec.

    Raises:
        PermissionError: If one of them is not permitted to this process, or securebits forbid it.
    """
    mask = _mask(capabilities)
    _call(_capget)
    _sets[2] |= mask & 0xFFFFFFFF
    _sets[5] |= mask >> 32
    _call(_capset)
    for capability in capabilities:
        kernel.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, capability)


def forbid_dumping() -> None:
    """Let no process of the same user trace this one or read its memory, and no core be dumped.

    Children inherit it; an exec ends it. Its files in /proc then belong to root, so that without
    privilege nobody reads those kept for the owner (environ, smaps, fd); statm and status stay open
    to all.
    """
    kernel.prctl(_PR_SET_DUMPABLE, 0)


def _mask(capabilities: frozenset[int]) -> int:
    return sum(1 << capability for capability in capabilities)


def _call(function: Callable[..., int]) -> None:
    if function(*_addresses) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
