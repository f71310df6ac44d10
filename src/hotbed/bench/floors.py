"""What the work costs without an engine: a bare socket, a warm process, a plain `python file`."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hotbed.bench import weigh, work
from hotbed.bench.arrays import digest
from hotbed.bench.loop import Subject
from hotbed.bench.peers import arguments
from hotbed.bench.scenario import program

PING = bytes(96)  # about the length of a small request


@contextmanager
def ping() -> Iterator[Subject]:
    """One message to a forked process and back: no queue, no encoding, no work."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            while data := theirs.recv(256):
                theirs.send(data)
        finally:
            os._exit(0)
    theirs.close()

    def call() -> None:
        ours.send(PING)
        ours.recv(256)

    try:
        yield Subject(call)
    finally:
        ours.close()
        os.waitpid(pid, 0)


@contextmanager
def function(name: str, args: list[Any] | None) -> Iterator[Subject]:
    """A function of work.py called in this very process."""
    target, given = getattr(work, name), arguments(args)
    yield Subject(lambda: target(*given), answer=digest if args is None else None)


@contextmanager
def warm(code: str, data: Any, preload: list[str], warmup: str) -> Iterator[Subject]:
    """A program compiled once and executed in this process: the ceiling of any engine."""
    for name in preload:
        importlib.import_module(name)
    compiled = compile(code, "<scenario>", "exec", dont_inherit=True)

    def call() -> Any:
        space = {"data": data}
        exec(compiled, space)
        return space["result"]

    yield Subject(call)


@contextmanager
def direct(code: str, data: Any, preload: list[str], warmup: str) -> Iterator[Subject]:
    """`python file` for each call, input on stdin and value on stdout."""
    with _script(program(code, reads=data is not None)) as path:
        yield _interpreter([str(path)], data)


@contextmanager
def direct_provider(args: list[Any]) -> Iterator[Subject]:
    """`python file` for each call of the provider: what a host without an engine does."""
    code = f"""
    import importlib.util
    spec = importlib.util.spec_from_file_location("provider", {work.__file__!r})
    provider = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(provider)
    result = provider.call_api(*data)
    """
    with _script(program(code, reads=True)) as path:
        yield _interpreter([str(path)], args)


@contextmanager
def command(code: str) -> Iterator[Subject]:
    """`python -c` for each call."""
    yield _interpreter(["-c", program(code, reads=False)], None)


@contextmanager
def _script(text: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hotbed-bench-") as directory:
        path = Path(directory, "scenario.py")
        path.write_text(text)
        yield path


def _interpreter(arguments: list[str], data: Any) -> Subject:
    argv = [sys.executable, *arguments]

    def call() -> Any:
        text = None if data is None else json.dumps(data)  # as an engine must, at each call
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return Subject(call)


@contextmanager
def idle_interpreter(preload: list[str]) -> Iterator[Subject]:
    """An interpreter of its own with the modules imported, waiting for its input to end."""
    imports = "".join(f"import {name}\n" for name in preload)
    argv = [sys.executable, "-c", f"import sys\n{imports}print(flush=True)\nsys.stdin.read()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        yield Subject(lambda: None, weigh=lambda: [weigh.process(waiting.pid)])
        # Leaving the with block closes its stdin, and so ends it.
