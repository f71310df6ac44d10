"""Confines a process: once per template what all its children share, the rest in each child.

The order matters. In the template, before any package's code runs: capabilities down to those that
join namespaces, the Landlock ruleset made ready, and the seccomp filter, which every child inherits.
In a child, before it rehearses: its cgroup, its cell, Landlock, and no capability at all. Landlock
and capabilities hold for one thread and what it starts: a child that has a second one by then is
refused.

Law: a step that fails ends the process. What `mechanisms` names has been applied.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
from collections.abc import Callable

from .. import kernel
from ..launcher import GUARDIAN_FD, remove_tree
from ..proxy import PROXY_PORT
from . import cell, enclosure, landlock, namespaces, privileges, root, seccomp
from .cell import Cell
from .namespaces import StepError, step
from .profile import BOX, PARENT, WORK, Profile

# Where Landlock alone keeps files: before ABI 3 (Linux 6.2) it lets every file of the user be truncated.
LEAST_ABI = 3
SCOPES_ABI = 6
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
        self._keep = keep
        self._guardian: socket.socket | None = None
        self._own_pids = self._ruleset = -1
        self._free: list[Cell] = []
        self._in_cell = False  # this process is a child
        self._problem: OSError | None = None  # why it is not all the way in
        self._filtered = False
        kernel.leave_keyrings()
        if profile.enclosed:
            self._take_namespaces()
        if profile.user is not None:
            self.mechanisms.append("unprivileged-uid")
        self.abi = min(profile.landlock, landlock.abi())
        self._require_boundary()
        if profile.tier == "shared":
            root.mount_box(profile.disk_bytes)  # one for all children
        with step("give up capabilities"):
            kept = enclosure.TEMPLATE_CAPABILITIES if profile.tier == "full" else frozenset()
            privileges.set_capabilities(kept)
        with step("forbid new privileges"):
            privileges.forbid_new()
        self.mechanisms += ["no-new-privs", "no-capabilities", "rlimits"]
        self._confine_files()
        self._program = seccomp.prepare(seccomp.program(platform.machine(), self._policy()))
        self.mechanisms.append("seccomp")
        if keep is not None or profile.tier != "full":  # else there is still something to mount
            self._filter()

    def _take_namespaces(self) -> None:
        guardian = os.dup(GUARDIAN_FD)
        os.close(GUARDIAN_FD)
        if self._keep is None:
            os.close(guardian)
        else:
            self._guardian = socket.socket(fileno=self._keep(guardian))
            with step("open its pid namespace"):
                self._own_pids = self._keep(os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC))
        self.mechanisms += ["user-ns", "mount-ns", "ipc-ns", "uts-ns", "cgroup-ns"]
        # In tier shared the pid namespace is the template's: siblings see each other in it.
        self.mechanisms += ["pid-ns"] * (self.profile.tier == "full")
        self.mechanisms += ["net-ns"] * (self.profile.network != "host")

    def _require_boundary(self) -> None:
        """Refuse the tiers that rest on Landlock where it does not carry them."""
        if self.profile.tier not in ("landlock", "shared"):
            return
        problem = ""
        if self.abi < LEAST_ABI:
            found = f"ABI {self.abi}" if self.abi else "none"
            problem = f"this kernel has {found}, and {LEAST_ABI} is needed"
        elif self.profile.tier == "landlock" and os.geteuid() == 0:
            problem = "code would run as root: its interpreter or TMPDIR is where no other user can read"
        elif self.profile.tier == "landlock" and self.abi < SCOPES_ABI and self.profile.user is None:
            problem = f"before ABI {SCOPES_ABI} code can signal all processes of its user, the engine's here"
        if problem:
            raise StepError("rest on Landlock", OSError(errno.ENOSYS, problem))

    def _confine_files(self) -> None:
        """Make the ruleset of children; where no namespace holds packages, they are held by it too."""
        if not self.abi:
            return
        if self.abi >= LEAST_ABI:
            self.mechanisms.append("landlock")
            self.mechanisms += ["landlock-tcp"] * (self.abi >= 4 and self.profile.network != "host")
            self.mechanisms += ["landlock-scopes"] * (self.abi >= SCOPES_ABI)
        if self.profile.tier == "full":
            self._ruleset = self._rules([PARENT])
        elif not self.profile.enclosed:
            own = self._rules([self.profile.work_root])
            with step("enforce Landlock"):
                landlock.enforce(own)
            os.close(own)

    def _policy(self) -> seccomp.Policy:
        full = self.profile.tier == "full"
        return seccomp.Policy(
            _SOCKETS[self.profile.network],
            # Siblings share the network namespace, and with it abstract sockets: a scope must part them.
            unix=self.profile.enclosed and "landlock-scopes" in self.mechanisms,
            own_files=full,
            own_pids=full,
            memfd=self.profile.memory_counted,
            joins=full and self._keep is not None,
        )

    def _filter(self) -> None:
        with step("load the seccomp filter"):
            seccomp.load(self._program)
        self._filtered = True

    def _readable(self) -> list[str]:
        if self.profile.tier == "full":
            return ["/"]
        if self.profile.tier == "shared":  # what lies below PARENT is the siblings'
            return [f"/{name}" for name in os.listdir("/") if f"/{name}" != PARENT]
        return self.profile.readable

    def _rules(self, own: list[str]) -> int:
        with step("make a Landlock ruleset"):
            return landlock.prepare(
                self.abi,
                readable=self._readable(),
                writable=[*self.profile.writable, *own],
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
        if self.abi:
            ruleset = self._ruleset if self._ruleset >= 0 else self._rules([own_directory])
            with step("enforce Landlock"):
                landlock.enforce(ruleset)
            os.close(ruleset)
        with step("give up all capabilities"):
            privileges.set_capabilities(frozenset())
        if not self._filtered:
            self._filter()
