"""Groups of processes on the kernel that is here, version 1 or 2, whichever has the controllers."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from hotbed.errors import EngineError
from hotbed.proc import cgroup, hierarchy
from hotbed.proc.cgroup import Cgroups, Unavailable
from hotbed.proc.slot import Slot

MIB = 1024**2
PATIENCE_S = 10.0
NOBODY = 65534

ENTER = """
import os, sys, time
for fd in map(int, sys.argv[1:]):
    os.write(fd, b"0")
    os.close(fd)
"""
SLEEP = "print('in', flush=True); time.sleep(60)"
CHILDREN = """
made = 0
try:
    while made < {most}:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except BlockingIOError:
    pass
print(made, flush=True)
"""
BOMB = """
while True:
    try:
        os.fork()
    except BlockingIOError:
        os.write(1, b"!")
        time.sleep(0.05)
"""


def name() -> str:
    return f"hotbed-test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def groups() -> Iterator[Cgroups]:
    found = cgroup.find(name())
    if isinstance(found, Unavailable):
        pytest.skip(f"no cgroups: {found.reason}")
    yield found
    found.close()
    assert not any(map(os.path.exists, found.paths))


def needs(groups: Cgroups, *controllers: str) -> None:
    if missing := set(controllers) - groups.controllers:
        pytest.skip(f"no controller {missing}: {groups.problems}")


def inside(slot: Slot, work: str) -> subprocess.Popen[str]:
    """A process that enters the slot and then runs `work`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", ENTER + work, *map(str, slot.entrances)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=slot.entrances,
    )


def word(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE_S)[0], "it says nothing"
    return process.stdout.readline().strip()


def end(process: subprocess.Popen[str], slot: Slot) -> None:
    """Kill all that is in a slot and wait until nobody holds the process's streams any more."""
    slot.kill()
    process.communicate(timeout=PATIENCE_S)


def files(slot: Slot, name: str) -> list[Path]:
    return [path for each in slot.directories if (path := Path(each, name)).exists()]


def forked(work: Callable[[], str]) -> str:
    """What `work` gives in a fork of this process."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = work()
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


# ── limits ──


def test_memory_beyond_the_limit_kills_and_is_counted(groups: Cgroups) -> None:
    needs(groups, "memory")
    slot = groups.take()
    slot.limit(64 * MIB, None, None)
    process = inside(slot, f"bytearray({128 * MIB})")
    process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, slot.oom_kills() >= 1) == (-signal.SIGKILL, True)


def test_memory_is_that_of_the_whole_tree(groups: Cgroups) -> None:
    needs(groups, "memory")
    slot = groups.take()
    slot.limit(96 * MIB, None, None)
    process = inside(slot, f"os.fork(); kept = b'x' * {64 * MIB}; print('in', flush=True); time.sleep(60)")
    word(process)
    poll = select.poll()  # either one of the two is killed, or all are
    assert process.stdout is not None
    deadline = time.monotonic() + PATIENCE_S
    while slot.oom_kills() == 0 and time.monotonic() < deadline:
        poll.poll(10)
    assert slot.oom_kills() >= 1
    end(process, slot)


def test_the_peak_of_memory_is_read(groups: Cgroups) -> None:
    needs(groups, "memory")
    slot = groups.take()
    inside(slot, f"bytearray(b'x') * {48 * MIB}").communicate(timeout=PATIENCE_S)
    peak = slot.memory_peak()
    assert peak is None or 48 * MIB <= peak <= 80 * MIB


def test_limits_do_not_spill_into_swap(groups: Cgroups) -> None:
    needs(groups, "memory")
    slot = groups.take()
    slot.limit(64 * MIB, None, None)
    for file, value in (("memory.swap.max", "0"), ("memory.memsw.limit_in_bytes", str(64 * MIB))):
        assert all(path.read_text().strip() == value for path in files(slot, file))


@pytest.mark.parametrize("steps", [[64, 32, 128], [32, None, 16], [None, 64, 64, None]])
def test_a_limit_of_memory_may_be_raised_and_lowered(groups: Cgroups, steps: Sequence[int | None]) -> None:
    needs(groups, "memory")
    slot = groups.take()
    shown = []
    for step in steps:
        slot.limit(None if step is None else step * MIB, None, None)
        (file,) = files(slot, "memory.max") or files(slot, "memory.limit_in_bytes")
        text = file.read_text().strip()
        shown.append(None if text == "max" or int(text) > 2**60 else int(text) // MIB)
    assert shown == steps


def test_one_process_more_than_the_limit_is_refused(groups: Cgroups) -> None:
    needs(groups, "pids")
    slot = groups.take()
    slot.limit(None, 10, None)
    process = inside(slot, CHILDREN.format(most=20) + "time.sleep(60)")
    assert int(word(process)) == 9  # and itself makes ten
    assert slot.fork_refusals() == 1
    end(process, slot)


def test_threads_count_as_processes(groups: Cgroups) -> None:
    needs(groups, "pids")
    slot = groups.take()
    slot.limit(None, 4, None)
    work = "import _thread; [_thread.start_new_thread(time.sleep, (60,)) for _ in range(4)]"
    process = inside(slot, work)
    _out, err = process.communicate(timeout=PATIENCE_S)
    assert "can't start new thread" in err


def test_cpu_is_held_to_its_share(groups: Cgroups) -> None:
    needs(groups, "cpu")
    slot = groups.take()
    slot.limit(None, None, 0.2)
    work = """
