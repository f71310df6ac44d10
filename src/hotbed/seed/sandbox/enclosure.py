"""Starts a process inside namespaces and a root of its own; runs in the launcher.

Three processes take part. A short-lived helper, forked from the launcher, is the only one that
stands both outside and inside: it makes the namespaces, writes the user map and joins them. The
*guardian* is the first process of the new pid namespace: killing it kills everything inside, and it
makes the cells of a template's children, being far smaller than a template. The *inmate* is
the interpreter that was ordered. Guardian and inmate are the launcher's children, not the helper's
(CLONE_PARENT): their ends are told to it.

Law: no privilege of the host is left inside. As root the helper builds the root file system with
the host's rights, then maps one unprivileged user into the user namespace; root is not in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
from collections.abc import Callable
from typing import Any

from .. import kernel, proxy
from ..nursery import Born
from . import cell, namespaces, privileges, root
from .namespaces import step

USER = 1000  # uid and gid inside
# To mount, and to join a mount namespace; in the user namespace only, and never in a child.
TEMPLATE_CAPABILITIES = frozenset({privileges.CAP_SYS_ADMIN, privileges.CAP_SYS_CHROOT})
_KINDS = (
    namespaces.NEW_USER
    | namespaces.NEW_MOUNT
    | namespaces.NEW_PID
    | namespaces.NEW_IPC
    | namespaces.NEW_UTS
    | namespaces.NEW_CGROUP
)
_WORD = 65536  # bytes: the helper's one message


class EnclosureError(OSError):
    """It cannot be done on this host; the text names the step and the errno.

    `fault` says that it is no refusal of the host's but an error of ours.
    """

    def __init__(self, text: str, *, fault: bool = False) -> None:
        super().__init__(text)
        self.fault = fault


def start(spec: dict[str, Any], become: Callable[[int], None]) -> Born:
    """Start an inmate, which calls `become` with its guardian's socket; that must exec.

    `spec` has `view` (see root.View), `network`, `disk_bytes` and `user` (see Profile), and `cells`,
    whether the guardian makes cells. With network "proxy" the result has the proxy's listening socket.

    Raises:
        EnclosureError: If a step of it is not permitted here.
        OSError: If processes or descriptors have run out.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        helper = os.fork()
        if helper == 0:
            _help(theirs, spec, become)
        theirs.close()
        data, fds, _flags, _address = socket.recv_fds(ours, _WORD, 1)
        word = json.loads(data or b'{"error": "its helper was killed"}')
        os.waitpid(helper, 0)
    finally:
        ours.close()
        theirs.close()
    if "error" in word:
        for fd in fds:
            os.close(fd)
        for pid in (word.get("guardian"), word.get("inmate")):
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        raise EnclosureError(word["error"], fault="fault" in word)
    return Born(word["inmate"], word["guardian"], fds=tuple(fds))


def _help(launcher: socket.socket, spec: dict[str, Any], become: Callable[[int], None]) -> None:
    word: dict[str, Any] = {}
    fds: list[int] = []
    try:
        with step("begin"):
            _enclose(word, fds, spec, become)
    except OSError as error:
        word["error"] = str(error)
    except BaseException as error:
        word.update(error=repr(error), fault=True)
    finally:
        with contextlib.suppress(OSError):
            socket.send_fds(launcher, [json.dumps(word).encode()], fds)
        os._exit(0)


