"""The engine's end of a nursery's control socket: orders out, births and deaths in."""

from __future__ import annotations

import os
import socket
from typing import Annotated, Any

import msgspec

from hotbed.core.frames import ProtocolError
from hotbed.seed import wire


class Message(msgspec.Struct):
    """What a nursery says; which fields count depends on `op`."""

    op: str
    id: int = 0
    pid: int = 0
    status: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)] = 0
    cpu_s: float = 0.0
    error: str = ""
    directories: dict[str, int] = {}
    threads: dict[str, list[str]] = {}


_messages = msgspec.json.Decoder(Message)


class Control:
    """One control socket. Sending is safe from any thread; receiving is the keeper's."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        self.far_end = theirs  # for whoever starts the process; close it afterwards

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def make(self, order: dict[str, Any], fds: list[int]) -> None:
        """Order a process. The descriptors stay the caller's to close.

        Raises:
            OSError: If the nursery is gone.
        """
        wire.send_message(self._socket, {"op": "make", **order}, fds)

    def say(self, message: dict[str, Any]) -> None:
        """Send anything else; nothing if the nursery is gone."""
        try:
            wire.send_message(self._socket, message)
        except OSError:
            pass

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message with its descriptors; None when the nursery has gone.

        Raises:
            BlockingIOError: If there is none now.
            ProtocolError: If it is none that a nursery sends.
        """
        received = wire.receive_packet(self._socket, socket.MSG_DONTWAIT)
        if received is None:
            return None
        data, fds = received
        try:
            return _messages.decode(data), fds
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            for fd in fds:
                os.close(fd)
            raise ProtocolError(f"a message that cannot be read: {error}") from None

    def close(self) -> None:
        """Hang up: the nursery ends with everything it made."""
        self._socket.close()
        self.far_end.close()
