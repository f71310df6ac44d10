"""Which children live, which die, who gets the next one.

Pure: no clock, no process, no lock. Facts come in as method calls with `now` in seconds of a
monotonic clock; decisions go out as actions, which the caller carries out in order. All
scheduling state lives here and in the shelves.

The laws: a child is leased to one ticket at a time, and a fresh child once; a ticket is leased,
refused or broken once, or withdrawn; no more than `max_concurrency` leases are out; a ticket
whose execution had not begun when its child was lost goes back to the front once.
"""

from __future__ import annotations

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
from hotbed.core.backoff import delay_s
from hotbed.core.child import Child, Event, State
from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.core.queue import Queue
from hotbed.core.shelf import Shelf, TemplateState
from hotbed.model import Mode

SHORTAGE_S = 1.0  # between two tries to make children ahead on a host without descriptors
CALM_S = 0.010  # without a submission for so long, unrehearsed children get their rehearsal
FREE_RESTARTS = 3  # deaths of a template in a row that callers do not notice
LONGEST_NAME = 200  # characters of a dotted module name
LEARNED_LIMIT = 256  # modules; a template that imports more than this serves no one better
ALIVE = (TemplateState.STARTING, TemplateState.READY)  # there is a process to retire
SERVICE_WEIGHT = 0.1  # of the newest sample in the running mean of service times


@dataclass(slots=True)
class Ticket:
    """One execution's claim to a child."""

    id: TicketId
    environment: EnvironmentId
    mode: Mode
    affinity: str
    child: ChildId | None = None
    leased_at: float = 0.0


Group = tuple[EnvironmentId, Mode]


