"""Calls of functions in a user's file: state, arguments, errors."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from hotbed import CrashedError, Engine, ExecutionTimeoutError, NotSerializableError, RaisedError, Result

Call = Callable[..., Result]

SOURCE = '''
"""A provider."""
import os
count = 0

def counted():
    global count
    count += 1
    return count

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


@pytest.fixture(params=["none", "auto"])
def call(request: pytest.FixtureRequest, engine: Engine) -> Call:
    """`Engine.call`, as the caller's own code and as isolated code."""
    return functools.partial(engine.call, isolation=request.param)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the files called; open to all, since isolated code is nobody to the host."""
    path = tmp_path_factory.mktemp("place")
    path.chmod(0o755)
    (path / "sibling.py").write_text("HERE = 'sibling'\n")
    return path


@pytest.fixture
def provider(place: Path) -> Path:
    """The file above, which no other test has called."""
    path = place / f"provider_{secrets.token_hex(4)}.py"
    path.write_text(SOURCE)
    return path


def test_a_worker_keeps_the_files_state(call: Call, provider: Path) -> None:
    told = [call(f"{provider}:counted") for _ in range(4)]
    assert [result.value for result in told] == [1, 2, 3, 4]
    assert len({result.worker for result in told}) == 1


@pytest.mark.parametrize("mode", ["fresh", "oneshot"])
def test_no_other_mode_keeps_it(call: Call, provider: Path, mode: Literal["fresh", "oneshot"]) -> None:
    assert [call(f"{provider}:counted", mode=mode).value for _ in range(3)] == [1, 1, 1]


def test_two_files_of_one_name_do_not_meet(call: Call, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"def who(): return {name!r}\n")
    for name in ("one", "two", "one"):
        assert call(f"{tmp_path}/{name}/same.py:who").value == name


def test_arguments_arrive_as_they_were_given(call: Call, provider: Path) -> None:
    value = call(f"{provider}:echo", 1, "two", [3], kwargs={"four": None}).value
    assert value == [[1, "two", [3]], {"four": None}]


def test_bytes_arrive_as_bytes(call: Call, place: Path) -> None:
    (place / "p.py").write_text("def f(a, b): return [a.hex(), b.hex()]\n")
    assert call(f"{place}/p.py:f", b"\0\xff", kwargs={"b": b""}).value == ["00ff", ""]


def test_a_coroutine_is_awaited(call: Call, provider: Path) -> None:
    for given in (1, 2):
        assert call(f"{provider}:asleep", given).value == given


def test_a_method_is_found_by_its_dotted_name(call: Call, provider: Path) -> None:
    assert call(f"{provider}:Group.method").value == "method"


def test_the_file_sees_itself_as_if_imported_from_its_directory(call: Call, provider: Path) -> None:
    assert call(f"{provider}:names").value == [provider.stem, str(provider), "sibling"]


def test_an_exception_is_raised_with_the_files_own_frames(call: Call, provider: Path) -> None:
    with pytest.raises(RaisedError, match="ValueError: no luck") as caught:
        call(f"{provider}:fail")
    error = caught.value.result.error
    assert error is not None
    assert [(frame.file, frame.function) for frame in error.frames] == [
        (str(provider), "fail"),
        (str(provider), "deeper"),
    ]


def test_a_file_that_cannot_be_loaded_shows_its_own_traceback(call: Call, place: Path) -> None:
    (place / "broken.py").write_text("x = 1\ny = x / 0\ndef f(): pass\n")
    with pytest.raises(RaisedError, match="ZeroDivisionError") as caught:
        call(f"{place}/broken.py:f")
    error = caught.value.result.error
    assert error is not None
    assert [(frame.file, frame.line) for frame in error.frames] == [(f"{place}/broken.py", 2)]
    (place / "broken.py").write_text("def f(): return 42\n")
    assert call(f"{place}/broken.py:f").value == 42


@pytest.mark.parametrize(
    ("function", "error"),
    [("leave", CrashedError), ("no_data", NotSerializableError), ("forever", ExecutionTimeoutError)],
)
def test_each_bad_end_is_an_error_of_its_own_and_the_next_call_is_served(
    call: Call, provider: Path, function: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        call(f"{provider}:{function}", timeout=0.5)
    assert call(f"{provider}:echo", 42).value == [[42], {}]


def test_a_crash_in_one_worker_leaves_the_state_of_another(call: Call, provider: Path) -> None:
    go, stay = provider.with_suffix(".go"), provider.with_name(f"{provider.stem}_stay.py")
    stay.write_text(
        "import os, time\nstate = []\n"
        "def wait(path):\n    state.append(1)\n    print('in', flush=True)\n"
        "    while not os.path.exists(path): time.sleep(0.005)\n    return state\n"
    )

    def crash_beside(_text: str) -> None:
        with pytest.raises(CrashedError):
            call(f"{provider}:leave")
        go.touch()

    assert call(f"{stay}:wait", str(go), on_stdout=crash_beside).value == [1]
    assert call(f"{stay}:wait", str(go)).value == [1, 1]


def test_output_of_a_call_is_that_calls_alone(call: Call, provider: Path) -> None:
    assert call(f"{provider}:speak").stdout == "hello\n"
    assert call(f"{provider}:echo").stdout == ""
