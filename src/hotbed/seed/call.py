"""Calls a function of a user's file; the file is loaded once per process.

Law: the file sees what it would see if it were imported from its own directory: that
directory first on sys.path, `__file__`, and its base name as `__name__`. It is not put into
sys.modules: two files of one name do not meet.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from . import report, run

_loaded: dict[str, ModuleType] = {}
_loop: Any = None


def call(request: dict[str, Any], inputs: dict[str, Any]) -> run.Outcome:
    """Load the file if this process has not, and call the function; awaits a coroutine.

    `inputs` holds the arguments: positional ones under "0", "1", ..., others by name.
    """
    path, name = request["file"], request["function"]
    try:
        module = _load(path)
    except BaseException as error:  # the border: importing runs user code
        return run.failed(error)
    function: Any = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        names = sorted(
            key for key, value in vars(module).items() if callable(value) and not key.startswith("_")
        )
        message = f"{path} has no function {name!r}; it has {', '.join(names) or 'none'}"
        return run.Outcome(error=report.plain("FunctionNotFound", message, kind="request"), exit_code=2)
    count = request["positional"]
    args = [inputs.pop(str(index)) for index in range(count)]
    try:
        value = function(*args, **inputs)
        if hasattr(value, "__await__"):
            value = _event_loop().run_until_complete(value)
    except BaseException as error:  # the border between user code and ours
        return run.failed(error)
    return run.Outcome(value, present=True, promised=True)


def _load(path: str) -> ModuleType:
    if (module := _loaded.get(path)) is not None:
        return module
    directory = os.path.dirname(path)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    _loaded[path] = module
    return module


def _event_loop() -> Any:
    global _loop
    import asyncio  # 78 ms: only for those who call coroutines

    if _loop is None or _loop.is_closed():
        _loop = asyncio.new_event_loop()
    return _loop
