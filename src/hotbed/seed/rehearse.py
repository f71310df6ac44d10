"""One execution without a caller, so that the first real one meets warm pages.

After a fork each page that is written is copied at its first touch: 80 to 270 faults for a
trivial request, over a thousand for a pandas groupby. A rehearsal runs the same code over the
same objects first. Law: it leaves no state behind; what it prints goes nowhere.
"""

from __future__ import annotations

import linecache
import os
import sys
from typing import Any

from . import perform, reseed, run, values, wire

_CODE = "import sys\ndef f(x):\n    return {'n': [x, 0.5, 'text']}\nresult = f(len(inputs_of_rehearsal))"
_INPUTS = b'{"inputs_of_rehearsal": "text"}'
_request: bytes = b""
_warmup: Any = None
_warmup_source = ""
_trusted = False


def prepare(warmup: str, *, trusted: bool) -> None:
    """Encode the rehearsal's request and compile the warm-up snippet, once."""
    global _request, _trusted, _warmup, _warmup_source
    _trusted = trusted
    request = {
        "op": "run",
        "codec": "json",
        "code": _CODE,
        "inputs_bytes": len(_INPUTS),
        "blobs": {},
        "env": {},
        "seed": None,
    }
    _request = wire.encode(request)
    _warmup_source = warmup
    if warmup:
        try:
            _warmup = compile(warmup, "<warm-up>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError):
            _warmup = None  # `once` reports it, with its own words


def once(*, in_template: bool) -> str:
    """Rehearse; returns what went wrong in the warm-up snippet, "" if nothing did.

    In a template the exit hooks of its packages stay where they are, for its own end.
    """
    main = sys.modules["__main__"]
    problem = ""
    saved = os.dup(1), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 1)
        os.dup2(null, 2)
        meta, _value = perform.perform(wire.decode(_request), _INPUTS, values.Json(), persistent=in_template)
        wire.encode(meta)
        if _trusted:
            from . import shared

            shared.rehearse()
        if _warmup_source:
            problem = _warm_up()
            reseed.forget()  # the snippet may have seeded `random`
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for fd in (*saved, null):
            os.close(fd)
        sys.modules["__main__"] = main
        linecache.cache.pop(run.FILENAME, None)
    return problem


def _warm_up() -> str:
    outcome = run.run(_warmup_source, {})
    return outcome.error["traceback"] if outcome.error else ""
