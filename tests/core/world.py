"""A world without processes that carries out what the plan decides, and holds it to its laws.

Facts go in through the methods, in a time that only `wait` moves; what the plan orders becomes
records here. An action that no real world could carry out (a second lease of a child, an end of
one that is not there, a generation used twice) fails at once; `check` compares what the plan
believes with what is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from hotbed.config import Pool
from hotbed.core.actions import (
    Action,
    Break,
    End,
    Lease,
    Order,
    Refuse,
    Rehearse,
    RetireTemplate,
    StartTemplate,
)
from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.core.plan import Plan
from hotbed.core.shelf import TemplateState
from hotbed.model import Mode

JITTER = 0.5
MANY_ROUNDS = 300  # of a world that behaves; back-offs end far below
Group = tuple[EnvironmentId, Mode]


@dataclass(slots=True)
class LiveChild:
    """A child that was ordered and has not been ended."""

    order: Order
    starting: bool
    ticket: TicketId | None = None
    leases: int = 0


@dataclass(slots=True)
class LiveTemplate:
    """A template process that was started and has not ended."""

    environment: EnvironmentId
    generation: int
    preload: tuple[str, ...]
    ready: bool = False
    retired: bool = False


class World:
    """The plan under test, and everything it believes to exist."""

    def __init__(self, pool: Pool | None = None) -> None:
        self.plan = Plan(pool if pool is not None else Pool())
        self.now = 1000.0
        self.children: dict[ChildId, LiveChild] = {}
        self.templates: dict[tuple[EnvironmentId, int], LiveTemplate] = {}
        self.lines: dict[Group, deque[TicketId]] = {}
        self.groups: dict[TicketId, Group] = {}
        self.leases: dict[TicketId, ChildId] = {}
        self.ends: dict[TicketId, str] = {}  # how each ticket ended, written once
        self.returned: set[TicketId] = set()
        self.log: list[Action] = []
        self.closed = False
        self._last_ticket = 0
        self._last_environment = 0
        self._generations: set[tuple[EnvironmentId, int]] = set()
        self._known: set[ChildId] = set()

    # What happens.

    def add(
        self, *, forks: bool = True, learns: bool = False, preload: tuple[str, ...] = ()
    ) -> EnvironmentId:
        """A new environment."""
        self._last_environment += 1
        environment = EnvironmentId(self._last_environment)
        reason = "" if forks else "forking is switched off"
        self.plan.add_environment(environment, forks=forks, reason=reason, learns=learns, preload=preload)
        return environment

    def served(
        self, *, forks: bool = True, learns: bool = False, preload: tuple[str, ...] = ()
    ) -> EnvironmentId:
        """A new environment whose template and standby children are ready."""
        environment = self.add(forks=forks, learns=learns, preload=preload)
        self.carry_out(self.plan.warm(environment, self.now))
        self.settle()
        return environment

    def submit(self, environment: EnvironmentId, mode: Mode = Mode.FRESH, affinity: str = "") -> TicketId:
        """Somebody asks for a child."""
        self._last_ticket += 1
        ticket = TicketId(self._last_ticket)
        self.groups[ticket] = environment, mode
        self.lines.setdefault((environment, mode), deque()).append(ticket)
        self.carry_out(self.plan.submit(ticket, environment, mode, affinity, self.now))
        return ticket

    def withdraw(self, ticket: TicketId) -> bool:
        """The caller does not want to wait any more."""
        withdrawn = self.plan.withdraw(ticket)
        if withdrawn:
            self._end_ticket(ticket, "withdrawn")
        return withdrawn

    def finish(self, ticket: TicketId, *, reusable: bool = True) -> list[Action]:
        """The execution is over."""
        child = self.children[self.leases.pop(ticket)]
        child.ticket = None
        self.ends[ticket] = "finished"
        return self.carry_out(self.plan.finished(ticket, self.now, reusable=reusable))

    def lose(self, ticket: TicketId) -> list[Action]:
        """The child was gone before the execution began."""
        self.children[self.leases.pop(ticket)].ticket = None
        self.lines.setdefault(self.groups[ticket], deque()).appendleft(ticket)
        self.returned.add(ticket)
        return self.carry_out(self.plan.lost(ticket, self.now))

    def ready(self, child: ChildId) -> list[Action]:
        """A child says that it has rehearsed; it may have been ended meanwhile."""
        if child in self.children:
            self.children[child].starting = False
        return self.carry_out(self.plan.child_ready(child, self.now))

    def gone(self, child: ChildId) -> list[Action]:
        """A child has ended by itself."""
        return self.carry_out(self.plan.child_gone(child, self.now))

    def broken(self, child: ChildId, reason: str = "no module") -> list[Action]:
        """A child says that it cannot become ready."""
        return self.carry_out(self.plan.child_broken(child, reason, self.now, JITTER))

    def template_ready(
        self, template: LiveTemplate, threaded: dict[str, list[str]] | None = None
    ) -> list[Action]:
        """A template says that it is ready, though it may have been retired meanwhile."""
        template.ready = True
        if template.retired:
            del self.templates[template.environment, template.generation]
        decided = self.plan.template_ready(
            template.environment, template.generation, threaded or {}, self.now
        )
        return self.carry_out(decided)

    def template_broken(self, template: LiveTemplate, reason: str = "no module") -> list[Action]:
        """A template says why it cannot become ready, and ends."""
        del self.templates[template.environment, template.generation]
        return self.carry_out(
            self.plan.template_broken(template.environment, template.generation, reason, self.now, JITTER)
        )

    def template_gone(self, template: LiveTemplate, reason: str = "killed") -> list[Action]:
        """A template has ended unasked."""
        del self.templates[template.environment, template.generation]
        return self.carry_out(
            self.plan.template_gone(template.environment, template.generation, reason, self.now, JITTER)
        )

    def change(self, environment: EnvironmentId) -> list[Action]:
        """Somebody has upgraded a package."""
        return self.carry_out(self.plan.environment_changed(environment, self.now))

    def learn(self, environment: EnvironmentId, *names: str) -> list[Action]:
        """An execution imported these."""
        return self.carry_out(self.plan.learned(environment, list(names)))

    def wait(self, seconds: float) -> list[Action]:
        """Time passes, without a tick in between."""
        self.now += seconds
        return self.tick()

    def tick(self) -> list[Action]:
        """The timer fires; afterwards nothing may be due at once for ever."""
        actions: list[Action] = []
        for _ in range(10):
            decided = self.carry_out(self.plan.tick(self.now))
            actions += decided
            due = self.plan.due(self.now)
            if due is None or due > self.now:
                return actions
            assert decided, f"due at {due}, now {self.now}, and a tick decides nothing"
        raise AssertionError(f"ten ticks at one moment and still due: {actions}")

    def close(self) -> list[Action]:
        """The engine closes."""
        actions = self.plan.close()
        self.closed = True
        return self.carry_out(actions)

    # A world that behaves.

    def starting_templates(self) -> list[LiveTemplate]:
        """Templates that have not said anything yet."""
        return [template for template in self.templates.values() if not template.ready]

    def starting_children(self) -> list[ChildId]:
        """Children that set up or rehearse."""
        return [name for name, child in self.children.items() if child.starting]

    def standing_by(self, environment: EnvironmentId) -> list[ChildId]:
        """Fresh children that wait, rehearsed or not."""
        return [
            name
            for name, child in self.children.items()
            if child.order.environment == environment
            and child.order.mode is Mode.FRESH
            and not child.starting
            and child.ticket is None
        ]

    def workers(self, environment: EnvironmentId) -> list[ChildId]:
        """Workers of an environment, whatever they do."""
        return [
            name
            for name, child in self.children.items()
            if child.order.environment == environment and child.order.mode is Mode.WORKER
        ]

    def template(self, environment: EnvironmentId) -> LiveTemplate:
        """The one template of an environment that was not retired."""
        (found,) = self.live_templates(environment)
        return found

    def live_templates(self, environment: EnvironmentId) -> list[LiveTemplate]:
        """The templates of an environment that were not retired."""
        return [
            template
            for template in self.templates.values()
            if template.environment == environment and not template.retired
        ]

    def settle(self) -> None:
        """All that starts becomes ready."""
        while (templates := self.starting_templates()) or self.starting_children():
            for template in templates:
                self.template_ready(template)
            for child in self.starting_children():
                self.ready(child)

    def behave(self) -> None:
        """Everything becomes ready, every execution ends, time passes, until nobody waits.

        Raises:
            AssertionError: If somebody waits for ever.
        """
        for _ in range(MANY_ROUNDS):
            self.settle()
            for ticket in list(self.leases):
                self.finish(ticket)
            if not self.plan.queued and not self.leases:
                return
            due = self.plan.due(self.now)
            if due is not None:
                self.wait(due - self.now)
        raise AssertionError(f"wait for ever: {self.lines}; shelves {self.plan.shelves}")

    # What the plan decides.

    def carry_out(self, actions: Iterable[Action]) -> list[Action]:
        """Do as the plan says, in order."""
        actions = list(actions)
        for action in actions:
            self._do(action)
        self.log += actions
        self.check()
        return actions

    def _do(self, action: Action) -> None:
        if self.closed:
            assert isinstance(action, (End, RetireTemplate, Refuse)), f"{action} after close"
        match action:
            case Order():
                self._make(action)
            case Lease():
                self._lease(action)
            case Rehearse(child):
                record = self.children[child]
                assert not record.starting, f"{child} is told to rehearse while it starts"
                assert record.ticket is None, f"{child} is told to rehearse while it is leased"
                record.starting = True
            case End(child):
                assert child in self.children, f"{child} is ended, and is not there"
                assert self.children[child].ticket is None, f"{child} is ended in its caller's hands"
                del self.children[child]
            case StartTemplate(environment, generation, preload):
                assert (environment, generation) not in self._generations, f"{action}: used before"
                self._generations.add((environment, generation))
                self.templates[environment, generation] = LiveTemplate(environment, generation, preload)
            case RetireTemplate(environment, generation):
                template = self.templates.get((environment, generation))
                assert template is not None, f"{action}: it has ended"
                assert not template.retired, f"{action}: a second time"
                template.retired = True
                if template.ready:
                    del self.templates[environment, generation]
            case Refuse(ticket):
                self._end_ticket(ticket, "refused")
            case Break(ticket):
                self._end_ticket(ticket, "broken")

    def _make(self, order: Order) -> LiveChild:
        assert order.child not in self._known, f"{order}: the name was used before"
        if order.forked:
            template = self.templates.get((order.environment, order.generation))
            assert template is not None, f"{order}: there is no such template"
            assert template.ready, f"{order}: the template is not ready"
            assert not template.retired, f"{order}: the template is retired"
        self._known.add(order.child)
        child = LiveChild(order, starting=order.rehearse)
        self.children[order.child] = child
        return child

    def _lease(self, lease: Lease) -> None:
        group = self.groups[lease.ticket]
        line = self.lines[group]
        assert line[0] == lease.ticket, f"{lease} although {line[0]} waits longer"
        line.popleft()
        child = self._make(lease.order) if lease.order is not None else self.children[lease.child]
        assert child.order.child == lease.child
        assert (child.order.environment, child.order.mode) == group
        assert child.ticket is None, f"{lease}: leased already"
        assert not child.starting, f"{lease}: it is not ready"
        child.leases += 1
        assert child.leases == 1 or child.order.mode is Mode.WORKER, f"{lease}: leased before"
        child.ticket = lease.ticket
        self.leases[lease.ticket] = lease.child
        self.returned.discard(lease.ticket)

    def _end_ticket(self, ticket: TicketId, how: str) -> None:
        assert ticket not in self.ends, f"ticket {ticket} is {how} after it was {self.ends[ticket]}"
        self.lines[self.groups[ticket]].remove(ticket)
        self.ends[ticket] = how
        self.returned.discard(ticket)

    # The laws that hold at every moment.

    def check(self) -> None:
        """Compare what the plan believes with what is.

        Raises:
            AssertionError: If a law is broken.
        """
        plan, pool = self.plan, self.plan.pool
        waiting = sum(len(line) for line in self.lines.values())
        assert plan.running == len(self.leases) <= pool.max_concurrency
        assert plan.queued == waiting <= pool.max_queue + len(self.returned)
        assert plan.children.keys() == self.children.keys()
        for environment, shelf in plan.shelves.items():
            own = [child for child in self.children.values() if child.order.environment == environment]
            workers = [child for child in own if child.order.mode is Mode.WORKER]
            assert len(workers) <= pool.max_workers
            shelved = [child for child in own if child.order.mode is Mode.FRESH and child.ticket is None]
            forked = [child for child in shelved if child.order.forked]
            assert len(forked) <= pool.standby
            assert len(shelved) <= max(pool.standby, pool.max_concurrency)
            believed = {shelf.upgrade} - {None}
            if shelf.template in (TemplateState.STARTING, TemplateState.READY):
                believed.add(shelf.generation)
            live = self.live_templates(environment)
            assert {template.generation for template in live} == believed
            assert sum(template.ready for template in live) <= 1
            self._check_that_nobody_waits_in_vain(environment)

    def _check_that_nobody_waits_in_vain(self, environment: EnvironmentId) -> None:
        plan, pool, shelf = self.plan, self.plan.pool, self.plan.shelves[environment]
        if plan.running >= pool.max_concurrency:
            return
        assert not self.lines.get((environment, Mode.ONESHOT)), "a one-shot needs a free place alone"
        forks = shelf.forks and shelf.template is TemplateState.READY
        if self.lines.get((environment, Mode.FRESH)):
            assert not forks, "waits for a fork that could be had"
            assert not self.standing_by(environment), "waits beside a child that stands by"
        if self.lines.get((environment, Mode.WORKER)):
            workers = [self.children[name] for name in self.workers(environment)]
            assert not any(worker.ticket is None and not worker.starting for worker in workers)
            assert not forks or len(workers) == pool.max_workers
