"""Resource limits by real children: what the kernel refuses, and what it does not count."""

from __future__ import annotations

import mmap
import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotbed.seed.sandbox import privileges, rlimits
from hotbed.seed.sandbox.rlimits import Rlimits
from tests.seed.sandbox import forked

MIB = 1024**2
BY_FIELD = {
    "processes": resource.RLIMIT_NPROC,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size": resource.RLIMIT_FSIZE,
    "data": resource.RLIMIT_DATA,
    "stack": resource.RLIMIT_STACK,
}
FIXED = {
    resource.RLIMIT_CORE: 1,
    resource.RLIMIT_MEMLOCK: 64 * 1024,
    resource.RLIMIT_MSGQUEUE: 0,
    resource.RLIMIT_NICE: 0,
    resource.RLIMIT_RTPRIO: 0,
    resource.RLIMIT_SIGPENDING: 1024,
}


def found(*steps: Callable[[], object], look: Callable[[], Any]) -> Any:
    """What `look` sees in a child that has taken these steps."""

    def run() -> Any:
        for step in steps:
            step()
        return look()

    return forked.value_of(run)


def apply(**limits: Any) -> Callable[[], None]:
    return lambda: rlimits.apply(Rlimits(**limits))


def kind_of_end(action: Callable[[], object]) -> Callable[[], str]:
    """The name of what `action` raises, or "done"."""

    def run() -> str:
        try:
            action()
        except (MemoryError, RuntimeError, ValueError) as error:
            return type(error).__name__
        return "done"

    return run


# ── what is set ──


@pytest.mark.parametrize("field", BY_FIELD)
def test_soft_and_hard_limit_are_one(field: str) -> None:
    value = 500 * MIB if field == "data" else 200
    assert found(apply(**{field: value}), look=lambda: resource.getrlimit(BY_FIELD[field])) == [value, value]


@pytest.mark.parametrize("field", BY_FIELD)
def test_no_limit_is_raised_above_the_hard_one_found(field: str) -> None:
    which, low = BY_FIELD[field], 500 * MIB if field == "data" else 200
    lower = apply(**{field: low})
    assert found(lower, apply(**{field: 4 * low}), look=lambda: resource.getrlimit(which)) == [low, low]


@pytest.mark.parametrize("field", [field for field in BY_FIELD if field != "stack"])
def test_a_limit_that_is_not_given_stays_as_it_is(field: str) -> None:
    which = BY_FIELD[field]
    assert found(apply(), look=lambda: resource.getrlimit(which)) == list(resource.getrlimit(which))


@pytest.mark.parametrize("which", [*FIXED, resource.RLIMIT_STACK])
def test_what_nobody_needs_is_limited_without_being_asked(which: int) -> None:
    most = FIXED.get(which, 8 * MIB)
    soft, hard = found(apply(), look=lambda: resource.getrlimit(which))
    assert soft == hard
    assert 0 <= hard <= most


def test_a_limit_beyond_what_the_kernel_counts_is_as_good_as_none() -> None:
    limits = found(apply(data=2**70), look=lambda: resource.getrlimit(resource.RLIMIT_DATA))
    assert limits == [2**63 - 1, 2**63 - 1]


@pytest.mark.parametrize("field", [*BY_FIELD, "cpu_s"])
def test_a_negative_limit_is_refused(field: str) -> None:
    assert found(look=kind_of_end(apply(**{field: -1}))) == "ValueError"


# ── what it does ──


def test_more_descriptors_than_allowed_are_refused() -> None:
    assert found(apply(open_files=64), look=lambda: [os.dup(0) for _ in range(64)]) == "EMFILE"


def test_a_file_grows_up_to_its_limit_and_no_further(tmp_path: Path) -> None:
    def write(size: int) -> int:
        with open(tmp_path / "file", "wb", buffering=0) as file:
            return file.write(bytes(size)) + file.write(b"more")

    assert found(apply(file_size=1000), look=lambda: write(1000)) == "EFBIG"
    assert found(apply(file_size=1004), look=lambda: write(1000)) == 1004


def as_somebody() -> None:
    """Be a user whom the number of processes binds: it does not bind root."""
    if os.geteuid() == 0:
        os.setresuid(65533, 65533, 65533)


