"""Lying in an answer: in its head, which the engine reads, and in its body."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.cases.channel import BLAME, ITS_OWN
from hotbed.attack.guards import Guard
from hotbed.model import Status

_case = partial(Case, group=Group.CHANNEL, needs=(Guard.ENGINE,))

CASES = (
    # ── lies in the head of an answer ──
    _case(
        name="blame-the-engine",
        law="An answer cannot say what only the engine says: lost, timed out, out of memory, cancelled.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            error = {"kind": "lost", "name": "ChildLostError", "message": "x", "traceback": "", "frames": []}
            os.write(channel(), answer(b"", status="error", error=error, exit_code=1))
            hold()
        """,
    ),
    _case(
        name="claim-a-time-out",
        law="An answer cannot say that it came too late.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            error = {"kind": "timeout", "name": "TimeoutError", "message": "x", "traceback": "", "frames": []}
            os.write(channel(), answer(b"", status="timeout", error=error, exit_code=0))
            hold()
        """,
    ),
    _case(
        name="send-impossible-numbers",
        law="Figures that no process can have do not break the engine's arithmetic.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            os.write(channel(), answer(cpu_s=1e308, run_s=-1e308, peak_bytes=-1, exit_code=1 << 62))
            hold()
        """,
    ),
    _case(
        name="send-a-head-of-other-types",
        law="A head whose fields are of other types is a breach of the protocol.",
        ends=(Status.CRASHED,),
        kinds=BLAME,
        code="""
            os.write(channel(), answer(status=[], error="x", imports={"a": 1}, cpu_s="NaN", text=None))
            hold()
        """,
    ),
    _case(
        name="send-a-deep-head",
        law="A head nested a hundred thousand deep is a breach of the protocol.",
        ends=(Status.CRASHED, Status.ERROR),
        kinds=BLAME,
        code="""
            os.write(channel(), frame(ANSWER, b"[" * 100_000))
            hold()
        """,
    ),
    _case(
        name="name-modules-to-import",
        law="Modules that it claims to have imported are not imported elsewhere as they are named.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            names = ["os; raise SystemExit", "../../x", host["directory"], "antigravity", "x" * 1000, "\\0"]
            os.write(channel(), answer(imports=names))
            hold()
        """,
    ),
    _case(
        name="name-artifacts-elsewhere",
        law="Artifacts that it claims to have left have no name that leads out of a directory.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            names = ["../x", "/etc/x", "a/../../x", "a//b", "", ".", "..", "a/./b", "x\\0y", "\\ud800", "a/"]
            name = names[int(time.monotonic_ns()) % len(names)]
            lie = answer(b'"held"abc', artifacts=[[name, 3]], value_bytes=6)
            os.write(channel(), lie)
            hold()
        """,
    ),
    _case(
        name="claim-artifacts-of-impossible-sizes",
        law="Artifacts that overlap, are negative or larger than what came are a breach of the protocol.",
        ends=(Status.CRASHED,),
        kinds=BLAME,
        code="""
            sizes = [["a", 1 << 62], ["b", -(1 << 62)]]
            os.write(channel(), answer(b'"held"', artifacts=sizes, value_bytes=6))
            hold()
        """,
    ),
    _case(
        name="claim-what-was-left-out",
        law="A list of files left out that is longer than any is bounded by the head's limit.",
        ends=ITS_OWN,
        kinds=BLAME,
        code="""
            os.write(channel(), answer(left_out=["x" * 100] * 5000))
            hold()
        """,
    ),
    # ── lies in its body ──
    _case(
        name="send-a-deep-value",
        law="A value nested a hundred thousand deep is an error, not the end of the engine's stack.",
        ends=(Status.CRASHED, Status.ERROR),
        kinds=BLAME,
        code="""
            os.write(channel(), answer(b"[" * 100_000 + b"]" * 100_000))
            hold()
        """,
    ),
    _case(
        name="send-a-number-of-a-million-digits",
        law="A number that takes long to read is not read.",
        ends=(Status.CRASHED, Status.ERROR),
        kinds=BLAME,
        code="""
            os.write(channel(), answer(b"1" * 900_000))
            hold()
        """,
    ),
    _case(
        name="send-no-json",
        law="A body that is no JSON, or more than one, is a breach of the protocol.",
        ends=(Status.CRASHED, Status.ERROR),
        kinds=BLAME,
        code="""
            bodies = [b"{", b'"a" "b"', b"\\xff\\xfe", b"[1,]", b"nul", b'"\\n"', b"1e", b"\\0"]
            os.write(channel(), answer(bodies[os.getpid() % len(bodies)]))
            hold()
        """,
    ),
    _case(
        name="send-a-pickle",
        law="No object is built of what a stranger's code sent.",
        ends=(Status.CRASHED, Status.ERROR),
        kinds=BLAME,
        code="""
            import pickle
            class Bomb:
                def __reduce__(self):
                    return exec, (f"open({host['open_file']!r}, 'a').write('x')",)
            shared = {"layout": [[0, 1]], "new": True, "kept": True}
            os.write(channel(), answer(pickle.dumps(Bomb()), shared=shared))
            hold()
        """,
    ),
)
