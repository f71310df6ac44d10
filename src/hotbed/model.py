"""The nouns of hotbed: what is asked for and what comes back.

All are frozen values. What arrives from outside is checked when the value is made, and the
error names the field.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

import msgspec

from hotbed import errors

SIZE_UNITS = {
    "": 1,
    "B": 1,
    **{f"{letter}{tail}": 1024**power for power, letter in enumerate("KMGT", 1) for tail in ("", "iB")},
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
}
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
WARMUP_LIMIT = 65536  # bytes: the snippet travels in one control message


class Mode(StrEnum):
    """How an execution gets its process."""

    FRESH = "fresh"
    WORKER = "worker"
    ONESHOT = "oneshot"


class Status(StrEnum):
    """How an execution ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


class ErrorKind(StrEnum):
    """Whose fault a failed execution is, and so which exception `raise_for_error` raises."""

    RAISED = "raised"
    REQUEST = "request"
    NOT_SERIALIZABLE = "not_serializable"
    OUTPUT_TOO_LARGE = "output_too_large"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    LOST = "lost"


def parse_size(value: int | str, name: str) -> int:
    """Bytes from an int or from text: "512M" and "512MiB" are 512 x 1024^2, "512MB" is decimal.

    Raises:
        RequestError: If it is no size, or not above zero.
    """
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,18})(\.\d{1,18})?\s*([A-Za-z]*)\s*", value)
        unit = SIZE_UNITS.get(_unit(match.group(3))) if match else None
        if match is None or unit is None:
            raise errors.RequestError(f"{name}={value!r} is no size; write bytes, '512M' or '512MB'")
        value = int(match.group(1)) * unit + int(float(match.group(2) or 0) * unit)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise errors.RequestError(f"{name}={value!r} must be a whole number of bytes above 0")
    return value


def _unit(text: str) -> str:
    return text.upper().replace("IB", "iB")


def parse_seconds(value: float | None, name: str) -> float | None:
    """Seconds above zero, or None for no limit.

    Raises:
        RequestError: If it is no number, not above zero, or not finite.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise errors.RequestError(f"{name}={value!r} must be seconds as a number, or None for no limit")
    if not 0 < value < 1e9:
        raise errors.RequestError(f"{name}={value!r} must be above 0 and finite; None means no limit")
    return float(value)


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """An environment without its name: what makes two of them the same one."""

    executable: str
    preload: str | tuple[str, ...]
    warmup: str
    trusted: bool


def _is_source(text: str) -> bool:
    try:
        return len(text.encode("utf-8")) <= WARMUP_LIMIT
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True, slots=True)
class Environment:
    """Which interpreter runs the code and what it has loaded beforehand.

    python: an interpreter, or the directory of a virtual environment; None is the one that
        hotbed runs in.
    preload: modules to import into the template, or "auto": third-party modules that
        executions import are learned and imported ahead from then on.
    warmup: a snippet that every child runs before it waits; it may use the preloaded modules.
        Its state is thrown away; what it costs is paid off every caller's path.
    name: what logs and `hotbed ps` call it; by default made from the interpreter's path.
    trusted: arguments and values may travel by pickle and shared memory. Only for code that
        could just as well run in the calling process.

    Raises:
        RequestError: If a field is not what is said here; a missing interpreter too.
    """

    python: str | os.PathLike[str] | None = None
    preload: Literal["auto"] | Sequence[str] = "auto"
    warmup: str = ""
    name: str = ""
    trusted: bool = False
    executable: str = field(init=False, default="", repr=False)
    key: EnvironmentKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "executable", _find_interpreter(self.python))
        if self.preload != "auto":
            if isinstance(self.preload, str):
                raise errors.RequestError(
                    f"preload={self.preload!r} must be 'auto' or a list of module names, "
                    f"such as preload=[{self.preload!r}]"
                )
            try:
                names = tuple(self.preload)
            except TypeError:
                raise errors.RequestError(
                    f"preload={self.preload!r} must be 'auto' or a list of module names"
                ) from None
            for name in names:
                if not isinstance(name, str) or not _MODULE.match(name):
                    raise errors.RequestError(f"preload holds {name!r}, which is no module name")
            object.__setattr__(self, "preload", names)
        if not isinstance(self.warmup, str) or not _is_source(self.warmup):
            raise errors.RequestError(
                f"warmup must be source text of at most {WARMUP_LIMIT} bytes, without lone surrogates"
            )
        if self.name and not isinstance(self.name, str):
            raise errors.RequestError(f"name={self.name!r} must be text")
        preload = self.preload if self.preload == "auto" else tuple(self.preload)
        key = EnvironmentKey(self.executable, preload, self.warmup, self.trusted)
        object.__setattr__(self, "key", key)
        if not self.name:
            object.__setattr__(self, "name", _default_name(self.executable))


def _find_interpreter(python: str | os.PathLike[str] | None) -> str:
    if python is None:
        if sys.executable and os.access(sys.executable, os.X_OK):
            return sys.executable
        raise errors.RequestError(
            "python=None needs the path of the running interpreter, which an embedding host does "
            "not give; name one with Environment(python=...)"
        )
    if not isinstance(python, (str, os.PathLike)) or isinstance(os.fspath(python), bytes):
        raise errors.RequestError(f"python={python!r} must be a path as text")
    path = os.path.abspath(os.path.expanduser(os.fspath(python)))
    if os.path.isdir(path):
        path = os.path.join(path, "bin", "python")
    elif os.sep not in os.fspath(python) and (found := shutil.which(os.fspath(python))):
        path = found
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise errors.RequestError(
            f"python={os.fspath(python)!r} is neither an interpreter nor a virtual environment: "
            f"{path} cannot be executed"
        )
    return path


def _default_name(executable: str) -> str:
    directory = os.path.dirname(os.path.dirname(executable))
    return os.path.basename(directory).lstrip(".") or "python"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one execution may use.

    timeout: seconds of its run, from its first line to its end; None for no limit.
    output: bytes that it may write to stdout and to stderr, each.
    value: bytes of its encoded value.

    Sizes are ints or text such as "16M". Raises RequestError for anything else.
    """

    timeout: float | None = 30.0
    output: int | str = 16 * 1024**2
    value: int | str = 256 * 1024**2

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeout", parse_seconds(self.timeout, "timeout"))
        object.__setattr__(self, "output", parse_size(self.output, "output"))
        object.__setattr__(self, "value", parse_size(self.value, "value"))

    @property
    def output_bytes(self) -> int:
        """The output limit as a number."""
        return int(self.output)

    @property
    def value_bytes(self) -> int:
        """The value limit as a number."""
        return int(self.value)


