"""The nouns of hotbed: what is asked for and what comes back.

All are frozen values. What arrives from outside is checked when the value is made, and the
error names the field.
"""

from __future__ import annotations

import copy
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
    MEMORY = "memory"
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
    MEMORY = "memory"
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


def parse_count(value: int | None, name: str, least: int) -> int | None:
    """A whole number of at least `least`, or None for no limit.

    Raises:
        RequestError: If it is anything else.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise errors.RequestError(f"{name}={value!r} must be a whole number of at least {least}, or None")
    return value


def parse_network(value: bool | Sequence[str]) -> bool | tuple[str, ...]:
    """True, False, or the allowed hosts in their plain form, sorted.

    Raises:
        RequestError: If an entry names no host.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise errors.RequestError(
            f"network={value!r} must be True, False, or a list of hosts such as ['api.example.com:443']"
        )
    from hotbed.seed import allowlist  # needed by few

    hosts = set()
    for entry in value:
        if not isinstance(entry, str):
            raise errors.RequestError(
                f"network holds {entry!r}, which is no host; write 'api.example.com:443'"
            )
        try:
            hosts.add(str(allowlist.parse(entry)))
        except ValueError as error:
            raise errors.RequestError(f"network: {error}") from None
    return tuple(sorted(hosts)) or False


@dataclass(frozen=True, slots=True)
class Mount:
    """A file or directory of the host that isolated code sees; code that is not isolated sees all.

    source: its path on the host; target: where the code finds it, the same path by default.
    writable: whether the code may change it: every execution then shares it.

    Raises:
        RequestError: If the source is missing, or is what no isolated code can be given.
    """

    source: str | os.PathLike[str]
    target: str = ""
    writable: bool = False

    def __post_init__(self) -> None:
        given = self.source.__fspath__() if isinstance(self.source, os.PathLike) else self.source
        if not isinstance(given, str) or not given or "\0" in given:
            raise errors.RequestError(f"mounts: source={self.source!r} must be a path as text")
        source = os.path.abspath(os.path.expanduser(given))
        if not os.path.exists(source):
            raise errors.RequestError(f"mounts: source={given!r} does not exist")
        if not isinstance(self.target, str) or "\0" in self.target:
            raise errors.RequestError(f"mounts: target={self.target!r} must be a path as text")
        if self.target and not os.path.isabs(self.target):
            raise errors.RequestError(f"mounts: target={self.target!r} must be an absolute path")
        target = "/" + os.path.normpath(self.target or source).lstrip("/")
        for path in (os.path.realpath(source), target):
            hidden = path.split("/")[1] in ("proc", "sys", "dev") or f"{path}/".startswith("/home/box/")
            if path in ("/", "/home") or hidden:
                raise errors.RequestError(
                    f"mounts: {path} cannot be given to isolated code; name a directory of your own below it"
                )
        object.__setattr__(self, "source", source)
        object.__setattr__(self, "target", target)


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """An environment without its name: what makes two of them the same one."""

    executable: str
    preload: str | tuple[str, ...]
    warmup: str
    trusted: bool
    mounts: tuple[Mount, ...]


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
    mounts: what isolated code sees of the host beside the interpreter and its packages.

    Raises:
        RequestError: If a field is not what is said here; a missing interpreter too.
    """

    python: str | os.PathLike[str] | None = None
    preload: Literal["auto"] | Sequence[str] = "auto"
    warmup: str = ""
    name: str = ""
    trusted: bool = False
    mounts: Sequence[Mount] = ()
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
        if not isinstance(self.mounts, Sequence) or not all(isinstance(one, Mount) for one in self.mounts):
            raise errors.RequestError(f"mounts={self.mounts!r} must be a list of Mount(...)")
        object.__setattr__(self, "mounts", tuple(self.mounts))
        key = EnvironmentKey(self.executable, preload, self.warmup, self.trusted, tuple(self.mounts))
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
    """What one execution may use; None means without a limit, where that is possible.

    timeout: seconds of its run, from its first line to its end.
    cpu_time: seconds of CPU of each of its processes.
    cpu: cores' worth of CPU that its whole tree may use at a time, such as 0.5; needs a cgroup.
    memory: bytes of its whole tree of processes, files in its private directories included;
        where there is no cgroup, of each process, and the tree is watched.
    processes: processes and threads of the whole tree.
    open_files: descriptors of each process, at least 16.
    file_size: bytes of each file that it writes.
    disk: bytes of all files in its private directories; needs a mount namespace.
    output: bytes that it may write to stdout and to stderr, each.
    value: bytes of its encoded value.
    artifacts: bytes of all files that come back from its work directory.
    network: False for none, True for all that the host can reach, or the hosts it may reach
        over TCP, such as ["api.example.com:443", "*.example.org"].

    Sizes are ints or text such as "16M". Disk and network are kept where code is isolated.
    Raises RequestError for anything else.
    """

    timeout: float | None = 30.0
    cpu_time: float | None = None
    cpu: float | None = None
    memory: int | str | None = 512 * 1024**2
    processes: int | None = 64
    open_files: int | None = 256
    file_size: int | str | None = None
    disk: int | str = 256 * 1024**2
    output: int | str = 16 * 1024**2
    value: int | str = 256 * 1024**2
    artifacts: int | str = 16 * 1024**2
    network: bool | Sequence[str] = False

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        for name in ("timeout", "cpu_time", "cpu"):
            put(name, parse_seconds(getattr(self, name), name))
        for name in ("memory", "file_size"):
            if getattr(self, name) is not None:
                put(name, parse_size(getattr(self, name), name))
        for name in ("disk", "output", "value", "artifacts"):
            put(name, parse_size(getattr(self, name), name))
        for name, least in (("processes", 1), ("open_files", MIN_OPEN_FILES)):
            put(name, parse_count(getattr(self, name), name, least))
        if self.memory is not None and int(self.memory) < MIN_MEMORY:
            raise errors.RequestError(
                f"memory={self.memory!r} is less than an interpreter needs; give {MIN_MEMORY >> 20}M or more"
            )
        if int(self.disk) < MIN_DISK:
            raise errors.RequestError(f"disk={self.disk!r} is too little; give {MIN_DISK >> 10}K or more")
        put("network", parse_network(self.network))

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit as a number."""
        return None if self.memory is None else int(self.memory)

    @property
    def file_size_bytes(self) -> int | None:
        """The limit of each file as a number."""
        return None if self.file_size is None else int(self.file_size)

    @property
    def disk_bytes(self) -> int:
        """The disk limit as a number."""
        return int(self.disk)

    @property
    def allowed_network(self) -> bool | tuple[str, ...]:
        """The network as a value that can be compared: the hosts sorted, each once."""
        return self.network if isinstance(self.network, bool) else tuple(self.network)

    @property
    def output_bytes(self) -> int:
        """The output limit as a number."""
        return int(self.output)

    @property
    def value_bytes(self) -> int:
        """The value limit as a number."""
        return int(self.value)

    @property
    def artifacts_bytes(self) -> int:
        """The limit of all artifacts together as a number."""
        return int(self.artifacts)

    def with_timeout(self, timeout: float | None) -> Limits:
        """These limits with another time limit.

        Raises:
            RequestError: If it is no time.
        """
        changed = copy.copy(self)
        object.__setattr__(changed, "timeout", parse_seconds(timeout, "timeout"))
        return changed

    def beyond(self, ceiling: Limits) -> str:
        """The name of the first field that allows more than `ceiling` does; "" if none does."""
        for name in _BOUNDED:
            mine, most = getattr(self, name), getattr(ceiling, name)
            if most is not None and (mine is None or mine > most):
                return name
        if ceiling.network is not True and self.network is not False and self.network != ceiling.network:
            allowed = ceiling.network if isinstance(ceiling.network, tuple) else ()
            if self.network is True or not set(self.network) <= set(allowed):
                return "network"
        return ""


