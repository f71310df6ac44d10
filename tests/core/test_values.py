"""User values as data: every documented rule, and what happens where none applies."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import sys
import types
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.seed import values
from hotbed.seed.values import NotSerializableError


class Colour(enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    ONE = 1


@dataclasses.dataclass
class Point:
    x: int
    y: Any


@dataclasses.dataclass
class Slotted:
    __slots__ = ("x",)
    x: int


class Struct(msgspec.Struct):
    x: int
    y: Any


class Attribute:
    """What attrs keeps of a field."""

    name = "x"


class Attrs:
    """What attrs makes of a class, as far as the rule looks."""

    __attrs_attrs__ = (Attribute(),)

    def __init__(self) -> None:
        self.x = 1


class Model:
    """What pydantic makes of a class, as far as the rule looks."""

    def model_dump(self) -> dict[str, Any]:
        return {"x": 1}


class OwnDict(dict[str, int]):
    """A user's own kind of dict."""


Pair = collections.namedtuple("Pair", "x y")
UUID = "12345678-1234-5678-1234-567812345678"


def encoded(value: Any) -> Any:
    return json.loads(values.encode(value))


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (b"\0\xff", "AP8="),
        (bytearray(b"ab"), "YWI="),
        (memoryview(b"ab"), "YWI="),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset("ba"), ["a", "b"]),
        (datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=datetime.UTC), "2024-02-29T01:02:03+00:00"),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (datetime.time(1, 2, 3), "01:02:03"),
        (datetime.timedelta(minutes=1, milliseconds=500), 60.5),
        (decimal.Decimal("1.10"), "1.10"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(UUID), UUID),
        (pathlib.Path("/a/b"), "/a/b"),
        (pathlib.PurePosixPath("a"), "a"),
        (1 + 2j, [1.0, 2.0]),
        (Colour.RED, "red"),
        (Number.ONE, 1),
        (Point(1, {2}), {"x": 1, "y": [2]}),
        (Slotted(1), {"x": 1}),
        (Struct(1, {2}), {"x": 1, "y": [2]}),
        (Attrs(), {"x": 1}),
        (Model(), {"x": 1}),
        (OwnDict(a=1), {"a": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (collections.UserDict({"a": 1}), {"a": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (range(3), [0, 1, 2]),
        (collections.deque([1, 2]), [1, 2]),
        ({"a": 1}.keys(), ["a"]),
        ({"a": 1}.values(), [1]),
        ({"a": 1}.items(), [["a", 1]]),
        (array.array("i", [1, 2]), [1, 2]),
        ((1, 2), [1, 2]),
        (Pair(1, 2), [1, 2]),
        ([{"a": ({1}, b"a")}], [{"a": [[1], "YQ=="]}]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_becomes_the_data_of_its_rule(value: Any, data: Any) -> None:
    assert encoded(value) == data


def test_a_set_that_cannot_be_sorted_is_a_list_all_the_same() -> None:
    assert sorted(map(str, encoded({1, "a"}))) == ["1", "a"]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (1, "1"),
        (1.5, "1.5"),
        (None, "null"),
        (True, "true"),
        ((1, 2), "(1, 2)"),
        (frozenset({1}), "frozenset({1})"),
        (b"a", "b'a'"),
        (datetime.date(2024, 1, 1), "2024-01-01"),
        (Colour.RED, "red"),
        (1j, "1j"),
        (uuid.UUID(UUID), UUID),
        (pathlib.PurePosixPath("/a"), "/a"),
    ],
    ids=repr,
)
def test_a_key_that_is_no_text_becomes_its_text(key: Any, text: str) -> None:
    assert encoded({"outer": [{key: {1}}]}) == {"outer": [{text: [1]}]}


@pytest.mark.parametrize(
    "wrap", [lambda inner: Point(1, inner), lambda inner: [inner], lambda inner: (inner,)]
)
def test_a_key_deep_inside_becomes_its_text_too(wrap: Callable[[Any], Any]) -> None:
    assert '"(1, 2)": 3' in values.encode(wrap({(1, 2): 3})).decode()


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinities_stay_what_they_are(number: float) -> None:
    assert encoded([number]) == [number]


def test_nan_stays_what_it_is() -> None:
    assert math.isnan(encoded(math.nan))


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_data_stays_what_it_is(value: Any) -> None:
    assert encoded(value) == value


# ── other people's types ──


def test_numpy_becomes_numbers_and_lists() -> None:
    np = pytest.importorskip("numpy")
    value = {
        "int": np.int64(3),
        "float": np.float32(0.5),
        "bool": np.bool_(True),
        "text": np.str_("a"),
        "array": np.arange(4).reshape(2, 2),
        "nothing": np.array([]),
        "scalar": np.array(5),
        "when": np.datetime64("2024-01-01"),
        "complex": np.complex128(1j),
        "objects": np.array([{1}], dtype=object),
    }
    assert encoded(value) == {
        "int": 3,
        "float": 0.5,
        "bool": True,
        "text": "a",
        "array": [[0, 1], [2, 3]],
        "nothing": [],
        "scalar": 5,
        "when": "2024-01-01",
        "complex": [0.0, 1.0],
        "objects": [[1]],
    }


def test_a_numpy_key_becomes_its_text() -> None:
    np = pytest.importorskip("numpy")
    assert encoded({np.int64(1): np.float64(2)}) == {"1": 2.0}


def test_a_data_frame_is_a_list_of_rows() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert encoded(frame) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(("name", "column"), [("key", "key"), (None, "index")])
def test_an_index_of_its_own_becomes_a_column(name: str | None, column: str) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name=name))
    assert encoded(frame) == [{column: "x", "a": 1}]


def test_a_grouped_frame_keeps_its_keys() -> None:
    pd = pytest.importorskip("pandas")
    grouped = pd.DataFrame({"k": ["a", "b"], "l": [1, 1], "v": [1, 2]}).groupby(["k", "l"]).sum()
    assert encoded(grouped) == [{"k": "a", "l": 1, "v": 1}, {"k": "b", "l": 1, "v": 2}]


def test_an_index_named_as_a_column_loses_neither() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="a"))
    assert encoded(frame) == [{"a (index)": "x", "a": 1}]


