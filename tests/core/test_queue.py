"""First come, first served, within groups and over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbed.core.queue import Queue


def test_an_empty_queue_has_nobody() -> None:
    queue: Queue[str, int] = Queue()
    assert (len(queue), queue.heads(), queue.waiting("a"), list(queue.of("a"))) == (0, [], 0, [])


def test_heads_are_the_first_of_each_group_longest_waiting_first() -> None:
    queue: Queue[str, int] = Queue()
    for group, item in [("b", 1), ("a", 2), ("b", 3), ("a", 4)]:
        queue.push(group, item)
    assert queue.heads() == [("b", 1), ("a", 2)]


def test_who_is_put_back_stands_before_everybody() -> None:
    queue: Queue[str, int] = Queue()
    queue.push("a", 1)
    queue.push("b", 2)
    queue.push_front("b", 3)
    assert queue.heads() == [("b", 3), ("a", 1)]


def test_who_leaves_from_the_middle_holds_nobody_up() -> None:
    queue: Queue[str, int] = Queue()
    for item in (1, 2, 3):
        queue.push("a", item)
    queue.remove(2)
    assert list(queue.of("a")) == [1, 3]


def test_who_does_not_wait_cannot_leave() -> None:
    queue: Queue[str, int] = Queue()
    with pytest.raises(KeyError):
        queue.remove(1)


def test_the_items_of_a_group_may_leave_while_they_are_listed() -> None:
    queue: Queue[str, int] = Queue()
    for item in (1, 2, 3):
        queue.push("a", item)
    for item in queue.of("a"):
        queue.remove(item)
    assert len(queue) == 0


steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["push", "push_front"]), st.sampled_from("abc")),
        st.tuples(st.just("remove"), st.integers(0, 20)),
    )
)


@given(steps)
def test_it_is_a_list_in_the_end(actions: list[tuple[str, str | int]]) -> None:
    queue: Queue[str, int] = Queue()
    model: list[tuple[str, int]] = []
    for number, (what, detail) in enumerate(actions):
        if isinstance(detail, str):
            getattr(queue, what)(detail, number)
            model.insert(len(model) if what == "push" else 0, (detail, number))
        elif model:
            _group, item = model.pop(detail % len(model))
            queue.remove(item)
        firsts: dict[str, int] = {}
        for group, item in model:
            firsts.setdefault(group, item)
        assert queue.heads() == list(firsts.items())
        assert len(queue) == len(model)
        for group in "abc":
            assert list(queue.of(group)) == [item for own, item in model if own == group]
            assert queue.waiting(group) == sum(own == group for own, _item in model)
        assert all(item in queue for _group, item in model)
