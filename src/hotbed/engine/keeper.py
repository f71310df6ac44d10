"""The engine's one background thread: refills, births and deaths, readiness, timers.

Law: nobody's call waits for this thread while a standby child is there. It sleeps in epoll
until a descriptor or a timer wakes it, and carries out, in order, the actions that callers left.
Each descriptor it watches has one handler.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from hotbed.core.actions import Action, End, Order, Rehearse, RetireTemplate, StartTemplate
from hotbed.core.child import State
from hotbed.core.frames import Decoder, ProtocolError
from hotbed.core.ids import ChildId
from hotbed.engine.dispatcher import Dispatcher, jitter
from hotbed.engine.place import Place, Template
from hotbed.engine.status import StatusSocket
from hotbed.errors import EngineError
from hotbed.proc.control import Control, Message
from hotbed.proc.launch import Launcher
from hotbed.proc.link import Link, is_below, pid_of
from hotbed.proc.memory import memory_of_tree
from hotbed.seed import wire
from hotbed.seed.launcher import remove_tree

LOOK_S = 0.1  # between two looks at memory; one reads a few files of /proc for each execution
DRAIN_READS = 64  # a pipe holds 16 times less
PROXIES_FROM = 1 << 41  # negative numbers from here on are proxies: news of them concern nobody


class ReadyReport(msgspec.Struct):
    """The meta of READY and BROKEN frames."""

    problem: str = ""
    error: str = ""
    directories: dict[str, int] = {}


_reports = msgspec.json.Decoder(ReadyReport)


class Keeper(threading.Thread):
    """Runs until `stop`; owns the template processes and the status socket."""

    def __init__(self, dispatcher: Dispatcher, status: StatusSocket, start_timeout_s: float) -> None:
        super().__init__(name="hotbed-keeper", daemon=True)
        self._dispatcher = dispatcher
        self._status = status
        self._start_timeout_s = start_timeout_s
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._template_ids = itertools.count(1)
        self._by_launch_id: dict[int, tuple[Place, Template]] = {}
        self._rehearsing: dict[ChildId, tuple[Link, Decoder, float]] = {}  # with the deadline
        self._proxies: dict[int, Control] = {}  # by the process whose way out it is
        self._proxy_ids = itertools.count(PROXIES_FROM)
        self._fds: list[int] = []  # that came with the message in hand
        self._plan_due: float | None = None
        self._looked_at = 0.0  # at the memory of those whom no cgroup bounds
        self._stopping = False
        self._watch(dispatcher.wake_fd, self._woken)
        self._watch(dispatcher.launcher.control.fileno(), self._hear_launcher)
        self._watch(status.fileno(), self._answer_status)

    # The loop.

    def run(self) -> None:
        """Serve until stopped. A failure here ends the engine's service, loudly."""
        try:
            while not self._stopping:
                for fd, _event in self._epoll.poll(self._timeout_s()):
                    handler = self._handlers.get(fd)
                    if handler is not None:
                        handler()
                self._carry_out_deferred()
                self._mind_the_clock()
        except BaseException as error:  # the thread's border: callers must not wait for ever
            self._fail(error)
        finally:
            self._epoll.close()

    def stop(self) -> None:
        """End the thread; from any other one."""
        self._stopping = True
        self._dispatcher.wake_keeper()
        self.join()

    def close_templates(self) -> None:
        """Let go of the template processes; after the launcher has ended them."""
        for _place, template in self._by_launch_id.values():
            template.close()
        self._by_launch_id.clear()
        for control in self._proxies.values():
            control.close()
        self._proxies.clear()

    def disown(self) -> None:
        """In a fork of the host: close what the parent's keeper watches."""
        self._epoll.close()
        self.close_templates()
        self._status.disown()

    def _timeout_s(self) -> float | None:
        """Seconds until something is due; None for as long as nothing happens."""
        dispatcher = self._dispatcher
        if dispatcher.deferred or self._stopping:
            return 0.0
        now = time.monotonic()
        with dispatcher.lock:
            self._plan_due = dispatcher.plan.due(now)
        times = [deadline for _link, _decoder, deadline in self._rehearsing.values()]
        times += [template.deadline for _place, template in self._by_launch_id.values() if not template.ready]
        if self._plan_due is not None:
            times.append(self._plan_due)
        if dispatcher.looking:
            times.append(self._looked_at + LOOK_S)
        # epoll counts in 32-bit milliseconds: after a day it is asked again.
        return min(max(0.0, min(times) - now), 86400.0) if times else None

    def _mind_the_clock(self) -> None:
        now = time.monotonic()
        self._look_at_memory(now)
        if self._plan_due is not None and now >= self._plan_due:
            self._dispatcher.tell(lambda plan, at: plan.tick(at))
        for child, (link, _decoder, deadline) in list(self._rehearsing.items()):
            if now >= deadline:
                self._unwatch_child(child)
                link.kill()
        for place, template in list(self._by_launch_id.values()):
            if not template.ready and not template.failure and now >= template.deadline:
                template.failure = f"it was not ready within {self._start_timeout_s:g} s"
                self._dispatcher.launcher.control.say({"op": "kill", "id": template.id})
                self._lose_template(place, template)

    def _look_at_memory(self, now: float) -> None:
        """Kill what uses more memory than it may, where no cgroup does."""
        dispatcher = self._dispatcher
        if not dispatcher.looking or now < self._looked_at + LOOK_S:
            return
        watched = dispatcher.watched
        dispatcher.looking = bool(watched)
        for link, limit_bytes in list(watched.values()):
            if link.pid is not None and not link.ended and memory_of_tree(link.pid) > limit_bytes:
                link.out_of_memory = True
                link.kill()
        self._looked_at = time.monotonic()

    def _fail(self, error: BaseException) -> None:
        dispatcher = self._dispatcher
        with dispatcher.lock:
            dispatcher.failure = error
            jobs = list(dispatcher.jobs.values())
            dispatcher.changed.notify_all()
        for job in jobs:
            dispatcher.cancel(job.id, f"the engine failed: {error!r}")
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self)))

    # Actions.

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._dispatcher.wake_fd)

    def _carry_out_deferred(self) -> None:
        deferred = self._dispatcher.deferred
        while deferred:
            self._carry_out(deferred.popleft())

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Order):
            self._make(action)
        elif isinstance(action, End):
            self._end(action.child)
        elif isinstance(action, Rehearse):
            self._rehearse(action.child)
        elif isinstance(action, StartTemplate):
            try:
                self._start_template(action)
            except OSError as error:
                self._fail_template(action, f"the engine cannot start it: {error}")
        elif isinstance(action, RetireTemplate):
            self._retire_template(action)
        else:
            raise AssertionError(f"{action!r} is not for the keeper")

    def _make(self, order: Order) -> None:
        dispatcher = self._dispatcher
        with dispatcher.lock:
            if dispatcher.orders.pop(order.child, None) is None:
                return  # a caller who was given the child has made it
        try:
            link = dispatcher.make(order)
        except EngineError:  # those who want to run something are told; this is only the refill
            with dispatcher.lock:
                child = dispatcher.plan.children.get(order.child)
                if child is not None and child.state is State.LEASED:
                    dispatcher.unmade.add(order.child)
            dispatcher.tell(lambda plan, now: plan.order_failed(order.child, now))
            return
        if order.rehearse:
            self._watch_child(link)

    def _end(self, child: ChildId) -> None:
        dispatcher = self._dispatcher
        with dispatcher.lock:
            dispatcher.orders.pop(child, None)
            link = dispatcher.links.pop(child, None)
        if link is not None:
            self._unwatch_child(child)
            if not link.ended:
                link.kill()
            link.close()

    def _rehearse(self, child: ChildId) -> None:
        link = self._dispatcher.links.get(child)
        if link is None:
            return
        self._watch_child(link)
        with contextlib.suppress(OSError):  # it has ended: the channel tells
            link.socket.send(wire.pack(wire.REHEARSE))

    # Children that get ready.

    def _watch_child(self, link: Link) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        self._rehearsing[link.child] = (link, Decoder(body_limit=0), deadline)
        self._watch(link.socket.fileno(), lambda: self._hear_child(link.child))

    def _unwatch_child(self, child: ChildId) -> None:
        entry = self._rehearsing.pop(child, None)
        if entry is not None:
            self._unwatch(entry[0].socket.fileno())

    def _hear_child(self, child: ChildId) -> None:
        link, decoder, _deadline = self._rehearsing[child]
        try:
            data = link.socket.recv(65536)
            frames = decoder.feed(data)
        except BlockingIOError:
            return
        except (OSError, ProtocolError):
            data, frames = b"", []
        if not data:
            self._unwatch_child(child)
            link.kill()  # its end is told by its nursery
            return
        for frame in frames:
            self._unwatch_child(child)
            self._drain(link)
            report = self._report(frame.meta)
            if frame.kind == wire.READY and not report.problem:
                self._note_directories(child, report.directories)
                self._dispatcher.tell(lambda plan, now: plan.child_ready(child, now))
            else:
                reason = report.error or report.problem or "it sent no word that it was ready"
                self._note_broken(child, reason)
            return

    def _note_broken(self, child: ChildId, reason: str) -> None:
        self._dispatcher.tell(lambda plan, now: plan.child_broken(child, reason, now, jitter()))

    def _report(self, meta: bytes) -> ReadyReport:
        try:
            return _reports.decode(meta)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return ReadyReport(problem=f"its report cannot be read: {error}")

    def _drain(self, link: Link) -> None:
        """Throw away what the set-up printed: it is no execution's output."""
        for fd in (link.out, link.err):
            with contextlib.suppress(OSError):
                for _read in range(DRAIN_READS):  # a thread of a package may print for ever
                    if not os.read(fd, 65536):
                        break

    def _note_directories(self, child: ChildId, directories: dict[str, int]) -> None:
        entry = self._dispatcher.plan.children.get(child)
        if entry is not None and directories:
            self._dispatcher.places[entry.environment].note_directories(directories)

    # Templates.

    def _start_template(self, action: StartTemplate) -> None:
        dispatcher = self._dispatcher
        place = dispatcher.places[action.environment]
        control = Control()
        try:
            log, log_end = os.pipe()
        except OSError:
            control.close()
            raise
        os.set_blocking(log, False)
        template = Template(
            -next(self._template_ids),
            action.generation,
            control,
            log,
            time.monotonic() + self._start_timeout_s,
            action.preload,
        )
        setup = place.setup(action.preload, dispatcher.directory)
        control.say(setup)
        place.templates[action.generation] = template
        self._by_launch_id[template.id] = (place, template)
        self._watch(control.fileno(), lambda: self._hear_template(place, template))
        self._watch(log, lambda: self._read_log(template))
        try:
            ends = [control.far_end.fileno(), log_end, log_end]
            place.start(dispatcher.launcher, template.id, "template", ends, setup["cwd"])
        except OSError:
            launcher_is_gone = True
        else:
            launcher_is_gone = False
        finally:
            control.far_end.close()
            os.close(log_end)
        if launcher_is_gone:  # the word of its end is on the way, but the next start must not meet it too
            self._replace_launcher(dispatcher.launcher)

    def _fail_template(self, action: StartTemplate, reason: str) -> None:
        self._dispatcher.tell(
            lambda plan, now: plan.template_broken(
                action.environment, action.generation, reason, now, jitter()
            )
        )

    def _retire_template(self, action: RetireTemplate) -> None:
        place = self._dispatcher.places[action.environment]
        template = place.templates.get(action.generation)
        if template is not None:
            template.retired = True
            if template.ready:
                template.control.say({"op": "retire"})
            else:
                self._dispatcher.launcher.control.say({"op": "kill", "id": template.id})

    def _read_log(self, template: Template) -> None:
        if not template.read_log():
            self._unwatch(template.log)

    def _hear_template(self, place: Place, template: Template) -> None:
        for message in self._messages(template.control):
            if message is None:
                self._lose_template(place, template)
                return
            if message.op == "ready" and template.ready:
                continue  # once is enough
            if message.op == "ready":
                template.ready = True
                place.note_directories(message.directories)
                if template.retired:
                    template.control.say({"op": "retire"})
                self._note_ready(place, template.generation, message.threads)
            elif message.op == "broken":
                template.failure = message.error
            else:
                confined = not place.own
                self._hear_of_child(message, template.control, enclosed=place.enclosed, confined=confined)

    def _note_ready(self, place: Place, generation: int, threads: dict[str, list[str]]) -> None:
        self._dispatcher.tell(lambda plan, now: plan.template_ready(place.id, generation, threads, now))

    def _lose_template(self, place: Place, template: Template) -> None:
        """It has ended: by itself, by our word, or by somebody's kill."""
        if self._by_launch_id.pop(template.id, None) is None:
            return
        self._end_proxy(template.id)
        self._unwatch(template.control.fileno())
        self._unwatch(template.log)
        words = template.last_words()
        place.templates.pop(template.generation, None)
        dispatcher = self._dispatcher
        generation, failure = template.generation, template.failure
        if not template.retired:
            if failure:
                reason = failure + (f"\nit printed:\n{words}" if words else "")
                dispatcher.tell(
                    lambda plan, now: plan.template_broken(place.id, generation, reason, now, jitter())
                )
            else:
                what = "its template was killed" if template.ready else "its template ended while it started"
                reason = what + (f"; it printed:\n{words}" if words else "")
                dispatcher.tell(
                    lambda plan, now: plan.template_gone(place.id, generation, reason, now, jitter())
                )
        self._orphan(template.control)
        template.close()

    def _orphan(self, nursery: Control) -> None:
        """A nursery took its children with it: their callers learn it from the link."""
        dispatcher = self._dispatcher
        with dispatcher.lock:
            lost = [link for link in dispatcher.links.values() if link.nursery is nursery]
            for link in lost:
                if not link.ended:
                    link.ended = link.orphaned = True
            dispatcher.changed.notify_all()
        for link in lost:
            self._clear_work(link.child)
            self._gone(link.child, blameless=True)
        for child in [child for child, made_by in dispatcher.nurseries.items() if made_by is nursery]:
            self._clear_work(child)  # it was let go of before, and nobody is left to tell its end

    # News of processes.

    def _hear_launcher(self) -> None:
        launcher = self._dispatcher.launcher
        for message in self._messages(launcher.control):
            if message is None:
                self._replace_launcher(launcher)
                return
            entry = self._by_launch_id.get(message.id)
            if message.id > 0:
                self._hear_of_child(message, launcher.control)
            elif entry is not None and message.op == "made":
                entry[1].pid = message.pid
                for pidfd in self._fds[:1]:  # the launcher watches the process, and we its control socket
                    os.close(pidfd)
                del self._fds[:1]
                self._start_proxy(message.id, entry[0])
            elif message.op == "ended":
                self._end_proxy(message.id)
            elif entry is not None and message.op == "failed":
                entry[1].failure = message.error
                self._lose_template(*entry)

    def _replace_launcher(self, launcher: Launcher) -> None:
        """Somebody killed it, and the kernel everything below it."""
        self._unwatch(launcher.control.fileno())
        if self._stopping:
            return
        launcher.close()
        self._dispatcher.launcher = launcher.again()
        self._watch(self._dispatcher.launcher.control.fileno(), self._hear_launcher)
        for entry in list(self._by_launch_id.values()):
            self._lose_template(*entry)
        self._orphan(launcher.control)

    def _hear_of_child(
        self, message: Message, nursery: Control, *, enclosed: bool = False, confined: bool = False
    ) -> None:
        """News of a child; an `enclosed` nursery tells the pids of its own namespace.

        A template that a package has taken over may speak of children that are not its own: of
        those it is not heard.
        """
        child = ChildId(message.id)
        dispatcher = self._dispatcher
        if dispatcher.nurseries.get(child) is not nursery:
            return
        link = dispatcher.links.get(child)
        if message.op == "made":
            if link is not None:
                # Without descriptors to spare the kernel drops the pidfd; the nursery still can kill.
                pidfd = self._fds.pop(0) if self._fds else None
                pid = message.pid if not enclosed else pid_of(pidfd) if pidfd is not None else None
                if confined and pidfd is not None and not is_below(pidfd, dispatcher.launcher.pid):
                    os.close(pidfd)  # to kill by it would be to kill for a hostile package
                    pidfd = None
                link.born(pid, pidfd)
            entry = dispatcher.plan.children.get(child)
            if entry is not None:
                self._start_proxy(child, dispatcher.places[entry.environment])
        elif message.op == "failed":
            if link is not None:
                self._mark_ended(link, None)
            self._clear_work(child)
            self._gone(child)
        elif message.op == "ended":
            if link is not None:
                if message.status == signal.SIGKILL and link.slot is not None:
                    link.out_of_memory = link.slot.oom_kills() > 0
                link.cpu_s = message.cpu_s
                self._mark_ended(link, message.status)
            self._clear_work(child)
            self._gone(child)

    # Proxies: of a template, or of an interpreter of its own, whose code may reach some hosts only.

    def _start_proxy(self, process_id: int, place: Place) -> None:
        """The news of a process brought the socket of its way out: have a proxy serve it."""
        if place.confinement is None or not isinstance(place.confinement.network, tuple):
            return
        if not self._fds:  # a forked child has that of its template
            return
        listener = self._fds.pop()
        control = Control()
        with open(os.devnull, "wb") as null:
            ends = [control.far_end.fileno(), null.fileno(), null.fileno()]
            try:
                control.make({"allow": list(place.confinement.network)}, [listener])
                self._dispatcher.launcher.start_helper(-next(self._proxy_ids), "proxy", ends)
            except OSError:
                pass  # the launcher is gone, and the process with it
            finally:
                os.close(listener)
                control.far_end.close()
        self._proxies[process_id] = control

    def _end_proxy(self, process_id: int) -> None:
        control = self._proxies.pop(process_id, None)
        if control is not None:
            control.close()

    def _mark_ended(self, link: Link, wait_status: int | None) -> None:
        dispatcher = self._dispatcher
        with dispatcher.lock:
            link.wait_status = wait_status
            link.ended = True
            link.orphaned = wait_status is None
            dispatcher.changed.notify_all()

    def _gone(self, child: ChildId, *, blameless: bool = False) -> None:
        self._unwatch_child(child)
        if child in self._dispatcher.plan.children:
            self._dispatcher.tell(lambda plan, now: plan.child_gone(child, now, blameless=blameless))

    def _clear_work(self, child: ChildId) -> None:
        """Nothing of a child runs any more: its cgroup and its directory are free."""
        self._dispatcher.nurseries.pop(child, None)
        self._dispatcher.leave_group(child)
        self._end_proxy(child)
        directory = self._dispatcher.working.pop(child, "")
        if directory:
            with contextlib.suppress(OSError):
                remove_tree(directory)

    def _messages(self, control: Control) -> Iterator[Message | None]:
        """All messages that are there, and None at the end of the socket's life."""
        while True:
            try:
                received = control.receive()
            except OSError:  # BlockingIOError, mostly
                return
            except ProtocolError:
                received = None  # only a template that is no longer ours sends such: it is hung up on
            if received is None:
                yield None
                return
            message, self._fds = received
            yield message
            for fd in self._fds:  # nobody took it: the process is not ours any more
                os.close(fd)

    # Descriptors.

    def _answer_status(self) -> None:
        self._status.answer()

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, select.EPOLLIN)

    def _unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)
