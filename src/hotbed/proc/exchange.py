"""One request and its answer over a link: bytes out, frames and output in.

No waiting here: a driver (a thread that polls, or an event loop) says when a descriptor is
ready. What ends an exchange is a `Close`: the answer, or what came instead of it.

Whether the code had begun is told by the kernel: a child that dies with the request unread
resets the connection (ECONNRESET or EPIPE); one that had read it closes it (EOF). That saves a
start byte, and with it a wake-up of the caller, on every warm call. A child that was made for
the request announces BEGAN, since its limit counts from there.
"""

from __future__ import annotations

import codecs
import os
import select
import socket
from collections.abc import Callable
from enum import Enum

from hotbed.core.frames import Decoder, Frame, ProtocolError, TooLargeError
from hotbed.proc.link import Link
from hotbed.seed import wire

READ_SIZE = 65536
SEND_SIZE = 1024 * 1024  # bytes offered to the kernel at once


class Close(Enum):
    """Why an exchange is over."""

    ANSWERED = "answered"
    BROKEN = "broken"  # the process could not be set up
    UNBEGUN = "unbegun"  # it was lost before it read the request
    LOST = "lost"  # it was lost afterwards
    VIOLATED = "violated"  # it sent what is no frame
    VALUE_TOO_LARGE = "value too large"
    OUTPUT_TOO_LARGE = "output too large"


class Output:
    """What arrived on one pipe, up to a limit; text goes to the listener as it comes."""

    __slots__ = ("_chunks", "_decoder", "_left", "_listener", "fd", "full")

    def __init__(self, fd: int, limit_bytes: int, listener: Callable[[str], object] | None) -> None:
        self.fd = fd
        self.full = False  # the last read took all it could: there may be more
        self._chunks: list[bytes] = []
        self._left = limit_bytes
        self._listener = listener
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if listener else None

    def read(self) -> bool | None:
        """Take what is there: True if something, False at the end, None if over the limit."""
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return True
        if not data:
            return False
        self.full = len(data) == READ_SIZE
        kept = data[: self._left]
        self._chunks.append(kept)
        self._left -= len(kept)
        if self._decoder is not None and self._listener is not None and kept:
            text = self._decoder.decode(kept)
            if text:
                self._listener(text)
        return None if len(kept) < len(data) else True

    def drain(self) -> bool | None:
        """Take all that is there now; None if it went over the limit."""
        while True:
            before = len(self._chunks)
            more = self.read()
            if more is not True or len(self._chunks) == before:
                return more

    def text(self) -> str:
        """All of it."""
        if not self._chunks:
            return ""
        return b"".join(self._chunks).decode("utf-8", "replace")


