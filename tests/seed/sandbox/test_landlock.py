"""Landlock by real children: what each ABI denies, and what it does not."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import signal
import socket
import stat
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hotbed.seed import kernel
from hotbed.seed.sandbox import landlock, namespaces, privileges
from tests.seed.sandbox import forked

HERE = landlock.abi()
SYSTEM = ("/usr", "/lib", "/lib64", "/bin")  # what starting a program reads

pytestmark = pytest.mark.skipif(HERE == 0, reason="no Landlock; start a kernel with lsm=landlock,...")


@pytest.fixture(params=range(1, min(HERE, 7) + 1))
def abi(request: pytest.FixtureRequest) -> int:
    """Each ABI, as far as this kernel goes: it plays the older ones too."""
    version: int = request.param
    return version


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Three directories of like content: one to be read, one to be written, one for neither."""
    for name in ("readable", "writable", "other"):
        (tmp_path / name / "directory").mkdir(parents=True)
        (tmp_path / name / "file").write_text("text")
        (tmp_path / name / "second").write_text("text")
    return tmp_path


@contextmanager
def ruleset(abi: int, **rules: Any) -> Iterator[int]:
    fd = landlock.prepare(abi, **rules)
    try:
        yield fd
    finally:
        os.close(fd)


def enforce(fd: int) -> None:
    privileges.forbid_new()
    landlock.enforce(fd)


def confined(abi: int, attempt: Callable[[], Any], **rules: Any) -> Any:
    """What comes of `attempt` in a confined child: its value, or the name of its errno."""
    with ruleset(abi, **rules) as fd:

        def run() -> Any:
            enforce(fd)
            return attempt()

        return forked.value_of(run)


def in_place(abi: int, place: Path, attempt: Callable[[], Any], **rules: Any) -> Any:
    """`confined`, with the rules that the directories of `place` are named after."""
    granted = {"readable": [str(place / "readable")], "writable": [str(place / "writable")]}
    return confined(abi, attempt, **{**granted, **rules})


def done(action: Callable[[], object]) -> Callable[[], bool]:
    """True when `action` has come to its end, whatever it returns."""

    def run() -> bool:
        action()
        return True

    return run


# ── files ──

READS: dict[str, Callable[[Path], object]] = {
    "read": lambda directory: (directory / "file").read_text(),
    "opened by a longer path": lambda directory: os.open(
        f"{directory}/../{directory.name}/file", os.O_RDONLY
    ),
    "mapped": lambda directory: mmap.mmap(os.open(directory / "file", os.O_RDONLY), 4, prot=mmap.PROT_READ),
    "listed": os.listdir,
}
CHANGES: dict[str, Callable[[Path], object]] = {
    "written": lambda directory: (directory / "file").open("r+").close(),
    "overwritten": lambda directory: (directory / "file").write_text("new"),
    "made": lambda directory: (directory / "made").write_text("new"),
    "linked": lambda directory: os.link(directory / "file", directory / "linked"),
    "linked by symbol": lambda directory: (directory / "symbol").symlink_to("file"),
    "a directory": lambda directory: (directory / "new").mkdir(),
    "a directory removed": lambda directory: (directory / "directory").rmdir(),
    "a fifo": lambda directory: os.mkfifo(directory / "fifo"),
    "a socket": lambda directory: os.mknod(directory / "socket", stat.S_IFSOCK | 0o600),
    "renamed": lambda directory: (directory / "file").rename(directory / "renamed"),
    "removed": lambda directory: (directory / "second").unlink(),
}


def outcomes(actions: dict[str, Callable[[Path], object]], path: Path) -> dict[str, bool | str]:
    """What comes of each action on `path`: True, or the name of its errno."""

    def outcome(action: Callable[[Path], object]) -> bool | str:
        try:
            action(path)
        except OSError as error:
            return errno.errorcode[error.errno or 0]
        return True

    return {what: outcome(action) for what, action in actions.items()}


@pytest.mark.parametrize("name", ["readable", "writable"])
def test_what_is_readable_or_writable_is_read(abi: int, place: Path, name: str) -> None:
    found = in_place(abi, place, lambda: outcomes(READS, place / name))
    assert found == dict.fromkeys(READS, True)


def test_nothing_else_is_read(abi: int, place: Path) -> None:
    found = in_place(abi, place, lambda: outcomes(READS, place / "other"))
    assert found == dict.fromkeys(READS, "EACCES")


