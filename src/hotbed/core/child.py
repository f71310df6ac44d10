"""A process that runs user code, as the plan sees it: a state and a table of its events.

    ordered --> STARTING --ready--> STANDBY --leased--> LEASED --ended--> (gone)
            \\-> STANDBY (forked unrehearsed) --rehearsing--> STARTING
            \\-> LEASED (made for a caller who waits)
    LEASED --idle--> STANDBY, for workers alone.

An event without an entry is a bug of the plan and raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.model import Mode


class State(Enum):
    """Where a child stands; a child that ends is forgotten at once."""

    STARTING = "starting"
    STANDBY = "standby"
    LEASED = "leased"

    __hash__ = object.__hash__  # members are single; Enum's own hash is Python code


class Event(Enum):
    """What may happen to a child."""

    READY = "ready"
    REHEARSING = "rehearsing"
    LEASED = "leased"
    IDLE = "idle"

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.STARTING, Event.READY): State.STANDBY,
    (State.STANDBY, Event.REHEARSING): State.STARTING,
    (State.STANDBY, Event.LEASED): State.LEASED,
    (State.LEASED, Event.IDLE): State.STANDBY,
}


@dataclass(slots=True)
class Child:
    """One child; `generation` is that of the template it came from."""

    id: ChildId
    environment: EnvironmentId
    mode: Mode
    generation: int
    state: State
    forked: bool
    rehearsed: bool
    born: float
    ticket: TicketId | None = None
    idle_since: float = 0.0
    served: int = 0
    affinities: frozenset[str] = frozenset()

    def on(self, event: Event) -> None:
        """Apply an event.

        Raises:
            ValueError: If the event has no place in this state.
        """
        try:
            self.state = TRANSITIONS[self.state, event]
        except KeyError:
            raise ValueError(f"child {self.id}: {event.value!r} while {self.state.value!r}") from None
