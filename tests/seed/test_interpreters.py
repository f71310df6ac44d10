"""The seed as real processes on each interpreter it must run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hotbed import Engine, Environment, EnvironmentBrokenError, Mode, Pool, Status
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


@pytest.fixture(scope="module", params=["forked", "interpreters"])
def engine(request: pytest.FixtureRequest, python: Path) -> Iterator[Engine]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTBED_FORK", "1" if request.param == "forked" else "0")
        with Engine(Environment(python), pool=Pool(max_concurrency=4)) as engine:
            yield engine


@pytest.fixture(params=["fresh", "worker", "oneshot"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


def test_the_code_runs_on_that_version(engine: Engine, mode: Mode, version: str) -> None:
    assert engine.run("import sys; '%d.%d' % sys.version_info[:2]", mode=mode).value == version


def test_values_and_text_come_back(engine: Engine, mode: Mode) -> None:
    result = engine.run("{'n': n + 1, 'b': b}", inputs={"n": 41, "b": b"\xff"}, mode=mode)
    assert (result.value, result.text) == ({"n": 42, "b": "/w=="}, "{'n': 42, 'b': b'\\xff'}")


def test_a_traceback_holds_the_users_frames_alone(engine: Engine, mode: Mode) -> None:
    error = engine.run("def f():\n    return 1 / 0\n\nf()\n", mode=mode).error
    assert error is not None
    assert [(frame.file, frame.line, frame.function, frame.code) for frame in error.frames] == [
        ("<hotbed>", 4, "<module>", "f()"),
        ("<hotbed>", 2, "f", "return 1 / 0"),
    ]
    assert error.traceback.count('File "') == 2


def test_the_traceback_of_a_failed_import_holds_the_users_frames_alone(engine: Engine, mode: Mode) -> None:
    error = engine.run("import no_such_module", mode=mode).error
    assert error is not None
    assert [frame.file for frame in error.frames] == ["<hotbed>"]
    assert error.traceback.count('File "') == 1


def test_a_syntax_error_is_shown_with_its_line(engine: Engine, mode: Mode) -> None:
    error = engine.run("x = = 1", mode=mode).error
    assert error is not None
    assert (error.name, error.frames) == ("SyntaxError", ())
    assert "x = = 1" in error.traceback


@pytest.mark.parametrize("write", ["print('out')", "os.write(1, b'out\\n')", "os.system('echo out')"])
def test_output_is_captured_at_the_descriptor(engine: Engine, mode: Mode, write: str) -> None:
    assert engine.run(f"import os; {write}", mode=mode).stdout == "out\n"


def test_fresh_executions_draw_different_random_numbers(engine: Engine) -> None:
    drawn = {engine.run("import random; random.random()").value for _ in range(4)}
    assert len(drawn) == 4


def test_a_seed_repeats_the_numbers(engine: Engine, mode: Mode) -> None:
    drawn = {engine.run("import random; random.random()", seed=5, mode=mode).value for _ in range(2)}
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
    engine: Engine, mode: Mode, code: str, status: Status
) -> None:
    assert engine.run(code, mode=mode, timeout=2.0).status is status
    assert engine.run("40 + 2", mode=mode).value == 42


def test_large_values_travel_both_ways(engine: Engine, mode: Mode) -> None:
    given = "é\u2028\ud800" * 500_000
    assert engine.run("result = x", inputs={"x": given}, mode=mode).value == given


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


def test_the_seed_leaves_no_name_of_ours_for_the_users_code_to_meet(engine: Engine, mode: Mode) -> None:
    ours = "{'call', 'child', 'hotbed', 'run', 'values', 'wire'}"
    code = f"import sys; sorted({ours} & {{name.partition('.')[0] for name in sys.modules}})"
    assert engine.run(code, mode=mode).value == []
    assert engine.run("import sys; [p for p in sys.path if p.endswith('seed')]", mode=mode).value == []


def test_a_child_holds_its_streams_its_channel_and_nothing_else(engine: Engine, mode: Mode) -> None:
    code = "import os; len([n for n in os.listdir('/proc/self/fd') if os.path.exists('/proc/self/fd/' + n)])"
    assert engine.run(code, mode=mode).value == 4
