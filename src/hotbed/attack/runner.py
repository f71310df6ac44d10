"""Runs cases against one engine, and says of each whether it was held.

A case is held if its program says so, or ends as it must, and if nothing else shows that it was not:
afterwards the canaries stand, no secret came back, the result was there in time, the engine has no
more descriptors and no more memory, no process is left, the neighbour runs on, and the next
execution finds everything as the first one did.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec

from hotbed.attack import neighbour
from hotbed.attack.canaries import Canaries
from hotbed.attack.case import BASE, HELD, Case, describe
from hotbed.attack.catalogue import CATALOGUE
from hotbed.attack.guards import NOT_ROOT, lacking
from hotbed.config import Pool
from hotbed.engine.engine import Engine
from hotbed.engine.options import Isolation
from hotbed.errors import HotbedError, RefusedError
from hotbed.isolation import Mechanism
from hotbed.model import Environment, Limits, Result, Status
from hotbed.proc.places import PREFIX, runtime_directory

STANDBY = 2
SETTLE_S = 5.0  # for processes of an execution that is over to be gone
STEP_S = 0.005
GROWTH_BYTES = 64 * 1024**2  # of the engine over all cases: values of 1 MiB and caches, no leak
_PAGE = os.sysconf("SC_PAGE_SIZE")
_FACTS = frozenset({NOT_ROOT} if os.geteuid() else ())

# Run after each case: what a program finds at its start. It must be the same each time.
STATE = """
import os, resource, signal, stat, sys, threading
work = os.getcwd()
def names(place):
    try:
        return sorted(os.listdir(place))
    except OSError as error:
        return type(error).__name__
private = ["/tmp", "/dev/shm", os.path.expanduser("~")] if whole else []
fds = []
for fd in range(256):
    try:
        fds.append(stat.S_IFMT(os.fstat(fd).st_mode))
    except OSError:
        pass