class Exchange:
    """The state of one execution's conversation."""

    __slots__ = (
        "_decoder",
        "_sharing",
        "_silent",
        "_unsent",
        "announced",
        "answer",
        "began",
        "closed",
        "err",
        "fds",
        "link",
        "out",
        "problem",
    )

    def __init__(
        self,
        link: Link,
        *,
        announced: bool,
        output_bytes: int,
        value_bytes: int,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        sharing: bool = False,
    ) -> None:
        self.link = link
        self.out = Output(link.out, output_bytes, on_stdout)
        self.err = Output(link.err, output_bytes, on_stderr)
        self.closed: Close | None = None
        self.answer: Frame | None = None
        self.problem = ""
        self.began = not announced
        self.announced = announced
        self._sharing = sharing
        self.fds: list[int] = []  # that came with the answer; the owner of the exchange closes them
        self._decoder = Decoder(value_bytes)
        self._unsent: memoryview | None = None
        self._silent: frozenset[int] = frozenset()

    def send(self, data: bytes, fds: list[int] | None = None) -> None:
        """Begin to send the request; what the socket does not take at once goes with `ready`.

        Descriptors travel with the first byte.
        """
        view = memoryview(data)
        if fds:
            try:
                view = view[socket.send_fds(self.link.socket, [view[:SEND_SIZE]], fds) :]
            except (BrokenPipeError, ConnectionResetError):
                self._end(Close.UNBEGUN)
                return
        self._write(view)

    @property
    def sending(self) -> bool:
        """Whether the driver must also wait for the channel to become writable."""
        return self._unsent is not None

    def _write(self, view: memoryview) -> None:
        sock = self.link.socket
        try:
            while view:
                view = view[sock.send(view[:SEND_SIZE]) :]
        except BlockingIOError:
            if self._unsent is None:
                self.link.poll.modify(self.link.poll_channel, select.POLLIN | select.POLLOUT)
            self._unsent = view
            return
        except (BrokenPipeError, ConnectionResetError):
            # It ended before it took the whole request, so it cannot have begun.
            self._end(Close.UNBEGUN)
            return
        if self._unsent is not None:
            self._unsent = None
            self.link.poll.modify(self.link.poll_channel, select.POLLIN)

    def ready(self, fd: int, events: int) -> None:
        """A descriptor of the link is ready."""
        if fd == self.link.poll_channel:
            if self._unsent is not None and events & select.POLLOUT:
                self._write(self._unsent)
            if events & ~select.POLLOUT and self.closed is None:
                self._receive()
        else:
            output = self.out if fd == self.out.fd else self.err
            more = output.read()
            if more is None:
                self._overflow("stdout" if output is self.out else "stderr")
            elif more is False:
                self.link.poll.unregister(fd)  # the code closed it; poll would report it for ever
                self.link.damaged = True
                self._silent |= {fd}

    @property
    def overflowing(self) -> bool:
        """Whether a pipe held more than one read takes when it was read last."""
        return self.out.full or self.err.full

    def is_silent(self, fd: int) -> bool:
        """Whether nothing more can come from an output pipe: the code has closed it."""
        return fd in self._silent

    def drain(self) -> None:
        """Take the output that is there already, after the close; its limit counts on."""
        for fd, _event in self.link.poll.poll(0):
            if fd == self.link.poll_channel:
                continue
            output, name = (self.out, "stdout") if fd == self.out.fd else (self.err, "stderr")
            if output.drain() is None:
                self._overflow(name)

    def _receive(self) -> None:
        try:
            size = self._decoder.wanted(READ_SIZE, SEND_SIZE)
            data = self._receive_shared(size) if self._sharing else self.link.socket.recv(size)
        except BlockingIOError:
            return
        except ConnectionResetError:
            self._end(Close.LOST if self.announced and self.began else Close.UNBEGUN)
            return
        if not data:
            self._end(Close.LOST if self.began else Close.UNBEGUN)
            return
        try:
            frames = self._decoder.feed(data)
        except TooLargeError as error:
            self._end(Close.VALUE_TOO_LARGE, str(error))
            return
        except ProtocolError as error:
            self._end(Close.VIOLATED, str(error))
            return
        for frame in frames:
            if frame.kind == wire.BEGAN and not self.began:
                self.began = True
            elif frame.kind == wire.ANSWER and self.began:
                self.answer = frame
                self._end(Close.ANSWERED)
                return
            elif frame.kind == wire.BROKEN and not self.began:
                self.answer = frame
                self._end(Close.BROKEN)
                return
            else:
                self._end(Close.VIOLATED, f"frame of kind {frame.kind} out of turn")
                return

    def _receive_shared(self, size: int) -> bytes:
        data, fds = wire.receive_bytes(self.link.socket, size)
        self.fds += fds
        return data

    def _overflow(self, name: str) -> None:
        """The output is over its limit: that counts, also where the answer was there first."""
        if self.closed is Close.ANSWERED:
            self.closed, self.problem = Close.OUTPUT_TOO_LARGE, name
        self._end(Close.OUTPUT_TOO_LARGE, name)

    def _end(self, why: Close, problem: str = "") -> None:
        if self.closed is None:
            self.closed, self.problem = why, problem
