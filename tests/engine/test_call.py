"""Calls of functions in a user's file: state, arguments, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from hotbed import CrashedError, Engine, ExecutionTimeoutError, NotSerializableError, RaisedError

SOURCE = '''
"""A provider."""
import os
count = 0

def counted():
    global count
    count += 1
    return [os.getpid(), count]

def echo(*args, **kwargs):
    return [list(args), kwargs]

async def asleep(x):
    import asyncio
    await asyncio.sleep(0)
    return x

class Group:
    @staticmethod
    def method():
        return "method"

def names():
    import sibling
    return [__name__, __file__, sibling.HERE]

def fail():
    deeper()

def deeper():
    raise ValueError("no luck")

def leave():
    os._exit(3)

def no_data():
    return object()

def forever():
    while True: pass

def speak():
    print("hello")
'''


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    (tmp_path / "sibling.py").write_text("HERE = 'sibling'\n")
    path = tmp_path / "provider.py"
    path.write_text(SOURCE)
    return path


def test_a_worker_keeps_the_files_state(engine: Engine, provider: Path) -> None:
    told = [engine.call(f"{provider}:counted").value for _ in range(4)]
    assert [count for _pid, count in told] == [1, 2, 3, 4]
    assert len({pid for pid, _count in told}) == 1


@pytest.mark.parametrize("mode", ["fresh", "oneshot"])
def test_no_other_mode_keeps_it(engine: Engine, provider: Path, mode: Literal["fresh", "oneshot"]) -> None:
    told = [engine.call(f"{provider}:counted", mode=mode).value for _ in range(3)]
    assert [count for _pid, count in told] == [1, 1, 1]


def test_two_files_of_one_name_do_not_meet(engine: Engine, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"def who(): return {name!r}\n")
    for name in ("one", "two", "one"):
        assert engine.call(f"{tmp_path}/{name}/same.py:who").value == name


def test_arguments_arrive_as_they_were_given(engine: Engine, provider: Path) -> None:
    value = engine.call(f"{provider}:echo", 1, "two", [3], kwargs={"four": None}).value
    assert value == [[1, "two", [3]], {"four": None}]


def test_bytes_arrive_as_bytes(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "p.py").write_text("def f(a, b): return [a.hex(), b.hex()]\n")
    assert engine.call(f"{tmp_path}/p.py:f", b"\0\xff", kwargs={"b": b""}).value == ["00ff", ""]


def test_a_coroutine_is_awaited(engine: Engine, provider: Path) -> None:
    for given in (1, 2):
        assert engine.call(f"{provider}:asleep", given).value == given


def test_a_method_is_found_by_its_dotted_name(engine: Engine, provider: Path) -> None:
    assert engine.call(f"{provider}:Group.method").value == "method"


def test_the_file_sees_itself_as_if_imported_from_its_directory(engine: Engine, provider: Path) -> None:
    assert engine.call(f"{provider}:names").value == ["provider", str(provider), "sibling"]


def test_an_exception_is_raised_with_the_files_own_frames(engine: Engine, provider: Path) -> None:
    with pytest.raises(RaisedError, match="ValueError: no luck") as caught:
        engine.call(f"{provider}:fail")
    error = caught.value.result.error
    assert error is not None
    assert [(frame.file, frame.function) for frame in error.frames] == [
        (str(provider), "fail"),
        (str(provider), "deeper"),
    ]


def test_a_file_that_cannot_be_loaded_shows_its_own_traceback(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\ndef f(): pass\n")
    with pytest.raises(RaisedError, match="ZeroDivisionError") as caught:
        engine.call(f"{tmp_path}/broken.py:f")
    error = caught.value.result.error
    assert error is not None
    assert [(frame.file, frame.line) for frame in error.frames] == [(f"{tmp_path}/broken.py", 2)]
    (tmp_path / "broken.py").write_text("def f(): return 42\n")
    assert engine.call(f"{tmp_path}/broken.py:f").value == 42


@pytest.mark.parametrize(
    ("function", "error"),
    [("leave", CrashedError), ("no_data", NotSerializableError), ("forever", ExecutionTimeoutError)],
)
def test_each_bad_end_is_an_error_of_its_own_and_the_next_call_is_served(
    engine: Engine, provider: Path, function: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        engine.call(f"{provider}:{function}", timeout=1)
    assert engine.call(f"{provider}:echo", 42).value == [[42], {}]


def test_a_crash_in_one_worker_leaves_the_state_of_another(
    engine: Engine, provider: Path, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    (tmp_path / "stay.py").write_text(
        "import os, time\nstate = []\n"
        "def wait(path):\n    state.append(1)\n    print('in', flush=True)\n"
        "    while not os.path.exists(path): time.sleep(0.005)\n    return state\n"
    )

    def crash_beside(_text: str) -> None:
        with pytest.raises(CrashedError):
            engine.call(f"{provider}:leave")
        go.touch()

    assert engine.call(f"{tmp_path}/stay.py:wait", str(go), on_stdout=crash_beside).value == [1]
    assert engine.call(f"{tmp_path}/stay.py:wait", str(go)).value == [1, 1]


def test_output_of_a_call_is_that_calls_alone(engine: Engine, provider: Path) -> None:
    assert engine.call(f"{provider}:speak").stdout == "hello\n"
    assert engine.call(f"{provider}:echo").stdout == ""
