"""The nouns: checked when they are made, and errors that say whose fault it is."""

from __future__ import annotations

import os
import pickle
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed import errors
from hotbed.config import Pool, fork_enabled
from hotbed.errors import RequestError
from hotbed.model import (
    WARMUP_LIMIT,
    Environment,
    ErrorInfo,
    ErrorKind,
    Limits,
    Mode,
    Result,
    Status,
    parse_seconds,
    parse_size,
)

# ── sizes and seconds ──


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("1B", 1),
        ("512M", 512 * 1024**2),
        ("512MiB", 512 * 1024**2),
        ("512mib", 512 * 1024**2),
        ("512MB", 512 * 1000**2),
        ("512 mb", 512 * 1000**2),
        (" 1.5K ", 1536),
        ("1G", 1024**3),
        ("2T", 2 * 1024**4),
        (4096, 4096),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_a_size_is_bytes_or_text_with_a_unit(text: int | str, size: int) -> None:
    assert parse_size(text, "memory") == size


@pytest.mark.parametrize(
    "value", ["", "M", "12X", "-1", "1e3", "1 000", "0", 0, -1, True, 1.5, None, b"1M", "0.1"]
)
def test_what_is_no_size_is_the_callers_error(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^memory="):
        parse_size(value, "memory")


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_the_callers_error(text: str) -> None:
    try:
        size = parse_size(text, "memory")
    except RequestError:
        return
    assert size > 0


@pytest.mark.parametrize("digits", [19, 400, 5000])
def test_a_size_beyond_all_measure_is_the_callers_error(digits: int) -> None:
    with pytest.raises(RequestError, match=r"^memory="):
        parse_size("9" * digits + "T", "memory")


@pytest.mark.parametrize(("value", "seconds"), [(None, None), (1, 1.0), (0.5, 0.5), (1e8, 1e8)])
def test_seconds_are_a_number_above_zero_or_none(value: float | None, seconds: float | None) -> None:
    assert parse_seconds(value, "timeout") == seconds


@pytest.mark.parametrize("value", [0, -1, 1e9, float("inf"), float("nan"), True, "5", b"5", [5], 10**400])
def test_what_is_no_time_is_the_callers_error(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^timeout="):
        parse_seconds(value, "timeout")


# ── limits and pool ──


def test_limits_take_text_and_give_bytes() -> None:
    limits = Limits(timeout=5, output="1M", value="2MB")
    assert (limits.timeout, limits.output_bytes, limits.value_bytes) == (5.0, 1024**2, 2_000_000)


@pytest.mark.parametrize(
    "field",
    [
        *("timeout", "cpu_time", "cpu", "memory", "processes", "open_files", "file_size", "disk"),
        *("output", "value", "artifacts"),
    ],
)
def test_a_wrong_limit_names_its_field(field: str) -> None:
    with pytest.raises(RequestError, match=rf"^{field}="):
        Limits(**{field: -1})  # type: ignore[arg-type]  # none of these is the network


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("standby", -1),
        ("standby", True),
        ("min_workers", 1.0),
        ("max_workers", 0),
        ("max_concurrency", 0),
        ("max_queue", -1),
        ("max_queue", None),
        ("idle_timeout", 0),
        ("idle_timeout", float("nan")),
        ("start_timeout", "30"),
    ],
)
def test_a_wrong_pool_setting_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(RequestError, match=rf"^pool\.{field}="):
        Pool(**{field: value})


def test_there_are_no_more_workers_at_least_than_at_most() -> None:
    with pytest.raises(RequestError, match=r"pool\.min_workers=3 is above pool\.max_workers=2"):
        Pool(min_workers=3, max_workers=2)


@pytest.mark.parametrize(("value", "forks"), [(None, True), ("1", True), ("0", False)])
def test_forking_is_switched_off_by_a_variable(
    monkeypatch: pytest.MonkeyPatch, value: str | None, forks: bool
) -> None:
    monkeypatch.delenv("HOTBED_FORK", raising=False)
    if value is not None:
        monkeypatch.setenv("HOTBED_FORK", value)
    assert fork_enabled() is forks


# ── environments ──


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """The directory of a virtual environment, as far as finding its interpreter goes."""
    (tmp_path / "data" / "bin").mkdir(parents=True)
    (tmp_path / "data" / "bin" / "python").symlink_to(sys.executable)
    return tmp_path / "data"


def test_the_default_environment_is_the_running_interpreter() -> None:
    assert Environment().executable == sys.executable


def test_a_virtual_environment_is_named_by_its_directory(venv: Path) -> None:
    environment = Environment(python=venv)
    assert (environment.executable, environment.name) == (str(venv / "bin" / "python"), "data")


def test_an_interpreter_is_named_by_its_path(venv: Path) -> None:
    assert Environment(python=str(venv / "bin" / "python")).executable == str(venv / "bin" / "python")


def test_an_interpreter_is_found_on_the_path(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(venv / "bin"))
    monkeypatch.chdir(venv)
    assert Environment(python="python").executable == str(venv / "bin" / "python")


