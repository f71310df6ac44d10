"""User values as JSON-compatible data, and back.

The rules, tried in this order where JSON has no word for a value:
  bytes, bytearray, memoryview   base64 text
  set, frozenset                 a list, sorted where its items can be
  datetime, date, time           ISO 8601 text
  timedelta                      seconds as a float
  Decimal, Fraction, UUID, Path  text
  complex                        [real, imaginary]
  Enum                           its value
  dataclass                      a dict of its fields
  numpy scalar, array            number; nested lists
  pandas DataFrame               a list of row dicts, with a named or non-default index as columns
  pandas Series, Index           a list; a dict if the Series' index is not the default one, and
                                 [key, value] pairs if a key comes twice
  pandas Period, Interval        text
  pandas NA, NaT                 null
  mapping, other iterable views  a dict; a list (range, deque, dict views)
  pydantic, msgspec, attrs       what model_dump() or their fields give
NaN and infinities stay what they are; a dict key that is no string becomes its text.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any

from . import wire

# Bound here: user code may replace the module's functions.
_encode = wire.json_encoder(lambda value: convert(value))
_decode = json.JSONDecoder().decode
TEXT_LIMIT = 65536  # bytes of JSON above which the repr of a plain container is abridged


class NotSerializableError(Exception):
    """A value that no rule turns into data."""


def encode(value: Any) -> bytes:
    """A value as JSON in ASCII.

    Raises:
        NotSerializableError: If no rule covers it, it contains itself, or it is nested deeper
            than the interpreter's recursion goes (about 1,000 levels).
    """
    try:
        try:
            return _encode(value).encode("ascii")
        except TypeError:  # a dict key that is neither text nor number
            return _encode(_with_text_keys(value)).encode("ascii")
    except NotSerializableError:
        raise
    except RecursionError:
        raise NotSerializableError(
            f"a {type(value).__name__} is nested too deeply; return a flatter value"
        ) from None
    except BaseException as error:  # converters run the value's own methods, which may even exit
        raise NotSerializableError(f"a {type(value).__name__} cannot be turned into JSON: {error}") from None


def unpack(body: Any, inputs_bytes: int, blobs: dict[str, list[int]]) -> dict[str, Any]:
    """The inputs of a request from its body: JSON first, then the bytes that `blobs` names.

    `blobs` is name -> [start, end], counted from the end of the JSON.
    """
    inputs: dict[str, Any] = _decode(str(body[:inputs_bytes], "ascii")) if inputs_bytes else {}
    for name, (start, end) in blobs.items():
        inputs[name] = bytes(body[inputs_bytes + start : inputs_bytes + end])
    return inputs


class Json:
    """The codec of an ordinary request: data in, data out."""

    def inputs(self, request: dict[str, Any], body: Any) -> dict[str, Any]:
        """The request's inputs."""
        return unpack(body, request["inputs_bytes"], request["blobs"])

    def encode(self, value: Any) -> bytes:
        """The value as JSON. Raises NotSerializableError."""
        return encode(value)

    def send(self, channel: wire.Channel, meta: dict[str, Any], value: bytes) -> None:
        """Send the answer."""
        channel.send(wire.ANSWER, wire.encode(meta), value)


def text(value: Any, encoded_size: int) -> str:
    """The repr of a value, abridged if it is large; a failing repr is described."""
    try:
        if encoded_size > TEXT_LIMIT and isinstance(value, (list, dict, tuple, set, str, bytes)):
            short = reprlib.Repr()
            short.maxlist = short.maxdict = short.maxtuple = short.maxset = 50
            short.maxstring = short.maxother = 5000
            return short.repr(value)
        whole = repr(value)
    except BaseException as error:  # a repr is user code
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return whole if len(whole) <= 2 * TEXT_LIMIT else whole[:TEXT_LIMIT] + "..."


