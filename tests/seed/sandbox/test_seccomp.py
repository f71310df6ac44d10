"""The policy of system calls: its program evaluated for every number, and loaded in real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.seed import kernel
from hotbed.seed.sandbox import privileges, seccomp
from hotbed.seed.sandbox.seccomp import ALLOW, DONE, ENOSYS, EPERM, KILL, Look, Policy
from hotbed.seed.sandbox.syscalls import NUMBERS
from tests import interpreters
from tests.seed.sandbox import docker_profile
from tests.seed.sandbox.forked import value_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")

MACHINES = list(NUMBERS)
SOCKETS = ["none", "tcp", "all"]
I386, ARM = 0x40000003, 0x40000028  # AUDIT_ARCH_*
X32 = 0x40000000
ANY_NUMBER = [*range(1024), X32, X32 + 1, X32 + 59, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
EXAMINED = ["clone", "fcntl", "ioctl", "mknod", "mknodat", "personality", "prctl", "prlimit64", "seccomp"]
EXAMINED += ["socket", "socketpair"]
UNEXAMINED = {"sync": DONE, "syncfs": DONE}  # these two have one verdict
HERE = NUMBERS.get(os.uname().machine, {})
REFUSED = [name for name in seccomp._REFUSED.split() if name in HERE]
SEED = Path(seccomp.__file__).parent.parent
PATIENCE_S = 60.0


# -- the program, evaluated ------------------------------------------------------------------------


class Outcome(NamedTuple):
    verdict: int
    steps: int
    words: frozenset[int]  # which words of struct seccomp_data were read


def evaluate(program: bytes, number: int, arguments: tuple[int, ...] = (), *, architecture: int) -> Outcome:
    """What the kernel's BPF machine would answer; fails on what the kernel would not load."""
    padded = [argument % 2**64 for argument in (*arguments, *[0] * 6)][:6]
    data = struct.pack("<IIQ6Q", number, architecture, 0, *padded)
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator = position = steps = 0
    words: set[int] = set()
    while True:
        code, yes, no, operand = instructions[position]
        position += 1
        steps += 1
        if code == 0x06:
            return Outcome(operand, steps, frozenset(words))
        if code == 0x20:
            words.add(operand)
            (accumulator,) = struct.unpack_from("<I", data, operand)
        elif code == 0x54:
            accumulator &= operand
        elif code == 0x15:
            position += yes if accumulator == operand else no
        elif code == 0x35:
            position += yes if accumulator >= operand else no
        else:
            raise AssertionError(f"instruction {code:#x}")