before, end = time.process_time(), time.monotonic() + 0.6
while time.monotonic() < end: pass
print(time.process_time() - before)
"""
    out, _err = inside(slot, work).communicate(timeout=PATIENCE_S)
    assert float(out) < 0.3  # 0.12 s, and a period's share more at either end


@pytest.mark.parametrize(
    ("memory_bytes", "processes", "cpu_cores"), [(2**62, 2**31, 1e6), (MIB, 1, 1e-6), (4097, 2, 0.011)]
)
def test_any_value_is_taken(groups: Cgroups, memory_bytes: int, processes: int, cpu_cores: float) -> None:
    slot = groups.take()
    slot.limit(memory_bytes, processes, cpu_cores)
    slot.limit(None, None, None)


def test_a_limit_that_is_set_already_is_not_written_again(groups: Cgroups) -> None:
    needs(groups, "pids")
    slot = groups.take()
    slot.limit(None, 10, None)
    (file,) = files(slot, "pids.max")
    file.write_text("77")
    slot.limit(None, 10, None)
    assert file.read_text().strip() == "77"


def test_a_refused_limit_is_an_error_that_names_the_file(groups: Cgroups) -> None:
    slot = groups.take()
    slot.remove()
    with pytest.raises(EngineError, match=r"cannot set .*slot-1.* to 65536"):
        slot.limit(65536, 1, 0.5)


# ── reuse ──


def test_a_slot_is_used_again_and_its_counters_begin_anew(groups: Cgroups) -> None:
    needs(groups, "memory", "pids")
    slot = groups.take()
    slot.limit(64 * MIB, 3, None)
    inside(slot, f"bytearray({128 * MIB})").communicate(timeout=PATIENCE_S)
    process = inside(slot, CHILDREN.format(most=20))
    word(process)
    end(process, slot)
    assert min(slot.oom_kills(), slot.fork_refusals()) >= 1
    returned = given_back_empty(groups, slot)
    again = groups.take()
    assert again is slot is returned
    assert (again.oom_kills(), again.fork_refusals()) == (0, 0)
    assert (again.memory_peak() or 0) < 32 * MIB


def given_back_empty(groups: Cgroups, slot: Slot) -> Slot:
    """Give a slot back once all that died in it is reaped: an orphan is by whoever adopts it."""
    deadline = time.monotonic() + PATIENCE_S
    while not slot.is_empty() and time.monotonic() < deadline:
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
    groups.give_back(slot)
    return slot


def test_cpu_counts_from_when_the_slot_was_taken(groups: Cgroups) -> None:
    slot = groups.take()
    work = "end = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    inside(slot, work).communicate(timeout=PATIENCE_S)
    used = slot.cpu_s()
    groups.give_back(slot)
    again = groups.take().cpu_s()
    if used is None or again is None:
        assert groups.version == 1  # cpuacct has a tree of its own
    else:
        assert used >= 0.2 > 0.02 > again


def test_a_reused_slot_opens_no_descriptor(groups: Cgroups) -> None:
    groups.give_back(groups.take())
    before = os.listdir("/proc/self/fd")
    groups.take().limit(64 * MIB, 10, 0.5)
    assert os.listdir("/proc/self/fd") == before


def test_a_new_slot_opens_three_descriptors_at_most(groups: Cgroups) -> None:
    before = len(os.listdir("/proc/self/fd"))
    groups.take()
    assert len(os.listdir("/proc/self/fd")) <= before + 3


def test_a_slot_in_which_something_lives_is_not_used_again(groups: Cgroups) -> None:
    slot = groups.take()
    process = inside(slot, SLEEP)
    word(process)
    groups.give_back(slot)
    assert groups.take() is not slot
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL


def test_a_slot_whose_dead_are_not_reaped_is_not_used_again(groups: Cgroups) -> None:
    needs(groups, "pids")  # they count against the next holder's limit
    slot = groups.take()
    process = inside(slot, "print('in', flush=True)")
    word(process)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    groups.give_back(slot)
    assert groups.take() is not slot
    process.communicate(timeout=PATIENCE_S)


def test_a_condemned_slot_is_free_once_it_is_empty(groups: Cgroups) -> None:
    slot, other = groups.take(), groups.take()
    process = inside(slot, SLEEP)
    word(process)
    groups.give_back(slot)
    process.communicate(timeout=PATIENCE_S)
    groups.give_back(other)
    assert {groups.take(), groups.take()} == {slot, other}


def test_a_slot_that_was_killed_takes_processes_again(groups: Cgroups) -> None:
    slot = groups.take()
    slot.limit(None, 5, None)
    slot.kill()
    slot.limit(None, 5, None)
    process = inside(slot, CHILDREN.format(most=2))
    assert word(process) == "2"
    end(process, slot)


def test_a_group_that_somebody_removed_is_replaced(groups: Cgroups) -> None:
    slot = groups.take()
    slot.remove()
    groups.give_back(slot)
    inside(groups.take(), "").communicate(timeout=PATIENCE_S)
    assert groups.take() is not slot


def test_no_slot_has_two_holders(groups: Cgroups) -> None:
    held: set[Slot] = set()
    clashes = []

    def work() -> None:
        for _ in range(50):
            slot = groups.take()
            if slot in held:
                clashes.append(slot)
            held.add(slot)
            held.discard(slot)
            groups.give_back(slot)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clashes == []


# ── the end ──


def test_a_fork_bomb_is_killed_whole(groups: Cgroups) -> None:
    needs(groups, "pids")
    slot = groups.take()
    slot.limit(256 * MIB, 60, None)
    process = inside(slot, BOMB)
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], PATIENCE_S)[0], "it never reaches its limit"
    end(process, slot)
    assert slot.fork_refusals() > 0
    assert not any(path.read_text() for path in files(slot, "cgroup.procs"))


def test_closing_kills_what_is_inside_and_leaves_nothing(groups: Cgroups) -> None:
    processes = [inside(groups.take(), SLEEP) for _ in range(3)]
    for process in processes:
        word(process)
    groups.close()
    assert not any(map(os.path.exists, groups.paths))
    for process in processes:
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGKILL


def test_nothing_is_taken_after_the_end(groups: Cgroups) -> None:
    groups.close()
    with pytest.raises(EngineError, match="closed"):
        groups.take()


def test_a_slot_may_come_back_after_the_end(groups: Cgroups) -> None:
    slot = groups.take()
    groups.close()
    groups.give_back(slot)
    assert slot.entrances == []


def test_another_process_removes_what_a_killed_engine_leaves() -> None:
    engine = f"""
