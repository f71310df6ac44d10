"""The plan's laws one by one; tests/core/test_plan_machine.py holds it to all of them at once."""

from __future__ import annotations

import pytest

from hotbed.config import Pool
from hotbed.core.actions import Break, End, Lease, Order, Refuse, Rehearse, RetireTemplate, StartTemplate
from hotbed.core.plan import CALM_S, FREE_RESTARTS, LEARNED_LIMIT
from hotbed.core.shelf import TemplateState
from hotbed.model import Mode
from tests.core.world import World

MODES = pytest.mark.parametrize("mode", list(Mode))


# ── leases ──


def test_a_standby_child_is_leased_at_once() -> None:
    world = World()
    environment = world.served()
    (first, _second) = world.standing_by(environment)
    ticket = world.submit(environment)
    assert world.leases[ticket] == first


def test_a_fresh_child_serves_once_and_is_ended() -> None:
    world = World()
    ticket = world.submit(world.served())
    child = world.leases[ticket]
    assert End(child) in world.finish(ticket)


def test_without_a_standby_child_one_is_forked_for_the_caller() -> None:
    world = World(Pool(standby=0))
    environment = world.served()
    world.submit(environment)
    lease = world.log[-1]
    assert isinstance(lease, Lease)
    assert lease.order is not None
    assert (lease.order.forked, lease.order.rehearse) == (True, False)


def test_a_sound_worker_serves_the_next_execution() -> None:
    world = World()
    environment = world.served()
    first = world.submit(environment, Mode.WORKER)
    child = world.leases[first]
    world.finish(first)
    assert world.leases[world.submit(environment, Mode.WORKER)] == child


def test_an_unsound_worker_is_ended() -> None:
    world = World()
    environment = world.served()
    ticket = world.submit(environment, Mode.WORKER)
    world.finish(ticket, reusable=False)
    assert world.workers(environment) == []


def test_a_worker_that_has_served_the_same_file_is_preferred() -> None:
    world = World()
    environment = world.served()
    tickets = {name: world.submit(environment, Mode.WORKER, name) for name in ("a.py", "b.py", "c.py")}
    children = {name: world.leases[ticket] for name, ticket in tickets.items()}
    for ticket in tickets.values():
        world.finish(ticket)
    assert world.leases[world.submit(environment, Mode.WORKER, "a.py")] == children["a.py"]


def test_no_more_workers_are_made_than_may_be() -> None:
    world = World(Pool(max_workers=2))
    environment = world.served()
    tickets = [world.submit(environment, Mode.WORKER) for _ in range(3)]
    assert tickets[2] not in world.leases
    world.finish(tickets[0])
    assert tickets[2] in world.leases


@MODES
def test_no_more_executions_run_than_may(mode: Mode) -> None:
    world = World(Pool(max_concurrency=2))
    environment = world.served()
    for _ in range(4):
        world.submit(environment, mode)
    assert (world.plan.running, world.plan.queued) == (2, 2)


def test_a_one_shot_needs_no_template() -> None:
    world = World()
    world.submit(world.add(), Mode.ONESHOT)
    (lease,) = world.log
    assert isinstance(lease, Lease)
    assert lease.order is not None
    assert not lease.order.forked


def test_one_shots_alone_order_nothing_ahead() -> None:
    world = World()
    environment = world.add(forks=False)
    world.finish(world.submit(environment, Mode.ONESHOT))
    assert not any(isinstance(action, Order) for action in world.log)


# ── the queue ──


@MODES
def test_who_waits_longest_in_a_group_goes_first(mode: Mode) -> None:
    world = World(Pool(max_concurrency=1))
    environment = world.served()
    first, second, third = (world.submit(environment, mode) for _ in range(3))
    world.finish(first)
    assert second in world.leases
    world.finish(second)
    assert third in world.leases


def test_who_waits_longest_over_all_environments_goes_first() -> None:
    world = World(Pool(max_concurrency=1))
    one, other = world.served(), world.served()
    running = world.submit(one)
    second, third = world.submit(other), world.submit(one)
    world.finish(running)
    assert second in world.leases
    world.finish(second)
    assert third in world.leases


