"""What can go wrong, by whose fault it is.

    HotbedError
      RequestError              the caller's: the request is malformed
      RefusedError              policy: the queue is full, the engine is closing
      ExecutionError            the user code's
        RaisedError               it raised an exception
        ExecutionTimeoutError     it ran too long (also TimeoutError)
        OutOfMemoryError          it used more memory than it may (also MemoryError)
        CrashedError              its process ended without an answer (also BrokenExecutor)
        CancelledError            the caller ended it
        OutputTooLargeError       it wrote or returned more than its limit
        NotSerializableError      its value is no data
      EngineError               ours
        EnvironmentBrokenError    an environment cannot be made ready
        TemplateDiedError         a template ended again and again
        ChildLostError            a process was lost before or while it ran the code

Law: a message says what happened, with which value, and what to do next.
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hotbed.model import Result


class HotbedError(Exception):
    """Base of every error of hotbed."""


class RequestError(HotbedError, ValueError):
    """The request cannot be carried out as it stands; the message names the field."""


class RefusedError(HotbedError):
    """The engine declines by policy; nothing was run.

    `retry_after_s` estimates when a second try may succeed; None when it never will.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExecutionError(HotbedError):
    """The user's code did not end well; `result` holds all that is known of it."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[type[ExecutionError], tuple[str, Result]]:
        return type(self), (str(self), self.result)


class RaisedError(ExecutionError):
    """The code raised an exception; the message ends with its traceback."""


class ExecutionTimeoutError(ExecutionError, TimeoutError):
    """The code ran longer than its `timeout` and was killed."""


class OutOfMemoryError(ExecutionError, MemoryError):
    """The code's processes used more memory than its limit; the kernel killed them."""


class CrashedError(ExecutionError, BrokenExecutor):
    """The code's process ended without an answer: os._exit, a fatal signal, a closed channel."""


class CancelledError(ExecutionError):
    """The caller cancelled the execution."""


class OutputTooLargeError(ExecutionError):
    """The code wrote or returned more than its limit allows; it was killed."""


class NotSerializableError(ExecutionError):
    """The code's value has no form as data."""


class EngineError(HotbedError):
    """The engine could not do its part; the user's code is not to blame."""


class EnvironmentBrokenError(EngineError):
    """An environment cannot be made ready: its interpreter or a preloaded package fails."""


class TemplateDiedError(EngineError):
    """An environment's template ended again and again."""


class ChildLostError(EngineError):
    """The process of an execution was lost by no act of its code; it may have run in part."""
