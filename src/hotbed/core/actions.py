"""What the plan decides: values that the engine carries out in order.

Structs rather than dataclasses, as elsewhere on the path of a call: a frozen dataclass takes
three times as long to make.
"""

from __future__ import annotations

import msgspec

from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.model import Mode


class Order(msgspec.Struct, frozen=True):
    """Make a child: by a fork of the environment's template, or as an interpreter of its own."""

    child: ChildId
    environment: EnvironmentId
    generation: int
    mode: Mode
    forked: bool
    rehearse: bool
    preload: tuple[str, ...] = ()  # for an interpreter; a forked child has its template's


class Lease(msgspec.Struct, frozen=True):
    """The child is in this ticket's hands; `order` says that it must be made first."""

    ticket: TicketId
    child: ChildId
    order: Order | None


class Rehearse(msgspec.Struct, frozen=True):
    """Tell a waiting child to rehearse; it is ready again when it says so."""

    child: ChildId


class End(msgspec.Struct, frozen=True):
    """Kill the child and let go of it."""

    child: ChildId


class StartTemplate(msgspec.Struct, frozen=True):
    """Start the template of this generation."""

    environment: EnvironmentId
    generation: int
    preload: tuple[str, ...]


class RetireTemplate(msgspec.Struct, frozen=True):
    """Let the template end when its last child has; it gets no more orders."""

    environment: EnvironmentId
    generation: int


class Refuse(msgspec.Struct, frozen=True):
    """The ticket gets no process, by policy."""

    ticket: TicketId
    reason: str
    retry_after_s: float | None


class Break(msgspec.Struct, frozen=True):
    """The ticket gets no process: its environment cannot be made ready."""

    ticket: TicketId
    reason: str
    died: bool  # the template ended again and again, rather than failed to start


Action = Order | Lease | Rehearse | End | StartTemplate | RetireTemplate | Refuse | Break
