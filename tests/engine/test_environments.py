"""Environments: what is preloaded, learned, changed under a running engine, or broken."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

import pytest

from hotbed import Engine, Environment, EnvironmentBrokenError, HotbedError, Mode, Pool
from tests.engine.venvs import Venv

PATIENCE_S = 60.0
MODES = ("fresh", "worker", "oneshot")
VersionedMode = Literal["fresh", "worker", "oneshot"]
THREADED = """
import threading, time
threading.Thread(target=time.sleep, args=(1e6,), daemon=True, name="lasting").start()
"""


def test_a_virtual_environment_is_named_by_its_directory(make_venv: Callable[[], Venv]) -> None:
    venv = make_venv()
    venv.install("tiny", "1", tiny="V = 1\n")
    with Engine(Environment(venv.path)) as engine:
        result = engine.run("import sys, tiny; [sys.prefix, tiny.V]")
        assert result.value == [str(venv.path), 1]


# ── preload ──


def value_once_it_is_tried_again(engine: Engine, code: str, mode: VersionedMode) -> object:
    """What `code` gives when the back-off of a broken environment is over."""
    while True:
        try:
            return engine.run(code, mode=mode).value
        except EnvironmentBrokenError:
            engine.run("1", environment=Environment())


def test_a_preloaded_module_costs_no_import(make_venv: Callable[[], Venv]) -> None:
    venv = make_venv()
    here = "(os.getpid(), os.readlink('/proc/self/ns/pid'))"
    venv.install("tiny", "1", tiny=f"import os\nHERE = {here}\n")
    with Engine(Environment(venv.path, preload=["tiny"])) as engine:
        result = engine.run(f"import os, tiny; tiny.HERE != {here}")
        assert (result.value, result.timing.import_) == (True, 0.0)


@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_a_preload_that_fails_shows_its_own_traceback_and_recovers_when_it_is_fixed(
    make_venv: Callable[[], Venv], mode: VersionedMode
) -> None:
    venv = make_venv()
    venv.install("tiny", "1", tiny="import helper\n", helper="x = 1 / 0\n")
    with Engine(Environment(venv.path, preload=["tiny"])) as engine:
        with pytest.raises(EnvironmentBrokenError, match="cannot import 'tiny'") as caught:
            engine.run("1", mode=mode)
        message = str(caught.value)
        assert "x = 1 / 0" in message
        assert "ZeroDivisionError" in message
        assert "seed" not in message
        assert engine.run("40 + 2", mode="oneshot", environment=Environment()).value == 42
        venv.install("tiny", "2", tiny="V = 2\n")
        assert value_once_it_is_tried_again(engine, "import tiny; tiny.V", mode) == 2


@pytest.mark.parametrize("fork", ["1", "0"])
def test_a_preload_that_does_not_exist_is_named(
    make_venv: Callable[[], Venv], fork: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTBED_FORK", fork)
    with Engine(Environment(make_venv().path, preload=["no_such_module"])) as engine:
        for _ in range(2):
            with pytest.raises(EnvironmentBrokenError, match="No module named 'no_such_module'"):
                engine.run("1")
        with pytest.raises(EnvironmentBrokenError, match="no_such_module"):
            engine.warm(timeout=PATIENCE_S)


@pytest.mark.parametrize("exit_", ["raise SystemExit(3)", "import os; os._exit(3)", "import os; os.abort()"])
def test_a_preload_that_ends_its_process_is_an_engine_error(
    make_venv: Callable[[], Venv], exit_: str
) -> None:
    venv = make_venv()
    venv.install("tiny", "1", tiny=f"print('last words', flush=True)\n{exit_}\n")
    with Engine(Environment(venv.path, preload=["tiny"])) as engine:
        with pytest.raises(HotbedError, match="last words"):
            engine.run("1", queue_timeout=PATIENCE_S)
        assert engine.run("40 + 2", environment=Environment()).value == 42


def test_a_preload_that_never_ends_is_given_up_after_start_timeout(make_venv: Callable[[], Venv]) -> None:
    venv = make_venv()
    venv.install("tiny", "1", tiny="while True: pass\n")
    with (
        Engine(Environment(venv.path, preload=["tiny"]), pool=Pool(start_timeout=1.0)) as engine,
        pytest.raises(EnvironmentBrokenError, match="not ready within 1 s"),
    ):
        engine.run("1", queue_timeout=PATIENCE_S)


# ── warm-up ──


@pytest.mark.parametrize("fork", ["1", "0"])
def test_a_warm_up_snippet_leaves_no_output_and_no_variables(
    fork: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTBED_FORK", fork)
    with Engine(Environment(warmup="print('warming'); import colorsys; warm = 1")) as engine:
        engine.warm(timeout=PATIENCE_S)
        result = engine.run("import sys; ['warm' in globals(), 'colorsys' in sys.modules]")
        assert (result.value, result.stdout) == ([False, True], "")


def test_a_warm_up_snippet_that_seeds_does_not_make_executions_alike() -> None:
    with Engine(Environment(warmup="import random; random.seed(1)")) as engine:
        drawn = set()
        for _ in range(4):
            engine.warm(timeout=PATIENCE_S)
            drawn.add(engine.run("import random; random.random()").value)
        assert len(drawn) == 4


def test_a_warm_up_snippet_that_fails_is_reported_with_its_own_traceback() -> None:
    with (
        Engine(Environment(warmup="x = 1 / 0")) as engine,
        pytest.raises(EnvironmentBrokenError, match=r"(?s)warm-up|ZeroDivisionError"),
    ):
        engine.warm(timeout=PATIENCE_S)


# ── threads at import ──


def test_a_preloaded_module_that_starts_a_thread_is_served_by_interpreters_with_the_reason(
    make_venv: Callable[[], Venv],
) -> None:
    venv = make_venv()
    venv.install("threaded", "1", threaded=THREADED)
    with Engine(Environment(venv.path, preload=["threaded"])) as engine:
        served = "import sys; sys.served = getattr(sys, 'served', 0) + 1"
        code = f"{served}\nimport threading, threaded; [sys.served, *(t.name for t in threading.enumerate())]"
        results = [engine.run(code) for _ in range(3)]
        assert [result.value for result in results] == [[1, "MainThread", "lasting"]] * 3
        assert "threaded" in results[0].reason
        assert "do not survive a fork" in results[0].reason


def test_a_learned_module_that_starts_a_thread_is_not_preloaded_and_forking_goes_on(
    make_venv: Callable[[], Venv],
) -> None:
    venv = make_venv()
    venv.install("threaded", "1", threaded=THREADED)
    venv.install("tiny", "1", tiny="V = 1\n")
    with Engine(Environment(venv.path)) as engine:
        for _ in range(3):
            result = engine.run("import threaded; import tiny; tiny.V")
            assert (result.value, result.reason) == (1, "")
        until_preloaded(engine, "tiny", "import tiny, threaded")
        assert "threaded" not in engine.stats()["environments"][0]["preloaded"]
        assert engine.run("import threaded; 42").reason == ""


# ── learning ──


def until_preloaded(engine: Engine, name: str, code: str) -> None:
    for _ in range(500):  # each turn runs code: progress, not time
        if name in engine.stats()["environments"][0]["preloaded"]:
            engine.warm(timeout=PATIENCE_S)
            return
        engine.run(code)
    raise AssertionError(f"{name} was not learned: {engine.stats()}")


def test_an_installed_module_is_learned_and_its_import_is_not_paid_again(
    make_venv: Callable[[], Venv],
) -> None:
    venv = make_venv()
    venv.install("tiny", "1", tiny="import time; time.sleep(0.01)\n")
    with Engine(Environment(venv.path)) as engine:
        assert engine.run("import tiny").timing.import_ >= 0.01
        until_preloaded(engine, "tiny", "import tiny")
        result = engine.run("import tiny")
        while result.timing.import_ > 0.0:  # a standby of the older template may have been left
            engine.warm(timeout=PATIENCE_S)
            result = engine.run("import tiny")
        assert result.ok


def test_modules_of_no_installed_distribution_are_not_learned(make_venv: Callable[[], Venv]) -> None:
    venv = make_venv()
    venv.install("tiny", "1", tiny="V = 1\n")
    with Engine(Environment(venv.path)) as engine:
        code = """
