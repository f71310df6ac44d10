"""Playing with the descriptors on which the engine listens, and with its code in the process.

A program may say of its own value what it likes: whatever it sends is its own answer. What must not
happen is that the engine hangs, grows, takes a foreign answer, or says what only it may say.
"""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import ErrorKind, Status

_case = partial(Case, group=Group.CHANNEL, needs=(Guard.ENGINE,))
_SOON = {"timeout": 0.3}
ITS_OWN = (Status.OK, Status.ERROR, Status.CRASHED)  # its own answer, or none
# What code may be blamed for. The others are the engine's words: that the process was lost, ran late
# or was cancelled is for the engine to say.
BLAME = (
    ErrorKind.RAISED,
    ErrorKind.REQUEST,
    ErrorKind.NOT_SERIALIZABLE,
    ErrorKind.OUTPUT_TOO_LARGE,
    ErrorKind.CRASHED,
)

CASES = (
    _case(
        name="write-garbage-everywhere",
        law="Garbage on every descriptor is a crash at most.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            for fd in range(64):
                with contextlib.suppress(OSError):
                    os.write(fd, os.urandom(512))
            result = "held"
        """,
    ),
    _case(
        name="close-everything",
        law="Without a descriptor it can only crash.",
        ends=(Status.CRASHED,),
        code="""
            os.closerange(0, 4096)
            hold()
        """,
    ),
    _case(
        name="put-other-files-in-their-place",
        law="Other files under the numbers of its descriptors mislead nobody.",
        ends=(Status.CRASHED,),
        code="""
            null = os.open("/dev/null", os.O_RDWR)
            for fd in range(64):
                if fd != null:
                    os.dup2(null, fd)
            result = "held"
        """,
    ),
    _case(
        name="half-a-message",
        law="A message that never ends ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT, Status.CRASHED),
        code="""
            os.write(channel(), answer()[:20])
            hold()
        """,
    ),
    _case(
        name="half-a-message-and-the-end",
        law="A message that is cut off is no answer.",
        ends=(Status.CRASHED,),
        code="""
            os.write(channel(), answer()[:-3])
            os._exit(0)
        """,
    ),
    _case(
        name="one-byte-at-a-time",
        law="A message in single bytes is read as one.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            for byte in answer():
                os.write(channel(), bytes([byte]))
            hold()
        """,
    ),
    _case(
        name="announce-a-giant-body",
        law="No memory is set aside for a message because it says that it is large.",
        ends=(Status.ERROR, Status.CRASHED),
        code="""
            os.write(channel(), frame(ANSWER, b"{}", body_size=1 << 60))
            hold()
        """,
    ),
    _case(
        name="announce-a-giant-head",
        law="The head of a message has a limit too.",
        ends=(Status.ERROR, Status.CRASHED),
        code="""
            os.write(channel(), frame(ANSWER, b"{}", meta_size=(1 << 32) - 1))
            hold()
        """,
    ),
    _case(
        name="send-every-kind-of-message",
        law="Messages of other and unknown kinds are a breach of the protocol.",
        limits=_SOON,
        ends=(Status.CRASHED, Status.TIMEOUT),
        code="""
            for kind in [*range(18), *range(19, 256)]:
                with contextlib.suppress(OSError):
                    os.write(channel(), frame(kind, b"{}"))
            hold()
        """,
    ),
    _case(
        name="answer-twice",
        law="A second answer is not taken for that of the next execution.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            os.write(channel(), answer() + answer(b'"escaped: the second answer"'))
            result = "held"
        """,
    ),
    _case(
        name="answer-and-go-on",
        law="What has answered does not run on.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            os.write(channel(), answer())
            while True:
                pass
        """,
    ),
    _case(
        name="answer-from-a-copy",
        law="A forked copy that runs to the end answers nothing.",
        code="""
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
            result = "held" if pid else "escaped: the copy answered"
        """,
    ),
    _case(
        name="answer-from-many-copies",
        law="Answers that copies write at the same time are one answer at most.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            def write():
                for _ in range(50):
                    os.write(channel(), answer())
            pids = [child(write) for _ in range(8)]
            hold()
        """,
    ),
    _case(
        name="send-descriptors",
        law="Descriptors sent along with an answer do not stay open in the engine.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            with socket.socket(fileno=os.dup(channel())) as far:
                for byte in answer():
                    socket.send_fds(far, [bytes([byte])], [0] * 8)
            hold()
        """,
    ),
    _case(
        name="send-other-ancillary-data",
        law="Credentials and unknown ancillary data are no reason to stumble.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            SCM_CREDENTIALS = 2
            who = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
            with socket.socket(fileno=os.dup(channel())) as far:
                with contextlib.suppress(OSError):
                    far.sendmsg([answer()], [(socket.SOL_SOCKET, SCM_CREDENTIALS, who)])
            result = "held"
        """,
    ),
    _case(
        name="send-urgent-data",
        law="A byte out of band in the middle of an answer does not hold up the engine.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            with socket.socket(fileno=os.dup(channel())) as far:
                far.send(answer()[:30])
                with contextlib.suppress(OSError):
                    far.send(b"!", socket.MSG_OOB)
                far.send(answer()[30:])
            hold()
        """,
    ),
    _case(
        name="reach-the-engine-by-the-channel",
        law="The socket's other end, asked for as a pidfd, is not signalled and not entered.",
        code="""
            SO_PEERPIDFD = 77
            with socket.socket(fileno=os.dup(channel())) as far:
                def peer():
                    return far.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
                result = refused(signal=lambda: signal.pidfd_send_signal(peer(), 0),
                                 take=lambda: call("pidfd_getfd", peer(), 0, 0),
                                 join=lambda: call("setns", peer(), 0x20000),
                                 advise=lambda: call("process_madvise", peer(), 0, 0, 21, 0))
        """,
        needs=(Guard.ENGINE, Guard.SIGNALS, Guard.CALLS),
    ),
    _case(
        name="shut-the-channel-down",
        law="A channel that is shut but not closed is no reason to wait.",
        ends=(Status.CRASHED,),
        kinds=BLAME,
        code="""
            with socket.socket(fileno=os.dup(channel())) as far:
                far.shutdown(socket.SHUT_RDWR)
            result = "held"
        """,
    ),
    _case(
        name="never-read",
        law="A channel that is not emptied does not block the engine.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            with socket.socket(fileno=os.dup(channel())) as far:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            hold()
        """,
    ),
    # ── the engine's own code in its process ──
    _case(
        name="rewrite-the-code-that-answers",
        law="Functions of the engine's code, replaced in its own process, forge its own answer at most.",
        ends=(*ITS_OWN, Status.TIMEOUT),
        kinds=(*BLAME, ErrorKind.TIMEOUT),
        limits=_SOON,
        code="""
            import types
            found = 0
            for thing in gc.get_objects():
                if isinstance(thing, types.FunctionType) and "/seed/" in thing.__code__.co_filename:
                    with contextlib.suppress(Exception):
                        thing.__code__ = (lambda *a, **k: b"garbage").__code__
                        found += 1
            result = "held"
        """,
    ),
    _case(
        name="rewrite-the-modules-that-answer",
        law="Attributes of the engine's modules, replaced in its own process, mislead it at most itself.",
        ends=(*ITS_OWN, Status.TIMEOUT),
        kinds=(*BLAME, ErrorKind.TIMEOUT),
        limits=_SOON,
        code="""
            for module in list(sys.modules.values()):
                if "/seed/" in (getattr(module, "__file__", None) or ""):
                    for name in [name for name in vars(module) if not name.startswith("__")]:
                        setattr(module, name, None)
            result = "held"
        """,
    ),
    _case(
        name="change-the-answers-status",
        law="An execution that raised cannot end as anything that did not happen to it.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            for module in list(sys.modules.values()):
                if "/seed/" in (getattr(module, "__file__", None) or "") and hasattr(module, "encode"):
                    def lie(meta, encode=module.encode):
                        return encode({**meta, "status": "rejected"})
                    module.encode = lie
            raise ValueError("x")
        """,
    ),
    _case(
        name="answer-from-a-frame-above",
        law="Variables of the frames that called it, changed from below, mislead it at most itself.",
        ends=(*ITS_OWN, Status.TIMEOUT),
        kinds=(*BLAME, ErrorKind.TIMEOUT),
        limits=_SOON,
        code="""
            frame_above = sys._getframe()
            while frame_above := frame_above.f_back:
                frame_above.f_trace = lambda *a: 1 / 0
                for value in list(frame_above.f_locals.values()):
                    if isinstance(value, dict) and "codec" in value:
                        value.clear()
            sys.settrace(lambda *a: None)
            result = "held"
        """,
    ),
    _case(
        name="make-streams-not-block",
        law="Streams and channel switched to non-blocking lose nothing of others.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            for fd in (0, 1, 2, channel()):
                os.set_blocking(fd, False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(20):
                    os.write(1, b"x" * 8192)
            result = ["held"] * 50_000
        """,
    ),
)
