"""One hostile program, and how its execution may end."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from hotbed.attack.guards import Guard
from hotbed.attack.prelude import PRELUDE
from hotbed.model import ErrorKind, Limits, Result, Status

HELD, ESCAPED = "held", "escaped"

# What a case may use unless it says otherwise: little, so that a bomb is over soon.
BASE: dict[str, Any] = {
    "timeout": 10.0,
    "memory": "96M",
    "processes": 32,
    "open_files": 64,
    "disk": "16M",
    "output": "256K",
    "value": "1M",
    "artifacts": "1M",
}
LATE_S = 2.0  # a result is back this long after its time limit, at the latest


class Group(StrEnum):
    """What is attacked."""

    FILES = "files"
    PROCESSES = "processes"
    NETWORK = "network"
    CALLS = "system calls"
    RESOURCES = "resources"
    CHANNEL = "channel"
    LIFE = "life cycle"
    VALUES = "values"
    LEAKS = "leaks"


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A program of strangers' code that tries to break one promise.

    It decides itself: it assigns `result` = "held", or "escaped: " and how. Helpers are in
    prelude.py; `host` says where the canaries are (canaries.py).

    law: what must not happen, in one sentence.
    needs: the promises it tests; it counts only where all of them are kept.
    ends: the statuses it may end with, where an answer of "held" is not the only good end.
    kinds: which errors those may be; any, if there are none.
    then: a second program, run afterwards in several executions, which must answer "held".
    artifacts: the names of the files that must come back; None if it does not matter.
    limits: what differs from BASE.
    network: hosts of an allow-list, instead of no network.
    wall_s: seconds within which the result is back; by default the time limit and LATE_S.
    bare: the program is run without the helpers, as it stands.
    harmless: it may be run where nothing holds it.
    """

    name: str
    group: Group
    law: str
    needs: tuple[Guard, ...]
    code: str
    ends: tuple[Status, ...] = ()
    kinds: tuple[ErrorKind, ...] = ()
    then: str = ""
    artifacts: tuple[str, ...] | None = None
    limits: Mapping[str, Any] = {}
    network: tuple[str, ...] = ()
    files: Mapping[str, bytes] = {}
    wall_s: float = 0.0
    bare: bool = False
    harmless: bool = True

    @property
    def program(self) -> str:
        """The source text to run."""
        return self.code if self.bare else PRELUDE + textwrap.dedent(self.code)

    @property
    def next_program(self) -> str:
        """The source text to run afterwards."""
        return PRELUDE + textwrap.dedent(self.then)

    @property
    def bounds(self) -> Limits:
        """The limits it runs with."""
        fields = {**BASE, **self.limits}
        if self.network:
            fields["network"] = self.network
        return Limits(**fields)

    @property
    def within_s(self) -> float:
        """Seconds within which its result must be back."""
        return self.wall_s or (self.bounds.timeout or 0.0) + LATE_S

    def fault(self, result: Result) -> str:
        """What is wrong with how it ended; "" if it was held."""
        if isinstance(result.value, str) and result.value.startswith(ESCAPED):
            return result.value
        if not self.ends:
            good = result.status is Status.OK and result.value == HELD
        else:
            good = result.status in self.ends
            if result.error is not None and self.kinds:
                good = good and result.error.kind in self.kinds
        return "" if good else f"ended as {describe(result)}"


def describe(result: Result) -> str:
    """How an execution ended, in one line."""
    text = f"{result.status} with value {result.value!r:.80}"
    if result.error is not None:
        last = result.error.traceback.strip().splitlines()[-3:]
        text = f"{result.status} ({result.error.kind}: {result.error.message[:300]}) {' | '.join(last)}"
    return text
