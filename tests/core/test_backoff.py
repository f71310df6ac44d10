"""Waits between tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.core.backoff import delay_s

jitters = st.floats(0.0, 1.0, exclude_max=True)


@pytest.mark.parametrize(("attempt", "step_s"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0)])
def test_the_step_doubles_up_to_its_most(attempt: int, step_s: float) -> None:
    assert delay_s(attempt, 0.0) == step_s / 2


@given(st.integers(1, 10_000), jitters, st.sampled_from([0.1, 1.0]), st.sampled_from([0.05, 60.0]))
def test_a_delay_is_between_half_a_step_and_a_step(
    attempt: int, jitter: float, first_s: float, most_s: float
) -> None:
    step_s = delay_s(attempt, 0.0, first_s=first_s, most_s=most_s) * 2
    assert step_s <= most_s
    assert step_s / 2 <= delay_s(attempt, jitter, first_s=first_s, most_s=most_s) <= step_s


@given(st.integers(1, 100), jitters)
def test_a_later_attempt_never_waits_less(attempt: int, jitter: float) -> None:
    assert delay_s(attempt, jitter) <= delay_s(attempt + 1, jitter)


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match=f"attempt={attempt}"):
        delay_s(attempt, 0.5)
