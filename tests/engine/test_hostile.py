"""Code that does its worst: a typed end, on time, and the next execution answers 42."""

from __future__ import annotations

import signal
import textwrap
from dataclasses import dataclass
from typing import Literal

import pytest

from hotbed import Engine, Limits, Status
from hotbed.engine.options import Isolation
from hotbed.model import ErrorKind
from tests.engine.inside import NAMESPACE, Started, wait_gone

PATIENCE_S = 60.0  # no test here waits so long unless the machine is starved
SOON_S = 0.5  # the limit given to code that never ends
LATER_S = 1.0  # where it starts processes first


@dataclass(frozen=True, slots=True)
class Deed:
    """A piece of code and how its execution must end; `says` is found in the error's message."""

    code: str
    status: Status = Status.OK
    value: object = None
    kind: ErrorKind | None = None
    name: str = ""
    says: str = ""
    stdout: str | None = None
    exit_code: int | None = None
    timeout: float = PATIENCE_S


def raised(
    code: str, name: str, says: str = "", exit_code: int | None = 1, stdout: str | None = None
) -> Deed:
    return Deed(
        code, Status.ERROR, kind=ErrorKind.RAISED, name=name, says=says, exit_code=exit_code, stdout=stdout
    )


def crashed(code: str, says: str = "", exit_code: int | None = None) -> Deed:
    return Deed(code, Status.CRASHED, kind=ErrorKind.CRASHED, says=says, exit_code=exit_code)


def endless(code: str) -> Deed:
    return Deed(code, Status.TIMEOUT, kind=ErrorKind.TIMEOUT, says="was killed", timeout=SOON_S)


def ok(code: str, value: object = None, stdout: str | None = None) -> Deed:
    return Deed(code, value=value, stdout=stdout)


# The channel is the one socket among the descriptors.
CHANNEL = """
import os, stat
channel = next(fd for fd in range(3, 1000) if os.path.exists(f"/proc/self/fd/{fd}")
               and stat.S_ISSOCK(os.stat(fd).st_mode))
"""