@pytest.mark.parametrize(("name", "status"), [("readable", 0), ("writable", 0), ("other", "EACCES")])
def test_a_program_runs_where_it_may_be_read(abi: int, place: Path, name: str, status: object) -> None:
    program = place / name / "true"
    program.write_bytes(Path("/bin/true").read_bytes())
    program.chmod(0o755)

    def run() -> int:
        child = os.posix_spawn(program, ["true"], {})
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    readable = [str(place / "readable"), *SYSTEM]
    assert in_place(abi, place, run, readable=readable, skip_missing=True) == status


@pytest.mark.parametrize("name", ["readable", "other"])
def test_what_is_not_writable_is_not_changed(abi: int, place: Path, name: str) -> None:
    found = in_place(abi, place, lambda: outcomes(CHANGES, place / name))
    assert found == dict.fromkeys(CHANGES, "EACCES")


def test_what_is_writable_is_changed(abi: int, place: Path) -> None:
    found = in_place(abi, place, lambda: outcomes(CHANGES, place / "writable"))
    assert found == dict.fromkeys(CHANGES, True)


def test_a_writable_file_is_truncated(abi: int, place: Path) -> None:
    file = place / "writable" / "file"
    assert in_place(abi, place, done(lambda: os.truncate(file, 1))) is True
    assert file.read_text() == "t"


def test_a_file_moves_between_directories_from_abi_2_on(abi: int, place: Path) -> None:
    def move() -> None:
        (place / "writable" / "file").rename(place / "writable" / "directory" / "file")

    assert in_place(abi, place, done(move)) == (True if abi >= 2 else "EXDEV")


def test_no_file_moves_out_to_where_it_may_not_be_written(abi: int, place: Path) -> None:
    def move() -> None:
        (place / "writable" / "file").rename(place / "readable" / "moved")

    assert in_place(abi, place, done(move)) == "EACCES"


@pytest.mark.parametrize("name", ["readable", "other"])
def test_before_abi_3_any_file_can_be_truncated(abi: int, place: Path, name: str) -> None:
    truncated = in_place(abi, place, done(lambda: os.truncate(place / name / "file", 0)))
    assert truncated == (True if abi < 3 else "EACCES")


@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK], ids=["character", "block"])
def test_no_device_is_made(abi: int, place: Path, kind: int) -> None:
    def make() -> None:
        os.mknod(place / "writable" / "device", kind | 0o600, os.makedev(1, 3))

    assert in_place(abi, place, done(make)) == "EACCES"


@pytest.mark.parametrize("mode", ["r+", "w"])
def test_a_single_file_is_written_and_truncated(abi: int, place: Path, mode: str) -> None:
    file = place / "other" / "file"
    opened = done(lambda: file.open(mode).close())
    assert in_place(abi, place, opened, writable_files=[str(file)]) is True


def test_a_single_file_is_neither_removed_nor_run_and_its_neighbours_stay_closed(
    abi: int, place: Path
) -> None:
    file, neighbour = place / "other" / "file", place / "other" / "neighbour"
    neighbour.write_text("text")
    file.chmod(0o755)
    for attempt in (file.unlink, neighbour.read_text, lambda: os.posix_spawn(file, ["file"], {})):
        assert in_place(abi, place, done(attempt), writable_files=[str(file)]) == "EACCES"


def test_the_null_device_is_written(abi: int) -> None:
    def write() -> int:
        return os.write(os.open("/dev/null", os.O_RDWR), b"text")

    assert confined(abi, write, writable_files=["/dev/null"]) == 4


def test_from_abi_5_on_no_device_opened_later_is_driven_by_ioctl(abi: int) -> None:
    def ask() -> None:
        fcntl.ioctl(os.open("/dev/null", os.O_RDWR), termios.TIOCGWINSZ, bytes(8))

    assert confined(abi, ask, writable_files=["/dev/null"]) == ("EACCES" if abi >= 5 else "ENOTTY")


def test_a_descriptor_that_is_open_already_stays_usable(abi: int, place: Path) -> None:
    with open(place / "other" / "file", "rb") as file:
        assert in_place(abi, place, lambda: os.pread(file.fileno(), 4, 0).decode()) == "text"


def test_a_rule_for_a_file_is_a_rule_for_it_alone(abi: int, place: Path) -> None:
    file, neighbour = place / "other" / "file", place / "other" / "neighbour"
    neighbour.write_text("text")
    assert confined(abi, file.read_text, readable=[str(file)]) == "text"
    assert confined(abi, neighbour.read_text, readable=[str(file)]) == "EACCES"