def verdict(machine: str, sockets: str, name: str, *arguments: int) -> int:
    program = seccomp.program(machine, Policy(sockets))
    architecture = seccomp.ARCHITECTURES[machine]
    return evaluate(program, NUMBERS[machine][name], arguments, architecture=architecture).verdict


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=SOCKETS)
def sockets(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def outcome(machine: str, sockets: str) -> Callable[[int], Outcome]:
    """What a number without arguments comes to."""
    program = seccomp.program(machine, Policy(sockets))
    architecture = seccomp.ARCHITECTURES[machine]
    return lambda number: evaluate(program, number, architecture=architecture)


def test_every_name_in_the_policy_is_a_call_of_some_machine() -> None:
    known = set().union(*NUMBERS.values())
    assert {*seccomp._ALLOWED.split(), *seccomp._REFUSED.split(), *seccomp._EXAMINED} <= known


def test_no_name_stands_in_two_parts_of_the_policy() -> None:
    names = [*seccomp._ALLOWED.split(), *seccomp._REFUSED.split(), *seccomp._EXAMINED]
    assert len(names) == len({*names, "socket", "socketpair"}) - 2


def test_every_number_gets_its_verdict_and_all_others_enosys(
    machine: str, sockets: str, outcome: Callable[[int], Outcome]
) -> None:
    numbers = NUMBERS[machine]
    examined = {numbers[name] for name in EXAMINED if name in numbers}
    if sockets == "tcp":
        examined.add(numbers["listen"])
    allowed = {numbers[name] for name in seccomp._ALLOWED.split() if name in numbers}
    refused = {numbers[name] for name in seccomp._REFUSED.split() if name in numbers}
    got = {number: outcome(number).verdict for number in ANY_NUMBER if number not in examined}
    done = {numbers[name] for name in UNEXAMINED if name in numbers}
    expected = dict.fromkeys(got, ENOSYS)
    expected |= dict.fromkeys(allowed & got.keys(), ALLOW) | dict.fromkeys(refused & got.keys(), EPERM)
    expected |= dict.fromkeys(done & got.keys(), DONE)
    assert got == expected


def test_an_allowed_call_is_allowed_by_its_number_alone_so_that_the_kernel_remembers_it(
    machine: str, outcome: Callable[[int], Outcome]
) -> None:
    allowed = [NUMBERS[machine][name] for name in seccomp._ALLOWED.split() if name in NUMBERS[machine]]
    assert {word for number in allowed for word in outcome(number).words} == {0, 4}


def test_a_call_by_another_convention_ends_the_process(machine: str, sockets: str) -> None:
    program = seccomp.program(machine, Policy(sockets))
    others = {I386, ARM, 0, 0xFFFFFFFF, *seccomp.ARCHITECTURES.values()} - {seccomp.ARCHITECTURES[machine]}
    verdicts = {
        evaluate(program, number, architecture=other).verdict for other in others for number in ANY_NUMBER
    }
    assert verdicts == {KILL}


def test_the_way_to_a_verdict_stays_short(machine: str, outcome: Callable[[int], Outcome]) -> None:
    steps = [outcome(number).steps for number in range(471)]
    assert max(steps) <= 20
    assert sum(steps) / len(steps) < 11.5


def test_the_program_stays_small(machine: str, sockets: str) -> None:
    assert len(seccomp.program(machine, Policy(sockets))) // 8 <= 150


STREAM, DGRAM, RAW, FLAGS = 1, 2, 3, 0x80800  # SOCK_CLOEXEC | SOCK_NONBLOCK
UNIX, INET, INET6, NETLINK, PACKET, ALG, VSOCK = 1, 2, 10, 16, 17, 38, 40
TCP, UDP, ICMP, SCTP, MPTCP = 6, 17, 1, 132, 262


@pytest.mark.parametrize(
    ("arguments", "allowing"),
    [
        ((UNIX, STREAM, 0), "none tcp all"),
        ((UNIX, DGRAM | FLAGS, 0), "none tcp all"),
        ((INET, STREAM, 0), "tcp all"),
        ((INET, STREAM | FLAGS, TCP), "tcp all"),
        ((INET6, STREAM | FLAGS, 0), "tcp all"),
        ((INET, STREAM, SCTP), ""),
        ((INET, STREAM, MPTCP), ""),
        ((INET, DGRAM, 0), "all"),
        ((INET6, DGRAM | FLAGS, UDP), "all"),
        ((INET, DGRAM, ICMP), ""),
        ((INET, RAW, ICMP), ""),
        ((INET6, RAW | FLAGS, TCP), ""),
        ((INET, 5, 0), ""),
        ((INET, 10, 0), ""),
        ((NETLINK, RAW, 0), "all"),
        ((NETLINK, DGRAM | FLAGS, 0), "all"),
        ((NETLINK, RAW, 12), ""),
        ((PACKET, RAW, 0x0300), ""),
        ((VSOCK, STREAM, 0), ""),
        ((ALG, 5, 0), ""),
        ((0, STREAM, 0), ""),
        ((0xFFFFFFFF, STREAM, 0), ""),
    ],
)
def test_a_socket_is_of_the_kinds_asked_for_and_no_other(
    machine: str, sockets: str, arguments: tuple[int, ...], allowing: str
) -> None:
    expected = ALLOW if sockets in allowing.split() else EPERM
    assert verdict(machine, sockets, "socket", *arguments) == expected


def test_a_pair_of_sockets_is_a_unix_one(machine: str, sockets: str) -> None:
    allowed = [f for f in range(64) if verdict(machine, sockets, "socketpair", f, STREAM, 0) == ALLOW]
    assert allowed == [UNIX]


THREAD = 0x3D0F00  # what glibc's pthread_create asks for
FORK = 0x01200011  # what its fork asks for
VFORK = 0x4111


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (THREAD,), ALLOW),
        ("clone", (FORK,), ALLOW),
        ("clone", (VFORK,), ALLOW),
        *[
            ("clone", (FORK | flag,), EPERM)
            for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
        ],
        ("clone", (FORK | 0x8000,), EPERM),
        ("ioctl", (0, 0x5401), ALLOW),
        ("ioctl", (0, 0x5412), EPERM),
        ("ioctl", (0, 0x541C), EPERM),
        ("ioctl", (0, 0x5423), EPERM),
        ("ioctl", (0, 0x5422), ALLOW),
        ("mknodat", (0, 0, 0o644), ALLOW),
        ("mknodat", (0, 0, 0o100644), ALLOW),
        ("mknodat", (0, 0, 0o010644), ALLOW),
        ("mknodat", (0, 0, 0o140644), ALLOW),
        ("mknodat", (0, 0, 0o020644), EPERM),
        ("mknodat", (0, 0, 0o060644), EPERM),
        ("mknodat", (0, 0, 0o1020644), EPERM),  # the kernel reads 16 bits of it
        ("personality", (0,), ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW),
        ("personality", (0x0040000,), EPERM),
        ("personality", (0x0400000,), EPERM),
        ("personality", (8,), EPERM),
        ("prctl", (1,), ALLOW),
        ("prctl", (15,), ALLOW),
        ("prctl", (22,), ALLOW),
        ("prctl", (35,), EPERM),
        ("prctl", (62,), EPERM),
        ("prlimit64", (0, 7, 4096, 0), ALLOW),
        ("prlimit64", (1, 7, 0, 4096), ALLOW),
        ("prlimit64", (1, 7, 4096, 0), EPERM),
        ("prlimit64", (1, 7, 0x100000000, 0), EPERM),
        ("seccomp", (1, 0), ALLOW),
        ("seccomp", (1, 1), ALLOW),
        ("seccomp", (1, 8), EPERM),
        ("seccomp", (1, 0x18), EPERM),
        ("clone3", (), ENOSYS),
    ],
)
def test_an_examined_call_is_judged_by_its_arguments(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert verdict(machine, "none", name, *arguments) == expected


@pytest.mark.parametrize("mode", [0, 0o100644, 0o010644, 0o020644, 0o060644])
def test_mknod_is_judged_as_mknodat(mode: int) -> None:
    assert verdict("x86_64", "none", "mknod", 0, mode) == verdict("x86_64", "none", "mknodat", 0, 0, mode)


words = st.integers(0, 2**32 - 1)
telling = st.sampled_from([0, 1, 2, 3, 8, 10, 16, 35, 62, 0x5412, 0x8000, 0x2000, 0x10000000, 2**32 - 1])


@given(
    machine=st.sampled_from(MACHINES),
    sockets=st.sampled_from(SOCKETS),
    name=st.sampled_from([name for name in EXAMINED if name not in ("mknod", "prlimit64")]),
    low=st.lists(words | telling, min_size=6, max_size=6),
    high=st.lists(words, min_size=6, max_size=6),
)
def test_what_the_kernel_does_not_read_of_an_argument_changes_no_verdict(
    machine: str, sockets: str, name: str, low: list[int], high: list[int]
) -> None:
    filled = [value | other << 32 for value, other in zip(low, high, strict=True)]
    assert verdict(machine, sockets, name, *filled) == verdict(machine, sockets, name, *low)


verdicts_of_numbers = st.sampled_from([ALLOW, EPERM, ENOSYS, KILL]) | st.builds(
    lambda values: Look(seccomp.low(2), tuple((value, ALLOW) for value in values), EPERM),
    st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True),
)


