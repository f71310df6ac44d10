"""Standard streams of a child: real descriptors 1 and 2, and Python objects on top of them.

Law: capture happens at the descriptor, so output of C code, of subprocesses and of a process
that crashes is kept too. The pipes' other ends and their caps are the engine's.

The objects are line-buffered: a run that is killed has still delivered every line it printed.
"""

from __future__ import annotations

import contextlib
import io
import sys

_streams: tuple[io.TextIOWrapper, io.TextIOWrapper]


def prepare() -> None:
    """Make the stream objects once, in the template; descriptors 1 and 2 follow later."""
    global _streams
    _streams = (_writer(1), _writer(2))


def _writer(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(io.FileIO(fd, "w", closefd=False)),
        encoding="utf-8",
        # A lone surrogate in a print is the caller's data, not a reason to fail the run.
        errors="backslashreplace",
        line_buffering=True,
    )


def install() -> None:
    """Make these streams the interpreter's; user code may have replaced or closed its own."""
    out, err = _streams
    if out.closed or err.closed:
        prepare()
        out, err = _streams
    sys.stdout, sys.stderr = out, err
    vars(sys).update(__stdout__=out, __stderr__=err)


def flush() -> None:
    """Push out what user code wrote and did not flush; its own stream object first."""
    out, err = _streams
    if sys.__dict__.get("stdout") is out and sys.__dict__.get("stderr") is err:
        try:
            out.flush()
            err.flush()
            return
        except Exception:  # closed, or its descriptor is: each on its own, then
            pass
    for stream in (getattr(sys, "stdout", None), getattr(sys, "stderr", None), *_streams):
        with contextlib.suppress(BaseException):  # user code may have put anything there, or nothing
            stream.flush()  # type: ignore[union-attr]  # None raises, and is suppressed