from hotbed.proc import cgroup
import os, signal
found = cgroup.find({name()!r})
if isinstance(found, cgroup.Cgroups):
    found.give_back(found.take()); found.take(); found.take()
    print(*found.paths, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    out = subprocess.run([sys.executable, "-c", engine], capture_output=True, text=True, check=False).stdout
    paths = out.split()
    if not paths:
        pytest.skip("no cgroups")
    assert all(map(os.path.isdir, paths))
    for path in paths:
        cgroup.remove(path, 1.0)
    assert not any(map(os.path.exists, paths))


def test_removal_waits_for_a_death(groups: Cgroups) -> None:
    slot = groups.take()
    process = inside(slot, SLEEP)
    word(process)
    waker = threading.Timer(0.1, process.kill)
    waker.start()
    groups_paths = groups.paths
    slot.close()
    for path in groups_paths:
        cgroup.remove(path, PATIENCE_S)
    waker.join()
    process.communicate(timeout=PATIENCE_S)
    assert not any(map(os.path.exists, groups_paths))


def test_removal_gives_up_in_time(groups: Cgroups) -> None:
    slot = groups.take()
    process = inside(slot, SLEEP)
    word(process)
    started = time.monotonic()
    cgroup.remove(groups.paths[0], 0.1)
    assert 0.1 <= time.monotonic() - started < 2.0
    end(process, slot)


def test_a_fork_of_the_host_lets_go_and_removes_nothing(groups: Cgroups) -> None:
    slot = groups.take()

    def work() -> str:
        groups.disown()
        return str(slot.entrances)

    assert forked(work) == "[]"
    inside(slot, "").communicate(timeout=PATIENCE_S)
    assert all(map(os.path.isdir, groups.paths))


# ── finding ──


def test_finding_leaves_nothing_but_the_engine_s_own_group(groups: Cgroups) -> None:
    assert [os.path.basename(path) for path in groups.paths] == [os.path.basename(groups.paths[0])] * len(
        groups.paths
    )
    assert not any(entry.is_dir() for path in groups.paths for entry in os.scandir(path))


def test_the_host_is_not_moved(groups: Cgroups) -> None:
    before = Path("/proc/self/cgroup").read_text()
    found = cgroup.find(name())
    assert isinstance(found, Cgroups)
    found.take()
    found.close()
    assert Path("/proc/self/cgroup").read_text() == before


def test_a_name_in_use_is_refused_and_its_owner_keeps_its_groups(groups: Cgroups) -> None:
    slot = groups.take()
    groups.give_back(slot)
    found = cgroup.find(os.path.basename(groups.paths[0]))
    assert isinstance(found, Unavailable)
    assert "File exists" in found.reason
    assert all(map(os.path.isdir, slot.directories))


def test_a_named_directory_is_used(groups: Cgroups, monkeypatch: pytest.MonkeyPatch) -> None:
    home = groups.take()
    monkeypatch.setenv(hierarchy.SETTING, ":".join(home.directories))
    found = cgroup.find(name())
    assert isinstance(found, Cgroups), found
    assert found.controllers == groups.controllers
    assert [os.path.dirname(path) for path in found.paths] == home.directories
    found.close()


def test_a_name_that_is_no_group_is_refused_and_nothing_else_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(hierarchy.SETTING, str(tmp_path))
    found = cgroup.find(name())
    assert isinstance(found, Unavailable)
    assert str(tmp_path) in found.reason


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that change what a process may see, and want nothing named to it."""
    if os.geteuid() != 0:
        pytest.skip("run as root: it changes what a process may see")
    monkeypatch.delenv(hierarchy.SETTING, raising=False)


@pytest.mark.usefixtures("as_root")
def test_an_ordinary_user_is_told_what_is_missing() -> None:
    def work() -> str:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return str(cgroup.find(name()))

    text = forked(work)
    assert text.startswith("Unavailable")
    assert f"user {NOBODY} may not write to" in text


MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 32, 4096, 16384, 1 << 18, 2
CLONE_NEWNS, CLONE_NEWCGROUP = 0x20000, 0x2000000


def private_mounts(flags: int = 0) -> ctypes.CDLL:
    """Give this process (a fork) mounts of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | flags) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "no mounts of its own")
    return libc


