"""What an execution came to, from what its child sent or how it ended.

Pure. The child's answer is taken at its word about the user's code; about everything else the
kernel's word counts.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from hotbed.core.frames import ProtocolError
from hotbed.model import ErrorInfo, ErrorKind, Status
from hotbed.seed.files import MAX_FILES
from hotbed.seed.imports import MOST_NAMES

SIGKILL = 9


class SharedResult(msgspec.Struct):
    """Where a trusted child has put its value's large buffers; `layout` is [offset, size] each."""

    layout: list[list[int]]
    new: bool
    kept: bool


class Answer(msgspec.Struct):
    """The meta of an ANSWER frame, as seed/perform.py writes it."""

    status: str
    error: ErrorInfo | None
    text: str
    exit_code: int
    import_s: float
    run_s: float
    cpu_s: float
    peak_bytes: int
    imports: Annotated[list[str], msgspec.Meta(max_length=MOST_NAMES)]
    shared: SharedResult | None = None
    # Name and bytes, one after the other behind the value.
    artifacts: Annotated[list[tuple[str, int]], msgspec.Meta(max_length=MAX_FILES)] = []
    left_out: Annotated[list[str], msgspec.Meta(max_length=MAX_FILES)] = []
    value_bytes: int | None = None  # all of the body, if there are no artifacts


# The engine alone knows of the others.
_OF_A_CHILD = frozenset({ErrorKind.RAISED, ErrorKind.REQUEST, ErrorKind.NOT_SERIALIZABLE})
_answers = msgspec.json.Decoder(Answer)


class Verdict(msgspec.Struct, frozen=True):
    """Status, and the error that explains it."""

    status: Status
    error: ErrorInfo | None = None
    exit_code: int | None = 0


def decode_answer(meta: bytes) -> Answer:
    """The answer's meta.

    Raises:
        ProtocolError: If it is not what a child of ours would send.
    """
    try:
        answer = _answers.decode(meta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"an answer that cannot be read: {error}") from None
    if answer.error is not None and answer.error.kind not in _OF_A_CHILD:
        raise ProtocolError(f"an answer that blames the engine: {answer.error.kind}")
    return answer


def answered(answer: Answer) -> Verdict:
    """The child has answered."""
    if answer.error is None:
        return Verdict(Status.OK, None, 0)
    return Verdict(Status.ERROR, answer.error, answer.exit_code or 1)


def timed_out(timeout_s: float) -> Verdict:
    """The engine killed it at its deadline."""
    return Verdict(
        Status.TIMEOUT,
        _error(
            ErrorKind.TIMEOUT,
            "TimeoutError",
            f"the code ran longer than its limit of {timeout_s:g} s and was killed; "
            "raise `timeout`, or give the code less to do",
        ),
        -SIGKILL,
    )


def out_of_memory(limit_bytes: int | None) -> Verdict:
    """The kernel counted that processes of it were killed for using more memory than allowed."""
    limit = "what the host has left" if limit_bytes is None else f"its limit of {limit_bytes} bytes"
    return Verdict(
        Status.MEMORY,
        _error(
            ErrorKind.MEMORY,
            "OutOfMemoryError",
            f"the code used more memory than {limit} and was killed; raise Limits(memory=...), or hold less",
        ),
        -SIGKILL,
    )


def out_of_cpu(limit_s: float) -> Verdict:
    """The kernel ended it at its limit of CPU time."""
    return Verdict(
        Status.TIMEOUT,
        _error(
            ErrorKind.TIMEOUT,
            "TimeoutError",
            f"the code used more CPU time than its limit of {limit_s:g} s and was killed; "
            "raise Limits(cpu_time=...), or give it less to do",
        ),
        -SIGKILL,
    )


def split_body(answer: Answer, body: bytes | bytearray) -> tuple[bytes | bytearray, list[tuple[str, bytes]]]:
    """The value's bytes and the artifacts of an answer's body.

    Raises:
        ProtocolError: If names or sizes are not what a child of ours would send.
    """
    if not answer.artifacts:
        return body, []
    at = answer.value_bytes if answer.value_bytes is not None else len(body)
    value, found = body[:at], []
    for name, size in answer.artifacts:
        parts = name.split("/")
        if size < 0 or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise ProtocolError(f"an artifact of the name {name!r}")
        found.append((name, bytes(body[at : at + size])))
        at += size
    if at != len(body) or (answer.value_bytes or 0) < 0:
        raise ProtocolError("artifacts of other sizes than announced")
    return value, found


def cancelled(why: str) -> Verdict:
    """It was ended on request; `why` says on whose."""
    return Verdict(Status.CANCELLED, _error(ErrorKind.CANCELLED, "CancelledError", why), None)


def too_large(what: str, limit_bytes: int, field: str) -> Verdict:
    """It wrote or returned more than it may."""
    return Verdict(
        Status.ERROR,
        _error(
            ErrorKind.OUTPUT_TOO_LARGE,
            "OutputTooLargeError",
            f"{what} exceeds the limit of {limit_bytes} bytes and the code was ended; "
            f"write less, or raise Limits({field}=...)",
        ),
        -SIGKILL,
    )


def too_intricate(most: int) -> Verdict:
    """Its value holds more lists and dicts than a caller can be given in time."""
    return Verdict(
        Status.ERROR,
        _error(
            ErrorKind.OUTPUT_TOO_LARGE,
            "OutputTooLargeError",
            f"the value holds more than {most} lists and dicts; return fewer, or as bytes or a file",
        ),
        1,
    )


def violated(problem: str) -> Verdict:
    """The process wrote something on its channel that is no answer."""
    return Verdict(
        Status.CRASHED,
        _error(
            ErrorKind.CRASHED,
            "CrashedError",
            f"the process broke the protocol: {problem}; the code must not touch descriptors it did not open",
        ),
        None,
    )


def ended(exit_code: int | None, signal_name: str = "") -> Verdict:
    """The process ended, or closed its channel, without an answer.

    `exit_code` is -N for signal N, whose name comes with it; None if the process had not ended
    shortly afterwards.
    """
    if exit_code is None:
        problem = "the code closed the channel to the engine and ran on, so its process was killed"
    elif exit_code < 0:
        problem = f"its process was ended by {signal_name}"
        if exit_code == -SIGKILL:
            problem += " (by the code itself, the kernel's out-of-memory killer or an administrator)"
    else:
        problem = f"its process left with status {exit_code} without finishing the code (os._exit)"
    return Verdict(Status.CRASHED, _error(ErrorKind.CRASHED, "CrashedError", problem), exit_code)


def lost(reason: str) -> Verdict:
    """The process went down with something of ours; the code may have run in part."""
    return Verdict(Status.CRASHED, _error(ErrorKind.LOST, "ChildLostError", reason), None)


def _error(kind: ErrorKind, name: str, message: str) -> ErrorInfo:
    return ErrorInfo(kind=kind, name=name, message=message)