@given(
    chosen=st.dictionaries(st.integers(0, 60), verdicts_of_numbers, max_size=40),
    otherwise=st.sampled_from([ALLOW, ENOSYS]),
    third=st.integers(0, 6),
)
def test_compiling_gives_each_number_its_own_verdict(
    chosen: dict[int, seccomp.Verdict], otherwise: int, third: int
) -> None:
    program = seccomp.compile_program(77, chosen, otherwise=otherwise)
    for number in range(64):
        expected = chosen.get(number, otherwise)
        if isinstance(expected, Look):
            expected = dict(expected.cases).get(third, expected.otherwise)
        assert evaluate(program, number, (0, 0, third), architecture=77).verdict == expected


def test_a_machine_without_a_table_is_refused_by_name() -> None:
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program("riscv64", Policy("none"))


# -- the program, loaded ---------------------------------------------------------------------------

LOADED = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from seed import kernel
from seed.sandbox import seccomp, syscalls
del sys.path[0]
numbers = syscalls.NUMBERS[os.uname().machine]
def errno_of(number, *arguments):
    try:
        if kernel.syscall(numbers.get(number, number), *arguments) == 0 and number in ("clone", "fork"):
            os._exit(0)
    except OSError as error:
        return error.errno
    return 0
kernel.prctl(38, 1)
seccomp.load(seccomp.prepare(seccomp.program(os.uname().machine, seccomp.Policy(sys.argv[2]))))
"""


def run(
    code: str, *, sockets: str = "none", python: str | Path = sys.executable, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has loaded the filter, in a session of its own."""
    command = [str(python), "-I", "-c", LOADED + code, str(SEED.parent), sockets]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=cwd,
        start_new_session=True,
    )


