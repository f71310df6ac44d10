"""Makes a Result of an exchange that is over."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

import msgspec

from hotbed.core import classify
from hotbed.core.classify import Answer, Verdict
from hotbed.core.frames import Frame, ProtocolError
from hotbed.engine.job import Job
from hotbed.engine.place import Place
from hotbed.model import Artifact, ErrorInfo, ErrorKind, Limits, Mode, Result, Status, Timing, Usage
from hotbed.proc.arena import Loan
from hotbed.proc.exchange import Close, Exchange
from hotbed.proc.link import Link

_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # the scanner, undeclared

SIMPLE_BYTES = 1024**2  # a value of so many is made in milliseconds, whatever it holds
# Lists and dicts of a value: each costs the caller's process 50 times its two bytes, and a microsecond.
MOST_CONTAINERS = 2_000_000

ORPHANED = (
    "its process went down with its template or launcher, which somebody killed, while the code "
    "ran; it may have run in part and was not repeated"
)


class Outcome(msgspec.Struct, frozen=True):
    """What an exchange came to."""

    verdict: Verdict
    answer: Answer | None = None
    value: Any = None
    artifacts: tuple[Artifact, ...] = ()


def outcome_of(
    exchange: Exchange, limits: Limits, loan: Loan | None, *, own_memory_limit: bool = False
) -> Outcome:
    """How an exchange that closed by itself is to be read.

    With `own_memory_limit` the process had a limit on its data: the kernel said no to it in the
    form of a MemoryError, instead of killing it and counting that.
    """
    why, frame = exchange.closed, exchange.answer
    if why is Close.ANSWERED and frame is not None:
        outcome = _answered(exchange, frame, limits, loan)
        error = outcome.verdict.error
        if own_memory_limit and error is not None and error.name == "MemoryError":
            return Outcome(classify.out_of_memory(limits.memory_bytes), outcome.answer)
        return outcome
    if why is Close.VALUE_TOO_LARGE:
        return Outcome(classify.too_large(exchange.problem, limits.value_bytes, "value"))
    if why is Close.OUTPUT_TOO_LARGE:
        return Outcome(classify.too_large(exchange.problem, limits.output_bytes, "output"))
    if why is Close.VIOLATED:
        return Outcome(classify.violated(exchange.problem))
    return Outcome(_ended(exchange.link, limits))


def _answered(exchange: Exchange, frame: Frame, limits: Limits, loan: Loan | None) -> Outcome:
    try:
        answer = classify.decode_answer(frame.meta)
        body, found = classify.split_body(answer, frame.body)
        if len(body) > limits.value_bytes:
            return Outcome(classify.too_large(f"a value of {len(body)} bytes", limits.value_bytes, "value"))
        if (
            loan is None
            and len(body) > SIMPLE_BYTES
            and body.count(b"[") + body.count(b"{") > MOST_CONTAINERS
        ):
            return Outcome(classify.too_intricate(MOST_CONTAINERS))
        value = _value_of(answer, body, exchange, loan)
    except StopIteration:
        return Outcome(classify.violated("a value that is no JSON"))
    except (ProtocolError, json.JSONDecodeError, UnicodeDecodeError) as error:
        return Outcome(classify.violated(str(error)))
    except _UnreadableError as error:
        return Outcome(Verdict(Status.ERROR, error.info, 1), answer)
    artifacts = tuple(Artifact(name, data) for name, data in found)
    return Outcome(classify.answered(answer), answer, value, artifacts)


def _containers(body: bytes | bytearray) -> int:
    """How many lists and dicts a JSON text may hold; those in its strings are counted too."""
    return body.count(b"[") + body.count(b"{")


def _ended(link: Link, limits: Limits) -> Verdict:
    if link.orphaned:
        return classify.lost(ORPHANED)
    if link.out_of_memory:
        return classify.out_of_memory(limits.memory_bytes)
    if link.wait_status is None:
        return classify.ended(None)
    try:
        exit_code = os.waitstatus_to_exitcode(link.wait_status)
    except ValueError:  # no status of an ended process: its template is not ours any more
        return classify.lost(ORPHANED)
    if limits.cpu_time is not None and (
        exit_code == -signal.SIGXCPU  # or it ignored that, and was killed a second later
        or (exit_code == -signal.SIGKILL and link.cpu_s > limits.cpu_time)
    ):
        return classify.out_of_cpu(limits.cpu_time)
    return classify.ended(exit_code, _signal_name(-exit_code))


class _UnreadableError(Exception):
    """A value that this process cannot make again."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        message = (
            f"the value cannot be read here: {type(cause).__name__}: {cause}; "
            "return plainer data, or objects of modules that this process can import"
        )
        self.info = ErrorInfo(ErrorKind.NOT_SERIALIZABLE, "NotSerializableError", message)


def _from_json(text: str) -> Any:
    """What json.loads gives; a child of ours writes no space around a value."""
    try:
        value, end = _scan(text, 0)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:  # too many digits, or nested too deeply, for here
        raise _UnreadableError(error) from None
    if end != len(text):
        raise ProtocolError("characters after a JSON value")
    return value


def _value_of(answer: Answer, body: Any, exchange: Exchange, loan: Loan | None) -> Any:
    if not body:
        return None
    if loan is None or answer.shared is None:
        return _from_json(str(body, "ascii"))
    try:
        return loan.value(answer.shared, body, exchange.fds)
    except ProtocolError:
        raise
    except Exception as error:  # unpickling runs the value's own methods
        raise _UnreadableError(error) from None


def result_of(
    job: Job,
    place: Place,
    started: float,
    outcome: Outcome,
    *,
    exchange: Exchange | None = None,
    reason: str = "",
) -> Result:
    """All that is known of an execution."""
    now = time.monotonic()
    verdict, answer = outcome.verdict, outcome.answer
    link = exchange.link if exchange is not None else None
    mode = job.request.mode
    return Result(
        id=job.id,
        status=verdict.status,
        mode=mode,
        environment=place.environment.name,
        value=outcome.value,
        text=answer.text if answer is not None else "",
        stdout=exchange.out.text() if exchange is not None else "",
        stderr=exchange.err.text() if exchange is not None else "",
        error=verdict.error,
        exit_code=verdict.exit_code,
        reason=reason,
        artifacts=outcome.artifacts,
        left_out=tuple(answer.left_out) if answer is not None else (),
        isolation=place.isolation,
        timing=Timing(
            queue=job.leased_at - job.submitted_at,
            start=job.began_at - job.leased_at,
            import_=answer.import_s if answer is not None else 0.0,
            run=answer.run_s if answer is not None else max(0.0, now - job.began_at),
            total=now - started,
        ),
        usage=Usage(answer.cpu_s, answer.peak_bytes) if answer is not None else None,
        worker=int(link.child) if link is not None and mode is Mode.WORKER else None,
        pid=link.pid if link is not None else None,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or none
        return f"signal {number}"
