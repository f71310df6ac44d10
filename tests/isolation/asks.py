"""What hosts are asked: each uses hotbed as any program would, and tells what came of it."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from hotbed import Engine, Environment, HotbedError, Limits, Mount, Pool, RefusedError, Result
from hotbed.engine.confinement import Confinement
from hotbed.isolation import IsolationWarning
from hotbed.proc.cgroup import Unavailable

PATIENCE_S = 60.0  # for another thread of the host

# Deeds that a sandbox must not allow; each becomes what it gives, or the name of its errno.
TRIED = """
import errno, os, socket

def tried(deed):
    try:
        return deed()
    except OSError as error:
        return errno.errorcode[error.errno]
"""
SIGHTS = f"""{TRIED}
with open("mine", "w") as file:
    file.write("kept")
result = {{
    "own": open("mine").read(),
    "read": tried(lambda: open(secret).read()),
    "listed": tried(lambda: os.listdir(os.path.dirname(secret))),
    "made": tried(lambda: open(secret + ".new", "w").close()),
    "signalled": tried(lambda: os.kill(engine, 0)),
    "connected": tried(lambda: socket.create_connection(("127.0.0.1", port), 5).close()),
}}
"""


class Look(msgspec.Struct, frozen=True):
    """What an engine finds on a host, and what code finds that it runs.

    Texts are those of refusals, "" where there was none; `network` is for an allow-list of hosts, None
    if it was not asked for.
    """

    tier: str
    mechanisms: set[str]
    failures: dict[str, str]  # of the tiers above, with the step
    groups: str  # why there are no cgroups
    groups_left: list[str]
    strict: str
    network: str | None
    seen: dict[str, Any]
    reason: str
    warnings: list[str]


def looks(settings: list[dict[str, str]], networks: list[bool]) -> list[Look | str]:
    """Look with each of these variables; what went wrong where that failed."""
    found: list[Look | str] = []
    for variables, network in zip(settings, networks, strict=True):
        os.environ.update(variables)
        try:
            found.append(_look(network=network))
        except Exception:
            found.append(traceback.format_exc())
        for name in variables:
            del os.environ[name]
    return found


def _look(*, network: bool) -> Look:
    """Run a piece of code, ask for the strictest, and perhaps for a network."""
    with (
        tempfile.TemporaryDirectory() as directory,
        warnings.catch_warnings(record=True) as caught,
        socket.create_server(("127.0.0.1", 0)) as server,
        Engine(pool=Pool(standby=1)) as engine,
    ):
        warnings.simplefilter("always")
        os.chmod(directory, 0o755)
        Path(directory, "secret").write_text("of the host")
        inputs = {
            "secret": f"{directory}/secret",
            "engine": os.getpid(),
            "port": server.getsockname()[1],
        }
        result = engine.run(SIGHTS, inputs=inputs)
        assert result.ok, result
        strict = _refusal(lambda: engine.run("1", isolation="strict"))
        listed = Limits(network=["api.example.com:443"])
        refused = _refusal(lambda: engine.run("1", limits=listed)) if network else None
        groups = engine.dispatcher.groups
        paths = [] if isinstance(groups, Unavailable) else groups.paths
        failures = engine.dispatcher.trials(engine.environment, Confinement()).failures
    return Look(
        tier=result.isolation[0],
        mechanisms=set(result.isolation[1:]),
        failures={str(tier): step for tier, step in failures.items()},
        groups=groups.reason if isinstance(groups, Unavailable) else "",
        groups_left=[path for path in paths if os.path.exists(path)],
        strict=strict,
        network=refused,
        seen=result.value,
        reason=result.reason,
        warnings=[str(one.message) for one in caught if issubclass(one.category, IsolationWarning)],
    )


def _refusal(run: Callable[[], Result]) -> str:
    try:
        result = run()
    except RefusedError as error:
        return str(error)
    assert result.ok, result
    return ""


# Two executions at a time.

WAITS = """
import os, signal
with open("secret", "w") as file:
    file.write("of an execution")
print(os.getcwd(), os.getpid(), flush=True)
while True:
    signal.pause()
"""
PRIES = f"""{TRIED}
result = {{
    "read": tried(lambda: open(f"{{directory}}/secret").read()),
    "listed": tried(lambda: os.listdir(directory)),
    "written": tried(lambda: open(f"{{directory}}/secret", "a").close()),
    "made": tried(lambda: open(f"{{directory}}/new", "w").close()),
    "removed": tried(lambda: os.unlink(f"{{directory}}/secret")),
    "signalled": tried(lambda: os.kill(pid, 0)),
    "its variables": tried(lambda: open(f"/proc/{{pid}}/environ").read()),
    "its memory": tried(lambda: open(f"/proc/{{pid}}/mem").close()),
    "its files": tried(lambda: os.listdir(f"/proc/{{pid}}/cwd/")),
}}
"""


class Neighbours(msgspec.Struct, frozen=True):
    """What one execution could do to another, and whether the other's directory went with its end."""

    tier: str
    mechanisms: set[str]
    pried: dict[str, Any]
    gone: bool


