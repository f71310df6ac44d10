"""What an allow-list permits, and that no other way of writing a host gets round it."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotbed.seed import allowlist
from hotbed.seed.allowlist import Rules, address_of, host_of, is_public, parse


def rules(*entries: str) -> Rules:
    return Rules(map(parse, entries))


# ── entries ──


@pytest.mark.parametrize(
    ("entry", "plain", "ports"),
    [
        ("api.example.com", "api.example.com", (80, 443)),
        ("API.Example.COM.", "api.example.com", (80, 443)),
        ("api.example.com:8443", "api.example.com:8443", (8443,)),
        ("api.example.com.:443", "api.example.com:443", (443,)),
        ("*.example.com:443", "*.example.com:443", (443,)),
        ("*.Example.com", "*.example.com", (80, 443)),
        ("localhost:1", "localhost:1", (1,)),
        ("my_service:65535", "my_service:65535", (65535,)),
        ("bücher.example", "xn--bcher-kva.example", (80, 443)),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah", (80, 443)),
        ("xn--fa-hia.de", "xn--fa-hia.de", (80, 443)),
        ("10.1.2.3:5432", "10.1.2.3:5432", (5432,)),
        ("127.0.0.1.", "127.0.0.1", (80, 443)),
        ("[2001:DB8:0:0::1]:443", "[2001:db8::1]:443", (443,)),
        ("[::1]", "[::1]", (80, 443)),
        ("[::ffff:10.0.0.1]:80", "10.0.0.1:80", (80,)),
    ],
)
def test_an_entry_has_one_plain_form(entry: str, plain: str, ports: tuple[int, ...]) -> None:
    rule = parse(entry)
    assert (str(rule), rule.ports) == (plain, ports)
    assert parse(plain) == rule


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("", "letters, digits"),
        ("*", "network=True"),
        ("https://api.example.com", "scheme, a path or a network"),
        ("api.example.com/v1", "scheme, a path or a network"),
        ("10.0.0.0/8:80", "scheme, a path or a network"),
        ("user@api.example.com", "letters, digits"),
        ("api.example.com:", "host or host:port"),
        ("api.example.com:0", "port 0"),
        ("api.example.com:65536", "port 65536"),
        ("api.example.com:+80", "host or host:port"),
        ("api.example.com:https", "host or host:port"),
        ("api.example.com:٤٤٣", "host or host:port"),
        ("2001:db8::1", "in brackets"),
        ("[2001:db8::1", "host or host:port"),
        ("[fe80::1%eth0]:80", "no zone"),
        ("[api.example.com]", "is no host"),
        ("*.10.0.0.1", "no names below"),
        ("api.*.com", "letters, digits"),
        ("**.example.com", "letters, digits"),
        (".example.com", "letters, digits"),
        ("example..com", "letters, digits"),
        ("example.com..", "letters, digits"),
        ("-a.example.com", "letters, digits"),
        ("a b.example.com", "letters, digits"),
        ("a\0.example.com", "letters, digits"),
        ("a.example.com\n", "letters, digits"),
        ("x" * 64 + ".com", "letters, digits"),
        (".".join(["x" * 60] * 5), "304 characters"),
        ("x.1", "is no host"),
        ("256.1.1.1", "is no host"),
        ("faß.de", "xn--"),
        ("a\u200db.example", "xn--"),
        ("\ud800.example", "no ASCII form"),
    ],
)
def test_what_is_no_entry_is_refused_by_name_and_reason(entry: str, why: str) -> None:
    with pytest.raises(ValueError, match="network entry") as caught:
        parse(entry)
    assert why in str(caught.value)
    assert repr(entry[:40])[1:-1] in str(caught.value)


@given(st.text() | st.text(alphabet="*.:[]-_%/@\\ 019aAxX\0\né。", max_size=40))
def test_any_text_is_an_entry_or_a_value_error(text: str) -> None:
    try:
        rule = parse(text)
    except ValueError:
        return
    assert parse(str(rule)) == rule
    assert str(rule).isascii()


# ── hosts ──


def test_a_host_is_permitted_on_the_ports_of_its_entry() -> None:
    listed = rules("a.example", "b.example:8080")
    assert [listed.permits("a.example", port) for port in (80, 443, 8080)] == [True, True, False]
    assert [listed.permits("b.example", port) for port in (80, 443, 8080)] == [False, False, True]


@pytest.mark.parametrize(
    ("host", "permitted"),
    [
        ("a.example.com", True),
        ("a.b.c.example.com", True),
        ("example.com", False),
        ("aexample.com", False),
        ("example.com.evil.net", False),
        ("com", False),
        ("", False),
    ],
)
def test_a_star_permits_the_names_below_and_nothing_else(host: str, permitted: bool) -> None:
    assert rules("*.example.com:443").permits(host, 443) is permitted


def test_an_empty_list_permits_nothing() -> None:
    assert not rules().permits("example.com", 443)


@pytest.mark.parametrize(
    "text",
    [
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "017700000001",
        "127.0.0.0x1",
        "1.2.3.4.5",
        "1.0x",
        "١٢٧.0.0.1",
        "127。0。0。1",
        "[::1%1]",
        "[::1",
        "::1",
        "0x",
    ],
)
def test_an_address_written_otherwise_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        host_of(text)


@given(st.from_regex(r"[0-9a-fx]{0,4}(\.[0-9a-fx]{0,12}){0,4}", fullmatch=True) | st.text(max_size=30))
@example("127.1")
@example("1.2.3.4 x")
def test_no_name_is_an_address_to_the_resolver(text: str) -> None:
    try:
        host = host_of(text)
    except ValueError:
        return
    assert host_of(f"[{host}]" if ":" in host else host) == host
    if address_of(host) is None:
        with pytest.raises(OSError, match="illegal IP"):
            socket.inet_aton(host)
    elif ":" not in host:
        assert socket.inet_ntoa(socket.inet_aton(text.removesuffix("."))) == host


# ── addresses ──


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.7",
        "203.0.113.9",
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "100::1",
        "2001:db8::1",
        "2001:10::1",
        "3fff::1",
        "5f00::1",
        "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "2002:7f00:1::",
        "2001:0:1:2:3:4:80ff:fffe",
        "4000::1",
    ],
)
def test_an_address_nearer_than_the_internet_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "1.1.1.1",
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.17",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2606:4700::1111",
        "2001:4860:4860::8888",
        "2a00:1450::1",
    ],
)
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_no_address_that_the_standard_library_knows_as_near_is_public(address: allowlist.Address) -> None:
    shown = allowlist.unmapped(address)
    near = not shown.is_global or shown.is_multicast or shown.is_reserved
    # It counts NAT64 as reserved; what that leads to is the next law's.
    assert not (near and is_public(address)) or address in ipaddress.ip_network("64:ff9b::/96")


@given(st.ip_addresses(v=4))
@example(ipaddress.IPv4Address("169.254.169.254"))
def test_an_address_is_no_more_public_inside_another(address: ipaddress.IPv4Address) -> None:
    low = int(address)
    holding = [(0xFFFF << 32) | low, low, (0x64FF9B << 96) | low, (0x2002 << 112) | (low << 80)]
    holding.append((0x20010000 << 96) | (low ^ 0xFFFFFFFF))
    assert is_public(address) or not any(is_public(ipaddress.IPv6Address(number)) for number in holding)


def test_a_name_may_not_lead_to_a_private_address() -> None:
    private, public = ipaddress.ip_address("10.0.0.5"), ipaddress.ip_address("8.8.8.8")
    listed = rules("internal.example:80")
    assert [listed.permits_address(address, 80) for address in (private, public)] == [False, True]


def test_a_private_address_is_open_where_it_is_an_entry_itself_and_on_that_port() -> None:
    listed = rules("internal.example", "10.0.0.5:80", "[fd00:ec2::254]:80")
    for text, port, permitted in [
        ("10.0.0.5", 80, True),
        ("::ffff:10.0.0.5", 80, True),
        ("10.0.0.5", 443, False),
        ("10.0.0.6", 80, False),
        ("fd00:ec2::254", 80, True),
    ]:
        assert listed.permits_address(ipaddress.ip_address(text), port) is permitted