def test_an_environment_that_is_not_ready_holds_nobody_else_up() -> None:
    world = World()
    slow, quick = world.add(), world.served()
    waiting = world.submit(slow)
    assert world.submit(quick) in world.leases
    assert waiting not in world.leases


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    world = World(Pool(max_concurrency=1, max_queue=1))
    environment = world.served()
    first = world.submit(environment)
    world.submit(environment)
    world.submit(environment)
    refusal = world.log[-1]
    assert isinstance(refusal, Refuse)
    assert "pool.max_queue is 1" in refusal.reason
    assert refusal.retry_after_s is not None
    assert refusal.retry_after_s > 0
    assert first in world.leases


def test_the_time_to_come_back_follows_the_service_time() -> None:
    world = World(Pool(max_concurrency=2, max_queue=0))
    environment = world.served()
    ticket = world.submit(environment)
    world.wait(8.0)
    world.finish(ticket)
    for _ in range(3):
        world.submit(environment)
    refusal = world.log[-1]
    assert isinstance(refusal, Refuse)
    assert refusal.retry_after_s == pytest.approx(4.0)


def test_a_withdrawn_ticket_is_not_served() -> None:
    world = World(Pool(max_concurrency=1))
    environment = world.served()
    first, second, third = (world.submit(environment) for _ in range(3))
    assert world.withdraw(second)
    world.finish(first)
    assert third in world.leases


def test_what_is_leased_cannot_be_withdrawn() -> None:
    world = World()
    ticket = world.submit(world.served())
    assert not world.withdraw(ticket)


def test_a_ticket_that_comes_back_goes_first() -> None:
    world = World(Pool(max_concurrency=1))
    environment = world.served()
    first, second = world.submit(environment), world.submit(environment)
    world.lose(first)
    assert first in world.leases
    assert second not in world.leases


def test_a_ticket_that_comes_back_gets_another_child() -> None:
    world = World()
    ticket = world.submit(world.served())
    child = world.leases[ticket]
    world.lose(ticket)
    assert world.leases[ticket] != child


# ── templates ──


def test_the_first_request_starts_the_template_and_waits_for_it() -> None:
    world = World()
    environment = world.add(preload=("pandas",))
    ticket = world.submit(environment)
    assert world.log == [StartTemplate(environment, 1, ("pandas",))]
    world.template_ready(world.template(environment))
    assert ticket in world.leases


def test_many_requests_start_one_template() -> None:
    world = World()
    environment = world.add()
    for _ in range(5):
        world.submit(environment)
    assert len(world.log) == 1


def test_a_ready_template_forks_the_standby_children() -> None:
    world = World(Pool(standby=3))
    environment = world.served()
    assert len(world.standing_by(environment)) == 3


def test_warm_makes_an_environment_ready() -> None:
    world = World()
    environment = world.add()
    world.carry_out(world.plan.warm(environment, world.now))
    world.settle()
    assert len(world.standing_by(environment)) == 2


def test_a_template_that_cannot_start_breaks_all_who_wait_for_it() -> None:
    world = World()
    environment = world.add(preload=("nothing",))
    tickets = [world.submit(environment, mode) for mode in (Mode.FRESH, Mode.WORKER)]
    world.template_broken(world.template(environment), "cannot import 'nothing'")
    for ticket in tickets:
        assert Break(ticket, "cannot import 'nothing'", died=False) in world.log


def test_a_broken_environment_breaks_new_requests_until_its_back_off_is_over() -> None:
    world = World()
    environment = world.add()
    world.submit(environment)
    world.template_broken(world.template(environment), "no module")
    ticket = world.submit(environment)
    assert world.log[-1] == Break(ticket, "no module", died=False)
    world.wait(1.0)
    world.submit(environment)
    assert isinstance(world.log[-1], StartTemplate)


def test_a_broken_environment_still_runs_one_shots() -> None:
    world = World()
    environment = world.add()
    world.submit(environment)
    world.template_broken(world.template(environment))
    assert world.submit(environment, Mode.ONESHOT) in world.leases


def test_a_template_that_died_once_is_restarted_at_once() -> None:
    world = World()
    environment = world.served()
    world.template_gone(world.template(environment))
    assert isinstance(world.log[-1], StartTemplate)


def test_restarts_of_a_dying_template_step_back() -> None:
    world = World()
    environment = world.served()
    waits = []
    for _ in range(FREE_RESTARTS):
        died_at = world.now
        world.template_gone(world.template(environment))
        while not world.live_templates(environment):
            due = world.plan.due(world.now)
            assert due is not None
            world.wait(due - world.now)
        waits.append(world.now - died_at)
        world.settle()
    assert waits == pytest.approx([0.0, 0.075, 0.15])


