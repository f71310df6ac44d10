"""The table of an execution's life as its caller sees it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.core.execution import TRANSITIONS, Execution, Phase
from hotbed.model import Status

EVENTS = sorted({event for _phase, event in TRANSITIONS})
TO = {Phase.QUEUED: [], Phase.SENT: ["leased"], Phase.ENDED: ["refused"]}


def in_phase(phase: Phase) -> Execution:
    execution = Execution()
    for event in TO[phase]:
        execution.on(event, Status.REJECTED if event == "refused" else None)
    return execution


@pytest.mark.parametrize(("phase", "event"), TRANSITIONS)
def test_an_event_of_the_table_leads_where_it_says(phase: Phase, event: str) -> None:
    execution = in_phase(phase)
    after = TRANSITIONS[phase, event]
    execution.on(event, Status.OK if after is Phase.ENDED else None)
    assert execution.phase is after


@pytest.mark.parametrize(
    ("phase", "event"), [pair for pair in itertools.product(Phase, EVENTS) if pair not in TRANSITIONS]
)
def test_any_other_event_is_a_bug_said_loudly(phase: Phase, event: str) -> None:
    execution = in_phase(phase)
    with pytest.raises(ValueError, match=f"'{event}' while '{phase.value}'"):
        execution.on(event, Status.OK)


def test_an_execution_is_sent_at_most_twice() -> None:
    execution = in_phase(Phase.SENT)
    execution.on("returned")
    execution.on("leased")
    with pytest.raises(ValueError, match="a second time"):
        execution.on("returned")


def test_an_end_needs_a_status() -> None:
    with pytest.raises(ValueError, match="status None"):
        in_phase(Phase.SENT).on("ended")


def test_what_is_no_end_has_no_status() -> None:
    with pytest.raises(ValueError, match="'leased' with status ok"):
        Execution().on("leased", Status.OK)


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.none() | st.sampled_from(Status))))
def test_an_execution_ends_once_whatever_happens(events: list[tuple[str, Status | None]]) -> None:
    execution = Execution()
    ends = []
    for event, status in events:
        try:
            execution.on(event, status)
        except ValueError:
            continue
        if execution.phase is Phase.ENDED:
            ends.append(status)
    assert len(ends) <= 1
    assert execution.status is (ends[0] if ends else None)
