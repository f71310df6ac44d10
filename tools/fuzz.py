"""Hostile bytes against all that reads what a child or a template sent, for as long as asked.

    tools/fuzz.py [--seconds 60] [--seed N] [--part NAME]... [--case PART:SEED]

Parts, each a way in:
    frames    core/frames.py and core/classify.py alone
    exchange  a channel and two pipes without a process: proc/exchange.py, engine/outcome.py
    engine    code that runs with isolation="none" writes to its own channel
    nursery   a program in the place of an environment's interpreter lies in all that it says: as a
              template on its control socket and for its children, and as an interpreter of its own

The law: what comes out is a value or an error of a known type, within PATIENCE_S, and memory does
not grow. A line is printed each minute. The first breach ends the run with exit status 1 and says
what repeats it: `--case` draws the same bytes again. A liar in a process of its own depends on
timing too, so what it sent is kept in a file.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import msgspec

from hotbed import Engine, Environment, HotbedError, Limits, Pool, Result
from hotbed.core import classify
from hotbed.core.frames import META_LIMIT, Decoder, ProtocolError
from hotbed.core.ids import ChildId, EnvironmentId, TicketId
from hotbed.engine.job import Job
from hotbed.engine.outcome import outcome_of, result_of
from hotbed.engine.place import Place
from hotbed.engine.request import run_request
from hotbed.model import Mode, Status
from hotbed.proc.control import Control
from hotbed.proc.exchange import Close, Exchange
from hotbed.proc.link import Link
from hotbed.seed import wire

PATIENCE_S = 30.0  # for one case; the slowest is a template that never becomes ready
REPORT_S = 60.0
GROWTH_BYTES = 128 * 1024**2  # resident, after the first report; engines come and go meanwhile
DATA_BYTES = 3 * 1024**3  # past this the kernel refuses: a case that wants it ends in a MemoryError
BODY_LIMIT = 16384  # small: what reaches it is cheap to make
SHARES = {"frames": 0.25, "exchange": 0.25, "engine": 0.25, "nursery": 0.25}  # of the time
CASES_OF_AN_ENVIRONMENT = 20  # then its liar is replaced: each draws its habits once
CASES_OF_AN_ENGINE = 400

# ── what to lie with ──

NUMBERS = (
    *(b"0", b"-0", b"1", b"-1", b"7", b"01", b"0.5", b"-1e308", b"1e400", b"1e-400", b"NaN", b"-Infinity"),
    *(b"127", b"255", b"2147483648", b"4294967296", b"9223372036854775807", b"-9223372036854775809"),
    *(b"18446744073709551616", b"9" * 300, b"-" + b"9" * 4299, b"9" * 5000),
)
TEXTS = (
    *(b'""', b'"x"', b'"', b'"\\q"', b'"\\u0000"', b'"\x00"', b'"\\n\\u2028"', b'"' + b"x" * 5000 + b'"'),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', '"\u00e9\U0001f600"'.encode()),
    *(b'"/etc/passwd"', b'"../x"', b'"a//b"', b'"."', b'"a/b"', b'"a\\u0000b"', b'"/proc/self/fd"'),
    *(b'"ok"', b'"error"', b'"timeout"', b'"raised"', b'"lost"', b'"MemoryError"', b'"SystemExit"'),
    *(b'"ready"', b'"broken"', b'"made"', b'"failed"', b'"ended"', b'"os"', b'"antigravity"', b'"no_such"'),
)
WORDS = (
    *(b"null", b"true", b"false", b"nul", b"", b" 1 ", b"{}", b"[]", b"[[]]", b"{}{}", b","),
    b"\xef\xbb\xbf1",
)
DEPTHS = (2, 100, 900, 980, 990, 1000, 5000, 60_000)
NAMES = (
    *("status", "error", "text", "exit_code", "peak_bytes", "imports", "shared", "artifacts", "left_out"),
    *("value_bytes", "kind", "name", "message", "frames", "problem", "directories", "threads", "op", "id"),
    *("pid", "layout", "new", "kept", "unknown", ""),
)

ANSWER: Mapping[str, bytes] = {
    "status": b'"ok"',
    "error": b"null",
    "text": b'"1"',
    "exit_code": b"0",
    "import_s": b"0.0",
    "run_s": b"0.1",
    "cpu_s": b"0.1",
    "peak_bytes": b"1",
    "imports": b"[]",
}
ERROR: Mapping[str, bytes] = {
    "kind": b'"raised"',
    "name": b'"ValueError"',
    "message": b'"x"',
    "traceback": b'""',
    "frames": b'[{"file": "a", "line": 1, "function": "f", "code": ""}]',
}
SHARED: Mapping[str, bytes] = {"layout": b"[[0, 1]]", "new": b"true", "kept": b"false"}
READY: Mapping[str, bytes] = {"problem": b'""', "directories": b"{}"}


class Liar:
    """Draws hostile data; the same seed draws the same."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)
        self.choice, self.number, self.seed = self.random.choice, self.random.randrange, seed

    def happens(self, chance: float) -> bool:
        """True with a probability of `chance`."""
        return self.random.random() < chance

    def few(self) -> int:
        """Mostly 0, 1 or 2."""
        return min(int(self.random.expovariate(1.0)), 6)

    def json(self, depth: int = 3) -> bytes:
        """What is JSON, or nearly."""
        kind = self.number(10)
        if kind < 3 or depth == 0:
            return self.choice(NUMBERS)
        if kind < 6:
            return self.choice(TEXTS)
        if kind < 7:
            return self.choice(WORDS)
        inner = [self.json(depth - 1) for _ in range(self.few())]
        if kind < 8:
            return b"[" + b",".join(inner) + b"]"
        if kind < 9:
            return b"{" + b",".join(self.choice(TEXTS) + b":" + one for one in inner) + b"}"
        opening, closing = self.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"[[],", b"]")))
        levels = self.choice(DEPTHS)
        return opening * levels + b"1" + closing * self.choice((levels, levels, 0))

    def record(self, fields: Mapping[str, bytes]) -> bytes:
        """An object of these fields, some of them changed, lost, doubled or added."""
        items = list(fields.items())
        for _ in range(self.few()):
            at, deed = self.number(len(items)) if items else 0, self.number(6)
            if deed < 3 and items:
                items[at] = (items[at][0], self.json())
            elif deed == 3 and items:
                del items[at]
            else:
                items.insert(at, (self.choice(NAMES), self.json()))
        made = plain(items)
        return self.bruised(made) if self.happens(0.1) else made

    def bruised(self, data: bytes) -> bytes:
        """The same with a few bytes changed, cut out or doubled."""
        damaged = bytearray(data)
        for _ in range(1 + self.few()):
            at = self.number(len(damaged) + 1)
            end = min(len(damaged), at + 1 + self.number(40))
            damaged[at:end] = self.choice(
                (b"", self.random.randbytes(end - at), damaged[at:end] * 2, self.random.randbytes(3))
            )
        return bytes(damaged)

    def frame(self, kind: int, meta: bytes = b"", body: bytes = b"") -> bytes:
        """One frame; now and then its header is no truth."""
        if self.happens(0.95):
            return wire.pack(kind, meta, body)
        sizes = (0, 1, len(meta), len(body), BODY_LIMIT, BODY_LIMIT + 1, META_LIMIT, META_LIMIT + 1)
        header = wire.HEADER.pack(
            self.choice((kind, self.number(256))),
            self.choice((*sizes, 2**32 - 1)),
            self.choice((*sizes, 2**32, 2**63, 2**64 - 1)),
        )
        return header + meta + body

    def answer(self) -> bytes:
        """An ANSWER frame: more or less what a child of ours would send."""
        fields = dict(ANSWER)
        body = self.json() if self.happens(0.7) else b'{"a": [1, "x", null]}'
        if self.happens(0.3):
            fields["error"] = self.record(ERROR)
        if self.happens(0.1):
            fields["shared"] = self.record(SHARED)
        if self.happens(0.3):
            fields["imports"] = b"[" + b",".join(self.choice(TEXTS) for _ in range(self.few())) + b"]"
        if self.happens(0.4):
            files = [(self.choice(TEXTS), self.random.randbytes(self.number(20))) for _ in range(self.few())]
            sizes = [b"%d" % len(data) if self.happens(0.9) else self.choice(NUMBERS) for _, data in files]
            told = (b"[%s,%s]" % (name, size) for (name, _), size in zip(files, sizes, strict=True))
            fields["artifacts"] = b"[" + b",".join(told) + b"]"
            fields["value_bytes"] = b"%d" % len(body) if self.happens(0.9) else self.choice(NUMBERS)
            body += b"".join(data for _, data in files)
        if self.happens(0.03):  # many small things: what they weigh here is a multiple of their bytes
            name, one = self.choice((("artifacts", b'["a",0]'), ("left_out", b'"ab"'), ("imports", b'"ab"')))
            fields[name] = b"[" + b",".join([one] * self.choice((300, 50_000))) + b"]"
        return self.frame(wire.ANSWER, self.record(fields), body)

    def ready(self) -> bytes:
        """A frame of a child that gets ready."""
        fields = dict(READY)
        if self.happens(0.3):
            fields["directories"] = b"{" + self.choice(TEXTS) + b":" + self.choice(NUMBERS) + b"}"
        return self.frame(self.choice((wire.READY, wire.READY, wire.BROKEN)), self.record(fields))

    def stream(self, *, began: bool = False, ready: bool = False) -> list[bytes]:
        """What a child may write, cut anywhere; it may have BEGAN or READY to say first."""
        parts = [self.frame(wire.BEGAN)] if began and self.happens(0.8) else []
        if ready:
            parts.append(self.ready())
        for _ in range(self.choice((1, 1, 1, 2, 4))):
            kind = self.number(12)
            if kind < 9:
                parts.append(self.ready() if ready and kind < 6 else self.answer())
            elif kind == 9:
                parts.append(self.frame(self.number(256), self.json(), self.json()))
            elif kind == 10:
                parts.append(self.random.randbytes(self.number(100)))
            else:
                parts.append(self.frame(self.choice((wire.BEGAN, wire.READY, wire.BROKEN)), self.json()))
        whole = b"".join(parts)
        if self.happens(0.05):
            whole = self.bruised(whole)
        if self.happens(0.05):
            whole = whole[: self.number(len(whole) + 1)]
        cuts = sorted({self.number(len(whole) + 1) for _ in range(self.few())} | {0, len(whole)})
        return [whole[start:end] for start, end in itertools.pairwise(cuts)]


