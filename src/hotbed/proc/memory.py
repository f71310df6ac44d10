"""What a process weighs, from the kernel's own count."""

from __future__ import annotations

import os

import msgspec


class Memory(msgspec.Struct, frozen=True):
    """Bytes of one process.

    resident: pages in memory, shared ones counted whole. proportional: shared pages divided
    among those who share them (PSS), so that sums are true. private: what its end would free.
    """

    resident: int
    proportional: int
    private: int


_FIELDS = {"Rss": 0, "Pss": 1, "Private_Clean": 2, "Private_Dirty": 2}


def memory_of(pid: int) -> Memory | None:
    """The memory of a process of this user, or None if it is gone or another's."""
    totals = [0, 0, 0]
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                name, _colon, rest = line.partition(":")
                if name in _FIELDS:
                    totals[_FIELDS[name]] += int(rest.split()[0]) * 1024
    except (OSError, ValueError):
        return None
    return Memory(*totals)


def memory_of_tree(pid: int) -> int:
    """Bytes that a process and its descendants have in memory, each page counted once (PSS)."""
    total = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        memory = memory_of(one)
        total += memory.proportional if memory is not None else _own_bytes(one)
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as file:
                    waiting += map(int, file.read().split())
        except OSError:
            continue
    return total


def _own_bytes(pid: int) -> int:
    """What a process of another user has for itself, where the kernel does not tell its share."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            _size, resident, shared, *_rest = map(int, file.read().split())
    except (OSError, ValueError):
        return 0
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