def _enclose(
    word: dict[str, Any], fds: list[int], spec: dict[str, Any], become: Callable[[int], None]
) -> None:
    privileged = spec["user"] is not None
    launcher = os.pidfd_open(os.getppid())
    view = root.View.of(spec["view"])
    uid, gid = (spec["user"], spec["user"]) if privileged else (os.geteuid(), os.getegid())
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    if privileged:
        with step("make a mount namespace"):
            namespaces.unshare(namespaces.NEW_MOUNT)
        root.build(view, empty_proc=True)
        root.enter()
    kinds = _KINDS | (namespaces.NEW_NET if spec["network"] != "host" else 0)
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with step("make namespaces"):
        guardian = namespaces.clone(kinds | namespaces.CLONE_PARENT)
    if guardian == 0:
        near.close()
        _guard(far, view, launcher, spec, privileged=privileged)
    word["guardian"] = guardian
    far.close()
    with step("map a user"):
        namespaces.map_user(proc, guardian, inside=USER, uid=uid, gid=gid, privileged=privileged)
    near.send(b"mapped")
    said, listeners, _flags, _address = socket.recv_fds(near, _WORD, 1)
    fds += listeners
    if said != b"ready":
        failure = json.loads(said) if said else {"error": "its first process was killed"}
        raise EnclosureError(failure["error"])
    with step("join the namespaces"):
        pidfd = os.pidfd_open(guardian)
        namespaces.enter(pidfd, kinds)
        os.close(pidfd)
        near.send(b"joined")
        inmate = namespaces.clone(namespaces.CLONE_PARENT)
    if inmate == 0:
        try:
            _drop_user(privileged)
            privileges.drop_bounding(TEMPLATE_CAPABILITIES)
            privileges.keep_across_exec(TEMPLATE_CAPABILITIES)
            privileges.forbid_new()
            _die_with(launcher)
            become(near.fileno())
        except BaseException as error:
            os.write(2, f"cannot start in its sandbox: {error}\n".encode("utf-8", "replace"))
        finally:
            os._exit(127)
    word["inmate"] = inmate


def _die_with(launcher: int) -> None:
    """Die when the launcher dies; here its pid means nothing, so a pidfd tells whether it lives."""
    kernel.set_parent_death_signal()
    poll = select.poll()
    poll.register(launcher, select.POLLIN)
    if poll.poll(0):
        os._exit(0)


def _drop_user(privileged: bool) -> None:
    with step("become the unprivileged user"):
        if privileged:
            os.setgroups([])
            os.setresgid(USER, USER, USER)
            os.setresuid(USER, USER, USER)


# The guardian.


def _guard(
    far: socket.socket, view: root.View, launcher: int, spec: dict[str, Any], *, privileged: bool
) -> None:
    try:
        kernel.set_name("hotbed-guardian")
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as pid 1: what has no handler is not delivered
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
        if far.recv(16) != b"mapped":
            os._exit(1)
        try:
            if privileged:
                _drop_user(privileged)
                root.mount_proc("/proc")
            else:
                root.build(view, empty_proc=False)
                root.mount_proc(f"{root.STAGE}/proc")
                root.enter()
            with step("name the host"):
                socket.sethostname("hotbed")
            _forbid_namespaces()
            listeners = []
            if spec["network"] == "proxy":
                with step("listen for the proxy"):
                    listeners.append(proxy.listener())
        except OSError as error:
            far.send(json.dumps({"error": str(error)}).encode())
            os._exit(1)
        socket.send_fds(far, [b"ready"], [one.fileno() for one in listeners])
        if far.recv(16) != b"joined":  # what comes next would keep the helper out
            os._exit(1)
        _die_with(launcher)
        kernel.close_all_but(far.fileno())
        _wait_inside(far, spec)
    finally:
        os._exit(1)


def _forbid_namespaces() -> None:
    """No user and network namespaces below this one: the second line behind seccomp."""
    for kind in ("user", "net", "time"):
        with contextlib.suppress(OSError):
            fd = os.open(f"/proc/sys/user/max_{kind}_namespaces", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, b"0")
            finally:
                os.close(fd)


def _wait_inside(far: socket.socket, spec: dict[str, Any]) -> None:
    """Make a cell for each packet that comes; without that duty, only be there.

    Guardians and keepers of cells hold one capability more than a template, and are not dumpable:
    a hostile package in the template can neither trace them, nor read their memory, nor reach
    the interpreter that they still run from, which lies outside. Namespaces are therefore joined
    by descriptors that their owners hand out.
    """
    privileges.drop_bounding(frozenset())
    privileges.set_capabilities(TEMPLATE_CAPABILITIES | {privileges.CAP_IPC_LOCK})
    privileges.forbid_new()
    privileges.forbid_dumping()
    kernel.set_parent_death_signal()  # the capabilities given up have taken it back
    while spec["cells"] and far.recv(16):
        cell.make(far, spec["disk_bytes"])
    while True:
        signal.pause()