def plain(items: Iterable[tuple[str, bytes]]) -> bytes:
    """An object of fields that are JSON already."""
    return b"{" + b",".join(b'"%s":%s' % (name.encode(), value) for name, value in items) + b"}"


class BreachError(Exception):
    """The law does not hold."""


def require(fact: bool, law: str) -> None:
    """Raises BreachError unless the fact holds."""
    if not fact:
        raise BreachError(law)


def gist(text: str) -> str:
    """A message without what varies from case to case, to tell outcomes apart."""
    return re.sub(r"'[^']*'|\d+", "#", text)[:60]


def judge(result: Result) -> str:
    """What a result came to; all of it can be told to others.

    Text in a value may hold lone surrogates (docs/values.md), which JSON in UTF-8 cannot: such a
    value is told in ASCII.
    """
    require(type(result.status) is Status, f"{result.status!r} is no status")
    require((result.status is Status.OK) == (result.error is None), "a status at odds with its error")
    msgspec.json.encode(msgspec.structs.replace(result, value=None))
    try:
        msgspec.json.encode(result)
    except UnicodeEncodeError:
        json.dumps(result.value)
    words = gist(result.error.message) if result.error is not None else type(result.value).__name__
    return f"{result.status} {result.error.kind if result.error is not None else ''} {words}"


