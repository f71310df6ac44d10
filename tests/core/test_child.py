"""The table of a child's life."""

from __future__ import annotations

import itertools

import pytest

from hotbed.core.child import TRANSITIONS, Child, Event, State
from hotbed.core.ids import ChildId, EnvironmentId
from hotbed.model import Mode


def child(state: State) -> Child:
    return Child(ChildId(7), EnvironmentId(1), Mode.WORKER, 1, state, forked=True, rehearsed=False, born=0.0)


@pytest.mark.parametrize(("state", "event"), TRANSITIONS)
def test_an_event_of_the_table_leads_where_it_says(state: State, event: Event) -> None:
    one = child(state)
    one.on(event)
    assert one.state is TRANSITIONS[state, event]


@pytest.mark.parametrize(
    ("state", "event"), [pair for pair in itertools.product(State, Event) if pair not in TRANSITIONS]
)
def test_any_other_event_is_a_bug_said_loudly(state: State, event: Event) -> None:
    one = child(state)
    with pytest.raises(ValueError, match=f"child 7: '{event.value}' while '{state.value}'"):
        one.on(event)
    assert one.state is state


def test_a_leased_child_is_never_leased() -> None:
    assert (State.LEASED, Event.LEASED) not in TRANSITIONS


def test_a_child_that_starts_is_never_leased() -> None:
    assert (State.STARTING, Event.LEASED) not in TRANSITIONS