def convert(value: Any) -> Any:
    """One step towards JSON for a value that the encoder does not know.

    Raises:
        NotSerializableError: If there is no rule for its type.
    """
    kind = type(value)
    for base in kind.__mro__:
        rule = _RULES.get(f"{base.__module__}.{base.__qualname__}")
        if rule is not None:
            return rule(value)
    if hasattr(kind, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in kind.__dataclass_fields__}
    if hasattr(kind, "model_dump"):
        return value.model_dump()
    for fields in ("__struct_fields__", "__attrs_attrs__"):  # msgspec, attrs
        if hasattr(kind, fields):
            names = [getattr(field, "name", field) for field in getattr(kind, fields)]
            return {name: getattr(value, name) for name in names}
    if isinstance(value, Mapping):
        return dict(value)
    if callable(getattr(value, "tolist", None)):  # array.array, and array types of other libraries
        return value.tolist()
    raise NotSerializableError(
        f"a value of type {kind.__module__}.{kind.__qualname__} is no data; "
        "return numbers, text, lists and dicts, or what you need of it"
    )


def _with_text_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _with_text_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    return _with_text_keys(convert(value))


def _key(key: Any) -> Any:
    if key is None or isinstance(key, (str, int, float)):
        return key
    if isinstance(key, (tuple, frozenset, bytes)):
        return str(key)
    converted = convert(key)
    return converted if isinstance(converted, (str, int, float)) else str(key)


def _base64(value: Any) -> str:
    import base64

    return base64.b64encode(value).decode("ascii")


def _sorted_list(value: Any) -> list[Any]:
    try:
        return sorted(value)
    except TypeError:
        return list(value)


def _frame(frame: Any) -> Any:
    if frame.index.names != [None] or type(frame.index).__name__ != "RangeIndex":
        names = [name for name in frame.index.names if name in frame.columns]
        if names:  # a level of the index is called as a column is
            frame = frame.rename_axis(index={name: f"{name} (index)" for name in names})
        frame = frame.reset_index()
    return frame.to_dict(orient="records")


def _series(series: Any) -> Any:
    if type(series.index).__name__ == "RangeIndex":
        return series.tolist()
    pairs = zip(series.index.tolist(), series.tolist(), strict=True)
    return dict(pairs) if series.index.is_unique else list(pairs)


def _array(array: Any) -> Any:
    return array.tolist()


_RULES: dict[str, Any] = {
    "builtins.bytes": _base64,
    "builtins.bytearray": _base64,
    "builtins.memoryview": _base64,
    "builtins.set": _sorted_list,
    "builtins.frozenset": _sorted_list,
    "builtins.range": list,
    "builtins.complex": lambda value: [value.real, value.imag],
    "builtins.dict_keys": list,
    "builtins.dict_values": list,
    "builtins.dict_items": list,
    "collections.deque": list,
    "datetime.date": lambda value: value.isoformat(),
    "datetime.time": lambda value: value.isoformat(),
    "datetime.timedelta": lambda value: value.total_seconds(),
    "decimal.Decimal": str,
    "fractions.Fraction": str,
    "uuid.UUID": str,
    "pathlib.PurePath": str,
    "pathlib._local.PurePath": str,
    "enum.Enum": lambda value: value.value,
    "numpy.ndarray": _array,
    "numpy.generic": lambda value: value.item(),
    "pandas.DataFrame": _frame,
    "pandas.core.frame.DataFrame": _frame,
    "pandas.Series": _series,
    "pandas.core.series.Series": _series,
    "pandas.Index": _array,
    "pandas.core.indexes.base.Index": _array,
    "pandas.Period": str,
    "pandas._libs.tslibs.period.Period": str,
    "pandas.Interval": str,
    "pandas._libs.interval.Interval": str,
    "pandas.api.typing.NaTType": lambda value: None,
    "pandas._libs.tslibs.nattype.NaTType": lambda value: None,
    "pandas.api.typing.NAType": lambda value: None,
    "pandas._libs.missing.NAType": lambda value: None,
}