ORDINARY = {
    "subprocess": """
import subprocess
assert subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True).stdout == b"42\\n"
assert subprocess.check_output("echo $((6 * 7))", shell=True) == b"42\\n"
""",
    "a pool of processes": """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
""",
    "a process that is spawned": """
import multiprocessing
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=abs, args=(1,))
    process.start()
    process.join()
    assert process.exitcode == 0
""",
    "locks and memory shared between processes": """
import multiprocessing, multiprocessing.shared_memory
with multiprocessing.Lock():
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=8)
    memory.close()
    memory.unlink()
""",
    "asyncio": """
import asyncio
async def main():
    process = await asyncio.create_subprocess_exec("true")
    left, right = await asyncio.gather(asyncio.to_thread(abs, -1), asyncio.sleep(0, 2))
    return await process.wait(), left, right
assert asyncio.run(main()) == (0, 1, 2)
""",
    "threads": """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, range(-8, 0))) == list(range(8, 0, -1))
""",
    "sqlite": """
import sqlite3
with sqlite3.connect("here.db") as connection:
    connection.execute("create table t (x)")
    connection.execute("insert into t values (42)")
    assert connection.execute("select x from t").fetchall() == [(42,)]
""",
    "temporary files and directories": """
import pathlib, shutil, tempfile
with tempfile.TemporaryDirectory() as directory:
    pathlib.Path(directory, "a").write_text("a")
    shutil.copytree(directory, directory + "/b")
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(10)
""",
    "maps, pipes and memory files": """
import mmap
with mmap.mmap(-1, 4096) as memory:
    memory.write(b"x")
reader, writer = os.pipe()
os.write(writer, b"x")
assert os.splice(reader, os.memfd_create("m"), 1) == 1
os.mkfifo("fifo")
os.mknod("file")
""",
    "waiting for what happens": """
import select, selectors, signal, socket
left, right = socket.socketpair()
left.send(b"x")
with selectors.DefaultSelector() as selector:
    selector.register(right, selectors.EVENT_READ)
    assert selector.select(5)
assert select.select([right], [], [], 5)[0]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
signal.setitimer(signal.ITIMER_REAL, 0.001)
assert signal.sigwait([signal.SIGALRM]) == signal.SIGALRM
""",
    "a socket in the file system": """
import socket
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind("s")
    server.listen()
    client.connect("s")
    server.accept()[0].close()
""",
    "a terminal of one's own": """
import pty, termios
master, slave = pty.openpty()
assert os.isatty(slave) and termios.tcgetattr(slave)
""",
    "limits, priorities and places to run": """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 64), hard))
assert resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)
os.sched_setaffinity(0, os.sched_getaffinity(0))
os.nice(1)
""",
    "a filter of its own on top": """
assert errno_of("seccomp", 1, 0, 0) == 14  # EFAULT: read as far as the program
seccomp.load(seccomp.prepare(seccomp.program(os.uname().machine, seccomp.Policy("none"))))
os.getpid()
""",
}


