"""The plan against a world in which anything may happen at any time, and which then behaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import hypothesis
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hotbed.config import Pool
from hotbed.core.ids import ChildId, EnvironmentId
from hotbed.model import Mode
from tests.core.world import LiveTemplate, World

T = TypeVar("T")
LEARNABLE = ("attrs", "numpy", "torch")
ENVIRONMENTS = {
    EnvironmentId(1): {"forks": True, "learns": False, "preload": ()},
    EnvironmentId(2): {"forks": True, "learns": True, "preload": ("pandas",)},
    EnvironmentId(3): {"forks": False, "learns": True, "preload": ("pandas",)},
}

environments = st.sampled_from(list(ENVIRONMENTS))
picks = st.integers(0, 5)  # an index into what there is, modulo its length
pools = st.builds(
    Pool,
    standby=st.integers(0, 3),
    min_workers=st.integers(0, 1),
    max_workers=st.integers(1, 3),
    max_concurrency=st.integers(1, 4),
    max_queue=st.integers(0, 6),
    idle_timeout=st.sampled_from([1.0, 30.0]),
)


def pick(choices: Sequence[T], index: int) -> T:
    return choices[index % len(choices)]


class AnythingHappens(RuleBasedStateMachine):
    """Every fact that callers and processes may report, in any order."""

    world: World

    @initialize(pool=pools)
    def begin(self, pool: Pool) -> None:
        self.world = World(pool)
        self.former: list[ChildId] = []
        for settings in ENVIRONMENTS.values():
            self.world.add(**settings)  # type: ignore[arg-type]  # a table of keyword arguments

    @rule(environment=environments, mode=st.sampled_from(Mode), affinity=st.sampled_from(["a", "b"]))
    def submit(self, environment: EnvironmentId, mode: Mode, affinity: str) -> None:
        self.world.submit(environment, mode, affinity)

    @rule(environment=environments)
    def warm(self, environment: EnvironmentId) -> None:
        self.world.carry_out(self.world.plan.warm(environment, self.world.now))

    @precondition(lambda self: self.world.groups)
    @rule(index=picks)
    def withdraw(self, index: int) -> None:
        ticket = pick(list(reversed(self.world.groups)), index)
        waits = any(ticket in line for line in self.world.lines.values())
        assert self.world.withdraw(ticket) is waits

    @precondition(lambda self: self.world.leases)
    @rule(index=picks, reusable=st.booleans())
    def finish(self, index: int, reusable: bool) -> None:
        self.world.finish(pick(list(self.world.leases), index), reusable=reusable)

    @precondition(lambda self: self.world.leases)
    @rule(index=picks)
    def lose(self, index: int) -> None:
        self.world.lose(pick(list(self.world.leases), index))

    @precondition(lambda self: self.world.starting_children())
    @rule(index=picks)
    def child_ready(self, index: int) -> None:
        child = pick(self.world.starting_children(), index)
        self.world.ready(child)
        self.former.append(child)

    @precondition(lambda self: self.world.starting_children())
    @rule(index=picks)
    def child_broken(self, index: int) -> None:
        self.world.broken(pick(self.world.starting_children(), index))

    @precondition(lambda self: self.world.children)
    @rule(index=picks)
    def child_gone(self, index: int) -> None:
        child = pick(list(self.world.children), index)
        self.world.gone(child)
        self.former.append(child)

    @precondition(lambda self: self.former)
    @rule(index=picks)
    def news_of_a_former_child(self, index: int) -> None:
        child = pick(self.former, index)
        if child not in self.world.children:
            assert self.world.ready(child) == []
            assert self.world.broken(child) == []
            assert self.world.gone(child) == []

    def _starting(self, index: int) -> LiveTemplate:
        return pick(self.world.starting_templates(), index)

    @precondition(lambda self: self.world.starting_templates())
    @rule(index=picks)
    def template_ready(self, index: int) -> None:
        self.world.template_ready(self._starting(index))

    @precondition(lambda self: self.world.starting_templates())
    @rule(index=picks, guilty=st.sets(st.sampled_from([*LEARNABLE, "pandas", "the warm-up snippet"])))
    def template_ready_with_threads(self, index: int, guilty: set[str]) -> None:
        template = self._starting(index)
        names = [*template.preload, "the warm-up snippet"]
        self.world.template_ready(template, {name: ["pool-1"] for name in names if name in guilty})

    @precondition(lambda self: self.world.starting_templates())
    @rule(index=picks)
    def template_broken(self, index: int) -> None:
        self.world.template_broken(self._starting(index))

    @precondition(lambda self: self.world.templates)
    @rule(index=picks)
    def template_gone(self, index: int) -> None:
        self.world.template_gone(pick(list(self.world.templates.values()), index))

    @rule(environment=environments)
    def environment_changed(self, environment: EnvironmentId) -> None:
        self.world.change(environment)

    @rule(environment=environments, names=st.sets(st.sampled_from([*LEARNABLE, "pandas"])))
    def learned(self, environment: EnvironmentId, names: set[str]) -> None:
        self.world.learn(environment, *sorted(names))

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.011, 0.3, 1.0, 7.0, 100.0]))
    def tick(self, seconds: float) -> None:
        self.world.wait(seconds)

    @rule()
    def tick_when_due(self) -> None:
        due = self.world.plan.due(self.world.now)
        if due is not None:
            self.world.wait(due - self.world.now)

    @rule()
    def everything_becomes_ready(self) -> None:
        self.world.settle()

    @precondition(lambda self: len(self.world.log) > 40)
    @rule()
    def close(self) -> None:
        self.world.close()

    @invariant()
    def the_plan_knows_what_is(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.behave()
        assert world.ends.keys() == world.groups.keys(), "a ticket was lost"
        for _ in range(20):
            world.settle()
            world.wait(world.plan.pool.idle_timeout)
        for environment in world.plan.shelves:
            assert len(world.workers(environment)) <= world.plan.pool.min_workers
            if not world.workers(environment):
                assert not world.standing_by(environment), "nobody needs them and they stay"
                assert not world.live_templates(environment), "nobody needs it and it stays"
        world.close()
        assert not world.children, "left after close"


AnythingHappens.TestCase.settings = hypothesis.settings(
    max_examples=250,  # 15 s
    report_multiple_bugs=False,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


TestAnythingHappens = AnythingHappens.TestCase
