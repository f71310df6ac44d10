"""What the plan knows of one environment: its template, its waiting children, its workers."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from hotbed.core.ids import ChildId, EnvironmentId


class TemplateState(Enum):
    """Where an environment's template stands."""

    ABSENT = "absent"
    STARTING = "starting"
    READY = "ready"
    BROKEN = "broken"


@dataclass(slots=True)
class Shelf:
    """One environment's processes.

    forks: whether its children are forked from a template; where they are not, interpreters
        are started ahead and used once.
    learns: whether modules that executions import are to be preloaded from then on.
    """

    id: EnvironmentId
    forks: bool
    learns: bool
    preload: tuple[str, ...]
    template: TemplateState = TemplateState.ABSENT
    generation: int = 0
    valid_from: int = 0  # processes of an earlier generation hold packages that have changed
    upgrade: int | None = None  # the generation that starts beside the current one
    upgrade_loads: tuple[str, ...] = ()  # its preload list
    next_generation: int = 1
    learned: tuple[str, ...] = ()
    unfit: frozenset[str] = frozenset()  # learned names that a template must not hold
    loaded: tuple[str, ...] = ()  # what the current template was started with
    threaded: bool = False  # it would fork, but for the threads of what it imports
    reason: str = ""  # why it does not fork, or is broken
    broke_by_death: bool = False
    failures: int = 0  # starts and lives of templates that ended badly, in a row
    retry_at: float = 0.0
    standby: deque[ChildId] = field(default_factory=deque)
    starting: set[ChildId] = field(default_factory=set)
    idle_workers: list[ChildId] = field(default_factory=list)  # most recently used last
    workers: set[ChildId] = field(default_factory=set)
    leased: int = 0
    used_at: float = 0.0
    refill_at: float = 0.0  # after a shortage, nothing is ordered ahead before this time
    pressed: bool = False  # somebody found no standby: no time for rehearsals now

    def wanted_preload(self) -> tuple[str, ...]:
        """The preload list that a template or interpreter started now gets."""
        return (*self.preload, *self.learned)