@pytest.mark.parametrize("what", ORDINARY)
def test_ordinary_programs_run(what: str, tmp_path: Path) -> None:
    done = run(ORDINARY[what], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("version", interpreters.VERSIONS)
def test_ordinary_programs_run_on_each_interpreter(version: str, tmp_path: Path) -> None:
    python = interpreters.find(version)
    if python is None:
        pytest.skip(interpreters.how_to_install(version))
    done = run("".join(ORDINARY.values()), python=python, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_numpy_multiplies_on_all_its_threads() -> None:
    code = """
import numpy
a = numpy.ones((512, 512))
assert (a @ a == 512).all() and abs(numpy.linalg.det(numpy.eye(300)) - 1) < 1e-9
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_tcp_works_where_it_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        done = run(f"import socket; socket.create_connection({address!r}).close()", sockets="tcp")
    assert (done.returncode, done.stderr) == (0, "")


def test_udp_and_the_list_of_interfaces_work_where_all_is_asked_for() -> None:
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM); assert socket.if_nameindex()"
    done = run(code, sockets="all")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def refused() -> dict[str, int]:
    # -1 for each argument: a call that did reach the kernel would answer EFAULT, EINVAL or EBADF.
    done = run(f"print(json.dumps({{name: errno_of(name, *[-1] * 6) for name in {REFUSED}}}))")
    assert done.returncode == 0, done.stderr
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_call_answers_eperm(refused: dict[str, int], name: str) -> None:
    assert refused[name] == 1


def test_a_call_that_is_not_in_the_policy_answers_enosys() -> None:
    policy = {*seccomp._ALLOWED.split(), *seccomp._REFUSED.split(), *EXAMINED, *UNEXAMINED}
    # The kernel lets its own two uprobe calls pass any filter (6.14 and later), and kills who misuses them.
    known = {HERE[name] for name in policy | {"uretprobe", "uprobe"} if name in HERE}
    asked = [number for number in range(600) if number not in known]
    done = run(f"print(json.dumps([errno_of(number, *[-1] * 6) for number in {asked}]))")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(json.loads(done.stdout)) == {38}


# Each with arguments that the kernel alone would answer otherwise: 0, EBADF, EFAULT, EINVAL.
REFUSED_BY_ARGUMENT = [
    ("unshare", (0x10000000,)),
    ("clone", (0x10000011, 0, 0, 0, 0)),
    ("clone", (0xFFFFFFFF_10000011, 0, 0, 0, 0)),
    ("clone", (0x8011, 0, 0, 0, 0)),
    ("socket", (INET, STREAM, 0)),
    ("socket", (INET6, DGRAM, 0)),
    ("socket", (PACKET, RAW, 0)),
    ("socket", (NETLINK, RAW, 0)),
    ("socket", (0xFFFFFFFF_00000002, STREAM, 0)),
    ("socketpair", (30, STREAM, 0, -1)),
    ("ioctl", (-1, 0x5412, 0)),
    ("ioctl", (-1, 0x1_00005412, 0)),
    ("ioctl", (-1, 0xFFFFFFFF_0000541C, 0)),
    ("ioctl", (-1, 0x5423, 0)),
    ("mknodat", (-1, -1, 0o020644, 0)),
    ("personality", (0x0040000,)),
    ("prctl", (35, 14, 0, 0, 0)),
    ("prctl", (0x1_0000003E, 0, 0, 0, 0)),
    ("prlimit64", (1, 7, -1, 0)),
    ("seccomp", (1, 8, -1)),
]


@pytest.mark.parametrize(("name", "arguments"), REFUSED_BY_ARGUMENT)
def test_a_call_with_refused_arguments_answers_eperm(name: str, arguments: tuple[int, ...]) -> None:
    signed = [argument - 2**64 if argument >= 2**63 else argument for argument in arguments]
    done = run(f"print(errno_of({name!r}, *{signed}))")
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("name", ["clone3", "shmget", "semget", "msgget", "mq_open", "vmsplice", "io_setup"])
def test_what_libraries_can_do_without_answers_enosys(name: str) -> None:
    assert run(f"print(errno_of({name!r}, *[-1] * 6))").stdout == "38\n"


def test_python_says_permission_error_for_a_refused_socket() -> None:
    done = run("import socket; socket.socket()")
    assert done.stderr.splitlines()[-1] == "PermissionError: [Errno 1] Operation not permitted"


@pytest.mark.parametrize("network", ["none", "tcp"])
def test_no_datagram_leaves_unless_all_is_asked_for(network: str) -> None:
    done = run("import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", sockets=network)
    assert "PermissionError" in done.stderr


def test_what_it_starts_is_bound_too() -> None:
    code = "import subprocess; subprocess.run([sys.executable, '-c', 'import socket; socket.socket()'])"
    assert "PermissionError" in run(code).stderr


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 alone has these ways in")
def test_a_32_bit_call_ends_the_process() -> None:
    code = """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, 20 (getpid); int 0x80; ret
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
"""
    # SIGSEGV where the kernel was built without 32-bit calls
    done = run(code)
    assert done.stdout == ""
    assert -done.returncode in (signal.SIGSYS, signal.SIGSEGV)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64 alone has these ways in")
@pytest.mark.parametrize("number", [39, 56, 272, 512, 520])
def test_an_x32_call_answers_enosys(number: int) -> None:
    assert run(f"print(errno_of({X32 | number}, 0x10000011))").stdout == "38\n"


def test_loading_without_no_new_privs_is_refused_to_users() -> None:
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
from seed.sandbox import seccomp
if os.geteuid() == 0:
    os.setuid(65534)
try:
    seccomp.load(seccomp.prepare(seccomp.program(os.uname().machine, seccomp.Policy("none"))))
except OSError as error:
    print(error.errno)
"""
    command = [sys.executable, "-I", "-c", code, str(SEED.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.stdout, done.stderr) == ("13\n", "")


def test_a_forked_child_loads_what_its_parent_prepared() -> None:
    prepared = seccomp.prepare(seccomp.program(os.uname().machine, seccomp.Policy("none")))
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            kernel.prctl(docker_profile.PR_SET_NO_NEW_PRIVS, 1)
            seccomp.load(prepared)
            os.unlink(b"")
        except OSError as error:
            code = error.errno or 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2


# -- Docker's profile ------------------------------------------------------------------------------


def under_docker(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, docker_profile.__file__, *command],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SEED.parent.parent)},
    )


