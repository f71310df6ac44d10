"""Whatever a child writes becomes a value or an error of a known type, and no more memory than allowed.

The laws here are shrunk by hypothesis when they break; tools/fuzz.py looks for longer, and in more ways.
"""

from __future__ import annotations

import textwrap
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotbed import Engine, Environment, HotbedError, Limits, Pool
from hotbed.core import classify
from hotbed.core.classify import Answer
from hotbed.core.frames import META_LIMIT, Decoder, ProtocolError
from hotbed.core.ids import EnvironmentId
from hotbed.core.plan import Plan
from hotbed.seed import wire
from tools import fuzz

BODY_LIMIT = 4096
LIMITS = Limits(output=2048, value=BODY_LIMIT, artifacts=BODY_LIMIT)

# Text that is JSON or nearly, as bytes: most of what breaks a reader cannot be said with json.dumps.
tokens = st.sampled_from([*fuzz.NUMBERS, *fuzz.TEXTS, *fuzz.WORDS])
deep = st.builds(
    lambda levels, pair, closed: pair[0] * levels + b"1" + pair[1] * (levels if closed else 0),
    st.sampled_from(fuzz.DEPTHS),
    st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]),
    st.booleans(),
)
json_texts = st.recursive(
    tokens | deep | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
        | st.dictionaries(tokens, inner, max_size=3).map(
            lambda items: b"{" + b",".join(name + b":" + value for name, value in items.items()) + b"}"
        )
    ),
    max_leaves=5,
)


def changed(fields: dict[str, bytes]) -> st.SearchStrategy[bytes]:
    """An object of these fields with some left out, and others, or the same again, put in."""
    return st.builds(
        lambda left_out, others: fuzz.plain(
            [(name, value) for name, value in fields.items() if name not in left_out] + others
        ),
        st.frozensets(st.sampled_from(sorted(fields)), max_size=1),
        st.lists(st.tuples(st.sampled_from(fuzz.NAMES), json_texts), max_size=3),
    )


files = st.lists(st.tuples(st.sampled_from(fuzz.TEXTS), json_texts | st.integers(0, 9).map(b"%d".__mod__)))
metas = st.one_of(
    st.binary(max_size=50),
    json_texts,
    changed(dict(fuzz.ANSWER)),
    changed(dict(fuzz.ERROR)).flatmap(lambda error: changed({**fuzz.ANSWER, "error": error})),
    st.builds(
        lambda told, value_bytes: fuzz.plain(
            {
                **fuzz.ANSWER,
                "artifacts": b"[" + b",".join(b"[%s,%s]" % one for one in told) + b"]",
                "value_bytes": value_bytes,
            }.items()
        ),
        files,
        json_texts | st.integers(0, 9).map(b"%d".__mod__),
    ),
)
frames = st.one_of(
    st.builds(wire.pack, st.just(wire.ANSWER), metas, json_texts),
    st.builds(wire.pack, st.sampled_from(sorted(wire.KINDS_TO_PARENT)), json_texts, st.binary(max_size=20)),
    st.builds(wire.HEADER.pack, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)),
    st.binary(max_size=100),
)
chunks = st.lists(frames, max_size=4).flatmap(
    lambda parts: st.lists(st.integers(0, sum(map(len, parts))), max_size=4).map(
        lambda cuts: _cut(b"".join(parts), sorted(cuts))
    )
)


def _cut(whole: bytes, cuts: list[int]) -> list[bytes]:
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@given(chunks)
def test_any_chunks_are_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    decoder = Decoder(BODY_LIMIT)
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                assert frame.kind in wire.KINDS_TO_PARENT
                assert len(frame.meta) <= META_LIMIT
                assert len(frame.body) <= BODY_LIMIT
            assert decoder.wanted(0, 1 << 62) <= wire.HEADER.size + META_LIMIT + BODY_LIMIT
    except ProtocolError:
        pass


@given(metas)
def test_any_meta_is_an_answer_or_a_protocol_error(meta: bytes) -> None:
    try:
        assert isinstance(classify.decode_answer(meta), Answer)
    except ProtocolError:
        pass


@given(
    st.lists(st.tuples(st.text(max_size=5) | st.sampled_from(["a", "a/b", "../a", ""]), st.integers())),
    st.none() | st.integers(),
    st.binary(max_size=20),
)
@example([("a", 2), ("b", 1)], 1, b"1234")
def test_a_body_is_split_into_all_of_its_bytes_or_refused(
    told: list[tuple[str, int]], value_bytes: int | None, body: bytes
) -> None:
    answer = classify.decode_answer(fuzz.plain(fuzz.ANSWER.items()))
    answer.artifacts, answer.value_bytes = told, value_bytes
    try:
        value, found = classify.split_body(answer, body)
    except ProtocolError:
        return
    assert b"".join([value, *(data for _name, data in found)]) == body


