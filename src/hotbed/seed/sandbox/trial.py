"""Tries whether this host allows a tier, in processes that are thrown away."""

from __future__ import annotations

import json
import os
from typing import Any

from ..launcher import GUARDIAN_FD, become_user
from ..nursery import Born
from . import enclosure
from .confine import Sandbox
from .profile import Profile


def start(order: dict[str, Any], out: int) -> Born:
    """Start a process that confines itself and a child as the order's tier wants, and reports.

    On `out` comes one JSON object: `isolation`, the mechanisms that were applied, or `error`, the
    step that failed; or `fault`, an error of ours.
    """
    profile = Profile.of(order["profile"])
    if not profile.enclosed:
        pid = os.fork()
        if pid == 0:
            try:
                become_user(profile.user)
                _try(profile, out)
            finally:
                os._exit(1)
        return Born(pid)

    def become(guardian_fd: int) -> None:
        os.dup2(guardian_fd, GUARDIAN_FD)
        _try(profile, out)

    try:
        return enclosure.start(order["sandbox"], become)
    except OSError as error:
        kind = "fault" if getattr(error, "fault", False) else "error"
        _report(out, {kind: str(error)})
        raise


def _try(profile: Profile, out: int) -> None:
    try:
        sandbox = Sandbox(profile, keep=lambda fd: fd)
        sandbox.try_child()
        _report(out, {"isolation": sandbox.mechanisms})
    except OSError as error:
        _report(out, {"error": str(error)})
    except BaseException as error:
        _report(out, {"fault": repr(error)})
    finally:
        os._exit(0)


def _report(out: int, report: dict[str, Any]) -> None:
    os.write(out, json.dumps(report).encode())
