"""What an execution came to."""

from __future__ import annotations

import json
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.core import classify
from hotbed.core.frames import ProtocolError
from hotbed.model import ErrorKind, Status
from hotbed.seed import report, wire

GOOD: dict[str, object] = {
    "status": "ok",
    "error": None,
    "text": "",
    "exit_code": 0,
    "import_s": 0.0,
    "run_s": 0.1,
    "cpu_s": 0.1,
    "peak_bytes": 1,
    "imports": [],
}
FAILED = {
    **GOOD,
    "status": "error",
    "exit_code": 3,
    "error": {"kind": "raised", "name": "KeyError", "message": "'x'", "traceback": "", "frames": []},
}


def raised() -> dict[str, object]:
    try:
        raise KeyError("\ud800 and \0")
    except KeyError as error:
        return report.exception(error)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary())
def test_any_bytes_are_an_answer_or_a_protocol_error(meta: bytes) -> None:
    with pytest.raises(ProtocolError):
        classify.decode_answer(meta)


@given(st.sampled_from(sorted(GOOD)), json_values)
def test_any_wrong_field_is_an_answer_or_a_protocol_error(field: str, value: object) -> None:
    meta = json.dumps({**GOOD, field: value}).encode()
    try:
        answer = classify.decode_answer(meta)
        classify.answered(answer)
    except ProtocolError:
        pass


@pytest.mark.parametrize("field", sorted(GOOD))
def test_a_missing_field_is_a_protocol_error(field: str) -> None:
    meta = {name: value for name, value in GOOD.items() if name != field}
    with pytest.raises(ProtocolError, match=field):
        classify.decode_answer(wire.encode(meta))


@pytest.mark.parametrize("field", ["unknown", "imports"])
def test_a_deep_answer_is_a_protocol_error(field: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(ProtocolError):
        classify.decode_answer(wire.encode(GOOD)[:-1] + f', "{field}": '.encode() + deep + b"}")


def test_what_the_seed_reports_can_be_read() -> None:
    answer = classify.decode_answer(wire.encode({**FAILED, "error": raised()}))
    assert answer.error is not None
    assert answer.error.name == "KeyError"


def test_an_answer_without_an_error_is_ok() -> None:
    verdict = classify.answered(classify.decode_answer(wire.encode(GOOD)))
    assert (verdict.status, verdict.error, verdict.exit_code) == (Status.OK, None, 0)


def test_an_answer_with_an_error_leaves_as_a_program_would() -> None:
    verdict = classify.answered(classify.decode_answer(wire.encode(FAILED)))
    assert (verdict.status, verdict.exit_code) == (Status.ERROR, 3)


def test_an_error_never_leaves_with_zero() -> None:
    verdict = classify.answered(classify.decode_answer(wire.encode({**FAILED, "exit_code": 0})))
    assert verdict.exit_code == 1


@pytest.mark.parametrize(
    ("verdict", "status", "kind", "words"),
    [
        (classify.timed_out(2.5), Status.TIMEOUT, ErrorKind.TIMEOUT, "2.5 s"),
        (classify.cancelled("it was closed"), Status.CANCELLED, ErrorKind.CANCELLED, "it was closed"),
        (
            classify.too_large("stdout", 10, "output"),
            Status.ERROR,
            ErrorKind.OUTPUT_TOO_LARGE,
            "Limits(output=",
        ),
        (classify.violated("kind 9"), Status.CRASHED, ErrorKind.CRASHED, "kind 9"),
        (classify.lost("killed"), Status.CRASHED, ErrorKind.LOST, "killed"),
        (classify.ended(None), Status.CRASHED, ErrorKind.CRASHED, "closed the channel"),
        (classify.ended(3), Status.CRASHED, ErrorKind.CRASHED, "status 3"),
        (classify.ended(-signal.SIGSEGV, "SIGSEGV"), Status.CRASHED, ErrorKind.CRASHED, "SIGSEGV"),
        (classify.ended(-signal.SIGKILL, "SIGKILL"), Status.CRASHED, ErrorKind.CRASHED, "out-of-memory"),
    ],
)
def test_every_end_says_what_happened(
    verdict: classify.Verdict, status: Status, kind: ErrorKind, words: str
) -> None:
    assert verdict.error is not None
    assert (verdict.status, verdict.error.kind) == (status, kind)
    assert words in verdict.error.message


@pytest.mark.parametrize("exit_code", [None, 0, 3, -signal.SIGSEGV])
def test_an_end_keeps_its_exit_status(exit_code: int | None) -> None:
    assert classify.ended(exit_code, "SIGSEGV").exit_code == exit_code