def test_a_link_stands_for_what_it_leads_to(abi: int, place: Path) -> None:
    link = place / "link"
    link.symlink_to("other")
    assert confined(abi, (place / "other" / "file").read_text, readable=[str(link)]) == "text"


def test_a_link_in_a_writable_directory_leads_nowhere_else(abi: int, place: Path) -> None:
    link = place / "writable" / "link"

    def follow() -> str:
        link.symlink_to(place / "other" / "file")
        return link.read_text()

    assert in_place(abi, place, follow) == "EACCES"


LOOKS: dict[str, Callable[[Path], object]] = {
    "environ": lambda process: (process / "environ").read_bytes(),
    "maps": lambda process: (process / "maps").read_bytes(),
    "mem": lambda process: (process / "mem").open("rb").close(),
    "cwd": lambda process: (process / "cwd").readlink(),
    "exe": lambda process: (process / "exe").readlink(),
    "fd": lambda process: (process / "fd" / "0").readlink(),
    "root": lambda process: os.listdir(process / "root" / "etc"),
}


def test_no_process_outside_is_looked_into(abi: int) -> None:
    outside = Path(f"/proc/{os.getpid()}")

    def look() -> dict[str, bool | str]:
        privileges.set_capabilities(frozenset())  # CAP_PERFMON alone would do to read some of these
        return outcomes(LOOKS, outside)

    assert confined(abi, look, readable=["/"]) == dict.fromkeys(LOOKS, "EACCES")


# ── mounts ──


def test_nothing_is_mounted_by_who_is_confined(abi: int, place: Path) -> None:
    with ruleset(abi, writable=["/"]) as fd:

        def mount() -> None:
            forked.own_mounts()
            enforce(fd)
            namespaces.mount("tmpfs", str(place / "other"), "tmpfs")

        assert forked.value_of(done(mount)) == "EPERM"


def later_mounted(abi: int, rule: Path, mount_point: Path, *, times: int = 1) -> Any:
    """Whether a file can be made in a tmpfs mounted between the making of a rule and its enforcement."""
    with ruleset(abi, writable=[str(rule)]) as fd:

        def run() -> bool:
            forked.own_mounts()
            for _ in range(times):
                namespaces.mount("tmpfs", str(mount_point), "tmpfs")
            enforce(fd)
            (mount_point / "new").write_text("text")
            return True

        return forked.value_of(run)


def test_a_rule_on_the_parent_of_a_mount_point_holds_for_what_is_mounted_there_later(
    abi: int, place: Path
) -> None:
    assert later_mounted(abi, place / "writable", place / "writable" / "directory") is True


def test_a_rule_on_the_parent_holds_through_two_mounts_at_one_place(abi: int, place: Path) -> None:
    assert later_mounted(abi, place / "writable", place / "writable" / "directory", times=2) is True


def test_a_rule_on_the_root_holds_for_what_is_mounted_anywhere_later(abi: int, place: Path) -> None:
    assert later_mounted(abi, Path("/"), place / "other") is True


def test_a_rule_on_the_mount_point_itself_does_not_hold_for_what_is_mounted_there_later(
    abi: int, place: Path
) -> None:
    assert later_mounted(abi, place / "writable", place / "writable") == "EACCES"


def test_a_rule_on_a_mounted_root_does_not_hold_for_what_is_mounted_over_it(abi: int, place: Path) -> None:
    def run() -> bool:
        forked.own_mounts()
        point = place / "other"
        namespaces.mount("tmpfs", str(point), "tmpfs")
        fd = landlock.prepare(abi, writable=[str(point)])
        namespaces.mount("tmpfs", str(point), "tmpfs")
        enforce(fd)
        (point / "new").write_text("text")
        return True

    assert forked.value_of(run) == "EACCES"


# ── TCP ──


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def connects(listener: socket.socket) -> bool:
    socket.socket().connect(listener.getsockname())
    return True


def binds() -> bool:
    socket.socket().bind(("127.0.0.1", 0))
    return True


def test_from_abi_4_on_no_tcp_means_neither_connecting_nor_binding(abi: int, listener: socket.socket) -> None:
    expected = "EACCES" if abi >= 4 else True
    assert confined(abi, lambda: connects(listener), connect=[]) == expected
    assert confined(abi, binds, connect=[]) == expected


