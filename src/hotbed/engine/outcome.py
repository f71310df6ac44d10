"""Makes a Result of an exchange that is over."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from hotbed.core import classify
from hotbed.core.classify import Answer, Verdict
from hotbed.core.frames import Frame, ProtocolError
from hotbed.engine.job import Job
from hotbed.engine.place import Place
from hotbed.model import ErrorInfo, ErrorKind, Limits, Mode, Result, Status, Timing, Usage
from hotbed.proc.arena import Loan
from hotbed.proc.exchange import Close, Exchange

_scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # the scanner, undeclared

ORPHANED = (
    "its process went down with its template or launcher, which somebody killed, while the code "
    "ran; it may have run in part and was not repeated"
)


def verdict_of(exchange: Exchange, limits: Limits, loan: Loan | None) -> tuple[Verdict, Answer | None, Any]:
    """How an exchange that closed by itself is to be read: verdict, answer and value."""
    why, frame = exchange.closed, exchange.answer
    if why is Close.ANSWERED and frame is not None:
        try:
            answer = classify.decode_answer(frame.meta)
            value = _value_of(answer, frame, exchange, loan)
        except (ProtocolError, json.JSONDecodeError, UnicodeDecodeError, StopIteration) as error:
            return classify.violated(str(error)), None, None
        except _UnreadableError as error:
            return Verdict(Status.ERROR, error.info, 1), answer, None
        return classify.answered(answer), answer, value
    if why is Close.VALUE_TOO_LARGE:
        return classify.too_large(exchange.problem, limits.value_bytes, "value"), None, None
    if why is Close.OUTPUT_TOO_LARGE:
        return classify.too_large(exchange.problem, limits.output_bytes, "output"), None, None
    if why is Close.VIOLATED:
        return classify.violated(exchange.problem), None, None
    link = exchange.link
    if link.orphaned:
        return classify.lost(ORPHANED), None, None
    if link.wait_status is None:
        return classify.ended(None), None, None
    exit_code = os.waitstatus_to_exitcode(link.wait_status)
    return classify.ended(exit_code, _signal_name(-exit_code)), None, None


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


def _value_of(answer: Answer, frame: Frame, exchange: Exchange, loan: Loan | None) -> Any:
    if not frame.body:
        return None
    if loan is None or answer.shared is None:
        return _from_json(str(frame.body, "ascii"))
    try:
        return loan.value(answer.shared, frame.body, exchange.fds)
    except ProtocolError:
        raise
    except Exception as error:  # unpickling runs the value's own methods
        raise _UnreadableError(error) from None


def result_of(
    job: Job,
    place: Place,
    started: float,
    verdict: Verdict,
    *,
    answer: Answer | None = None,
    value: Any = None,
    exchange: Exchange | None = None,
    reason: str = "",
) -> Result:
    """All that is known of an execution."""
    now = time.monotonic()
    link = exchange.link if exchange is not None else None
    mode = job.request.mode
    return Result(
        id=job.id,
        status=verdict.status,
        mode=mode,
        environment=place.environment.name,
        value=value,
        text=answer.text if answer is not None else "",
        stdout=exchange.out.text() if exchange is not None else "",
        stderr=exchange.err.text() if exchange is not None else "",
        error=verdict.error,
        exit_code=verdict.exit_code,
        reason=reason,
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
