"""Taking more of the machine than was given.

Each bomb counts what it takes and stops a little above its limit: where nothing holds it, it says
"escaped" and the machine is none the worse.
"""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import ErrorKind, Status

_case = partial(Case, group=Group.RESOURCES)
_TOO_LARGE = (ErrorKind.OUTPUT_TOO_LARGE,)

CASES = (
    # ── processes and descriptors ──
    _case(
        name="fork-without-end",
        law="The number of processes has a limit.",
        needs=(Guard.PROCESS_COUNT,),
        code="""
            pids = []
            with contextlib.suppress(OSError):
                while len(pids) < 200:
                    pids.append(child(hold))
            result = "held" if len(pids) < 32 else f"escaped: {len(pids)} processes with a limit of 32"
            end(pids)
        """,
    ),
    _case(
        name="fork-in-each-fork",
        law="Processes that all fork do not outgrow the limit together.",
        needs=(Guard.PROCESS_COUNT,),
        code="""
            tally, me = Tally(), os.getpid()
            try:
                for _ in range(8):
                    os.fork()
                    time.sleep(0.002)
            except OSError:
                pass
            if os.getpid() != me:
                tally.add()
                hold()
            time.sleep(0.1)
            count = tally.total()
            result = "held" if count < 32 else f"escaped: {count} processes with a limit of 32"
        """,
    ),
    _case(
        name="start-threads-without-end",
        law="Threads count as processes do.",
        needs=(Guard.PROCESS_COUNT,),
        code="""
            gate, count = threading.Event(), 0
            threading.stack_size(65536)
            try:
                while count < 200:
                    threading.Thread(target=gate.wait, daemon=True).start()
                    count += 1
            except (RuntimeError, MemoryError):
                pass
            gate.set()
            result = "held" if count < 32 else f"escaped: {count} threads with a limit of 32"
        """,
    ),
    _case(
        name="keep-the-dead",
        law="Processes that ended and were not waited for count too.",
        needs=(Guard.PROCESS_COUNT,),
        code="""
            count = 0
            with contextlib.suppress(OSError):
                while count < 200:
                    child(lambda: 0)
                    count += 1
            result = "held" if count < 64 else f"escaped: {count} dead with a limit of 32"
        """,
    ),
    _case(
        name="open-without-end",
        law="The number of descriptors has a limit.",
        needs=(Guard.DESCRIPTOR_COUNT,),
        code="""
            count = 0
            with contextlib.suppress(OSError):
                while count < 500:
                    os.open("/dev/null", os.O_RDONLY)
                    count += 1
            result = "held" if count < 64 else f"escaped: {count} descriptors with a limit of 64"
        """,
    ),
    _case(
        name="watch-without-end",
        law="Watches over files, of which a user of the host has few, are bounded.",
        needs=(Guard.DESCRIPTOR_COUNT,),
        code="""
            instances = []
            with contextlib.suppress(OSError):
                while len(instances) < 500:
                    instances.append(something(_libc.inotify_init1(0) + 1) - 1)
            with contextlib.suppress(OSError, IndexError):
                for number in range(500):
                    os.mkdir(f"d{number}")
                    something(_libc.inotify_add_watch(instances[0], b"d%d" % number, 0xFFF) + 1)
            result = "held" if len(instances) < 64 else f"escaped: {len(instances)} instances"
        """,
    ),
    _case(
        name="nest-polls",
        law="Polls that watch polls, which wake each other, are bounded.",
        needs=(Guard.DESCRIPTOR_COUNT,),
        ends=(Status.OK, Status.TIMEOUT),
        limits={"timeout": 1.0},
        code="""
            layer, kept, count = [select.epoll()], [], 1
            r, w = os.pipe()
            layer[0].register(r)
            with contextlib.suppress(OSError):
                while count < 500:
                    upper = [select.epoll() for _ in range(4)]
                    for poll in upper:
                        for lower in layer:
                            poll.register(lower.fileno())
                    kept, layer, count = kept + layer, upper, count + 4
            os.write(w, b"x")
            result = "held" if count < 64 else f"escaped: {count} polls"
        """,
    ),
    _case(
        name="set-timers-without-end",
        law="Timers and pending signals, of which a user of the host has a number, are bounded.",
        needs=(Guard.CALLS,),
        code="""
            count, timer = 0, ctypes.c_int()
            with contextlib.suppress(OSError):
                while count < 20_000:
                    call("timer_create", 1, 0, ctypes.byref(timer))
                    count += 1
            result = "held" if count < 20_000 else f"escaped: {count} timers"
        """,
    ),
    # ── CPU and time ──
    _case(
        name="burn-cpu-time",
        law="CPU time has a limit of its own, and ignoring its signal does not help.",
        needs=(Guard.CPU_TIME,),
        limits={"cpu_time": 1.0, "timeout": 60.0},
        ends=(Status.TIMEOUT,),
        code="""
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            while time.process_time() < 4:  # whole seconds, and one more for who ignores the signal
                pass
            result = "escaped: 4 s of CPU with a limit of 1"
        """,
    ),
    _case(
        name="burn-all-cores",
        law="Several processes together get no more than the share of the cores.",
        needs=(Guard.CPU_SHARE,),
        limits={"cpu": 0.3},
        code="""
            begin = time.monotonic()
            def burn():
                while time.monotonic() - begin < 0.8:
                    pass
            pids = [child(burn) for _ in range(3)]
            for pid in pids:
                os.waitpid(pid, 0)
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            share = (used.ru_utime + used.ru_stime) / (time.monotonic() - begin)
            result = "held" if share < 0.6 else f"escaped: {share:.2f} cores with a limit of 0.3"
        """,
    ),
    _case(
        name="wake-without-end",
        law="A timer that fires each microsecond delays no end.",
        needs=(Guard.ENGINE,),
        limits={"timeout": 0.3},
        ends=(Status.TIMEOUT,),
        code="""
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
            while True:
                pass
        """,
    ),
    _case(
        name="dump-core",
        law="A crash writes no image of the memory.",
        needs=(Guard.FILE_SIZE,),
        code="""
            pid = child(os.abort)
            status = os.waitpid(pid, 0)[1]
            result = "escaped: a core was dumped" if os.WCOREDUMP(status) else "held"
        """,
    ),
    # ── output and value ──
    _case(
        name="flood-stdout",
        law="Output ends at its limit.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR,),
        kinds=_TOO_LARGE,
        code="""
            while True:
                os.write(1, b"x" * 65536)
        """,
    ),
    _case(
        name="flood-stderr",
        law="Error output has a limit of its own.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR,),
        kinds=_TOO_LARGE,
        code="""
            while True:
                print("x" * 999, file=sys.stderr)
        """,
    ),
    _case(
        name="flood-with-zeros",
        law="NUL bytes and invalid text count as any other.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR,),
        kinds=_TOO_LARGE,
        code="""
            while True:
                os.write(1, bytes(4096) + b"\\xff\\xfe\\x80" * 100)
        """,
    ),
    _case(
        name="flood-from-many-processes",
        law="The output of all processes together has one limit.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR,),
        kinds=_TOO_LARGE,
        code="""
            def flood():
                while True:
                    os.write(1, b"x" * 4096)
            pids = [child(flood) for _ in range(8)]
            hold()
        """,
    ),
    _case(
        name="print-one-endless-line",
        law="A line without an end is no reason to wait.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR,),
        kinds=_TOO_LARGE,
        code="""
            while True:
                print("x" * 50, end="")
        """,
    ),
    _case(
        name="return-a-giant-value",
        law="A value ends at its limit.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR,),
        kinds=_TOO_LARGE,
        code="""
            result = "x" * (2 << 20)
        """,
    ),
    _case(
        name="raise-a-giant-error",
        law="An error's text is cut.",
        needs=(Guard.ENGINE,),
        ends=(Status.ERROR, Status.MEMORY),
        code="""
            raise ValueError("x" * (8 << 20))
        """,
    ),
)
