"""Changes that a host script makes to its own world before it uses hotbed.

Each is called once, in an interpreter with one thread that is thrown away. Most take root: they make a
mount namespace, in which what is mounted is seen by nobody else and vanishes with the last process in it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hotbed
from hotbed.proc import view
from hotbed.seed import kernel
from hotbed.seed.sandbox import namespaces, privileges
from tests.seed.sandbox import docker_profile

NOBODY = 65534
PLACES = ("TMPDIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CACHE_HOME")  # where hosts keep files
EVERY_ID = 4294967295
PR_SET_DUMPABLE = 4

# What Docker leaves a container's root: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
# NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
DOCKER_CAPABILITIES = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31})
# What Docker hides of /proc, files by /dev/null and directories by an empty tmpfs; and what may be read only.
MASKED = ("asound", "acpi", "interrupts", "kcore", "keys", "latency_stats", "timer_list", "scsi")
READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")


def plain() -> None:
    """Nothing: the machine as it is."""


# Users.


def ordinary_user() -> None:
    """Be a user without any right, to whom the way to this interpreter and to hotbed is open."""
    open_to_all(NOBODY)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.prctl(PR_SET_DUMPABLE, 1)  # as after any exec; a change of user alone takes it away
    os.environ.update(HOME=os.environ["XDG_STATE_HOME"], USER="nobody", LOGNAME="nobody")


def open_to_all(user: int = 0) -> None:
    """Have every user reach this interpreter, hotbed and the temporary directory, where they are.

    Above each of them, the first directory that is closed to others is hidden by an empty one, and what is
    needed below it is bound into that. The other places of a host's files become empty ones of `user`.
    """
    own_mounts()
    needed = {*view.interpreter_paths(sys.executable), sys.prefix, sys.base_prefix, *sys.path}
    gates: dict[str, dict[str, int]] = {}  # a closed directory -> what is needed below it, opened
    for path in sorted(path for path in needed if os.path.isabs(path) and os.path.exists(path)):
        if gate := _closed_above(path):
            for leaf in _leaves(path):
                gates.setdefault(gate, {})[leaf] = os.open(leaf, os.O_PATH | os.O_CLOEXEC)
    for name in PLACES:
        gates.setdefault(_closed_above(os.environ[name]) or os.environ[name], {})
    for gate, leaves in gates.items():
        namespaces.mount("way", gate, "tmpfs", options="mode=755,size=64m")
        for leaf, fd in leaves.items():
            if not os.path.lexists(leaf):  # else it lies below another one
                _bind(fd, leaf)
            os.close(fd)
    for name in PLACES:
        os.makedirs(os.environ[name], exist_ok=True)
        os.chmod(os.environ[name], 0o1777 if name == "TMPDIR" else 0o700)
        os.chown(os.environ[name], user, user)


def _closed_above(path: str) -> str:
    """The first directory on the way to a path that others may not pass; "" if there is none."""
    found = ""
    while path != "/":
        path = os.path.dirname(path)
        if not _is_open(path):
            found = path
    return found


def _is_open(path: str) -> bool:
    return os.stat(path).st_mode & 0o005 == 0o005


def _leaves(path: str) -> Iterator[str]:
    """A path, or what lies in it if it is a directory closed to others itself."""
    if os.path.isdir(path) and not _is_open(path):
        for inner in _entries(path):
            yield from _leaves(inner)
    else:
        yield path


def _entries(directory: str) -> list[str]:
    return [os.path.join(directory, name) for name in os.listdir(directory)]


def _bind(fd: int, path: str) -> None:
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        os.makedirs(path)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(path).touch()
    namespaces.mount(f"/proc/self/fd/{fd}", path, flags=namespaces.BIND | namespaces.RECURSIVE)


def root_of_a_user_namespace(count: int = EVERY_ID) -> None:
    """Be root of a user namespace below, which knows the first `count` users of this one."""
    reader, writer = os.pipe()
    host, helper = os.getpid(), os.fork()
    if helper == 0:  # to map more users than one's own takes the rights of outside
        os.read(reader, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{host}/{name}").write_text(f"0 0 {count}")
        os._exit(0)
    namespaces.unshare(namespaces.NEW_USER)
    os.write(writer, b".")
    assert os.waitpid(helper, 0)[1] == 0
    os.close(reader)
    os.close(writer)


def root_alone_in_a_user_namespace() -> None:
    """Be root of a user namespace that knows no other user, as `unshare --map-root-user` makes it."""
    open_to_all()
    root_of_a_user_namespace(count=1)


# File systems.


def own_mounts() -> None:
    """Have a mount namespace whose mounts nobody else sees."""
    namespaces.unshare(namespaces.NEW_MOUNT)
    namespaces.mount("", "/", flags=namespaces.PRIVATE | namespaces.RECURSIVE)


def masked_proc() -> None:
    """Have /proc as Docker shows it."""
    own_mounts()
    for name in READ_ONLY:
        if not os.path.exists(path := f"/proc/{name}"):
            continue
        namespaces.mount(path, path, flags=namespaces.BIND | namespaces.RECURSIVE)
        namespaces.set_attributes(path, namespaces.READ_ONLY)
    for name in MASKED:
        if os.path.isdir(path := f"/proc/{name}"):
            namespaces.mount("mask", path, "tmpfs", namespaces.READ_ONLY)
        elif os.path.exists(path):
            namespaces.mount("/dev/null", path, flags=namespaces.BIND)


def small_shared_memory() -> None:
    """Have a /dev/shm of 64 MiB, as Docker makes it."""
    own_mounts()
    namespaces.mount("shm", "/dev/shm", "tmpfs", options="size=64m")


def read_only_cgroups() -> None:
    """Have cgroups that can be looked at only."""
    own_mounts()
    namespaces.set_attributes("/sys/fs/cgroup", namespaces.READ_ONLY)


def hidden_cgroups() -> None:
    """Have an empty directory where cgroups usually are."""
    own_mounts()
    namespaces.mount("none", "/sys/fs/cgroup", "tmpfs")


def no_cgroups() -> None:
    """Have none mounted."""
    own_mounts()
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in mounted if point.startswith("/sys/fs/cgroup")), reverse=True):
        namespaces._checked(namespaces._umount(os.fsencode(point), namespaces.DETACH))


def interpreter_elsewhere() -> None:
    """Have this interpreter's base in the directory that $HOTBED_TEST_PREFIX names, too."""
    own_mounts()
    namespaces.mount(sys.base_prefix, os.environ["HOTBED_TEST_PREFIX"], flags=namespaces.BIND)