def test_from_abi_4_on_granted_ports_are_connected_to_and_no_others(
    abi: int, listener: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        ports = [listener.getsockname()[1]]
        expected = "EACCES" if abi >= 4 else True
        assert confined(abi, lambda: connects(listener), connect=ports) is True
        assert confined(abi, lambda: connects(other), connect=ports) == expected
        assert confined(abi, binds, connect=ports) == expected


def test_tcp_is_left_alone_without_a_rule_for_it(abi: int, listener: socket.socket) -> None:
    assert confined(abi, lambda: connects(listener), connect=None) is True
    assert confined(abi, binds, connect=None) is True


# ── scopes ──


@pytest.mark.parametrize("way", ["kill", "pidfd"])
def test_from_abi_6_on_no_process_outside_is_signalled(abi: int, way: str) -> None:
    outside = os.getpid()

    def send() -> bool:
        if way == "kill":
            os.kill(outside, 0)
        else:
            signal.pidfd_send_signal(os.pidfd_open(outside), 0)
        return True

    assert confined(abi, send) == ("EPERM" if abi >= 6 else True)


def test_from_abi_6_on_siblings_under_one_ruleset_do_not_signal_each_other(abi: int) -> None:
    with ruleset(abi) as fd, forked.waiting(lambda: enforce(fd)) as sibling:
        sent = confined(abi, done(lambda: os.kill(sibling, 0)))
    assert sent == ("EPERM" if abi >= 6 else True)


def test_a_process_signals_itself_and_its_own_children(abi: int) -> None:
    def run() -> list[int]:
        os.kill(os.getpid(), 0)
        child = forked.fork()
        if child == 0:
            signal.pause()
        os.kill(child, signal.SIGKILL)
        return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]

    assert confined(abi, run) == [-signal.SIGKILL]


def test_a_process_outside_signals_who_is_confined(abi: int) -> None:
    with ruleset(abi) as fd, forked.waiting(lambda: enforce(fd)) as confined_pid:
        os.kill(confined_pid, signal.SIGKILL)  # a PermissionError here would fail the test


def test_without_scopes_processes_outside_are_signalled(abi: int) -> None:
    outside = os.getpid()
    assert confined(abi, done(lambda: os.kill(outside, 0)), scopes=False) is True


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["stream", "datagram"])
def test_from_abi_6_on_no_abstract_socket_outside_is_reached(abi: int, kind: socket.SocketKind) -> None:
    address = f"\0hotbed-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, kind) as outside:
        outside.bind(address)
        if kind == socket.SOCK_STREAM:
            outside.listen()

        def reach() -> bool:
            inside = socket.socket(socket.AF_UNIX, kind)
            if kind == socket.SOCK_STREAM:
                inside.connect(address)
            else:
                inside.sendto(b"text", address)
            return True

        assert confined(abi, reach) == ("EPERM" if abi >= 6 else True)


def test_a_process_reaches_its_own_abstract_sockets(abi: int) -> None:
    def reach() -> bool:
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
            listener.bind("")  # the kernel chooses an abstract name
            listener.listen()
            client.connect(listener.getsockname())
        return True

    assert confined(abi, reach) is True


# ── what no ABI here guards: other walls must ──


def test_metadata_is_seen_and_changed_everywhere(abi: int, place: Path) -> None:
    def change() -> int:
        (place / "other" / "file").chmod(0o640)
        os.chdir(place / "other")
        return stat.S_IMODE((place / "other" / "file").stat().st_mode)

    assert in_place(abi, place, change) == 0o640


def test_a_unix_socket_is_reached_by_its_path(abi: int, place: Path) -> None:
    path = str(place / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with socket.socket(socket.AF_UNIX) as client:
            assert in_place(abi, place, done(lambda: client.connect(path))) is True


def test_udp_leaves_although_no_tcp_does(abi: int) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outside,
        socket.socket(type=socket.SOCK_DGRAM) as own,
    ):
        outside.bind(("127.0.0.1", 0))
        assert confined(abi, lambda: own.sendto(b"text", outside.getsockname()), connect=[]) == 4


def test_an_unbound_socket_listens_although_none_may_be_bound(abi: int) -> None:
    with socket.socket() as own:
        assert confined(abi, done(own.listen), connect=[]) is True


# ── rulesets ──


def test_the_kernels_abi_is_told() -> None:
    assert HERE >= 1


def test_a_ruleset_is_closed_on_exec() -> None:
    with ruleset(1) as fd:
        assert not os.get_inheritable(fd)


