"""Which hosts sandboxed code may reach: the entries of an allow-list, and what they permit.

Pure: names are not resolved here. Law: what is not named is refused, twice over. The host that
a client asks for must be an entry; and an address that a name turns out to have must be public
or itself an entry. So a listed name whose DNS answers 127.0.0.1, 10.0.0.5 or a cloud's metadata
service (rebinding, or an internal name) gives nothing away: list that address as well, and the
port, where it is meant.

Entries, each with `:port` or without (then 80 and 443):

- "api.example.com": that name, in any case, in Unicode or ASCII, with a final dot or without;
- "*.example.com": every name below it, at any depth, and not example.com itself;
- "10.1.2.3", "[2001:db8::1]": that address. Networks such as 10.0.0.0/8 are refused: an entry
  that opens 16 million private addresses is rarely what was meant.

Not covered: who answers. Once a connection is open its bytes are not read, so a Host header or
a TLS server name that differs from the entry reaches whatever the same server also serves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import NamedTuple

Address = IPv4Address | IPv6Address

DEFAULT_PORTS = (80, 443)
ENTRY_LIMIT = 300  # characters; a name has at most 253, and the IDNA codec is quadratic before 3.11

_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*)(?::([0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)

# These four mean one thing in IDNA 2003, which the standard library has, and another in IDNA
# 2008, which clients speak: "faß.de" would permit fass.de, somebody else's name.
_TWO_MEANINGS = re.compile("[\u00df\u03c2\u200c\u200d]")

# From IANA's registries of special-purpose addresses, written out: `is_global` of ipaddress
# answers differently from one patch release of Python to the next.
_REFUSED_4 = [
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this network"; 0.0.0.0 connects to the machine itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; one cloud's metadata is 100.100.100.200
        "127.0.0.0/8",
        "168.63.129.16/32",  # a public address that is the host in Azure, with its metadata
        "169.254.0.0/16",  # link-local; most clouds' metadata is 169.254.169.254
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # for benchmarks; some VPNs answer from it
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
_PUBLIC_6 = IPv6Network("2000::/3")  # the only global unicast space; fd00:ec2::254 is outside
_REFUSED_6 = [
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, among them Teredo: 2001::/32 holds an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4: holds an IPv4 address
        "3fff::/20",
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")  # its last 32 bits are the IPv4 address that is reached


class Rule(NamedTuple):
    """One entry; `str` gives it back in its plain form."""

    host: str  # as `host_of` gives it, without the "*."
    ports: tuple[int, ...]
    below: bool = False  # the names below `host`, not `host` itself

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.ports == DEFAULT_PORTS else f":{self.ports[0]}"
        return f"{'*.' if self.below else ''}{host}{port}"


class Rules:
    """An allow-list."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: set[tuple[str, int]] = set()
        self._below: set[tuple[str, int]] = set()
        for rule in rules:
            (self._below if rule.below else self._exact).update((rule.host, port) for port in rule.ports)

    def permits(self, host: str, port: int) -> bool:
        """Whether a client may ask for this host, as `host_of` gives it."""
        if (host, port) in self._exact:
            return True
        while host := host.partition(".")[2]:
            if (host, port) in self._below:
                return True
        return False

    def permits_address(self, address: Address, port: int) -> bool:
        """Whether a permitted name may lead to this address."""
        address = unmapped(address)
        return is_public(address) or (str(address), port) in self._exact


def parse(entry: str) -> Rule:
    """The rule that an entry writes down.

    Raises:
        ValueError: If it is none; the message names the entry and says what to write.
    """

    def wrong(why: str) -> ValueError:
        return ValueError(f"network entry {entry[:ENTRY_LIMIT]!r} {why}")

    if len(entry) > ENTRY_LIMIT:
        raise wrong(f"has {len(entry)} characters; a host name has at most 253")
    if entry == "*":
        raise wrong("means every host; write network=True for that")
    if "/" in entry:
        raise wrong("holds a scheme, a path or a network; write host, host:port or one address")
    if entry.count(":") > 1 and "[" not in entry:
        raise wrong("looks like an IPv6 address; write it in brackets, such as '[2001:db8::1]:443'")
    try:
        below = entry.startswith("*.")
        text, port = split(entry[2:] if below else entry)
        host = host_of(_to_ascii(text))
        if below and address_of(host):
            raise ValueError("an address has no names below it")
    except ValueError as error:
        raise wrong(f"is no host: {error}") from None
    return Rule(host, DEFAULT_PORTS if port is None else (port,), below)


def split(authority: str) -> tuple[str, int | None]:
    """Host and port of "host", "host:port", "[address]" or "[address]:port".

    Raises:
        ValueError: If it is none of these, or the port is not from 1 to 65535.
    """
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise ValueError("write it as host or host:port")
    host, digits = match.groups()
    if digits is None:
        return host, None
    port = int(digits)
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is not from 1 to 65535")
    return host, port


def host_of(text: str) -> str:
    """A host in the one form that rules compare: an address, or a name in lower case.

    Of the ways to write an IPv4 address only four decimal numbers are one here. The others
    ("2130706433", "0x7f.1", "127.1", "0177.0.0.1") are addresses to a resolver and would be
    names to a list, so they are neither.

    Raises:
        ValueError: If it is no host.
    """
    if text.startswith("["):
        if "%" in text or not text.endswith("]"):
            raise ValueError("an address has no zone")
        return str(unmapped(IPv6Address(text[1:-1])))
    host = text.lower().removesuffix(".") if text.isascii() else ""
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return str(IPv4Address(host))
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("a name is made of letters, digits, hyphens and dots")
    return host


def address_of(host: str) -> Address | None:
    """The address that a host, as `host_of` gives it, is; None if it is a name."""
    if ":" in host:
        return IPv6Address(host)
    return IPv4Address(host) if _NUMBER.fullmatch(host.rpartition(".")[2]) else None


def unmapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address of the form ::ffff:a.b.c.d stands for, else itself."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_public(address: Address) -> bool:
    """Whether an address belongs to the internet and to nothing nearer."""
    address = unmapped(address)
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return is_public(IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _PUBLIC_6 and not any(address in network for network in _REFUSED_6)
    return not any(address in network for network in _REFUSED_4)


def _to_ascii(name: str) -> str:
    if name.isascii():
        return name
    if _TWO_MEANINGS.search(name):
        raise ValueError("clients do not agree on its ASCII form; write that, which begins with 'xn--'")
    try:
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ValueError("it has no ASCII form") from None
