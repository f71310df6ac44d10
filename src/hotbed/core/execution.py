"""An execution's life as the caller sees it: a table of states and events.

    QUEUED --leased--> SENT --lost unbegun--> QUEUED (once)
    QUEUED --refused--> REJECTED        SENT --answered / killed / lost--> one of the ends

Each execution ends exactly once; an end has no way out.
"""

from __future__ import annotations

from enum import Enum

from hotbed.model import Status


class Phase(Enum):
    """Where an execution stands."""

    QUEUED = "queued"
    SENT = "sent"
    ENDED = "ended"

    __hash__ = object.__hash__  # members are single; Enum's own hash is Python code


TRANSITIONS: dict[tuple[Phase, str], Phase] = {
    (Phase.QUEUED, "leased"): Phase.SENT,
    (Phase.QUEUED, "refused"): Phase.ENDED,
    (Phase.QUEUED, "cancelled"): Phase.ENDED,
    (Phase.SENT, "returned"): Phase.QUEUED,
    (Phase.SENT, "ended"): Phase.ENDED,
}


class Execution:
    """The phase of one execution and how it ended."""

    __slots__ = ("phase", "retried", "status")

    def __init__(self) -> None:
        self.phase = Phase.QUEUED
        self.retried = False
        self.status: Status | None = None

    def on(self, event: str, status: Status | None = None) -> None:
        """Apply an event; an end comes with its status.

        Raises:
            ValueError: If the event has no place in this phase, or a second retry is asked for.
        """
        try:
            phase = TRANSITIONS[self.phase, event]
        except KeyError:
            raise ValueError(f"execution: {event!r} while {self.phase.value!r}") from None
        if event == "returned":
            if self.retried:
                raise ValueError("execution: returned to the queue a second time")
            self.retried = True
        if (phase is Phase.ENDED) != (status is not None):
            raise ValueError(f"execution: {event!r} with status {status}")
        self.phase, self.status = phase, status
