"""What the host knows and the code must not, and what the caller gives and nobody else may see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotbed import Engine, Environment, Limits, Pool
from hotbed.isolation import Tier
from hotbed.proc.launch import guest_variables
from tests import leftovers
from tests.isolation import asks, worlds
from tests.isolation.host import answer_of

PATIENCE_S = 60.0
HOST_SECRET = "s3cret-of-the-host"
GIVEN_SECRET = "s3cret-of-the-caller"
WAITS = "import signal\nprint('in', flush=True)\nwhile True: signal.pause()"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine of a host with a secret variable, with every kind of process that there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTBED_TEST_SECRET", HOST_SECRET)
        with Engine(Environment(preload=()), pool=Pool(standby=1)) as engine:
            engine.run("1")
            engine.run("1", mode="worker")
            engine.run("1", limits=Limits(network=["api.example.com:443"]))
            engine.run("1", isolation="none")
            yield engine


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[None]:
    """Executions under way, isolated and not, with secrets in all that a caller gives."""
    threads = []
    for number, options in enumerate(
        ({"files": {"token": GIVEN_SECRET}}, {"mode": "worker"}, {"mode": "oneshot"}, {"isolation": "none"})
    ):
        begun = threading.Event()
        thread = threading.Thread(target=_run, args=(engine, str(number), begun, options))
        thread.start()
        threads.append(thread)
        assert begun.wait(PATIENCE_S)
    yield
    for number, thread in enumerate(threads):
        engine.cancel(str(number))
        thread.join(PATIENCE_S)


def _run(engine: Engine, name: str, begun: threading.Event, options: dict[str, Any]) -> None:
    engine.run(
        f"{WAITS}\n# {GIVEN_SECRET}",
        inputs={"token": GIVEN_SECRET, "blob": GIVEN_SECRET.encode()},
        env={"TOKEN": GIVEN_SECRET},
        id=name,
        timeout=None,
        on_stdout=lambda _text: begun.set(),
        **options,
    )


def processes_below(pid: int) -> set[int]:
    """A process and all its descendants."""
    parents = {process.pid: process.parent for process in leftovers.descendants()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def own_code_of(engine: Engine) -> set[int]:
    """The processes that run the caller's own code, those that are about to end included."""
    found = set()
    for place in engine.stats()["environments"]:
        if place["code"] == "own":
            found |= {child["pid"] for child in place["children"]}
            for template in place["templates"]:
                found |= processes_below(template["pid"])
    return found


def files_of(pids: set[int], name: str) -> dict[int, bytes]:
    """A file of /proc of each process that still is there."""
    found = {}
    for pid in pids:
        try:
            found[pid] = Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            continue
    return found


def holding(secret: str, files: dict[int, bytes]) -> set[int]:
    return {pid for pid, data in files.items() if secret.encode() in data}


# ── the host's ──


def test_no_process_but_those_of_own_code_holds_the_hosts_variables(engine: Engine, running: None) -> None:
    own = own_code_of(engine)
    pids = processes_below(engine.stats()["launcher_pid"])
    names = {name.decode().strip() for name in files_of(pids, "comm").values()}
    assert {"hotbed-launcher", "hotbed-guardian", "hotbed-template", "hotbed-proxy"} <= names
    holders = holding(HOST_SECRET, files_of(pids, "environ"))
    assert holders <= own | own_code_of(engine)  # it makes and ends some meanwhile
    assert holders, "own code has the host's variables"


@pytest.mark.parametrize("mode", ["fresh", "worker", "oneshot"])
def test_code_finds_no_variable_of_the_host(engine: Engine, mode: Any) -> None:
    value = engine.run(asks.VARIABLES, inputs={"secret": HOST_SECRET}, mode=mode).value
    assert (value["known"], value["found"]) == (False, [])
    allowed = {*guest_variables(), "PATH", "HOME", "USER", "LOGNAME", "TMPDIR"}
    assert set(value["own"]) <= allowed


