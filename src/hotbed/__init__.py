"""hotbed: every execution a fresh Python process, in about a millisecond.

    import hotbed
    hotbed.run("sum(range(10))").value

`import hotbed` loads nothing of the engine; each name does when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hotbed.version import __version__ as __version__

if TYPE_CHECKING:
    from hotbed.config import Pool
    from hotbed.engine.aio import AsyncEngine
    from hotbed.engine.default import default_engine, run
    from hotbed.engine.engine import Engine
    from hotbed.errors import (
        CancelledError,
        ChildLostError,
        CrashedError,
        EngineError,
        EnvironmentBrokenError,
        ExecutionError,
        ExecutionTimeoutError,
        HotbedError,
        NotSerializableError,
        OutOfMemoryError,
        OutputTooLargeError,
        RaisedError,
        RefusedError,
        RequestError,
        TemplateDiedError,
    )
    from hotbed.model import (
        Artifact,
        Environment,
        ErrorInfo,
        ErrorKind,
        Limits,
        Mode,
        Mount,
        Result,
        StackFrame,
        Status,
        Timing,
        Usage,
    )


_HOMES = {
    "hotbed.config": ("Pool",),
    "hotbed.engine.aio": ("AsyncEngine",),
    "hotbed.engine.default": ("default_engine", "run"),
    "hotbed.engine.engine": ("Engine",),
    "hotbed.errors": (
        "CancelledError",
        "ChildLostError",
        "CrashedError",
        "EngineError",
        "EnvironmentBrokenError",
        "ExecutionError",
        "ExecutionTimeoutError",
        "HotbedError",
        "NotSerializableError",
        "OutOfMemoryError",
        "OutputTooLargeError",
        "RaisedError",
        "RefusedError",
        "RequestError",
        "TemplateDiedError",
    ),
    "hotbed.model": (
        "Artifact",
        "Environment",
        "ErrorInfo",
        "ErrorKind",
        "Limits",
        "Mode",
        "Mount",
        "Result",
        "StackFrame",
        "Status",
        "Timing",
        "Usage",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Artifact",
    "AsyncEngine",
    "CancelledError",
    "ChildLostError",
    "CrashedError",
    "Engine",
    "EngineError",
    "Environment",
    "EnvironmentBrokenError",
    "ErrorInfo",
    "ErrorKind",
    "ExecutionError",
    "ExecutionTimeoutError",
    "HotbedError",
    "Limits",
    "Mode",
    "Mount",
    "NotSerializableError",
    "OutOfMemoryError",
    "OutputTooLargeError",
    "Pool",
    "RaisedError",
    "RefusedError",
    "RequestError",
    "Result",
    "StackFrame",
    "Status",
    "TemplateDiedError",
    "Timing",
    "Usage",
    "default_engine",
    "run",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'hotbed' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
