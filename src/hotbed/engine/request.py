"""A caller's words, checked and encoded before any process is asked for.

Law: what is wrong with a request is found here, in the caller's thread, as a RequestError that
names the field. What has left this file can be sent.
"""

from __future__ import annotations

import keyword
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from hotbed.errors import RequestError
from hotbed.model import Mode
from hotbed.seed import shared, values, wire

REQUEST_LIMIT = 1 << 30  # bytes of one encoded request


class Request(msgspec.Struct, frozen=True):
    """One execution as it will be sent.

    meta, body: the frame's parts; the body holds the inputs as JSON, then inputs that are bytes.
    affinity: workers that have served the same one are preferred.
    label: what `hotbed ps` says it is doing; holds no value of the caller's.
    shared: the pickled inputs of a trusted environment, whose large buffers go through an arena.
    """

    mode: Mode
    own: bool
    meta: bytes
    body: bytes
    affinity: str
    label: str
    shared: shared.Dump | None = None

    def frame(self, *, announce: bool) -> bytes:
        """The bytes for the channel; `announce` asks the child to say when the code begins."""
        return wire.pack(wire.ANNOUNCED_REQUEST if announce else wire.REQUEST, self.meta, self.body)


def parse_mode(mode: str | Mode) -> Mode:
    """A mode by its name.

    Raises:
        RequestError: If there is none of that name.
    """
    if type(mode) is Mode:
        return mode
    try:
        return Mode(mode)
    except ValueError:
        names = ", ".join(repr(str(one)) for one in Mode)
        raise RequestError(f"mode={mode!r} is unknown; it is one of {names}") from None


