"""The groups of processes (cgroups) of one engine: made when needed, used again, removed.

The engine makes a group of its own in each tree and below it one group for each slot. The
host's own processes are never moved. Whether the kernel lets us is found by doing it once.

Law: a slot is with one holder, or free, or condemned (something in it still has to die), or
gone. Only `close` and `remove` wait, and only for processes that were killed already.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hotbed.errors import EngineError
from hotbed.proc import hierarchy
from hotbed.proc.hierarchy import CONTROLLERS, Place, Site
from hotbed.proc.slot import Slot

LAST_DEATHS_S = 2.0  # a killed process that has not died by then sits in an uninterruptible call
PAUSE_S = 0.001  # the first between two tries to remove a group of version 1; doubled each time
PAUSE_MOST_S = 0.05

_CLOSED = "the engine's cgroups are closed; no execution can start"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """There are no groups to be had here."""

    reason: str  # in plain words, with the remedies


def find(name: str) -> Cgroups | Unavailable:
    """Find where groups can be made, by making some and setting limits on them.

    `name` becomes the name of the engine's own group; it must be another for each engine of the
    machine, so a pid does not do: other pid namespaces have the same ones. Takes about a
    millisecond. Considered are $HOTBED_CGROUP and nothing else if it is set; the surroundings
    of this process's own group in version 2; its own groups in version 1. In version 2 a group
    that was handed to us may have to pass controllers on first; it then goes on doing so.
    """
    try:
        own = hierarchy.memberships(_text("/proc/self/cgroup"))
        seen = hierarchy.mounts(_text("/proc/self/mountinfo"))
    except OSError as error:
        return Unavailable(f"this system has no cgroups ({error})")
    setting = os.environ.get(hierarchy.SETTING, "")
    survey = hierarchy.survey(own, seen, setting=setting, user=os.geteuid())
    return _best(survey.places, name, list(survey.problems))


def _best(places: Sequence[Place], name: str, problems: list[str]) -> Cgroups | Unavailable:
    """Try places in turn until one has every controller; else the one with most, memory first."""
    kept: Cgroups | None = None
    for place in places:
        found = _tried(place, name, problems)
        if found is not None and (kept is None or _worth(found) > _worth(kept)):
            if kept is not None:
                kept.close()
            kept = found
        elif found is not None:
            found.close()
        if kept is not None and kept.controllers == frozenset(CONTROLLERS):
            break
    if kept is None:
        return Unavailable("; ".join(problems) or f"no tree here has any of {', '.join(CONTROLLERS)}")
    if kept.controllers != frozenset(CONTROLLERS):
        kept.problems = tuple(dict.fromkeys(problems))
    return kept


def _worth(found: Cgroups) -> tuple[bool, int]:
    return "memory" in found.controllers, len(found.controllers)


def _tried(place: Place, name: str, problems: list[str]) -> Cgroups | None:
    """The engine's groups in a place, with those controllers that were seen to work."""
    sites = []
    for site in place.sites:
        directory = os.path.join(site.directory, name)
        try:
            os.mkdir(directory, 0o755)
        except OSError as error:
            problems.append(f"cannot make the group {directory}: {error.strerror}")
            continue
        offered = site.controllers | {
            controller for controller in site.to_pass_on if _passed_on(site.directory, controller, problems)
        }
        if place.version == 2:
            offered = frozenset(
                controller for controller in offered if _passed_on(directory, controller, problems)
            )
        working = frozenset(
            controller for controller in offered if _limits(place.version, directory, controller, problems)
        )
        if working:
            sites.append(Site(directory, working))
        else:
            remove(directory, 0.0)
    return Cgroups(place.version, sites) if sites else None


def _limits(version: int, directory: str, controller: str, problems: list[str]) -> bool:
    """Whether a slot below a group can be limited by a controller: one is, and is removed."""
    try:
        trial = Slot(version, [Site(directory, frozenset({controller}))], "trial")
    except OSError as error:
        problems.append(f"cannot make a group below {directory}: {error.strerror}")
        return False
    try:
        trial.limit(memory_bytes=1024**2, processes=1, cpu_cores=0.5)
    except EngineError as error:
        problems.append(str(error))
        return False
    finally:
        trial.close()
        trial.remove()
    return True


def _passed_on(directory: str, controller: str, problems: list[str]) -> bool:
    path = f"{directory}/cgroup.subtree_control"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"+{controller}")
    except OSError as error:
        problems.append(f"cannot write +{controller} to {path}: {error.strerror}")
        return False
    return True


class Fate(Enum):
    """What becomes of a slot that was given back."""

    FREE = "free"
    CONDEMNED = "condemned"
    GONE = "gone"


