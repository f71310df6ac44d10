"""What a client of the proxy asks for, and what it is told: HTTP and SOCKS5.

Pure: bytes in, an Ask or a Refusal out. The bytes come from hostile code; what is not exactly
the form below is refused, never guessed at. Three forms, told apart by what comes first:

- byte 5: SOCKS5 (RFC 1928) without authentication, CONNECT only;
- `CONNECT host:port HTTP/1.1`: a tunnel (RFC 9110, 9.3.6), for TLS and anything else over TCP;
- `GET http://host/path HTTP/1.1`, or any other method: one request, handed on.

Each client connection has a server connection of its own, so a request that two servers would
split differently ("smuggling") can only mislead the server that its sender may talk to anyway.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from . import allowlist

SOCKS_VERSION = 5
NO_AUTHENTICATION = 0
NO_METHOD = 0xFF
HEAD_LIMIT = 8192  # bytes of a request's head, what common servers take in one line

TUNNEL_OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"

# Replies of SOCKS5.
SOCKS_OPEN = 0
SOCKS_FAILED = 1
SOCKS_FORBIDDEN = 2
SOCKS_NET_UNREACHABLE = 3
SOCKS_HOST_UNREACHABLE = 4
SOCKS_CONNECTION_REFUSED = 5
SOCKS_NO_COMMAND = 7
SOCKS_NO_ADDRESS_TYPE = 8

_TOKEN = rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) (HTTP/1\.[01])")
# One class for the value and no optional space before it: two that overlap are tried in every
# combination when a value does not match.
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([\t -~\x80-\xff]*)")
_URL = re.compile(r"http://([^/?#]+)(/[^?#]*)?(\?[^#]*)?", re.ASCII | re.IGNORECASE)
_BARE_LF = re.compile(rb"(?<!\r)\n")

# Fields of this connection, not of the request (RFC 9110, 7.6.1); Host is written anew.
_OURS = {
    b"connection",
    b"host",
    b"keep-alive",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"upgrade",
}


class Refusal(Exception):
    """Why a client gets no connection, with the HTTP status and the SOCKS5 reply to say it by."""

    def __init__(self, status: int, code: int, text: str) -> None:
        super().__init__(text)
        self.status, self.code, self.text = status, code, text

    def answer(self, *, socks: bool) -> bytes:
        """What the client is sent.

        The text is the reason phrase too: that is what HTTP clients show of a refused CONNECT.
        """
        if socks:
            return _socks_reply(self.code)
        text = self.text.encode("ascii", "replace")
        lines = [
            b"HTTP/1.1 %d %s" % (self.status, text),
            b"Content-Type: text/plain",
            b"Content-Length: %d" % (len(text) + 1),
            b"Connection: close",
        ]
        return b"\r\n".join([*lines, b"", text + b"\n"])


class Ask(NamedTuple):
    """Where a client wants to go."""

    host: str  # as `allowlist.host_of` gives it
    port: int
    reply: bytes  # what the client is told when the connection is there
    onward: bytes  # what the server is sent first
    size: int  # bytes of the client's that said so; what follows them is for the server

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def http(data: bytes) -> Ask | None:
    """What a request's head asks for; None while the head is incomplete.

    Raises:
        Refusal: If it is no request for a proxy.
    """
    end = data.find(b"\r\n\r\n")
    head = data[:end] if end >= 0 else data
    if len(head) > HEAD_LIMIT:
        raise Refusal(431, SOCKS_FAILED, f"the head of a request has at most {HEAD_LIMIT} bytes here")
    if _BARE_LF.search(head):  # said at once: its sender believes that the head is complete
        raise _malformed("lines end in CR LF")
    if end < 0:
        return None
    line, *fields = head.split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        raise _malformed("the first line is no HTTP/1.1 request")
    method, target, version = request.groups()
    named: list[tuple[bytes, bytes]] = []
    for field in fields:
        match = _FIELD.fullmatch(field)
        if match is None:
            raise _malformed("a header line has no name or holds control characters")
        named.append((match[1], match[2]))
    size = end + 4
    if method == b"CONNECT":
        host, port = _where(target.decode("ascii"), None)
        return Ask(host, port, TUNNEL_OPEN, b"", size)
    url = _URL.fullmatch(target.decode("ascii"))
    if url is None:
        raise _malformed("this is a proxy: ask for http://host/path, or CONNECT host:port for https")
    authority, path, query = url.groups()
    host, port = _where(authority, 80)
    resource = f"{path or '/'}{query or ''}".encode("ascii")
    onward = _head(b"%s %s %s" % (method, resource, version), authority.encode("ascii"), named)
    return Ask(host, port, b"", onward, size)


def _where(authority: str, default_port: int | None) -> tuple[str, int]:
    try:
        text, port = allowlist.split(authority)
        host = allowlist.host_of(text)
    except ValueError:
        raise _malformed("it names no host") from None
    if (port := port or default_port) is None:
        raise _malformed("CONNECT needs host:port")
    return host, port


def _head(line: bytes, authority: bytes, fields: list[tuple[bytes, bytes]]) -> bytes:
    """The head that the server gets: the host is the one that was checked.

    `Connection: close` makes this the last request of the connection: a client would send its
    next one here for whatever host, and it would reach this server.
    """
    dropped = set(_OURS)
    for name, value in fields:
        if name.lower() == b"connection":
            dropped.update(option.strip().lower() for option in value.split(b","))
    lines = [line, b"Host: " + authority]
    lines += [name + b":" + value for name, value in fields if name.lower() not in dropped]
    return b"\r\n".join([*lines, b"Connection: close", b"", b""])


def _malformed(why: str) -> Refusal:
    return Refusal(400, SOCKS_FAILED, f"malformed request: {why}")


def greeting(data: bytes) -> tuple[int, int] | None:
    """The authentication method to answer a SOCKS5 greeting with, and the greeting's size.

    NO_METHOD ends the conversation. None while the greeting is incomplete.
    """
    if len(data) < 2 or len(data) < 2 + data[1]:
        return None
    size = 2 + data[1]
    return (NO_AUTHENTICATION if NO_AUTHENTICATION in data[2:size] else NO_METHOD), size


def socks(data: bytes) -> Ask | None:
    """What a SOCKS5 request asks for; None while it is incomplete.

    Raises:
        Refusal: If it asks for something else than a connection to a host.
    """
    if len(data) < 5:
        return None
    version, command, _reserved, kind, length = data[:5]
    if version != SOCKS_VERSION:
        raise Refusal(400, SOCKS_FAILED, "not SOCKS5")
    if command != 1:
        raise Refusal(400, SOCKS_NO_COMMAND, "CONNECT only")
    start, size = {1: (4, 4), 3: (5, length), 4: (4, 16)}.get(kind, (0, 0))
    if not start:
        raise Refusal(400, SOCKS_NO_ADDRESS_TYPE, "neither an address nor a name")
    end = start + size
    if len(data) < end + 2:
        return None
    name, port = data[start:end], int.from_bytes(data[end : end + 2], "big")
    try:
        if kind == 3:
            host = allowlist.host_of(name.decode("ascii"))
        else:
            host = str(allowlist.unmapped(ip_address(name)))
    except ValueError:
        raise Refusal(400, SOCKS_FAILED, "it names no host") from None
    if port == 0:
        raise Refusal(400, SOCKS_FAILED, "port 0 is none")
    return Ask(host, port, _socks_reply(SOCKS_OPEN), b"", end + 2)


def _socks_reply(code: int) -> bytes:
    return bytes([SOCKS_VERSION, code, 0, 1]) + bytes(6)  # the address bound on our side is our affair