def test_a_template_that_dies_again_and_again_breaks_its_environment() -> None:
    world = World()
    environment = world.served()
    for _ in range(FREE_RESTARTS):
        world.template_gone(world.template(environment))
        world.wait(1.0)
    ticket = world.submit(environment)
    world.template_gone(world.template(environment), "killed")
    assert Break(ticket, "killed", died=True) in world.log


def test_an_answer_makes_up_for_earlier_deaths() -> None:
    world = World()
    environment = world.served()
    for _ in range(3 * FREE_RESTARTS):
        world.template_gone(world.template(environment))
        world.wait(1.0)
        world.settle()
        world.finish(world.submit(environment))
    assert world.live_templates(environment)


def test_a_child_that_died_with_its_template_makes_up_for_nothing() -> None:
    world = World(Pool(standby=0))
    environment = world.served()
    for _ in range(FREE_RESTARTS):
        ticket = world.submit(environment)
        world.template_gone(world.template(environment))
        world.finish(ticket, reusable=False)
        world.wait(1.0)
        world.settle()
    world.template_gone(world.template(environment))
    assert world.live_templates(environment) == []


def test_a_one_shot_that_ends_meanwhile_does_not_stop_a_restart() -> None:
    world = World()
    environment = world.served()
    other = world.submit(environment, Mode.ONESHOT)
    for _ in range(2):
        world.template_gone(world.template(environment))
    ticket = world.submit(environment)
    world.finish(other)
    world.behave()
    assert world.ends[ticket] == "finished"


def test_the_death_of_a_template_ends_its_waiting_children() -> None:
    world = World()
    environment = world.served()
    children = world.standing_by(environment)
    actions = world.template_gone(world.template(environment))
    assert {End(child) for child in children} <= set(actions)


def test_a_template_that_dies_after_it_was_retired_is_no_failure() -> None:
    world = World(Pool(idle_timeout=1.0))
    environment = world.served()
    template = world.template(environment)
    world.wait(1.0)
    gone = world.plan.template_gone(environment, template.generation, "killed", world.now, 0.5)
    assert gone == []
    assert world.plan.due(world.now) is None


def test_children_that_die_while_they_start_break_their_environment_in_the_end() -> None:
    world = World()
    environment = world.add()
    ticket = world.submit(environment, Mode.ONESHOT)
    world.carry_out(world.plan.warm(environment, world.now))
    template = world.template(environment)
    world.template_ready(template)
    for _ in range(FREE_RESTARTS + 1):
        world.gone(world.starting_children()[0])
    assert RetireTemplate(environment, template.generation) in world.log
    assert world.plan.shelves[environment].template is TemplateState.BROKEN
    assert ticket in world.leases


def test_a_warm_up_snippet_that_fails_breaks_the_environment_and_retires_its_template() -> None:
    world = World()
    environment = world.add()
    world.carry_out(world.plan.warm(environment, world.now))
    world.template_ready(world.template(environment))
    world.broken(world.starting_children()[0], "NameError")
    ticket = world.submit(environment)
    assert Break(ticket, "NameError", died=False) in world.log
    assert world.live_templates(environment) == []


# ── learned modules ──


def test_learned_modules_are_loaded_beside_the_template_that_serves() -> None:
    world = World()
    environment = world.served(learns=True)
    assert world.learn(environment, "numpy") == [StartTemplate(environment, 2, ("numpy",))]
    assert world.submit(environment) in world.leases


def test_an_upgraded_template_takes_over_with_new_standby_children() -> None:
    world = World()
    environment = world.served(learns=True)
    before = world.standing_by(environment)
    world.learn(environment, "numpy")
    world.settle()
    after = world.standing_by(environment)
    assert RetireTemplate(environment, 1) in world.log
    assert [world.children[child].order.generation for child in after] == [2, 2]
    assert not set(before) & set(after)


def test_a_worker_outlives_an_upgrade() -> None:
    world = World()
    environment = world.served(learns=True)
    ticket = world.submit(environment, Mode.WORKER)
    child = world.leases[ticket]
    world.learn(environment, "numpy")
    world.settle()
    world.finish(ticket)
    assert world.workers(environment) == [child]


