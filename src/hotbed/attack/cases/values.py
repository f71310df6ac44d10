"""Source text and values that are hostile to whoever reads, converts or prints them."""

from __future__ import annotations

from functools import partial

from hotbed.attack.case import Case, Group
from hotbed.attack.guards import Guard
from hotbed.model import ErrorKind, Status

_case = partial(Case, group=Group.VALUES, needs=(Guard.ENGINE,))
_SOON = {"timeout": 0.3}
_NO_DATA = (ErrorKind.NOT_SERIALIZABLE,)

CASES = (
    # ── values ──
    _case(
        name="return-a-deep-value",
        law="A value nested too deeply is an error.",
        ends=(Status.ERROR,),
        kinds=_NO_DATA,
        code="""
            result = []
            for _ in range(50_000):
                result = [result]
        """,
    ),
    _case(
        name="return-itself",
        law="A value that contains itself is an error.",
        ends=(Status.ERROR,),
        kinds=_NO_DATA,
        code="""
            result = {}
            result["again"] = [result]
        """,
    ),
    _case(
        name="return-an-endless-iterator",
        law="An iterator without an end is not read to its end.",
        limits=_SOON,
        ends=(Status.ERROR, Status.TIMEOUT),
        code="""
            import itertools
            result = itertools.count()
        """,
    ),
    _case(
        name="return-a-huge-number",
        law="A number of a million digits is an error or a time-out, never a stalled engine.",
        limits={"timeout": 1.0},
        ends=(Status.ERROR, Status.TIMEOUT),
        code="""
            result = 1 << 4_000_000
        """,
    ),
    _case(
        name="return-no-numbers",
        law="NaN and infinities arrive as what they are, or as an error.",
        ends=(Status.OK, Status.ERROR),
        code="""
            result = [float("nan"), float("inf"), -float("inf"), -0.0, 5e-324]
        """,
    ),
    _case(
        name="return-text-that-is-none",
        law="Lone surrogates, NUL and line separators arrive as they are, or as an error.",
        ends=(Status.OK, Status.ERROR),
        code="""
            result = {"\\ud800\\0": "\\udfff\\u2028\\x1b[2J", "": "\\r\\n"}
        """,
    ),
    _case(
        name="return-an-object-that-lies",
        law="An object that says it is text, a number or a list is not believed to the engine's harm.",
        ends=(Status.OK, Status.ERROR),
        code="""
            class Liar:
                __class__ = property(lambda self: str)
                __len__ = lambda self: -1
                __iter__ = lambda self: self
                __next__ = lambda self: self
                __getattr__ = lambda self, name: self
                __call__ = lambda self, *a, **k: self
            result = {"liar": Liar(), Liar(): 1}
        """,
    ),
    _case(
        name="return-subclasses-that-lie",
        law="Subclasses of plain types that override everything are no way around the encoder.",
        ends=(Status.OK, Status.ERROR, Status.CRASHED),
        code="""
            class Text(str):
                encode = __repr__ = __str__ = lambda *a: 1 / 0
            class Number(float):
                __repr__ = lambda self: "], escaped"
            class Whole(int):
                __repr__ = __index__ = __int__ = lambda self: 1 / 0
            class Pairs(dict):
                items = __iter__ = keys = lambda self: iter([(1, 2, 3)])
            result = [Text("a"), Number(1), Whole(2), Pairs(a=1)]
        """,
    ),
    _case(
        name="return-a-bomb-for-pickle",
        law="An object that runs code when it is unpickled is not unpickled.",
        ends=(Status.ERROR,),
        kinds=_NO_DATA,
        code="""
            class Bomb:
                def __reduce__(self):
                    return open, (host["open_file"], "w")
            result = Bomb()
        """,
    ),
    _case(
        name="leave-while-it-is-converted",
        law="A value whose conversion ends the process is a crash.",
        ends=(Status.CRASHED,),
        code="""
            class Leaver:
                def tolist(self):
                    os._exit(0)
            result = Leaver()
        """,
    ),
    _case(
        name="linger-while-it-is-converted",
        law="A value whose conversion never ends ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT,),
        code="""
            class Lingerer:
                def tolist(self):
                    hold()
            result = Lingerer()
        """,
    ),
    _case(
        name="linger-in-a-representation",
        law="A representation that never ends ends at the time limit.",
        limits=_SOON,
        ends=(Status.TIMEOUT, Status.OK),
        code="""
            class Lingerer(list):
                def __repr__(self):
                    hold()
            result = Lingerer("held")
        """,
    ),
    _case(
        name="raise-what-cannot-be-told",
        law="An exception whose text raises, lingers or lies is still an error.",
        limits=_SOON,
        ends=(Status.ERROR, Status.TIMEOUT),
        code="""
            class Mute(Exception):
                __str__ = __repr__ = lambda self: hold()
                __class__ = property(lambda self: 1 / 0)
                __traceback__ = property(lambda self: 1 / 0)
            raise Mute
        """,
    ),
    _case(
        name="raise-a-forest",
        law="Groups of exceptions, deep and wide, and chains without an end are cut.",
        ends=(Status.ERROR, Status.CRASHED, Status.MEMORY),
        code="""
            error = ValueError("x")
            for _ in range(2000):
                error = ExceptionGroup("g", [error, ValueError("y")])
            error.__cause__ = error.__context__ = error
            raise error
        """,
    ),
    _case(
        name="print-a-host-file-by-a-traceback",
        law="The lines that a traceback shows are read inside: a false file name shows no host file.",
        needs=(Guard.FILES,),
        ends=(Status.ERROR,),
        code="""
            exec(compile("1 / 0", host["secret_file"], "exec"))
        """,
    ),
    _case(
        name="print-a-host-file-by-a-syntax-error",
        law="Nor does a syntax error that claims to stand in it.",
        needs=(Guard.FILES,),
        ends=(Status.ERROR,),
        code="""
            raise SyntaxError("x", (host["secret_file"], 1, 1, None, 1, 2))
        """,
    ),
    _case(
        name="raise-a-syntax-error-of-nonsense",
        law="A syntax error at an impossible place is still an error.",
        ends=(Status.ERROR,),
        code="""
            raise SyntaxError("x" * 1000, ("\\0", -(1 << 70), 1 << 70, "\\ud800" * 1000, "a", object()))
        """,
    ),
    # ── source ──
    _case(
        name="nest-source",
        law="Source nested beyond the parser's depth is an error.",
        ends=(Status.ERROR, Status.CRASHED),
        bare=True,
        code="(" * 20_000 + ")" * 20_000,
    ),
    _case(
        name="nest-operators",
        law="Source that makes a deep tree is an error or a crash of its own.",
        ends=(Status.ERROR, Status.CRASHED, Status.MEMORY, Status.OK),
        bare=True,
        code="result = " + "-" * 90_000 + "1",
    ),
    _case(
        name="fold-constants",
        law="Constants that the compiler would compute to gigabytes are not computed beforehand.",
        limits={"timeout": 1.0, "memory": "64M"},
        ends=(Status.ERROR, Status.MEMORY, Status.TIMEOUT),
        bare=True,
        code="result = len(('x' * 4096 * 4096 * 64) + str(2 ** 99999999 % 7))",
    ),
    _case(
        name="break-the-source",
        law="NUL, stray surrogates and a false encoding in the source are an error.",
        ends=(Status.ERROR, Status.OK),
        bare=True,
        code="# coding: utf-7\nresult = 'held' + '\0'",
    ),
    # ── the interpreter turned against what answers ──
    _case(
        name="replace-the-builtins",
        law="Builtins replaced by nothing end its own execution alone.",
        ends=(Status.OK, Status.ERROR, Status.CRASHED),
        code="""
            import builtins
            result = "held"
            for name in ("len", "isinstance", "open", "Exception", "BaseException", "type", "dict", "print"):
                setattr(builtins, name, None)
        """,
    ),
    _case(
        name="clear-the-modules",
        law="An interpreter without modules and import hooks still answers, or crashes.",
        ends=(Status.OK, Status.ERROR, Status.CRASHED),
        code="""
            import builtins
            result = "held"
            sys.meta_path.clear()
            sys.path.clear()
            builtins.__import__ = None
            sys.modules.clear()
        """,
    ),
    _case(
        name="leave-no-recursion",
        law="A recursion limit of almost nothing is an error at most.",
        ends=(Status.OK, Status.ERROR, Status.CRASHED),
        code="""
            result = "held"
            sys.setrecursionlimit(8)
        """,
    ),
    _case(
        name="audit-everything",
        law="An audit hook that raises at every event is an error at most.",
        ends=(Status.OK, Status.ERROR, Status.CRASHED),
        code="""
            result = "held"
            def hook(event, arguments):
                raise RuntimeError(event)
            sys.addaudithook(hook)
        """,
    ),
)