MIN_OPEN_FILES = 16  # channel, streams, and what an import opens at a time
MIN_MEMORY = 16 * 1024**2
MIN_DISK = 64 * 1024
_BOUNDED = (
    *("timeout", "cpu_time", "cpu", "memory", "processes", "open_files", "file_size", "disk"),
    *("output", "value", "artifacts"),
)
OWN_CODE = Limits(
    timeout=None, memory=None, processes=None, open_files=None, network=True
)  # the caller's own code: nothing that a program of its own would not have


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


class Artifact(msgspec.Struct, frozen=True):
    """A file that the code left in its work directory: its path below it, and its bytes."""

    name: str
    data: bytes

    def save(self, directory: str | os.PathLike[str]) -> str:
        """Write it below a directory, in the folders its name says, and give the path."""
        path = os.path.join(directory, *self.name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(self.data)
        return path


class Result(msgspec.Struct, frozen=True):
    """How an execution ended and what it left.

    value: JSON-compatible data by the rules in docs/values.md; the object itself where the
        environment is trusted. None if there is none.
    text: repr of the value of a `run`.
    mode: the mode that ran; `reason` says why, if it is not the plain one asked for.
    artifacts: the files that the code left in its work directory, where it has one of its own;
        left_out names those that did not come back, and why.
    isolation: the tier, then every mechanism that was in force (hotbed.isolation); empty for
        code that is not isolated.
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
    artifacts: tuple[Artifact, ...] = ()
    left_out: tuple[str, ...] = ()
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
    ErrorKind.MEMORY: errors.OutOfMemoryError,
    ErrorKind.CRASHED: errors.CrashedError,
    ErrorKind.CANCELLED: errors.CancelledError,
}