def neighbours() -> Neighbours:
    """Run one execution that waits, and one that knows where it is."""
    told: list[str] = []
    running = threading.Event()

    def listen(text: str) -> None:
        told.append(text)
        running.set()

    with Engine() as engine:
        thread = threading.Thread(target=lambda: engine.run(WAITS, on_stdout=listen, id="one", timeout=None))
        thread.start()
        assert running.wait(PATIENCE_S)
        directory, pid = "".join(told).split()
        other = engine.run(PRIES, inputs={"directory": directory, "pid": int(pid)})
        assert other.ok, other
        engine.cancel("one")
        thread.join(PATIENCE_S)
        exists = {"directory": directory}
        gone = False
        for _ in range(1000):  # its end is news a moment after its result
            gone = not engine.run("import os; os.path.lexists(directory)", inputs=exists).value
            if gone and not os.path.lexists(directory):
                break
    return Neighbours(other.isolation[0], set(other.isolation[1:]), other.value, gone)


# Interpreters.


class Interpreter(msgspec.Struct, frozen=True):
    """What code finds in an interpreter of that path."""

    tier: str
    prefix: str
    beside: str  # what became of reading a file beside the interpreter's prefix


def interpreter(python: str, beside: str) -> Interpreter:
    """Run a piece of code in another interpreter."""
    code = f"{TRIED}import sys\nresult = [sys.prefix, tried(lambda: open(beside).read())]"
    with Engine(Environment(python=python)) as engine:
        result = engine.run(code, inputs={"beside": beside})
        assert result.ok, result
    return Interpreter(result.isolation[0], *result.value)


# Mounts.


USES = f"""{TRIED}
result = {{
    "read": tried(lambda: open(f"{{path}}/file").read()),
    "listed": tried(lambda: os.listdir(path)),
    "made": tried(lambda: open(f"{{path}}/new", "w").close()),
    "beside": tried(lambda: open(f"{{path}}/../secret").read()),
}}
"""


class Mounted(msgspec.Struct, frozen=True):
    """What code does with a mount, or why it is refused; `tier` is that of the same engine without it."""

    writable: bool
    elsewhere: bool
    tier: str
    refusal: str
    seen: dict[str, Any]


def mounts() -> list[Mounted]:
    """Give a directory to a piece of code, in each way, before anything else is asked for."""
    return [_mount(writable, elsewhere) for writable in (False, True) for elsewhere in (False, True)]


def _mount(writable: bool, elsewhere: bool) -> Mounted:
    refusal, seen = "", {}
    with tempfile.TemporaryDirectory() as directory, Engine(Environment(preload=())) as engine:
        os.chmod(directory, 0o755)
        Path(directory, "secret").write_text("of the host")
        Path(directory, "data").mkdir()
        Path(directory, "data").chmod(0o777)
        Path(directory, "data", "file").write_text("text")
        given = Mount(f"{directory}/data", "/data" if elsewhere else "", writable)
        try:
            environment = Environment(preload=(), mounts=[given])
            seen = engine.run(USES, inputs={"path": given.target}, environment=environment).value
        except HotbedError as error:
            refusal = str(error)
        tier = engine.run("1").isolation[0]
    return Mounted(writable, elsewhere, tier, refusal, seen)


# Secrets.

VARIABLES = """
import glob, os
found, kinds = {}, ("self", "[0-9]*", "[0-9]*/task/*")
for path in [path for kind in kinds for path in glob.glob(f"/proc/{kind}/environ")]:
    try:
        with open(path, "rb") as file:
            found[path] = secret.encode() in file.read()
    except OSError:
        pass
result = {
    "own": sorted(os.environ),
    "known": any(secret in value for value in os.environ.values()),
    "found": sorted(path for path in found if found[path]),
    "readable": len(found),
}
"""


class Variables(msgspec.Struct, frozen=True):
    """What code sees of variables: its own, by name, and where the secret stands."""

    tier: str
    own: list[str]
    known: bool
    found: list[str]
    readable: int


def variables(secret: str) -> Variables:
    """Look for a secret of the host in all that code can see of any process."""
    assert secret in os.environ.values()
    with Engine() as engine:
        result = engine.run(VARIABLES, inputs={"secret": secret})
        assert result.ok, result
    return Variables(result.isolation[0], **result.value)
