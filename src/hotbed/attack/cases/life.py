"""Ending in every way but the ordinary one, or not at all."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import ErrorKind, Status

_case = partial(Case, group=Group.LIFE, needs=(Guard.ENGINE,))
_SOON = {"timeout": 0.3}

CASES = (
    _case(
        name="loop-without-end",
        law="A loop that catches everything ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        """,
    ),
    _case(
        name="call-c-without-end",
        law="A call of C code that never returns to Python ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            import re
            re.match("(a+)+$", "a" * 60 + "b")
        """,
    ),
    _case(
        name="stop-itself",
        law="A stopped process ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            os.kill(os.getpid(), signal.SIGSTOP)
        """,
    ),
    _case(
        name="ignore-every-signal",
        law="Ignoring and blocking every signal does not prolong a life.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                with contextlib.suppress(OSError):
                    signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            hold()
        """,
    ),
    _case(
        name="let-the-parent-wait-for-a-copy",
        law="A process that the kernel suspends until its child ends (vfork) can be killed.",
        limits=_SOON,
        ends=(Status.TIMEOUT, Status.OK),
        code="""
            CLONE_VFORK = 0x4000
            result = "held"
            with contextlib.suppress(OSError):
                if call("clone", CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
                    hold()
        """,
    ),
    _case(
        name="leave-a-daemon",
        law="A daemon of its own session, which keeps the pipes and ignores signals, delays nobody.",
        wall_s=3.0,
        code="""
            def daemon():
                os.setsid()
                for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                    with contextlib.suppress(OSError):
                        signal.signal(number, signal.SIG_IGN)
                if os.fork() == 0:
                    hold()
                return 0
            forked(daemon)
            result = "held"
        """,
    ),
    _case(
        name="leave-daemons-and-run-late",
        law="At the time limit every descendant goes, whatever its session and parent.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            PR_SET_PDEATHSIG = 1
            def daemon():
                os.setsid()
                call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0)
                if os.fork() == 0:
                    os.setsid()
                    hold()
                return 0
            for _ in range(5):
                forked(daemon)
            call("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0)
            hold()
        """,
    ),
    _case(
        name="leave-stopped-children",
        law="Stopped descendants go too.",
        code="""
            for _ in range(3):
                pid = child(hold)
                os.kill(pid, signal.SIGSTOP)
            result = "held"
        """,
    ),
    _case(
        name="die-and-leave-a-copy-with-the-channel",
        law="The end is seen although a copy of the process keeps its channel open.",
        ends=(Status.CRASHED,),
        wall_s=3.0,
        code="""
            if os.fork():
                os._exit(0)
            hold()
        """,
    ),
    _case(
        name="leave-with-a-good-status",
        law="To leave with status 0 without an answer is no success.",
        ends=(Status.CRASHED,),
        code="""
            os._exit(0)
        """,
    ),
    _case(
        name="kill-itself",
        law="SIGKILL by its own hand is a crash, not a time-out and no fault of memory.",
        ends=(Status.CRASHED,),
        kinds=(ErrorKind.CRASHED,),
        code="""
            os.kill(os.getpid(), signal.SIGKILL)
        """,
    ),
    _case(
        name="kill-its-group",
        law="A signal to its process group and session ends itself alone.",
        ends=(Status.CRASHED,),
        code="""
            os.killpg(0, signal.SIGKILL)
        """,
    ),
    _case(
        name="touch-address-zero",
        law="A segmentation fault is a crash of its own process.",
        ends=(Status.CRASHED,),
        code="""
            ctypes.string_at(0)
        """,
    ),
    _case(
        name="abort",
        law="An abort is a crash.",
        ends=(Status.CRASHED,),
        code="""
            os.abort()
        """,
    ),
    _case(
        name="run-an-illegal-instruction",
        law="An illegal instruction is a crash.",
        ends=(Status.CRASHED,),
        code="""
            code = bytes.fromhex("0f0b") if platform.machine() == "x86_64" else bytes(4)
            machine_code(code)()
        """,
    ),
    _case(
        name="overflow-the-stack",
        law="Recursion without a limit is an error or a crash.",
        ends=(Status.CRASHED, Status.ERROR, Status.MEMORY),
        code="""
            sys.setrecursionlimit(1 << 30)
            def deeper(x):
                return list(map(deeper, [x]))
            deeper(0)
        """,
    ),
    _case(
        name="corrupt-the-interpreter",
        law="An interpreter that lost its own objects ends its own process alone.",
        ends=(Status.CRASHED, Status.OK, Status.ERROR, Status.TIMEOUT, Status.MEMORY),
        limits=_SOON,
        code="""
            for value in (None, True, 1, "held", (), int, dict):
                ctypes.memset(id(value), 0x41, 48)
            result = "held"
        """,
    ),
    _case(
        name="become-another-program",
        law="A program in the place of the interpreter does not answer in its name.",
        limits=_SOON,
        ends=(Status.CRASHED, Status.TIMEOUT),
        code="""
            os.execv("/usr/bin/sleep", ["sleep", "1000"])
        """,
    ),
    _case(
        name="die-in-a-destructor",
        law="A destructor that leaves is a crash at most.",
        ends=(Status.CRASHED, Status.OK),
        code="""
            class Last:
                def __del__(self, leave=os._exit):
                    leave(3)
            last, result = Last(), "held"
        """,
    ),
    _case(
        name="linger-in-a-destructor",
        law="A destructor that never ends delays nobody.",
        limits=_SOON,
        ends=(Status.OK, Status.TIMEOUT),
        code="""
            class Last:
                def __del__(self, hold=hold):
                    hold()
            last, result = Last(), "held"
        """,
    ),
    _case(
        name="die-in-an-exit-hook",
        law="An exit hook that leaves is a crash.",
        ends=(Status.CRASHED,),
        code="""
            import atexit
            atexit.register(os._exit, 0)
            result = "held"
        """,
    ),
    _case(
        name="linger-in-an-exit-hook",
        law="An exit hook that never ends ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            import atexit
            atexit.register(hold)
            result = "held"
        """,
    ),
    _case(
        name="die-in-a-thread",
        law="A thread that leaves is a crash.",
        ends=(Status.CRASHED,),
        code="""
            threading.Thread(target=os._exit, args=(0,)).start()
            hold()
        """,
    ),
    _case(
        name="leave-threads",
        law="Threads that never end delay no answer.",
        wall_s=3.0,
        code="""
            for daemon in (True, False):
                threading.Thread(target=time.sleep, args=(1000,), daemon=daemon).start()
            result = "held"
        """,
    ),
    _case(
        name="set-an-alarm",
        law="A signal that it sends itself later is a crash.",
        ends=(Status.CRASHED,),
        code="""
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            hold()
        """,
    ),
)
