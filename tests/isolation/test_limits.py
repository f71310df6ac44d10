"""Each limit of `Limits`: what happens to code that goes beyond it, and to nobody else."""

from __future__ import annotations

import math
import resource
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from hotbed import Engine, Environment, Limits, Pool, RequestError, Result, Status, errors
from hotbed.model import ErrorKind

MIB = 1024**2
SOON_S = 0.3  # given to code that never ends
LATE_S = 5.0  # it is gone long before that, unless the machine is starved
GROWS = "len(bytearray(200_000_000))"
SPINS = "while True: pass"


@pytest.fixture(autouse=True)
def the_next_execution_answers(request: pytest.FixtureRequest) -> Iterator[None]:
    names = {"engine", "grouped", "groupless", "either"}.intersection(request.fixturenames)
    engines = [request.getfixturevalue(name) for name in names]
    yield
    for engine in engines[:1]:
        assert engine.run("40 + 2").value == 42


def check(result: Result, status: Status, kind: ErrorKind, says: str) -> None:
    assert (result.status, result.error and result.error.kind) == (status, kind), result
    assert result.error is not None
    assert says in result.error.message
    assert result.value is None
    assert result.exit_code == -9


# ── time ──


def test_code_is_killed_at_its_time_limit(either: Engine) -> None:
    result = either.run(SPINS, limits=Limits(timeout=SOON_S))
    check(result, Status.TIMEOUT, ErrorKind.TIMEOUT, "longer than its limit of 0.3 s")
    assert SOON_S <= result.timing.run < LATE_S


def test_all_that_the_code_started_is_killed_at_its_time_limit(either: Engine) -> None:
    code = """
    import os, signal
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
    while True:
        pass
    """
    result = either.run(textwrap.dedent(code), limits=Limits(timeout=SOON_S))
    check(result, Status.TIMEOUT, ErrorKind.TIMEOUT, "longer than its limit of 0.3 s")
    assert result.timing.run < LATE_S


def test_the_argument_timeout_stands_above_the_limits(engine: Engine) -> None:
    result = engine.run(SPINS, limits=Limits(timeout=1000), timeout=SOON_S)
    check(result, Status.TIMEOUT, ErrorKind.TIMEOUT, "longer than its limit of 0.3 s")


@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_code_is_killed_at_its_limit_of_cpu_time(engine: Engine, mode: Literal["fresh", "worker"]) -> None:
    result = engine.run(SPINS, limits=Limits(cpu_time=0.5, timeout=10), mode=mode)
    check(result, Status.TIMEOUT, ErrorKind.TIMEOUT, "more CPU time than its limit of 0.5 s")


def test_code_that_ignores_the_signal_is_killed_at_its_limit_of_cpu_time(engine: Engine) -> None:
    code = f"import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\n{SPINS}"
    result = engine.run(code, limits=Limits(cpu_time=0.5))
    check(result, Status.TIMEOUT, ErrorKind.TIMEOUT, "more CPU time than its limit of 0.5 s")


def test_a_workers_limit_of_cpu_time_ends_with_the_execution_that_had_it(engine: Engine) -> None:
    first = engine.run("1", limits=Limits(cpu_time=0.5), mode="worker")
    code = "import time\nwhile time.process_time() < 1.5: pass"
    second = engine.run(code, mode="worker")
    assert (second.status, second.worker) == (Status.OK, first.worker)


def test_each_process_of_the_code_has_the_limit_of_cpu_time(engine: Engine) -> None:
    code = """
    import os, signal
    if os.fork() == 0:
        while True:
            pass
    signal.Signals(-os.waitstatus_to_exitcode(os.wait()[1])).name
    """
    assert engine.run(textwrap.dedent(code), limits=Limits(cpu_time=0.5)).value == "SIGXCPU"


@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_a_share_of_the_cores_makes_code_slower(grouped: Engine, mode: Literal["fresh", "worker"]) -> None:
    code = """
    import time
    began, used = time.monotonic(), time.process_time()
    while time.process_time() < used + 0.1:
        pass
    time.monotonic() - began
    """
    # 20 ms in every 100: the fifth portion comes 400 ms after the first, or with it 300.
    assert grouped.run(textwrap.dedent(code), limits=Limits(cpu=0.2), mode=mode).value > 0.25


