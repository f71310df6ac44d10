"""What `run` promises: values, text, inputs, freshness, randomness; with forking and without."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy
import pytest

import hotbed
from hotbed import Engine, Environment, Limits, Mode, Result, Status
from hotbed.engine import default
from hotbed.engine.options import Isolation
from tests.engine.inside import NAMESPACE, Started

MODES = ("fresh", "worker", "oneshot")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    return Mode(request.param)


@pytest.fixture(params=["fresh", "worker"])
def warm_mode(request: pytest.FixtureRequest) -> Mode:
    """The modes that a test of many cases can afford; `mode` adds the one that starts a `python`."""
    return Mode(request.param)


def forks() -> bool:
    """Whether `engine` is the one that forks."""
    return os.environ.get("HOTBED_FORK") != "0"


@pytest.fixture
def the_default_engine() -> Iterator[None]:
    yield
    if default._engine is not None:
        default._engine.close()


def test_hotbed_run_gives_the_value_of_result(the_default_engine: None) -> None:
    assert hotbed.run("result = sum(range(1_000_000))").value == 499_999_500_000


@pytest.mark.parametrize(
    ("code", "value", "text"),
    [
        ("1 + 1", 2, "2"),
        ("result = 3\n7", 3, "3"),
        ("result = None\n7", None, "None"),
        ("x = 1", None, ""),
        ("", None, ""),
        ("# only a comment", None, ""),
        ("None", None, ""),
        ("'text'", "text", "'text'"),
        ("for i in range(3):\n    i", None, ""),
        ("{1, 3, 2}", [1, 2, 3], "{1, 2, 3}"),
        ("b'bytes'", "Ynl0ZXM=", "b'bytes'"),
        ("import datetime; datetime.date(2020, 1, 2)", "2020-01-02", "datetime.date(2020, 1, 2)"),
        ("import numpy; numpy.arange(3)", [0, 1, 2], "array([0, 1, 2])"),
        ("float('inf')", math.inf, "inf"),
        ("[1, (2, 3)]", [1, [2, 3]], "[1, (2, 3)]"),
        ("__name__", "__main__", "'__main__'"),
        ("import __main__; x = 5; __main__.x", 5, "5"),
        ("2 ** 10000", 2**10000, None),
    ],
)
def test_the_value_is_that_of_result_else_of_a_last_expression(
    forking: Engine, warm_mode: Mode, code: str, value: object, text: str | None
) -> None:
    result = forking.run(code, mode=warm_mode)
    assert result.ok
    assert result.value == value
    if text is not None:
        assert result.text == text


def test_a_last_expression_that_is_no_data_still_has_its_text(engine: Engine) -> None:
    result = engine.run("object()")
    assert (result.ok, result.value, result.text[:15]) == (True, None, "<object object ")


def test_nan_stays_nan(engine: Engine, mode: Mode) -> None:
    value = engine.run("x", inputs={"x": math.nan}, mode=mode).value
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    "given",
    [
        0,
        "text",
        [1, {"a": None}],
        b"",
        b"\0\xff",
        "\ud800\0\r\n\u2028\U0001f525",
        1e308,
        2**10_000,
        {"": []},
        True,
    ],
)
def test_inputs_are_the_codes_variables(forking: Engine, warm_mode: Mode, given: object) -> None:
    expected = [given.decode("latin-1")] if isinstance(given, bytes) else [given]
    code = "result = [x.decode('latin-1') if isinstance(x, bytes) else x]"
    result = forking.run(code, inputs={"x": given}, mode=warm_mode)
    assert result.value == expected


def test_values_and_inputs_are_the_same_in_every_mode(engine: Engine, mode: Mode) -> None:
    result = engine.run("{'n': n + 1, 'b': b}", inputs={"n": 41, "b": b"\xff"}, mode=mode)
    assert (result.value, result.text) == ({"n": 42, "b": "/w=="}, "{'n': 42, 'b': b'\\xff'}")


def test_an_input_named_result_is_no_value_until_the_code_assigns_it(engine: Engine) -> None:
    assert engine.run("x = 1", inputs={"result": 7}).value is None
    assert engine.run("result = result + 1", inputs={"result": 7}).value == 8


# What an execution leaves, and an expression that is true where another one sees it.
STATE = [
    ("leaked = 1", "'leaked' in globals()"),
    ("import math; math.pi = 3", "import math; math.pi == 3"),
    ("import json; json.leaked = 1", "import json; hasattr(json, 'leaked')"),
    ("import builtins; builtins.leaked = 1", "import builtins; hasattr(builtins, 'leaked')"),
    ("import os; os.environ['LEAKED'] = '1'", "import os; 'LEAKED' in os.environ"),
    ("import sys; sys.path.append('/leaked')", "import sys; '/leaked' in sys.path"),
    ("import sys; sys.modules['leaked'] = sys", "import sys; 'leaked' in sys.modules"),
    ("import sys; sys.setrecursionlimit(500)", "import sys; sys.getrecursionlimit() == 500"),
    ("import os; os.umask(0o007)", "import os; os.umask(0o022) == 0o007"),
    ("import signal; signal.alarm(1000)", "import signal; signal.alarm(0) > 0"),
]
FILES = [
    (
        "import os; os.mkdir('d'); os.chdir('d')",
        "import os; os.getcwd().endswith('d') or os.path.exists('d')",
    ),
    ("open('file', 'w').close()", "import os; os.path.exists('file')"),
    (
        "import tempfile; open(tempfile.gettempdir() + '/file', 'w').close()",
        "import os, tempfile; os.path.exists(tempfile.gettempdir() + '/file')",
    ),
    ("open('/var/tmp/file', 'w').close()", "import os; os.path.exists('/var/tmp/file')"),
    ("open('/dev/shm/file', 'w').close()", "import os; os.path.exists('/dev/shm/file')"),
    ("import os; open(os.environ['HOME'] + '/file', 'w')", "import os; os.listdir(os.environ['HOME'])"),
    ("import os; os.mkdir('../d'); open('../file', 'w')", "import os; 'd' in os.listdir('..')"),
    ("import os; os.symlink('/usr', 'link')", "import os; os.path.lexists('link')"),
    ("import os; os.chmod('.', 0)", "import os; not os.access('.', os.W_OK)"),
]


@pytest.mark.parametrize(
    ("isolation", "leave", "look"),
    [*(("auto", *one) for one in [*STATE, *FILES]), *(("none", *one) for one in STATE)],
)
def test_what_a_fresh_execution_leaves_no_other_one_sees(
    engine: Engine, isolation: Isolation, leave: str, look: str
) -> None:
    statements, _semicolon, expression = look.rpartition(";")
    for _ in range(3 if forks() else 1):  # a place that is used again is one of a forked process
        assert engine.run(leave, isolation=isolation).ok
        code = f"{statements}\nresult = bool({expression.strip()})"
        assert engine.run(code, isolation=isolation).value is False


def test_no_process_serves_two_fresh_executions(engine: Engine) -> None:
    code = "import sys; sys.served = getattr(sys, 'served', 0) + 1; sys.served"
    assert [engine.run(code).value for _ in range(5)] == [1] * 5


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_a_result_tells_the_pid_that_the_host_knows(engine: Engine, mode: Mode, isolation: Isolation) -> None:
    seen: list[int | None] = []

    def look(text: str) -> None:
        seen.append(Started.told(text).pid)
        engine.cancel("told")

    code = NAMESPACE + "print(os.getpid(), namespace)\nwhile True: pass"
    result = engine.run(code, id="told", mode=mode, isolation=isolation, on_stdout=look)
    assert seen == [result.pid]


def test_a_worker_keeps_imported_modules_and_gives_each_run_new_globals(engine: Engine) -> None:
    code = "import colorsys\nseen = getattr(colorsys, 'seen', 0)\ncolorsys.seen = seen + 1\n"
    look = "result = [seen, 'leaked' in globals()]\nleaked = 1"
    first = engine.run(code + look, mode="worker")
    second = engine.run(code + look, mode="worker")
    assert (first.value, second.value) == ([0, False], [1, False])
    assert first.worker == second.worker


def test_a_worker_gets_its_variables_and_its_directory_back(engine: Engine) -> None:
    home = engine.run("import os; os.getcwd()", mode="worker").value
    engine.run("import os; os.chdir('/')", mode="worker", env={"GIVEN": "1"})
    after = engine.run("import os; [os.getcwd(), 'GIVEN' in os.environ]", mode="worker").value
    assert after == [home, False]


@pytest.mark.parametrize("draw", ["import random; random.random()", "import numpy; numpy.random.random()"])
def test_each_execution_draws_other_random_numbers(engine: Engine, draw: str) -> None:
    drawn = {engine.run(draw).value for _ in range(8)}
    assert len(drawn) == 8


@pytest.mark.parametrize("draw", ["import random; random.random()", "import numpy; numpy.random.random()"])
def test_a_seed_repeats_the_numbers(engine: Engine, mode: Mode, draw: str) -> None:
    # Imported already or not when the seed is given: the numbers are the same.
    drawn = {engine.run(draw, seed=7, mode=mode).value for _ in range(3)}
    assert len(drawn) == 1


def test_a_seed_is_that_of_the_library(engine: Engine) -> None:
    expected = float(numpy.random.RandomState(7).random_sample())
    assert engine.run("import numpy; float(numpy.random.random())", seed=7).value == expected


def test_env_gives_variables_and_keeps_their_values_out_of_argv(engine: Engine, mode: Mode) -> None:
    code = "import os; result = [os.environ['GIVEN'], open('/proc/self/cmdline').read()]"
    value, command = engine.run(code, env={"GIVEN": "sécret"}, mode=mode).value
    assert value == "sécret"
    assert "cret" not in command


def test_a_strangers_code_sees_no_variable_that_is_not_on_the_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    with Engine() as engine:
        assert engine.run("import os; 'SECRET_TOKEN' in os.environ").value is False
        assert engine.run("import os; 'SECRET_TOKEN' in os.environ", isolation="none").value is True


def test_own_code_runs_in_the_callers_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Engine() as engine:
        assert engine.run("import os; os.getcwd()", isolation="none").value == str(tmp_path)


def test_a_result_tells_its_mode_environment_timing_and_usage(engine: Engine, mode: Mode) -> None:
    result = engine.run("import time; time.sleep(0.02)", mode=mode)
    assert result.mode is mode
    assert result.environment == engine.environment.name
    assert result.timing.run >= 0.02
    assert result.timing.total >= result.timing.run
    assert result.usage is not None
    assert result.usage.peak_bytes > 1_000_000
    assert (result.worker is not None) == (mode is Mode.WORKER)


def test_the_reason_says_why_there_was_no_fork_and_nothing_where_there_was(engine: Engine) -> None:
    reason = engine.run("1").reason
    assert reason == "" if forks() else "HOTBED_FORK=0" in reason


def test_each_execution_has_an_id_of_its_own_or_the_callers(engine: Engine) -> None:
    ids = [engine.run("1").id for _ in range(3)]
    assert len(set(ids)) == 3
    assert engine.run("1", id="mine").id == "mine"


# ── output ──


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "write",
    [
        "print('héllo', file=sys.{0})",
        "sys.{0}.write('héllo\\n')",
        "os.write({1}, 'héllo\\n'.encode())",
        "subprocess.run(['echo', 'héllo'], stdout={1})",
        "os.system('echo héllo >&{1}')",
        "sys.{0}.buffer.write('héllo\\n'.encode())",
    ],
)
def test_output_is_captured_at_the_descriptor(
    forking: Engine, warm_mode: Mode, stream: str, write: str
) -> None:
    number = 1 if stream == "stdout" else 2
    result = forking.run("import os, subprocess, sys\n" + write.format(stream, number), mode=warm_mode)
    assert (result.stdout, result.stderr) == (("héllo\n", "") if number == 1 else ("", "héllo\n"))


def test_output_is_captured_in_every_mode(engine: Engine, mode: Mode) -> None:
    result = engine.run("import os; os.system('echo out; echo err >&2')", mode=mode)
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_output_written_before_a_crash_is_kept(engine: Engine) -> None:
    assert engine.run("import os; print('last words'); os._exit(1)").stdout == "last words\n"


def test_output_that_is_no_text_is_shown_with_replacements(engine: Engine) -> None:
    assert engine.run("import os; os.write(1, b'a\\xffb')").stdout == "a\ufffdb"


@pytest.mark.parametrize("listener", ["on_stdout", "on_stderr"])
def test_a_listener_hears_output_while_the_code_runs(
    engine: Engine, mode: Mode, listener: str, shared: Path, sharing: Environment
) -> None:
    go = shared / "go"
    heard: list[str] = []

    def listen(text: str) -> None:
        heard.append(text)
        go.touch()  # the code waits for what only a listener called in time can make

    stream = listener.removeprefix("on_")
    code = f"""