class Cgroups:
    """An engine's slots. Any thread may take one and give it back."""

    def __init__(self, version: int, sites: Sequence[Site]) -> None:
        """`sites` are the engine's own groups; they are removed in the end."""
        self.version = version
        self.controllers = frozenset[str]().union(*(site.controllers for site in sites))
        self.problems: tuple[str, ...] = ()  # why controllers are missing, in plain words
        # Memory first: a child that is stopped half-way in is held in by what matters most.
        self._sites = sorted(sites, key=lambda site: min(map(_rank, site.controllers), default=0))
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._free: list[Slot] = []
        self._held: set[Slot] = set()
        self._condemned: list[Slot] = []
        self._closed = False

    def __repr__(self) -> str:
        counts = f"{len(self._held)} held, {len(self._free)} free, {len(self._condemned)} condemned"
        controllers = ", ".join(name for name in CONTROLLERS if name in self.controllers)
        return f"<Cgroups version {self.version} with {controllers or 'no controller'} | {counts}>"

    @property
    def paths(self) -> list[str]:
        """The directories that `remove` takes away, should this process be killed."""
        return [site.directory for site in self._sites]

    def take(self) -> Slot:
        """A slot with nothing in it: a used one, or else a new one. Its limits are the last holder's.

        Raises:
            EngineError: If the kernel refuses another group, or this is closed.
        """
        with self._lock:
            if self._closed:
                raise EngineError(_CLOSED)
            if self._free:
                slot = self._free.pop()
                self._held.add(slot)
                return slot
            name = f"slot-{next(self._numbers)}"
        try:
            slot = Slot(self.version, self._sites, name)
        except OSError as error:
            raise EngineError(f"cannot make the group {self.paths[0]}/{name}: {error.strerror}") from error
        with self._lock:
            if not self._closed:
                self._held.add(slot)
                return slot
        slot.close()
        slot.remove()
        raise EngineError(_CLOSED)

    def give_back(self, slot: Slot) -> None:
        """Take a slot back once its processes are gone and reaped; what is still there is killed.

        Such a slot is condemned; a later call looks after it. Never waits.
        """
        with self._lock:
            if slot not in self._held:
                return  # closed meanwhile
            self._held.discard(slot)
            returned = [*self._condemned, slot]
            self._condemned = []
        free: list[Slot] = []
        condemned: list[Slot] = []
        for each in returned:
            fate = _fate(each)
            if fate is not Fate.GONE:
                (free if fate is Fate.FREE else condemned).append(each)
        with self._lock:
            if not self._closed:
                self._free += free
                self._condemned += condemned
                return
        _end([*free, *condemned])

    def close(self) -> None:
        """Kill what is in any slot and remove every group; waits LAST_DEATHS_S at most.

        What the kernel has not let go by then stays for whoever was given `paths`.
        """
        with self._lock:
            self._closed = True
            slots = [*self._free, *self._held, *self._condemned]
            self._free, self._held, self._condemned = [], set(), []
        _end(slots)
        deadline = time.monotonic() + LAST_DEATHS_S
        for path in self.paths:
            remove(path, deadline - time.monotonic())

    def disown(self) -> None:
        """Let go of every descriptor and remove nothing: this process is a fork of the engine's host."""
        self._closed = True  # without the lock: a thread that the fork left behind may have it
        for slot in [*self._free, *self._held, *self._condemned]:
            slot.close()


def _rank(controller: str) -> int:
    return CONTROLLERS.index(controller)


def _fate(slot: Slot) -> Fate:
    """Look after a slot that has come back, and say what has become of it."""
    try:
        empty = slot.is_empty()
    except FileNotFoundError:
        slot.close()
        slot.remove()
        return Fate.GONE
    except OSError:
        empty = False
    if not empty:
        slot.kill()
        return Fate.CONDEMNED
    if slot.renew():
        return Fate.FREE
    slot.close()
    return Fate.GONE if slot.remove() else Fate.CONDEMNED


def _end(slots: list[Slot]) -> None:
    for slot in slots:
        slot.kill()
        slot.close()


def remove(path: str, wait_s: float) -> None:
    """Remove a group and those directly below it, waiting for processes in them to die.

    They must have been killed. What is still there after `wait_s` seconds stays.
    """
    deadline = time.monotonic() + wait_s
    with contextlib.suppress(OSError), os.scandir(path) as entries:
        for entry in list(entries):
            if entry.is_dir(follow_symlinks=False):
                _remove_one(entry.path, deadline)
    _remove_one(path, deadline)


def _remove_one(directory: str, deadline: float) -> None:
    pause = PAUSE_S
    while True:
        try:
            os.rmdir(directory)
            return
        except OSError:  # ENOENT too: then the next look at the clock costs little
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not os.path.isdir(directory):
                return
        if not _await_empty(directory, left_s):
            # Version 1 tells nobody of a death, and rmdir may say EBUSY a moment longer.
            time.sleep(min(pause, left_s))
            pause = min(pause * 2, PAUSE_MOST_S)


def _await_empty(directory: str, wait_s: float) -> bool:
    """Wait until the last process of a group has died; False if there was nothing to wait for."""
    try:
        fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if b"populated 1" not in os.pread(fd, 4096, 0):
            return False
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        poll.poll(wait_s * 1000.0)
        return True
    finally:
        os.close(fd)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