def test_a_share_of_the_cores_is_one_for_all_processes_of_the_code(grouped: Engine) -> None:
    code = """
    import os, time
    began = time.monotonic()
    for _ in range(3):
        if os.fork() == 0:
            while time.process_time() < 0.05:
                pass
            os._exit(0)
    for _ in range(3):
        os.wait()
    time.monotonic() - began
    """
    assert grouped.run(textwrap.dedent(code), limits=Limits(cpu=0.2)).value > 0.25


# ── memory ──


@pytest.mark.parametrize("mode", ["fresh", "worker", "oneshot"])
def test_code_that_takes_more_memory_than_it_may_ends_with_status_memory(
    either: Engine, mode: Literal["fresh", "worker", "oneshot"]
) -> None:
    result = either.run(GROWS, limits=Limits(memory="64M"), mode=mode)
    check(result, Status.MEMORY, ErrorKind.MEMORY, f"more memory than its limit of {64 * MIB} bytes")
    assert either.run("40 + 2", mode=mode).value == 42


def test_a_lack_of_memory_raises_as_a_memory_error(engine: Engine) -> None:
    with pytest.raises(MemoryError) as caught:
        engine.run(GROWS, limits=Limits(memory="64M")).raise_for_error()
    assert isinstance(caught.value, errors.OutOfMemoryError)


FAMILY = """
import os, signal
for _ in range(4):
    if os.fork() == 0:
        memory = bytearray(30_000_000)
        signal.pause()
os.waitstatus_to_exitcode(os.wait()[1])
"""


def test_the_processes_of_the_code_have_the_memory_together(grouped: Engine) -> None:
    assert grouped.run(FAMILY, limits=Limits(memory="64M")).value == -9


def test_the_processes_of_the_code_are_watched_together_where_no_cgroup_is(groupless: Engine) -> None:
    result = groupless.run(FAMILY, limits=Limits(memory="64M"))
    check(result, Status.MEMORY, ErrorKind.MEMORY, f"more memory than its limit of {64 * MIB} bytes")


def test_files_in_the_codes_own_directories_count_as_memory(grouped: Engine) -> None:
    code = "with open('file', 'wb') as file:\n    for _ in range(100): file.write(bytes(1_000_000))"
    result = grouped.run(code, limits=Limits(memory="64M"))
    check(result, Status.MEMORY, ErrorKind.MEMORY, f"more memory than its limit of {64 * MIB} bytes")


@pytest.mark.parametrize("mode", ["fresh", "worker", "oneshot"])
def test_a_kill_by_the_code_itself_is_no_lack_of_memory(
    either: Engine, mode: Literal["fresh", "worker", "oneshot"]
) -> None:
    """Not even after one in the same cgroup: the engine keeps a few, so a few are tried."""
    either.run(GROWS, limits=Limits(memory="64M"), mode=mode)
    for _ in range(3):
        result = either.run("import os; os.kill(os.getpid(), 9)", limits=Limits(memory="64M"), mode=mode)
        check(result, Status.CRASHED, ErrorKind.CRASHED, "ended by SIGKILL")


def test_memory_freed_is_memory_again(either: Engine) -> None:
    code = "for _ in range(10): len(bytearray(20_000_000))"
    assert either.run(code, limits=Limits(memory="64M")).ok


# ── processes, descriptors ──

FORKS = """
import os, signal
started = 0
try:
    while True:
        if os.fork() == 0:
            while True:
                signal.pause()
        started += 1
except BlockingIOError:
    result = started
"""
STARTS_THREADS = """
import threading
started, end = 0, threading.Event()
try:
    while True:
        threading.Thread(target=end.wait, daemon=True).start()
        started += 1
except RuntimeError:
    result = started
"""


@pytest.mark.parametrize("code", [FORKS, STARTS_THREADS], ids=["forks", "threads"])
def test_code_has_so_many_processes_and_threads_as_it_may(grouped: Engine, code: str) -> None:
    assert grouped.run(code, limits=Limits(processes=8)).value == 7  # and itself


@pytest.mark.parametrize("code", [FORKS, STARTS_THREADS], ids=["forks", "threads"])
def test_processes_and_threads_are_bounded_where_no_cgroup_is(groupless: Engine, code: str) -> None:
    started = groupless.run(code, limits=Limits(processes=8)).value
    assert 7 <= started <= 8 + 4 * 4  # the kernel counts those of other executions, so there is room for them


