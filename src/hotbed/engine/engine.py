"""The engine: the way in for Python programs, with calls that block."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import secrets
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from hotbed import errors
from hotbed.config import Pool
from hotbed.engine.assignment import Assignment
from hotbed.engine.confinement import Confinement, directory_of, require_strict
from hotbed.engine.dispatcher import Dispatcher
from hotbed.engine.drive import drive
from hotbed.engine.keeper import Keeper
from hotbed.engine.options import DEFAULT, Default, Isolation, Listener, ModeName, Options
from hotbed.engine.place import Place
from hotbed.engine.request import Request, call_request, parse_mode, run_request
from hotbed.engine.status import StatusSocket, snapshot
from hotbed.model import OWN_CODE, Environment, Limits, Mode, Result, parse_seconds
from hotbed.proc import cgroup
from hotbed.proc.launch import Launcher, default_executable
from hotbed.proc.places import engine_directory

GUARDED = Limits()  # strangers' code, where the engine was given no limits
CLOSE_S = 5.0  # for callers in other threads to see the end of their executions


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine:
    """Runs Python code in processes that are ready before they are asked for.

    environment: where code runs unless a call names another one.
    limits: for every execution; by default those of `Limits()` for `run`, and none for `call`.
    ceiling: what no limits, of the engine or of one execution, may go beyond.
    pool: how many processes are kept.
    isolation: "auto" runs code as a stranger's, in the strongest sandbox that this host allows;
        "strict" the same, or not at all where that is not the full one; "none" as the caller's
        own (its variables, its files, its network). None, the default, is "auto" for `run` and
        "none" for `call`. What was in force stands in `Result.isolation`.
    name: what `hotbed ps` calls it.

    Safe for use from any number of threads. After a fork of the calling process the child must
    make an engine of its own.
    """

    def __init__(
        self,
        environment: Environment | None = None,
        *,
        limits: Limits | None = None,
        ceiling: Limits | None = None,
        pool: Pool | None = None,
        isolation: Isolation | None = None,
        name: str = "",
    ) -> None:
        if sys.platform != "linux":
            raise errors.EngineError(
                f"hotbed runs on Linux; {sys.platform} has no pidfd and no subreaper, which it stands on"
            )
        for field, value, kind in (
            ("environment", environment, Environment),
            ("limits", limits, Limits),
            ("ceiling", ceiling, Limits),
            ("pool", pool, Pool),
        ):
            if value is not None and not isinstance(value, kind):
                raise errors.RequestError(f"{field}={value!r} must be {kind.__name__}(...)")
        self.environment = environment if environment is not None else Environment()
        self.pool = pool if pool is not None else Pool()
        self.name = name or os.path.basename(sys.argv[0] if sys.argv and sys.argv[0] else "python")
        self._limits = limits
        self._ceiling = ceiling
        if limits is not None:
            self._check_ceiling(limits)
        self._isolation = _checked_isolation(isolation)
        self._pid = os.getpid()
        self._ids = itertools.count(1)
        self._id_prefix = secrets.token_hex(4)
        self._closed = False
        self._close_lock = threading.RLock()
        self._confinements: dict[tuple[Any, ...], Confinement] = {}
        self._places: dict[Confinement | None, Place] = {}  # of the engine's own environment
        directory = engine_directory()
        label = self.name
        try:
            # Not of `self`: the keeper's thread holds it, and an engine that is dropped must be collected.
            status = StatusSocket(lambda: snapshot(dispatcher, label))
        except OSError as error:
            os.rmdir(directory)
            raise errors.EngineError(
                f"cannot listen in the runtime directory: {error}; set XDG_RUNTIME_DIR to a short path "
                "that this user can write to"
            ) from error
        try:
            groups = cgroup.find(os.path.basename(directory))
            paths = [] if isinstance(groups, cgroup.Unavailable) else groups.paths
            launcher = Launcher(default_executable(), [directory, status.path], paths)
        except BaseException:
            status.close()
            os.rmdir(directory)
            raise
        self._status = status
        self._dispatcher = dispatcher = Dispatcher(
            self.pool, launcher, directory, groups, limits if limits is not None else GUARDED
        )
        self._keeper = Keeper(self._dispatcher, status, self.pool.start_timeout)
        self._keeper.start()
        _engines.add(self)

    # Executions.

    def run(
        self,
        code: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes | str] | None = None,
        mode: Mode | ModeName = Mode.FRESH,
        environment: Environment | None = None,
        isolation: Isolation | None = None,
        env: Mapping[str, str] | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        timeout: float | Default | None = DEFAULT,
        queue_timeout: float | None = None,
        on_stdout: Listener | None = None,
        on_stderr: Listener | None = None,
        id: str | None = None,
    ) -> Result:
        """Run source text and give its result, whatever the code did.

        inputs: global variables of the code: data by the rules of docs/values.md, or bytes.
        files: what the code finds in its work directory: names, and bytes or text.
        env: environment variables for this execution.
        seed: for the random generators; by default every execution draws other numbers.
        limits: what this execution may use, instead of the engine's limits.
        timeout: seconds that the code may run; queue_timeout: seconds to wait for a process.
        on_stdout, on_stderr: called in this thread with text as the code writes it.
        id: the execution's name for `cancel`; made up if it is not given.

        Raises:
            RequestError: If an argument is not what is said here.
            RefusedError: If the queue is full, the wait was too long, or the engine is closed.
            EngineError: If the environment cannot be made ready.
        """
        options = Options(
            mode, environment, isolation, env, seed, limits, timeout, queue_timeout, on_stdout, on_stderr, id
        )
        return drive(self._dispatcher, self.assign_run(code, inputs, options, files))

    def call(
        self,
        target: str,
        /,
        *args: Any,
        mode: Mode | ModeName = Mode.WORKER,
        environment: Environment | None = None,
        isolation: Isolation | None = None,
        env: Mapping[str, str] | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        timeout: float | Default | None = DEFAULT,
        queue_timeout: float | None = None,
        on_stdout: Listener | None = None,
        on_stderr: Listener | None = None,
        id: str | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Result:
        """Call a function of a file, "FILE:FUNCTION", and give the result of a good end.

        A worker loads the file once and keeps its state between calls. Keyword arguments of
        the function go in `kwargs`; the others are those of `run`.

        Raises:
            RequestError: If the file or the function does not exist, or an argument is wrong.
            ExecutionError: If the function raised, ran too long, crashed, or returned no data;
                the error's `result` is the whole result.
            RefusedError, EngineError: As `run`.
        """
        options = Options(
            mode, environment, isolation, env, seed, limits, timeout, queue_timeout, on_stdout, on_stderr, id
        )
        work = self.assign_call(target, args, kwargs or {}, options)
        return drive(self._dispatcher, work).raise_for_error()

    def cancel(self, id: str) -> bool:
        """End an execution, waiting or running; its caller gets status "cancelled".

        False if there is no execution of that id, any more or yet.
        """
        self._check()
        return self._dispatcher.cancel(id, "the caller cancelled the execution")

    def warm(
        self,
        environment: Environment | None = None,
        *,
        isolation: Isolation | None = None,
        timeout: float = 60.0,
    ) -> None:
        """Wait until an environment's standby children are ready.

        Raises:
            EngineError: If they cannot be made ready, or are not in `timeout` seconds.
        """
        self._check()
        self._dispatcher.warm(self._place(environment, isolation, "auto", self._limits or GUARDED), timeout)

    def stats(self) -> dict[str, Any]:
        """What the engine has and does now, as `hotbed ps --json` shows it."""
        self._check_owner()
        return self._snapshot()

    # Life.

    def close(self) -> None:
        """End every process; executions under way end as cancelled. Returns when all are gone."""
        if os.getpid() != self._pid:
            return
        with self._close_lock:  # a second caller returns when the first one is done
            if not self._closed:
                self._closed = True
                _engines.discard(self)
                self._end()

    def _end(self) -> None:
        dispatcher = self._dispatcher
        with dispatcher.lock:
            dispatcher.closed = True
            jobs = list(dispatcher.jobs.values())
        dispatcher.tell(lambda plan, _now: plan.close())
        for job in jobs:
            dispatcher.cancel(job.id, "the engine was closed")
        with dispatcher.lock:
            dispatcher.changed.wait_for(lambda: not dispatcher.jobs, CLOSE_S)
        self._keeper.stop()
        dispatcher.launcher.close()
        self._status.close()
        with dispatcher.lock:
            # A link in a caller's hands is the caller's to close: it may be polling it.
            dispatcher.unattended = True
            held = {job.link.child for job in dispatcher.jobs.values() if job.link is not None}
            links = [link for child, link in dispatcher.links.items() if child not in held]
        for link in links:
            link.close()
        self._keeper.close_templates()
        dispatcher.arenas.close()
        if not isinstance(dispatcher.groups, cgroup.Unavailable):
            dispatcher.groups.close()
        dispatcher.close_wake_fd()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            if threading.current_thread() is self._keeper:  # which close() waits for
                threading.Thread(target=self.close, name="hotbed-close").start()
            else:
                self.close()

    def __repr__(self) -> str:
        if self._closed or os.getpid() != self._pid:
            return "<Engine closed>" if self._closed else "<Engine of another process>"
        plan = self._dispatcher.plan
        standby = sum(len(shelf.standby) for shelf in plan.shelves.values())
        return (
            f"<Engine {len(plan.shelves)} environments | {standby} standby, "
            f"{plan.running} leased, {plan.queued} queued>"
        )

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    # For the other doors.

    @property
    def dispatcher(self) -> Dispatcher:
        """What drives executions; for the asynchronous engine."""
        return self._dispatcher

    def assign_run(
        self,
        code: str,
        inputs: Mapping[str, Any] | None,
        options: Options,
        files: Mapping[str, bytes | str] | None = None,
    ) -> Assignment:
        """Check and encode the arguments of `run`."""
        started = time.monotonic()
        self._check()
        limits = self._limits_of(options, GUARDED)
        place = self._place(options.environment, options.isolation, "auto", limits)
        request = run_request(
            code,
            mode=parse_mode(options.mode),
            own=place.own,
            inputs=inputs,
            env=options.env,
            seed=options.seed,
            trusted=place.trusted,
            files=files,
            limits=self._dispatcher.limits_in_child(place, limits),
        )
        return self._assign(request, place, limits, started, options)

    def assign_call(
        self, target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Options
    ) -> Assignment:
        """Check and encode the arguments of `call`."""
        started = time.monotonic()
        self._check()
        own = self._chosen(options.isolation, "none") == "none"
        limits = self._limits_of(options, OWN_CODE if own else GUARDED)
        directory = "" if own else directory_of(target)
        place = self._place(options.environment, options.isolation, "none", limits, directory)
        request = call_request(
            target,
            args,
            kwargs,
            mode=parse_mode(options.mode),
            own=place.own,
            env=options.env,
            seed=options.seed,
            trusted=place.trusted,
            limits=self._dispatcher.limits_in_child(place, limits),
        )
        return self._assign(request, place, limits, started, options)

    def _assign(
        self, request: Request, place: Place, limits: Limits, started: float, options: Options
    ) -> Assignment:
        queue_timeout = options.queue_timeout
        if options.id is not None and not isinstance(options.id, str):
            raise errors.RequestError(f"id={options.id!r} must be text")
        if options.on_stdout is not None or options.on_stderr is not None:
            _check_listeners(options.on_stdout, options.on_stderr)
        return Assignment(
            options.id if options.id is not None else f"{self._id_prefix}-{next(self._ids)}",
            place,
            request,
            limits,
            None if queue_timeout is None else parse_seconds(queue_timeout, "queue_timeout"),
            started,
            options.on_stdout,
            options.on_stderr,
        )

    def _limits_of(self, options: Options, default: Limits) -> Limits:
        limits = options.limits
        if limits is None:
            limits = self._limits or default
            if isinstance(options.timeout, Default):
                if self._limits is None and self._ceiling is not None:
                    self._check_ceiling(limits)
                return limits
        elif not isinstance(limits, Limits):
            raise errors.RequestError(f"limits={limits!r} must be Limits(...)")
        if not isinstance(options.timeout, Default):
            limits = limits.with_timeout(options.timeout)
        self._check_ceiling(limits)
        return limits

    def _check_ceiling(self, limits: Limits) -> None:
        if self._ceiling is not None and (name := limits.beyond(self._ceiling)):
            raise errors.RequestError(
                f"{name}={getattr(limits, name)!r} is beyond this engine's ceiling of "
                f"{getattr(self._ceiling, name)!r}; ask for less"
            )

    def _chosen(self, isolation: Isolation | None, default: Isolation) -> Isolation:
        return (isolation and _checked_isolation(isolation)) or self._isolation or default

    def _place(
        self,
        environment: Environment | None,
        isolation: Isolation | None,
        default: Isolation,
        limits: Limits,
        directory: str = "",
    ) -> Place:
        chosen = self._chosen(isolation, default)
        if environment is not None and not isinstance(environment, Environment):
            raise errors.RequestError(f"environment={environment!r} must be Environment(...)")
        confinement = None
        if chosen != "none":
            confinement = self._confinements.get((directory, limits.network, limits.disk))
            if confinement is None:
                confinement = Confinement(directory, limits.allowed_network, limits.disk_bytes)
                self._confinements[directory, limits.network, limits.disk] = confinement
        if environment is not None:
            place = self._dispatcher.place(environment, confinement)
        else:
            known = self._places.get(confinement)
            if known is None:
                known = self._places[confinement] = self._dispatcher.place(self.environment, confinement)
            place = known
        if chosen == "strict" and confinement is not None:
            require_strict(self._dispatcher.trials(place.environment, confinement), place.isolation)
        return place

    def _check(self) -> None:
        self._check_owner()
        if self._closed:
            raise errors.RefusedError("the engine is closed; make a new one")

    def _check_owner(self) -> None:
        if os.getpid() != self._pid:
            raise errors.EngineError(
                "this engine belongs to the process that forked this one; make a new Engine here"
            )

    def _snapshot(self) -> dict[str, Any]:
        return snapshot(self._dispatcher, self.name)

    def _disown(self) -> None:
        """In a fork of the host: let go of everything without ending anything."""
        dispatcher = self._dispatcher
        for link in dispatcher.links.values():
            with contextlib.suppress(OSError):
                link.close()
        with contextlib.suppress(OSError):
            self._keeper.disown()
        dispatcher.launcher.disown()
        if not isinstance(dispatcher.groups, cgroup.Unavailable):
            dispatcher.groups.disown()
        dispatcher.close_wake_fd()


def _checked_isolation(isolation: Isolation | None) -> Isolation | None:
    if isolation not in (None, "auto", "strict", "none"):
        raise errors.RequestError(f"isolation={isolation!r} is unknown; it is 'auto', 'strict' or 'none'")
    return isolation


def _check_listeners(on_stdout: Listener | None, on_stderr: Listener | None) -> None:
    for name, listener in (("on_stdout", on_stdout), ("on_stderr", on_stderr)):
        if listener is not None and not callable(listener):
            raise errors.RequestError(f"{name}={listener!r} cannot be called")


def _forked() -> None:
    for engine in list(_engines):
        engine._disown()
    _engines.clear()


def _exiting() -> None:
    for engine in list(_engines):
        engine.close()


os.register_at_fork(after_in_child=_forked)
atexit.register(_exiting)
