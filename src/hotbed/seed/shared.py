"""Values of a trusted environment: pickle protocol 5, large buffers through shared memory.

Law: a buffer of at least SHARE_FROM bytes crosses the border by one copy into an arena (a
memfd that both sides map); smaller ones stay in the pickle. Arenas are the engine's: it lends
one with the arguments and one for the result, and takes a larger one over when the result did
not fit. Both sides use this file; only a trusted environment loads it.
"""

from __future__ import annotations

import mmap
import os
import pickle
import socket
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from . import values, wire

SHARE_FROM = 65536  # bytes; below this a copy through the socket costs less than a mapping
ALIGNMENT = 64  # bytes: a cache line, and what vector instructions like
_ARENA_STEP = 1 << 20  # sizes are rounded up, so that arenas fit the next call too


class Dump(NamedTuple):
    """A pickled value: the stream, its large buffers, and where each lies in an arena."""

    stream: bytes
    buffers: list[memoryview]
    layout: list[list[int]]  # [offset, size]

    @property
    def size(self) -> int:
        """Bytes that an arena needs for the buffers; 0 if there is none."""
        return self.layout[-1][0] + self.layout[-1][1] if self.layout else 0


def dump(value: Any) -> Dump:
    """Pickle a value with its large contiguous buffers set aside.

    Raises:
        Exception: Whatever the value's own pickling raises.
    """
    buffers: list[memoryview] = []

    def set_aside(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous: pickle copies it
            return True
        if raw.nbytes < SHARE_FROM:
            return True
        buffers.append(raw)
        return False

    stream = pickle.dumps(value, protocol=5, buffer_callback=set_aside)
    layout, at = [], 0
    for raw in buffers:
        layout.append([at, raw.nbytes])
        at += -(-raw.nbytes // ALIGNMENT) * ALIGNMENT
    return Dump(stream, buffers, layout)


def load(stream: Any, arena: mmap.mmap | None, layout: Iterable[Iterable[int]]) -> Any:
    """The value of a dump; its large buffers are views of the arena, which they keep alive."""
    views = []
    if arena is not None:
        whole = memoryview(arena)
        views = [whole[offset : offset + size] for offset, size in layout]
    return pickle.loads(stream, buffers=views)


def fill(arena: mmap.mmap, dumped: Dump) -> None:
    """Copy a dump's buffers to their places."""
    target = memoryview(arena)
    for raw, (offset, size) in zip(dumped.buffers, dumped.layout):  # noqa: B905  3.10 is slower with strict
        target[offset : offset + size] = raw


def new_arena(size: int) -> int:
    """A memfd of at least `size` bytes."""
    fd = os.memfd_create("hotbed-arena", os.MFD_CLOEXEC)
    os.ftruncate(fd, -(-size // _ARENA_STEP) * _ARENA_STEP)
    return fd


class SharingChannel(wire.Channel):
    """A child's channel that descriptors come and go with."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._socket = socket.socket(fileno=fd)
        self._fds: list[int] = []  # of the frame received last

    def _read(self, _fd: int, size: int) -> bytes:
        data, fds = wire.receive_bytes(self._socket, size)
        self._fds += fds
        return data

    def take_fds(self) -> list[int]:
        """The descriptors that came with the last frame, now the caller's."""
        fds, self._fds = self._fds, []
        return fds

    def send_with(self, kind: int, meta: bytes, body: bytes, fds: list[int]) -> None:
        """Send a frame, with descriptors at its first byte."""
        if fds:
            header = wire.HEADER.pack(kind, len(meta), len(body))
            socket.send_fds(self._socket, [header], fds)
            self._write_all(meta)
            self._write_all(body)
        else:
            self.send(kind, meta, body)


class Arena(mmap.mmap):
    """A mapped arena; views of it keep it, and a weak reference tells when the last has gone."""

    def __new__(cls, fd: int, size: int) -> Arena:
        # Pages made present at once: faults one by one cost more than the copy.
        return super().__new__(cls, fd, size, flags=mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))


class Pickle:
    """The codec of one request in a trusted environment, seen from the child."""

    def __init__(self, channel: SharingChannel, layout: list[list[int]]) -> None:
        fds = channel.take_fds()
        self._layout = layout
        self._arguments_fd = fds.pop(0) if layout else -1
        self._result_fd = fds.pop(0) if fds else -1
        self._arguments: weakref.ref[Arena] | None = None
        self._dump = Dump(b"", [], [])
        self._new_fd = -1

    def inputs(self, request: dict[str, Any], body: Any) -> dict[str, Any]:
        """The request's inputs; large arrays are writable views of the lent arena."""
        arena = None
        if self._arguments_fd >= 0:
            arena = Arena(self._arguments_fd, os.fstat(self._arguments_fd).st_size)
            self._arguments = weakref.ref(arena)
        inputs: dict[str, Any] = load(body, arena, self._layout)
        return inputs

    def encode(self, value: Any) -> bytes:
        """Pickle the value and put its large buffers into the lent arena, or into a new one.

        Raises:
            NotSerializableError: If it cannot be pickled.
        """
        try:
            dumped = dump(value)
        except Exception as error:  # pickling runs the value's own methods
            raise values.NotSerializableError(
                f"a {type(value).__name__} cannot be pickled: {error}"
            ) from None
        if dumped.size:
            fd = self._result_fd
            if fd < 0 or os.fstat(fd).st_size < dumped.size:
                fd = self._new_fd = new_arena(dumped.size)
            fill(Arena(fd, os.fstat(fd).st_size), dumped)
        self._dump = dumped._replace(buffers=[])
        return dumped.stream

    def send(self, channel: wire.Channel, meta: dict[str, Any], value: bytes) -> None:
        """Send the answer, with the new arena if there is one."""
        meta["shared"] = {
            "layout": self._dump.layout,
            "new": self._new_fd >= 0,
            # A view that the code has kept would change under it with the arena's next use.
            "kept": self._arguments is not None and self._arguments() is not None,
        }
        assert isinstance(channel, SharingChannel)
        fds = [self._new_fd] if self._new_fd >= 0 else []
        channel.send_with(wire.ANSWER, wire.encode(meta), value, fds)
        for fd in (self._arguments_fd, self._result_fd, self._new_fd):
            if fd >= 0:
                os.close(fd)


def rehearse() -> None:
    """Touch what a trusted request touches beyond the plain rehearsal."""
    dumped = dump({"inputs_of_rehearsal": [1.5, "text"]})
    load(dumped.stream, None, [])
