"""What an engine tells of itself, and to whom."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotbed import Engine, Pool

PATIENCE_S = 60.0
RUNS = "print('in', flush=True)\nimport time\nwhile True: time.sleep(1000)"


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(name="under test", pool=Pool(max_concurrency=3)) as engine:
        engine.warm(timeout=PATIENCE_S)
        yield engine


@pytest.fixture
def running(engine: Engine) -> Iterator[None]:
    """An execution under way, with secrets in all that a caller gives."""
    begun = threading.Event()
    thread = threading.Thread(
        target=lambda: engine.run(
            RUNS + "\n# s3cret",
            inputs={"token": "s3cret"},
            env={"TOKEN": "s3cret"},
            id="watched",
            timeout=None,
            on_stdout=lambda _: begun.set(),
        )
    )
    thread.start()
    assert begun.wait(PATIENCE_S)
    yield
    engine.cancel("watched")
    thread.join(PATIENCE_S)


def sockets() -> list[Path]:
    return sorted(Path(os.environ["XDG_RUNTIME_DIR"], "hotbed").glob(f"engine-{os.getpid()}-*.sock"))


def ask(path: Path) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_S)
        client.connect(str(path))
        text = b"".join(iter(lambda: client.recv(65536), b""))
    answer: dict[str, Any] = json.loads(text)
    return answer


def test_the_socket_tells_what_stats_tells(engine: Engine, running: None) -> None:
    [path] = sockets()
    told = ask(path)
    assert told["name"] == "under test"
    assert told["pid"] == os.getpid()
    assert told["running"] == 1
    assert told.keys() == engine.stats().keys()
    [environment] = told["environments"]
    assert environment["executable"] == engine.environment.executable
    assert environment["templates"][0]["ready"]
    states = [child["state"] for child in environment["children"]]
    assert states.count("leased") == 1
    assert "standby" in states
    [doing] = [child for child in environment["children"] if child["state"] == "leased"]
    assert doing["id"] == "watched"
    assert doing["for_s"] >= 0


def test_the_socket_tells_no_value_of_a_request(running: None) -> None:
    [path] = sockets()
    assert "s3cret" not in json.dumps(ask(path))


def test_no_argument_list_and_no_environment_of_a_process_holds_a_value(
    engine: Engine, running: None
) -> None:
    [environment] = engine.stats()["environments"]
    pids = [child["pid"] for child in environment["children"] if child["pid"]]
    pids += [template["pid"] for template in environment["templates"]]
    for pid in [*pids, engine.stats()["launcher_pid"]]:
        assert b"s3cret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"s3cret" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_socket_and_directory_are_the_users_alone(engine: Engine) -> None:
    [path] = sockets()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_each_engine_has_a_socket_until_it_closes(engine: Engine) -> None:
    with Engine(name="second"):
        assert {ask(path)["name"] for path in sockets()} == {"under test", "second"}
    assert len(sockets()) == 1


def test_a_client_that_never_reads_stops_nobody(engine: Engine) -> None:
    [path] = sockets()
    with socket.socket(socket.AF_UNIX) as mute:
        mute.connect(str(path))
        assert engine.run("40 + 2").value == 42
        assert ask(path)["queued"] == 0


def test_workers_are_told_with_their_mode(engine: Engine) -> None:
    engine.run("1", mode="worker")
    [environment] = engine.stats()["environments"]
    assert [child["served"] for child in environment["children"] if child["mode"] == "worker"] == [1]


def test_a_repr_shows_the_state(engine: Engine, running: None) -> None:
    assert repr(engine).startswith("<Engine 1 environments | ")
    assert "1 leased, 0 queued" in repr(engine)
