"""The way out of sandboxed code: to the hosts of an allow-list, and nowhere else.

Children of a template with an allow-listed network live in a network namespace that has
loopback alone; this process lives in the host's. What joins the two is one listening socket,
made inside the namespace by `listener` and handed out. Whoever connects to it is hostile.

It is told what it asks for by connect.py, what it may have by allowlist.py, and served by
relay.py. This module is also imported where the namespace is made: it loads nothing heavy.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from . import kernel, wire
from .allowlist import Rule, Rules, address_of, parse
from .launcher import CHANNEL_FD, ENGINE_FD

PROXY_PORT = 3128  # in a namespace of its own any would do; this is the one proxies usually have
BACKLOG = 256  # connections that wait while the proxy starts or is full

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_REQUEST = struct.Struct("16sH22x")  # struct ifreq: the interface's name, its flags


def main(control_fd: int = CHANNEL_FD, engine_pidfd: int = ENGINE_FD) -> None:
    """Serve one namespace until the engine is gone or says anything more; does not return.

    The first message on the control socket holds the entries of the list, {"allow": [...]},
    and the listening socket comes with it.
    """
    kernel.set_name("hotbed-proxy")
    control = socket.socket(fileno=control_fd)
    received = wire.receive_message(control)
    if received is not None:
        from . import relay

        message, (listener_fd,) = received
        rules = Rules(map(parse, message["allow"]))
        relay.serve(socket.socket(fileno=listener_fd), rules, [control.fileno(), engine_pidfd])
    os._exit(0)  # a plain exit would wait for resolver threads, and they for name servers


def listener() -> socket.socket:
    """The socket that the proxy of this network namespace will accept from.

    Sets loopback up first: in a new namespace it is down. Clients may connect at once; they
    wait until the proxy has the socket.

    Raises:
        OSError: Without CAP_NET_ADMIN here, or if the port is taken.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, flags = _REQUEST.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _REQUEST.pack(b"lo", 0)))
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _REQUEST.pack(name, flags | _IFF_UP))
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.bind(("127.0.0.1", PROXY_PORT))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def variables(port: int = PROXY_PORT, allow: Iterable[Rule] = ()) -> dict[str, str]:
    """The environment variables by which HTTP clients find the proxy, in both spellings.

    No ALL_PROXY: with a SOCKS URL in it, httpx refuses to start without a package that few have
    installed, and what reads it reads these too. SOCKS is for clients that are told of it.

    Loopback is exempt, since code may well talk to a server of its own; but where the list
    names a loopback address, that is the host's, and the proxy is asked for it.
    """
    url = f"http://127.0.0.1:{port}"
    addresses = [address_of(rule.host) for rule in allow]
    exempt = "" if any(found and found.is_loopback for found in addresses) else "localhost,127.0.0.1"
    values = {"HTTP_PROXY": url, "HTTPS_PROXY": url, "NO_PROXY": exempt}
    return values | {name.lower(): value for name, value in values.items()}