def run_request(
    code: str,
    *,
    mode: Mode,
    own: bool,
    inputs: Mapping[str, Any] | None,
    env: Mapping[str, str] | None,
    seed: int | None,
    trusted: bool,
    files: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> Request:
    """A request to run source text.

    limits: what the child applies by itself, as fields of the request.


    Raises:
        RequestError: If a field is not what it must be.
    """
    if not isinstance(code, str):
        raise RequestError(f"code must be text, not {type(code).__name__}; decode bytes first")
    try:
        code.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RequestError(
            f"code holds a lone surrogate at position {error.start}, which no Python source can; "
            "pass such text through inputs"
        ) from None
    inputs = {} if inputs is None else inputs
    if not isinstance(inputs, Mapping):
        raise RequestError(f"inputs must be a dict of names and values, not {type(inputs).__name__}")
    for name in inputs:
        if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
            raise RequestError(f"inputs holds the name {name!r}, which is no Python identifier")
    payload = {"op": "run", "code": code, **(limits or {})}
    return _request(payload, inputs, mode, own, env, seed, trusted, "", f"run, {len(code)} characters", files)


def call_request(
    target: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    mode: Mode,
    own: bool,
    env: Mapping[str, str] | None,
    seed: int | None,
    trusted: bool,
    files: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> Request:
    """A request to call a function of a file: target is "FILE:FUNCTION".

    Raises:
        RequestError: If the file does not exist or a field is not what it must be.
    """
    if not isinstance(target, str):
        raise RequestError(f"target must be 'FILE:FUNCTION', not {type(target).__name__}")
    file, function, label = _parse_target(target, "" if target[:1] == "/" else os.getcwd())
    payload = {"op": "call", "file": file, "function": function, "positional": len(args), **(limits or {})}
    if not isinstance(kwargs, Mapping):
        raise RequestError(f"kwargs must be a dict of names and values, not {type(kwargs).__name__}")
    for name in kwargs:
        if not isinstance(name, str) or name.isdecimal():  # numbers are the positional ones
            raise RequestError(f"kwargs holds the name {name!r}, which no argument can have")
    inputs = {**{str(index): value for index, value in enumerate(args)}, **kwargs}
    return _request(payload, inputs, mode, own, env, seed, trusted, file, label, files)


@lru_cache(maxsize=1024)
def _parse_target(target: str, _directory: str) -> tuple[str, str, str]:
    """File, function and label of a target; what was found once is not looked for again.

    The current directory is part of the key, for targets that are relative to it.
    """
    path, colon, function = target.rpartition(":")
    if not colon or not path or not all(part.isidentifier() for part in function.split(".")):
        raise RequestError(f"target={target!r} must be 'FILE:FUNCTION', such as 'provider.py:call_api'")
    file = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(file):
        what = "is a directory" if os.path.isdir(file) else "does not exist"
        raise RequestError(f"target={target!r}: {file} {what}")
    return file, function, f"call {os.path.basename(file)}:{function}"


def _request(
    payload: dict[str, Any],
    inputs: Mapping[str, Any],
    mode: Mode,
    own: bool,
    env: Mapping[str, str] | None,
    seed: int | None,
    trusted: bool,
    affinity: str,
    label: str,
    files: Mapping[str, Any] | None,
) -> Request:
    common = {
        **payload,
        "env": _variables(env) if env is not None else {},
        "seed": _seed(seed) if seed is not None else None,
    }
    if trusted:
        return _pickled(common, inputs, mode, affinity, label)
    data, blobs, raw = _encode_inputs(inputs) if inputs else (b"", {}, b"")
    meta = {**common, "codec": "json", "inputs_bytes": len(data), "blobs": blobs}
    if files:
        if own:
            raise RequestError(
                "files are for isolated code, which has a work directory of its own; "
                "with isolation='none' the code sees your files where they are"
            )
        meta["files"], raw = _files(files, raw)
    elif "artifacts" in common:
        meta["files"] = None
    body = data + raw
    if len(body) > REQUEST_LIMIT:
        raise RequestError(
            f"the request is {len(body)} bytes long, the limit is {REQUEST_LIMIT}; pass large data as a file"
        )
    return Request(mode, own, _encode_meta(meta), body, affinity, label)


def _pickled(
    common: dict[str, Any], inputs: Mapping[str, Any], mode: Mode, affinity: str, label: str
) -> Request:
    try:
        dumped = shared.dump(dict(inputs))
    except Exception as error:  # pickling runs the values' own methods
        raise RequestError(f"inputs cannot be pickled: {error}") from None
    meta = {**common, "codec": "pickle", "buffers": dumped.layout}
    return Request(mode, True, _encode_meta(meta), dumped.stream, affinity, label, dumped)


def _encode_meta(meta: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(meta)
    # A path or a variable that is not UTF-8, held as surrogates; a seed of more than 64 bits.
    except (UnicodeEncodeError, OverflowError):
        return wire.encode(meta)


def _encode_inputs(inputs: Mapping[str, Any]) -> tuple[bytes, dict[str, list[int]], bytes]:
    plain, blobs, raw = _split_bytes(inputs)
    return _encode(plain), blobs, raw


def _split_bytes(inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[int]], bytes]:
    """Inputs that are bytes travel raw: name -> [start, end] in the body."""
    plain: dict[str, Any] = {}
    blobs: dict[str, list[int]] = {}
    parts: list[bytes] = []
    at = 0
    for name, value in inputs.items():
        if isinstance(value, (bytes, bytearray, memoryview)):
            part = bytes(value)
            parts.append(part)
            blobs[name] = [at, at + len(part)]
            at += len(part)
        else:
            plain[name] = value
    return plain, blobs, b"".join(parts)


def _files(files: Mapping[str, Any], raw: bytes) -> tuple[dict[str, list[int]], bytes]:
    """Where each file's bytes are, and the raw part of the body with them."""
    if not isinstance(files, Mapping):
        raise RequestError(f"files must be a dict of names and bytes, not {type(files).__name__}")
    places: dict[str, list[int]] = {}
    parts, at = [raw], len(raw)
    for name, data in files.items():
        if not isinstance(name, str) or not _is_relative(name):
            raise RequestError(
                f"files holds the name {name!r}; a name is relative, with '/' between its parts, "
                f"no '..', and at most {NAME_LIMIT} bytes in a part and {PATH_LIMIT} in all"
            )
        try:
            part = data.encode() if isinstance(data, str) else data
        except UnicodeEncodeError:
            raise RequestError(
                f"files[{name!r}] holds a lone surrogate; give bytes instead of text"
            ) from None
        if not isinstance(part, (bytes, bytearray, memoryview)):
            raise RequestError(f"files[{name!r}] must be bytes or text, not {type(data).__name__}")
        parts.append(bytes(part))
        places[name] = [at, at + len(parts[-1])]
        at += len(parts[-1])
    folders = {name[:at] for name in places for at in range(len(name)) if name[at] == "/"}
    if both := sorted(folders & places.keys()):
        raise RequestError(f"files holds {both[0]!r} as a file and as a folder of another one")
    return places, b"".join(parts)


NAME_LIMIT, PATH_LIMIT = 255, 1024  # bytes of one part and of all; Linux takes 255 and 4,095


def _is_relative(name: str) -> bool:
    if not _fits_a_variable(name) or len(os.fsencode(name)) > PATH_LIMIT:
        return False
    parts = name.split("/")
    return not any(part in ("", ".", "..") or len(os.fsencode(part)) > NAME_LIMIT for part in parts)


def _encode(plain: dict[str, Any]) -> bytes:
    try:
        return _dumps(plain).encode("ascii")
    except RecursionError:
        raise RequestError(
            "inputs are nested too deeply (about 1,000 levels is the limit); pass a flatter value"
        ) from None
    except RequestError:
        raise
    except values.NotSerializableError as error:
        raise RequestError(f"inputs: {error}") from None
    except Exception as error:  # converters run the values' own methods
        raise RequestError(f"inputs are no data: {error}; use text, numbers, lists and dicts") from None


def _convert(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise RequestError(
            "inputs hold bytes inside a container; pass bytes as an input of their own, or as base64 text"
        )
    return values.convert(value)


_dumps = wire.json_encoder(_convert)


def _variables(env: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(env, Mapping):
        raise RequestError(f"env must be a dict of variables, not {type(env).__name__}")
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name or not _fits_a_variable(name):
            raise RequestError(f"env holds the name {name!r}, which no variable can have")
        if not isinstance(value, str):
            raise RequestError(f"env[{name!r}] must be text, not {type(value).__name__}")
        if not _fits_a_variable(value):
            raise RequestError(f"env[{name!r}] holds what no variable can: a NUL or a lone surrogate")
    return dict(env)


def _fits_a_variable(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise RequestError(f"seed={seed!r} must be a whole number of at least 0")
    return seed