# ── the parts ──


class Part:
    """A way in: takes cases one after the other, and says what each came to."""

    def case(self, liar: Liar) -> str:
        """Run one case.

        Raises:
            Exception: Any is a breach.
        """
        raise NotImplementedError

    def close(self) -> None:
        """End what it has started."""


class Frames(Part):
    """The pure part alone: bytes to frames, metas to answers, bodies to values and artifacts."""

    def case(self, liar: Liar) -> str:
        decoder = Decoder(BODY_LIMIT)
        outcome = "nothing"
        try:
            for chunk in liar.stream(began=liar.happens(0.5), ready=liar.happens(0.3)):
                for frame in decoder.feed(chunk):
                    require(frame.kind in wire.KINDS_TO_PARENT, "a frame of an unknown kind")
                    require(len(frame.body) <= BODY_LIMIT, "a body over its limit")
                    outcome = self._answer(frame.meta, frame.body)
                most = wire.HEADER.size + META_LIMIT + BODY_LIMIT
                require(decoder.wanted(0, 1 << 62) <= most, "it waits for more than a frame may hold")
        except ProtocolError as error:
            return f"{type(error).__name__} {gist(str(error))}"
        return outcome

    def _answer(self, meta: bytes, body: bytes | bytearray) -> str:
        try:
            answer = classify.decode_answer(meta)
            value, files = classify.split_body(answer, body)
        except ProtocolError as error:
            return gist(str(error))
        require(len(value) + sum(len(data) for _, data in files) == len(body), "bytes from nowhere")
        return f"{classify.answered(answer).status} {len(files)}"


