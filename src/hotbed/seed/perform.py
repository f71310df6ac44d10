"""One execution inside its process: decode, run, encode, answer.

Law: whatever user code does short of ending the process, exactly one ANSWER frame leaves.
The functions it needs are bound before user code runs.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import resource
import sys
import time
import types
from typing import Any, Protocol

from . import call, capture, files, imports, report, reseed, run, values, wire
from .sandbox import rlimits

Outcome = run.Outcome
_perf_counter = time.perf_counter
_getpid, _exit, _write = os.getpid, os._exit, os.write
_getrusage = resource.getrusage


_home = "/"
_private = False


class Codec(Protocol):
    """How the inputs of one request are read and its value is sent."""

    def inputs(self, request: dict[str, Any], body: Any) -> dict[str, Any]: ...

    def encode(self, value: Any) -> bytes: ...

    def send(self, channel: wire.Channel, meta: dict[str, Any], value: bytes) -> None: ...


def at_home(directory: str, *, private: bool) -> None:
    """Say where executions start; a worker returns there after each.

    A `private` directory is this process's own: it is made again if the code removed it.
    """
    global _home, _private
    _home, _private = directory, private


def answer(channel: wire.Channel, frame: wire.Frame, *, persistent: bool) -> None:
    """Perform one request and send its answer."""
    request = wire.decode(frame.meta)
    if frame.kind == wire.ANNOUNCED_REQUEST:
        channel.send(wire.BEGAN)
    codec = _codec(channel, request)
    pid = _getpid()
    meta, value = perform(request, frame.body, codec, persistent=persistent)
    if _getpid() != pid:
        # The code forked, and this is the copy: one process answers, the one that was asked.
        _leave(meta)
    codec.send(channel, meta, value)


def _leave(meta: dict[str, Any]) -> None:
    """End as a forked copy of a program would: with its traceback and its status."""
    if meta["error"] is not None and meta["error"]["name"] != "SystemExit":
        _write(2, meta["error"]["traceback"].encode("utf-8", "replace"))
    _exit(meta["exit_code"])


def _codec(channel: wire.Channel, request: dict[str, Any]) -> Codec:
    if request["codec"] == "json":
        return values.Json()
    from . import shared  # loaded ahead where the environment is trusted; nowhere else is it asked for

    assert isinstance(channel, shared.SharingChannel)
    return shared.Pickle(channel, request["buffers"])


def perform(
    request: dict[str, Any], body: Any, codec: Codec, *, persistent: bool
) -> tuple[dict[str, Any], bytes]:
    """Run a request and give its answer: meta and encoded value."""
    variables = request["env"]
    saved = {name: os.environ.get(name) for name in variables} if persistent else {}
    before = _getrusage(resource.RUSAGE_SELF)
    if variables:
        os.environ.update(variables)
    if request["seed"] is not None:
        reseed.from_number(request["seed"])
    capture.install()
    limit_artifacts: int | None = request.get("artifacts")
    unwritten: Outcome | None = None
    if limit_artifacts is not None:
        if request["files"]:
            unwritten = _write_files(request, body)
        marks = _marks()
    if "rlimits" in request:
        _limit(request["rlimits"], persistent=persistent)
    imports.begin()
    started = _perf_counter()
    try:
        outcome = unwritten or _attempt(request, body, codec)
        if not persistent:
            atexit._run_exitfuncs()  # those of the user's code: the template's are gone
    except BaseException as error:  # the border: nothing of user code passes it
        outcome = run.failed(error)
    elapsed_s = _perf_counter() - started
    import_s, named = imports.seen()
    meta, value = _encode(outcome, codec)
    if limit_artifacts is not None:
        fields, tail = _artifacts(marks, limit_artifacts)
        meta.update(fields)
        if tail:
            meta["value_bytes"] = len(value)
            value += tail
    capture.flush()
    after = _getrusage(resource.RUSAGE_SELF)
    meta["import_s"] = import_s
    meta["run_s"] = max(0.0, elapsed_s - import_s)
    meta["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    meta["peak_bytes"] = after.ru_maxrss * 1024
    meta["imports"] = [report.readable(name) for name in named]
    if persistent:
        _restore(saved)
        if request["op"] == "run":
            sys.modules["__main__"] = types.ModuleType("__main__")  # lets go of the run's globals
        if request["seed"] is not None:
            reseed.forget()
    return meta, value


def _marks() -> dict[str, tuple[int, int, int]]:
    try:
        return files.marks(_home)
    except BaseException:  # code that a worker ran before has seen to it
        return {}


def _artifacts(marks: dict[str, tuple[int, int, int]], limit_bytes: int) -> tuple[dict[str, Any], bytes]:
    """What the code left; an audit hook of its own, or a replaced builtin, can keep us from it."""
    try:
        return files.answer_parts(files.collect(_home, marks, limit_bytes))
    except BaseException as error:
        return {"artifacts": [], "left_out": [report.readable(f"all: {type(error).__name__}")]}, b""


def _write_files(request: dict[str, Any], body: Any) -> Outcome | None:
    """Write the given files; what it came to, if they cannot be written."""
    try:
        files.write(request["files"], memoryview(body)[request["inputs_bytes"] :])
    except OSError as error:
        message = f"files cannot be written: {error}; give fewer, or raise Limits(disk=...)"
        return Outcome(error=report.plain("RequestError", message, kind="request"), exit_code=2)
    return None


def _limit(fields: dict[str, Any], *, persistent: bool) -> None:
    """Put this execution's limits on the process; a worker has those of each in turn."""
    cpu_s, data = fields["cpu_s"], fields["data"]
    apply = rlimits.apply_for_now if persistent else rlimits.apply
    apply(
        rlimits.Rlimits(
            cpu_s=None if cpu_s is None else rlimits.cpu_allowance(cpu_s),
            processes=fields["processes"],
            open_files=fields["open_files"],
            file_size=fields["file_size"],
            data=None if data is None else rlimits.data_allowance(data),
        )
    )


def _attempt(request: dict[str, Any], body: Any, codec: Codec) -> Outcome:
    inputs = codec.inputs(request, body)
    if request["op"] == "call":
        return call.call(request, inputs)
    return run.run(request["code"], inputs)


def _encode(outcome: Outcome, codec: Codec) -> tuple[dict[str, Any], bytes]:
    """The answer's meta and its encoded value; a value that is no data becomes an error."""
    meta: dict[str, Any] = {"status": "ok", "error": None, "text": "", "exit_code": outcome.exit_code}
    value = b""
    error = outcome.error
    if error is None and outcome.present:
        try:
            value = codec.encode(outcome.value)
        except values.NotSerializableError as problem:
            if outcome.promised:
                error = report.plain("NotSerializableError", str(problem), kind="not_serializable")
        if error is None and outcome.wants_text:
            meta["text"] = report.readable(values.text(outcome.value, len(value)))
    if error is not None:
        meta["status"] = "error"
        meta["error"] = error
    return meta, value


def _restore(saved: dict[str, str | None]) -> None:
    for name, value in saved.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        if _private:
            os.chmod(_home, 0o700)  # the code may have closed it
        os.chdir(_home)
    except OSError:  # the code removed it, or put something else in its place
        if _private:
            with contextlib.suppress(OSError):
                os.makedirs(_home, 0o700)
                os.chdir(_home)
    sys.argv = [""]
