"""Frames from a child, put together from the bytes as they come.

Pure, and hostile-proof: whatever a child writes becomes frames or a ProtocolError, in memory
bounded by the limits. The format is that of seed/wire.py.
"""

from __future__ import annotations

import msgspec

from hotbed.seed.wire import HEADER, KINDS_TO_PARENT

META_LIMIT = 2 * 1024**2  # bytes: a traceback and a repr, each capped by the child; read in 20 times that


class ProtocolError(Exception):
    """The bytes are no frame that a child may send."""


class TooLargeError(ProtocolError):
    """A frame announces more than the limit."""


class Frame(msgspec.Struct, frozen=True):
    """One whole frame."""

    kind: int
    meta: bytes
    body: bytes | bytearray


class Decoder:
    """Feed it bytes, take frames out."""

    __slots__ = ("_body_limit", "_pending")

    def __init__(self, body_limit: int) -> None:
        self._pending = bytearray()
        self._body_limit = body_limit

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes.

        Raises:
            ProtocolError: If a header is not one that a child may send.
            TooLargeError: If a frame announces more than the limits, before its bytes are kept.
        """
        if not self._pending and len(data) >= HEADER.size:
            # The common case, one whole frame in one read, is not copied into the buffer.
            kind, meta_size, body_size = self._header(data)
            end = HEADER.size + meta_size + body_size
            if len(data) == end:
                split = HEADER.size + meta_size
                return [Frame(kind, data[HEADER.size : split], data[split:])]
        self._pending += data
        frames = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def wanted(self, least: int, most: int) -> int:
        """How many bytes to read next: what the frame that has begun lacks, within bounds."""
        if len(self._pending) < HEADER.size:
            return least
        _kind, meta_size, body_size = HEADER.unpack_from(self._pending)
        missing: int = HEADER.size + meta_size + body_size - len(self._pending)
        return max(least, min(missing, most))

    def _take(self) -> Frame | None:
        pending = self._pending
        if len(pending) < HEADER.size:
            return None
        kind, meta_size, body_size = self._header(pending)
        split = HEADER.size + meta_size
        end = split + body_size
        if len(pending) < end:
            return None
        frame = Frame(kind, bytes(pending[HEADER.size : split]), bytes(pending[split:end]))
        del pending[:end]
        return frame

    def _header(self, data: bytes | bytearray) -> tuple[int, int, int]:
        kind, meta_size, body_size = HEADER.unpack_from(data)
        if kind not in KINDS_TO_PARENT:
            raise ProtocolError(f"frame of unknown kind {kind}")
        if meta_size > META_LIMIT:
            raise ProtocolError(f"frame with {meta_size} bytes of meta")
        if body_size > self._body_limit:
            raise TooLargeError(f"a value of {body_size} bytes")
        return kind, meta_size, body_size
