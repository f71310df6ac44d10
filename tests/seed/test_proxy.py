"""The proxy as a real process, between hostile clients and servers of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotbed.proc.places import seed_directory
from hotbed.seed import allowlist, connect, proxy, wire
from hotbed.seed.connect import Refusal

PATIENCE_S = 20.0
SOURCE = Path(seed_directory()).parents[1]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Proxy:
    """A running proxy; what it writes to its standard error is kept."""

    def __init__(
        self,
        *allow: str,
        python: str | Path = sys.executable,
        listener: socket.socket | None = None,
        **bounds: float,
    ) -> None:
        """`listener` is one of another namespace's; `bounds` replace constants of relay.py."""
        self.engine = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        pidfd = os.pidfd_open(self.engine.pid)
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        numbers = [str(theirs.fileno()), str(pidfd)]
        command = [str(python), "-I", "-S", seed_directory(), "proxy", *numbers]
        if bounds:
            code = f"from hotbed.seed import proxy, relay; vars(relay).update({bounds}); proxy.main("
            command = [str(python), "-c", f"{code}{', '.join(numbers)})"]
        self.process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), pidfd),
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
        )
        theirs.close()
        os.close(pidfd)
        with listener or socket.create_server(("127.0.0.1", 0), backlog=proxy.BACKLOG) as listener:
            self.port: int = listener.getsockname()[1]
            wire.send_message(self.control, {"allow": allow}, [listener.fileno()])

    def client(self, data: bytes = b"") -> socket.socket:
        """A connection that has sent this."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        client.sendall(data)
        return client

    def answer(self, data: bytes) -> bytes:
        """All that a client gets that sends this and nothing more."""
        with self.client(data) as client:
            client.shutdown(socket.SHUT_WR)
            return everything(client)

    def tunnel(self, target: str) -> socket.socket:
        """A connection that CONNECT has opened."""
        client = self.client(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        assert exactly(client, len(connect.TUNNEL_OPEN)) == connect.TUNNEL_OPEN
        return client

    def memory_bytes(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> str:
        """End it, and give what it wrote."""
        self.control.close()
        try:
            return self.process.communicate(timeout=PATIENCE_S)[1].decode()
        finally:
            self.process.kill()
            self.engine.communicate()


@contextlib.contextmanager
def running(
    *allow: str,
    python: str | Path = sys.executable,
    listener: socket.socket | None = None,
    **bounds: float,
) -> Iterator[Proxy]:
    """A proxy that at its end must have written nothing."""
    started = Proxy(*allow, python=python, listener=listener, **bounds)
    try:
        yield started
    finally:
        written = started.close()
    assert (written, started.process.returncode) == ("", 0)


def everything(client: socket.socket) -> bytes:
    data = b""
    while more := client.recv(65536):
        data += more
    return data


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
    assert found, answer
    return int(found[1])


# ── servers ──


class Server:
    """Listens on loopback and handles each connection in a thread."""

    def __init__(self, handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self.target = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.reached = 0
        self._handle = handle
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                peer = self._listener.accept()[0]
            except OSError:
                return
            self.reached += 1
            self._threads.append(threading.Thread(target=self._serve, args=(peer,)))
            self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        peer.settimeout(PATIENCE_S)
        with peer, contextlib.suppress(OSError):
            self._handle(peer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        while self._threads:
            self._threads.pop().join()


@contextlib.contextmanager
def serving(handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[Server]:
    server = Server(handle, host)
    try:
        yield server
    finally:
        server.close()


def echo(peer: socket.socket) -> None:
    while data := peer.recv(65536):
        peer.sendall(data)


def show_head(peer: socket.socket) -> None:
    """Answer a request with its own head, and say that it is the last."""
    head = b""
    while b"\r\n\r\n" not in head and (data := peer.recv(65536)):
        head += data
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(head), head))


def count(peer: socket.socket) -> None:
    """Read to the end, then say how much it was."""
    peer.sendall(b"%d bytes" % len(everything(peer)))


def stay(peer: socket.socket) -> None:
    """Say nothing, until the connection is broken."""
    poll = select.poll()
    poll.register(peer, 0)
    poll.poll(PATIENCE_S * 1000)


@pytest.fixture(scope="module")
def echoing() -> Iterator[Server]:
    with serving(echo) as server:
        yield server


@pytest.fixture(scope="module")
def showing() -> Iterator[Server]:
    with serving(show_head) as server:
        yield server


@pytest.fixture(scope="module")
def forbidden() -> Iterator[Server]:
    """A server that no list names."""
    with serving(echo) as server:
        yield server


@pytest.fixture(scope="module")
def open_proxy(echoing: Server, showing: Server, forbidden: Server) -> Iterator[Proxy]:
    """One that lets its clients reach both servers, and lists names that lead nowhere public."""
    names = [f"localhost:{forbidden.port}", "169.254.169.253:80", "no-such-host.invalid:80", "*.invalid:81"]
    with running(echoing.target, showing.target, *names) as started:
        yield started


# ── what it carries ──


def socks(host: bytes | str, port: int, command: int = 1) -> bytes:
    """A SOCKS5 greeting and request in one; text is a name, bytes an address."""
    if isinstance(host, str):
        where = bytes([3, len(host)]) + host.encode()
    else:
        where = bytes([1 if len(host) == 4 else 4]) + host
    return b"\5\1\0" + bytes([5, command, 0]) + where + port.to_bytes(2, "big")


SOCKS_OPEN = b"\5\0" + b"\5\0\0\1" + bytes(6)


def test_connect_carries_bytes_both_ways(open_proxy: Proxy, echoing: Server) -> None:
    data = bytes(range(256)) * 4096
    with open_proxy.tunnel(echoing.target) as client:
        for size in (1, 65536, len(data)):
            sending = threading.Thread(target=client.sendall, args=(data[:size],))
            sending.start()
            assert exactly(client, size) == data[:size]
            sending.join()


def test_bytes_that_follow_the_request_at_once_arrive_first(open_proxy: Proxy, echoing: Server) -> None:
    request = f"CONNECT {echoing.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    assert open_proxy.answer(request + b"\x16\3\1early\0") == connect.TUNNEL_OPEN + b"\x16\3\1early\0"
    asked = socks("127.0.0.1", echoing.port) + b"early"
    assert open_proxy.answer(asked) == SOCKS_OPEN + b"early"


def test_a_request_may_come_byte_by_byte(open_proxy: Proxy, echoing: Server) -> None:
    for request in (
        f"CONNECT {echoing.target} HTTP/1.1\r\n\r\n".encode() + b"x",
        socks("127.0.0.1", echoing.port) + b"x",
    ):
        with open_proxy.client() as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for at in range(len(request)):
                client.send(request[at : at + 1])
            client.shutdown(socket.SHUT_WR)
            assert everything(client).endswith(b"x")


@pytest.mark.parametrize("host", ["127.0.0.1", b"\x7f\0\0\1", b"\0" * 10 + b"\xff\xff\x7f\0\0\1"])
def test_socks5_takes_names_and_addresses(open_proxy: Proxy, echoing: Server, host: bytes | str) -> None:
    assert open_proxy.answer(socks(host, echoing.port) + b"hello") == SOCKS_OPEN + b"hello"


def test_ipv6_is_reached_where_it_is_listed() -> None:
    with serving(echo, "::1") as server, running(server.target) as started:
        with started.tunnel(server.target) as client:
            client.sendall(b"six")
            assert exactly(client, 3) == b"six"
        assert started.answer(socks(bytes(15) + b"\1", server.port) + b"six") == SOCKS_OPEN + b"six"


def test_a_plain_request_is_handed_on_as_a_server_expects_it(open_proxy: Proxy, showing: Server) -> None:
    lines = [
        f"POST HTTP://{showing.target}/a?b=c HTTP/1.1",
        "Host: evil.example",
        "Proxy-Connection: keep-alive",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "X-Kept:  é",
        "HOST: evil.example",
        "Content-Length: 0",
        "",
        "",
    ]
    answer = open_proxy.answer("\r\n".join(lines).encode("latin-1"))
    assert status(answer) == 200
    assert answer.partition(b"\r\n\r\n")[2].decode("latin-1").split("\r\n") == [
        "POST /a?b=c HTTP/1.1",
        f"Host: {showing.target}",
        "X-Kept:  é",
        "Content-Length: 0",
        "Connection: close",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("url", "path"), [("", "/"), ("/", "/"), ("?q", "/?q"), ("/http://x/", "/http://x/"), ("/%00", "/%00")]
)
def test_a_url_keeps_its_path(open_proxy: Proxy, showing: Server, url: str, path: str) -> None:
    answer = open_proxy.answer(f"GET http://{showing.target}{url} HTTP/1.0\r\n\r\n".encode())
    assert answer.partition(b"\r\n\r\n")[2].startswith(f"GET {path} HTTP/1.0\r\n".encode())


def test_the_standard_librarys_client_finds_its_way_by_the_variables(
    open_proxy: Proxy, showing: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in proxy.variables(open_proxy.port, [allowlist.parse(showing.target)]).items():
        monkeypatch.setenv(name, value)
    with urllib.request.build_opener().open(f"http://{showing.target}/x") as answer:
        assert answer.read().startswith(b"GET /x HTTP/1.1\r\n")
    with pytest.raises(urllib.error.URLError, match=r"a\.example:443 is not in Limits\(network=\[\.\.\.\]\)"):
        urllib.request.build_opener().open("https://a.example/")


@pytest.mark.parametrize("allow", [[], ["10.0.0.1", "a.example"]])
def test_code_reaches_a_server_of_its_own_directly(allow: list[str]) -> None:
    values = proxy.variables(1234, map(allowlist.parse, allow))
    assert values == {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:1234"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1"),
    }


@pytest.mark.parametrize("entry", ["127.0.0.1:80", "127.8.8.8", "[::1]"])
def test_loopback_is_the_hosts_where_the_list_names_it(entry: str) -> None:
    assert proxy.variables(allow=[allowlist.parse(entry)])["NO_PROXY"] == ""


def test_the_proxy_serves_on_each_interpreter(seed_python: Path, echoing: Server, showing: Server) -> None:
    with running(echoing.target, showing.target, python=seed_python) as started:
        with started.tunnel(echoing.target) as client:
            client.sendall(b"x")
            assert exactly(client, 1) == b"x"
        assert started.answer(socks("127.0.0.1", echoing.port) + b"x") == SOCKS_OPEN + b"x"
        assert status(started.answer(f"GET http://{showing.target}/ HTTP/1.1\r\n\r\n".encode())) == 200
        assert status(started.answer(b"GET http://a.example/ HTTP/1.1\r\n\r\n")) == 403
        assert started.answer(socks("a.example", 80)) == b"\5\0" + b"\5\2\0\1" + bytes(6)


# ── what it refuses ──


@pytest.mark.parametrize("host", ["a.example", "169.254.169.254", "metadata.google.internal", "invalid"])
def test_a_host_that_is_not_listed_is_refused_by_name_with_the_remedy(open_proxy: Proxy, host: str) -> None:
    text = f"{host}:80 is not in Limits(network=[...]); add it there"
    answer = open_proxy.answer(f"GET http://{host}/ HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 403 {text}\r\n".encode())
    assert answer.endswith(f"\r\n\r\n{text}\n".encode())
    assert status(open_proxy.answer(f"CONNECT {host}:80 HTTP/1.1\r\n\r\n".encode())) == 403
    assert open_proxy.answer(socks(host, 80))[2:4] == bytes([5, connect.SOCKS_FORBIDDEN])


def test_another_port_of_a_listed_host_is_refused(open_proxy: Proxy, forbidden: Server) -> None:
    assert status(open_proxy.answer(f"CONNECT {forbidden.target} HTTP/1.1\r\n\r\n".encode())) == 403
    assert forbidden.reached == 0


def test_a_listed_name_does_not_lead_to_a_private_address(open_proxy: Proxy, forbidden: Server) -> None:
    answer = open_proxy.answer(f"CONNECT localhost:{forbidden.port} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 403 localhost:{forbidden.port} has no public address; add".encode())
    assert open_proxy.answer(socks("LOCALHOST.", forbidden.port))[2:4] == bytes([5, connect.SOCKS_FORBIDDEN])
    assert forbidden.reached == 0


def test_a_listed_name_leads_to_a_private_address_that_is_listed_too(echoing: Server) -> None:
    with running(f"localhost:{echoing.port}", echoing.target) as started:
        assert started.answer(socks("localhost", echoing.port) + b"x") == SOCKS_OPEN + b"x"


@pytest.mark.parametrize("name", ["no-such-host.invalid:80", "any.invalid:81"])
def test_a_name_that_does_not_resolve_is_said_to_be_so(open_proxy: Proxy, name: str) -> None:
    host, _, port = name.partition(":")
    answer = open_proxy.answer(f"CONNECT {name} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith(f"HTTP/1.1 502 cannot resolve {host}\r\n".encode())
    assert open_proxy.answer(socks(host, int(port)))[2:4] == bytes([5, connect.SOCKS_HOST_UNREACHABLE])


def test_a_server_that_is_not_there_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running(f"127.0.0.1:{port}") as started:
        answer = started.answer(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\n".encode())
        assert answer.startswith(
            f"HTTP/1.1 502 cannot connect to 127.0.0.1:{port}: Connection refused".encode()
        )
        assert started.answer(socks("127.0.0.1", port))[2:4] == bytes([5, connect.SOCKS_CONNECTION_REFUSED])


SPELLINGS = ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "127.0.0.1.", "[::ffff:127.0.0.1]"]
SPELLINGS += [
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[::1]",
    "[::1%251]",
    "[::1%1]",
    "[64:ff9b::7f00:1]",
    "[::]",
]
SPELLINGS += ["0.0.0.0", "localhost.", "LOCALHOST", "localhost%00.a.example", "%6c", "127.0.0.1%20", "0", ""]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_an_address_is_a_way_round(open_proxy: Proxy, forbidden: Server, host: str) -> None:
    where = f"{host}:{forbidden.port}"
    for line in (f"CONNECT {where} HTTP/1.1", f"GET http://{where}/ HTTP/1.1", f"GET {where} HTTP/1.1"):
        assert status(open_proxy.answer(f"{line}\r\n\r\n".encode())) in (400, 403)
    assert open_proxy.answer(socks(host, forbidden.port))[2:4] in (b"\5\1", b"\5\2")
    assert forbidden.reached == 0


MALFORMED = [
    "CONNECT u:p@{showing} HTTP/1.1\r\n\r\n",
    "CONNECT {showing}@{forbidden} HTTP/1.1\r\n\r\n",
    "CONNECT {showing}/ HTTP/1.1\r\n\r\n",
    "CONNECT http://{showing} HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1 HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1: HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1:0 HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1:65536 HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1:99999999999999999999 HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1:-1 HTTP/1.1\r\n\r\n",
    "CONNECT 127.0.0.1:80:80 HTTP/1.1\r\n\r\n",
    "CONNECT  {showing} HTTP/1.1\r\n\r\n",
    "CONNECT {showing} HTTP/1.1 \r\n\r\n",
    "CONNECT {showing} HTTP/2.0\r\n\r\n",
    "CONNECT {showing}\r\n\r\n",
    "CONNECT\t{showing}\tHTTP/1.1\r\n\r\n",
    " CONNECT {showing} HTTP/1.1\r\n\r\n",
    "\r\nCONNECT {showing} HTTP/1.1\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\n\n",
    "CONNECT {showing} HTTP/1.1\r\nA: b\n\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\r\nA: b\r\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\r\nA: \0\r\n\r\n",
    "CONNECT {showing}\0 HTTP/1.1\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\r\n folded: x\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\r\nA : b\r\n\r\n",
    "CONNECT {showing} HTTP/1.1\r\nno colon\r\n\r\n",
    "GET http://u:p@{showing}/ HTTP/1.1\r\n\r\n",
    "GET http://{showing}\\@{forbidden}/ HTTP/1.1\r\n\r\n",
    "GET http://{showing}#@{forbidden}/ HTTP/1.1\r\n\r\n",
    "GET http:///{showing}/ HTTP/1.1\r\n\r\n",
    "GET https://{showing}/ HTTP/1.1\r\n\r\n",
    "GET ftp://{showing}/ HTTP/1.1\r\n\r\n",
    "GET //{showing}/ HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: {showing}\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: {showing}\r\n\r\n",
    "GET http://{showing}/\u00e9 HTTP/1.1\r\n\r\n",
    "\x16\x03\x01\x02\0\r\n\r\n",
    "\x04\x01\0\x50\x7f\0\0\x01\0\r\n\r\n",
]


@pytest.mark.parametrize("request_text", MALFORMED)
def test_what_is_not_exactly_a_request_is_refused(
    open_proxy: Proxy, showing: Server, forbidden: Server, request_text: str
) -> None:
    before = showing.reached
    text = request_text.replace("{showing}", showing.target).replace("{forbidden}", forbidden.target)
    assert status(open_proxy.answer(text.encode("latin-1"))) == 400
    assert (showing.reached, forbidden.reached) == (before, 0)


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"\5\0", b"\5\xff"),
        (b"\5\1\2", b"\5\xff"),
        (b"\5\2\2\0", b"\5\0"),
        (socks(b"\x7f\0\0\1", 80, command=2), b"\5\0\5\7"),
        (socks(b"\x7f\0\0\1", 80, command=3), b"\5\0\5\7"),
        (b"\5\1\0" + b"\5\1\0\2\1\1\1\1\0\x50", b"\5\0\5\x08"),
        (b"\5\1\0" + b"\4\1\0\1\1\1\1\1\0\x50", b"\5\0\5\1"),
        (socks("", 80), b"\5\0\5\1"),
        (socks("a\0b", 80), b"\5\0\5\1"),
        (socks("a.example:80", 80), b"\5\0\5\1"),
        (socks("127.0.0.1", 0), b"\5\0\5\1"),
        (socks("a.example", 80), b"\5\0\5\2"),
        (socks(bytes([169, 254, 169, 254]), 80), b"\5\0\5\2"),
        (socks(bytes.fromhex("fd000ec2") + bytes(10) + b"\2\x54", 80), b"\5\0\5\2"),
    ],
)
def test_socks5_is_refused_with_its_own_replies(open_proxy: Proxy, data: bytes, reply: bytes) -> None:
    assert open_proxy.answer(data)[:4] == reply


@pytest.mark.parametrize("start", [b"GET http://", b"CONNECT a:1 HTTP/1.1\r\nA: ", b"\r\n" * 4, b"\0"])
def test_a_head_of_a_megabyte_is_refused_after_a_few_kilobytes(open_proxy: Proxy, start: bytes) -> None:
    with open_proxy.client(start + b"x" * 1_000_000) as client:
        assert status(everything(client)) == (400 if start == b"\r\n" * 4 else 431)


# ── how connections end ──


def test_one_end_of_a_tunnel_may_finish_before_the_other() -> None:
    with serving(count) as server, running(server.target) as started, started.tunnel(server.target) as client:
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        assert everything(client) == b"100000 bytes"


def test_a_client_may_go_on_after_the_server_has_finished() -> None:
    heard: list[bytes] = []
    finished = threading.Event()

    def finish_first(peer: socket.socket) -> None:
        peer.sendall(b"bye")
        peer.shutdown(socket.SHUT_WR)
        heard.append(everything(peer))
        finished.set()

    with (
        serving(finish_first) as server,
        running(server.target) as started,
        started.tunnel(server.target) as client,
    ):
        assert everything(client) == b"bye"
        client.sendall(b"still here")
        client.shutdown(socket.SHUT_WR)
        assert finished.wait(PATIENCE_S)
    assert heard == [b"still here"]


def test_a_reset_by_the_server_reaches_the_client() -> None:
    def reset(peer: socket.socket) -> None:
        peer.recv(1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    with serving(reset) as server, running(server.target) as started, started.tunnel(server.target) as client:
        client.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            everything(client)


def test_a_reset_by_the_client_reaches_the_server() -> None:
    ends: list[str] = []
    ended = threading.Event()

    def listen(peer: socket.socket) -> None:
        try:
            peer.sendall(b"x")
            ends.append(f"{everything(peer)!r}")
        except OSError as error:
            ends.append(type(error).__name__)
        ended.set()

    with serving(listen) as server, running(server.target) as started:
        client = started.tunnel(server.target)
        assert client.recv(1) == b"x"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        client.close()
        assert ended.wait(PATIENCE_S)
    assert ends == ["ConnectionResetError"]


# ── bounds ──


def test_two_hundred_connections_are_served_at_once(open_proxy: Proxy, echoing: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(open_proxy.tunnel(echoing.target)) for _ in range(200)]
        for number, client in enumerate(clients):
            client.sendall(b"%3d" % number)
        assert [exactly(client, 3) for client in clients] == [b"%3d" % number for number in range(200)]


def test_past_the_bound_a_client_waits_until_another_leaves(echoing: Server) -> None:
    with running(echoing.target, CONNECTIONS=2) as started:
        first, second = started.tunnel(echoing.target), started.tunnel(echoing.target)
        with second, started.client(f"CONNECT {echoing.target} HTTP/1.1\r\n\r\n".encode()) as third:
            assert select.select([third], [], [], 0.2)[0] == []
            first.close()
            assert exactly(third, len(connect.TUNNEL_OPEN)) == connect.TUNNEL_OPEN


@pytest.mark.parametrize(
    "start", [b"", b"GET http://a.example/ HT", b"CONNECT a.example:1 HTTP/1.1\r\nA: b\r\n"]
)
def test_a_request_that_does_not_come_to_an_end_is_given_up(start: bytes) -> None:
    with running(ASK_S=0.1) as started, started.client(start) as client:
        assert status(everything(client)) == 408


@pytest.mark.parametrize("start", [b"\5", b"\5\1\0", b"\5\1\0\5\1\0\3\xff"])
def test_a_socks5_request_that_does_not_come_to_an_end_is_given_up(start: bytes) -> None:
    with running(ASK_S=0.5) as started, started.client(start) as client:
        assert everything(client).endswith(b"\5\1\0\1" + bytes(6))


def test_a_refused_client_that_does_not_leave_is_left() -> None:
    request = b"GET / HTTP/1.1\r\n\r\n"
    with running(CONNECTIONS=1, PART_S=0.1) as started, started.client(request):
        assert status(started.answer(request)) == 400


def test_a_refused_client_that_goes_on_sending_is_cut() -> None:
    def send_on() -> None:
        while True:
            client.sendall(bytes(65536))

    with running(PART_S=0.1) as started:
        client = started.client(b"GET / HTTP/1.1\r\n\r\n")
        with client, pytest.raises(ConnectionError):
            send_on()


def test_a_tunnel_without_a_byte_for_long_is_cut() -> None:
    with serving(stay) as server, running(server.target, IDLE_S=0.1) as started:
        client = started.tunnel(server.target)
        with client, pytest.raises(ConnectionResetError):
            everything(client)


def test_a_tunnel_with_one_side_gone_is_cut_sooner() -> None:
    with serving(stay) as server, running(server.target, HALF_CLOSED_S=0.1) as started:
        client = started.tunnel(server.target)
        client.shutdown(socket.SHUT_WR)
        with client, pytest.raises(ConnectionResetError):
            everything(client)


def test_nothing_is_read_for_a_client_that_does_not_read() -> None:
    sent: list[int] = []
    stuck = threading.Event()

    def flood(peer: socket.socket) -> None:
        peer.setblocking(False)
        total = 0
        while total < 1 << 28 and select.select([], [peer], [], 0.5)[1]:
            total += peer.send(bytes(1 << 20))
        sent.append(total)
        stuck.set()

    with serving(flood) as server, running(server.target) as started:
        client = started.tunnel(server.target)
        before = started.memory_bytes()
        with client:
            assert stuck.wait(PATIENCE_S)
            assert started.memory_bytes() - before < 4 << 20
    assert sent[0] < 1 << 26  # what the kernel's own buffers take


def test_clients_that_come_and_go_leave_no_memory_behind(open_proxy: Proxy, showing: Server) -> None:
    def visit(times: int) -> int:
        for _ in range(times):
            open_proxy.answer(f"GET http://{showing.target}/ HTTP/1.1\r\n\r\n".encode())
            open_proxy.answer(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n")
            open_proxy.client(b"GET ht").close()
        return open_proxy.memory_bytes()

    before = visit(100)
    assert visit(300) - before < 1 << 18
    descriptors = os.listdir(f"/proc/{open_proxy.process.pid}/fd")
    assert len(descriptors) < 30


def test_a_client_in_full_flow_does_not_starve_another(echoing: Server) -> None:
    def pour(peer: socket.socket) -> None:
        while True:
            peer.sendall(bytes(1 << 20))

    def take(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(1 << 20):
                pass

    with serving(pour) as server, running(server.target, echoing.target) as started:
        greedy = started.tunnel(server.target)
        taking = threading.Thread(target=take, args=(greedy,))
        taking.start()
        with greedy:
            for _ in range(20):
                with started.tunnel(echoing.target) as client:
                    client.sendall(b"x")
                    assert client.recv(1) == b"x"
            greedy.shutdown(socket.SHUT_RDWR)
            taking.join()


# ── any bytes ──

FRAGMENTS = [
    b"GET ",
    b"CONNECT ",
    b"http://",
    b" HTTP/1.1",
    b"\r\n",
    b"\r\n\r\n",
    b"127.0.0.1",
    b"localhost",
    b":",
]
FRAGMENTS += [
    b"80",
    b"@",
    b"[::1]",
    b"/",
    b"Host: ",
    b"\0",
    b"\n",
    b"\r",
    b"\5\1\0",
    b"\5\1\0\1",
    b"\5\1\0\3",
]
hostile = st.binary(max_size=400) | st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4)).map(b"".join)


@given(hostile)
@example(b"CONNECT a:1 HTTP/1.1\r\nA:" + b" " * 8000 + b"\0\r\n\r\n")
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for parse in (connect.http, connect.socks, connect.greeting):
        try:
            found = parse(data)
        except Refusal as refusal:
            for answer in (refusal.answer(socks=False), refusal.answer(socks=True)):
                assert len(answer) < 1000
            continue
        if isinstance(found, connect.Ask):
            assert allowlist.host_of(f"[{found.host}]" if ":" in found.host else found.host) == found.host
            assert 1 <= found.port <= 65535
            assert 0 < found.size <= len(data)


@settings(max_examples=60)
@given(hostile)
def test_any_bytes_leave_the_proxy_serving(open_proxy: Proxy, echoing: Server, data: bytes) -> None:
    answer = open_proxy.answer(data)
    assert answer[:1] in (b"", b"\5") or status(answer) in (400, 403, 502)
    assert open_proxy.answer(socks("127.0.0.1", echoing.port) + b"x") == SOCKS_OPEN + b"x"


# ── its own end ──


def test_it_ends_with_its_engine_whoever_holds_the_socket(echoing: Server) -> None:
    started = Proxy(echoing.target)
    try:
        with started.tunnel(echoing.target) as client:
            os.kill(started.engine.pid, signal.SIGKILL)
            assert started.process.wait(PATIENCE_S) == 0
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    finally:
        assert started.close() == ""


def test_it_ends_when_the_engine_hangs_up_even_before_it_was_told_anything() -> None:
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pidfd = os.pidfd_open(os.getpid())
    with control, theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", seed_directory(), "proxy", str(theirs.fileno()), str(pidfd)],
            pass_fds=(theirs.fileno(), pidfd),
        )
    os.close(pidfd)
    assert process.wait(PATIENCE_S) == 0


# ── the namespace ──

INSIDE = """
import ctypes, json, os, socket, sys
if ctypes.CDLL(None, use_errno=True).unshare(0x10000000 | 0x40000000):  # user and network
    print(os.strerror(ctypes.get_errno())); sys.exit(77)