def test_a_worker_outlives_the_death_of_a_later_template() -> None:
    world = World()
    environment = world.served(learns=True)
    ticket = world.submit(environment, Mode.WORKER)
    child = world.leases[ticket]
    world.finish(ticket)
    world.learn(environment, "numpy")
    world.settle()
    world.template_gone(world.template(environment))
    assert world.workers(environment) == [child]


def test_a_learned_module_that_starts_threads_is_dropped_and_the_others_are_kept() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "numpy", "grpc")
    world.template_ready(world.starting_templates()[0], {"grpc": ["poller"]})
    world.settle()
    assert world.template(environment).preload == ("numpy",)
    assert world.plan.shelves[environment].forks


def test_a_dropped_module_is_not_learned_again() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "grpc")
    world.template_ready(world.starting_templates()[0], {"grpc": ["poller"]})
    assert world.learn(environment, "grpc") == []


def test_a_learned_module_that_cannot_be_loaded_leaves_the_template_that_serves() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "broken")
    world.template_broken(world.starting_templates()[0])
    assert world.template(environment).generation == 1
    assert world.submit(environment) in world.leases


def test_an_upgrade_that_dies_leaves_the_template_that_serves() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "broken")
    world.template_gone(world.starting_templates()[0])
    assert world.template(environment).generation == 1


def test_learned_modules_that_kill_children_are_dropped_before_the_environment_breaks() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "unforkable")
    world.template_ready(world.starting_templates()[0])
    while world.template(environment).preload:
        world.gone(world.starting_children()[0])
    world.settle()
    assert world.template(environment).preload == ()
    assert len(world.standing_by(environment)) == 2


def test_an_upgrade_whose_warm_up_snippet_starts_threads_is_dropped() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "numpy")
    world.template_ready(world.starting_templates()[0], {"the warm-up snippet": ["pool"]})
    assert world.template(environment).generation == 1
    assert world.plan.shelves[environment].forks


def test_nothing_is_learned_where_the_preload_list_is_the_callers() -> None:
    world = World()
    environment = world.served(learns=False)
    assert world.learn(environment, "numpy") == []


def test_no_more_is_learned_than_a_template_should_hold() -> None:
    world = World()
    environment = world.served(learns=True)
    assert world.learn(environment, *(f"module{number}" for number in range(LEARNED_LIMIT + 1))) == []


def test_interpreters_are_given_what_was_learned() -> None:
    world = World()
    environment = world.served(forks=False, learns=True)
    world.learn(environment, "numpy")
    world.finish(world.submit(environment))
    order = world.log[-1]
    assert isinstance(order, Order)
    assert order.preload == ("numpy",)


def test_an_interpreter_that_learned_modules_break_goes_on_without_them() -> None:
    world = World()
    environment = world.served(forks=False, learns=True)
    world.learn(environment, "broken")
    world.finish(world.submit(environment))
    world.broken(world.starting_children()[0])
    order = world.log[-1]
    assert isinstance(order, Order)
    assert order.preload == ()


# ── without forks ──


@pytest.mark.parametrize("guilty", ["grpc", "the warm-up snippet"])
def test_what_was_asked_for_and_starts_threads_means_interpreters(guilty: str) -> None:
    world = World()
    environment = world.add(preload=("grpc",))
    ticket = world.submit(environment)
    template = world.template(environment)
    world.template_ready(template, {guilty: ["poller"]})
    assert RetireTemplate(environment, 1) in world.log
    assert f"{guilty} (poller)" in world.plan.shelves[environment].reason
    world.settle()
    assert ticket in world.leases
    assert not world.children[world.leases[ticket]].order.forked


def test_interpreters_stand_by_for_those_who_wait_too() -> None:
    world = World(Pool(standby=1, max_concurrency=4))
    environment = world.add(forks=False)
    for _ in range(3):
        world.submit(environment)
    assert len(world.starting_children()) == 4


def test_interpreters_never_start_beyond_what_may_run() -> None:
    world = World(Pool(standby=1, max_concurrency=2))
    environment = world.add(forks=False)
    for _ in range(5):
        world.submit(environment)
    assert len(world.starting_children()) == 2