result = {
    "answer": 6 * 7,
    "files": {place: names(place) for place in [".", *private]},
    "environ": sorted((name, value.replace(work, "WORK")) for name, value in os.environ.items()),
    "descriptors": fds,
    "threads": threading.active_count(),
    "umask": os.umask(0o077),
    "nice": os.nice(0),
    "limits": {name: resource.getrlimit(getattr(resource, name))[0] for name in dir(resource)
               if name.startswith("RLIMIT_") and name not in ("RLIMIT_DATA", "RLIMIT_AS")},
    "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
    "modules": "left" in sys.modules,
}
"""


class Verdict(StrEnum):
    """What a case came to."""

    HELD = "held"
    NOT_ENFORCEABLE = "not enforceable here"
    FAILED = "failed"


class Outcome(msgspec.Struct, frozen=True):
    """One case and what it came to; `detail` says why, if it was not held."""

    case: Case
    verdict: Verdict
    detail: str = ""
    wall_s: float = 0.0


class Ground:
    """An engine with everything round it that must not be touched.

    isolation: as of `Engine`. load: executions that run beside every case, to make races likelier;
    what is left of a case is then looked for at the end only.

    Not for more than one thread at a time.
    """

    def __init__(self, isolation: Isolation = "auto", *, load: int = 0) -> None:
        self._close = contextlib.ExitStack()
        try:
            self._canaries = Canaries()
            self._close.callback(self._canaries.close)
            before = _engine_directories()
            self.engine = Engine(
                Environment(preload=()),  # nothing learned from a case changes the template
                limits=Limits(**BASE),
                pool=Pool(standby=STANDBY, max_concurrency=8),
                isolation=isolation,
                name="attack",
            )
            self._close.callback(self.engine.close)
            first = self.engine.run("1")
            self.tier = first.isolation[0] if first.isolation else "none"
            self.in_force = frozenset(first.isolation[1:])
            self.directories = sorted(_engine_directories() - before)
            self.neighbour = neighbour.Neighbour(self.engine, whole=Mechanism.MOUNT_NS in self.in_force)
            self._close.callback(self.neighbour.close)
            self._crowd = 0
            self._kinds: dict[tuple[str, ...], frozenset[str] | None] = {(): self.in_force | _FACTS}
            self._state = self._look()
            self._descriptors = descriptors()
            self._resident = resident_bytes()
            self._settle()
            self._load = _Load(self.engine, load) if load else None
            if self._load is not None:
                self._close.callback(self._load.close)
        except BaseException:
            self._close.close()
            raise

    def attack(self, case: Case) -> Outcome:
        """Run one case and everything that shows whether it was held."""
        in_force = self._in_force(case)
        missing = [why for guard in case.needs if (why := lacking(guard, in_force or ()))]
        if missing and (not case.harmless or in_force is None):
            return Outcome(case, Verdict.NOT_ENFORCEABLE, "; ".join(missing))
        started = time.monotonic()
        faults = list(self._try(case))
        wall_s = time.monotonic() - started
        if missing:
            faults = [fault for fault in faults if fault.startswith("afterwards")]
        if faults:
            return Outcome(case, Verdict.FAILED, "; ".join(faults), wall_s)
        if missing:
            return Outcome(case, Verdict.NOT_ENFORCEABLE, "; ".join(missing), wall_s)
        return Outcome(case, Verdict.HELD, "", wall_s)

    def _in_force(self, case: Case) -> frozenset[str] | None:
        """What is in force where a case runs; None if such an execution is refused here.

        A kind of network has a template of its own: its processes are counted in, once.
        """
        if case.network not in self._kinds:
            try:
                isolation = self.engine.run("1", limits=case.bounds).isolation
                self._kinds[case.network] = frozenset(isolation[1:]) | _FACTS
                self._crowd = 0
                self._settle()
            except RefusedError:
                self._kinds[case.network] = None
        return self._kinds[case.network]

    def _try(self, case: Case) -> Iterator[str]:
        """Everything that is wrong with how a case went; what is wrong with the engine says "afterwards"."""
        inputs = {"host": self._told(), "neighbour": self.neighbour.told}
        started = time.monotonic()
        try:
            result = self.engine.run(case.program, inputs=inputs, files=case.files, limits=case.bounds)
        except HotbedError as error:
            yield f"afterwards: the engine raised {type(error).__name__}: {error}"
            return
        wall_s = time.monotonic() - started
        if fault := case.fault(result):
            yield fault
        yield from self._results_faults(case, result)
        if wall_s > case.within_s:
            yield f"afterwards: the result took {wall_s:.2f} s, and must be there in {case.within_s:.2f} s"
        if harm := self._canaries.harm():
            yield f"escaped: {harm}"
        if case.then:
            yield from self._next_faults(case, inputs)
        yield from self._left()

    def _results_faults(self, case: Case, result: Result) -> Iterator[str]:
        text = repr(result)
        for whose, secret in (("host", self._canaries.secret), ("neighbour", self.neighbour.secret)):
            if secret in text:
                yield f"escaped: the result holds the {whose}'s secret"
        bounds = case.bounds
        for stream in (result.stdout, result.stderr):
            if len(stream) > bounds.output_bytes:
                yield f"escaped: {len(stream)} characters of output"
        size = sum(len(artifact.data) for artifact in result.artifacts)
        if size > bounds.artifacts_bytes:
            yield f"escaped: artifacts of {size} bytes"
        for artifact in result.artifacts:
            parts = artifact.name.split("/")
            if not all(parts) or ".." in parts or "\0" in artifact.name:
                yield f"escaped: an artifact named {artifact.name!r}"
        names = tuple(sorted(artifact.name for artifact in result.artifacts))
        if case.artifacts is not None and result.isolation and names != case.artifacts:
            yield f"artifacts {names}, not {case.artifacts}"
        if result.status is Status.OK and not case.network and set(result.isolation[1:]) != self.in_force:
            yield f"afterwards: another isolation was in force: {result.isolation}"

    def _next_faults(self, case: Case, inputs: dict[str, Any]) -> Iterator[str]:
        for _ in range(STANDBY + 1):  # those that stood by during the case, and one made after it
            result = self.engine.run(case.next_program, inputs=inputs, limits=case.bounds)
            if result.status is not Status.OK or result.value != HELD or result.stdout or result.stderr:
                yield f"the next execution {describe(result)} {result.stdout!r:.80}"
                return

    def _left(self) -> Iterator[str]:
        """What is wrong with the engine now."""
        if fault := self.neighbour.fault():
            yield f"escaped: {fault}"
        try:
            state = self._look()
        except (HotbedError, AssertionError) as error:
            yield f"afterwards: the next execution failed: {error}"
            return
        if state != self._state:
            changed = [name for name in state if state[name] != self._state[name]]
            was = {name: self._state[name] for name in changed}
            yield f"afterwards: { ({name: state[name] for name in changed})!r:.300}, was {was!r:.300}"
        if self._load is None:
            yield from self._settle()
        if (grown := resident_bytes() - self._resident) > GROWTH_BYTES:
            self._resident += grown
            yield f"afterwards: the engine has grown by {grown >> 20} MiB"

    def finish(self) -> str:
        """What is left when all cases are over and the load is gone; "" if nothing is."""
        if self._load is not None:
            self._load.close()
            self._load = None
        return "; ".join(self._left())

    def close(self) -> None:
        """End the engine and remove the canaries."""
        self._close.close()

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Ground of tier {self.tier} | {', '.join(sorted(self.in_force)) or 'nothing in force'}>"

    # Facts.

    def _told(self) -> dict[str, Any]:
        return {
            **self._canaries.told(),
            "engine": os.getpid(),
            "launcher": self._launcher,
            "engine_directories": self.directories,
        }

    @property
    def _launcher(self) -> int:
        return self.engine.dispatcher.launcher.pid

    def _look(self) -> dict[str, Any]:
        result = self.engine.run(STATE, inputs={"whole": Mechanism.MOUNT_NS in self.in_force})
        assert result.status is Status.OK, describe(result)
        assert isinstance(result.value, dict)
        return json.loads(json.dumps(result.value))  # type: ignore[no-any-return]  # a dict, as just seen

    def _settle(self) -> list[str]:
        """Wait until there are as many processes and descriptors as there were; what is too many."""
        try:
            self.engine.warm(timeout=SETTLE_S)
        except HotbedError as error:
            return [f"afterwards: {error}"]
        deadline = time.monotonic() + SETTLE_S
        if not self._crowd:  # the first time: until it no longer changes
            return self._measure(deadline)
        while True:
            crowd, open_now = len(descendants(self._launcher)), descriptors()
            if crowd <= self._crowd and open_now.total() <= self._descriptors.total():
                return []
            if time.monotonic() > deadline:
                break
            time.sleep(STEP_S)
        faults = []
        if crowd > self._crowd:
            faults.append(f"afterwards: {crowd - self._crowd} processes are left")
            self._crowd = crowd
        if open_now.total() > self._descriptors.total():
            faults.append(
                f"afterwards: the engine has more descriptors: {dict(open_now - self._descriptors)}"
            )
            self._descriptors = open_now
        return faults

    def _measure(self, deadline: float) -> list[str]:
        steady = 0
        while steady < 20 and time.monotonic() < deadline:
            now = len(descendants(self._launcher)), descriptors()
            steady = steady + 1 if now == (self._crowd, self._descriptors) else 0
            self._crowd, self._descriptors = now
            time.sleep(STEP_S)
        return []


class _Load:
    """Threads that run small executions until they are told to end."""

    def __init__(self, engine: Engine, threads: int) -> None:
        self._engine = engine
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(HotbedError):
                self._engine.run("sum(range(1000))")

    def close(self) -> None:
        """End the load; returns when it is over."""
        self._over.set()
        for thread in self._threads:
            thread.join()


def _engine_directories() -> set[str]:
    """Work directories and status sockets of engines."""
    return set(glob.glob(f"{tempfile.gettempdir()}/{PREFIX}*") + glob.glob(f"{runtime_directory()}/*"))


def descendants(root: int) -> list[int]:
    """The processes below one that are alive and not the first of a pid namespace.

    The first ones are the engine's: a template keeps as many cells as it once had children at a time.
    Their names would not tell: strangers' code can take any.
    """
    found, unread = [], [root]
    while unread:
        pid = unread.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as file:
                    unread += map(int, file.read().split())
            with open(f"/proc/{pid}/status", errors="replace") as file:
                status = dict(line.split(":", 1) for line in file)
            numbers = status["NSpid"].split()  # in each namespace, the outermost first
            first = len(numbers) > 1 and numbers[-1] == "1"
            if pid != root and not first and status["State"].split()[0] not in "ZX":
                found.append(pid)
    return found


def descriptors() -> Counter[str]:
    """How many descriptors of each kind this process has open.

    Without those of control groups: an engine keeps as many as it once ran processes at a time.
    """
    kinds: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if not target.startswith("/sys/fs/cgroup"):
                kinds[target.partition(":[")[0]] += 1
    return kinds


def resident_bytes() -> int:
    """What this process holds in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * _PAGE


def attack(
    cases: Iterable[Case] = CATALOGUE, isolation: Isolation = "auto", *, load: int = 0
) -> Iterator[Outcome]:
    """Run cases one after the other on a ground of their own, and give each outcome as it comes."""
    with Ground(isolation, load=load) as ground:
        for case in cases:
            yield ground.attack(case)


def score(tier: str, outcomes: Iterable[Outcome]) -> str:
    """One line: "landlock: 121 held, 29 not enforceable here: no network namespace (7), ..."."""
    outcomes = list(outcomes)
    count = Counter(outcome.verdict for outcome in outcomes)
    parts = [f"{count[Verdict.HELD]} held"]
    if count[Verdict.FAILED]:
        parts.append(f"{count[Verdict.FAILED]} FAILED")
    if count[Verdict.NOT_ENFORCEABLE]:
        whys = Counter(
            why for o in outcomes if o.verdict is Verdict.NOT_ENFORCEABLE for why in o.detail.split("; ")
        )
        listed = "; ".join(f"{why} ({number})" for why, number in whys.most_common())
        parts.append(f"{count[Verdict.NOT_ENFORCEABLE]} not enforceable here: {listed}")
    return f"{tier}: {', '.join(parts)}"
