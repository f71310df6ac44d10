"""What is wrong with a request is the caller's error before any process is asked for."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.engine.request import Request, call_request, parse_mode, run_request
from hotbed.errors import RequestError
from hotbed.model import Mode
from hotbed.seed import shared, values, wire

DEEP = 20_000


def running(
    code: Any = "1", *, inputs: Any = None, env: Any = None, seed: Any = None, mode: Mode = Mode.FRESH
) -> Request:
    return run_request(code, mode=mode, own=False, inputs=inputs, env=env, seed=seed, trusted=False)


def calling(
    target: Any, *args: Any, kwargs: Mapping[str, Any] | None = None, env: Any = None, seed: Any = None
) -> Request:
    return call_request(
        target, args, kwargs or {}, mode=Mode.WORKER, own=True, env=env, seed=seed, trusted=False
    )


@pytest.fixture
def provider(tmp_path: Path) -> str:
    """The path of a file that could be called."""
    file = tmp_path / "provider.py"
    file.write_text("def call_api(prompt): return prompt")
    return str(file)


def sent_inputs(request: Request) -> dict[str, Any]:
    """The inputs as the child sees them."""
    meta = wire.decode(request.meta)
    return values.unpack(request.body, meta["inputs_bytes"], meta["blobs"])


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def contains_itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


class Wrapped:
    """An object whose conversion is the user's own code."""

    def __init__(self, convert: Callable[[], Any]) -> None:
        self._convert = convert

    def tolist(self) -> Any:
        return self._convert()


def always_another() -> Wrapped:
    return Wrapped(always_another)


def not_today() -> Any:
    raise KeyError("not today")


# ── what is wrong ──


@pytest.mark.parametrize("code", [b"1", None, 5, ["1"], Path("code.py")])
def test_code_that_is_no_text_is_the_callers_error(code: Any) -> None:
    with pytest.raises(RequestError, match=r"^code must be text"):
        running(code)


@pytest.mark.parametrize("code", ["\ud800", "x = '\udfff'", "a" * 1000 + "\udc80"])
def test_a_lone_surrogate_in_code_is_the_callers_error(code: str) -> None:
    with pytest.raises(RequestError, match=r"^code holds a lone surrogate at position \d+"):
        running(code)


@pytest.mark.parametrize("inputs", [["x"], "x", 5, [("x", 1)], {"x"}])
def test_inputs_that_are_no_mapping_are_the_callers_error(inputs: Any) -> None:
    with pytest.raises(RequestError, match=r"^inputs must be a dict"):
        running(inputs=inputs)


@pytest.mark.parametrize("name", ["", "1a", "a b", "a-b", "a.b", "\ud800", "a\0", 5, None, b"a", ("a",)])
def test_an_input_needs_a_name_that_python_could_read(name: Any) -> None:
    with pytest.raises(RequestError, match=r"^inputs holds the name"):
        running(inputs={name: 1})


@pytest.mark.parametrize("name", ["class", "None", "True", "lambda"])
def test_a_keyword_is_no_name_of_an_input(name: str) -> None:
    with pytest.raises(RequestError, match=r"^inputs holds the name"):
        running(inputs={name: 1})