def test_the_first_request_for_a_worker_orders_one_beside_the_standby_children() -> None:
    world = World(Pool(standby=2))
    environment = world.add(forks=False)
    world.submit(environment, Mode.WORKER)
    modes = [action.mode for action in world.log if isinstance(action, Order)]
    assert sorted(modes) == [Mode.FRESH, Mode.FRESH, Mode.WORKER]


def test_a_worker_is_an_interpreter_where_nothing_forks() -> None:
    world = World()
    environment = world.add(forks=False)
    ticket = world.submit(environment, Mode.WORKER)
    world.settle()
    assert world.leases[ticket] in world.workers(environment)


def test_an_idle_worker_that_somebody_waits_for_is_kept() -> None:
    world = World(Pool(max_concurrency=1, min_workers=0, idle_timeout=1.0))
    environment = world.add(forks=False)
    other = world.submit(environment, Mode.ONESHOT)
    ticket = world.submit(environment, Mode.WORKER)
    world.settle()
    world.wait(5.0)
    world.finish(other)
    assert ticket in world.leases


# ── rehearsals ──


def test_standby_children_rehearse_before_they_wait() -> None:
    world = World()
    environment = world.add()
    world.carry_out(world.plan.warm(environment, world.now))
    actions = world.template_ready(world.template(environment))
    assert [action.rehearse for action in actions if isinstance(action, Order)] == [True, True]


def test_under_pressure_children_are_not_rehearsed() -> None:
    world = World(Pool(standby=1))
    environment = world.served()
    tickets = [world.submit(environment) for _ in range(2)]
    actions = world.finish(tickets[0])
    assert [action.rehearse for action in actions if isinstance(action, Order)] == [False]


def test_a_calm_moment_catches_up_on_rehearsals() -> None:
    world = World(Pool(standby=1))
    environment = world.served()
    for ticket in [world.submit(environment) for _ in range(2)]:
        world.finish(ticket)
    (child,) = world.standing_by(environment)
    assert world.plan.due(world.now) == world.now + CALM_S
    assert Rehearse(child) in world.wait(CALM_S)


def test_a_calm_moment_brings_back_children_that_were_taken() -> None:
    world = World(Pool(standby=1))
    environment = world.served()
    for _ in range(2):
        world.submit(environment)
    world.wait(CALM_S)
    world.settle()
    assert len(world.standing_by(environment)) == 1


def test_nobody_rehearses_while_somebody_waits() -> None:
    world = World(Pool(standby=1, max_concurrency=2))
    environment = world.served()
    tickets = [world.submit(environment) for _ in range(3)]
    world.finish(tickets[0])
    tickets.append(world.submit(environment))
    assert not any(isinstance(action, Rehearse) for action in world.wait(1.0))
    assert not world.starting_children()


# ── the clock ──


def test_what_is_overdue_is_due_now() -> None:
    world = World(Pool(standby=1))
    environment = world.served()
    for ticket in [world.submit(environment) for _ in range(2)]:
        world.finish(ticket)
    late = world.now + 2 * CALM_S
    assert world.plan.due(late) == late


def test_nothing_is_due_where_nothing_is() -> None:
    world = World()
    world.add()
    assert world.plan.due(world.now) is None


def test_idle_workers_above_the_minimum_end() -> None:
    world = World(Pool(min_workers=1, idle_timeout=60.0))
    environment = world.served()
    tickets = [world.submit(environment, Mode.WORKER) for _ in range(3)]
    last = world.leases[tickets[2]]
    for ticket in tickets:
        world.finish(ticket)
        world.wait(1.0)
    world.wait(100.0)
    assert world.workers(environment) == [last]


def test_kept_workers_keep_nothing_due() -> None:
    world = World(Pool(min_workers=1, idle_timeout=60.0))
    environment = world.served()
    world.finish(world.submit(environment, Mode.WORKER))
    world.wait(1000.0)
    assert world.plan.due(world.now) is None


def test_a_long_execution_keeps_nothing_due() -> None:
    world = World(Pool(idle_timeout=60.0))
    world.submit(world.served())
    world.wait(1000.0)
    assert world.plan.due(world.now) is None


def test_an_unused_environment_lets_its_template_and_children_go() -> None:
    world = World(Pool(idle_timeout=60.0))
    world.served()
    assert world.wait(59.0) == []
    world.wait(1.0)
    assert not world.children
    assert not world.templates