def test_columns_may_be_no_text() -> None:
    pd = pytest.importorskip("pandas")
    assert encoded(pd.DataFrame([[1, 2]], columns=[("a", "x"), 2024])) == [{"('a', 'x')": 1, "2024": 2}]


def test_a_series_is_a_list_or_a_dict() -> None:
    pd = pytest.importorskip("pandas")
    assert encoded(pd.Series([1, 2])) == [1, 2]
    assert encoded(pd.Series([1, 2], index=["a", "b"])) == {"a": 1, "b": 2}


def test_a_series_under_a_double_key_loses_nothing() -> None:
    pd = pytest.importorskip("pandas")
    assert encoded(pd.Series([1, 2], index=["a", "a"])) == [["a", 1], ["a", 2]]


def test_a_series_under_times_has_them_as_keys() -> None:
    pd = pytest.importorskip("pandas")
    series = pd.Series([1], index=pd.to_datetime(["2024-01-01"]))
    assert encoded(series) == {"2024-01-01T00:00:00": 1}


def test_pandas_scalars_become_data() -> None:
    pd = pytest.importorskip("pandas")
    value = [pd.NA, pd.NaT, pd.Timestamp("2024-01-01"), pd.Timedelta(seconds=5), pd.Index([1, 2])]
    assert encoded(value) == [None, None, "2024-01-01T00:00:00", 5.0, [1, 2]]


def test_pandas_columns_with_types_of_their_own_become_data() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "c": pd.Categorical(["a", "b"])})
    assert encoded(frame) == [{"n": 1, "c": "a"}, {"n": None, "c": "b"}]


