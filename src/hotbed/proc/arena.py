"""Shared memory that trusted executions borrow, and a loan of it.

Law: an arena is in one loan's hands, or in those of the arrays that were made of it, or free.
Arenas are kept: their pages are there already, which is most of their price.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from collections import deque
from typing import Any

from hotbed.core.classify import SharedResult
from hotbed.core.frames import ProtocolError
from hotbed.seed import shared

KEEP_BYTES = 256 * 1024**2  # of free arenas; more is given back to the system


_forks = 0  # of this process so far: each may hold views of arenas that were out then


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(before=_count_fork)


class FreeArena:
    """A memfd and its size; mapped by whoever uses it."""

    __slots__ = ("fd", "mapping", "size")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self.mapping: shared.Arena | None = None  # kept by arenas that arguments are written to

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.fd)


class ArenaPool:
    """Free arenas. Lock-free: they come back in finalizers, which may run inside any call."""

    def __init__(self) -> None:
        self._free: deque[FreeArena] = deque()
        self._closed = False

    def take(self, size: int) -> FreeArena:
        """A free arena of at least `size` bytes, the tightest there is, or a new one."""
        fitting = sorted((arena for arena in list(self._free) if arena.size >= size), key=_size)
        for arena in fitting:
            with contextlib.suppress(ValueError):  # another thread was quicker
                self._free.remove(arena)
                return arena
        return FreeArena(shared.new_arena(size))

    def give(self, arena: FreeArena) -> None:
        """Take an arena back; nobody looks at it any more."""
        if self._closed or sum(map(_size, list(self._free))) + arena.size > KEEP_BYTES:
            arena.close()
        else:
            self._free.append(arena)

    def give_unless_forked(self, arena: FreeArena, forks: int) -> None:
        """Take an arena back, unless a fork of this process may still look at it."""
        if forks == _forks:
            self.give(arena)
        else:
            arena.close()

    def close(self) -> None:
        """Close what is free now and what comes back later."""
        self._closed = True
        while self._free:
            self._free.popleft().close()


def _size(arena: FreeArena) -> int:
    return arena.size


class Loan:
    """The arenas of one execution."""

    def __init__(self, pool: ArenaPool, dumped: shared.Dump, result_bytes: int) -> None:
        """Write the arguments' buffers; `result_bytes` is what the result will probably take."""
        self._pool = pool
        self._arguments = pool.take(dumped.size) if dumped.size else None
        self._result = pool.take(result_bytes) if result_bytes else None
        if self._arguments is not None:
            arena = self._arguments
            if arena.mapping is None:
                arena.mapping = shared.Arena(arena.fd, arena.size)
            shared.fill(arena.mapping, dumped)

    @property
    def fds(self) -> list[int]:
        """What travels with the request: the arguments' arena, then the result's."""
        return [arena.fd for arena in (self._arguments, self._result) if arena is not None]

    def value(self, told: SharedResult, stream: Any, fds: list[int]) -> Any:
        """The result's value; its large arrays are views, and give their arena back when they go.

        Raises:
            ProtocolError: If what the child told does not fit what it sent.
        """
        if not told.layout:
            return shared.load(stream, None, [])
        if told.new:
            if not fds:
                raise ProtocolError("an answer without the arena that it speaks of")
            arena = FreeArena(fds.pop(0))
        elif self._result is not None:
            arena, self._result = self._result, None
        else:
            raise ProtocolError("an answer in an arena that was not lent")
        if any(len(place) != 2 or min(place) < 0 or sum(place) > arena.size for place in told.layout):
            arena.close()
            raise ProtocolError("an answer that reaches beyond its arena")
        mapping = shared.Arena(arena.fd, arena.size)
        weakref.finalize(mapping, self._pool.give_unless_forked, arena, _forks).atexit = False
        return shared.load(stream, mapping, told.layout)

    def close(self, *, clean: bool, arguments_kept: bool) -> None:
        """Give back what was not used up.

        What the child may still write to is let go instead: arguments that its code has kept,
        and everything if the execution did not end clean.
        """
        for arena, reusable in (
            (self._arguments, clean and not arguments_kept),
            (self._result, clean),
        ):
            if arena is not None:
                if reusable:
                    self._pool.give(arena)
                else:
                    arena.close()
        self._arguments = self._result = None