class Said(NamedTuple):
    """What a far end does in one conversation."""

    chunks: Sequence[bytes]  # on the channel
    out: Sequence[bytes] = ()  # on stdout; one before each chunk
    fds: int = 0  # descriptors that go with the first byte
    shuts: bool = False  # the channel for writing, instead of closing it
    status: int | None = None  # of the process, as `wait` gives it


def converse(
    said: Said, limits: Limits, *, announced: bool = False, sharing: bool = False, request: bytes = b"x"
) -> tuple[Close, Result | None]:
    """Have an exchange over a link whose far ends are held here: how it closed, and its result.

    Without a result where the process could not be set up: that is the environment's failure.
    """
    control = Control()
    link = Link(ChildId(1), control)
    (channel, *pipes), link.far_ends = link.far_ends, []
    far = socket.socket(fileno=channel)
    far.setblocking(False)
    exchange = Exchange(
        link,
        announced=announced,
        output_bytes=limits.output_bytes,
        value_bytes=limits.value_bytes + limits.artifacts_bytes,
        on_stdout=_ignore,
        sharing=sharing,
    )
    try:
        exchange.send(request)
        for chunk, text in itertools.zip_longest(said.chunks, said.out, fillvalue=b""):
            os.write(pipes[0], text)
            _write(exchange, far, chunk, said.fds)
        far.shutdown(socket.SHUT_WR) if said.shuts else far.close()
        while exchange.closed is None:
            _step(exchange, None)
        exchange.drain()
        link.ended, link.wait_status = said.status is not None, said.status
        if exchange.closed is Close.BROKEN:
            return exchange.closed, None
        return exchange.closed, _result(exchange, limits)
    finally:
        for fd in (*exchange.fds, *pipes):
            os.close(fd)
        far.close()
        link.close()
        control.close()


def _ignore(_text: str) -> None:
    pass


def _write(exchange: Exchange, far: socket.socket, data: bytes, fds: int) -> None:
    view = memoryview(data)
    while view and exchange.closed is None:
        try:
            view = view[socket.send_fds(far, [view], [1] * fds) if fds else far.send(view) :]
        except BlockingIOError:
            pass
        _step(exchange, 0)


def _step(exchange: Exchange, wait_ms: int | None) -> None:
    for fd, events in exchange.link.poll.poll(wait_ms):
        if exchange.closed is None:
            exchange.ready(fd, events)


def _result(exchange: Exchange, limits: Limits) -> Result:
    request = run_request("1", mode=Mode.FRESH, own=True, inputs={}, env=None, seed=None, trusted=False)
    job = Job("1", TicketId(1), EnvironmentId(1), request, 0.0)
    place = Place(EnvironmentId(1), Environment(), None)
    return result_of(job, place, 0.0, outcome_of(exchange, limits, None), exchange=exchange)


class Conversation(Part):
    """A channel and two pipes, without a process."""

    _limits = Limits(output=2048, value=BODY_LIMIT, artifacts=BODY_LIMIT)

    def case(self, liar: Liar) -> str:
        announced = liar.happens(0.3)
        said = Said(
            liar.stream(began=announced),
            [liar.random.randbytes(liar.choice((0, 1, 100, 1500))) for _ in range(liar.few())],
            liar.choice((0, 0, 0, 1, 8)),
            liar.happens(0.2),
            liar.choice((None, 0, 9, 11, 24, 134, 256, 0xFF00)),
        )
        request = bytes(liar.choice((100, 100, 2_000_000)))
        sharing = liar.happens(0.2)
        closed, result = converse(said, self._limits, announced=announced, sharing=sharing, request=request)
        return f"{closed} {judge(result) if result is not None else 'no result'}"


