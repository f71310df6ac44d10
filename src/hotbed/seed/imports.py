"""What user code imports first: how long it took, and which installed packages it named.

Law: one measurement, two uses. The time becomes `timing.import`; the names, of third-party
modules only, are what a template could have imported ahead (`preload="auto"`).

A module that is loaded already never gets here: the interpreter calls `_find_and_load` for
missing ones alone, so the common path pays nothing.
"""

from __future__ import annotations

import sys
import sysconfig
import time
import types
from importlib import import_module
from typing import Any

from . import reseed

_bootstrap: Any = import_module("importlib._bootstrap")  # what `import` itself runs on

_site_directories: tuple[str, ...] = ()
_original: Any = _bootstrap._find_and_load
_perf_counter = time.perf_counter  # user code may replace the module's
_depth = 0
_inside_package = False
_spent_s = 0.0
_named: dict[str, None] = {}  # in order of import
MOST_NAMES = 64


def prepare() -> None:
    """Start to watch; called once, after the preload."""
    global _site_directories
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    paths.update(entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    _site_directories = tuple(path + "/" for path in paths if path)
    # The interpreter drops frames of this file name from tracebacks; ours is to be dropped too.
    code = _find_and_load.__code__.replace(co_filename=_original.__code__.co_filename)
    _bootstrap._find_and_load = types.FunctionType(code, globals(), "_find_and_load")


def begin() -> None:
    """Forget what was seen so far."""
    global _spent_s, _depth, _inside_package
    _spent_s, _depth, _inside_package = 0.0, 0, False
    _named.clear()


def seen() -> tuple[float, list[str]]:
    """Seconds spent in first imports since `begin`, and the third-party modules named."""
    return _spent_s, list(_named)[:MOST_NAMES]


def _find_and_load(name: str, import_: Any) -> Any:
    global _depth, _spent_s, _inside_package
    if name in sys.modules:  # importlib.import_module comes here for loaded ones too
        return _original(name, import_)
    outermost = _depth == 0
    started = _perf_counter() if outermost else 0.0
    was_inside = _inside_package
    if not was_inside:
        _inside_package = _is_installed(name)
    _depth += 1
    try:
        module = _original(name, import_)
        if name in reseed.GENERATORS:
            reseed.imported(name)
        if _inside_package and not was_inside:
            _named[name] = None
        return module
    finally:
        _depth -= 1
        _inside_package = was_inside
        if outermost:
            _spent_s += _perf_counter() - started


def _is_installed(name: str) -> bool:
    """Whether an installed distribution, not the caller's directory, provides the module."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names:
        return False
    try:
        spec = _bootstrap._find_spec(top, None) if top not in sys.modules else sys.modules[top].__spec__
    except Exception:  # a finder of the user's may raise anything
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(place and place.startswith(_site_directories) for place in places)
