"""Every case of the attack catalogue is held, or said not to be enforceable here; never neither."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator

import pytest

from hotbed.attack.case import BASE, Case, Group
from hotbed.attack.catalogue import CATALOGUE
from hotbed.attack.guards import KEPT_BY, Guard, lacking
from hotbed.attack.runner import Ground, Outcome, Verdict, attack, score
from hotbed.isolation import Mechanism
from hotbed.model import ErrorInfo, ErrorKind, Mode, Result, Status

# Those in which processes race: a machine with other work to do brings out other orders of events.
RACES = (
    "return-a-file-that-becomes-a-link",
    "leave-a-daemon",
    "leave-a-daemon-that-prints",
    "answer-twice",
    "answer-from-many-copies",
    "fork-in-each-fork",
    "leave-daemons-and-run-late",
    "die-and-leave-a-copy-with-the-channel",
)


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with Ground() as ground:
        yield ground


# Not in force for every code: who the engine is, and what its network is, decide.
SOMETIMES = {Mechanism.UNPRIVILEGED_UID, Mechanism.PROXY}


def check(outcome: Outcome, ground: Ground) -> None:
    assert outcome.verdict is not Verdict.FAILED, f"{outcome.case.law} {outcome.detail}"
    if set(Mechanism) - SOMETIMES <= ground.in_force:
        assert outcome.verdict is Verdict.HELD, outcome.detail


@pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: case.name)
def test_what_is_promised_is_held(ground: Ground, case: Case) -> None:
    check(ground.attack(case), ground)


def test_all_cases_together_leave_nothing_behind(ground: Ground) -> None:
    assert ground.finish() == ""


@pytest.mark.slow
def test_what_races_is_held_beside_other_work() -> None:
    cases = [case for case in CATALOGUE if case.name in RACES]
    with Ground(load=2) as ground:
        for case in cases:
            check(ground.attack(case), ground)
        assert ground.finish() == ""


def test_no_control_group_is_left_when_the_engine_is_closed() -> None:
    with Ground() as ground:
        ground.attack(case_of("child(hold)\nresult = 'held'"))
        own = {os.path.basename(path) for path in ground.directories}
    left = [place for place, _names, _files in os.walk("/sys/fs/cgroup") if own & set(place.split("/"))]
    assert left == []


def test_every_case_given_has_one_outcome() -> None:
    cases = CATALOGUE[:3]
    assert [outcome.case for outcome in attack(cases)] == list(cases)


# ── the runner ──


def case_of(code: str, **fields: object) -> Case:
    plain = {"name": "x", "group": Group.LIFE, "law": "None.", "needs": (Guard.ENGINE,), "code": code}
    return Case(**{**plain, **fields})  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("code", "fields", "said"),
    [
        ("result = 'escaped: so'", {}, "escaped: so"),
        ("result = 'something else'", {}, "something else"),
        ("1 / 0", {}, "ZeroDivisionError"),
        ("result = 'held'", {"ends": (Status.CRASHED,)}, "ok"),
        ("result = 'held'", {"then": "result = 'escaped: found it'"}, "found it"),
        ("result = 'held'", {"then": "print('I am here'); result = 'held'"}, "I am here"),
        ("result = 'held'; time.sleep(0.3)", {"wall_s": 0.2}, "must be there in"),
    ],
)
def test_a_case_that_is_not_held_fails_and_says_why(
    ground: Ground, code: str, fields: dict[str, object], said: str
) -> None:
    outcome = ground.attack(case_of(code, **fields))
    assert outcome.verdict is Verdict.FAILED
    assert said in outcome.detail


def test_a_secret_that_comes_back_is_an_escape_whatever_the_program_says(ground: Ground) -> None:
    outcome = ground.attack(case_of("print(neighbour['files'], end='')\nresult = 'held'"))
    assert outcome.verdict is Verdict.HELD
    secret = ground.neighbour.secret
    outcome = ground.attack(case_of(f"print({secret!r})\nresult = 'held'"))
    assert "the neighbour's secret" in outcome.detail


@pytest.mark.parametrize(
    ("status", "kind", "value", "good"),
    [
        (Status.OK, None, "held", True),
        (Status.OK, None, "escaped: by other means", False),
        (Status.TIMEOUT, ErrorKind.TIMEOUT, None, False),
        (Status.ERROR, ErrorKind.RAISED, None, True),
        (Status.ERROR, ErrorKind.LOST, None, False),
    ],
)
def test_a_case_ends_well_with_its_statuses_and_kinds_alone(
    status: Status, kind: ErrorKind | None, value: object, good: bool
) -> None:
    error = ErrorInfo(kind, "E", "e") if kind else None
    result = Result("1", status, Mode.FRESH, "e", value=value, error=error)
    case = case_of("", ends=(Status.OK, Status.ERROR), kinds=(ErrorKind.RAISED,))
    assert (case.fault(result) == "") is good


# ── what is promised ──


@pytest.mark.parametrize("guard", Guard)
def test_each_promise_says_what_keeps_it_and_is_tested(guard: Guard) -> None:
    assert KEPT_BY[guard]
    assert any(guard in case.needs for case in CATALOGUE)


@pytest.mark.parametrize("guard", Guard)
def test_with_every_mechanism_every_promise_is_kept(guard: Guard) -> None:
    assert lacking(guard, set(Mechanism)) == ""


def test_a_promise_that_is_not_kept_names_what_would_keep_it() -> None:
    assert lacking(Guard.FILES, {Mechanism.SECCOMP}) == f"{Guard.FILES.value}: needs mount-ns or landlock"


def test_the_score_counts_by_tier_and_says_what_cannot_be_enforced() -> None:
    case = case_of("")
    outcomes = [
        Outcome(case, Verdict.HELD),
        Outcome(case, Verdict.NOT_ENFORCEABLE, "no cgroup"),
        Outcome(case, Verdict.NOT_ENFORCEABLE, "no cgroup"),
    ]
    assert score("landlock", outcomes) == "landlock: 1 held, 2 not enforceable here: no cgroup (2)"
    assert score("full", outcomes[:1]) == "full: 1 held"
    assert score("full", [Outcome(case, Verdict.FAILED, "x")]) == "full: 0 held, 1 FAILED"


# ── the catalogue ──


def test_there_are_many_cases_of_every_group() -> None:
    assert len(CATALOGUE) >= 150
    assert {case.group for case in CATALOGUE} == set(Group)


def test_no_two_cases_have_one_name() -> None:
    assert len({case.name for case in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("case", CATALOGUE, ids=lambda case: case.name)
def test_a_case_is_one_law_and_a_program_within_limits(case: Case) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", case.name)
    assert re.fullmatch(r"\S[^\n]*\.", case.law)
    assert set(case.limits) <= {*BASE, "cpu", "cpu_time", "file_size"}
    assert case.bounds.timeout
    assert case.within_s < 100
    if not case.bare:
        ast.parse(case.program)
        ast.parse(case.next_program)