OWN_CHANNEL = """
import os, stat, time
channel = next(fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > 2
               and os.path.exists(f"/proc/self/fd/{fd}") and stat.S_ISSOCK(os.stat(fd).st_mode))
for start, end in zip([0, *cuts], [*cuts, len(data)]):
    view = memoryview(data)[start:end]
    while view:
        view = view[os.write(channel, view):]
if end_by == "exit":
    os._exit(3)
elif end_by == "close":
    os.close(channel)
elif end_by == "wait":
    time.sleep(60)
elif end_by == "print":
    print("x" * 10_000)
"""


class Served(Part):
    """What asks a real engine, and sees that it goes on serving others."""

    asks_every = 1  # cases

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._served = 0

    def engine(self) -> Engine:
        """The engine of the next case."""
        if self._engine is not None and self._served >= CASES_OF_AN_ENGINE:
            self.close()
        if self._engine is None:
            limits = Limits(output=4096, value=BODY_LIMIT, artifacts=BODY_LIMIT, timeout=0.5)
            pool = Pool(standby=2, min_workers=0, max_workers=1, start_timeout=3.0)
            self._engine = Engine(limits=limits, pool=pool, isolation="none")
            self._served = 0
        self._served += 1
        return self._engine

    def attempt(self, code: str, **options: Any) -> str:
        """Run code whose process lies; the engine's own errors are an end like any other."""
        engine = self.engine()
        try:
            outcome = judge(engine.run(code, queue_timeout=5.0, **options))
        except HotbedError as error:
            outcome = f"{type(error).__name__} {gist(str(error))}"
        if self._served % self.asks_every == 0 or "EngineError" in outcome:
            honest = engine.run("40 + 2", timeout=20.0)
            require(honest.value == 42, f"an honest execution ended with {honest}")
        return outcome

    def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


class OwnCode(Served):
    """User code of an engine finds the descriptor of its channel and writes there."""

    asks_every = 10

    def case(self, liar: Liar) -> str:
        mode = liar.choice((Mode.FRESH, Mode.FRESH, Mode.WORKER, Mode.WORKER, Mode.ONESHOT))
        chunks = liar.stream()
        cuts = [sum(map(len, chunks[:count])) for count in range(1, len(chunks))]
        end_by = "wait" if liar.happens(0.02) else liar.choice(("return", "exit", "close", "print"))
        inputs = {"data": b"".join(chunks), "cuts": cuts, "end_by": end_by}
        return f"{mode} {self.attempt(OWN_CHANNEL, inputs=inputs, mode=mode)}"


