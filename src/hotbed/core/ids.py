"""Numbers that name things; each is given once in an engine's life."""

from __future__ import annotations

from typing import NewType

ChildId = NewType("ChildId", int)
TicketId = NewType("TicketId", int)
EnvironmentId = NewType("EnvironmentId", int)