# Containers.


def docker_profile_alone() -> None:
    """Be root under Docker's default seccomp profile, with all else as it is best."""
    open_to_all()
    docker_profile.load()


def docker() -> None:
    """Be root of a container as Docker makes it: its capabilities, profile, /proc, /dev/shm, cgroups."""
    kubernetes()
    docker_profile.load()


def docker_with_a_closed_temporary_directory() -> None:
    """Be under Docker's profile where no other user reaches the temporary directory."""
    open_to_all()
    os.chmod(os.environ["TMPDIR"], 0o700)
    docker_profile.load()


def docker_with_a_closed_hotbed() -> None:
    """Be under Docker's profile where no other user reaches hotbed."""
    open_to_all()
    directory = os.path.dirname(os.path.dirname(hotbed.__file__))
    inside = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _entries(directory)}
    namespaces.mount("closed", directory, "tmpfs", options="mode=700,size=1m")
    for path, fd in inside.items():
        _bind(fd, path)
        os.close(fd)
    docker_profile.load()


def docker_as_ordinary_user() -> None:
    """Be in such a container with another user than root."""
    masked_proc()
    read_only_cgroups()
    ordinary_user()
    docker_profile.load()


def kubernetes() -> None:
    """Be root of a container as Kubernetes makes it by default: as Docker's, but without a profile."""
    open_to_all()
    masked_proc()
    small_shared_memory()
    read_only_cgroups()
    privileges.drop_bounding(DOCKER_CAPABILITIES)
    privileges.set_capabilities(DOCKER_CAPABILITIES)


def masked_proc_as_ordinary_user() -> None:
    """Be an ordinary user where parts of /proc are hidden."""
    masked_proc()
    ordinary_user()


# Namespaces.


def no_user_namespaces() -> None:
    """Be where no user namespace can be made (user.max_user_namespaces=0)."""
    open_to_all()
    root_of_a_user_namespace()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def deep_in_pid_namespaces() -> None:
    """Be so deep in pid namespaces that one more can be made, but none below that one."""
    reader, writer = os.pipe()
    if _forked():
        depth = 0
        with contextlib.suppress(OSError):
            while True:
                namespaces.unshare(namespaces.NEW_PID)
                depth += 1
                _go_on_in_a_child()
        os.write(writer, bytes([depth]))
        os._exit(0)
    os.wait()
    [depth] = os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    for _ in range(depth - 1):
        namespaces.unshare(namespaces.NEW_PID)
        _go_on_in_a_child()
    own_mounts()
    namespaces.mount("proc", "/proc", "proc")


def _forked() -> bool:
    return os.fork() == 0


def _go_on_in_a_child() -> None:
    """Return in a child; this process ends when that does, and as that does."""
    if (pid := os.fork()) != 0:
        os._exit(abs(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    kernel.set_parent_death_signal()