class Impostor(Served):
    """An environment whose interpreter is this file, as `lie` below."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp(prefix="hotbed-fuzz-")
        self._environments = 0
        self._environment: Environment | None = None
        self._left = 0

    def case(self, liar: Liar) -> str:
        if self._left == 0:
            self._environment = self._new(liar)
        self._left -= 1
        mode = liar.choice((Mode.FRESH, Mode.FRESH, Mode.WORKER, Mode.ONESHOT))
        outcome = self.attempt("1", environment=self._environment, mode=mode)
        if "Environment" in outcome or "Template" in outcome:
            self._left = 0  # it is held back for a second now; a new one is not
        return f"{mode} {outcome}"

    def _new(self, liar: Liar) -> Environment:
        for name in os.listdir(self.directory):
            os.unlink(os.path.join(self.directory, name))
        self._left, self._environments = CASES_OF_AN_ENVIRONMENT, self._environments + 1
        path = os.path.join(self.directory, f"python{self._environments}")
        with open(path, "w", encoding="utf-8") as file:
            program = f"{sys.executable} {os.path.abspath(__file__)} --lie {self.directory} {liar.seed}"
            file.write(f'#!/bin/sh\nexec {program} "$@"\n')
        os.chmod(path, 0o700)
        return Environment(python=path, preload=())

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.directory, ignore_errors=True)


PARTS: dict[str, Callable[[], Part]] = {
    "frames": Frames,
    "exchange": Conversation,
    "engine": OwnCode,
    "nursery": Impostor,
}


# ── the liar in a process of its own ──


class FarEnd:
    """The place of a template or an interpreter, on the descriptors that the launcher gives."""

    def __init__(self, directory: str, seed: str) -> None:
        self._liar = Liar(f"{seed}-{os.getpid()}")
        self._log = open(os.path.join(directory, f"sent-{os.getpid()}"), "wb")  # noqa: SIM115  ends with it
        self._channels: dict[int, tuple[socket.socket, int]] = {}  # with the child's id
        self._control = socket.socket(fileno=3)

    def interpreter(self) -> None:
        """Answer whatever comes with lies."""
        ready = True
        while self._control.recv(1 << 20):
            self._write(self._control, self._liar.stream(began=not ready, ready=ready))
            ready = self._liar.happens(0.2)

    def template(self) -> None:
        """Be a nursery of children that are all this process."""
        self._control.recv(1 << 20)
        for _ in range(self._liar.few() // 2):
            self._say({"op": self._liar.choice(TEXTS)}, truly=False)
        self._say({"op": b'"ready"', "directories": b"{}", "threads": b"{}"}, truly=self._liar.happens(0.7))
        while True:
            for fd in select.select([self._control.fileno(), *self._channels], [], [])[0]:
                if fd == self._control.fileno():
                    self._obey()
                else:
                    self._reply(fd)

    def _obey(self) -> None:
        received = wire.receive_message(self._control)
        if received is None:
            os._exit(0)
        order, fds = received
        if order["op"] == "retire":
            os._exit(0)
        number = b"%d" % order["id"]
        if order["op"] == "kill":
            self._say({"op": b'"ended"', "id": number, "status": b"9"}, truly=self._liar.happens(0.8))
            return
        channel = socket.socket(fileno=fds[0])
        self._channels[channel.fileno()] = (channel, order["id"])
        if self._liar.happens(0.3):
            os.write(fds[1], self._liar.random.randbytes(100))
        for fd in fds[1:]:
            os.close(fd)
        made = {"op": b'"made"', "id": number, "pid": b"%d" % os.getpid()}
        self._say(made, truly=self._liar.happens(0.7), child=True)
        if order["rehearse"]:
            truth = [wire.pack(wire.READY, wire.encode({"problem": "", "directories": {}}))]
            self._write(channel, truth if self._liar.happens(0.6) else self._liar.stream(ready=True))

    def _reply(self, fd: int) -> None:
        channel, child = self._channels[fd]
        try:
            data = channel.recv(1 << 20)
        except OSError:
            data = b""
        if data:
            announced = data[0] == wire.ANNOUNCED_REQUEST
            self._write(channel, self._liar.stream(began=announced))
        if not data or self._liar.happens(0.3):
            del self._channels[fd]
            channel.close()
            status = self._liar.choice((b"0", b"9", b"256", b"127", b"65535"))
            ended = {"op": b'"ended"', "id": b"%d" % child, "status": status}
            self._say(ended, truly=self._liar.happens(0.7))

    def _write(self, channel: socket.socket, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._note(chunk)
            with contextlib.suppress(OSError):  # the engine has hung up
                channel.sendall(chunk)

    def _say(self, fields: Mapping[str, bytes], *, truly: bool, child: bool = False) -> None:
        """A message, with the pidfd of this process where that of a child is due."""
        liar = self._liar
        fds = [os.pidfd_open(os.getpid())] if child else []
        if truly:
            data = plain(fields.items())
        else:
            data = liar.record(fields)
            if liar.happens(0.2):
                data = liar.choice((b"", b"@", b"\xff", liar.json()))
            for _ in range(liar.few()):
                fds.insert(liar.number(len(fds) + 1), self._odd_descriptor())
            fds = fds[: wire.MAX_FDS + 2]
        data = data[:100_000]  # a longer packet is refused by the kernel
        self._note(data + b" with %d descriptors" % len(fds))
        with contextlib.suppress(OSError):
            socket.send_fds(self._control, [data], fds) if fds else self._control.send(data)
        for fd in fds:
            os.close(fd)

    def _odd_descriptor(self) -> int:
        kind = self._liar.number(6)
        if kind == 0:
            return os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        if kind == 1:
            return os.eventfd(0)
        if kind == 2:
            reader, writer = os.pipe()
            os.close(writer)
            return reader
        fd = os.memfd_create("lie")
        if kind == 3:
            os.ftruncate(fd, 1 << 40)  # sparse
        elif kind == 4:
            os.write(fd, self._liar.record({"op": b'"ready"'}))
        return fd

    def _note(self, data: bytes) -> None:
        self._log.write(repr(data[:5000]).encode() + b"\n")
        self._log.flush()


def lie(directory: str, seed: str, role: str) -> None:
    """The process that an impostor's environment has for an interpreter."""
    far_end = FarEnd(directory, seed)
    if role == "template":
        far_end.template()
    far_end.interpreter()