@pytest.mark.parametrize("raw", [b"x", bytearray(b"x"), memoryview(b"x")])
@pytest.mark.parametrize("wrap", [lambda raw: [raw], lambda raw: {"a": raw}, lambda raw: {"a": [(raw,)]}])
def test_bytes_inside_a_container_are_the_callers_error(raw: Any, wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(RequestError, match=r"^inputs hold bytes inside a container"):
        running(inputs={"x": wrap(raw)})


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}, lambda value: (value,)])
def test_deep_inputs_are_the_callers_error(wrap: Callable[[Any], Any]) -> None:
    with pytest.raises(RequestError, match=r"^inputs are nested too deeply"):
        running(inputs={"x": nested(DEEP, wrap)})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="an object"),
        pytest.param(sys, id="a module"),
        pytest.param(lambda: 1, id="a function"),
        pytest.param(contains_itself(), id="contains itself"),
        pytest.param({(1, 2): 3}, id="a key that is no text"),
        pytest.param({object(): 3}, id="a key that is an object"),
        pytest.param((number for number in range(3)), id="a generator"),
        pytest.param(Wrapped(not_today), id="a conversion that raises"),
        pytest.param(always_another(), id="a conversion without an end"),
    ],
)
def test_inputs_that_are_no_data_are_the_callers_error(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^inputs"):
        running(inputs={"x": value})


@pytest.mark.parametrize("env", [["A=1"], "A=1", 5, [("A", "1")]])
def test_an_environment_that_is_no_mapping_is_the_callers_error(env: Any) -> None:
    with pytest.raises(RequestError, match=r"^env must be a dict"):
        running(env=env)


@pytest.mark.parametrize("name", ["", "A=B", "A\0", "\ud800", 5, None, b"A"])
def test_a_variable_needs_a_name_that_a_process_can_have(name: Any) -> None:
    with pytest.raises(RequestError, match=r"^env holds the name"):
        running(env={name: "1"})


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 5, None, b"1", ["1"]])
def test_a_variable_needs_a_value_that_a_process_can_have(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^env\['A'\]"):
        running(env={"A": value})


def test_the_value_of_a_variable_is_in_no_error() -> None:
    with pytest.raises(RequestError) as caught:
        running(env={"TOKEN": "secret\0"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.0, "1", True, b"1"])
def test_a_seed_is_a_whole_number_of_at_least_zero(seed: Any) -> None:
    with pytest.raises(RequestError, match=r"^seed="):
        running(seed=seed)


@pytest.mark.parametrize("mode", ["", "warm", "Fresh", "session", 5, None, ["fresh"]])
def test_an_unknown_mode_is_the_callers_error(mode: Any) -> None:
    with pytest.raises(
        RequestError, match=r"^mode=.* is unknown; it is one of 'fresh', 'worker', 'oneshot'$"
    ):
        parse_mode(mode)


@pytest.mark.parametrize("target", [b"a.py:f", None, 5, Path("a.py")])
def test_a_target_that_is_no_text_is_the_callers_error(target: Any) -> None:
    with pytest.raises(RequestError, match=r"^target must be 'FILE:FUNCTION'"):
        calling(target)


@pytest.mark.parametrize("function", ["", ":", ":1f", ":f()", ":a..b", ":f ", ":."])
def test_a_target_names_a_function(provider: str, function: str) -> None:
    with pytest.raises(RequestError, match=r"^target="):
        calling(provider + function)


@pytest.mark.parametrize("target", [":f", "", ":"])
def test_a_target_names_a_file(target: str) -> None:
    with pytest.raises(RequestError, match=r"^target="):
        calling(target)


@pytest.mark.parametrize("path", ["missing.py", "a\0b.py", "\ud800.py", "x" * 5000 + ".py"])
def test_a_file_that_is_not_there_is_the_callers_error(tmp_path: Path, path: str) -> None:
    with pytest.raises(RequestError, match=r"does not exist$"):
        calling(f"{tmp_path}/{path}:f")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"is a directory$"):
        calling(f"{tmp_path}:f")


@pytest.mark.parametrize("kwargs", [["a"], "a", {1: 2}, {None: 1}])
def test_keyword_arguments_are_a_mapping_of_names(provider: str, kwargs: Any) -> None:
    with pytest.raises(RequestError, match=r"^kwargs"):
        calling(f"{provider}:f", kwargs=kwargs)


def test_a_keyword_argument_never_replaces_a_positional_one(provider: str) -> None:
    with pytest.raises(RequestError, match=r"^kwargs"):
        calling(f"{provider}:f", "first", kwargs={"0": "second"})


# ── what is right ──

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None, exclude_categories=()))
    | st.sampled_from(
        ["\ud800", "\0", "\r\n", "\u2028", "\u2029", "\U0001f525", 10**300, -(2**64), math.inf]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Equality in which NaN is NaN, and True is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)


@given(json_values)
def test_any_data_reaches_the_child_unchanged(value: Any) -> None:
    assert same(sent_inputs(running(inputs={"x": value})), {"x": value})


@given(st.dictionaries(st.sampled_from("abcde"), st.binary() | json_values))
def test_bytes_travel_beside_the_data(inputs: dict[str, Any]) -> None:
    assert same(sent_inputs(running(inputs=inputs)), inputs)