def test_an_environment_that_was_let_go_comes_back_with_the_next_request() -> None:
    world = World(Pool(idle_timeout=60.0))
    environment = world.served()
    world.wait(60.0)
    ticket = world.submit(environment)
    world.settle()
    assert ticket in world.leases


def test_an_environment_that_was_let_go_stays_so_although_its_template_died_once() -> None:
    world = World(Pool(idle_timeout=60.0))
    environment = world.served()
    world.template_gone(world.template(environment))
    world.settle()
    world.wait(60.0)
    world.wait(60.0)
    assert not world.templates


def test_an_upgrade_in_progress_is_let_go_with_its_environment() -> None:
    world = World(Pool(idle_timeout=60.0))
    environment = world.served(learns=True)
    world.learn(environment, "numpy")
    assert {RetireTemplate(environment, 1), RetireTemplate(environment, 2)} <= set(world.wait(60.0))


def test_a_template_that_somebody_waits_for_is_not_let_go() -> None:
    world = World(Pool(max_concurrency=1, idle_timeout=60.0))
    one, other = world.served(), world.served()
    running = world.submit(one)
    waiting = world.submit(other)
    world.wait(100.0)
    world.finish(running)
    assert waiting in world.leases


# ── a changed installation ──


def test_a_changed_installation_means_a_new_template_and_new_children() -> None:
    world = World()
    environment = world.served()
    before = world.standing_by(environment)
    actions = world.change(environment)
    assert {End(child) for child in before} <= set(actions)
    assert RetireTemplate(environment, 1) in actions
    assert isinstance(actions[-1], StartTemplate)


def test_a_changed_installation_ends_a_busy_worker_when_it_comes_back() -> None:
    world = World()
    environment = world.served()
    ticket = world.submit(environment, Mode.WORKER)
    child = world.leases[ticket]
    world.change(environment)
    world.settle()
    assert child in world.children
    assert End(child) in world.finish(ticket)


def test_a_changed_installation_while_the_template_starts_starts_another() -> None:
    world = World()
    environment = world.add()
    ticket = world.submit(environment)
    former = world.template(environment)
    world.change(environment)
    assert world.template_ready(former) == []
    world.settle()
    assert world.children[world.leases[ticket]].order.generation == world.template(environment).generation


def test_a_changed_installation_gives_a_broken_environment_another_chance() -> None:
    world = World()
    environment = world.add()
    world.submit(environment)
    world.template_broken(world.template(environment))
    world.change(environment)
    ticket = world.submit(environment)
    world.settle()
    assert ticket in world.leases


def test_a_changed_installation_gives_dropped_modules_another_chance() -> None:
    world = World()
    environment = world.served(learns=True)
    world.learn(environment, "grpc")
    world.template_ready(world.starting_templates()[0], {"grpc": ["poller"]})
    world.change(environment)
    world.settle()
    assert world.learn(environment, "grpc") != []


# ── the end ──


@MODES
def test_close_refuses_who_waits(mode: Mode) -> None:
    world = World(Pool(max_concurrency=1))
    environment = world.served()
    world.submit(environment, mode)
    ticket = world.submit(environment, mode)
    assert Refuse(ticket, "the engine is closing", None) in world.close()


def test_close_ends_every_child_that_nobody_holds() -> None:
    world = World()
    environment = world.served()
    world.finish(world.submit(environment, Mode.WORKER))
    ticket = world.submit(environment)
    world.close()
    assert list(world.children) == [world.leases[ticket]]


def test_what_comes_back_after_close_is_ended() -> None:
    world = World()
    ticket = world.submit(world.served(), Mode.WORKER)
    child = world.leases[ticket]
    world.close()
    assert world.finish(ticket) == [End(child)]


def test_what_is_lost_after_close_is_refused() -> None:
    world = World()
    ticket = world.submit(world.served())
    child = world.leases[ticket]
    world.close()
    assert world.lose(ticket) == [End(child), Refuse(ticket, "the engine is closing", None)]


def test_nobody_is_served_after_close() -> None:
    world = World()
    environment = world.served()
    world.close()
    ticket = world.submit(environment)
    assert world.ends[ticket] == "refused"


def test_nothing_is_learned_after_close() -> None:
    world = World()
    environment = world.served(learns=True)
    world.close()
    assert world.learn(environment, "numpy") == []