def test_a_fork_bomb_ends_at_the_time_limit_with_all_its_processes(either: Engine) -> None:
    code = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    result = either.run(code, limits=Limits(timeout=SOON_S))
    assert result.status is Status.TIMEOUT
    assert result.timing.run < LATE_S


def test_code_opens_so_many_descriptors_as_it_may(engine: Engine) -> None:
    code = """
    import errno, os
    try:
        while True:
            last = os.open("/dev/null", os.O_RDONLY)
    except OSError as error:
        result = [last, errno.errorcode[error.errno]]
    """
    assert engine.run(textwrap.dedent(code), limits=Limits(open_files=32)).value == [31, "EMFILE"]


@pytest.mark.parametrize("name", ["NOFILE", "FSIZE", "CPU", "NPROC", "CORE"])
def test_code_cannot_raise_its_own_limits(groupless: Engine, name: str) -> None:
    code = f"""
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_{name})
    try:
        resource.setrlimit(resource.RLIMIT_{name}, (hard + 1, hard + 1))
        result = "raised"
    except (ValueError, OSError):
        result = soft == hard or soft + 1 == hard
    """
    limits = Limits(open_files=32, file_size=MIB, cpu_time=10, processes=8)
    assert groupless.run(textwrap.dedent(code), limits=limits).value is True


# ── files ──

WRITES = """
import errno, os
written = 0
try:
    for name in names:
        with open(os.path.expandvars(name), "wb", 0) as file:
            for _ in range(10):
                written += file.write(bytes(100_000))
except OSError as error:
    result = [written, errno.errorcode[error.errno]]
"""


def test_a_file_grows_to_its_limit(engine: Engine) -> None:
    told = engine.run(WRITES, inputs={"names": ["a"]}, limits=Limits(file_size=256 * 1024))
    assert told.value == [256 * 1024, "EFBIG"]


@pytest.mark.parametrize(
    "names",
    [
        ["a"],
        ["a", "b"],
        ["$HOME/a"],
        ["$TMPDIR/a"],
        ["/dev/shm/a"],
        ["$HOME/a", "$TMPDIR/b", "/dev/shm/c", "d"],
    ],
)
def test_files_together_grow_to_the_limit_of_the_disk(engine: Engine, names: list[str]) -> None:
    written, error = engine.run(WRITES, inputs={"names": names}, limits=Limits(disk=512 * 1024)).value
    assert error == "ENOSPC"
    assert 400 * 1024 <= written <= 512 * 1024


def test_empty_files_fill_the_disk_too(engine: Engine) -> None:
    code = """
    import errno
    try:
        for number in range(100_000):
            open(str(number), "x").close()
    except OSError as error:
        result = [number, errno.errorcode[error.errno]]
    """
    made, error = engine.run(textwrap.dedent(code), limits=Limits(disk="1M")).value
    assert error == "ENOSPC"
    assert made <= 256


def test_a_full_disk_is_empty_for_the_next_execution(engine: Engine) -> None:
    for _ in range(2):
        told = engine.run(WRITES, inputs={"names": ["a"]}, limits=Limits(disk=512 * 1024)).value
        assert told[1] == "ENOSPC"


# ── what comes back ──


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_code_that_writes_more_than_it_may_is_ended(
    engine: Engine, stream: str, mode: Literal["fresh", "worker"]
) -> None:
    code = f"import sys\nwhile True: print('x' * 100, file=sys.{stream})"
    result = engine.run(code, limits=Limits(output=1000), mode=mode)
    check(result, Status.ERROR, ErrorKind.OUTPUT_TOO_LARGE, f"{stream} exceeds the limit of 1000 bytes")
    assert getattr(result, stream).startswith("x" * 100 + "\n")
    assert len(getattr(result, stream)) == 1000


def test_each_stream_may_be_as_long_as_the_limit(engine: Engine) -> None:
    code = "import sys; print('x' * 999); print('x' * 999, file=sys.stderr)"
    assert engine.run(code, limits=Limits(output=1000)).ok


