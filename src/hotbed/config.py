"""Settings of an engine, with their defaults, and the variables of the process that override them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hotbed.errors import RequestError


@dataclass(frozen=True, slots=True)
class Pool:
    """How many processes an engine keeps, and for how long.

    standby: children per environment that have rehearsed and wait; 0 forks on demand.
    min_workers, max_workers: persistent workers per environment; idle ones above the minimum
        end after `idle_timeout`.
    max_concurrency: executions running at once, over all environments and modes.
    max_queue: executions waiting for a process; one more is refused.
    idle_timeout: seconds without use after which a worker, and an environment's template with
        its standby children, end.
    start_timeout: seconds that a template or an interpreter may take to become ready.

    Raises:
        RequestError: If a number is out of its range.
    """

    standby: int = 2
    min_workers: int = 2
    max_workers: int = 8
    max_concurrency: int = 8
    max_queue: int = 10_000
    idle_timeout: float = 300.0
    start_timeout: float = 30.0

    def __post_init__(self) -> None:
        for name, least in (
            ("standby", 0),
            ("min_workers", 0),
            ("max_workers", 1),
            ("max_concurrency", 1),
            ("max_queue", 0),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise RequestError(f"pool.{name}={value!r} must be a whole number of at least {least}")
        if self.min_workers > self.max_workers:
            raise RequestError(
                f"pool.min_workers={self.min_workers} is above pool.max_workers={self.max_workers}"
            )
        for name in ("idle_timeout", "start_timeout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
                raise RequestError(f"pool.{name}={value!r} must be seconds above 0")


def fork_enabled() -> bool:
    """Whether templates may fork: not with HOTBED_FORK=0."""
    return os.environ.get("HOTBED_FORK", "1") != "0"
