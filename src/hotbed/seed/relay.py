"""Serves the clients of the proxy: who asks for a permitted host is joined to it.

One thread and one event loop; names are resolved in a few threads, since the C library's
resolver blocks. Whatever a client could make grow has a bound here: connections, the bytes and
the time of a request, lookups, attempts, and what is buffered (one chunk each way: nothing
more is read before that is written). Clients past the bound wait in the listener's backlog.

Law: what clients send, and the hosts that they name, are written nowhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import struct
import traceback
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address

from . import connect
from .allowlist import Address, Rules, address_of
from .connect import Ask, Refusal

CONNECTIONS = 256  # two descriptors each, of the usual 1,024; two chunks each make 32 MiB
SPARE_FDS = 64  # for lookups and for what the interpreter holds
CHUNK = 65536  # bytes
LOOKUPS = 8  # threads; a name server that does not answer holds one for 10 s and more

ASK_S = 10.0  # for a whole request: its sender is on this machine
LOOKUP_S = 15.0  # the C library gives each name server 5 s
ATTEMPT_S = 8.0  # one address: TCP asks at 0, 1, 3 and 7 s
ATTEMPTS = 4  # addresses of one name
IDLE_S = 900.0  # no byte either way: a model may think for ten minutes before its first word
HALF_CLOSED_S = 60.0  # the same once one side has ended: mostly its process was killed
PART_S = 1.0  # for a refused client to read why
PART_BYTES = 1024**2  # that it may still send meanwhile; more is no client that reads
RETRY_S = 0.5  # after an accept that failed for want of descriptors or memory

_RESET = struct.pack("ii", 1, 0)  # struct linger: on, 0 s
_REPLIES = {
    errno.ECONNREFUSED: connect.SOCKS_CONNECTION_REFUSED,
    errno.ENETUNREACH: connect.SOCKS_NET_UNREACHABLE,
    errno.EHOSTUNREACH: connect.SOCKS_HOST_UNREACHABLE,
}


def serve(listener: socket.socket, rules: Rules, ends: list[int]) -> None:
    """Serve clients until one of the descriptors `ends` is readable."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(Relay(loop, rules).run(listener, ends))