class Plan:
    """The scheduler of one engine."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.shelves: dict[EnvironmentId, Shelf] = {}
        self.children: dict[ChildId, Child] = {}
        self._tickets: dict[TicketId, Ticket] = {}
        self._queue: Queue[Group, TicketId] = Queue()
        self._running = 0
        self._last_child = 0
        self._service_s = 0.0
        self._closing = False

    # Questions.

    @property
    def queued(self) -> int:
        """Tickets that wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Leases that are out."""
        return self._running

    def due(self, now: float) -> float | None:
        """When `tick` has something to decide next, or None if nothing is foreseen."""
        times: list[float] = []
        for shelf in self.shelves.values():
            if self._restarting(shelf):
                times.append(shelf.retry_at)
            if shelf.refill_at:
                times.append(shelf.refill_at)
            if self._catches_up(shelf):
                times.append(shelf.used_at + CALM_S)
            if (idle_at := self._idle_at(shelf)) is not None:
                times.append(idle_at)
            if (spare := self._spare_worker(shelf)) is not None:
                times.append(spare.idle_since + self.pool.idle_timeout)
        # What is overdue is due now: a tick that came just too early must not cost it its turn.
        return max(now, min(times)) if times else None

    # Facts from callers.

    def add_environment(
        self, environment: EnvironmentId, *, forks: bool, reason: str, learns: bool, preload: tuple[str, ...]
    ) -> None:
        """Make an environment known; `reason` says why it does not fork, if it does not."""
        self.shelves[environment] = Shelf(
            environment, forks=forks, learns=learns, preload=preload, reason=reason
        )

    def warm(self, environment: EnvironmentId, now: float) -> list[Action]:
        """Have an environment's template and standby children made ready."""
        shelf = self.shelves[environment]
        shelf.used_at = now
        self._forgive(shelf, now)
        return [*self._start_template(shelf, now), *self._refill(shelf, now)]

    def submit(
        self, ticket_id: TicketId, environment: EnvironmentId, mode: Mode, affinity: str, now: float
    ) -> list[Action]:
        """Ask for a child; without a Lease, Refuse or Break for it the ticket waits."""
        if self._closing:
            return [Refuse(ticket_id, "the engine is closing", None)]
        shelf = self.shelves[environment]
        shelf.used_at = now
        ticket = Ticket(ticket_id, environment, mode, affinity)
        group = (environment, mode)
        if self._running < self.pool.max_concurrency and not self._queue.waiting(group):
            actions = self._grant(ticket, shelf, now)
            if actions and isinstance(actions[0], (Lease, Break)):
                return actions
        else:
            actions = []
        if len(self._queue) >= self.pool.max_queue:
            return [*actions, Refuse(ticket_id, self._full(), self._retry_after_s())]
        self._tickets[ticket_id] = ticket
        self._queue.push(group, ticket_id)
        if mode is not Mode.ONESHOT:
            actions += self._refill(shelf, now)
        return actions

    def withdraw(self, ticket_id: TicketId) -> bool:
        """Forget a ticket that waits; False if it does not wait any more."""
        if ticket_id not in self._queue:
            return False
        self._queue.remove(ticket_id)
        del self._tickets[ticket_id]
        return True

    def finished(self, ticket_id: TicketId, now: float, *, reusable: bool) -> list[Action]:
        """Take a child back after its execution; `reusable` says that it is sound still."""
        ticket = self._tickets.pop(ticket_id)
        child = self.children[self._child_of(ticket)]
        shelf = self.shelves[ticket.environment]
        sample_s = now - ticket.leased_at
        self._service_s += SERVICE_WEIGHT * (sample_s - self._service_s) if self._service_s else sample_s
        oneshot = child.mode is Mode.ONESHOT
        if reusable and not oneshot and child.generation == shelf.generation:
            shelf.failures = 0  # only an answer speaks for the template, and only for its own
        actions = self._take_back(child, shelf, now, reusable=reusable)
        if self._queue:
            actions += self._serve_queue(now)
        elif not actions:
            return actions  # a worker went back to its place: nothing else has changed
        return actions if oneshot else actions + self._refill(shelf, now)

    def lost(self, ticket_id: TicketId, now: float) -> list[Action]:
        """Take a lease back whose execution never began: the ticket goes on at the front."""
        ticket = self._tickets[ticket_id]
        child = self.children[self._child_of(ticket)]
        shelf = self.shelves[ticket.environment]
        actions = self._take_back(child, shelf, now, reusable=False)
        ticket.child = None
        if self._closing:
            del self._tickets[ticket_id]
            return [*actions, Refuse(ticket_id, "the engine is closing", None)]
        self._queue.push_front((ticket.environment, ticket.mode), ticket_id)
        actions += self._serve_queue(now)
        actions += self._refill(shelf, now)
        return actions

    # Facts from processes.

    def child_ready(self, child_id: ChildId, now: float) -> list[Action]:
        """A child has rehearsed and waits."""
        child = self.children.get(child_id)
        if child is None or child.state is not State.STARTING:
            return []
        shelf = self.shelves[child.environment]
        shelf.starting.discard(child_id)
        child.on(Event.READY)
        child.rehearsed = True
        child.idle_since = now
        if not child.forked:
            shelf.failures = 0
        if self._is_stale(child, shelf):
            return [*self._forget(child), *self._refill(shelf, now)]
        if child.mode is Mode.WORKER:
            shelf.idle_workers.append(child_id)
        else:
            shelf.standby.append(child_id)
        return self._serve_queue(now)

    def child_gone(self, child_id: ChildId, now: float, *, blameless: bool = False) -> list[Action]:
        """A child has ended; one that is leased is its caller's to report.

        `blameless` says that something else took it along, so its end tells nothing of the next.
        """
        child = self.children.get(child_id)
        if child is None or child.state is State.LEASED:
            return []
        shelf = self.shelves[child.environment]
        was_starting = child.state is State.STARTING
        actions = self._forget(child)
        if was_starting and not blameless:  # it may have died of what would kill the next one too
            shelf.failures += 1
            if shelf.failures > FREE_RESTARTS:
                reason = "its processes end while they start"
                return actions + self._blame(shelf, reason, now, jitter=0.5, died=True)
        return actions + self._refill(shelf, now)

    def order_failed(self, child_id: ChildId, now: float) -> list[Action]:
        """A child could not be made: the host is short of something. No more ahead for a moment."""
        child = self.children.get(child_id)
        if child is None:
            return []
        shelf = self.shelves[child.environment]
        shelf.refill_at = now + SHORTAGE_S
        return [] if child.state is State.LEASED else self._forget(child)

    def child_broken(self, child_id: ChildId, reason: str, now: float, jitter: float) -> list[Action]:
        """A child could not become ready: a preloaded module or the warm-up snippet fails."""
        child = self.children.get(child_id)
        if child is None or child.state is not State.STARTING:
            return []
        shelf = self.shelves[child.environment]
        return self._forget(child) + self._blame(shelf, reason, now, jitter=jitter, died=False)

    def template_ready(
        self, environment: EnvironmentId, generation: int, threaded: dict[str, list[str]], now: float
    ) -> list[Action]:
        """A template has imported its list; `threaded` names modules that no fork survives."""
        shelf = self.shelves[environment]
        upgrades = generation == shelf.upgrade
        if not upgrades and (generation != shelf.generation or shelf.template is not TemplateState.STARTING):
            return []  # it was retired before it was ready
        if threaded:
            return self._without_threads(shelf, generation, threaded, now)
        actions: list[Action] = []
        if upgrades:
            actions += self._end_waiting(shelf, workers=False)
            if shelf.template in ALIVE:
                actions.append(RetireTemplate(environment, shelf.generation))
            shelf.generation, shelf.loaded, shelf.upgrade = generation, shelf.upgrade_loads, None
            shelf.retry_at = 0.0
        shelf.template = TemplateState.READY
        actions += self._serve_queue(now) + self._refill(shelf, now)
        return actions + self._upgrade(shelf)

    def template_broken(
        self, environment: EnvironmentId, generation: int, reason: str, now: float, jitter: float
    ) -> list[Action]:
        """A template could not become ready; `reason` is its own words."""
        shelf = self.shelves[environment]
        upgrades = generation == shelf.upgrade
        if not upgrades and (generation != shelf.generation or shelf.template is not TemplateState.STARTING):
            return []
        if upgrades or self._suspects(shelf, generation):
            return self._drop_learned(shelf, generation, self._suspects(shelf, generation), now)
        shelf.template = TemplateState.ABSENT
        return self._break(shelf, reason, now, jitter=jitter, died=False)

    def template_gone(
        self, environment: EnvironmentId, generation: int, reason: str, now: float, jitter: float
    ) -> list[Action]:
        """A template has ended unasked, and with it all its children."""
        shelf = self.shelves[environment]
        if generation == shelf.upgrade:
            return self._drop_learned(shelf, generation, self._suspects(shelf, generation), now)
        if generation != shelf.generation or shelf.template not in ALIVE:
            return []
        actions = self._end_waiting(shelf, workers=True, of=generation)
        if shelf.template is TemplateState.STARTING and (suspects := self._suspects(shelf, generation)):
            return actions + self._drop_learned(shelf, generation, suspects, now)
        shelf.failures += 1
        shelf.template = TemplateState.ABSENT
        if shelf.failures > FREE_RESTARTS:
            return actions + self._break(shelf, reason, now, jitter=jitter, died=True)
        # The first restart is at once; later ones step back.
        wait_s = delay_s(shelf.failures - 1, jitter, first_s=0.1) if shelf.failures > 1 else 0.0
        shelf.retry_at = now + wait_s
        return actions + self._start_template(shelf, now)

    def environment_changed(self, environment: EnvironmentId, now: float) -> list[Action]:
        """Its installed packages are not those its processes have imported: begin anew."""
        shelf = self.shelves[environment]
        actions = self._end_waiting(shelf, workers=True) + self._retire(shelf)
        if shelf.threaded:  # the packages that start threads may have gone
            shelf.forks, shelf.threaded, shelf.reason = True, False, ""
        shelf.unfit = frozenset()
        shelf.failures = 0
        shelf.retry_at = 0.0
        shelf.generation = shelf.valid_from = shelf.next_generation
        shelf.next_generation += 1
        return actions + self._start_template(shelf, now) + self._refill(shelf, now)

    def learned(self, environment: EnvironmentId, names: list[str]) -> list[Action]:
        """Executions imported these installed modules; a template could have had them ready."""
        shelf = self.shelves[environment]
        if not shelf.learns:
            return []
        known = {*shelf.preload, *shelf.learned, *shelf.unfit}
        new = [name for name in dict.fromkeys(names) if name not in known and _is_module(name)]
        if not new or len(shelf.learned) + len(shelf.unfit) + len(new) > LEARNED_LIMIT:
            return []
        shelf.learned = (*shelf.learned, *new)
        return self._upgrade(shelf)

    def tick(self, now: float) -> list[Action]:
        """What time alone decides: rehearsals in a calm moment, idle ends, second tries."""
        actions: list[Action] = []
        for shelf in self.shelves.values():
            if self._restarting(shelf) and now >= shelf.retry_at:
                actions += self._start_template(shelf, now)
            if 0.0 < shelf.refill_at <= now:
                shelf.refill_at = 0.0
                actions += self._refill(shelf, now)
            if self._catches_up(shelf) and now >= shelf.used_at + CALM_S:
                shelf.pressed = False
                actions += self._rehearse(shelf)
                actions += self._refill(shelf, now)
            actions += self._end_idle(shelf, now)
        return actions

    def close(self) -> list[Action]:
        """Refuse all that waits and end all that is not leased; leases end with their callers."""
        self._closing = True
        actions: list[Action] = []
        for group, _head in self._queue.heads():
            for ticket_id in self._queue.of(group):
                self.withdraw(ticket_id)
                actions.append(Refuse(ticket_id, "the engine is closing", None))
        for shelf in self.shelves.values():
            actions += self._end_waiting(shelf, workers=True)
        return actions

    # Decisions.

    def _grant(self, ticket: Ticket, shelf: Shelf, now: float) -> list[Action]:
        """A lease, if this ticket can have one now; else what would make one possible."""
        if ticket.mode is Mode.ONESHOT:
            return self._lease_new(ticket, shelf, now, forked=False)
        self._forgive(shelf, now)
        if shelf.template is TemplateState.BROKEN:
            return [Break(ticket.id, shelf.reason, shelf.broke_by_death)]
        waiting = self._waiting_child(ticket, shelf)
        if waiting is not None:
            return [self._lease(ticket, shelf, self.children[waiting], None, now)]
        if ticket.mode is Mode.WORKER and len(shelf.workers) >= self.pool.max_workers:
            return []
        if not shelf.forks:
            return self._refill(shelf, now)  # an interpreter is made ready first
        if shelf.template is not TemplateState.READY:
            return self._start_template(shelf, now)
        if ticket.mode is Mode.FRESH:
            shelf.pressed = True
        return self._lease_new(ticket, shelf, now, forked=True)

    def _waiting_child(self, ticket: Ticket, shelf: Shelf) -> ChildId | None:
        if ticket.mode is Mode.FRESH:
            return shelf.standby.popleft() if shelf.standby else None
        idle = shelf.idle_workers
        for index in range(len(idle) - 1, -1, -1):
            if ticket.affinity in self.children[idle[index]].affinities:
                return idle.pop(index)
        return idle.pop() if idle else None

    def _lease_new(self, ticket: Ticket, shelf: Shelf, now: float, *, forked: bool) -> list[Action]:
        child, order = self._order(shelf, ticket.mode, now, forked=forked, rehearse=False)
        return [self._lease(ticket, shelf, child, order, now)]

    def _lease(self, ticket: Ticket, shelf: Shelf, child: Child, order: Order | None, now: float) -> Lease:
        if order is None:
            child.on(Event.LEASED)
        child.ticket = ticket.id
        if ticket.affinity not in child.affinities:
            child.affinities |= {ticket.affinity}
        ticket.child = child.id
        ticket.leased_at = now
        self._tickets[ticket.id] = ticket
        shelf.leased += 1
        self._running += 1
        return Lease(ticket.id, child.id, order)

    def _order(
        self, shelf: Shelf, mode: Mode, now: float, *, forked: bool, rehearse: bool, leased: bool = True
    ) -> tuple[Child, Order]:
        self._last_child += 1
        child_id = ChildId(self._last_child)
        if leased:
            state = State.LEASED
        elif rehearse:
            state = State.STARTING
            shelf.starting.add(child_id)
        else:
            state = State.STANDBY
        child = Child(
            child_id, shelf.id, mode, shelf.generation, state, forked=forked, rehearsed=False, born=now
        )
        self.children[child_id] = child
        if mode is Mode.WORKER:
            shelf.workers.add(child_id)
        preload = () if forked or mode is Mode.ONESHOT else shelf.wanted_preload()
        return child, Order(child_id, shelf.id, shelf.generation, mode, forked, rehearse, preload)

    def _serve_queue(self, now: float) -> list[Action]:
        actions: list[Action] = []
        progress = bool(self._queue)
        while progress and self._running < self.pool.max_concurrency:
            progress = False
            for group, ticket_id in self._queue.heads():
                if self._running >= self.pool.max_concurrency:
                    break
                ticket = self._tickets[ticket_id]
                granted = self._grant(ticket, self.shelves[group[0]], now)
                actions += granted
                if granted and isinstance(granted[0], (Lease, Break)):
                    self._queue.remove(ticket_id)
                    if isinstance(granted[0], Break):
                        del self._tickets[ticket_id]
                    progress = True
        return actions

    def _refill(self, shelf: Shelf, now: float) -> list[Action]:
        """Order what should stand ready: standby children, and interpreters for those who wait."""
        if self._closing or shelf.template is TemplateState.BROKEN or now < shelf.refill_at:
            return []
        if shelf.forks:
            saturated = bool(self._queue) and self._running >= self.pool.max_concurrency
            if shelf.template is not TemplateState.READY or saturated:
                return []
            missing = self.pool.standby - len(shelf.standby) - len(shelf.starting)
            return [self._stock(shelf, Mode.FRESH, now, rehearse=not shelf.pressed) for _ in range(missing)]
        wanted = min(
            self.pool.standby + self._queue.waiting((shelf.id, Mode.FRESH)), self.pool.max_concurrency
        )
        modes = [self.children[child].mode for child in shelf.starting]
        fresh = wanted - len(shelf.standby) - modes.count(Mode.FRESH)
        waiting = self._queue.waiting((shelf.id, Mode.WORKER))
        workers = min(
            waiting - modes.count(Mode.WORKER) - len(shelf.idle_workers),
            self.pool.max_workers - len(shelf.workers),
        )
        missing_modes = [Mode.FRESH] * fresh + [Mode.WORKER] * workers
        return [self._stock(shelf, mode, now, rehearse=True) for mode in missing_modes]

    def _stock(self, shelf: Shelf, mode: Mode, now: float, *, rehearse: bool) -> Order:
        child, order = self._order(shelf, mode, now, forked=shelf.forks, rehearse=rehearse, leased=False)
        if not rehearse:
            shelf.standby.append(child.id)
        return order

    def _take_back(self, child: Child, shelf: Shelf, now: float, *, reusable: bool) -> list[Action]:
        self._running -= 1
        shelf.leased -= 1
        child.ticket = None
        child.served += 1
        shelf.used_at = max(shelf.used_at, now)
        keep = reusable and child.mode is Mode.WORKER and not self._closing
        if keep and not self._is_stale(child, shelf):
            child.on(Event.IDLE)
            child.idle_since = now
            shelf.idle_workers.append(child.id)
            return []
        return self._forget(child)

    def _forget(self, child: Child) -> list[Action]:
        shelf = self.shelves[child.environment]
        del self.children[child.id]
        shelf.starting.discard(child.id)
        shelf.workers.discard(child.id)
        if child.id in shelf.standby:
            shelf.standby.remove(child.id)
        if child.id in shelf.idle_workers:
            shelf.idle_workers.remove(child.id)
        return [End(child.id)]

    def _is_stale(self, child: Child, shelf: Shelf) -> bool:
        """Whether it holds packages that are not the environment's any more.

        A worker outlives an upgrade of its template, which adds modules and changes none; a
        changed installation ends every worker that it finds idle, and the others when they
        come back.
        """
        if child.mode is Mode.WORKER:
            return child.generation < shelf.valid_from
        return child.generation != shelf.generation

    def _end_waiting(self, shelf: Shelf, *, workers: bool, of: int | None = None) -> list[Action]:
        """End the children that nobody holds: idle workers too if so asked, of one generation or all."""
        names = [*shelf.standby, *shelf.starting, *(shelf.idle_workers if workers else ())]
        waiting = [self.children[name] for name in names]
        return [
            action for child in waiting if of in (None, child.generation) for action in self._forget(child)
        ]

    def _retire(self, shelf: Shelf) -> list[Action]:
        """Let every template of the shelf end that has not ended by itself."""
        generations = [shelf.generation] if shelf.template in ALIVE else []
        if shelf.upgrade is not None:
            generations.append(shelf.upgrade)
        shelf.template, shelf.upgrade = TemplateState.ABSENT, None
        return [RetireTemplate(shelf.id, generation) for generation in generations]

    def _forgive(self, shelf: Shelf, now: float) -> None:
        """Let a broken environment be tried again once its back-off is over."""
        if shelf.template is TemplateState.BROKEN and now >= shelf.retry_at:
            shelf.template = TemplateState.ABSENT

    def _start_template(self, shelf: Shelf, now: float) -> list[Action]:
        ready = not shelf.forks or shelf.template is not TemplateState.ABSENT
        if ready or now < shelf.retry_at or self._closing:
            return []
        shelf.template = TemplateState.STARTING
        shelf.retry_at = 0.0
        shelf.generation = shelf.next_generation
        shelf.next_generation += 1
        shelf.loaded = shelf.wanted_preload()
        return [StartTemplate(shelf.id, shelf.generation, shelf.loaded)]

    def _restarting(self, shelf: Shelf) -> bool:
        """Whether a template that died is to be started again once its back-off is over."""
        awaited = shelf.forks and shelf.template is TemplateState.ABSENT and shelf.retry_at > 0.0
        return awaited and not self._closing

    def _catches_up(self, shelf: Shelf) -> bool:
        """Whether children wait for the rehearsal that they were spared, and nothing else does."""
        return shelf.pressed and not self._queue

    def _spare_worker(self, shelf: Shelf) -> Child | None:
        """The worker above the minimum that has been idle longest; None while somebody waits for one."""
        if len(shelf.idle_workers) <= self.pool.min_workers or self._queue.waiting((shelf.id, Mode.WORKER)):
            return None
        return self.children[shelf.idle_workers[0]]

    def _idle_at(self, shelf: Shelf) -> float | None:
        """When template and standby children end for want of use; None while somebody needs them."""
        needed = shelf.leased or shelf.workers
        if needed or any(self._queue.waiting((shelf.id, mode)) for mode in (Mode.FRESH, Mode.WORKER)):
            return None
        if shelf.standby or shelf.template is TemplateState.READY:
            return shelf.used_at + self.pool.idle_timeout
        return None

    def _upgrade(self, shelf: Shelf) -> list[Action]:
        """Start a template with the learned modules beside the one that serves."""
        missing = set(shelf.learned) - set(shelf.loaded)
        if not missing or shelf.template is not TemplateState.READY or shelf.upgrade is not None:
            return []
        if self._closing:
            return []
        shelf.upgrade = shelf.next_generation
        shelf.next_generation += 1
        shelf.upgrade_loads = shelf.wanted_preload()
        return [StartTemplate(shelf.id, shelf.upgrade, shelf.upgrade_loads)]

    def _suspects(self, shelf: Shelf, generation: int) -> set[str]:
        """The learned modules that a template which failed was the first to hold.

        Where interpreters serve, those that all of them are given.
        """
        if not shelf.forks:
            return set(shelf.learned)
        if generation == shelf.upgrade:
            return set(shelf.upgrade_loads) - set(shelf.loaded)
        return set(shelf.loaded) - set(shelf.preload)

    def _without_threads(
        self, shelf: Shelf, generation: int, threaded: dict[str, list[str]], now: float
    ) -> list[Action]:
        """Do without the learned modules that start threads; where others do, without forks."""
        suspects = self._suspects(shelf, generation)
        learned = suspects.intersection(threaded)
        # What an upgrade adds is to blame for it: all else is in the template that serves.
        if generation == shelf.upgrade or learned.issuperset(threaded):
            retire = RetireTemplate(shelf.id, generation)
            return [retire, *self._drop_learned(shelf, generation, learned or suspects, now)]
        names = ", ".join(
            f"{name} ({', '.join(threads)})" for name, threads in threaded.items() if name not in learned
        )
        actions = self._retire(shelf)
        shelf.forks, shelf.threaded = False, True
        shelf.reason = f"importing it starts threads that do not survive a fork: {names}"
        return actions + self._serve_queue(now) + self._refill(shelf, now)

    def _blame(self, shelf: Shelf, reason: str, now: float, *, jitter: float, died: bool) -> list[Action]:
        """Children fail to become ready: do without what was learned, else the environment is broken."""
        suspects = self._suspects(shelf, shelf.generation)
        if not suspects:
            return self._break(shelf, reason, now, jitter=jitter, died=died)
        shelf.failures = 0
        actions: list[Action] = []
        if shelf.forks:
            actions += self._end_waiting(shelf, workers=False) + self._retire(shelf)
        return actions + self._drop_learned(shelf, shelf.generation, suspects, now)

    def _drop_learned(self, shelf: Shelf, generation: int, names: set[str], now: float) -> list[Action]:
        """Learned modules are a favour: one that a template cannot hold is left to executions."""
        shelf.unfit |= names
        shelf.learned = tuple(name for name in shelf.learned if name not in names)
        if generation == shelf.upgrade:
            shelf.upgrade = None
            return self._upgrade(shelf)
        shelf.template = TemplateState.ABSENT
        return self._start_template(shelf, now) + self._refill(shelf, now)

    def _break(self, shelf: Shelf, reason: str, now: float, *, jitter: float, died: bool) -> list[Action]:
        actions = self._end_waiting(shelf, workers=True) + self._retire(shelf)
        shelf.failures = max(1, shelf.failures + (not died))
        shelf.template = TemplateState.BROKEN
        shelf.reason, shelf.broke_by_death = reason, died
        shelf.retry_at = now + delay_s(shelf.failures, jitter)
        for mode in (Mode.FRESH, Mode.WORKER):
            for ticket_id in self._queue.of((shelf.id, mode)):
                self.withdraw(ticket_id)
                actions.append(Break(ticket_id, reason, died))
        return actions

    def _rehearse(self, shelf: Shelf) -> list[Action]:
        actions: list[Action] = []
        for child_id in list(shelf.standby):
            child = self.children[child_id]
            if not child.rehearsed:
                shelf.standby.remove(child_id)
                shelf.starting.add(child_id)
                child.on(Event.REHEARSING)
                actions.append(Rehearse(child_id))
        return actions

    def _end_idle(self, shelf: Shelf, now: float) -> list[Action]:
        limit_s = self.pool.idle_timeout
        actions: list[Action] = []
        while (spare := self._spare_worker(shelf)) is not None and now >= spare.idle_since + limit_s:
            actions += self._forget(spare)
        idle_at = self._idle_at(shelf)
        if idle_at is not None and now >= idle_at:
            actions += self._end_waiting(shelf, workers=True) + self._retire(shelf)
        return actions

    def _child_of(self, ticket: Ticket) -> ChildId:
        if ticket.child is None:
            raise ValueError(f"ticket {ticket.id} holds no child")
        return ticket.child

    def _full(self) -> str:
        return (
            f"the queue is full: {len(self._queue)} executions wait and pool.max_queue is "
            f"{self.pool.max_queue}; try again later, or raise pool.max_queue or pool.max_concurrency"
        )

    def _retry_after_s(self) -> float:
        """When the queue has moved by one: the mean service time over the places it is served at."""
        return max(0.01, self._service_s / self.pool.max_concurrency)


def _is_module(name: str) -> bool:
    """Whether a name that a child reported can be a module's; the child may be hostile."""
    return len(name) <= LONGEST_NAME and all(part.isidentifier() for part in name.split("."))
