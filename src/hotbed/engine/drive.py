"""Drives one execution from submission to result; what both drivers share, and the blocking one.

Law: whatever happens here (an interrupt, a failing listener), the child is given back and the
ticket ends exactly once.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

from hotbed import errors
from hotbed.core import classify
from hotbed.core.classify import Verdict
from hotbed.engine.assignment import Assignment
from hotbed.engine.dispatcher import Dispatcher
from hotbed.engine.job import Job, ThreadWaiter, Waiter
from hotbed.engine.outcome import Outcome, outcome_of, result_of
from hotbed.model import Mode, Result, Status
from hotbed.proc.arena import Loan
from hotbed.proc.exchange import Close, Exchange

NEWS_S = 1.0  # for the kernel's word on an ended process to arrive through its nursery
LONGEST_WAIT_S = 86400.0  # poll counts in 32-bit milliseconds; a longer wait begins again
LINGER_S = 0.2  # a process that closed its channel may take so long to be gone


class Drive:
    """One execution in progress; the drivers differ in how they wait."""

    def __init__(self, dispatcher: Dispatcher, work: Assignment, new_waiter: Callable[[], Waiter]) -> None:
        self.dispatcher = dispatcher
        self.work = work
        self.job = Job(work.id, dispatcher.next_ticket(), work.place.id, work.request, time.monotonic())
        self._new_waiter = new_waiter
        self.exchange: Exchange | None = None
        self.deadline: float | None = None
        self.loan: Loan | None = None
        self._began = False
        self._watched = False  # its memory is bounded by its own limits and the keeper's looks

    def submit(self) -> None:
        """Ask for a child; the waiter is woken when there is an answer.

        Raises:
            HotbedError: If the engine is closed or has failed.
        """
        self.dispatcher.submit(self.job, self.work.place, self.job.submitted_at, self._new_waiter)

    def start(self) -> Exchange | None:
        """Send the request to the leased child; None if it was cancelled while it waited.

        Raises:
            HotbedError: If the job was refused.
        """
        job, work = self.job, self.work
        if job.refusal is not None:
            job.execution.on("refused", Status.REJECTED)
            raise job.refusal
        lease = job.lease
        if lease is None:
            return None
        link = self.dispatcher.link_of(job)
        job.link = link
        if job.cancelled:  # between the lease and this line
            link.kill()
        announce = lease.order is not None
        self._began = not announce
        exchange = Exchange(
            link,
            announced=announce,
            output_bytes=work.limits.output_bytes,
            value_bytes=work.limits.value_bytes + work.limits.artifacts_bytes,
            on_stdout=work.on_stdout,
            on_stderr=work.on_stderr,
            sharing=work.place.trusted,
        )
        self.exchange = exchange
        if link.slot is not None:
            limits = work.limits
            link.slot.limit(limits.memory_bytes, limits.processes, limits.cpu)
        self._watched = self.dispatcher.watch_memory(job, link, work.limits)
        frame = work.request.frame(announce=announce)
        if work.request.shared is None:
            exchange.send(frame)
        else:
            self.loan = Loan(self.dispatcher.arenas, work.request.shared, work.place.result_bytes)
            exchange.send(frame, self.loan.fds)
        limit_s = self.dispatcher.plan.pool.start_timeout if announce else work.limits.timeout
        job.began_at = now = time.monotonic()
        self.deadline = None if limit_s is None else now + limit_s
        return exchange

    def progressed(self) -> Verdict | None:
        """After events, or a time-out of the wait: a verdict if the deadline has passed."""
        exchange = self.exchange
        assert exchange is not None
        if not self._began and exchange.began:
            self._began = True
            self.job.began_at = now = time.monotonic()
            limit_s = self.work.limits.timeout
            self.deadline = None if limit_s is None else now + limit_s
        if self.deadline is None or exchange.closed is not None or time.monotonic() < self.deadline:
            return None
        if self._began and self.work.limits.timeout is not None:
            return classify.timed_out(self.work.limits.timeout)
        start_s = self.dispatcher.plan.pool.start_timeout
        return classify.lost(f"its process did not begin within pool.start_timeout={start_s:g} s")

    def must_retry(self) -> bool:
        """Whether the child was lost before it began, so that another one may run the code."""
        exchange = self.exchange
        return (
            exchange is not None
            and exchange.closed is Close.UNBEGUN
            and not self.job.cancelled
            and not self.job.execution.retried
        )

    def retry(self) -> None:
        """Give the lost child back; the waiter is woken with the next one."""
        self._end_loan(clean=False, arguments_kept=True)
        self.exchange = None
        self.dispatcher.lost(self.job, self._new_waiter)

    def needs_news(self) -> bool:
        """Whether the result depends on how the process ended."""
        exchange = self.exchange
        return exchange is not None and exchange.closed is Close.LOST and not exchange.link.ended

    def conclude(self, verdict: Verdict | None, *, drained: bool = False) -> Result:
        """Give the child back and make the result; `verdict` is what the driver decided, if it did.

        `drained` says that the driver has read all output up to the answer.

        Raises:
            EnvironmentBrokenError: If the process could not be set up.
        """
        job, work, exchange = self.job, self.work, self.exchange
        if exchange is None:  # cancelled while it waited
            verdict = classify.cancelled(job.cancelled)
            job.execution.on("cancelled", verdict.status)
            return result_of(job, work.place, work.started, Outcome(verdict))
        outcome = None
        if verdict is not None:
            exchange.link.kill()
        if not drained:
            exchange.drain()
        if verdict is None and exchange.closed is Close.UNBEGUN:
            verdict = classify.lost(self._unbegun(exchange))
        if verdict is not None:
            outcome = Outcome(verdict)
        elif exchange.closed is not Close.BROKEN:
            outcome = outcome_of(exchange, work.limits, self.loan, own_memory_limit=self._watched)
        answer = outcome.answer if outcome is not None else None
        if job.cancelled and answer is None:
            outcome = Outcome(classify.cancelled(job.cancelled))
        reusable = answer is not None and not exchange.link.damaged
        if answer is not None and answer.shared is not None:
            told = answer.shared
            work.place.result_bytes = max((sum(place) for place in told.layout), default=0)
            self._end_loan(clean=True, arguments_kept=told.kept)
        if outcome is None:
            self.give_back(reusable=False, status=Status.REJECTED)
            raise errors.EnvironmentBrokenError(
                f"environment {work.place.environment.name!r} cannot be made ready: "
                f"{exchange.answer.meta.decode('utf-8', 'replace') if exchange.answer else ''}"
            )
        result = result_of(job, work.place, work.started, outcome, exchange=exchange, reason=self._reason())
        self.give_back(reusable=reusable, status=outcome.verdict.status)
        if answer is not None and answer.imports and job.request.mode is not Mode.ONESHOT:
            self.dispatcher.learned(work.place, answer.imports)
        return result

    def abandon(self) -> None:
        """End it without a result: the caller has been interrupted or has gone away."""
        job = self.job
        if job.execution.status is not None:
            return
        job.cancelled = job.cancelled or "the caller went away"
        if job.lease is None and (job.refusal is not None or self.dispatcher.withdraw(job)):
            job.execution.on("cancelled", Status.CANCELLED)
        elif job.lease is not None:
            link = self.dispatcher.links.get(job.lease.child)
            if link is not None:
                link.kill()
            self.give_back(reusable=False, status=Status.CANCELLED)

    def give_back(self, *, reusable: bool, status: Status) -> None:
        """The child goes back to the plan; once."""
        self._end_loan(clean=False, arguments_kept=True)
        self.job.execution.on("ended", status)
        self.dispatcher.finished(self.job, reusable=reusable)

    def _end_loan(self, *, clean: bool, arguments_kept: bool) -> None:
        loan, self.loan = self.loan, None
        if loan is not None:
            loan.close(clean=clean, arguments_kept=arguments_kept)
            if self.exchange is not None:
                for fd in self.exchange.fds:
                    os.close(fd)
                self.exchange.fds.clear()

    def out_of_patience(self) -> errors.RefusedError | None:
        """The queue time-out is over: the refusal, or None if a decision came just now."""
        if not self.dispatcher.withdraw(self.job):
            return None
        self.job.execution.on("refused", Status.REJECTED)
        plan = self.dispatcher.plan
        return errors.RefusedError(
            f"no process was free within queue_timeout={self.work.queue_timeout_s:g} s "
            f"({plan.running} running, {plan.queued} waiting); "
            "try again later, wait longer, or raise pool.max_concurrency",
            retry_after_s=self.work.queue_timeout_s,
        )

    def _reason(self) -> str:
        shelf = self.dispatcher.plan.shelves[self.work.place.id]
        if shelf.forks or self.job.request.mode is Mode.ONESHOT:
            return ""
        return f"an interpreter of its own instead of a fork: {shelf.reason}"

    def _unbegun(self, exchange: Exchange) -> str:
        printed = (exchange.err.text() or exchange.out.text()).strip()
        words = f"; it printed: {printed[-2000:]}" if printed else ""
        return f"its process was lost before the code began, twice{words}"


def drive(dispatcher: Dispatcher, work: Assignment) -> Result:
    """Run an assignment in the calling thread.

    Raises:
        HotbedError: If it was refused, or its environment is broken.
    """
    run = Drive(dispatcher, work, ThreadWaiter)
    try:
        run.submit()
        while True:
            waiter = run.job.waiter
            if isinstance(waiter, ThreadWaiter) and not waiter.wait(work.queue_timeout_s):
                refusal = run.out_of_patience()
                if refusal is not None:
                    raise refusal
                waiter.wait(None)
            exchange = run.start()
            if exchange is None:
                return run.conclude(None)
            verdict = _converse(run, exchange)
            if not run.must_retry():
                break
            # Until the keeper has heard of it, the plan would choose the same nursery again.
            dispatcher.wait_for_death(exchange.link, NEWS_S)
            run.retry()
        if run.needs_news():
            if not exchange.link.is_dead(LINGER_S):
                dispatcher.wait_for_death(exchange.link, LINGER_S)
            if not exchange.link.is_dead(0.0):
                exchange.link.kill()
            else:
                dispatcher.wait_for_death(exchange.link, NEWS_S)
        # What the code wrote before its answer was there when poll told of the answer, so it has
        # been read in the same round, unless there was more than one read takes, or poll told of
        # BEGAN and the answer came in between.
        drained = exchange.closed is Close.ANSWERED and not exchange.announced and not exchange.overflowing
        return run.conclude(verdict, drained=drained)
    except BaseException:
        run.abandon()
        raise


def _converse(run: Drive, exchange: Exchange) -> Verdict | None:
    poll, ready = exchange.link.poll.poll, exchange.ready
    while exchange.closed is None:
        deadline = run.deadline
        wait_ms = None
        if deadline is not None:
            wait_ms = math.ceil(max(0.0, min(deadline - time.monotonic(), LONGEST_WAIT_S)) * 1000.0)
        for fd, events in poll(wait_ms):
            ready(fd, events)
        if exchange.closed is None and (verdict := run.progressed()) is not None:
            return verdict
    run.progressed()  # an answer may have come with the news that its code had begun
    return None
