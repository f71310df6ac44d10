"""What a door hands to a driver: a checked request, where it runs, and within which limits."""

from __future__ import annotations

import msgspec

from hotbed.engine.options import Listener
from hotbed.engine.place import Place
from hotbed.engine.request import Request
from hotbed.model import Limits


class Assignment(msgspec.Struct, frozen=True):
    """One execution, ready to be driven by a thread or an event loop."""

    id: str
    place: Place
    request: Request
    limits: Limits
    queue_timeout_s: float | None
    started: float  # on the monotonic clock: when the caller asked
    on_stdout: Listener | None
    on_stderr: Listener | None
