"""Landlock: which files a process may touch, which TCP ports, and whom it may signal.

A ruleset is made once, in the template; each child inherits its descriptor and enforces it on itself
with one system call. It holds for the calling thread and all that it starts, for ever.

Law: what no rule grants is denied. A ruleset may still be added to by whoever holds its descriptor,
which widens it for all that enforce it later: it is closed before a stranger's code runs.

Rules and mounts. A rule belongs to a file or directory itself (its inode), not to its path. The kernel
looks for rules from the accessed file upwards and steps from the root of a mount straight to the
*parent* of its mount point. Of a file system that is mounted later:
- a rule on the parent of the mount point, or further up, holds for it; one on `/` holds for all;
- a rule on the mount point itself does not: that directory is hidden, and never looked at;
- nor does a rule on the root of a file system that it was mounted over, for the same reason.

What each ABI brings: 2, files may move between directories at all; 3, truncate(path), which before
needs no right whatever; 4, TCP; 5, ioctl on devices; 6, scopes; 7, the audit log.

Whatever the rules: nobody confined mounts anything, or traces a process that is less confined or reads
its memory; a holder of CAP_PERFMON still reads its environ and maps, so the capabilities go too.

Not guarded by any ABI up to 7: chdir, stat, access, chmod, chown, utime, xattrs; descriptors that are
open already; connecting to a Unix socket by its path. The TCP rules know bind() and connect() of plain
TCP: UDP, listen() on an unbound socket, sendto() with MSG_FASTOPEN and multipath TCP pass by them.
They are a second wall behind a network namespace or a seccomp filter on socket(), not one alone.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from array import array
from collections.abc import Sequence

from .. import kernel

# The same numbers on every machine but Alpha.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # a flag of create_ruleset: say the ABI, make nothing
_PATH_BENEATH, _NET_PORT = 1, 2  # kinds of rule

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1
_ABSTRACT_SOCKETS, _SIGNALS = 1 << 0, 1 << 1

# Each right with the ABI that brought it; the first thirteen came together.
_SINCE = ((1, _REFER - 1), (2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
_TCP_SINCE = 4
_SCOPES_SINCE = 6

_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # any other on a file is EINVAL
_READABLE = _EXECUTE | _READ_FILE | _READ_DIR
# Nothing here needs to make a device, and the drivers behind ioctl are a large part of the kernel.
_WRITABLE = (1 << 16) - 1 & ~(_MAKE_CHAR | _MAKE_BLOCK | _IOCTL_DEV)
_WRITABLE_FILE = _READ_FILE | _WRITE_FILE | _TRUNCATE

# Denials go to no audit log, nor do those of domains that the confined code makes for itself: code
# that is denied something in a loop must not fill the host's disk. After an exec nothing is logged anyway.
_LOG_SAME_EXEC_OFF, _LOG_SUBDOMAINS_OFF = 1 << 0, 1 << 2
_QUIET = _LOG_SAME_EXEC_OFF | _LOG_SUBDOMAINS_OFF


def abi() -> int:
    """The version of Landlock that this kernel offers.

    0 where it is absent, switched off at boot, or refused by a container's system call filter.
    """
    try:
        return kernel.syscall(_CREATE_RULESET, 0, 0, _VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def prepare(
    abi: int,
    *,
    readable: Sequence[str] = (),
    writable: Sequence[str] = (),
    writable_files: Sequence[str] = (),
    connect: Sequence[int] | None = None,
    scopes: bool = True,
    skip_missing: bool = False,
) -> int:
    """Make a ruleset: a descriptor, closed on exec, that the caller owns.

    readable: directories, with all below them, and files that may be read, listed and executed.
    writable: the same, and everything in them may be written, made, moved and removed, but no
        device made or driven by ioctl.
    writable_files: single files, such as /dev/null, that may be read, written and truncated.
    connect: the TCP ports that may be connected to, with no binding; [] for no TCP at all, None
        to leave TCP alone.
    scopes: no signal to a process, and no abstract Unix socket of one, that did not start from
        whoever enforces this. Siblings that enforce the same ruleset are apart too.

    A symbolic link among the paths stands for what it leads to. A path that does not exist is
    left out with `skip_missing`. `abi` is the kernel's or a lower one; what came later is then
    neither granted nor denied.

    Raises:
        ValueError: If `abi` is below 1.
        FileNotFoundError: If a path does not exist.
        IsADirectoryError: If one of `writable_files` is a directory.
        OSError: With the kernel's errno; EINVAL if the kernel's ABI is lower than `abi`.
    """
    if abi < 1:
        raise ValueError(f"no ruleset for Landlock ABI {abi}: this kernel has none, or does not allow it")
    rights = sum(bits for since, bits in _SINCE if since <= abi)
    tcp = connect is not None and abi >= _TCP_SINCE
    attributes = array("Q", (rights, 0, 0))
    if tcp:
        attributes[1] = _BIND_TCP | _CONNECT_TCP
    if scopes and abi >= _SCOPES_SINCE:
        attributes[2] = _ABSTRACT_SOCKETS | _SIGNALS
    address, fields = attributes.buffer_info()
    # An older kernel takes the longer structure as long as the fields it does not know are 0.
    ruleset = kernel.syscall(_CREATE_RULESET, address, fields * attributes.itemsize, 0)
    try:
        for paths, granted in (
            (readable, _READABLE),
            (writable, _WRITABLE),
            (writable_files, _WRITABLE_FILE),
        ):
            for path in paths:
                _grant(ruleset, path, granted & rights, skip_missing=skip_missing)
        for port in connect or () if tcp else ():
            _add(ruleset, _NET_PORT, struct.pack("=QQ", _CONNECT_TCP, port))
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def enforce(ruleset: int) -> None:
    """Confine the calling thread for good; no_new_privs is set already.

    The descriptor stays open: close it before a stranger's code runs.

    Raises:
        OSError: With the kernel's errno; E2BIG if too many are in force already.
    """
    try:
        kernel.syscall(_RESTRICT_SELF, ruleset, _QUIET)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        kernel.syscall(_RESTRICT_SELF, ruleset, 0)  # before ABI 7 there are no flags, and no log


def _grant(ruleset: int, path: str, granted: int, *, skip_missing: bool) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        if skip_missing:
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            granted &= _OF_FILES
        elif not granted & _READ_DIR:
            raise IsADirectoryError(
                errno.EISDIR, "a rule for a single file would hold for all below it", path
            )
        _add(ruleset, _PATH_BENEATH, struct.pack("=Qi", granted, fd))
    finally:
        os.close(fd)


def _add(ruleset: int, kind: int, rule: bytes) -> None:
    buffer = array("B", rule)
    kernel.syscall(_ADD_RULE, ruleset, kind, buffer.buffer_info()[0], 0)