def points() -> list[bytes]:
    return [os.fsencode(mount.point) for mount in hierarchy.mounts(Path("/proc/self/mountinfo").read_text())]


@pytest.mark.usefixtures("as_root")
def test_a_read_only_mount_is_said() -> None:
    def work() -> str:
        libc = private_mounts()
        for point in points():
            libc.mount(b"none", point, None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)
        return str(cgroup.find(name()))

    text = forked(work)
    assert text.startswith("Unavailable")
    assert "mounted read-only" in text


@pytest.mark.usefixtures("as_root")
def test_a_system_without_cgroups_is_said() -> None:
    def work() -> str:
        libc = private_mounts()
        for point in points():
            libc.umount2(point, MNT_DETACH)
        return str(cgroup.find(name()))

    assert "no cgroups are mounted here" in forked(work)


def in_container_s_view(groups: Cgroups, work: Callable[[], str], *, remount: bool) -> str:
    """What `work` gives to a process for which a slot of `groups` is the root of all groups."""
    slot = groups.take()
    kinds = {mount.point: mount for mount in hierarchy.mounts(Path("/proc/self/mountinfo").read_text())}

    def enclosed() -> str:
        for fd in slot.entrances:
            os.write(fd, b"0")
        libc = private_mounts(CLONE_NEWCGROUP)
        for point, mount in kinds.items() if remount else ():
            kind = b"cgroup2" if mount.version == 2 else b"cgroup"
            options = b",".join(
                word.encode() for word in sorted(mount.controllers) if word not in ("rw", "ro", "xattr")
            )
            libc.umount2(os.fsencode(point), MNT_DETACH)
            if libc.mount(kind, os.fsencode(point), kind, 0, options or None):
                return f"cannot mount {point}: {errno.errorcode[ctypes.get_errno()]}"
        return work()

    text = forked(enclosed)
    groups.give_back(slot)
    return text