def test_a_kernel_without_landlock_gets_no_ruleset() -> None:
    with pytest.raises(ValueError, match="ABI 0"):
        landlock.prepare(0)


def test_a_path_that_does_not_exist_is_an_error(place: Path) -> None:
    missing = str(place / "missing")
    with pytest.raises(FileNotFoundError, match=missing):
        landlock.prepare(1, readable=[missing])


def test_a_path_that_does_not_exist_is_left_out_if_said_so(abi: int, place: Path) -> None:
    readable = [str(place / "missing"), str(place / "readable")]
    read = (place / "readable" / "file").read_text
    assert confined(abi, read, readable=readable, skip_missing=True) == "text"


def test_a_directory_is_no_single_file(place: Path) -> None:
    with pytest.raises(IsADirectoryError):
        landlock.prepare(1, writable_files=[str(place)])


def test_a_port_that_is_none_is_refused() -> None:
    if HERE < 4:
        pytest.skip(f"this kernel has Landlock ABI {HERE}; 4 has TCP")
    with pytest.raises(OSError, match="Invalid argument"):
        landlock.prepare(4, connect=[65536])


def test_rules_cannot_be_taken_back_by_a_wider_ruleset(abi: int, place: Path) -> None:
    with ruleset(abi, readable=["/"]) as wide:

        def widen() -> str:
            landlock.enforce(wide)
            return (place / "other" / "file").read_text()

        assert in_place(abi, place, widen) == "EACCES"


def test_an_open_ruleset_is_widened_by_its_holder_for_those_who_come_later(abi: int, place: Path) -> None:
    with ruleset(abi, readable=[str(place / "readable")]) as fd:

        def widen() -> str:
            enforce(fd)
            landlock._grant(fd, str(place / "other"), landlock._READABLE, skip_missing=False)
            return (place / "other" / "file").read_text()

        def read() -> str:
            enforce(fd)
            return (place / "other" / "file").read_text()

        assert forked.value_of(widen) == "EACCES"  # what is in force stays as it is
        assert forked.value_of(read) == "text"


# ── the audit log ──

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2


def refuse_flags(number: int, *, but: int) -> None:
    """Have landlock_restrict_self fail with `number` where its flags are not `but`."""
    load, equal, answer = 0x20, 0x15, 0x06
    allow, fail = 0x7FFF0000, 0x00050000 | number
    steps = (
        (load, 0, 0, 0),  # the number of the call
        (equal, 0, 2, 446),  # any other call is allowed
        (load, 0, 0, 24),  # the low half of its second argument
        (equal, 0, 1, but),
        (answer, 0, 0, allow),
        (answer, 0, 0, fail),
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    kernel.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(program))


def enforced_where_flags_are_refused(number: int, *, but: int) -> Any:
    with ruleset(1) as fd:

        def run() -> bool:
            privileges.forbid_new()
            refuse_flags(number, but=but)
            landlock.enforce(fd)
            os.open("/", os.O_RDONLY)
            return True

        return forked.value_of(run)


def test_denials_are_kept_out_of_the_audit_log() -> None:
    if HERE < 7:
        pytest.skip(f"this kernel has Landlock ABI {HERE}; 7 has the audit log")
    off = 1 << 0 | 1 << 2  # for what is denied to this program, and to domains below its own
    assert enforced_where_flags_are_refused(errno.ENOTSUP, but=0) == "ENOTSUP"
    assert enforced_where_flags_are_refused(errno.ENOTSUP, but=off) == "EACCES"


def test_a_kernel_that_knows_no_flags_enforces_too() -> None:
    assert enforced_where_flags_are_refused(errno.EINVAL, but=0) == "EACCES"


# ── interpreters ──


def test_it_holds_on_each_interpreter(seed_python: Path, place: Path) -> None:
    code = f"""
import json, os
from seed.sandbox import landlock, privileges
place, abi = {str(place)!r}, landlock.abi()
fd = landlock.prepare(abi, readable=[place + "/readable"], writable_files=["/dev/null"], connect=[])
privileges.forbid_new()
landlock.enforce(fd)
opened = []
for name in ("readable", "other"):
    try:
        os.open(f"{{place}}/{{name}}/file", os.O_RDONLY)
        opened.append(name)
    except PermissionError:
        pass
print(json.dumps([abi, opened]))
"""
    assert forked.printed_by(seed_python, code) == [HERE, ["readable"]]