@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_a_value_larger_than_it_may_be_is_an_error(engine: Engine, mode: Literal["fresh", "worker"]) -> None:
    result = engine.run("'x' * 5000", limits=Limits(value=1000), mode=mode)
    check(result, Status.ERROR, ErrorKind.OUTPUT_TOO_LARGE, "exceeds the limit of 1000 bytes")


def test_a_value_may_be_as_large_as_the_limit(engine: Engine) -> None:
    assert engine.run("'x' * 998", limits=Limits(value=1000)).value == "x" * 998


def test_artifacts_come_back_up_to_their_limit_and_the_others_are_named(engine: Engine) -> None:
    code = """
    for name, size in (("a", 600), ("b", 600), ("c", 300), ("d", 3000)):
        with open(name, "wb") as file:
            file.write(bytes(size))
    """
    result = engine.run(textwrap.dedent(code), limits=Limits(artifacts=1000))
    assert result.ok
    assert {artifact.name: len(artifact.data) for artifact in result.artifacts} == {"a": 600, "c": 300}
    assert [line.partition(":")[0] for line in result.left_out] == ["b", "d"]
    assert all("Limits(artifacts=...)" in line for line in result.left_out)


# ── the network ──

CONNECTS = """
import socket
try:
    socket.create_connection(("127.0.0.1", port), 10).close()
    result = "connected"
except OSError as error:
    result = type(error).__name__
"""