import sys
open("local.py", "w").close()
sys.path.insert(0, "")
import colorsys, local, tiny
"""
        assert engine.run(code).ok
        until_preloaded(engine, "tiny", code)
        assert engine.stats()["environments"][0]["preloaded"] == ["tiny"]


def test_a_learned_module_that_cannot_be_preloaded_is_left_to_executions(
    make_venv: Callable[[], Venv],
) -> None:
    venv = make_venv()
    moody = "import __main__\nassert hasattr(__main__, 'x')\n"  # as no template's is
    venv.install("moody", "1", moody=moody)
    with Engine(Environment(venv.path)) as engine:
        for _ in range(20):
            assert engine.run("x = 1\nimport moody\nresult = 42").value == 42
        assert engine.stats()["environments"][0]["preloaded"] == []


# ── a new version under a running engine ──


@pytest.mark.parametrize("preload", ["auto", ["tiny"]])
@pytest.mark.parametrize("mode", MODES)
def test_a_new_version_is_seen_by_the_next_execution_and_never_mixed_with_the_old(
    make_venv: Callable[[], Venv], mode: VersionedMode, preload: Literal["auto"] | list[str]
) -> None:
    venv = make_venv()
    code = "import tiny\nfirst = tiny.V\nimport tiny_part\nresult = [first, tiny_part.V]"
    with Engine(Environment(venv.path, preload=preload)) as engine:
        for version in range(1, 5):
            venv.install("tiny", str(version), tiny=f"V = {version}\n", tiny_part=f"V = {version}\n")
            for _ in range(3):
                assert engine.run(code, mode=mode).value == [version, version]


def test_a_module_installed_under_a_running_engine_is_found(make_venv: Callable[[], Venv]) -> None:
    venv = make_venv()
    with Engine(Environment(venv.path)) as engine:
        for mode in (Mode.FRESH, Mode.WORKER):
            assert engine.run("import tiny", mode=mode).error is not None
        venv.install("tiny", "1", tiny="V = 1\n")
        for mode in (Mode.FRESH, Mode.WORKER):
            assert engine.run("import tiny; tiny.V", mode=mode).value == 1


def test_an_environment_that_is_deleted_breaks_with_its_path_and_others_go_on(
    make_venv: Callable[[], Venv],
) -> None:
    import shutil

    venv = make_venv()
    gone = Environment(venv.path)
    with Engine() as engine:
        assert engine.run("40 + 2", environment=gone).value == 42
        shutil.rmtree(venv.path)
        for _ in range(4):
            try:
                engine.run("1", environment=gone, queue_timeout=PATIENCE_S)
            except HotbedError as error:
                assert venv.path.name in str(error) or "hotbed" in str(error)  # noqa: PT017
        assert engine.run("40 + 2").value == 42


def test_two_environments_of_one_engine_do_not_meet(make_venv: Callable[[], Venv]) -> None:
    venvs = [make_venv(), make_venv()]
    for number, venv in enumerate(venvs):
        venv.install("tiny", str(number), tiny=f"V = {number}\n")
    with Engine() as engine:
        for number, venv in enumerate(venvs):
            for mode in (Mode.FRESH, Mode.WORKER):
                result = engine.run("import tiny; tiny.V", mode=mode, environment=Environment(venv.path))
                assert (result.value, result.environment) == (number, venv.path.name)


def test_the_running_interpreter_is_the_default_environment() -> None:
    with Engine() as engine:
        assert engine.run("import sys; sys.executable").value == sys.executable
