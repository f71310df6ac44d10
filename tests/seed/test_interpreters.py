"""The seed as real processes on each interpreter it must run on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotbed import Engine, Environment, EnvironmentBrokenError, Pool, Result, Status
from tests import interpreters

PATIENCE_S = 60.0


@pytest.fixture(scope="module", params=interpreters.VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def python(version: str) -> Path:
    found = interpreters.find(version)
    if found is None:
        pytest.skip(interpreters.how_to_install(version))
    return found


@pytest.fixture(scope="module")
def engine(python: Path) -> Iterator[Engine]:
    with Engine(Environment(python), pool=Pool(max_concurrency=4)) as engine:
        yield engine


@pytest.fixture(scope="module")
def unforked(python: Path) -> Iterator[Engine]:
    """An engine that starts an interpreter for each execution."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTBED_FORK", "0")
        with Engine(Environment(python), pool=Pool(max_concurrency=4)) as engine:
            engine.warm()
            yield engine


@pytest.fixture(params=["fresh", "worker", "oneshot", "unforked", "not isolated"])
def run(request: pytest.FixtureRequest, engine: Engine, unforked: Engine) -> Callable[..., Result]:
    """`Engine.run` in each way that a process of the seed comes into being."""
    if request.param == "unforked":
        return unforked.run
    if request.param == "not isolated":
        return functools.partial(engine.run, isolation="none")
    return functools.partial(engine.run, mode=request.param)


def test_the_code_runs_on_that_version(run: Callable[..., Result], version: str) -> None:
    assert run("import sys; '%d.%d' % sys.version_info[:2]").value == version


def test_values_and_text_come_back(run: Callable[..., Result]) -> None:
    result = run("{'n': n + 1, 'b': b}", inputs={"n": 41, "b": b"\xff"})
    assert (result.value, result.text) == ({"n": 42, "b": "/w=="}, "{'n': 42, 'b': b'\\xff'}")


def test_a_traceback_holds_the_users_frames_alone(run: Callable[..., Result]) -> None:
    error = run("def f():\n    return 1 / 0\n\nf()\n").error
    assert error is not None
    assert [(frame.file, frame.line, frame.function, frame.code) for frame in error.frames] == [
        ("<hotbed>", 4, "<module>", "f()"),
        ("<hotbed>", 2, "f", "return 1 / 0"),
    ]
    assert error.traceback.count('File "') == 2


def test_the_traceback_of_a_failed_import_holds_the_users_frames_alone(run: Callable[..., Result]) -> None:
    error = run("import no_such_module").error
    assert error is not None
    assert [frame.file for frame in error.frames] == ["<hotbed>"]
    assert error.traceback.count('File "') == 1


def test_a_syntax_error_is_shown_with_its_line(run: Callable[..., Result]) -> None:
    error = run("x = = 1").error
    assert error is not None
    assert (error.name, error.frames) == ("SyntaxError", ())
    assert "x = = 1" in error.traceback


@pytest.mark.parametrize("write", ["print('out')", "os.write(1, b'out\\n')", "os.system('echo out')"])
def test_output_is_captured_at_the_descriptor(run: Callable[..., Result], write: str) -> None:
    assert run(f"import os; {write}").stdout == "out\n"


def test_fresh_executions_draw_different_random_numbers(engine: Engine) -> None:
    drawn = {engine.run("import random; random.random()").value for _ in range(4)}
    assert len(drawn) == 4


def test_a_seed_repeats_the_numbers(run: Callable[..., Result]) -> None:
    drawn = {run("import random; random.random()", seed=5).value for _ in range(2)}
    assert len(drawn) == 1


def test_a_worker_keeps_a_files_state_and_awaits_coroutines(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "provider.py"
    file.write_text(
        "n = 0\nasync def f(step, *, more=0):\n    global n\n    n += step + more\n    return n\n"
    )
    assert [engine.call(f"{file}:f", 1, kwargs={"more": 2}).value for _ in range(3)] == [3, 6, 9]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("import os; os._exit(3)", Status.CRASHED),
        ("import os; os.kill(os.getpid(), 9)", Status.CRASHED),
        ("while True: pass", Status.TIMEOUT),
        ("def f(): f()\nf()", Status.ERROR),
        ("import sys; sys.exit(2)", Status.ERROR),
        ("result = object()", Status.ERROR),
        ("result = []\nfor _ in range(20_000): result = [result]", Status.ERROR),
        ("import json, os; json.dumps = json.loads = os._exit = os.write = print", Status.OK),
    ],
)
def test_bad_code_ends_typed_and_the_next_is_served(
    run: Callable[..., Result], code: str, status: Status
) -> None:
    limit_s = 0.5 if status is Status.TIMEOUT else PATIENCE_S
    assert run(code, timeout=limit_s).status is status
    assert run("40 + 2").value == 42


def test_large_values_travel_both_ways(run: Callable[..., Result]) -> None:
    given = "é\u2028\ud800" * 500_000
    assert run("result = x", inputs={"x": given}).value == given


def test_a_preloaded_module_is_there_and_a_warm_up_snippet_has_run(python: Path) -> None:
    environment = Environment(python, preload=["colorsys"], warmup="import wave; colors = wave")
    with Engine(environment) as engine:
        engine.warm(timeout=PATIENCE_S)
        code = "import sys; ['colorsys' in sys.modules, 'wave' in sys.modules, 'colors' in globals()]"
        assert engine.run(code).value == [True, True, False]


def test_a_preload_that_fails_shows_its_own_traceback(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("def f():\n    raise LookupError('no luck')\nf()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        Engine(Environment(python, preload=["broken_module"]), isolation="none") as engine,
        pytest.raises(EnvironmentBrokenError, match="LookupError: no luck") as caught,
    ):
        engine.run("1")
    text = str(caught.value)
    assert text.count('File "') == 2
    assert f'File "{tmp_path}/broken_module.py", line 3' in text


def test_the_seed_leaves_no_name_of_ours_for_the_users_code_to_meet(run: Callable[..., Result]) -> None:
    ours = "{'call', 'child', 'hotbed', 'run', 'values', 'wire'}"
    code = f"import sys; sorted({ours} & {{name.partition('.')[0] for name in sys.modules}})"
    assert run(code).value == []
    assert run("import sys; [p for p in sys.path if p.endswith('seed')]").value == []


def test_a_child_holds_its_streams_its_channel_and_nothing_else(run: Callable[..., Result]) -> None:
    code = "import os; len([n for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)])"
    assert run(code).value == 4
