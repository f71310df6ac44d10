"""One execution in the engine's hands, from its submission to its result."""

from __future__ import annotations

import threading
from typing import Protocol

from hotbed.core.actions import Lease
from hotbed.core.execution import Execution
from hotbed.core.ids import EnvironmentId, TicketId
from hotbed.engine.request import Request
from hotbed.errors import HotbedError
from hotbed.proc.link import Link


class Waiter(Protocol):
    """How the caller of a job waits for its lease."""

    def wake(self) -> None:
        """The job's lease or refusal is there; safe from any thread."""


class ThreadWaiter:
    """A caller that blocks its thread."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wake(self) -> None:
        """Let `wait` return."""
        self._lock.release()

    def wait(self, timeout_s: float | None) -> bool:
        """Block until woken; False when the time is over first."""
        return self._lock.acquire(timeout=-1 if timeout_s is None else timeout_s)


class Job:
    """What is known of one execution; guarded by the dispatcher's lock until it is leased."""

    __slots__ = (
        "began_at",
        "cancelled",
        "environment",
        "execution",
        "id",
        "lease",
        "leased_at",
        "link",
        "refusal",
        "request",
        "submitted_at",
        "ticket",
        "waiter",
    )

    def __init__(
        self,
        job_id: str,
        ticket: TicketId,
        environment: EnvironmentId,
        request: Request,
        submitted_at: float,
    ) -> None:
        self.id = job_id
        self.ticket = ticket
        self.environment = environment
        self.request = request
        self.waiter: Waiter | None = None  # made when there is something to wait for
        self.submitted_at = submitted_at
        self.leased_at = self.began_at = submitted_at
        self.execution = Execution()
        self.lease: Lease | None = None
        self.refusal: HotbedError | None = None
        self.link: Link | None = None
        self.cancelled = ""  # who ended it and why, "" if nobody
