"""Carries out what the plan decides, for callers and keeper alike.

Law: the plan is asked under one short lock, and nothing slow happens under it. What a caller
waits for (its lease, the fork it needs) is done in its own thread; everything else is left to
the keeper, which one eventfd write wakes.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from hotbed import errors
from hotbed.config import Pool, fork_enabled
from hotbed.core.actions import Action, Break, Lease, Order, Refuse
from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.core.plan import Plan
from hotbed.core.shelf import TemplateState
from hotbed.engine.confinement import (
    Confinement,
    Trials,
    enclosure,
    require_mounts,
    require_network,
    setup_fields,
)
from hotbed.engine.job import Job, Waiter
from hotbed.engine.place import Place
from hotbed.isolation import IsolationWarning, Mechanism, Tier
from hotbed.model import OWN_CODE, Environment, EnvironmentKey, Limits, Mode
from hotbed.proc.arena import ArenaPool
from hotbed.proc.cgroup import Cgroups, Unavailable
from hotbed.proc.control import Control
from hotbed.proc.launch import Launcher, Trial
from hotbed.proc.link import Link
from hotbed.proc.slot import Slot
from hotbed.seed import wire

CONTROLLERS = {
    "memory": Mechanism.MEMORY_CGROUP,
    "pids": Mechanism.PIDS_CGROUP,
    "cpu": Mechanism.CPU_CGROUP,
}
NO_BOUNDARY = (
    "this host allows no sandbox: code runs with limits only, which are no security boundary "
    "({}); `hotbed doctor` says what is missing"
)
NPROC_SHARE = 4  # processes that each sibling of an execution may have for the limit to be kept exactly
_REMEMBERED = 1024  # different limits whose fields are kept
_NO_LIMITS: Mapping[str, Any] = {}
TRIALS_FROM = 1 << 40  # negative numbers from here on are trials: news of them concern nobody
HAND_OVER_S = 5.0  # a link is made in microseconds; this long means that the keeper is gone


class Dispatcher:
    """The plan, the processes' links, and the lock between threads."""

    def __init__(
        self, pool: Pool, launcher: Launcher, directory: str, groups: Cgroups | Unavailable, limits: Limits
    ) -> None:
        """`limits` are those that a child has while it gets ready, and until a request brings others."""
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)  # a link, a death or a readiness is news
        self.plan = Plan(pool)
        self.launcher = launcher
        self.directory = directory
        self.jobs: dict[TicketId, Job] = {}
        self.links: dict[ChildId, Link] = {}
        self.nurseries: dict[ChildId, Control] = {}  # who makes a child, and alone may tell its end
        self.groups = groups
        self._counts_memory = isinstance(groups, Cgroups) and "memory" in groups.controllers
        self.slots: dict[ChildId, Slot] = {}  # the cgroups of children
        self._limits = limits
        self.watched: dict[TicketId, tuple[Link, int]] = {}  # whose memory no cgroup bounds, and the bytes
        self.looking = False  # the keeper looks at memory from time to time
        self.working: dict[ChildId, str] = {}  # work directories on the host, to be removed
        self.places: dict[EnvironmentId, Place] = {}
        self.unmade: set[ChildId] = set()  # leased meanwhile, but there was no descriptor for them
        self.orders: dict[ChildId, Order] = {}  # decided, not yet carried out
        self.deferred: deque[Action] = deque()
        self.arenas = ArenaPool()
        self.failure: BaseException | None = None  # of the keeper: nothing is served any more
        self._place_ids: dict[tuple[EnvironmentKey, Confinement | None], EnvironmentId] = {}
        self._trials: dict[str, Trials] = {}  # by the kind of network
        self._trying = threading.Lock()
        self._trial_ids = itertools.count(TRIALS_FROM)
        self._child_limits: dict[tuple[EnvironmentId, Limits], dict[str, Any]] = {}
        self._tickets = itertools.count(1)
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.closed = False
        self.unattended = False  # the keeper has ended: callers close the links they hold

    # For callers.

    @property
    def wake_fd(self) -> int:
        """What the keeper waits on."""
        return self._wake_fd

    def place(self, environment: Environment, confinement: Confinement | None) -> Place:
        """The place of an environment, made known to the plan at its first use.

        A confined one begins with the best tier that this host allows; the first of a kind waits
        for trials of some milliseconds.

        Raises:
            EngineError: If the launcher is gone.
        """
        key = (environment.key, confinement)
        place_id = self._place_ids.get(key)
        if place_id is not None:
            return self.places[place_id]
        trials = None if confinement is None else self.trials(environment, confinement)
        if trials is not None and confinement is not None:
            require_network(trials, confinement)
            require_mounts(trials, environment)
        with self.lock:
            place_id = self._place_ids.get(key)
            if place_id is None:
                place_id = EnvironmentId(len(self.places) + 1)
                place = Place(place_id, environment, confinement)
                if trials is not None:
                    place.tier = trials.tier
                    mechanisms = [*trials.mechanisms, *self.group_mechanisms()]
                    if confinement is not None and confinement.network_kind == "proxy":
                        mechanisms.append(Mechanism.PROXY)
                    place.isolation = (str(trials.tier), *map(str, mechanisms))
                learns = environment.preload == "auto"
                self.plan.add_environment(
                    place_id,
                    forks=fork_enabled(),
                    reason="" if fork_enabled() else "forking is switched off by HOTBED_FORK=0",
                    learns=learns,
                    preload=() if learns else tuple(environment.preload),
                )
                self.places[place_id] = place
                self._place_ids[key] = place_id
        return self.places[place_id]

    def limits_in_child(self, place: Place, limits: Limits) -> Mapping[str, Any]:
        """The fields of a request by which a child limits itself: what no cgroup does for it."""
        if limits is OWN_CODE:
            return _NO_LIMITS
        key = (place.id, limits)
        fields = self._child_limits.get(key)
        if fields is None:
            held = set(place.isolation)
            processes = None
            if not place.own and limits.processes is not None and Mechanism.PIDS_CGROUP not in held:
                # The kernel counts all processes of one user in one user namespace: siblings too.
                processes = limits.processes + NPROC_SHARE * self.plan.pool.max_concurrency
            fields = {
                "rlimits": {
                    "cpu_s": limits.cpu_time,
                    "processes": processes,
                    "open_files": _fewer(limits.open_files),
                    "file_size": limits.file_size_bytes,
                    "data": None if Mechanism.MEMORY_CGROUP in held else limits.memory_bytes,
                }
            }
            if not place.own:
                fields["artifacts"] = limits.artifacts_bytes
            if len(self._child_limits) >= _REMEMBERED:
                self._child_limits.clear()
            self._child_limits[key] = fields
        return fields

    def group_mechanisms(self) -> list[str]:
        """What cgroups do for isolated code."""
        if isinstance(self.groups, Unavailable):
            return []
        return [str(one) for name, one in CONTROLLERS.items() if name in self.groups.controllers]

    def trials(self, environment: Environment, confinement: Confinement) -> Trials:
        """Which tier this host allows for a kind of network; tried once, then remembered."""
        kind = confinement.network_kind
        with self._trying:
            trials = self._trials.get(kind)
            if trials is None:
                # What one environment has installed must not decide for the others.
                plain = Confinement(network=confinement.network)
                trials = self._trials[kind] = self._try_tiers(Environment(), plain)
        return trials

    def _try_tiers(self, environment: Environment, confinement: Confinement) -> Trials:
        failures: dict[Tier, str] = {}
        for tier in Tier:
            trial = self.try_tier(environment, confinement, tier)
            if not trial.error:
                if tier is Tier.LIMITS and not self._trials:
                    warnings.warn(NO_BOUNDARY.format(failures[Tier.LANDLOCK]), IsolationWarning, stacklevel=6)
                return Trials(tier, trial.isolation, failures)
            failures[tier] = trial.error
        raise errors.EngineError(f"not even limits can be set on this host: {failures[Tier.LIMITS]}")

    def try_tier(self, environment: Environment, confinement: Confinement, tier: Tier) -> Trial:
        """Try one tier, in processes that are thrown away."""
        fields = setup_fields(
            environment, confinement, tier, self.directory, memory_counted=self._counts_memory
        )
        spec = enclosure(environment, confinement, tier)
        return self.launcher.try_tier(-next(self._trial_ids), spec, fields["sandbox"])

    def next_ticket(self) -> TicketId:
        """A ticket nobody has."""
        return TicketId(next(self._tickets))

    def submit(self, job: Job, place: Place, now: float, new_waiter: Callable[[], Waiter]) -> None:
        """Ask the plan; afterwards the job has a lease, a refusal, or a waiter that will be woken."""
        if place.directories and place.has_changed(now):
            self.renew(place, now)
        request = job.request
        with self.lock:
            if self.failure is not None or self.closed:
                raise self._out_of_service()
            self.jobs[job.ticket] = job
            actions = self.plan.submit(job.ticket, place.id, request.mode, request.affinity, now)
            wakes = self._settle(actions, now)
            if job.lease is None and job.refusal is None:
                job.waiter = new_waiter()
        if wakes or self.deferred:
            self._after(wakes)

    def renew(self, place: Place, now: float) -> None:
        """The environment's packages have changed: begin with new processes."""
        with self.lock:
            if not place.directories:
                return  # another caller saw it first
            place.directories = {}
            wakes = self._settle(self.plan.environment_changed(place.id, now), now)
        self._after(wakes)

    def link_of(self, job: Job) -> Link:
        """The link of a leased child, made here and now if it is still to be made."""
        lease = job.lease
        assert lease is not None
        link = self.links.get(lease.child)
        if link is not None:
            return link
        if lease.order is not None:
            return self.make(lease.order)
        with self.lock:
            order = self.orders.pop(lease.child, None)
            if order is None:  # the keeper is at it
                made = lambda: lease.child in self.links or lease.child in self.unmade  # noqa: E731
                self.changed.wait_for(made, HAND_OVER_S)
                self.unmade.discard(lease.child)
                if lease.child not in self.links:
                    raise errors.EngineError("the process of this execution could not be made; try again")
                return self.links[lease.child]
        return self.make(order)

    def finished(self, job: Job, *, reusable: bool) -> None:
        """Give the child back."""
        now = time.monotonic()
        self.watched.pop(job.ticket, None)
        with self.lock:
            self.jobs.pop(job.ticket, None)
            if self.closed:
                self.changed.notify_all()  # `close` waits for the last job
            if self.unattended and job.link is not None:
                self.links.pop(job.link.child, None)
                job.link.close()  # no keeper is left to do it
            actions = self.plan.finished(job.ticket, now, reusable=reusable)
            wakes = self._settle(actions, now) if actions else []
        if wakes or self.deferred:
            self._after(wakes)

    def watch_memory(self, job: Job, link: Link, limits: Limits) -> bool:
        """Have the keeper look at a job's memory, where no cgroup counts it; whether it has to."""
        if limits.memory_bytes is None or (link.slot is not None and self._counts_memory):
            return False
        self.watched[job.ticket] = (link, limits.memory_bytes)
        if not self.looking:  # else the keeper looks again by itself
            self.looking = True
            self.wake_keeper()
        return True

    def lost(self, job: Job, new_waiter: Callable[[], Waiter]) -> None:
        """Give back a child that was lost before it began; the job is leased anew, or waits."""
        now = time.monotonic()
        with self.lock:
            job.lease, job.link = None, None
            job.execution.on("returned")
            # What killed this child may have killed those that stand by too, and the news of it is
            # still on its way: there is one retry, and it must not go to another dead one.
            dead = [child for child, link in self.links.items() if link.is_dead(0.0)]
            actions = [action for child in dead for action in self.plan.child_gone(child, now)]
            job.waiter = None
            if self.closed:
                self.changed.notify_all()
            wakes = self._settle([*actions, *self.plan.lost(job.ticket, now)], now)
            if job.lease is None and job.refusal is None:
                job.waiter = new_waiter()
        self._after(wakes)

    def withdraw(self, job: Job) -> bool:
        """Take a waiting job back; False if it has been decided meanwhile."""
        with self.lock:
            gone = self.plan.withdraw(job.ticket)
            if gone:
                self.jobs.pop(job.ticket, None)
                if self.closed:
                    self.changed.notify_all()
            return gone

    def cancel(self, job_id: str, why: str) -> bool:
        """End an execution in whatever state it is; False if there is none of that id."""
        with self.lock:
            job = next((job for job in self.jobs.values() if job.id == job_id), None)
            if job is None:
                return False
            job.cancelled = why
            if self.plan.withdraw(job.ticket):
                self.jobs.pop(job.ticket, None)
                if job.waiter is not None:
                    job.waiter.wake()
            elif job.link is not None:
                job.link.kill()
        return True

    def learned(self, place: Place, names: list[str]) -> None:
        """Executions imported these installed modules after the fork."""
        with self.lock:
            wakes = self._settle(self.plan.learned(place.id, names), time.monotonic())
        self._after(wakes)

    def wait_for_death(self, link: Link, timeout_s: float) -> None:
        """Wait until the kernel's word on a child's end has arrived."""
        with self.lock:
            self.changed.wait_for(lambda: link.ended, timeout_s)

    def warm(self, place: Place, timeout_s: float) -> None:
        """Wait until the standby children of an environment are ready.

        Raises:
            EnvironmentBrokenError, TemplateDiedError: If they cannot be.
            EngineError: If they are not in time.
        """
        now = time.monotonic()
        if place.directories and place.has_changed(now):
            self.renew(place, now)
        with self.lock:
            if self.failure is not None or self.closed:
                raise self._out_of_service()
            wakes = self._settle(self.plan.warm(place.id, now), now)
        self._after(wakes)
        shelf = self.plan.shelves[place.id]
        settled = lambda: (  # noqa: E731
            shelf.template is TemplateState.BROKEN
            or (
                (shelf.template is TemplateState.READY or not shelf.forks)
                and len(shelf.standby) >= self.plan.pool.standby
            )
            or self.closed
            or self.failure is not None
        )
        with self.lock:
            done = self.changed.wait_for(settled, timeout_s)
            if shelf.template is TemplateState.BROKEN:
                raise self._broken(place, shelf.reason, died=shelf.broke_by_death)
            if self.failure is not None or self.closed:
                raise self._out_of_service()
        if not done:
            raise errors.EngineError(
                f"environment {place.environment.name!r} was not ready within {timeout_s:g} s"
            )

    # For the keeper and for both.

    def tell(self, decide: Callable[[Plan, float], list[Action]]) -> None:
        """Report a fact to the plan and carry on with what it decides."""
        now = time.monotonic()
        with self.lock:
            wakes = self._settle(decide(self.plan, now), now)
            self.changed.notify_all()
        self._after(wakes)

    def make(self, order: Order) -> Link:
        """Carry out an order: the child's link, usable at once.

        Raises:
            EngineError: If this process has no descriptors left for it.
        """
        place = self.places[order.environment]
        template = place.templates.get(order.generation) if order.forked else None
        control = template.control if template is not None else self.launcher.control
        try:
            link = Link(order.child, control)
        except OSError as error:
            raise errors.EngineError(
                f"no process can be made: {error}; close descriptors, or allow more (ulimit -n)"
            ) from error
        try:
            entrances = self._enter_group(order.child, link, place)
        except errors.EngineError:
            link.close()
            raise
        directory = place.work_directory(order.child, self.directory)
        if directory:
            self.working[order.child] = directory
        message = {
            "id": order.child,
            "rehearse": order.rehearse,
            "persistent": order.mode is Mode.WORKER,
        }
        with self.lock:
            # Before the order is out: should the nursery be gone, the keeper must find this link
            # among those that went with it.
            self.links[order.child] = link
            self.nurseries[order.child] = control
            if order.forked and template is None:
                link.ended = link.orphaned = True
            self.changed.notify_all()
        try:
            if template is not None:
                control.make(message, [*link.far_ends, *entrances])
            elif not order.forked:
                self._start_interpreter(link, order, place, message, entrances)
        except OSError:
            pass  # the nursery is gone: with its far ends closed the link says so to its reader
        finally:
            link.close_far_ends()
        return link

    def _enter_group(self, child: ChildId, link: Link, place: Place) -> list[int]:
        """Give a child a cgroup: what it enters by, which stays the slot's to close."""
        if place.own or isinstance(self.groups, Unavailable):
            return []
        slot = self.groups.take()
        self.slots[child] = link.slot = slot
        limits = self._limits
        slot.limit(limits.memory_bytes, limits.processes, limits.cpu)
        return slot.entrances

    def leave_group(self, child: ChildId) -> None:
        """A child is gone: its cgroup is free again."""
        slot = self.slots.pop(child, None)
        if slot is not None and not isinstance(self.groups, Unavailable):
            self.groups.give_back(slot)

    def _start_interpreter(
        self, link: Link, order: Order, place: Place, message: dict[str, Any], entrances: list[int]
    ) -> None:
        setup = place.setup(order.preload, self.directory)
        if order.mode is Mode.ONESHOT:
            setup["warmup"] = ""
        ends = [*link.far_ends, *entrances]
        place.start(self.launcher, order.child, "interpreter", ends, setup["cwd"])
        link.socket.send(wire.pack(wire.SETUP, wire.encode({"setup": setup, "order": message})))

    def wake_keeper(self) -> None:
        """Have the keeper look at what was left to it."""
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    def close_wake_fd(self) -> None:
        """After the keeper's end."""
        fd, self._wake_fd = self._wake_fd, -1
        os.close(fd)

    def _settle(self, actions: list[Action], now: float) -> list[Job]:
        """Under the lock: give leases and refusals to their jobs, leave the rest to the keeper."""
        wakes = []
        for action in actions:
            if isinstance(action, Lease):
                job = self.jobs[action.ticket]
                job.lease, job.leased_at = action, now
                job.execution.on("leased")
                if job.waiter is not None:
                    wakes.append(job)
            elif isinstance(action, (Refuse, Break)):
                job = self.jobs.pop(action.ticket)
                job.refusal = self._refusal(job, action)
                if job.waiter is not None:
                    wakes.append(job)
            else:
                if isinstance(action, Order):
                    self.orders[action.child] = action
                self.deferred.append(action)
        return wakes

    def _after(self, wakes: list[Job]) -> None:
        for job in wakes:
            if job.waiter is not None:
                job.waiter.wake()
        if self.deferred:
            self.wake_keeper()

    def _refusal(self, job: Job, action: Refuse | Break) -> errors.HotbedError:
        if isinstance(action, Refuse):
            return errors.RefusedError(action.reason, retry_after_s=action.retry_after_s)
        return self._broken(self.places[job.environment], action.reason, died=action.died)

    def _broken(self, place: Place, reason: str, *, died: bool) -> errors.EngineError:
        name = place.environment.name
        if place.environment.mounts:
            targets = ", ".join(mount.target for mount in place.environment.mounts)
            reason = f"{reason.rstrip()}\n(mounts are made at {targets})"
        if died:
            return errors.TemplateDiedError(
                f"environment {name!r} does not stay up: {reason}; it is tried again in a moment"
            )
        return errors.EnvironmentBrokenError(
            f"environment {name!r} ({place.environment.executable}) cannot be made ready: {reason.rstrip()}\n"
            "correct its preload list, warm-up snippet, packages or mounts; it is tried again in a moment"
        )

    def _out_of_service(self) -> errors.HotbedError:
        if self.failure is not None:
            return errors.EngineError(f"the engine has failed and serves no more: {self.failure!r}")
        return errors.RefusedError("the engine is closed; make a new one")


def _fewer(open_files: int | None) -> int | None:
    """No more than half of what this process may have.

    Descriptors on their way through a socket are counted by user: code may not take so many that
    the engine cannot send its own.
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files is None or soft == resource.RLIM_INFINITY:
        return open_files
    return min(open_files, soft // 2)


def jitter() -> float:
    """A random number in [0, 1) for back-offs."""
    return random.random()