@pytest.mark.parametrize(("network", "outcome"), [(False, "PermissionError"), (True, "connected")])
def test_code_has_no_network_unless_it_is_given(engine: Engine, network: bool, outcome: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = engine.run(CONNECTS, inputs={"port": port}, limits=Limits(network=network))
    assert result.value == outcome


# ── defaults, and whose they are ──


def test_the_defaults_are_those_that_are_promised() -> None:
    limits = Limits()
    assert (limits.timeout, limits.memory, limits.network) == (30.0, 512 * MIB, False)
    assert (limits.processes, limits.open_files) == (64, 256)


def test_strangers_code_has_the_default_limits(groupless: Engine) -> None:
    code = "import resource; [resource.getrlimit(getattr(resource, name))[0] for name in names]"
    names = ["RLIMIT_NOFILE", "RLIMIT_DATA", "RLIMIT_CPU"]
    open_files, data, cpu_s = groupless.run(code, inputs={"names": names}).value
    assert open_files == 256
    assert 512 * MIB < data < 1024 * MIB  # beside what the interpreter has already
    assert cpu_s == resource.RLIM_INFINITY


def test_strangers_code_has_the_default_number_of_processes(grouped: Engine) -> None:
    assert grouped.run(FORKS).value == 63


def test_the_callers_own_code_has_no_limits(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("import resource\ndef limits(): return resource.getrlimit(resource.RLIMIT_NOFILE)\n")
    assert engine.call(f"{file}:limits").value == list(resource.getrlimit(resource.RLIMIT_NOFILE))


def test_an_engines_limits_hold_until_an_execution_brings_its_own() -> None:
    code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)[0]"
    with Engine(Environment(preload=()), limits=Limits(open_files=64), pool=Pool(standby=0)) as engine:
        assert engine.run(code).value == 64
        assert engine.run(code, limits=Limits(open_files=32)).value == 32
        assert engine.run(code).value == 64


def test_each_execution_of_a_worker_has_its_own_limits(groupless: Engine) -> None:
    code = "import resource; [resource.getrlimit(getattr(resource, name))[0] for name in names]"
    inputs = {"names": ["RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_DATA"]}
    for open_files, file_size, memory in ((32, MIB, 64 * MIB), (64, 2 * MIB, 512 * MIB), (32, MIB, 64 * MIB)):
        limits = Limits(open_files=open_files, file_size=file_size, memory=memory)
        told = groupless.run(code, inputs=inputs, limits=limits, mode="worker").value
        assert told[:2] == [open_files, file_size]
        assert memory < told[2] < memory + 256 * MIB


# ── ceilings ──

CEILING = Limits(
    timeout=10,
    cpu_time=5,
    cpu=0.5,
    memory="128M",
    processes=16,
    open_files=64,
    file_size="1M",
    disk="1M",
    output=1000,
    value=1000,
    artifacts=1000,
    network=["api.example.com:443", "example.org:443"],
)
BEYOND: dict[str, list[Any]] = {
    "timeout": [11, None],
    "cpu_time": [6, None],
    "cpu": [0.6, None],
    "memory": ["129M", None],
    "processes": [17, None],
    "open_files": [65, None],
    "file_size": ["2M", None],
    "disk": ["2M"],
    "output": [1001],
    "value": [1001],
    "artifacts": [1001],
    "network": [True, ["example.net:443"], ["example.org:80"], ["example.org:443", "example.net:443"]],
}
FIELDS = {field: getattr(CEILING, field) for field in BEYOND}


@pytest.fixture(scope="module")
def bounded() -> Iterator[Engine]:
    """An engine with a ceiling."""
    with Engine(Environment(preload=()), ceiling=CEILING, pool=Pool(standby=0)) as engine:
        yield engine


@pytest.mark.parametrize(("field", "value"), [(name, value) for name in BEYOND for value in BEYOND[name]])
def test_what_is_beyond_the_ceiling_is_refused_by_the_name_of_its_field(
    bounded: Engine, field: str, value: Any
) -> None:
    with pytest.raises(RequestError, match=rf"^{field}=.* is beyond this engine's ceiling of "):
        bounded.run("1", limits=Limits(**{**FIELDS, field: value}))


def test_what_is_at_the_ceiling_runs(bounded: Engine) -> None:
    assert bounded.run("40 + 2", limits=Limits(**{**FIELDS, "network": False})).value == 42


def test_a_timeout_beyond_the_ceiling_is_refused(bounded: Engine) -> None:
    with pytest.raises(RequestError, match=r"^timeout=11.0 is beyond"):
        bounded.run("1", limits=Limits(**FIELDS), timeout=11)


def test_defaults_beyond_the_ceiling_are_refused_too(bounded: Engine) -> None:
    with pytest.raises(RequestError, match=r"^timeout=30.0 is beyond"):
        bounded.run("1")


def test_an_engines_own_limits_are_below_its_ceiling() -> None:
    with pytest.raises(RequestError, match=r"^memory=.* is beyond"):
        Engine(limits=Limits(), ceiling=Limits(memory="128M"))


# ── nonsense ──

SECONDS: list[Any] = [0, -1, math.nan, math.inf, -math.inf, True, "5", [5], b"5"]
SIZES: list[Any] = [0, -1, math.nan, math.inf, True, 1.5, "", "big", "0", "-1M", "1X", [1], b"1M"]
SIZES_AT_ALL = [*SIZES, None]  # these are never without a limit
COUNTS: list[Any] = [0, -1, math.nan, math.inf, True, 1.5, "5", [5]]
NETWORKS: list[Any] = [None, 1, "example.org", {"example.org"}, [5], ["no host"], [""], ["a:0"], ["a:b"]]
NONSENSE: dict[str, list[Any]] = {
    **dict.fromkeys(("timeout", "cpu_time", "cpu"), SECONDS),
    **dict.fromkeys(("memory", "file_size"), SIZES),
    **dict.fromkeys(("disk", "output", "value", "artifacts"), SIZES_AT_ALL),
    **dict.fromkeys(("processes", "open_files"), COUNTS),
}


@pytest.mark.parametrize(("field", "value"), [(name, value) for name in NONSENSE for value in NONSENSE[name]])
def test_nonsense_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=rf"^{field}="):
        Limits(**{field: value})


@pytest.mark.parametrize("value", NETWORKS, ids=repr)
def test_a_network_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^network"):
        Limits(network=value)


@pytest.mark.parametrize(
    ("field", "value"), [("memory", "1M"), ("disk", "1K"), ("open_files", 15), ("processes", 0)]
)
def test_less_than_an_interpreter_needs_is_refused(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=rf"^{field}="):
        Limits(**{field: value})


@pytest.mark.parametrize("least", [{"memory": "16M"}, {"disk": "64K"}, {"open_files": 16}, {"processes": 1}])
def test_the_least_that_may_be_given_suffices_to_answer(engine: Engine, least: dict[str, Any]) -> None:
    assert engine.run("40 + 2", limits=Limits(**least)).value == 42


@pytest.mark.parametrize("limits", [{"timeout": 1}, 5, "1s"])
def test_what_are_no_limits_is_refused(engine: Engine, limits: Any) -> None:
    with pytest.raises(RequestError, match=r"^limits="):
        engine.run("1", limits=limits)
