"""Confines a process: once per template what all its children share, the rest in each child.

The order matters. In the template, before any package's code runs: capabilities down to the one that
makes namespaces, the Landlock ruleset and the seccomp program made ready. In a child, before it
rehearses: its cgroup, its mounts, Landlock, no capability, seccomp last, since it forbids all of the
above. Landlock, capabilities and seccomp hold for one thread and what it starts: a child that has a
second one by then is refused.

Law: a step that fails ends the process. What `mechanisms` names has been applied.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
from collections.abc import Callable

from ..launcher import GUARDIAN_FD, remove_tree
from ..proxy import PROXY_PORT
from . import cell, enclosure, landlock, namespaces, privileges, root, seccomp
from .cell import Cell
from .namespaces import StepError, step
from .profile import BOX, PARENT, WORK, Profile

# Where Landlock alone keeps files: before ABI 3 (Linux 6.2) it lets every file of the user be truncated.
LEAST_ABI = 3
WRITABLE_FILES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SOCKETS = {"none": "none", "proxy": "tcp", "host": "all"}


class Sandbox:
    """One template's or interpreter's sandbox: made before `site`, applied to each child."""

    def __init__(self, profile: Profile, keep: Callable[[int], int] | None) -> None:
        """Confine this process as far as its children still need its rights, and prepare them.

        `keep` takes descriptors that children must not have; None in an interpreter, which
        makes no children.

        Raises:
            StepError: If this host does not allow it.
        """
        self.profile = profile
        self.mechanisms: list[str] = []
        self._guardian: socket.socket | None = None
        self._keep = keep
        self._own_pids = self._ruleset = -1
        self._free: list[Cell] = []
        self._in_cell = False  # this process is a child
        self._problem: OSError | None = None  # why it is not all the way in
        self._base_rules = {"readable": profile.readable, "writable": profile.writable}
        if profile.enclosed:
            guardian = os.dup(GUARDIAN_FD)
            os.close(GUARDIAN_FD)
            if keep is None:
                os.close(guardian)
            else:
                self._guardian = socket.socket(fileno=keep(guardian))
                with step("open its pid namespace"):
                    self._own_pids = keep(os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
            # In tier shared each child may write below its own directory only.
            base = [PARENT] if profile.tier == "full" else []
            self._base_rules = {"readable": ["/"], "writable": [*base, *profile.writable]}
            self.mechanisms += ["user-ns", "mount-ns", "ipc-ns", "uts-ns", "cgroup-ns"]
            # In tier shared the pid namespace is the template's: siblings see each other in it.
            self.mechanisms += ["pid-ns"] * (profile.tier == "full")
            if profile.network != "host":
                self.mechanisms.append("net-ns")
        if profile.user is not None:
            self.mechanisms.append("unprivileged-uid")
        with step("give up capabilities"):
            kept = enclosure.TEMPLATE_CAPABILITIES if profile.enclosed else frozenset()
            privileges.set_capabilities(kept)
        with step("forbid new privileges"):
            privileges.forbid_new()
        self.mechanisms += ["no-new-privs", "no-capabilities", "rlimits"]
        self.abi = min(profile.landlock, landlock.abi())
        if profile.tier in ("landlock", "shared") and self.abi < LEAST_ABI:
            found = f"ABI {self.abi}" if self.abi else "none"
            raise StepError(
                "look for Landlock", OSError(errno.ENOSYS, f"this kernel has {found}, {LEAST_ABI} is needed")
            )
        if self.abi and profile.tier != "limits":
            self.mechanisms.append("landlock")
            self.mechanisms += ["landlock-tcp"] * (self.abi >= 4 and profile.network != "host")
            self.mechanisms += ["landlock-scopes"] * (self.abi >= 6)
        if profile.tier == "full" and self.abi:
            self._ruleset = self._rules([])
        elif profile.tier == "shared" and keep is not None:
            root.mount_box(profile.disk_bytes)  # one for all children
        elif profile.tier == "landlock":
            own = self._rules([profile.work_root])
            with step("enforce Landlock"):
                landlock.enforce(own)
            os.close(own)
        # Siblings share the network namespace, and with it abstract sockets, where no scope parts them.
        unix = profile.enclosed and "landlock-scopes" in self.mechanisms
        self._program = seccomp.prepare(
            seccomp.program(platform.machine(), sockets=_SOCKETS[profile.network], unix=unix)
        )
        self.mechanisms.append("seccomp")

    def _rules(self, own: list[str]) -> int:
        with step("make a Landlock ruleset"):
            return landlock.prepare(
                self.abi,
                readable=self._base_rules["readable"],
                writable=[*self._base_rules["writable"], *own],
                writable_files=[path for path in WRITABLE_FILES if os.path.exists(path)],
                connect={"none": [], "proxy": [PROXY_PORT], "host": None}[self.profile.network],
            )

    def fork(self) -> tuple[int, Cell | None]:
        """Fork a child, in tier full into a cell: its pid and its cell; pid 0 in the child."""
        if self.profile.tier != "full" or self._guardian is None or self._keep is None:
            return os.fork(), None
        home = self._free.pop() if self._free else cell.ask(self._guardian, self._keep)
        pid = -1
        try:
            home.enter_pids()
            try:
                pid = os.fork()
            finally:
                if pid != 0:
                    namespaces.enter(self._own_pids, namespaces.NEW_PID)
        except OSError:
            home.close()
            raise
        if pid == 0:
            self._in_cell = True
            try:
                home.enter_mounts()
            except OSError as error:  # the caller's loop is the template's: `mount` tells it
                self._problem = error
        return pid, home

    def take_back(self, home: Cell, *, cleared: bool) -> None:
        """A cell whose child has ended: used again, if its keeper has cleared it."""
        if cleared:
            self._free.append(home)
        else:
            home.close()

    def forget(self, process_id: int) -> None:
        """A child has ended: what it left where its siblings are is removed."""
        if self.profile.tier == "shared":
            with contextlib.suppress(OSError):
                remove_tree(os.path.join(BOX, str(process_id)))

    def try_child(self) -> None:
        """Confine a throw-away child as all others will be.

        Raises:
            StepError: With the step that fails there.
        """
        reader, writer = os.pipe()
        pid, home = self.fork()
        if pid == 0:
            words = "an unknown step fails"
            try:
                self.mount()
                self.confine(self.profile.work_root or WORK)
                words = ""
            except BaseException as error:
                words = str(error)
            finally:
                os.write(writer, words.encode("utf-8", "replace"))
                os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8") as file:
            words = file.read()
        os.waitpid(pid, 0)
        if home is not None:
            home.close()
        if words:
            raise StepError("try a child", OSError(0, words))

    def mount(self) -> None:
        """In a child, or an interpreter of its own: the private file system."""
        if self._problem is not None:
            raise self._problem
        if self.profile.tier == "full" and not self._in_cell:
            root.mount_box(self.profile.disk_bytes)

    def confine(self, own_directory: str) -> None:
        """In a child: give up for good what its code must not have."""
        if len(os.listdir("/proc/self/task")) != 1:
            raise StepError("count threads", OSError(0, "a package started one in the child"))
        if "landlock" in self.mechanisms:
            ruleset = self._ruleset if self._ruleset >= 0 else self._rules([own_directory])
            with step("enforce Landlock"):
                landlock.enforce(ruleset)
            os.close(ruleset)
        with step("give up all capabilities"):
            privileges.set_capabilities(frozenset())
        with step("load the seccomp filter"):
            seccomp.load(self._program)
