"""Bytes from a child become frames or a ProtocolError, in bounded memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.core.frames import META_LIMIT, Decoder, Frame, ProtocolError, TooLargeError
from hotbed.seed import wire

BODY_LIMIT = 1000
KINDS = sorted(wire.KINDS_TO_PARENT)

frames = st.lists(
    st.builds(Frame, st.sampled_from(KINDS), st.binary(max_size=100), st.binary(max_size=BODY_LIMIT)),
    max_size=6,
)


def packed(frame: Frame) -> bytes:
    return wire.pack(frame.kind, frame.meta, bytes(frame.body))


def fed(decoder: Decoder, stream: bytes, cuts: list[int]) -> list[Frame]:
    """What comes out when the stream arrives cut at these places."""
    found = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in itertools.pairwise(edges):
        found += decoder.feed(stream[start:end])
    return found


@given(frames, st.lists(st.integers(0, 5000), max_size=20))
def test_any_split_of_a_stream_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(map(packed, sent))
    assert fed(Decoder(BODY_LIMIT), stream, cuts) == sent


def test_byte_by_byte_gives_the_same_frames() -> None:
    sent = [Frame(wire.BEGAN, b"", b""), Frame(wire.ANSWER, b"{}", b"[1]")]
    stream = b"".join(map(packed, sent))
    assert fed(Decoder(BODY_LIMIT), stream, list(range(len(stream)))) == sent


@given(frames, st.integers(0, 5000))
def test_what_is_missing_completes_the_frame(sent: list[Frame], cut: int) -> None:
    decoder = Decoder(BODY_LIMIT)
    stream = b"".join(map(packed, sent))
    begun = stream[:cut]
    done = len(decoder.feed(begun))
    missing = decoder.wanted(0, 1 << 40)
    if missing:
        assert decoder.feed(stream[cut : cut + missing - 1]) == []
        assert decoder.feed(stream[cut + missing - 1 : cut + missing]) == [sent[done]]


headers = st.builds(
    lambda kind, meta, body: wire.HEADER.pack(kind, meta, body),
    st.integers(0, 255),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**64 - 1),
)
hostile = st.lists(
    st.one_of(st.binary(max_size=200), headers, frames.map(lambda sent: b"".join(map(packed, sent))))
)


@given(hostile)
def test_any_bytes_are_frames_or_a_protocol_error(pieces: list[bytes]) -> None:
    decoder = Decoder(BODY_LIMIT)
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                assert frame.kind in wire.KINDS_TO_PARENT
                assert len(frame.body) <= BODY_LIMIT
    except ProtocolError:
        pass


@given(st.integers(0, 255).filter(lambda kind: kind not in wire.KINDS_TO_PARENT))
def test_only_what_a_child_may_send_is_a_frame(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"unknown kind {kind}"):
        Decoder(BODY_LIMIT).feed(wire.pack(kind))


@pytest.mark.parametrize("announced", [BODY_LIMIT + 1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("cut", [0, 5])
def test_a_body_over_the_limit_is_refused_before_it_arrives(announced: int, cut: int) -> None:
    decoder = Decoder(BODY_LIMIT)
    header = wire.HEADER.pack(wire.ANSWER, 0, announced)
    decoder.feed(header[:cut])
    with pytest.raises(TooLargeError, match=f"{announced} bytes"):
        decoder.feed(header[cut:])


def test_a_body_at_the_limit_is_taken() -> None:
    body = bytes(BODY_LIMIT)
    assert Decoder(BODY_LIMIT).feed(wire.pack(wire.ANSWER, b"", body)) == [Frame(wire.ANSWER, b"", body)]


def test_a_meta_over_the_limit_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProtocolError, match="bytes of meta"):
        Decoder(BODY_LIMIT).feed(wire.HEADER.pack(wire.ANSWER, META_LIMIT + 1, 0))


@given(st.lists(st.binary(min_size=1, max_size=64), max_size=50))
def test_no_more_is_kept_than_a_frame_may_hold(pieces: list[bytes]) -> None:
    decoder = Decoder(BODY_LIMIT)
    decoder.feed(wire.HEADER.pack(wire.ANSWER, 10, BODY_LIMIT))
    for piece in pieces:
        try:
            decoder.feed(piece)
        except ProtocolError:
            break
        assert decoder.wanted(0, 1 << 40) <= wire.HEADER.size + 10 + BODY_LIMIT