@given(
    chunks,
    st.booleans(),
    st.booleans(),
    st.lists(st.binary(max_size=1500), max_size=2),
    st.sampled_from([None, 0, 9, 256, 0xFF00]),
)
def test_any_conversation_ends_in_a_result_that_can_be_told(
    pieces: list[bytes], announced: bool, shuts: bool, out: list[bytes], status: int | None
) -> None:
    said = fuzz.Said(pieces, out, shuts=shuts, status=status)
    _closed, result = fuzz.converse(said, LIMITS, announced=announced)
    if result is not None:
        assert fuzz.judge(result)


def test_a_request_that_is_never_read_does_not_hold_the_conversation_up() -> None:
    _closed, result = fuzz.converse(fuzz.Said([], status=9), LIMITS, request=bytes(4_000_000))
    assert result is not None
    assert result.exit_code == -9


@pytest.mark.parametrize("part", ["frames", "exchange"])
def test_the_first_cases_of_the_fuzzer_hold(part: str) -> None:
    assert fuzz.Run(seed=1, names=[part]).cases(part, 300)


# ── memory ──

MANY = {"artifacts": b'["a",0]', "left_out": b'"ab"'}  # the shortest that a meta can name


@pytest.mark.parametrize("field", MANY)
def test_a_result_weighs_no_multiple_of_what_was_sent(field: str) -> None:
    names = b",".join([MANY[field]] * 50_000)
    meta = fuzz.plain({**fuzz.ANSWER, "value_bytes": b"0", field: b"[" + names + b"]"}.items())
    said = fuzz.Said([wire.pack(wire.ANSWER, meta)])
    tracemalloc.start()
    try:
        _closed, result = fuzz.converse(said, LIMITS)
        kept_bytes, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result is not None
    assert kept_bytes < 2 * len(meta)


# ── the engine serves on ──

# Warm-up code runs in the template, whose socket is its control socket, and in every child, whose
# socket is its channel. A hostile package can do the same when it is imported.
LIE = """
import os, socket, stat, struct
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        held = stat.S_ISSOCK(os.fstat(fd).st_mode) and socket.socket(fileno=os.dup(fd))
    except OSError:
        continue
    if held and held.type == (socket.SOCK_SEQPACKET if control else socket.SOCK_STREAM):
        for lie in lies:
            os.write(fd, lie if control else struct.pack("<BxxxIQ", 16, len(lie), 0) + lie)
"""
LIES = {
    "what is no UTF-8": b'{"problem": "\xff"}',
    "what is nested too deeply": b'{"x": ' + b"[" * 20_000,
    "what is no JSON": b"no JSON",
    "fields of other types": b'{"op": 1, "problem": 1, "id": "x", "directories": []}',
    "a directory with a NUL": b'{"op": "ready", "directories": {"\\u0000": 1}}',
    "an end of no process": b'{"op": "ended", "id": 1, "status": 127}',
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize(
    ("forks", "control"),
    [("1", False), ("0", False), ("1", True)],
    ids=["a forked child", "an interpreter", "a template"],
)
def test_a_liar_that_gets_ready_spoils_its_own_environment_alone(
    lie: str, forks: str, control: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOTBED_FORK", forks)
    warmup = f"control, lies = {control}, [{LIES[lie]!r}]\n{textwrap.dedent(LIE)}"
    liar = Environment(preload=(), warmup=warmup)
    with Engine(pool=Pool(standby=1), isolation="none") as engine:
        for _ in range(3):
            try:
                engine.run("1", environment=liar, timeout=5.0, queue_timeout=5.0)
            except HotbedError:
                pass
        assert engine.run("40 + 2").value == 42


def test_no_template_speaks_for_the_children_of_another() -> None:
    lies = [b'{"op": "ended", "id": %d, "status": 9}' % child for child in range(1, 30)]
    warmup = f"control, lies = True, {lies!r}\n{textwrap.dedent(LIE)}"
    code = "import os, time; print('begun', flush=True); time.sleep(1); os._exit(3)"
    with Engine(pool=Pool(standby=1), isolation="none") as engine:

        def start_the_liar(_text: str) -> None:
            engine.run("1", environment=Environment(preload=(), warmup=warmup))

        assert engine.run(code, on_stdout=start_the_liar).exit_code == 3


def test_modules_that_cannot_be_learned_are_not_remembered_without_end() -> None:
    """Names that hostile code makes up: one template tries them, and none keeps a list for ever."""
    place = EnvironmentId(1)
    plan = Plan(Pool())
    plan.add_environment(place, forks=True, reason="", learns=True, preload=())
    plan.warm(place, 0.0)
    shelf = plan.shelves[place]
    plan.template_ready(place, shelf.generation, {}, 0.0)
    for batch in range(100):
        plan.learned(place, [f"made_up_{batch}_{number}" for number in range(100)])
        if shelf.upgrade is not None:
            plan.template_broken(place, shelf.upgrade, "no such module", 0.0, 0.5)
    assert len(shelf.unfit) <= 1000
