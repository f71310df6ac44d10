"""Privileges by real children: what they hold, and whether they can get any back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotbed.seed import kernel
from hotbed.seed.sandbox import namespaces, privileges
from tests.seed.sandbox import forked

PR_GET_DUMPABLE, PR_GET_SECUREBITS = 3, 27
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2

ADMIN, SETPCAP = privileges.CAP_SYS_ADMIN, privileges.CAP_SETPCAP
NONE: frozenset[int] = frozenset()
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def sets(status: str) -> dict[str, int]:
    """The capability sets in the text of /proc/PID/status."""
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    return {name: int(fields[name], 16) for name in SETS}


def own() -> dict[str, int]:
    return sets(Path("/proc/self/status").read_text())


def after_exec() -> dict[str, int]:
    return sets(
        subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    )


def found(*steps: Callable[[], object], look: Callable[[], Any] = own) -> Any:
    """What `look` sees in a child that had every capability and took these steps."""

    def run() -> Any:
        forked.become_privileged()
        for step in steps:
            step()
        return look()

    return forked.value_of(run)


def drop(*keep: int) -> Callable[[], None]:
    return lambda: privileges.drop_bounding(frozenset(keep))


def hold(*keep: int) -> Callable[[], None]:
    return lambda: privileges.set_capabilities(frozenset(keep))


def keep_across_exec(*capabilities: int) -> Callable[[], None]:
    return lambda: privileges.keep_across_exec(frozenset(capabilities))


# ── what is held ──


@pytest.mark.parametrize("keep", [NONE, {ADMIN}, {privileges.CAP_DAC_OVERRIDE, 39}])
def test_a_process_holds_what_it_keeps_and_nothing_else(keep: set[int]) -> None:
    mask = sum(1 << capability for capability in keep)
    held = found(hold(*keep))
    assert (held["CapPrm"], held["CapEff"], held["CapInh"], held["CapAmb"]) == (mask, mask, 0, 0)


def test_what_was_kept_across_an_exec_is_given_up_with_the_rest() -> None:
    held = found(keep_across_exec(ADMIN), hold(ADMIN))
    assert (held["CapPrm"], held["CapInh"], held["CapAmb"]) == (1 << ADMIN, 0, 0)


def test_what_was_given_up_is_not_taken_again() -> None:
    assert found(hold(), hold(ADMIN)) == "EPERM"


def test_a_right_given_up_is_not_exercised() -> None:
    assert found(hold(), lambda: namespaces.unshare(namespaces.NEW_MOUNT)) == "EPERM"


# ── what an exec gives ──


def test_an_exec_by_uid_0_gives_everything_back_where_nothing_forbids_it() -> None:
    assert found(hold(), look=after_exec)["CapEff"] != 0


@pytest.mark.parametrize(
    "guard",
    [privileges.forbid_new, drop(), privileges.lock_securebits],
    ids=["new", "bounding", "securebits"],
)
def test_each_guard_alone_keeps_an_exec_by_uid_0_from_giving_anything_back(guard: Callable[[], None]) -> None:
    held = found(guard, hold(), look=after_exec)
    assert (held["CapEff"], held["CapPrm"]) == (0, 0)


def test_the_bounding_set_keeps_what_it_is_told() -> None:
    assert found(drop(ADMIN))["CapBnd"] == 1 << ADMIN


def test_the_bounding_set_is_dropped_twice_without_harm() -> None:
    assert found(drop(), hold(), drop())["CapBnd"] == 0


def test_the_bounding_set_is_not_dropped_without_the_right_to() -> None:
    assert found(hold(ADMIN), drop()) == "EPERM"


def test_new_privileges_are_forbidden_for_good() -> None:
    def look() -> str:
        return subprocess.run(
            ["grep", "NoNewPrivs", "/proc/self/status"], capture_output=True, text=True, check=True
        ).stdout

    assert found(privileges.forbid_new, look=look).split() == ["NoNewPrivs:", "1"]


def test_securebits_are_set_and_locked_and_capabilities_are_not_kept() -> None:
    bits = found(privileges.lock_securebits, look=lambda: kernel.prctl(PR_GET_SECUREBITS))
    assert bits == 0b11101111


def test_securebits_are_not_locked_without_the_right_to() -> None:
    assert found(hold(ADMIN), privileges.lock_securebits) == "EPERM"


def test_after_locking_nothing_is_kept_across_an_exec() -> None:
    assert found(privileges.lock_securebits, keep_across_exec(ADMIN)) == "EPERM"


# ── keeping some across an exec ──


def ordinary(*steps: Callable[[], object]) -> Any:
    """The capability sets after an exec, by a user but uid 0 to whom all are permitted until then."""

    def run() -> Any:
        forked.become_ordinary_with_capabilities()
        for step in steps:
            step()
        return after_exec()

    return forked.value_of(run)


def test_an_exec_by_an_ordinary_user_gives_nothing() -> None:
    assert ordinary()["CapEff"] == 0


@pytest.mark.parametrize("capabilities", [{ADMIN}, {ADMIN, SETPCAP, 38}])
@pytest.mark.parametrize("before", [(), (privileges.forbid_new,)], ids=["", "no new privileges"])
def test_an_exec_by_an_ordinary_user_keeps_what_it_is_told_and_nothing_else(
    capabilities: set[int], before: tuple[Callable[[], None], ...]
) -> None:
    held = ordinary(*before, keep_across_exec(*capabilities))
    mask = sum(1 << capability for capability in capabilities)
    assert {held[name] for name in ("CapEff", "CapPrm", "CapAmb", "CapInh")} == {mask}


def test_keeping_some_takes_none_away_before_the_exec() -> None:
    before, after = found(), found(keep_across_exec(ADMIN))
    assert (after["CapEff"], after["CapPrm"]) == (before["CapEff"], before["CapPrm"])


def test_what_is_not_permitted_is_not_kept() -> None:
    assert found(hold(SETPCAP), keep_across_exec(ADMIN)) == "EPERM"


# ── dumping ──


def test_a_process_that_is_not_dumpable_makes_children_that_are_not() -> None:
    def look() -> Any:
        return forked.value_of(lambda: kernel.prctl(PR_GET_DUMPABLE))

    assert found(privileges.forbid_dumping, look=look) == 0


def test_a_process_that_is_not_dumpable_is_not_looked_into_by_its_user() -> None:
    def prepare() -> None:
        forked.become_ordinary_with_capabilities()
        privileges.forbid_dumping()

    def look(pid: int) -> str:
        forked.become_ordinary_with_capabilities()
        privileges.set_capabilities(NONE)
        return os.readlink(f"/proc/{pid}/cwd")

    with forked.waiting(prepare) as pid:
        assert forked.value_of(lambda: look(pid)) == "EACCES"


# ── interpreters ──


def test_it_holds_on_each_interpreter(seed_python: Path) -> None:
    code = """
import json
from seed.sandbox import privileges
try:
    privileges.drop_bounding(frozenset())
except PermissionError:
    pass  # an ordinary user has nothing to lose
privileges.forbid_new()
privileges.set_capabilities(frozenset())
privileges.forbid_dumping()
print(json.dumps(open("/proc/self/status").read()))
"""
    status = forked.printed_by(seed_python, code)
    held = sets(status)
    assert (held["CapPrm"], held["CapEff"], "NoNewPrivs:\t1" in status) == (0, 0, True)