class StackFrame(msgspec.Struct, frozen=True):
    """One line of the user's code that an exception passed through."""

    file: str
    line: int | None
    function: str
    code: str = ""


class ErrorInfo(msgspec.Struct, frozen=True):
    """Why an execution did not end well."""

    kind: ErrorKind
    name: str
    message: str
    traceback: str = ""
    frames: tuple[StackFrame, ...] = ()


class Timing(msgspec.Struct, frozen=True):
    """Where the seconds went.

    queue: waiting for a process. start: from having one until the code begins; near zero for
    a standby. import_: first imports of modules that were not preloaded. run: the code itself,
    imports excluded. total: from the call to its result, as the caller sees it.
    """

    queue: float = 0.0
    start: float = 0.0
    import_: float = msgspec.field(default=0.0, name="import")
    run: float = 0.0
    total: float = 0.0


class Usage(msgspec.Struct, frozen=True):
    """What the process read of itself when it answered: CPU seconds of the execution, and the
    process's highest resident size in bytes, memory shared with its template included."""

    cpu_s: float
    peak_bytes: int


class Result(msgspec.Struct, frozen=True):
    """How an execution ended and what it left.

    value: JSON-compatible data by the rules in docs/values.md; the object itself where the
        environment is trusted. None if there is none.
    text: repr of the value of a `run`.
    mode: the mode that ran; `reason` says why, if it is not the plain one asked for.
    isolation: the mechanisms that were in force.
    exit_code: what a program of its own would have left with; -N for signal N; None if unknown.
    pid: the operating system's number of the process that ran it.
    """

    id: str
    status: Status
    mode: Mode
    environment: str
    value: Any = None
    text: str = ""
    stdout: str = ""
    stderr: str = ""
    error: ErrorInfo | None = None
    exit_code: int | None = 0
    reason: str = ""
    isolation: tuple[str, ...] = ()
    timing: Timing = Timing()
    usage: Usage | None = None
    worker: int | None = None
    pid: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end."""
        return self.status is Status.OK

    def raise_for_error(self) -> Result:
        """This result, if it is ok.

        Raises:
            ExecutionError: The subclass that says what happened; its `result` is this one.
            RequestError: If the request named what the file does not have.
            ChildLostError: If the process was lost by no act of the code.
        """
        error = self.error
        if error is None:
            return self
        if error.kind is ErrorKind.REQUEST:
            raise errors.RequestError(error.message)
        if error.kind is ErrorKind.LOST:
            raise errors.ChildLostError(error.message)
        text = error.message if error.name.startswith("_") else f"{error.name}: {error.message}"
        if error.traceback:
            text = f"{text}\n\n{error.traceback.rstrip()}"
        raise _EXCEPTIONS[error.kind](text, self)

    unwrap = raise_for_error


_EXCEPTIONS: dict[ErrorKind, type[errors.ExecutionError]] = {
    ErrorKind.RAISED: errors.RaisedError,
    ErrorKind.NOT_SERIALIZABLE: errors.NotSerializableError,
    ErrorKind.OUTPUT_TOO_LARGE: errors.OutputTooLargeError,
    ErrorKind.TIMEOUT: errors.ExecutionTimeoutError,
    ErrorKind.CRASHED: errors.CrashedError,
    ErrorKind.CANCELLED: errors.CancelledError,
}
