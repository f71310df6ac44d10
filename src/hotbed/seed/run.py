"""Runs a piece of source code as a program's `__main__` and finds its value.

The value is that of the variable `result` if the code assigns it, else of a last expression.
"""

from __future__ import annotations

import ast
import io
import linecache
import sys
import types
from typing import Any, NamedTuple

from . import report

FILENAME = "<hotbed>"
_LAST = "__hotbed_last__"


class Outcome(NamedTuple):
    """What an execution came to, before it is encoded."""

    value: Any = None
    present: bool = False  # there is a value
    promised: bool = False  # it was returned or assigned to `result`: it must be data
    wants_text: bool = False
    error: dict[str, Any] | None = None
    exit_code: int = 0


def run(code: str, inputs: dict[str, Any]) -> Outcome:
    """Execute `code` in a new `__main__` whose globals start with `inputs`."""
    try:
        program = compile_program(code)
    except BaseException as error:  # SyntaxError, ValueError (NUL), RecursionError, MemoryError
        return failed(error.with_traceback(None), code)  # it passed through no line of the user's
    main = types.ModuleType("__main__")
    main.__dict__.update(inputs)
    sys.modules["__main__"] = main
    try:
        exec(program, main.__dict__)
    except SystemExit as error:
        return _exited(error, code)
    except BaseException as error:  # the border between user code and ours
        return failed(error, code)
    space = main.__dict__
    if "result" in space and not ("result" in inputs and space["result"] is inputs["result"]):
        return Outcome(space["result"], present=True, promised=True, wants_text=True)
    last = space.get(_LAST)
    return Outcome(last, present=last is not None, wants_text=True)


def compile_program(code: str) -> types.CodeType:
    """Compile with the value of a last expression kept under a private name."""
    tree = ast.parse(code, FILENAME)
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        target = ast.Name(_LAST, ast.Store())
        tree.body[-1] = ast.copy_location(ast.Assign([ast.copy_location(target, last)], last.value), last)
    return compile(tree, FILENAME, "exec", dont_inherit=True)


def _exited(error: SystemExit, code: str) -> Outcome:
    """sys.exit: a value of None or 0 is a good end, as in a program of its own."""
    if error.code is None or error.code == 0:
        return Outcome()
    return failed(error, code)


def failed(error: BaseException, code: str | None = None) -> Outcome:
    """The outcome of an exception; `code` gives its traceback the source lines."""
    if code is not None:
        # Not splitlines: a form feed or U+2028 ends no line of Python.
        lines = io.StringIO(code, newline=None).readlines()
        linecache.cache[FILENAME] = (len(code), None, lines, FILENAME)
    exit_code = 1
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        exit_code = error.code & 0xFF
    return Outcome(error=report.exception(error), exit_code=exit_code)