def test_our_filter_loads_under_dockers() -> None:
    done = under_docker(sys.executable, "-I", "-c", LOADED + "print(1)", str(SEED.parent), "none")
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("unshare", (0x10000000,), EPERM),
        ("mount", (0, 0, 0, 0, 0), EPERM),
        ("clone", (FORK | 0x10000000,), EPERM),
        ("clone", (FORK,), ALLOW),
        ("clone3", (0, 0), ENOSYS),
        ("ptrace", (0, 0, 0, 0), ALLOW),
        ("socket", (INET, STREAM, 0), ALLOW),
        ("socket", (VSOCK, STREAM, 0), EPERM),
        ("landlock_restrict_self", (0, 0), ALLOW),
        ("seccomp", (1, 0, 0), ALLOW),
        ("chroot", (0,), ALLOW),
    ],
)
def test_dockers_profile_is_as_known(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    program = docker_profile.program(machine)
    architecture = seccomp.ARCHITECTURES[machine]
    assert evaluate(program, NUMBERS[machine][name], arguments, architecture=architecture).verdict == expected


def loaded(policy: Policy) -> None:
    privileges.forbid_new()
    seccomp.load(seccomp.prepare(seccomp.program(os.uname().machine, policy)))


def test_without_unix_sockets_only_pairs_are_left() -> None:
    def look() -> str:
        loaded(Policy("none", unix=False))
        with pytest.raises(PermissionError):
            socket.socket(socket.AF_UNIX)
        one, other = socket.socketpair()
        one.send(b"42")
        return other.recv(2).decode()

    assert value_of(look) == "42"


def test_where_tcp_is_all_there_is_none_listens() -> None:
    def look() -> None:
        loaded(Policy("tcp"))
        socket.socket().listen()

    assert value_of(look) == "EPERM"


def verdict_by(policy: Policy, name: str, *arguments: int) -> int:
    machine = "x86_64"
    program = seccomp.program(machine, policy)
    return evaluate(
        program, NUMBERS[machine][name], arguments, architecture=seccomp.ARCHITECTURES[machine]
    ).verdict


PACKETS, DATAGRAMS = 5, 2


@pytest.mark.parametrize(
    ("field", "name", "arguments", "with_it", "without"),
    [
        ("unix", "socket", (1, 1, 0), ALLOW, EPERM),
        ("unix", "socketpair", (1, DATAGRAMS, 0), ALLOW, EPERM),
        ("unix", "socketpair", (1, PACKETS, 0), ALLOW, ALLOW),
        ("own_files", "chmod", (0, 0o4777), ALLOW, DONE),
        ("own_files", "fchmodat", (), ALLOW, DONE),
        ("own_files", "utimensat", (), ALLOW, DONE),
        ("own_files", "chown", (), ALLOW, EPERM),
        ("own_files", "setxattr", (), ALLOW, EPERM),
        ("own_files", "ioctl", (3, 0x40086602), ALLOW, EPERM),
        ("own_files", "ioctl", (3, 0x5412), EPERM, EPERM),
        ("own_pids", "sched_setaffinity", (77,), ALLOW, EPERM),
        ("own_pids", "sched_setaffinity", (0,), ALLOW, ALLOW),
        ("own_pids", "setpriority", (0, 77), ALLOW, EPERM),
        ("own_pids", "setpriority", (2, 0), ALLOW, EPERM),
        ("own_pids", "setpriority", (0, 0), ALLOW, ALLOW),
        ("memfd", "memfd_create", (), ALLOW, ENOSYS),
        ("joins", "setns", (), ALLOW, EPERM),
    ],
)
def test_what_else_confines_the_process_decides(
    field: str, name: str, arguments: tuple[int, ...], with_it: int, without: int
) -> None:
    policy = Policy("none")
    for value, expected in ((True, with_it), (False, without)):
        changed = Policy(**{**policy._asdict(), field: value})
        assert verdict_by(changed, name, *arguments) == expected


@pytest.mark.parametrize("name", ["inotify_init", "inotify_init1", "timer_create"])
def test_what_is_counted_by_user_is_not_to_be_had(name: str) -> None:
    assert verdict_by(Policy("all"), name) == ENOSYS


def test_nobody_stops_adopting_its_orphans() -> None:
    assert verdict_by(Policy("none"), "prctl", 36, 1) == ALLOW
    assert verdict_by(Policy("none"), "prctl", 36, 0) == EPERM