def test_no_process_is_forked_beyond_the_limit() -> None:
    assert found(as_somebody, apply(processes=0), look=forked.fork) == "EAGAIN"


def test_no_thread_is_started_beyond_the_limit() -> None:
    start = kind_of_end(lambda: threading.Thread(target=int).start())
    assert found(as_somebody, apply(processes=0), look=start) == "RuntimeError"


def test_a_number_of_processes_binds_everybody_but_the_hosts_root() -> None:
    def run() -> int:
        privileges.set_capabilities(frozenset())
        rlimits.apply(Rlimits(processes=0))
        return forked.end_of(int)

    assert forked.value_of(run) == (0 if os.geteuid() == 0 else "EAGAIN")


# ── memory ──

ALLOWED = 64 * MIB


def allow() -> None:
    rlimits.apply(Rlimits(data=rlimits.data_allowance(ALLOWED)))


# With room for the stack, which is counted with the allowance, and may have grown before.
@pytest.mark.parametrize(("size", "end"), [(ALLOWED - 16 * MIB, "done"), (ALLOWED + 16 * MIB, "MemoryError")])
def test_memory_is_had_up_to_the_allowance(size: int, end: str) -> None:
    assert found(allow, look=kind_of_end(lambda: bytearray(size))) == end


def test_memory_in_use_is_what_the_limit_counts_and_the_stack() -> None:
    def look() -> list[int]:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return [rlimits.data_in_use(), *(int(fields[name].split()[0]) * 1024 for name in ("VmData", "VmStk"))]

    in_use, data, stack = found(look=look)
    assert abs(in_use - data - stack) <= MIB  # reading the one may take memory that the other then shows


def test_four_threads_fit_into_an_allowance_of_their_stacks() -> None:
    def run() -> None:
        barrier = threading.Barrier(5, timeout=20.0)
        for _ in range(4):
            threading.Thread(target=barrier.wait).start()
        barrier.wait()

    assert found(allow, look=kind_of_end(run)) == "done"


def test_shared_memory_is_not_counted() -> None:
    size = 2 * ALLOWED
    assert found(allow, look=lambda: len(mmap.mmap(-1, size, flags=mmap.MAP_SHARED))) == size


def test_a_forked_process_has_the_allowance_for_itself() -> None:
    def run() -> str:
        own = bytearray(ALLOWED // 2)
        theirs = forked.value_of(kind_of_end(lambda: bytearray(ALLOWED // 4)))
        return f"{len(own) // MIB} {theirs}"

    assert found(allow, look=run) == "32 done"


# ── CPU ──


def burn() -> None:
    while True:
        pass


def test_at_the_limit_of_cpu_time_comes_a_signal_that_ends_the_process() -> None:
    def run() -> None:
        rlimits.apply(Rlimits(cpu_s=1))
        burn()

    assert forked.end_of(run) == -signal.SIGXCPU


def test_who_ignores_that_signal_is_killed_a_second_later() -> None:
    def run() -> None:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)
        rlimits.apply(Rlimits(cpu_s=1))
        burn()

    assert forked.end_of(run) == -signal.SIGKILL


def test_an_allowance_of_cpu_time_counts_from_now_and_is_rounded_up() -> None:
    def look() -> list[float]:
        return [rlimits.cpu_allowance(1.5), time.process_time()]

    allowance, used = found(look=look)
    assert 1.5 <= allowance - used < 2.6


# ── interpreters ──


def test_it_holds_on_each_interpreter(seed_python: Path) -> None:
    code = """
import json, resource
from seed.sandbox import rlimits
limits = rlimits.Rlimits(
    cpu_s=rlimits.cpu_allowance(5), open_files=64, data=rlimits.data_allowance(2**26), file_size=2**20
)
rlimits.apply(limits)
try:
    bytearray(2**27)
except MemoryError:
    print(json.dumps([*resource.getrlimit(resource.RLIMIT_NOFILE), *resource.getrlimit(resource.RLIMIT_CPU)]))
"""
    files, files_hard, cpu, cpu_hard = forked.printed_by(seed_python, code)
    assert (files, files_hard, cpu_hard - cpu) == (64, 64, 1)
