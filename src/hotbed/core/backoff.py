"""How long to wait before the next try."""

from __future__ import annotations


def delay_s(attempt: int, jitter: float, *, first_s: float = 1.0, most_s: float = 60.0) -> float:
    """Exponential back-off with full jitter (Brooker, AWS Architecture Blog, 2015).

    `attempt` counts from 1; `jitter` is a random number in [0, 1). The delay is uniform
    between half of the doubled step and the step itself, so it never collapses to nothing.

    Raises:
        ValueError: If `attempt` is below 1.
    """
    if attempt < 1:
        raise ValueError(f"attempt={attempt} must be at least 1")
    step = min(most_s, first_s * 2.0 ** min(attempt - 1, 30))
    return step * (0.5 + 0.5 * jitter)