@pytest.mark.usefixtures("as_root")
def test_a_container_s_own_view_is_enough_in_version_1(groups: Cgroups) -> None:
    """In version 2 the one group that it sees holds its processes, and so can pass nothing on."""

    def work() -> str:
        found = cgroup.find(name())
        if isinstance(found, Unavailable):
            return found.reason
        found.take().limit(64 * MIB, 10, 0.5)
        found.close()
        return f"{sorted(found.controllers)}, {[os.path.exists(path) for path in found.paths]}"

    text = in_container_s_view(groups, work, remount=True)
    if groups.version == 1:
        assert text == f"{sorted(groups.controllers)}, {[False] * len(groups.paths)}"
    else:
        assert "cannot while it holds processes" in text


@pytest.mark.usefixtures("as_root")
def test_a_view_that_hides_the_own_group_is_said(groups: Cgroups) -> None:
    text = in_container_s_view(groups, lambda: str(cgroup.find(name())), remount=False)
    assert text.startswith("Unavailable")
    assert "lies outside of what is mounted" in text


# ── version 2 as systemd hands it over; none of these where another version has the controllers ──

TREES = [
    mount.point
    for mount in hierarchy.mounts(Path("/proc/self/mountinfo").read_text())
    if mount.version == 2
    and os.geteuid() == 0
    and "memory" in Path(mount.point, "cgroup.subtree_control").read_text().split()
]


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A group with a subgroup for the process in it, as Delegate=yes and DelegateSubgroup= make them."""
    directory = Path(request.param, name())
    (directory / "main").mkdir(parents=True)
    yield directory
    (directory / "main").rmdir()
    directory.rmdir()


def in_service(directory: Path, user: int) -> str:
    def work() -> str:
        (directory / "cgroup.procs").write_text("0")
        os.setgroups([])
        os.setresuid(user, user, user)
        found = cgroup.find(name())
        if isinstance(found, Unavailable):
            return found.reason
        slot = found.take()
        slot.limit(64 * MIB, 10, 0.5)
        process = inside(slot, "print(open('/proc/self/cgroup').read().strip()[3:])")
        text = word(process)
        process.communicate(timeout=PATIENCE_S)
        found.close()
        return f"{sorted(found.controllers)} in {text}"

    return forked(work)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("service", TREES, indirect=True)
def test_a_service_of_systemd_s_uses_what_was_handed_over(service: Path) -> None:
    os.setxattr(service, "user.delegate", b"1")
    text = in_service(service / "main", 0)
    assert text.startswith(f"['cpu', 'memory', 'pids'] in /{service.name}/hotbed-test-")


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("service", TREES, indirect=True)
def test_an_ordinary_user_uses_what_was_handed_over(service: Path) -> None:
    for path in (service, *service.glob("cgroup.*"), service / "main", *(service / "main").glob("cgroup.*")):
        if path.name in (service.name, "main", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"):
            os.chown(path, NOBODY, NOBODY)
    text = in_service(service / "main", NOBODY)
    assert text.startswith(f"['cpu', 'memory', 'pids'] in /{service.name}/hotbed-test-")
