"""The clock beside one entrant: takes orders from standard input, answers with times.

Standard library only: this file also runs inside a bare template (rawfork), where nothing of
ours can be imported. One order and one answer are each a line of JSON:

    {"op": "calls", "count": 10, "rest_s": 0.02}     -> {"seconds": [...]}
    {"op": "load", "wall_s": 1.0, "callers": 2}      -> {"seconds": [...], "wall_s": 1.001}
    {"op": "weigh"}                                  -> {"processes": [{"private": ..., ...}]}

End of input ends the loop. An error of the entrant ends the process: half a row is no row.
"""

from __future__ import annotations

import gc
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

WARM_UPS = 3  # untimed calls before "ready", beside whatever the opener did


class Subject:
    """One entrant, opened.

    call: does the row's work once and returns its value; this is what is timed.
    tidy: runs after each call, outside the clock.
    answer: turns a value into JSON data, so that entrants can be held to one answer.
    weigh: the memory of its waiting processes, one dict of byte counts each.
    """

    __slots__ = ("answer", "call", "tidy", "weigh")

    def __init__(
        self,
        call: Callable[[], Any],
        *,
        tidy: Callable[[], object] | None = None,
        answer: Callable[[Any], Any] | None = None,
        weigh: Callable[[], list[dict[str, int]]] | None = None,
    ) -> None:
        self.call = call
        self.tidy = tidy
        self.answer = answer
        self.weigh = weigh


class Line:
    """The descriptors that orders and answers travel on, moved out of user code's reach."""

    def __init__(self) -> None:
        self._orders = os.fdopen(os.dup(0), "rb")
        self._answers = os.dup(1)
        # What an entrant prints is none of the protocol: it goes where stderr goes.
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.close(null)

    def receive(self) -> dict[str, Any] | None:
        """The next order, or None when the other side has hung up."""
        line = self._orders.readline()
        return json.loads(line) if line else None

    def send(self, answer: dict[str, Any]) -> None:
        """Write one answer whole."""
        data = json.dumps(answer).encode() + b"\n"
        while data:
            data = data[os.write(self._answers, data) :]


def serve(line: Line, subject: Subject) -> None:
    """Warm up, report the answer to the row's work, then carry out orders until the input ends."""
    value = None
    if subject.weigh is None:
        for _ in range(WARM_UPS):
            value = subject.call()
            if subject.tidy:
                subject.tidy()
    line.send({"ready": True, "answer": subject.answer(value) if subject.answer else value})
    del value
    gc.collect()
    while (order := line.receive()) is not None:
        if order["op"] == "calls":
            line.send({"seconds": calls(subject, order["count"], order["rest_s"])})
        elif order["op"] == "load":
            line.send(load(subject, order["wall_s"], order["callers"]))
        elif subject.weigh is not None:
            line.send({"processes": subject.weigh()})


def calls(subject: Subject, count: int, rest_s: float) -> list[float]:
    """The seconds of each of `count` calls, one after the other, each after a rest."""
    call, tidy, clock = subject.call, subject.tidy, time.perf_counter
    seconds = []
    for _ in range(count):
        if rest_s:
            time.sleep(rest_s)
        started = clock()
        call()
        seconds.append(clock() - started)
        if tidy:
            tidy()
    return seconds


def load(subject: Subject, wall_s: float, callers: int) -> dict[str, Any]:
    """Call without rest from several threads for a while: all durations, and the wall time.

    One caller uses the main thread: a raw template may not have a second one. The wall time
    ends when the last call that began in time has returned.
    """
    call, clock = subject.call, time.perf_counter
    found: list[list[float]] = [[] for _ in range(callers)]
    troubles: list[BaseException] = []
    until = clock() + wall_s

    def work(mine: list[float]) -> None:
        try:
            while not mine or clock() < until:  # one at least: a rate of zero has no ratio
                started = clock()
                call()
                mine.append(clock() - started)
        except BaseException as error:  # a thread's border: told to the main thread
            troubles.append(error)

    began = clock()
    if callers == 1:
        work(found[0])
    else:
        threads = [threading.Thread(target=work, args=(mine,)) for mine in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    elapsed_s = clock() - began
    if troubles:
        raise troubles[0]
    return {"seconds": [each for mine in found for each in mine], "wall_s": elapsed_s}


def fail(line: Line, error: BaseException) -> NoReturn:
    """Tell the other side why there is nothing to measure, and end."""
    line.send({"failed": f"{type(error).__name__}: {error}"})
    raise SystemExit(1)
