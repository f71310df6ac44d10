"""Leaving something that the next execution finds, or lacks.

Each program leaves, and `then` looks, in more executions than can have been waiting meanwhile.
"""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import Status

_case = partial(Case, group=Group.LEAKS, needs=(Guard.CLEAN_START,))

CASES = (
    _case(
        name="leave-files",
        law="Files of the work, home and temporary directories are gone.",
        needs=(Guard.TEMPORARY,),
        code="""
            import tempfile
            home, temporary = os.path.expanduser("~"), tempfile.gettempdir()
            for place in {".", home, temporary, "/tmp", "/dev/shm", "/var/tmp"}:
                with contextlib.suppress(OSError):
                    open(f"{place}/hotbed-attack-left", "w").close()
            result = "held"
        """,
        then="""
            import tempfile
            home, temporary = os.path.expanduser("~"), tempfile.gettempdir()
            places = {".", home, temporary, "/tmp", "/dev/shm", "/var/tmp"}
            found = [place for place in places if os.path.exists(f"{place}/hotbed-attack-left")]
            result = f"escaped: {found}" if found else "held"
        """,
        harmless=False,  # they would stay
    ),
    _case(
        name="leave-variables",
        law="Variables of the environment are gone, those that steer loaders and interpreters too.",
        code="""
            for name in ("LEFT", "LD_PRELOAD", "PYTHONSTARTUP", "PYTHONPATH", "HTTP_PROXY"):
                os.environ[name] = "/hotbed-attack-left"
            result = "held"
        """,
        then="""
            found = [name for name, value in os.environ.items() if "hotbed-attack-left" in value]
            result = f"escaped: {found}" if found else "held"
        """,
    ),
    _case(
        name="leave-patched-modules",
        law="Patched builtins and modules are as they were.",
        code="""
            import builtins, decimal
            builtins.left = json.left = os.left = 1
            builtins.sum = lambda *_: 41
            sys.path.insert(0, "/hotbed-attack-left")
            sys.modules["left"] = json
            decimal.getcontext().prec = 3
            result = "held"
        """,
        then="""
            import builtins, decimal
            found = [thing for thing in (builtins, json, os) if hasattr(thing, "left")]
            found += ["left"] * ("left" in sys.modules) + [p for p in sys.path if "left" in p]
            found += ["sum"] * (sum([40, 2]) != 42) + ["decimal"] * (decimal.getcontext().prec != 28)
            result = f"escaped: {found}" if found else "held"
        """,
    ),
    _case(
        name="leave-process-settings",
        law="Mask, limits, priority, signal handlers and timers are as they were.",
        code="""
            os.umask(0o777)
            os.nice(5)
            resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            signal.setitimer(signal.ITIMER_REAL, 1000)
            os.environ.clear()
            result = "held"
        """,
        then="""
            mask = os.umask(0o022)
            found = {"umask": mask == 0o777, "nice": os.nice(0) >= 5, "environ": not os.environ,
                     "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 20,
                     "mask": bool(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                     "handler": signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN,
                     "timer": signal.getitimer(signal.ITIMER_REAL)[0] > 0}
            left = [name for name, it_is in found.items() if it_is]
            result = f"escaped: {left}" if left else "held"
        """,
    ),
    _case(
        name="leave-a-seed",
        law="Random numbers do not go on from a seed that was set before.",
        code="""
            import random
            random.seed(42)
            result = "held"
        """,
        then="""
            import random
            result = "held" if random.random() != random.Random(42).random() else "escaped: the same number"
        """,
    ),
    _case(
        name="leave-memory-to-be-read",
        law="Nothing that was in its memory is in that of the next.",
        code="""
            kept = [("hotbed-attack" + "-marked-memory").encode() * 1000 for _ in range(100)]
            result = "held"
        """,
        then="""
            mark, found = b"hotbed-attack" + b"-marked-memory" * 2, 0
            mark = mark[: len(b"hotbed-attack-marked-memory")]
            with contextlib.suppress(OSError), open("/proc/self/mem", "rb", 0) as memory:
                for line in open("/proc/self/maps"):
                    span, rights, *_ = line.split()
                    begin, stop = (int(part, 16) for part in span.split("-"))
                    if rights.startswith("rw") and stop - begin < 64 << 20:
                        with contextlib.suppress(OSError):
                            memory.seek(begin)
                            found += memory.read(stop - begin).count(mark * 2)
            result = f"escaped: {found} copies" if found else "held"
        """,
    ),
    _case(
        name="find-the-engines-environment",
        law="The engine's variables are nowhere in its memory, and not among its own.",
        needs=(Guard.ENVIRONMENT,),
        code="""
            name = host["secret_variable"]
            if name in os.environ:
                result = "escaped: it is set"
            else:
                mark, found = f"{name}=".encode(), 0
                with contextlib.suppress(OSError), open("/proc/self/mem", "rb", 0) as memory:
                    for line in open("/proc/self/maps"):
                        span, rights, *_ = line.split()
                        begin, stop = (int(part, 16) for part in span.split("-"))
                        if rights.startswith("r") and "[v" not in line and stop - begin < 64 << 20:
                            with contextlib.suppress(OSError):
                                memory.seek(begin)
                                data = memory.read(stop - begin)
                                at = -1
                                while (at := data.find(mark, at + 1)) >= 0:
                                    found += data[at + len(mark):at + len(mark) + 32].isalnum()
                result = f"escaped: {found} copies" if found else "held"
        """,
    ),
    _case(
        name="leave-a-daemon-that-prints",
        law="What it left running prints nothing into the next execution's output.",
        code="""
            def talk():
                os.setsid()
                while True:
                    os.write(1, b"escaped: I am still here")
                    time.sleep(0.005)
            child(talk)
            result = "held"
        """,
        then="""
            time.sleep(0.02)
            result = "held"  # the runner looks at what was printed
        """,
    ),
    _case(
        name="leave-an-abstract-socket",
        law="A name of an abstract socket that a daemon holds is free for the next one.",
        code="""
            def listen():
                os.setsid()
                with contextlib.suppress(OSError):
                    kept = socket.socket(socket.AF_UNIX)
                    kept.bind("\\0hotbed-attack-left")
                    kept.listen()
                tally.add()
                hold()
            tally = Tally()
            child(listen)
            while not tally.total():
                time.sleep(0.001)
            result = "held"
        """,
        then="""
            deadline, result = time.monotonic() + 2, "escaped: the name is taken"
            while result != "held" and time.monotonic() < deadline:
                try:
                    with socket.socket(socket.AF_UNIX) as s:
                        s.bind("\\0hotbed-attack-left")
                    result = "held"
                except PermissionError:
                    result = "held"  # there are no such sockets here
                except OSError:
                    time.sleep(0.005)
        """,
    ),
    _case(
        name="leave-a-lock",
        law="A lock on a file of the interpreter is gone with its holder.",
        code="""
            import fcntl
            def lock():
                os.setsid()
                fd = os.open(os.__file__, os.O_RDONLY)
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                tally.add()
                hold()
            tally = Tally()
            child(lock)
            deadline = time.monotonic() + 1
            while not tally.total() and time.monotonic() < deadline:
                time.sleep(0.001)
            result = "held"
        """,
        then="""
            import fcntl
            deadline, result = time.monotonic() + 2, "escaped: it is locked"
            fd = os.open(os.__file__, os.O_RDONLY)
            while result != "held" and time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    fcntl.flock(fd, fcntl.LOCK_UN)
                    result = "held"
                time.sleep(0.005)
        """,
    ),
    _case(
        name="leave-system-v-memory",
        law="No System V memory is found by its key.",
        needs=(Guard.SYSV,),
        code="""
            with contextlib.suppress(OSError):
                call("shmget", 0x68627462, 4096, 0o1600)
            result = "held"
        """,
        then="""
            result = refused(found=lambda: call("shmget", 0x68627462, 4096, 0o600))
        """,
        harmless=False,
    ),
    _case(
        name="leave-a-key",
        law="No key is found in the user's or the session's keyring.",
        needs=(Guard.KEYRINGS,),
        code="""
            for ring in (-3, -4, -5):  # session, user, user session
                with contextlib.suppress(OSError):
                    call("add_key", b"user", b"hotbed-attack-left", b"left", 4, ring)
            result = "held"
        """,
        then="""
            result = refused(session=lambda: call("keyctl", 10, -3, b"user", b"hotbed-attack-left", 0),
                             user=lambda: call("keyctl", 10, -4, b"user", b"hotbed-attack-left", 0),
                             request=lambda: call("request_key", b"user", b"hotbed-attack-left", 0, 0))
        """,
        harmless=False,
    ),
    _case(
        name="leave-a-full-disk",
        law="The next execution has the whole of its disk.",
        needs=(Guard.DISK,),
        code="""
            with contextlib.suppress(OSError), open("full", "wb", 0) as file:
                for _ in range(17):
                    file.write(bytes(1 << 20))
            result = "held"
        """,
        then="""
            try:
                with open("mine", "wb", 0) as file:
                    written = sum(file.write(bytes(1 << 20)) for _ in range(12))
                os.unlink("mine")
                result = "held" if written == 12 << 20 else f"escaped: only {written}"
            except OSError as error:
                result = f"escaped: {error}"
        """,
        harmless=False,
    ),
    _case(
        name="leave-used-memory",
        law="The next execution has the whole of its memory.",
        needs=(Guard.TREE_MEMORY,),
        limits={"memory": "80M"},
        ends=(Status.OK, Status.MEMORY),
        code="""
            fd = os.memfd_create("left")
            kept = bytearray(b"x" * (24 << 20))
            os.write(fd, kept)
            result = "held"
        """,
        then="""
            kept = bytearray(b"x" * (24 << 20))
            result = "held"
        """,
    ),
    _case(
        name="leave-a-crowd",
        law="The next execution has the whole number of its processes.",
        needs=(Guard.PROCESS_COUNT,),
        code="""
            with contextlib.suppress(OSError):
                for _ in range(40):
                    child(hold)
            result = "held"
        """,
        then="""
            pids = [child(hold) for _ in range(20)]
            end(pids)
            result = "held"
        """,
    ),
    _case(
        name="leave-by-being-killed",
        law="An execution that was killed for its memory leaves nothing either.",
        needs=(Guard.MEMORY,),
        limits={"memory": "64M"},
        ends=(Status.MEMORY, Status.OK),
        code="""
            result = "held"
            with contextlib.suppress(MemoryError):
                kept = bytearray(b"x" * (96 << 20))
                result = "escaped: 96 MiB with a limit of 64"
        """,
        then="""
            kept = bytearray(b"x" * (16 << 20))
            result = "held"
        """,
    ),
)
