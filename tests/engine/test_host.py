"""The host's own life: signals, kill -9, forks. Nothing of the engine outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hotbed import Engine, EngineError
from hotbed.engine.options import Isolation
from tests import leftovers
from tests.engine.inside import Started

PATIENCE_S = 60.0
GONE_S = 2.0  # the promise: so soon after the host's end nothing of hotbed is left

HOST = r"""
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell has it ignored
import hotbed

engine = hotbed.Engine(isolation=sys.argv[1])
engine.warm()
DAEMON = '''
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), os.readlink("/proc/self/ns/pid"), flush=True)
        while True: time.sleep(1000)
    os._exit(0)
os.wait()
while True: pass
'''
daemon, heard = [], threading.Event()

def listen(text):
    daemon.append(text.rstrip())
    heard.set()

def run():
    try:
        engine.run(DAEMON, timeout=None, on_stdout=listen)
    except BaseException:
        pass

threading.Thread(target=run, daemon=True).start()
heard.wait(60)
engine.run("1", mode="worker")
if "fork" in sys.argv and os.fork() == 0:
    os.write(1, f"forked {os.getpid()}\n".encode())  # one write: the parent writes at the same time
    while True: time.sleep(1000)
os.write(1, f"daemon {daemon[0]}\n".encode())
while True: time.sleep(1000)
"""


@dataclass(frozen=True, slots=True)
class Host:
    process: subprocess.Popen[str]
    pids: set[int]  # of the engine's processes
    daemon: int | None  # one of them, started by code
    fork: int | None  # the host's own child


def start(isolation: Isolation, *, forked: bool) -> Host:
    before = leftovers.descendants()
    command = [sys.executable, "-c", HOST, isolation, *(["fork"] if forked else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(1 + forked)]
    assert all(lines), lines
    said = dict(line.split(maxsplit=1) for line in lines)
    fork = int(said["forked"]) if forked else None
    pids = {one.pid for one in leftovers.descendants() - before} - {process.pid, fork}
    return Host(process, pids, Started.told(said["daemon"]).pid, fork)


def left_files() -> set[str]:
    return set(leftovers.traces().files)


@pytest.mark.parametrize("forked", [False, True], ids=["", "after it forked"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_nothing_is_left_two_seconds_after_the_host_has_ended(
    isolation: Isolation, number: signal.Signals, forked: bool
) -> None:
    before = left_files()
    host = start(isolation, forked=forked)
    try:
        assert len(host.pids) >= 5  # launcher, template, the loop, its daemon, a worker
        assert host.daemon in host.pids
        assert left_files() > before
        host.process.send_signal(number)
        host.process.wait(PATIENCE_S)
        assert leftovers.wait_gone(host.pids, GONE_S) == set()
        assert left_files() == before
    finally:
        host.process.kill()
        host.process.wait()
        if host.process.stdout is not None:
            host.process.stdout.close()
        if host.fork is not None:
            os.kill(host.fork, signal.SIGKILL)
            leftovers.wait_gone([host.fork])


# ── forks of the host ──


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        engine.warm(timeout=PATIENCE_S)
        yield engine


def in_a_fork(code: str) -> str:
    """Run a host that forks; `code` is its child's life. What it prints."""
    host = f"""
import os, sys, hotbed
engine = hotbed.Engine()
assert engine.run("40 + 2").value == 42
hotbed.run("1")
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    try:
{textwrap.indent(textwrap.dedent(code), "        ")}
    except BaseException as error:
        print(type(error).__name__, error)
    finally:
        sys.stdout.flush()
        {{leave}}
_pid, status = os.waitpid(pid, 0)
print("child", status, "parent", engine.run("40 + 2").value, hotbed.run("40 + 2").value)
"""
    outputs = set()
    for leave in ("os._exit(0)", "sys.exit(0)"):
        done = subprocess.run(
            [sys.executable, "-c", host.replace("{leave}", leave)],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.stderr == ""
        outputs.add(done.stdout)
    [output] = outputs
    return output


def test_a_fork_of_the_host_cannot_use_the_inherited_engine() -> None:
    said = in_a_fork("engine.run('1')")
    assert said.startswith("EngineError this engine belongs to the process that forked this one")
    assert said.endswith("child 0 parent 42 42\n")


def test_a_fork_of_the_host_can_make_an_engine_of_its_own() -> None:
    said = in_a_fork("with hotbed.Engine() as own: print(own.run('6 * 7').value)")
    assert said == "42\nchild 0 parent 42 42\n"


def test_hotbed_run_works_in_a_fork_of_the_host() -> None:
    assert in_a_fork("print(hotbed.run('6 * 7').value)") == "42\nchild 0 parent 42 42\n"


def test_closing_the_inherited_engine_in_a_fork_leaves_the_parents_alone() -> None:
    assert in_a_fork("engine.close()") == "child 0 parent 42 42\n"


def test_a_fork_amid_running_executions_harms_neither(engine: Engine) -> None:
    begun = threading.Event()
    go = threading.Event()
    results: list[object] = []

    def listen(_text: str) -> None:
        begun.set()
        go.wait(PATIENCE_S)

    thread = threading.Thread(
        target=lambda: results.append(
            engine.run("print('in', flush=True)\nresult = 42", on_stdout=listen).value
        )
    )
    thread.start()
    assert begun.wait(PATIENCE_S)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            try:
                engine.run("1")
            except EngineError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go.set()
    thread.join(PATIENCE_S)
    assert results == [42]
    assert engine.run("40 + 2").value == 42


def test_a_subprocess_of_the_host_holds_no_descriptor_of_the_engine(engine: Engine) -> None:
    look = "import os; print(len(os.listdir('/proc/self/fd')))"
    alone = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=PATIENCE_S, close_fds=False
    )
    engine.run("1")
    beside = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, timeout=PATIENCE_S, close_fds=False
    )
    assert alone.stdout == beside.stdout
