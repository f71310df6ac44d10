"""Frames on a child's channel and messages on a nursery's control socket.

The law: one frame is a fixed header, a JSON `meta` and raw `body` bytes; its length is known
from the header, so a reader allocates once and a writer never escapes anything. The parent
shares this file: the format is written down once.

A channel is a stream socket with one reader and one writer at each end. A control socket is
SOCK_SEQPACKET: one message is one packet, and the descriptors it names arrive with it.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

HEADER = struct.Struct("<BxxxIQ")  # kind, bytes of meta, bytes of body
READ_SIZE = 65536  # one read takes any ordinary frame whole
MESSAGE_LIMIT = 131072  # bytes in one packet; the kernel's default buffer is 212,992
SPILL_LIMIT = 16 * 1024**2  # bytes of a longer one
SPILLED = b"@"  # the packet of a longer message: its bytes are in the memfd that comes first

MAX_FDS = 8  # descriptors that travel with one control message
_ANCILLARY = socket.CMSG_LEN(MAX_FDS * struct.calcsize("i"))

# Parent to child.
SETUP = 1  # how to become ready; only to a process that was not forked from a template
REHEARSE = 2  # run the rehearsal and answer READY
REQUEST = 3  # one execution
ANNOUNCED_REQUEST = 4  # the same; BEGAN is awaited
# Child to parent.
READY = 16  # rehearsed and waiting
BEGAN = 17  # an announced request was read and its code starts now
ANSWER = 18  # the result of an execution
BROKEN = 19  # the set-up failed; meta says how

KINDS_TO_PARENT = frozenset({READY, BEGAN, ANSWER, BROKEN})


def json_encoder(default: Callable[[Any], Any] | None = None) -> Callable[[Any], str]:
    """What `json.dumps` does, with the encoder made once instead of at every call.

    Without the check for values that contain themselves: those end in a RecursionError.
    """
    make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # the accelerator, undeclared
    if make is None:
        return json.JSONEncoder(default=default, check_circular=False).encode

    def refuse(value: Any) -> Any:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    text = json.encoder.encode_basestring_ascii
    iterencode = make(None, default or refuse, text, None, ": ", ", ", False, False, True)
    join = "".join
    return lambda value: join(iterencode(value, 0))


# Bound here: user code may replace the module's functions.
_dumps = json_encoder()
_loads = json.JSONDecoder().decode


def encode(meta: dict[str, Any]) -> bytes:
    """JSON in ASCII: lone surrogates, NaN and integers of any size survive it."""
    return _dumps(meta).encode("ascii")


def decode(meta: bytes | bytearray | memoryview) -> dict[str, Any]:
    """The inverse of `encode`."""
    decoded: dict[str, Any] = _loads(str(meta, "utf-8"))  # bytes would be sniffed for UTF-16
    return decoded


class Frame(NamedTuple):
    """One message of a channel."""

    kind: int
    meta: bytes
    body: bytes | bytearray | memoryview


def pack(kind: int, meta: bytes = b"", body: bytes = b"") -> bytes:
    """One frame as bytes."""
    return HEADER.pack(kind, len(meta), len(body)) + meta + body


class Channel:
    """The child's end: blocking, one frame at a time.

    `os.read` and `os.write` are bound when the class is made, before any user code can
    replace them.
    """

    __slots__ = ("_pending", "fd")

    _read = staticmethod(os.read)
    _write = staticmethod(os.write)
    _readv = staticmethod(os.readv)

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pending = b""

    def send(self, kind: int, meta: bytes = b"", body: bytes = b"") -> None:
        """Write one frame whole.

        Raises:
            OSError: If the parent is gone.
        """
        if len(body) <= READ_SIZE:  # one write is one wake-up of the reader
            self._write_all(pack(kind, meta, body))
        else:
            self._write_all(HEADER.pack(kind, len(meta), len(body)) + meta)
            self._write_all(body)

    def _write_all(self, data: bytes) -> None:
        sent = self._write(self.fd, data)
        if sent < len(data):
            view = memoryview(data)
            while sent < len(data):
                sent += self._write(self.fd, view[sent:])

    def receive(self) -> Frame | None:
        """The next frame, or None when the parent has hung up."""
        data = self._pending
        while len(data) < HEADER.size:
            more = self._read(self.fd, READ_SIZE)
            if not more:
                return None
            data += more
        kind, meta_size, body_size = HEADER.unpack_from(data)
        end = HEADER.size + meta_size + body_size
        if len(data) < end:
            whole = bytearray(end)
            whole[: len(data)] = data
            view = memoryview(whole)
            at = len(data)
            while at < end:
                count = self._readv(self.fd, [view[at:]])
                if count == 0:
                    return None
                at += count
            self._pending = b""
            split = HEADER.size + meta_size
            return Frame(kind, bytes(view[HEADER.size : split]), view[split:])
        split = HEADER.size + meta_size
        self._pending = data[end:]
        return Frame(kind, data[HEADER.size : split], data[split:end])


def send_message(sock: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    """Send one control message of any length, with the descriptors it speaks of.

    Raises:
        OSError: If the other end is gone, or a descriptor is needed and there is none.
    """
    data = encode(message)
    if len(data) <= MESSAGE_LIMIT:
        _send_packet(sock, data, fds or [])
        return
    spill = os.memfd_create("hotbed-message", os.MFD_CLOEXEC)
    try:
        with open(spill, "wb", closefd=False) as file:
            file.write(data)
        _send_packet(sock, SPILLED, [spill, *(fds or [])])
    finally:
        os.close(spill)


def _send_packet(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    if fds:
        socket.send_fds(sock, [data], fds)
    else:
        sock.send(data)


def receive_message(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next control message and its descriptors, or None when the other end is gone.

    Raises:
        BlockingIOError: If the socket does not block and nothing is there.
    """
    received = receive_packet(sock)
    if received is None:
        return None
    data, fds = received
    return json.loads(data), fds


def receive_packet(sock: socket.socket, flags: int = 0) -> tuple[bytes, list[int]] | None:
    """One packet and its descriptors, close-on-exec; None at the end.

    `socket.recv_fds` drops its `flags` (CPython 3.9 to 3.13), so it neither sets close-on-exec
    nor can it be told not to block.
    """
    try:
        data, fds = receive_bytes(sock, MESSAGE_LIMIT, flags)
    except ConnectionResetError:
        return None
    if data == SPILLED and fds:
        data = _spilled(fds.pop(0))
    if not data:
        for fd in fds:
            os.close(fd)
        return None
    return data, fds


def _spilled(fd: int) -> bytes:
    """What a memfd holds, which is then closed; nothing if it is none: the sender may be hostile."""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SPILL_LIMIT:
            return b""
        return os.pread(fd, SPILL_LIMIT, 0)
    except OSError:
        return b""
    finally:
        os.close(fd)


def receive_bytes(sock: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """What `recv` gives, with the descriptors that came along, close-on-exec."""
    data, ancillary, _flags, _address = sock.recvmsg(size, _ANCILLARY, flags | socket.MSG_CMSG_CLOEXEC)
    return data, descriptors(ancillary)


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors among the ancillary data of a recvmsg."""
    fds: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            count = len(payload) // struct.calcsize("i")
            fds.extend(struct.unpack(f"{count}i", payload[: count * struct.calcsize("i")]))
    return fds