@pytest.mark.parametrize(
    "python", ["", "no-such-python", "/nowhere/python", os.devnull, "/", "a\0b", b"python", 5, ["python"]]
)
def test_what_is_no_interpreter_is_the_callers_error(python: Any) -> None:
    with pytest.raises(RequestError, match=r"^python="):
        Environment(python=python)


@pytest.mark.parametrize(
    "preload", ["pandas", "", ["a-b"], ["1a"], [""], ["a..b"], ["a."], [b"a"], [None], 5, None]
)
def test_what_is_no_preload_list_is_the_callers_error(preload: Any) -> None:
    with pytest.raises(RequestError, match="preload"):
        Environment(preload=preload)


@pytest.mark.parametrize("preload", [[], ["pandas"], ["os.path", "_private", "größe"], ("a",), iter(["a"])])
def test_a_preload_list_names_modules(preload: Any) -> None:
    assert isinstance(Environment(preload=preload).preload, tuple)


@pytest.mark.parametrize("warmup", [b"1", None, "x" * (WARMUP_LIMIT + 1), "ü" * (WARMUP_LIMIT // 2 + 1)])
def test_a_warm_up_snippet_is_text_of_bounded_length(warmup: Any) -> None:
    with pytest.raises(RequestError, match="warmup"):
        Environment(warmup=warmup)


def test_a_warm_up_snippet_is_source_text() -> None:
    with pytest.raises(RequestError, match="warmup"):
        Environment(warmup="x = '\ud800'")


@pytest.mark.parametrize("name", [5, b"data"])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(RequestError, match="name"):
        Environment(name=name)


def test_the_name_makes_no_other_environment() -> None:
    assert Environment(name="a").key == Environment(name="b").key


@pytest.mark.parametrize(
    "other", [{"preload": ["json"]}, {"preload": []}, {"warmup": "1"}, {"trusted": True}]
)
def test_anything_else_makes_another_environment(other: dict[str, Any]) -> None:
    key = Environment(**other).key
    assert key != Environment().key
    assert hash(key) == hash(Environment(**other).key)


# ── results ──

KINDS: dict[ErrorKind, tuple[type[errors.HotbedError], tuple[type[BaseException], ...]]] = {
    ErrorKind.RAISED: (errors.RaisedError, (errors.ExecutionError,)),
    ErrorKind.REQUEST: (errors.RequestError, (ValueError,)),
    ErrorKind.NOT_SERIALIZABLE: (errors.NotSerializableError, (errors.ExecutionError,)),
    ErrorKind.OUTPUT_TOO_LARGE: (errors.OutputTooLargeError, (errors.ExecutionError,)),
    ErrorKind.TIMEOUT: (errors.ExecutionTimeoutError, (errors.ExecutionError, TimeoutError)),
    ErrorKind.MEMORY: (errors.OutOfMemoryError, (errors.ExecutionError, MemoryError)),
    ErrorKind.CRASHED: (errors.CrashedError, (errors.ExecutionError, BrokenExecutor)),
    ErrorKind.CANCELLED: (errors.CancelledError, (errors.ExecutionError,)),
    ErrorKind.LOST: (errors.ChildLostError, (errors.EngineError,)),
}


def failed(kind: ErrorKind) -> Result:
    error = ErrorInfo(kind=kind, name="KeyError", message="'x' is missing", traceback="Traceback: line 1\n")
    return Result(id="1", status=Status.ERROR, mode=Mode.FRESH, environment="data", error=error)


def raised(result: Result) -> errors.HotbedError:
    with pytest.raises(errors.HotbedError) as caught:
        result.raise_for_error()
    return caught.value


def test_an_ok_result_is_given_back() -> None:
    result = Result(id="1", status=Status.OK, mode=Mode.FRESH, environment="data", value=3)
    assert result.raise_for_error() is result
    assert result.ok


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_of_error_has_its_exception(kind: ErrorKind) -> None:
    error = raised(failed(kind))
    kind_raised, bases = KINDS[kind]
    assert type(error) is kind_raised
    assert isinstance(error, (errors.HotbedError, *bases))
    assert all(isinstance(error, base) for base in bases)
    assert "'x' is missing" in str(error)


@pytest.mark.parametrize(
    "kind", [kind for kind in ErrorKind if issubclass(KINDS[kind][0], errors.ExecutionError)]
)
def test_an_execution_error_holds_its_result_and_traceback(kind: ErrorKind) -> None:
    result = failed(kind)
    error = raised(result)
    assert isinstance(error, errors.ExecutionError)
    assert error.result is result
    assert str(error).endswith("Traceback: line 1")


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle(kind: ErrorKind, protocol: int) -> None:
    error = raised(failed(kind))
    copy = pickle.loads(pickle.dumps(error, protocol))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert getattr(copy, "result", None) == getattr(error, "result", None)


def test_a_refusal_survives_pickle_with_its_time() -> None:
    refusal = errors.RefusedError("the queue is full", retry_after_s=1.5)
    copy = pickle.loads(pickle.dumps(refusal))
    assert (str(copy), copy.retry_after_s) == ("the queue is full", 1.5)
