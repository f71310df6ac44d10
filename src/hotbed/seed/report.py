"""Turns an exception into data: name, message, traceback and frames of the user's own code.

Law: reporting never raises. An exception's `__str__` is user code and may do anything.
"""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Any

_NOT_THE_USERS = (os.path.dirname(os.path.abspath(__file__)) + os.sep, "<frozen importlib.")
MOST_FRAMES = 50  # at each end of a deep traceback
LONGEST = 20_000  # characters of a message; twice that for a traceback


def exception(error: BaseException, *, kind: str = "raised") -> dict[str, Any]:
    """The error as a JSON-compatible dict; `kind` says whose fault it is."""
    trace = _own_frames_removed(error.__traceback__)
    try:
        frames = _frames(trace)
    except Exception:  # source lines come through loaders, which are user code
        frames = []
    return {
        "kind": kind,
        "name": readable(type(error).__name__),
        "message": _cut(_message(error), LONGEST),
        "traceback": _cut(_formatted(error, trace), 2 * LONGEST),
        "frames": frames,
    }


def plain(name: str, message: str, *, kind: str) -> dict[str, Any]:
    """An error of the execution that is no exception of the user's."""
    return {"kind": kind, "name": name, "message": message, "traceback": "", "frames": []}


def _own_frames_removed(trace: TracebackType | None) -> TracebackType | None:
    # A user's file is loaded through importlib, whose frames are then between ours and the file's.
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_NOT_THE_USERS):
        trace = trace.tb_next
    return trace


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:
        return f"<the exception's __str__ raised {type(second).__name__}>"


def _formatted(error: BaseException, trace: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(error), error, trace))
    except BaseException:
        name = type(error).__name__
        return "".join(traceback.format_tb(trace)) + f"{name}: {_message(error)}\n"


def _frames(trace: TracebackType | None) -> list[dict[str, Any]]:
    found = [
        {
            "file": readable(frame.filename),
            "line": frame.lineno,
            "function": readable(frame.name),
            "code": readable(frame.line or ""),
        }
        for frame in traceback.extract_tb(trace)
    ]
    if len(found) > 2 * MOST_FRAMES:
        return found[:MOST_FRAMES] + found[-MOST_FRAMES:]
    return found


def readable(text: str) -> str:
    """Text as it may stand in a report: a lone surrogate, which UTF-8 cannot hold, as its escape.

    Also makes an ordinary str of a subclass, whose methods are user code.
    """
    return str.encode(text, "utf-8", "backslashreplace").decode("utf-8")


def _cut(text: str, most: int) -> str:
    text = readable(text)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n... {len(text) - most} characters left out ...\n{text[-half:]}"