@pytest.mark.parametrize("raw", [bytearray(b"\0\xff"), memoryview(b"\0\xff"), memoryview(b"\0.\xff.")[::2]])
def test_whatever_holds_bytes_arrives_as_bytes(raw: Any) -> None:
    assert sent_inputs(running(inputs={"x": raw})) == {"x": b"\0\xff"}


def test_inputs_are_converted_by_the_rules_of_values() -> None:
    assert sent_inputs(running(inputs={"x": {"a": {3, 1, 2}, "b": 1j}})) == {
        "x": {"a": [1, 2, 3], "b": [0.0, 1.0]}
    }


@given(st.text())
def test_code_reaches_the_child_unchanged(code: str) -> None:
    meta = wire.decode(running(code).meta)
    assert (meta["op"], meta["code"]) == ("run", code)


@pytest.mark.parametrize(("announce", "kind"), [(False, wire.REQUEST), (True, wire.ANNOUNCED_REQUEST)])
def test_an_announcement_changes_the_kind_of_the_frame_alone(announce: bool, kind: int) -> None:
    request = running(inputs={"x": "large"})
    assert request.frame(announce=announce) == wire.pack(kind, request.meta, request.body)


def trusted(inputs: dict[str, Any]) -> Request:
    return run_request("1", mode=Mode.FRESH, own=False, inputs=inputs, env=None, seed=None, trusted=True)


def test_a_trusted_request_carries_any_object() -> None:
    request = trusted({"x": {(1, 2): {b"raw"}}})
    assert shared.load(request.body, None, []) == {"x": {(1, 2): {b"raw"}}}


def test_a_trusted_request_sets_large_buffers_aside() -> None:
    np = pytest.importorskip("numpy")
    request = trusted({"x": np.zeros(shared.SHARE_FROM, np.uint8)})
    assert request.shared is not None
    assert request.shared.layout == [[0, shared.SHARE_FROM]]
    assert len(request.body) < shared.SHARE_FROM


@pytest.mark.parametrize("value", [lambda: 1, sys, nested(DEEP, lambda inner: [inner])])
def test_a_trusted_input_that_cannot_be_pickled_is_the_callers_error(value: Any) -> None:
    with pytest.raises(RequestError, match=r"^inputs cannot be pickled"):
        trusted({"x": value})


def test_variables_and_seed_travel_as_they_are() -> None:
    meta = wire.decode(running(env={"A": "größe=1", "B": ""}, seed=2**70).meta)
    assert (meta["env"], meta["seed"]) == ({"A": "größe=1", "B": ""}, 2**70)


def test_a_variable_may_hold_bytes_that_are_no_text() -> None:
    name_of_a_file = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert wire.decode(running(env={"A": name_of_a_file}).meta)["env"] == {"A": name_of_a_file}


def test_a_label_tells_no_value() -> None:
    request = running("print('secret')", inputs={"x": "secret"}, env={"A": "secret"})
    assert request.label == "run, 15 characters"


def test_arguments_are_numbered_and_named(provider: str) -> None:
    request = calling(f"{provider}:call_api", "p", b"raw", kwargs={"context": {"a": 1}})
    meta = wire.decode(request.meta)
    assert (meta["file"], meta["function"], meta["positional"]) == (provider, "call_api", 2)
    assert sent_inputs(request) == {"0": "p", "1": b"raw", "context": {"a": 1}}


def test_calls_of_one_file_prefer_the_same_worker(provider: str) -> None:
    assert calling(f"{provider}:a").affinity == calling(f"{provider}:b.c").affinity == provider


def test_a_path_may_hold_colons(tmp_path: Path) -> None:
    file = tmp_path / "a:b.py"
    file.write_text("")
    assert wire.decode(calling(f"{file}:f").meta)["file"] == str(file)


def test_a_relative_path_is_that_of_the_caller(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(provider).parent)
    assert wire.decode(calling("provider.py:f").meta)["file"] == provider


@pytest.mark.parametrize("mode", Mode)
def test_a_mode_is_known_by_its_name(mode: Mode) -> None:
    assert parse_mode(mode.value) is parse_mode(mode) is mode
