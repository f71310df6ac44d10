"""Processes as the code that started them knows them: by the numbers of a pid namespace of its own."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tests import leftovers

# Put before code that prints what Started.told reads: print(pid, namespace).
NAMESPACE = "import os; namespace = os.readlink('/proc/self/ns/pid')\n"


@dataclass(frozen=True, slots=True)
class Started:
    """A process that code started: its number there, and the namespace that the number is of."""

    number: int
    namespace: str

    @classmethod
    def told(cls, text: str) -> Started:
        """From what the code printed: the number, then the namespace."""
        number, namespace = text.split()
        return cls(int(number), namespace)

    @property
    def pid(self) -> int | None:
        """Its number among the descendants of the tests; None once it is dead."""
        found = (process.pid for process in leftovers.descendants() if _knows_itself_as(process, self))
        return next(found, None)


def wait_gone(started: list[Started], patience_s: float = leftovers.PATIENCE_S) -> list[Started]:
    """Those still alive after `patience_s`."""
    deadline = time.monotonic() + patience_s
    while (alive := [one for one in started if one.pid]) and time.monotonic() < deadline:
        time.sleep(leftovers.STEP_S)
    return alive


def _knows_itself_as(process: leftovers.Process, started: Started) -> bool:
    if process.state == "Z":
        return False
    own = Path(f"/proc/{process.pid}")
    try:
        numbers = next(
            line for line in (own / "status").read_text().splitlines() if line.startswith("NSpid:")
        )
        if int(numbers.split()[-1]) != started.number:
            return False
        # A namespace's name may be used again once it is gone, but then for one that holds only 1 and 2.
        return os.readlink(own / "ns/pid") == started.namespace
    except PermissionError:
        return True  # a namespace that hides its name is none of ours, so it may well be that one
    except (OSError, StopIteration):
        return False  # it ended meanwhile