from hotbed.seed import proxy
passage, target = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
with proxy.listener() as listener:
    socket.send_fds(passage, [b"x"], [listener.fileno()])
seen = {}
host, _, port = target.rpartition(":")
try:
    socket.create_connection((host, int(port)), 5)
except OSError as error:
    seen["direct"] = type(error).__name__
with socket.create_connection(("127.0.0.1", proxy.PROXY_PORT), 20) as client:
    client.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode() + b"out")
    client.shutdown(socket.SHUT_WR)
    seen["proxied"] = b"".join(iter(lambda: client.recv(4096), b"")).decode()
print(json.dumps(seen))
"""


def test_a_namespace_with_loopback_alone_reaches_the_host_through_its_listener(echoing: Server) -> None:
    ours, passage = socket.socketpair()
    inside = subprocess.Popen(
        [sys.executable, "-c", INSIDE, str(passage.fileno()), echoing.target],
        pass_fds=(passage.fileno(),),
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        text=True,
    )
    passage.close()
    with ours:
        _data, fds, _flags, _address = socket.recv_fds(ours, 1, 1)
    if not fds:
        said, _ = inside.communicate(timeout=PATIENCE_S)
        assert inside.returncode == 77, said
        pytest.skip(
            f"no user and network namespaces here: {said.strip()}; allow unprivileged user namespaces"
        )
    with running(echoing.target, listener=socket.socket(fileno=fds[0])):
        seen = json.loads(inside.communicate(timeout=PATIENCE_S)[0])
    assert seen == {
        "direct": "ConnectionRefusedError",
        "proxied": connect.TUNNEL_OPEN.decode() + "out",
    }