# ── the run ──


class Run:
    """Cases of all parts, each part its share of the time, until the time is over."""

    def __init__(self, seed: int, names: Sequence[str]) -> None:
        self._seed = seed
        self._names = names
        self._parts: dict[str, Part] = {}
        self._spent_s = dict.fromkeys(names, 0.0)
        self._count: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._first_bytes = 0  # resident at the first report

    def go_on(self, seconds: float) -> bool:
        """Run for so long; False at the first breach."""
        report_at = self._begun + REPORT_S
        try:
            while (now := time.monotonic()) < self._begun + seconds:
                if now >= report_at:
                    report_at += REPORT_S
                    if not self._report():
                        return False
                name = min(self._names, key=lambda name: self._spent_s[name] / SHARES[name])
                if not self.case(name, f"{self._seed}-{self._count[name]}"):
                    return False
                self._spent_s[name] += time.monotonic() - now
            return self._report()
        finally:
            for part in self._parts.values():
                part.close()

    def cases(self, name: str, count: int) -> bool:
        """Run the first cases of a part; False at the first breach."""
        return all(self.case(name, f"{self._seed}-{number}") for number in range(count))

    def case(self, name: str, seed: str) -> bool:
        """Run one case and say what is wrong with it; whether nothing is."""
        part = self._parts.get(name)
        if part is None:
            part = self._parts[name] = PARTS[name]()
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        try:
            outcome = part.case(Liar(seed))
        except Exception:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            traceback.print_exc(file=sys.stdout)
            print(f"\nBREACH; again with: tools/fuzz.py --case {name}:{seed}")
            if isinstance(part, Impostor):
                kept = tempfile.mkdtemp(prefix="hotbed-fuzz-breach-")
                shutil.copytree(part.directory, kept, dirs_exist_ok=True)
                print(f"what the liars of this environment sent: {kept}")
            sys.stdout.flush()
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        self._count[name] += 1
        self._outcomes[f"{name} {outcome}"] += 1
        return True

    def _report(self) -> bool:
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as file:
            now_bytes = int(file.read().split()[1]) * resource.getpagesize()
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        parts = ", ".join(f"{self._count[name]} {name}" for name in self._names)
        print(
            f"{time.monotonic() - self._begun:6.0f} s  {self._count.total()} cases ({parts}), "
            f"{len(self._outcomes)} distinct outcomes, {len(os.listdir('/proc/self/fd'))} descriptors, "
            f"{now_bytes >> 20} MiB, at most {peak_bytes >> 20} MiB",
            flush=True,
        )
        self._first_bytes = self._first_bytes or now_bytes
        if now_bytes > self._first_bytes + GROWTH_BYTES:
            print(f"BREACH: it grew by {(now_bytes - self._first_bytes) >> 20} MiB", flush=True)
            return False
        return True

    def show_outcomes(self) -> None:
        """What the cases came to, the most frequent first."""
        for outcome, count in self._outcomes.most_common():
            print(f"{count:8d}  {outcome}")


def _too_slow(_number: int, _frame: object) -> NoReturn:
    raise BreachError(f"no end within {PATIENCE_S:g} s")


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--lie"]:
        directory, seed_of_lies, _I, _S, _seed_directory, role = arguments[1:]  # the last four the launcher's
        lie(directory, seed_of_lies, role)
        return 0
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="of all cases; by default drawn and printed")
    parser.add_argument("--part", action="append", choices=sorted(PARTS), help="only this part; may repeat")
    parser.add_argument("--case", help="one case alone, as a breach names it: PART:SEED")
    parser.add_argument("--outcomes", action="store_true", help="show at the end what the cases came to")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    run = Run(seed, options.part or list(PARTS))
    if options.case is not None:
        name, _, case_seed = options.case.partition(":")
        return 0 if run.case(name, case_seed) else 1
    print(f"seed {seed}", flush=True)
    held = run.go_on(options.seconds)
    if options.outcomes:
        run.show_outcomes()
    print("no breach" if held else "stopped at the first breach", flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