DEEDS = {
    # Errors of all sorts.
    "a syntax error": raised("x = = 1", "SyntaxError"),
    "an indentation error": raised("if 1:\nx", "IndentationError"),
    "NUL in the source": raised("x = '\0'", "SyntaxError", "null bytes"),
    "deeply nested source": Deed("(" * 50_000 + ")" * 50_000, Status.ERROR, kind=ErrorKind.RAISED),
    "a missing module": raised("import no_such_module_anywhere", "ModuleNotFoundError"),
    "endless recursion": raised("def f(): f()\nf()", "RecursionError"),
    "an exception with a failing str": raised(
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E", "E", "__str__ raised"
    ),
    "an exception that exits in its str": raised(
        "class E(Exception):\n    def __str__(self): import os, sys; sys.exit(3)\nraise E",
        "E",
        "__str__ raised",
    ),
    "an exception of a gigantic message": raised(
        "raise ValueError('x' * 50_000_000)", "ValueError", "left out"
    ),
    "an exception group": raised(
        "raise ExceptionGroup('many', [ValueError(str(i)) for i in range(5000)])", "ExceptionGroup"
    ),
    "a chain of a thousand causes": raised(
        """
        error = None
        for i in range(1000):
            new = ValueError(str(i)); new.__cause__ = error; error = new
        raise error
        """,
        "ValueError",
    ),
    "an exception of base class": raised("raise BaseException('base')", "BaseException", "base"),
    "a keyboard interrupt": raised("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "a generator's exit": raised("raise GeneratorExit", "GeneratorExit"),
    "a lone surrogate in the message": raised("raise ValueError('\\ud800')", "ValueError", "\\ud800"),
    "memory errors": raised("bytearray(1 << 60)", "MemoryError"),
    # Exits.
    "sys.exit()": ok("import sys; sys.exit()"),
    "sys.exit(0)": ok("import sys; sys.exit(0)"),
    "sys.exit(3)": raised("import sys; sys.exit(3)", "SystemExit", exit_code=3),
    "sys.exit(-1)": raised("import sys; sys.exit(-1)", "SystemExit", exit_code=255),
    "sys.exit of text": raised("import sys; sys.exit('no luck')", "SystemExit", "no luck", exit_code=1),
    "os._exit(7)": crashed("import os; os._exit(7)", "status 7", 7),
    "os._exit(0)": crashed("import os; os._exit(0)", "status 0", 0),
    "SIGKILL of itself": crashed("import os; os.kill(os.getpid(), 9)", "SIGKILL", -9),
    "SIGTERM of itself": crashed("import os; os.kill(os.getpid(), 15)", "SIGTERM", -15),
    "SIGKILL of its group": crashed("import os; os.killpg(0, 9)", "SIGKILL", -9),
    "a segmentation fault": crashed("import ctypes; ctypes.string_at(0)", "SIGSEGV", -signal.SIGSEGV),
    "abort": crashed("import os; os.abort()", "SIGABRT", -signal.SIGABRT),
    # Endlessness.
    "an endless loop": endless("while True: pass"),
    "a loop that catches everything": endless(
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
    "a long sleep": endless("import time; time.sleep(1000)"),
    "SIGSTOP of itself": endless("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"),
    "every signal ignored": endless(
        """
        import signal
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True: signal.pause()
        """
    ),
    "a long C call": endless("sum(iter(int, 1))"),
    # Descriptors.
    "all descriptors closed": crashed("import os; os.closerange(0, 4096)"),
    "the channel closed": crashed(CHANNEL + "os.close(channel)"),
    "stdout closed": ok("import os; os.close(1); result = 42", 42),
    "stderr closed": ok("import os; os.close(2); result = 42", 42),
    "sys.stdout closed": ok("import sys; sys.stdout.close(); result = 42", 42),
    "stdin read": ok("import sys; result = sys.stdin.read() if sys.stdin else ''", ""),
    "garbage in the channel": crashed(CHANNEL + "os.write(channel, b'garbage' * 100)", "protocol"),
    "a gigantic header in the channel": Deed(
        CHANNEL + "import struct; os.write(channel, struct.pack('<BxxxIQ', 18, 0, 1 << 60))",
        Status.ERROR,
        kind=ErrorKind.OUTPUT_TOO_LARGE,
    ),
    "half a frame in the channel, then the end": crashed(
        CHANNEL + "os.write(channel, bytes([18, 0, 0])); os._exit(0)", "status 0", 0
    ),
    "an answer of its own": Deed(
        CHANNEL
        + "import struct; os.write(channel, struct.pack('<BxxxIQ', 18, 2, 0) + b'{}')\nwhile True: pass",
        Status.CRASHED,
        kind=ErrorKind.CRASHED,
        says="protocol",
    ),
    # Left-overs.
    "a thread left": ok(
        "import threading, time; threading.Thread(target=time.sleep, args=(1000,)).start(); result = 42", 42
    ),
    "a daemon thread left": ok(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n42",
        42,
    ),
    # The interpreter turned upside down.
    "sys.stdout replaced": ok(
        "import sys, io; sys.stdout = io.StringIO(); print('lost'); result = 42", 42, ""
    ),
    "sys.stdout gone": ok("import sys; del sys.stdout; result = 42", 42),
    "sys.stdout of no use": ok("import sys; sys.stdout = 7; result = 42", 42),
    "os._exit replaced": ok("import os; os._exit = print; result = 42", 42, ""),
    "os.write replaced": ok("import os; os.write = os.read = print; result = 42", 42, ""),
    "json replaced": ok("import json; json.dumps = json.loads = print; result = 42", 42, ""),
    "json encoder replaced": ok(
        "import json; json.JSONEncoder.encode = print; del json.dumps; result = 42", 42
    ),
    "time replaced": ok("import time; time.perf_counter = time.monotonic = None; result = 42", 42),
    "resource replaced": ok("import resource; resource.getrusage = None; result = 42", 42),
    "sys.modules cleared": ok("import sys; sys.modules.clear(); result = 42", 42),
    "importlib broken": ok(
        "import importlib, importlib._bootstrap as b\n"
        "importlib.import_module = b._find_and_load = None; result = 42",
        42,
    ),
    "import hooks broken": ok(
        "import builtins, sys; builtins.__import__ = None\n"
        "sys.meta_path.clear(); sys.path.clear(); result = 42",
        42,
    ),
    "tracing on": ok(
        "import sys; sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None); result = 42", 42
    ),
    "a tracer that raises": Deed(
        "import sys\ndef t(*a): raise ValueError('tracer')\nsys.setprofile(t)\nresult = 42",
        Status.ERROR,
        kind=ErrorKind.RAISED,
        name="ValueError",
    ),
    "no recursion left": Deed("import sys; sys.setrecursionlimit(50); result = 42", value=42),
    "signals handled": ok(
        "import signal; signal.signal(signal.SIGTERM, lambda *a: None); signal.alarm(0); result = 42", 42
    ),
    "an audit hook that raises at os events": Deed(
        "import sys\n"
        "def hook(event, args):\n    if event.startswith('os.'): raise RuntimeError(event)\n"
        "sys.addaudithook(hook)\nresult = 42",
        value=42,
    ),
    "what looks for files replaced": ok(
        "import os, stat; os.scandir = os.open = stat.S_ISREG = None; result = 42", 42
    ),
    "the work directory closed": ok("import os; os.chmod('.', 0); result = 42", 42),
    "the work directory removed": ok("import os; os.rmdir(os.getcwd()); result = 42", 42),
    "gc off and full of cycles": ok(
        "import gc; gc.disable()\nfor _ in range(100_000): a = []; a.append(a)\n42", 42
    ),
    "a finaliser at the end that raises": ok(
        "class A:\n    def __del__(self): raise ValueError\nx = A(); result = 42", 42
    ),
    "descriptors all used up": ok(
        """
        import os, resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        try:
            while True: os.dup(0)
        except OSError: pass
        result = 42
        """,
        42,
    ),
    # Values.
    "a value that is no data": Deed(
        "result = object()", Status.ERROR, kind=ErrorKind.NOT_SERIALIZABLE, says="object"
    ),
    "a value that contains itself": Deed(
        "result = []; result.append(result)", Status.ERROR, kind=ErrorKind.NOT_SERIALIZABLE
    ),
    "a value 20,000 deep": Deed(
        "result = []\nfor _ in range(20_000): result = [result]",
        Status.ERROR,
        kind=ErrorKind.NOT_SERIALIZABLE,
        says="too deeply",
    ),
    "a value with a failing repr": ok(
        "class L(list):\n    def __repr__(self): raise ValueError\nresult = L([1])", [1]
    ),
    "a value whose conversion exits": Deed(
        "import sys\nclass A:\n    def tolist(self): sys.exit(0)\nresult = A()",
        Status.ERROR,
        kind=ErrorKind.NOT_SERIALIZABLE,
    ),
    "a value whose conversion never ends": endless(
        "class A:\n    def tolist(self):\n        while True: pass\nresult = A()"
    ),
    "text of every kind": ok(
        "result = '\\ud800\\0\\r\\n\\u2028\\U0001f525é'", "\ud800\0\r\n\u2028\U0001f525é"
    ),
    # Exit hooks.
    "an exit hook": ok("import atexit; atexit.register(print, 'bye'); result = 42", 42, "bye\n"),
    "an exit hook that raises": ok("import atexit; atexit.register(lambda: 1 / 0); result = 42", 42),
    "an exit hook that leaves": crashed("import atexit, os; atexit.register(os._exit, 5)", "status 5", 5),
    "warnings": ok("import warnings; warnings.warn('careful'); result = 42", 42),
    "warnings as errors": raised(
        "import warnings; warnings.simplefilter('error'); warnings.warn('careful')", "UserWarning"
    ),
}

# In a worker: an exit hook runs when the worker ends, which no execution sees.
FRESH_ONLY = {"an exit hook", "an exit hook that leaves", "an audit hook that raises at os events"}
# Where it matters what kind of process it was.
OF_A_PROCESS = (
    "os._exit(7)",
    "SIGKILL of itself",
    "SIGKILL of its group",
    "a segmentation fault",
    "an endless loop",
    "SIGSTOP of itself",
    "all descriptors closed",
    "the channel closed",
    "garbage in the channel",
    "a thread left",
    "os._exit replaced",
    "json replaced",
    "the work directory removed",
)

# What a worker's next execution meets is the state that this one left, by the law of the mode.
BREAKS_ITS_WORKER = {
    "import hooks broken",
    "no recursion left",
    "descriptors all used up",
    "importlib broken",
    "sys.modules cleared",
    "a tracer that raises",
}


@pytest.fixture(params=["fresh", "worker"])
def mode(request: pytest.FixtureRequest) -> Literal["fresh", "worker"]:
    found: Literal["fresh", "worker"] = request.param
    return found


def check(
    engine: Engine,
    deed: Deed,
    mode: Literal["fresh", "worker", "oneshot"],
    isolation: Isolation = "auto",
) -> None:
    result = engine.run(textwrap.dedent(deed.code), mode=mode, timeout=deed.timeout, isolation=isolation)
    assert (result.status, result.error and result.error.kind) == (deed.status, deed.kind), result
    if deed.status is Status.OK:
        assert result.value == deed.value
    else:
        assert result.error is not None
        assert deed.says in result.error.message + result.error.traceback
        assert result.value is None
    if deed.name:
        assert result.error is not None
        assert result.error.name == deed.name
    if deed.exit_code is not None:
        assert result.exit_code == deed.exit_code
    if deed.stdout is not None:
        assert result.stdout == deed.stdout


@pytest.mark.parametrize("what", DEEDS)
def test_a_fresh_process_ends_with_the_status_of_its_deed_and_the_next_one_answers(
    forking: Engine, what: str
) -> None:
    check(forking, DEEDS[what], "fresh")
    assert forking.run("40 + 2").value == 42


@pytest.mark.parametrize("what", OF_A_PROCESS)
def test_an_interpreter_of_its_own_ends_as_a_forked_process_does(
    engine: Engine, what: str, mode: Literal["fresh", "worker"]
) -> None:
    check(engine, DEEDS[what], mode)
    assert engine.run("40 + 2", mode=mode).value == 42


@pytest.mark.parametrize("what", [what for what in OF_A_PROCESS if what != "the work directory removed"])
def test_code_that_is_not_isolated_ends_as_isolated_code_does(
    forking: Engine, what: str, mode: Literal["fresh", "worker"]
) -> None:
    check(forking, DEEDS[what], mode, "none")
    assert forking.run("40 + 2", mode=mode, isolation="none").value == 42


@pytest.mark.parametrize("what", [what for what in DEEDS if what not in FRESH_ONLY | BREAKS_ITS_WORKER])
def test_a_worker_ends_with_the_status_of_the_deed_and_the_next_execution_answers(
    forking: Engine, what: str
) -> None:
    check(forking, DEEDS[what], "worker")
    assert forking.run("40 + 2", mode="worker").value == 42
    assert forking.run("40 + 2").value == 42


@pytest.mark.parametrize("what", sorted(BREAKS_ITS_WORKER))
def test_a_worker_broken_by_its_code_ends_the_next_execution_with_a_typed_status(
    what: str,
) -> None:
    with Engine() as engine:
        check(engine, DEEDS[what], "worker")
        engine.run("40 + 2", mode="worker", timeout=PATIENCE_S)  # whatever it says, it says it
        assert engine.run("40 + 2").value == 42


@pytest.mark.parametrize(
    "name",
    [
        "len",
        "print",
        "isinstance",
        "Exception",
        "BaseException",
        "ValueError",
        "int",
        "max",
        "open",
        "dict",
        "type",
    ],
)
def test_a_builtin_replaced_by_nothing_ends_its_own_execution_alone(engine: Engine, name: str) -> None:
    result = engine.run(f"import builtins; builtins.{name} = None; result = 42", timeout=PATIENCE_S)
    assert result.status in (Status.OK, Status.ERROR, Status.CRASHED)
    assert engine.run("40 + 2").value == 42


# ── size ──


def test_endless_output_is_ended_at_its_limit(engine: Engine, mode: Literal["fresh", "worker"]) -> None:
    with Engine(limits=Limits(output="1M", timeout=PATIENCE_S)) as small:
        result = small.run("while True: print('x' * 1000)", mode=mode)
        assert result.error is not None
        assert result.error.kind is ErrorKind.OUTPUT_TOO_LARGE
        assert len(result.stdout) == 1024**2
        assert small.run("40 + 2", mode=mode).value == 42


@pytest.mark.parametrize("kind", ["text", "bytes"])
def test_fifty_megabytes_travel_both_ways(
    forking: Engine, mode: Literal["fresh", "worker"], kind: str
) -> None:
    size = 50_000_000
    given: str | bytes = "x" * size if kind == "text" else b"x" * size
    result = forking.run(
        "result = data if isinstance(data, str) else data.decode()", inputs={"data": given}, mode=mode
    )
    assert result.ok
    assert result.value == "x" * size


def test_a_value_above_its_limit_is_refused_with_the_limit_named(engine: Engine) -> None:
    with Engine(limits=Limits(value="1M")) as small:
        result = small.run("result = 'x' * 2_000_000")
        assert result.error is not None
        assert result.error.kind is ErrorKind.OUTPUT_TOO_LARGE
        assert "1048576" in result.error.message
        assert small.run("40 + 2").value == 42


def test_fifty_megabytes_of_output_arrive_whole() -> None:
    with Engine(limits=Limits(output="64M")) as large:
        result = large.run("import sys; sys.stdout.write('é' * 25_000_000)", timeout=PATIENCE_S)
        assert result.stdout == "é" * 25_000_000


# ── processes left behind ──

LEFT = {
    "a child": "import subprocess, os\npid = subprocess.Popen(['sleep', '1000']).pid",
    "a child of a session of its own": (
        "import subprocess\npid = subprocess.Popen(['sleep', '1000'], start_new_session=True).pid"
    ),
    "a daemon forked twice": """
        import os
        r, w = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.write(w, str(os.getpid()).encode())
                os.closerange(0, 100)
                while True: __import__('time').sleep(1000)
            os._exit(0)
        os.wait()
        pid = int(os.read(r, 100))
    """,
    "a daemon that ignores signals and keeps the pipes": """
        import os, signal
        r, w = os.pipe()
        if os.fork() == 0:
            os.setsid()
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            if os.fork() == 0:
                os.write(w, str(os.getpid()).encode())
                while True: signal.pause()
            os._exit(0)
        os.wait()
        pid = int(os.read(r, 100))
    """,
}
ENDS = {"the end": "", "a crash": "os._exit(1)", "a time-out": "while True: pass"}


def leaving(what: str, end: str) -> str:
    """Code that starts a process, prints what Started.told reads, and ends."""
    tell = "print(pid, namespace, flush=True)"
    return "\n".join([NAMESPACE, textwrap.dedent(LEFT[what]), tell, ENDS[end]])


@pytest.fixture(params=["auto", "none"])
def isolation(request: pytest.FixtureRequest) -> Isolation:
    found: Isolation = request.param
    return found


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", LEFT)
def test_a_process_left_behind_by_a_fresh_one_is_gone_soon(
    engine: Engine, isolation: Isolation, what: str, end: str
) -> None:
    seen: list[int | None] = []
    result = engine.run(
        leaving(what, end),
        timeout=LATER_S if end == "a time-out" else PATIENCE_S,
        isolation=isolation,
        on_stdout=lambda text: seen.append(Started.told(text).pid),
    )
    if end == "a time-out":  # so it was looked for while it was certainly there
        assert None not in seen
    assert wait_gone([Started.told(result.stdout)]) == []
    assert engine.run("40 + 2", isolation=isolation).value == 42


@pytest.mark.parametrize("what", LEFT)
def test_a_process_left_behind_by_a_worker_goes_with_the_worker(isolation: Isolation, what: str) -> None:
    with Engine(isolation=isolation) as engine:
        result = engine.run(leaving(what, "a crash"), mode="worker")
        assert wait_gone([Started.told(result.stdout)]) == []
        assert engine.run("40 + 2", mode="worker").value == 42


def test_a_fork_bomb_of_modest_size_is_gone_with_its_execution(engine: Engine, isolation: Isolation) -> None:
    code = """
        for _ in range(5):
            os.fork()
        print(os.getpid(), namespace, flush=True)
        while True: pass
    """
    result = engine.run(NAMESPACE + textwrap.dedent(code), timeout=1.5, isolation=isolation)
    assert result.status is Status.TIMEOUT
    started = [Started.told(line) for line in result.stdout.splitlines()]
    assert len(started) > 1
    assert wait_gone(started) == []
    assert engine.run("40 + 2", isolation=isolation).value == 42


@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_a_forked_copy_of_the_code_that_runs_on_to_the_end_answers_nothing(
    engine: Engine, mode: Literal["fresh", "worker"]
) -> None:
    code = "import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\nresult = 'parent' if pid else 'copy'"
    for _ in range(3):  # a copy that served on would answer the next one
        assert engine.run(code, mode=mode).value == "parent"
    assert engine.run("40 + 2", mode=mode).value == 42


def test_a_tree_three_thousand_deep_in_the_work_directory_goes_with_its_execution(engine: Engine) -> None:
    code = """
        import os
        result = os.listdir()
        for _ in range(3000):
            os.mkdir("d"); os.chdir("d")
    """
    found = [engine.run(textwrap.dedent(code)) for _ in range(3)]
    assert [(result.status, result.value) for result in found] == [(Status.OK, [])] * 3
