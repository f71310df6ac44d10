"""The root of an engine's tree: starts templates and single interpreters, and clears up last.

The engine's host has this one child. When the host ends, however it ends, the launcher kills
everything below it and removes the engine's files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from typing import Any

from . import kernel
from .nursery import Born, Nursery

# Where a started process finds its descriptors; 0 is /dev/null, 1 and 2 come with the order.
CHANNEL_FD = 3
ENGINE_FD = 4
GUARDIAN_FD = 5  # only in a sandbox: its guardian's socket
LAST_DEATHS_S = 2.0  # a killed process that has not died by then sits in an uninterruptible call
PAUSE_S = 0.005
_ABOVE = 64  # descriptors are first moved above this number, so that none is overwritten


def main(control_fd: int, engine_pidfd: int) -> None:
    """Start what is ordered until the engine is gone, then remove its files."""
    kernel.set_name("hotbed-launcher")
    # Both survive an exec: a host that ignores SIGCHLD would have our children reaped unseen.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    nursery = Nursery(control_fd, engine_pidfd, make=start_interpreter)
    greeting = nursery.receive()
    if greeting is None:
        return
    nursery.serve()
    for path in greeting["groups"]:
        remove_group(path)
    for path in greeting["remove"]:
        with contextlib.suppress(OSError):
            remove_tree(path)


def start_interpreter(nursery: Nursery, order: dict[str, Any], fds: list[int]) -> Born:
    """Start one interpreter, in a sandbox if the order says so; it dies with this process."""
    if "profile" in order:
        from .sandbox import trial

        return trial.start(order, fds[0])
    held, entrances = [*fds[:3], nursery.engine_fd], fds[3:]
    if order["sandbox"] is not None:
        from .sandbox import enclosure  # loads ctypes: only where it is asked for

        def become(guardian_fd: int) -> None:
            enter_groups(entrances)
            _exec(order, [*held, guardian_fd])

        return enclosure.start(order["sandbox"], become)
    parent = nursery.pid
    pid = os.fork()
    if pid == 0:
        try:
            enter_groups(entrances)
            become_user(order["user"])
            kernel.die_with_parent(parent)  # a change of user would take it back
            _exec(order, held)
        except BaseException as error:
            os.write(2, f"cannot start {order['argv'][0]!r}: {error}\n".encode())
        finally:
            os._exit(127)
    return Born(pid)


def _exec(order: dict[str, Any], fds: list[int]) -> None:
    """Become the interpreter on these descriptors: channel, stdout, stderr, engine, guardian."""
    os.setsid()
    channel, out, err, *others = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for fd in fds)
    null = os.open(os.devnull, os.O_RDWR)
    targets = [0, 1, 2, CHANNEL_FD, ENGINE_FD, GUARDIAN_FD]
    for source, target in zip([null, out, err, channel, *others], targets):  # noqa: B905  (3.10 has no default)
        os.dup2(source, target)
    os.chdir(order["cwd"])
    os.execve(order["argv"][0], order["argv"], order["env"])


def become_user(user: int | None) -> None:
    """Change from root to an unprivileged user and group of this number; nothing if it is None."""
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def enter_groups(entrances: list[int]) -> None:
    """Move this process, of one thread, into the cgroups that these let in to, and close them."""
    for fd in entrances:
        os.write(fd, b"0")  # the writer itself
        os.close(fd)


def remove_group(path: str) -> None:
    """Remove a cgroup and those directly below it; all that was in them has been killed."""
    deadline = time.monotonic() + LAST_DEATHS_S
    try:
        inner = [entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for group in [*inner, path]:
        while time.monotonic() < deadline:
            try:
                os.rmdir(group)
            except OSError as error:
                if error.errno == errno.EBUSY:  # the last one in it is still dying
                    time.sleep(PAUSE_S)
                    continue
            break


def remove_tree(path: str) -> None:
    """Remove a file, or a directory tree of any depth; nothing if it is not there.

    A tree that hostile code made can be deeper than a path may be long and than recursion
    goes. So directories are renamed up into the root until the tree is flat: no path here is
    more than two names long.
    """
    try:
        os.rmdir(path)
        return
    except FileNotFoundError:
        return
    except NotADirectoryError:
        os.unlink(path)
        return
    except OSError:  # it is not empty
        pass
    root = _open_directory(path, None)
    try:
        _flatten(root)
    finally:
        os.close(root)
    os.rmdir(path)


def _flatten(root: int) -> None:
    token, serial = os.urandom(8).hex(), 0  # no name of theirs can be one of ours
    waiting = ["."]
    while waiting:
        name = waiting.pop()
        directory = _open_directory(name, root)
        try:
            with os.scandir(directory) as entries:
                for entry in list(entries):
                    if entry.is_dir(follow_symlinks=False):
                        serial += 1
                        moved = f".{token}-{serial}"
                        os.close(_open_directory(entry.name, directory))  # else it cannot be moved
                        os.rename(entry.name, moved, src_dir_fd=directory, dst_dir_fd=root)
                        waiting.append(moved)
                    else:
                        os.unlink(entry.name, dir_fd=directory)
        finally:
            os.close(directory)
        if name != ".":
            os.rmdir(name, dir_fd=root)


def _open_directory(name: str, parent: int | None) -> int:
    """Open a directory that its owner may have closed to himself, and make it accessible.

    Never by its name after it was looked at: whoever made it may have put a link there meanwhile.
    """
    flags = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    looked_at = os.open(name, os.O_PATH | flags, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{looked_at}", 0o700)
        return os.open(f"/proc/self/fd/{looked_at}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    finally:
        os.close(looked_at)
