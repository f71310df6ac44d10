"""The engine that `hotbed.run` uses: made at its first use, closed when the program ends."""

from __future__ import annotations

import os
import threading
from typing import Any

from hotbed.engine.engine import Engine
from hotbed.model import Result

_lock = threading.Lock()
_engine: Engine | None = None
_owner = 0


def default_engine() -> Engine:
    """The shared engine of this process; a fork of the process gets one of its own."""
    global _engine, _owner
    engine = _engine
    if engine is not None and _owner == os.getpid() and not engine.closed:
        return engine
    with _lock:
        if _engine is None or _owner != os.getpid() or _engine.closed:
            _engine = Engine()
            _owner = os.getpid()
        return _engine


def run(code: str, **options: Any) -> Result:
    """Run source text with the default engine; the options are those of `Engine.run`."""
    return default_engine().run(code, **options)
