"""Makes a bare interpreter into the one that an environment describes.

Law: the order is fixed: the sandbox, `site`, the preload list, a count of threads. Before `site`
there is one thread, and no package's .pth file has run code. A failure is reported with the
package's own traceback, never swallowed.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from . import kernel

if TYPE_CHECKING:
    from .sandbox.confine import Sandbox


class Setup(NamedTuple):
    """What the engine wants this interpreter to become."""

    preload: list[str]
    paths: list[str]  # put in front of sys.path after `site`, as PYTHONPATH would be
    user_site: bool  # whether the user's own site-packages count
    warmup: str  # rehearsed by every child after the built-in rehearsal
    work_root: str  # where each child makes its private work directory; "" keeps `cwd`
    cwd: str
    trusted: bool  # pickle and shared memory may be used with this environment
    sandbox: dict[str, Any] | None  # see sandbox/profile.py

    @classmethod
    def of(cls, message: dict[str, Any]) -> Setup:
        return cls(**{name: message[name] for name in cls._fields})


class BrokenError(Exception):
    """The environment cannot be made; the message holds the reason and the traceback."""


def confine(setup: Setup, keep: Callable[[int], int] | None) -> Sandbox | None:
    """Confine this process as its set-up says; None if it does not.

    Raises:
        BrokenError: If this interpreter or this host cannot.
    """
    if setup.sandbox is None:
        return None
    try:
        from .sandbox.confine import Sandbox
        from .sandbox.profile import Profile

        return Sandbox(Profile.of(setup.sandbox), keep)
    except (ImportError, OSError) as error:
        raise BrokenError(f"its sandbox cannot be made: {error}") from None


def become(setup: Setup) -> dict[str, Any]:
    """Apply a set-up to this process and report what it is now.

    Returns `directories`, what to watch for a changed installation, with their times before the
    first import, and `threads`: the preloaded modules whose import started threads that do not
    survive a fork, with the threads' names.

    Raises:
        BrokenError: If a preloaded module cannot be imported.
    """
    import site

    site.main()
    if setup.user_site:
        site.addsitedir(site.getusersitepackages())
    directories = watched_directories()
    sys.path[:0] = setup.paths  # not watched: programs write files to such directories
    threads: dict[str, list[str]] = {}
    for name in setup.preload:
        before = surviving_threads()
        _import(name)
        after = surviving_threads()
        if len(after) > len(before):
            threads[name] = after
    return {"directories": directories, "threads": threads}


def watched_directories() -> dict[str, int]:
    """The directories of sys.path that installers write to, with their mtimes in ns.

    The standard library is left out: an interpreter upgraded in place is not the same
    environment, and its directory changes when byte-code caches are first written.
    """
    stdlib = os.path.dirname(os.__file__)
    found = {}
    for entry in sys.path:
        if entry in (stdlib, os.path.join(stdlib, "lib-dynload")):
            continue
        try:
            found[entry] = os.stat(entry).st_mtime_ns
        except OSError:
            continue
    return found


def _import(name: str) -> None:
    try:
        import_module(name)
    except BaseException as error:
        own = os.path.dirname(__file__)
        trace = error.__traceback__
        while trace is not None and (
            trace.tb_frame.f_code.co_filename.startswith(own)
            or "importlib" in trace.tb_frame.f_code.co_filename
        ):
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace))
        raise BrokenError(f"cannot import {name!r}\n{text}") from None


def surviving_threads() -> list[str]:
    """The names of the threads, beside the main one, that a fork would silently drop.

    Some libraries (OpenBLAS) end their threads just before a fork and start them again when
    needed: a fork is the test. Only after it do the tasks count.
    """
    names = kernel.task_names()
    if len(names) > 1:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        names = kernel.task_names()
    return names[1:]
