"""One environment as this engine runs it: its template processes and what to watch."""

from __future__ import annotations

import contextlib
import os
import site
from dataclasses import dataclass, field
from typing import Any

from hotbed.core.ids import ChildId, EnvironmentId
from hotbed.engine import confinement
from hotbed.engine.confinement import Confinement
from hotbed.isolation import Mechanism, Tier
from hotbed.model import Environment
from hotbed.proc import view
from hotbed.proc.control import Control
from hotbed.proc.launch import Launcher

MOST_DIRECTORIES = 64  # of packages; each costs a look before executions
RECHECK_S = 0.002  # no installation begins and ends within it; a look costs 5 us on every call
LOG_TAIL = 8192  # bytes of a template's own output that its failure report may quote


@dataclass(slots=True)
class Template:
    """A template process; `id` is its number with the launcher."""

    id: int
    generation: int
    control: Control
    log: int  # what it printed itself: the read end of a pipe
    deadline: float  # by when it must be ready
    preload: tuple[str, ...]
    tail: bytearray = field(default_factory=bytearray)
    pid: int | None = None
    ready: bool = False
    retired: bool = False
    failure: str = ""  # its own words, if it could not become ready

    def read_log(self) -> bool:
        """Keep the newest output; False when there will be no more."""
        try:
            data = os.read(self.log, 65536)
        except BlockingIOError:
            return True
        self.tail += data
        del self.tail[:-LOG_TAIL]
        return bool(data)

    def last_words(self) -> str:
        """The end of its output as text."""
        with contextlib.suppress(OSError):
            self.read_log()
        return self.tail.decode("utf-8", "replace").strip()

    def close(self) -> None:
        """Hang up; the process ends with its children."""
        self.control.close()
        os.close(self.log)


@dataclass(slots=True)
class Place:
    """An environment, and how code is confined in it: not at all if it is the caller's own."""

    id: EnvironmentId
    environment: Environment
    confinement: Confinement | None
    tier: Tier | None = None
    isolation: tuple[str, ...] = ()  # the tier and the mechanisms, as results tell them
    templates: dict[int, Template] = field(default_factory=dict)
    directories: dict[str, int] = field(default_factory=dict)
    checked_at: float = 0.0
    result_bytes: int = 0  # that the last shared result took: what to lend an arena for

    @property
    def own(self) -> bool:
        """Whether it runs the caller's own code."""
        return self.confinement is None

    @property
    def enclosed(self) -> bool:
        """Whether its templates stand in a pid namespace of their own."""
        return self.tier in (Tier.FULL, Tier.SHARED)

    @property
    def trusted(self) -> bool:
        """Whether values travel by pickle: never with code that is not the caller's own."""
        return self.environment.trusted and self.own

    def note_directories(self, found: dict[str, int]) -> None:
        """Remember what the first of this generation imported from, as it says.

        A confined one is believed about what it can see, and no more is looked at than it may need.
        """
        if self.directories:
            return
        paths = list(found)[:MOST_DIRECTORIES]
        if self.confinement is not None:
            seen = confinement.readable(self.environment, self.confinement)
            paths = [path for path in paths if view.is_below(path, seen)]
        self.directories = {path: found[path] for path in paths if "\0" not in path}

    def has_changed(self, now: float) -> bool:
        """Whether an installer has touched the directories since they were imported from.

        Asked again within RECHECK_S it says no without looking.
        """
        if now < self.checked_at + RECHECK_S:
            return False
        self.checked_at = now
        for path, mtime_ns in self.directories.items():
            try:
                if os.stat(path).st_mtime_ns != mtime_ns:
                    return True
            except (OSError, UnicodeEncodeError):
                return True
        return False

    def work_directory(self, child: ChildId, engine_directory: str) -> str:
        """The directory on the host that a child makes and that is to be removed; "" if none."""
        if self.tier not in (Tier.LANDLOCK, Tier.LIMITS):
            return ""
        return os.path.join(confinement.work_root(self.environment, self.tier, engine_directory), str(child))

    def setup(self, preload: tuple[str, ...], engine_directory: str) -> dict[str, Any]:
        """The message that makes a bare interpreter into this environment's; see bootstrap.Setup."""
        here = self.environment.python is None
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep) if self.own else []
        place: dict[str, Any] = {"work_root": "", "cwd": os.getcwd() if self.own else "/", "sandbox": None}
        if self.confinement is not None and self.tier is not None:
            place = confinement.setup_fields(
                self.environment,
                self.confinement,
                self.tier,
                engine_directory,
                memory_counted=Mechanism.MEMORY_CGROUP in self.isolation,
            )
        return {
            "preload": list(preload),
            "paths": [os.path.abspath(path) for path in paths if path],
            "user_site": here and bool(site.ENABLE_USER_SITE),
            "warmup": self.environment.warmup,
            "trusted": self.trusted,
            **place,
        }

    def start(self, launcher: Launcher, process_id: int, role: str, fds: list[int], cwd: str) -> None:
        """Have the launcher start one of this place's interpreters.

        Raises:
            OSError: If the launcher is gone.
        """
        env, sandbox, user = dict(os.environ), None, None
        if self.confinement is not None and self.tier is not None:
            env = confinement.variables(self.environment, self.confinement, self.tier)
            sandbox = confinement.enclosure(self.environment, self.confinement, self.tier)
            user = confinement.user_outside(self.environment, self.tier)
        launcher.start(
            process_id,
            role,
            self.environment.executable,
            fds,
            env=env,
            cwd=cwd,
            sandbox=sandbox,
            user=user,
        )
