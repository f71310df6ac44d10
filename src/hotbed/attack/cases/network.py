"""Reaching the host, the network and whatever listens there."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard

_case = partial(Case, group=Group.NETWORK)
_LISTED = ("allowed.invalid:443",)

# The canaries' listeners count connections: those of any case are an escape.
CASES = (
    _case(
        name="connect-to-the-host",
        law="A port of the host is not connected to, by IPv4 or IPv6.",
        needs=(Guard.NETWORK,),
        code="""
            port = host["tcp_port"]
            result = refused(v4=lambda: socket.create_connection(("127.0.0.1", port), 1),
                             any=lambda: socket.create_connection(("0.0.0.0", port), 1),
                             v6=lambda: socket.create_connection(("::1", port), 1),
                             mapped=lambda: socket.create_connection(("::ffff:127.0.0.1", port), 1))
        """,
    ),
    _case(
        name="connect-while-sending",
        law="A first segment with data (TCP_FASTOPEN) connects to nothing either.",
        needs=(Guard.NETWORK,),
        code="""
            def send():
                with socket.socket() as s:
                    return s.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", host["tcp_port"]))
            result = refused(send=send)
        """,
    ),
    _case(
        name="listen-on-a-port",
        law="Nobody outside can connect to it.",
        needs=(Guard.NETWORK,),
        code="""
            def listen(bind):
                with socket.socket() as s:
                    if bind:
                        s.bind(("0.0.0.0", 0))
                    s.listen()
                    return s.getsockname()
            result = refused(bound=lambda: listen(True), unbound=lambda: listen(False))
        """,
    ),
    _case(
        name="send-a-datagram",
        law="No UDP packet reaches the host.",
        needs=(Guard.NETWORK,),
        code="""
            def send(address):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
                    return s.sendto(b"x", address)
            result = refused(host=lambda: send(("127.0.0.1", host["udp_port"])),
                             name_server=lambda: send(("127.0.0.53", 53)))
        """,
    ),
    _case(
        name="resolve-a-name",
        law="No name server is asked, so that no data leaves in a name.",
        needs=(Guard.NETWORK,),
        code="""
            def ask():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as s:
                    s.connect(("192.0.2.1", 53))
                    return s.getsockname()
            result = refused(ask=ask)
        """,
    ),
    _case(
        name="ask-the-clouds-metadata",
        law="The address at which clouds hand out credentials is not reached.",
        needs=(Guard.NETWORK,),
        code="""
            def connect(address):
                with socket.socket() as s:
                    s.settimeout(0.2)
                    s.connect(address)
                    return "connected"
            result = worst(refused(metadata=lambda: connect(("169.254.169.254", 80))),
                           refused(socket=lambda: socket.socket()))
        """,
    ),
    _case(
        name="open-raw-sockets",
        law="No raw socket and no packet socket is opened.",
        needs=(Guard.NETWORK,),
        code="""
            ETH_P_ALL = 0x0300
            result = refused(icmp=lambda: socket.socket(2, 3, 1), raw=lambda: socket.socket(2, 3, 255),
                             raw6=lambda: socket.socket(10, 3, 58), ping=lambda: socket.socket(2, 2, 1),
                             packet=lambda: socket.socket(17, 3, ETH_P_ALL),
                             cooked=lambda: socket.socket(17, 2, 0))
        """,
    ),
    _case(
        name="open-netlink",
        law="The kernel is not asked over netlink: routes, firewall, devices, audit.",
        needs=(Guard.NETWORK,),
        code="""
            protocols = (0, 4, 6, 9, 11, 12, 15, 16, 20)
            result = worst(*(refused(**{f"netlink {p}": lambda: socket.socket(16, 3, p)}) for p in protocols))
        """,
    ),
    _case(
        name="open-the-hypervisors-socket",
        law="The host of a virtual machine is not reached over AF_VSOCK.",
        needs=(Guard.NETWORK,),
        code="""
            result = refused(stream=lambda: socket.socket(40, 1), datagram=lambda: socket.socket(40, 2))
        """,
    ),
    _case(
        name="open-the-kernels-cryptography",
        law="The kernel's ciphers are not used over AF_ALG.",
        needs=(Guard.NETWORK,),
        code="""
            result = refused(alg=lambda: socket.socket(38, 5))
        """,
    ),
    _case(
        name="try-every-family",
        law="Of all families of sockets only that of the file system can be opened.",
        needs=(Guard.NETWORK,),
        code="""
            families = [(f, k) for f in range(48) if f != socket.AF_UNIX for k in (1, 2, 3, 5)]
            result = worst(*(refused(**{f"family {f} kind {k}": lambda: socket.socket(f, k, 0)})
                             for f, k in families))
        """,
    ),
    _case(
        name="hide-the-family-in-high-bits",
        law="Bits of an argument that the kernel ignores do not pass the filter.",
        needs=(Guard.NETWORK,),
        code="""
            high = 1 << 32
            result = refused(family=lambda: call("socket", high | 2, 1, 0),
                             unix=lambda: call("socket", high | 16, 3, 0),
                             kind=lambda: call("socket", 2, high | 1, 0))
        """,
    ),
    _case(
        name="see-the-hosts-network",
        law="Interfaces and connections of the host are not seen.",
        needs=(Guard.NETWORK, Guard.HIDDEN_FILES),
        code="""
            port, found = f":{host['tcp_port']:04X} ", []
            with contextlib.suppress(OSError):
                found += [line for line in open("/proc/net/tcp") if port in line]
            with contextlib.suppress(OSError):
                found += [line for line in open("/proc/net/dev") if ":" in line and "lo:" not in line]
            with contextlib.suppress(OSError):
                found += [line for line in open("/proc/net/unix") if host["abstract"][1:] in line]
            result = f"escaped: {found[0]!r}" if found else "held"
        """,
    ),
    _case(
        name="reach-an-abstract-socket-of-the-host",
        law="No abstract socket of the host is reached, as stream or datagram.",
        needs=(Guard.ABSTRACT_SOCKETS,),
        code="""
            def connect(kind):
                with socket.socket(socket.AF_UNIX, kind) as s:
                    return s.connect(host["abstract"])
            result = refused(stream=lambda: connect(socket.SOCK_STREAM))
        """,
    ),
    _case(
        name="reach-a-socket-in-the-hosts-files",
        law="No socket in the host's file system is reached.",
        needs=(Guard.PATH_SOCKETS,),
        code="""
            names = [host["socket"], "/var/run/docker.sock", "/run/dbus/system_bus_socket", "/dev/log",
                     "/run/systemd/private", "/run/containerd/containerd.sock"]
            def connect(name):
                with socket.socket(socket.AF_UNIX) as s:
                    return s.connect(name)
            result = worst(*(refused(**{name: lambda: connect(name)}) for name in names))
        """,
    ),
    _case(
        name="ask-the-engines-status",
        law="The socket over which the engine tells what runs is not reached.",
        needs=(Guard.PATH_SOCKETS,),
        code="""
            def ask(path):
                with socket.socket(socket.AF_UNIX) as s:
                    s.connect(path)
                    return s.recv(100)
            result = worst(*(refused(**{path: lambda: ask(path)}) for path in host["engine_directories"]))
        """,
    ),
    # ── with an allow-list ──
    _case(
        name="go-around-the-proxy",
        law="With an allow-list, nothing is reached but through the proxy.",
        needs=(Guard.ALLOW_LIST,),
        network=_LISTED,
        code="""
            result = refused(v4=lambda: socket.create_connection(("127.0.0.1", host["tcp_port"]), 1),
                             v6=lambda: socket.create_connection(("::1", host["tcp_port"]), 1))
        """,
    ),
    _case(
        name="use-udp-beside-the-proxy",
        law="With an allow-list there is TCP and nothing else.",
        needs=(Guard.ALLOW_LIST,),
        network=_LISTED,
        code="""
            result = refused(udp=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
                             udp6=lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
                             multipath=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262),
                             sctp=lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132),
                             raw=lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 255),
                             netlink=lambda: socket.socket(16, 3, 0))
        """,
    ),
    _case(
        name="ask-the-proxy-for-another-host",
        law="The proxy connects to no host that is not on the list, however the request is written.",
        needs=(Guard.ALLOW_LIST,),
        network=_LISTED,
        code="""
            import urllib.parse
            proxy = urllib.parse.urlsplit(os.environ.get("HTTP_PROXY") or os.environ["http_proxy"])
            listed, here = "allowed.invalid:443", f"127.0.0.1:{host['tcp_port']}"
            port = host["tcp_port"]
            targets = [here, f"[::1]:{port}", f"[::ffff:127.0.0.1]:{port}", f"2130706433:{port}",
                       f"0x7f000001:{port}", f"localhost:{port}", "allowed.invalid:80", "169.254.169.254:80",
                       f"{listed}@{here}", f"{here}#{listed}", f"{here}\\r\\nHost: {listed}",
                       f"{here}\\0.{listed}", "allowed.invalid.:80", f"x.{listed}"]
            end = f" HTTP/1.1\\r\\nHost: {listed}\\r\\n\\r\\n"
            requests = [f"CONNECT {target}{end}" for target in targets]
            requests += [f"GET http://{here}/{end}", f"GET / HTTP/1.1\\r\\nHost: {here}\\r\\n\\r\\n"]
            def ask(request):
                with socket.create_connection((proxy.hostname, proxy.port), 3) as s:
                    s.settimeout(3)
                    s.sendall(request.encode("latin-1"))
                    line = s.recv(1000).split(b"\\r\\n")[0]
                return something(line if line.split()[1:2] == [b"200"] else b"")
            result = worst(*(refused(**{request[:60]: lambda: ask(request)}) for request in requests))
        """,
    ),
    _case(
        name="crowd-the-proxy",
        law="Connections to the proxy that say nothing, and its end, leave it to the next execution.",
        needs=(Guard.ALLOW_LIST,),
        network=_LISTED,
        code="""
            address, kept = ("127.0.0.1", int(os.environ["HTTP_PROXY"].rpartition(":")[2])), []
            def crowd():
                with contextlib.suppress(OSError):
                    while len(kept) < 60:
                        kept.append(socket.create_connection(address, 0.2))
                tally.add()
                hold()
            tally = Tally()
            for _ in range(6):
                child(crowd)
            deadline = time.monotonic() + 2
            while tally.total() < 6 and time.monotonic() < deadline:
                time.sleep(0.005)
            result = "held"
        """,
        then="""
            address = ("127.0.0.1", int(os.environ["HTTP_PROXY"].rpartition(":")[2]))
            with socket.create_connection(address, 5) as s:
                s.settimeout(5)
                s.sendall(b"CONNECT x.invalid:1 HTTP/1.1\\r\\n\\r\\n")
                result = "held" if s.recv(100) else "escaped: no answer"
        """,
    ),
    _case(
        name="send-the-proxy-an-endless-request",
        law="A request without an end is cut, and so is one that is no request.",
        needs=(Guard.ALLOW_LIST,),
        network=_LISTED,
        code="""
            address = ("127.0.0.1", int(os.environ["HTTP_PROXY"].rpartition(":")[2]))
            def send(block):
                deadline = time.monotonic() + 4  # a refused client is heard for a second
                with contextlib.suppress(OSError), socket.create_connection(address, 1) as s:
                    s.settimeout(0.3)
                    while time.monotonic() < deadline:
                        s.sendall(block * 64)
                        time.sleep(0.001)
                    return 7
            blocks = [b"x" * 16, b"a: bcdefghijkl\\r\\n", bytes(16), b"\\x05\\xff" * 8]
            pids = [child(lambda: send(block)) for block in blocks]
            ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            result = "escaped: it reads without end" if any(ends) else "held"
        """,
    ),
)