import os, sys, time
print("ready", file=sys.{stream})
while not os.path.exists({str(go)!r}): time.sleep(0.005)
print("end", file=sys.{stream})
"""
    result = engine.run(
        code,
        mode=mode,
        environment=sharing,
        timeout=60,
        on_stdout=listen if stream == "stdout" else None,
        on_stderr=listen if stream == "stderr" else None,
    )
    assert result.ok
    assert "".join(heard) == "ready\nend\n" == getattr(result, stream)


def test_a_character_cut_by_a_pipes_read_reaches_the_listener_whole(engine: Engine) -> None:
    heard: list[str] = []
    result = engine.run("print('é' * 500_000, end='')", on_stdout=heard.append)
    assert "".join(heard) == result.stdout == "é" * 500_000


def test_a_listener_that_raises_ends_the_execution_with_its_own_exception(engine: Engine) -> None:
    def fail(text: str) -> None:
        raise LookupError(text)

    with pytest.raises(LookupError, match="word"):
        engine.run("print('word')\nwhile True: pass", on_stdout=fail, timeout=60)
    assert engine.run("40 + 2").value == 42


# ── errors ──


def test_a_traceback_holds_the_users_frames_alone(engine: Engine, mode: Mode) -> None:
    result = engine.run("def f():\n    return 1 / 0\n\nf()\n", mode=mode)
    assert result.error is not None
    assert [(frame.file, frame.line, frame.function) for frame in result.error.frames] == [
        ("<hotbed>", 4, "<module>"),
        ("<hotbed>", 2, "f"),
    ]
    assert [frame.code for frame in result.error.frames] == ["f()", "return 1 / 0"]
    assert result.error.traceback.count('File "') == 2
    assert "return 1 / 0" in result.error.traceback


def test_the_traceback_of_a_failed_import_holds_the_users_frames_alone(engine: Engine, mode: Mode) -> None:
    error = engine.run("import no_such_module", mode=mode).error
    assert error is not None
    assert [frame.file for frame in error.frames] == ["<hotbed>"]


@pytest.mark.parametrize("code", ["x = = 1", "def f(:", "'unclosed", "\x00"])
def test_a_syntax_error_has_no_frames_and_shows_the_line(engine: Engine, code: str) -> None:
    error = engine.run(code).error
    assert error is not None
    assert error.frames == ()
    assert error.traceback.count('File "') <= 1


@pytest.mark.parametrize("separator", ["\u2028", "\x0c", "\x85", "\x1c"])
def test_only_the_line_ends_of_python_count_in_a_traceback(engine: Engine, separator: str) -> None:
    error = engine.run(f"a = '{separator}'\n1 / 0").error
    assert error is not None
    assert error.frames[-1].code == "1 / 0"


def test_unwrap_raises_what_the_code_raised_with_its_traceback(engine: Engine) -> None:
    with pytest.raises(hotbed.RaisedError, match=r"(?s)KeyError: 'gone'.*line 1"):
        engine.run("{}['gone']").unwrap()


# ── time ──


def test_a_timeout_ends_the_code_and_keeps_what_it_printed(engine: Engine, mode: Mode) -> None:
    result = engine.run("print('begun')\nwhile True: pass", timeout=0.3, mode=mode)
    assert (result.status, result.stdout) == (Status.TIMEOUT, "begun\n")
    with pytest.raises(TimeoutError, match=r"0\.3 s"):
        result.unwrap()


def test_the_limits_of_the_engine_hold_where_a_call_gives_none() -> None:
    with Engine(limits=Limits(timeout=0.3)) as engine:
        assert engine.run("while True: pass").status is Status.TIMEOUT


def test_a_start_that_takes_longer_than_the_timeout_is_not_the_codes_fault() -> None:
    with Engine() as engine:  # its first execution waits for a template
        assert engine.run("40 + 2", timeout=0.1).value == 42


def test_cancel_ends_a_running_execution(engine: Engine, mode: Mode) -> None:
    begun = threading.Event()
    results: list[Result] = []
    thread = threading.Thread(
        target=lambda: results.append(
            engine.run(
                "print('begun')\nwhile True: pass", id="victim", mode=mode, on_stdout=lambda _: begun.set()
            )
        )
    )
    thread.start()
    assert begun.wait(60)
    assert engine.cancel("victim")
    thread.join(60)
    assert results[0].status is Status.CANCELLED
    assert not engine.cancel("victim")
    with pytest.raises(hotbed.CancelledError):
        results[0].unwrap()
    assert engine.run("40 + 2").value == 42


def test_the_id_of_no_execution_cannot_be_cancelled(engine: Engine) -> None:
    assert engine.cancel("nobody") is False


def test_a_result_is_data_that_json_can_hold(engine: Engine) -> None:
    assert json.loads(json.dumps(engine.run("{'a': [1, 2.5, None]}").value)) == {"a": [1, 2.5, None]}