def room() -> int:
    """How many clients there are descriptors for, after asking for as many as are needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS + SPARE_FDS
    if 0 <= soft < wanted:  # RLIM_INFINITY is below 0
        soft = wanted if hard < 0 else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft < 0 else max(1, min(CONNECTIONS, (soft - SPARE_FDS) // 2))


class Relay:
    """The clients of one listener."""

    def __init__(self, loop: asyncio.AbstractEventLoop, rules: Rules) -> None:
        self._loop, self._rules = loop, rules
        self._resolvers = ThreadPoolExecutor(LOOKUPS)
        self._serving: set[asyncio.Task[None]] = set()  # the loop itself holds tasks weakly
        self._complained = False

    async def run(self, listener: socket.socket, ends: list[int]) -> None:
        """Accept and serve until one of the descriptors `ends` is readable."""
        ended = asyncio.Event()
        for fd in ends:
            self._loop.add_reader(fd, ended.set)
        accepting = self._loop.create_task(self._accept(listener))
        ending = self._loop.create_task(ended.wait())
        await asyncio.wait((accepting, ending), return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():  # only by an error
            accepting.result()

    async def _accept(self, listener: socket.socket) -> None:
        listener.setblocking(False)
        free = asyncio.Semaphore(room())

        def gone(task: asyncio.Task[None]) -> None:
            self._serving.discard(task)
            free.release()

        while True:
            await free.acquire()
            try:
                client, _address = await self._loop.sock_accept(listener)
            except OSError:
                free.release()
                await asyncio.sleep(RETRY_S)  # no descriptor tells when there are some again
                continue
            serving = self._loop.create_task(self._serve(client))
            self._serving.add(serving)
            serving.add_done_callback(gone)

    async def _serve(self, client: socket.socket) -> None:
        """One client, from its first byte to its last; raises nothing."""
        try:
            with client:
                await self._converse(client)
        except (OSError, EOFError):
            pass  # one side has gone
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Report a fault of ours, once: a client may repeat it at will, and choose its words."""
        if not self._complained:
            self._complained = True
            place = "".join(traceback.format_tb(error.__traceback__))
            os.write(2, f"hotbed-proxy: {type(error).__name__}\n{place}".encode())

    async def _converse(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hearing = Hearing(self._loop, client)
        try:
            ask = await asyncio.wait_for(hearing.ask(), ASK_S)
            server = await self._open(ask)
        except Refusal as given:
            refusal = given
        except asyncio.TimeoutError:
            refusal = Refusal(408, connect.SOCKS_FAILED, f"no complete request within {ASK_S:g} s")
        else:
            with server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await Tunnel(self._loop, client, server).carry(ask.onward + hearing.rest, ask.reply)
            return
        await _part(self._loop, client, refusal.answer(socks=hearing.socks))

    async def _open(self, ask: Ask) -> socket.socket:
        """A connection to what is asked for.

        Raises:
            Refusal: If the list does not permit it, or nothing answers there.
        """
        if not self._rules.permits(ask.host, ask.port):
            raise Refusal(
                403, connect.SOCKS_FORBIDDEN, f"{ask} is not in Limits(network=[...]); add it there"
            )
        literal = address_of(ask.host)
        addresses = [literal] if literal else await self._lookup(ask)
        permitted = [address for address in addresses if self._rules.permits_address(address, ask.port)]
        refusal = Refusal(
            403,
            connect.SOCKS_FORBIDDEN,
            f"{ask} has no public address; add its private one to Limits(network=[...])",
        )
        for address in permitted[:ATTEMPTS]:
            try:
                return await asyncio.wait_for(_connected(self._loop, address, ask.port), ATTEMPT_S)
            except asyncio.TimeoutError:
                refusal = Refusal(504, connect.SOCKS_HOST_UNREACHABLE, f"{ask} does not answer")
            except OSError as error:
                code = error.errno or 0
                text = f"cannot connect to {ask}: {os.strerror(code)}"
                refusal = Refusal(502, _REPLIES.get(code, connect.SOCKS_FAILED), text)
        raise refusal

    async def _lookup(self, ask: Ask) -> list[Address]:
        """The addresses of a name, in the order in which the resolver would try them."""
        looking = self._loop.run_in_executor(
            self._resolvers, socket.getaddrinfo, ask.host.encode("ascii"), ask.port, 0, socket.SOCK_STREAM
        )
        try:
            entries = await asyncio.wait_for(looking, LOOKUP_S)
        except (OSError, asyncio.TimeoutError):
            text = f"cannot resolve {ask.host}"
            raise Refusal(502, connect.SOCKS_HOST_UNREACHABLE, text) from None
        return [ip_address(str(address[0]).partition("%")[0]) for *_kind, address in entries]


class Hearing:
    """What one client says until it is clear what it asks for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: socket.socket) -> None:
        self._loop, self._client = loop, client
        self.socks = False
        self.rest = b""  # came after the request: for the server

    async def ask(self) -> Ask:
        """Hear the request.

        Raises:
            Refusal: If it is none.
            EOFError: If the client ends before it is complete.
        """
        data = await self._more(b"")
        parse = connect.http
        self.socks = data[0] == connect.SOCKS_VERSION
        if self.socks:
            while (greeting := connect.greeting(data)) is None:
                data = await self._more(data)
            method, size = greeting
            await self._loop.sock_sendall(self._client, bytes([connect.SOCKS_VERSION, method]))
            if method == connect.NO_METHOD:
                raise EOFError
            parse, data = connect.socks, data[size:]
        while (ask := parse(data)) is None:
            data = await self._more(data)
        self.rest = data[ask.size :]
        return ask

    async def _more(self, data: bytes) -> bytes:
        new = await self._loop.sock_recv(self._client, connect.HEAD_LIMIT)
        if not new:
            raise EOFError
        return data + new


class Tunnel:
    """Two sockets joined: bytes, the end of each direction, and a reset go from one to the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop, client: socket.socket, server: socket.socket) -> None:
        self._loop, self._client, self._server = loop, client, server
        self._pumps: list[asyncio.Task[None]] = []
        self._limit_s = IDLE_S
        self._moved_at = loop.time()
        self._timer: asyncio.TimerHandle

    async def carry(self, onward: bytes, reply: bytes) -> None:
        """Carry bytes both ways, these first, until both directions have ended.

        Raises:
            OSError: If one side was reset; so is the other then.
        """
        there = self._pump(self._client, self._server, onward)
        back = self._pump(self._server, self._client, reply)
        self._pumps = [self._loop.create_task(there), self._loop.create_task(back)]
        self._watch()
        await asyncio.wait(self._pumps, return_when=asyncio.FIRST_EXCEPTION)
        self._timer.cancel()
        for pump in self._pumps:
            pump.cancel()
        # To their end: a reader left in the loop would later be taken off a descriptor of the
        # same number, another client's by then.
        await asyncio.wait(self._pumps)
        broken = [pump for pump in self._pumps if pump.cancelled() or pump.exception()]
        if broken:
            for side in (self._client, self._server):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        for pump in broken:
            if not pump.cancelled():
                pump.result()

    async def _pump(self, source: socket.socket, sink: socket.socket, first: bytes) -> None:
        """Carry one direction until its source ends or its sink takes no more."""
        chunk = memoryview(bytearray(CHUNK))
        data = memoryview(first)
        while True:
            try:
                await self._loop.sock_sendall(sink, data)
            except OSError:
                break  # what that side said before may still be on its way back
            self._moved_at = self._loop.time()
            # Where bytes always wait and always fit, the two calls never let others run.
            await asyncio.sleep(0)
            size = await self._loop.sock_recv_into(source, chunk)
            self._moved_at = self._loop.time()
            if not size:
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                break
            data = chunk[:size]
        self._limit_s = HALF_CLOSED_S
        self._timer.cancel()
        self._watch()

    def _watch(self) -> None:
        left_s = self._moved_at + self._limit_s - self._loop.time()
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._watch)
        else:
            for pump in self._pumps:
                pump.cancel()


async def _connected(loop: asyncio.AbstractEventLoop, address: Address, port: int) -> socket.socket:
    """A connection to this very address: nothing is resolved again."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, (str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


async def _part(loop: asyncio.AbstractEventLoop, client: socket.socket, answer: bytes) -> None:
    """Give a client the answer and hang up; what it still sends is dropped.

    Closed on unread bytes, the connection would be reset, and the answer lost.
    """

    async def leave() -> None:
        await loop.sock_sendall(client, answer)
        client.shutdown(socket.SHUT_WR)
        left = PART_BYTES
        while left > 0 and (data := await loop.sock_recv(client, CHUNK)):
            left -= len(data)
            await asyncio.sleep(0)

    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(leave(), PART_S)