def test_code_has_the_variables_that_it_is_given(engine: Engine) -> None:
    code = "import os; [os.environ.get('GIVEN'), os.environ.get('HOTBED_TEST_SECRET')]"
    assert engine.run(code, env={"GIVEN": "x"}).value == ["x", None]
    assert engine.run(code).value == [None, None]


def test_a_worker_forgets_the_variables_of_an_execution(engine: Engine) -> None:
    code = "import os; os.environ.get('GIVEN')"
    assert engine.run(code, env={"GIVEN": "x"}, mode="worker").value == "x"
    assert engine.run(code, mode="worker").value is None


HOSTS: dict[str, tuple[Callable[[], None], Tier, dict[str, str]]] = {
    "an ordinary user": (worlds.ordinary_user, Tier.FULL, {}),
    "shared": (worlds.deep_in_pid_namespaces, Tier.SHARED, {}),
    "landlock": (worlds.docker_profile_alone, Tier.LANDLOCK, {}),
    "landlock, an ordinary user": (worlds.docker_as_ordinary_user, Tier.LANDLOCK, {}),
    "landlock, without fork": (worlds.docker_profile_alone, Tier.LANDLOCK, {"HOTBED_FORK": "0"}),
    "limits": (worlds.docker_as_ordinary_user, Tier.LIMITS, {"HOTBED_LANDLOCK_ABI": "0"}),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="hosts are simulated by mounts, which take root")
@pytest.mark.parametrize("name", HOSTS)
def test_code_finds_no_variable_of_any_host(name: str) -> None:
    world, tier, env = HOSTS[name]
    env = {**env, "HOTBED_TEST_SECRET": HOST_SECRET}
    told = answer_of(asks.variables, world, asks.Variables, env=env, secret=HOST_SECRET)
    assert told.tier == tier
    assert not told.known
    assert "HOTBED_TEST_SECRET" not in told.own
    assert told.readable >= 1, "its own can be read"
    if tier is not Tier.LIMITS:  # there code has the user of the host, and reads what that may read
        assert told.found == []
    assert "/proc/self/environ" not in told.found


# ── the caller's ──


@pytest.mark.parametrize("name", ["cmdline", "environ", "comm"])
def test_no_process_shows_what_a_caller_gave(engine: Engine, running: None, name: str) -> None:
    pids = processes_below(engine.stats()["launcher_pid"]) | {os.getpid()}
    assert holding(GIVEN_SECRET, files_of(pids, name)) == set()


def test_stats_do_not_tell_what_a_caller_gave(engine: Engine, running: None) -> None:
    told = json.dumps(engine.stats())
    assert '"id": "3"' in told
    assert GIVEN_SECRET not in told
    assert GIVEN_SECRET not in repr(engine)


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_ps_does_not_tell_what_a_caller_gave(engine: Engine, running: None, options: list[str]) -> None:
    command = [sys.executable, "-m", "hotbed.cli.main", "ps", *options]
    told = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    assert str(os.getpid()) in told
    assert GIVEN_SECRET not in told


def test_errors_do_not_tell_what_a_caller_gave(engine: Engine) -> None:
    result = engine.run("1 / 0", inputs={"token": GIVEN_SECRET}, env={"TOKEN": GIVEN_SECRET})
    assert result.error is not None
    assert GIVEN_SECRET not in repr(result)
    result = engine.run("import os; os.abort()", inputs={"token": GIVEN_SECRET}, env={"TOKEN": GIVEN_SECRET})
    assert GIVEN_SECRET not in repr(result)


def test_an_execution_leaves_nothing_that_it_was_given_to_the_next(engine: Engine) -> None:
    engine.run("1", inputs={"token": GIVEN_SECRET}, env={"TOKEN": GIVEN_SECRET}, files={"t": GIVEN_SECRET})
    code = """
import os, sys
main = vars(sys.modules["__main__"])
result = ["token" in globals(), "token" in main, "TOKEN" in os.environ, os.path.exists("t")]
"""
    assert engine.run(code).value == [False] * 4
    engine.run("1", inputs={"token": GIVEN_SECRET}, env={"TOKEN": GIVEN_SECRET}, mode="worker")
    assert engine.run(code, mode="worker").value == [False] * 4
