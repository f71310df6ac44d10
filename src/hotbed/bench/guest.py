"""The process of one entrant as the benchmark sees it: start, order, answer, end.

Law: every wait has a deadline, and whatever a guest started ends with it.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from hotbed.bench.host import COMMAND
from hotbed.bench.row import Entrant

READY_LIMIT_S = 90.0
ORDER_LIMIT_S = 90.0
END_LIMIT_S = 10.0  # an engine or a pool closes its processes in much less
READ_SIZE = 1 << 16


_PATH = re.compile(r"(?<![\w.])/[^\s:'\"]+/[^\s:'\"]*")


class GuestError(Exception):
    """A guest could not be opened, failed at its work, or did not answer in time."""


def without_paths(message: str) -> str:
    """The first and the last line of a message, without paths: it goes into a published report."""
    lines = [line.strip() for line in message.strip().splitlines()] or [""]
    text = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
    return _PATH.sub("<path>", text)


def command(entrant: Entrant) -> list[str]:
    """How an ordinary entrant's process is started: without warnings, without the current directory."""
    options = json.dumps(dict(entrant.options))
    return [sys.executable, "-P", "-W", "ignore", "-c", COMMAND, entrant.opener, options]


class Guest:
    """One running entrant process; owned by whoever made it, who closes it."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._errors = tempfile.TemporaryFile(prefix="hotbed-bench-")  # noqa: SIM115 -- closed in close()
        self._process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            # A group of its own: what the entrant forked goes with it.
            process_group=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders = self._process.stdin
        self._answers = self._process.stdout
        self._pidfd = os.pidfd_open(self._process.pid)
        self._pending = b""

    def wait_ready(self) -> Any:
        """The entrant's answer to the row's work, given when it is open and warm.

        Raises:
            GuestError: If it failed to open, or gave nothing in READY_LIMIT_S.
        """
        return self.receive(READY_LIMIT_S)["answer"]

    def send(self, order: dict[str, Any]) -> None:
        """Give one order; its answer must be received before the next.

        Raises:
            GuestError: If the process has ended.
        """
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
            self._orders.flush()
        except OSError:
            raise GuestError(self._why("ended")) from None

    def receive(self, limit_s: float = ORDER_LIMIT_S) -> dict[str, Any]:
        """The next answer.

        Raises:
            GuestError: If the guest reports a failure, ends, or is silent for `limit_s`.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._pending:
            # The pipe alone would not tell: children of a dead guest hold its other end open.
            readable, _, _ = select.select(
                [self._answers.fileno(), self._pidfd], [], [], max(0.0, deadline - time.monotonic())
            )
            if self._answers.fileno() in readable:
                data = os.read(self._answers.fileno(), READ_SIZE)
                self._pending += data
                if data:
                    continue
            raise GuestError(self._why("ended" if readable else f"gave no answer in {limit_s:.0f} s"))
        line, _, self._pending = self._pending.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise GuestError(without_paths(answer["failed"]))
        return answer

    def errors(self) -> str:
        """What the guest wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def _why(self, what: str) -> str:
        lines = self.errors().strip().splitlines()
        return without_paths(f"{what}: {lines[-1]}" if lines else what)

    def close(self) -> None:
        """Let it end by itself, kill what has not, reap it. May be called twice."""
        if self._errors.closed:
            return
        try:
            self._orders.close()
        except OSError:
            pass  # it ended before it read everything
        try:
            self._process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)  # what it left behind, or it all
            except ProcessLookupError:
                pass
            self._process.wait()
            os.close(self._pidfd)
            self._answers.close()
            self._errors.close()
