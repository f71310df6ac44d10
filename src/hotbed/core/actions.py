"""What the plan decides: values that the engine carries out in order."""

from __future__ import annotations

from dataclasses import dataclass

from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.model import Mode


@dataclass(frozen=True, slots=True)
class Order:
    """Make a child: by a fork of the environment's template, or as an interpreter of its own."""

    child: ChildId
    environment: EnvironmentId
    generation: int
    mode: Mode
    forked: bool
    rehearse: bool
    preload: tuple[str, ...] = ()  # for an interpreter; a forked child has its template's


@dataclass(frozen=True, slots=True)
class Lease:
    """The child is in this ticket's hands; `order` says that it must be made first."""

    ticket: TicketId
    child: ChildId
    order: Order | None


@dataclass(frozen=True, slots=True)
class Rehearse:
    """Tell a waiting child to rehearse; it is ready again when it says so."""

    child: ChildId


@dataclass(frozen=True, slots=True)
class End:
    """Kill the child and let go of it."""

    child: ChildId


@dataclass(frozen=True, slots=True)
class StartTemplate:
    """Start the template of this generation."""

    environment: EnvironmentId
    generation: int
    preload: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RetireTemplate:
    """Let the template end when its last child has; it gets no more orders."""

    environment: EnvironmentId
    generation: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """The ticket gets no process, by policy."""

    ticket: TicketId
    reason: str
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class Break:
    """The ticket gets no process: its environment cannot be made ready."""

    ticket: TicketId
    reason: str
    died: bool  # the template ended again and again, rather than failed to start


Action = Order | Lease | Rehearse | End | StartTemplate | RetireTemplate | Refuse | Break