@pytest.mark.parametrize(
    "what",
    ["Categorical(['a'])", "array([1, None], dtype='Int64')", "period_range('2024', periods=1, freq='D')"],
)
def test_pandas_arrays_become_lists(what: str) -> None:
    pd = pytest.importorskip("pandas")
    assert isinstance(encoded(eval(f"pd.{what}", {"pd": pd})), list)


# ── no data ──


def nested(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def ring() -> Any:
    value: list[Any] = []
    value.append([value])
    return value


def ring_of_points() -> Any:
    value = Point(1, None)
    value.y = value
    return value


def ring_with_strange_keys() -> Any:
    value: dict[Any, Any] = {}
    value[(1, 2)] = value
    return value


class Raises:
    """A conversion is user code, and may raise anything."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def tolist(self) -> Any:
        raise self._error("user code")

    def __repr__(self) -> str:
        raise self._error("user code")


class Endless:
    """Turns into another one for ever."""

    def tolist(self) -> Any:
        return Endless()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(object(), id="object"),
        pytest.param(sys, id="module"),
        pytest.param(len, id="function"),
        pytest.param((number for number in range(3)), id="generator"),
        pytest.param(Point, id="class"),
        pytest.param(ring(), id="contains itself"),
        pytest.param(ring_of_points(), id="contains itself by a field"),
        pytest.param(ring_with_strange_keys(), id="contains itself under a key"),
        pytest.param(nested(20_000, lambda inner: [inner]), id="deep list"),
        pytest.param(nested(20_000, lambda inner: {"a": inner}), id="deep dict"),
        pytest.param(nested(20_000, lambda inner: {(1, 2): inner}), id="deep dict of tuples"),
        pytest.param(nested(20_000, lambda inner: Point(1, inner)), id="deep dataclass"),
        pytest.param(Endless(), id="endless"),
        pytest.param(Raises(ValueError), id="raises"),
        pytest.param(Raises(TypeError), id="raises TypeError"),
        pytest.param(Raises(RecursionError), id="raises RecursionError"),
        pytest.param(Raises(MemoryError), id="raises MemoryError"),
    ],
)
def test_what_is_no_data_is_said_to_be_none(value: Any) -> None:
    with pytest.raises(NotSerializableError):
        values.encode(value)


def test_what_is_no_data_is_named_by_its_type() -> None:
    with pytest.raises(NotSerializableError, match=r"type builtins\.object is no data"):
        values.encode({"a": [object()]})


def test_nothing_is_kept_of_a_failed_value() -> None:
    with pytest.raises(NotSerializableError):
        values.encode([object()])
    assert encoded([1]) == [1]


# ── text ──


def test_text_is_the_repr() -> None:
    assert values.text({"a": [1]}, 10) == "{'a': [1]}"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError])
def test_a_repr_that_raises_is_described(error: type[BaseException]) -> None:
    assert values.text(Raises(error), 0) == f"<Raises whose repr raised {error.__name__}>"


@pytest.mark.parametrize(
    "value",
    [
        list(range(10**5)),
        "x" * 10**6,
        b"x" * 10**6,
        {"a": "x" * 10**6},
        nested(50, lambda inner: [inner] * 2),
    ],
)
def test_the_text_of_a_large_value_is_abridged(value: Any) -> None:
    assert len(values.text(value, 10**6)) < 3 * values.TEXT_LIMIT


def test_a_repr_without_end_is_cut() -> None:
    class Long:
        def __repr__(self) -> str:
            return "x" * 10**7

    assert len(values.text(Long(), 0)) < 3 * values.TEXT_LIMIT


# ── inputs ──


def test_bytes_are_put_back_among_the_inputs() -> None:
    inputs = values.unpack(memoryview(b'{"x": 1}ab'), 8, {"a": [0, 2], "b": [2, 2]})
    assert inputs == {"x": 1, "a": b"ab", "b": b""}
