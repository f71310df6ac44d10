"""Sizes, numbers and hosts at the edge of what is allowed: served like any other."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Literal

import pytest

from hotbed import Engine, Environment, Limits, Pool, RequestError, Status


def test_a_host_with_a_very_long_environment_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOTBED_TEST_LONG_1", "HOTBED_TEST_LONG_2"):  # more than one control message takes
        monkeypatch.setenv(name, "x" * 80_000)
    with Engine(isolation="none") as engine:
        assert engine.run("import os; len(os.environ['HOTBED_TEST_LONG_2'])").value == 80_000


def test_a_warm_up_of_the_full_length_is_taken() -> None:
    with Engine(Environment(warmup="text = '" + "\u00e9" * 32_000 + "'")) as engine:
        assert engine.run("40 + 2").value == 42


def test_names_of_modules_that_a_child_makes_up_are_not_learned() -> None:
    code = """
import sys, types
from importlib import import_module
for number in range(200):
    sys.modules["m" * 1000 + str(number)] = types.ModuleType("m")
result = 1
"""
    with Engine() as engine:
        assert engine.run(code).value == 1
        assert engine.run("40 + 2").value == 42


def test_a_host_that_ignores_sigchld_is_served() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with Engine() as engine:
            assert [engine.run("40 + 2").value for _ in range(4)] == [42] * 4
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_times_beyond_the_kernels_integers_are_taken() -> None:
    with Engine(pool=Pool(idle_timeout=1e8)) as engine:
        assert [engine.run("40 + 2", timeout=3e6).value for _ in range(2)] == [42] * 2


@pytest.mark.parametrize("mode", ["fresh", "worker"])
def test_output_over_its_limit_is_never_cut_in_silence(mode: Literal["fresh", "worker"]) -> None:
    with Engine(limits=Limits(output=10)) as engine:
        results = [engine.run("print('x' * 100)", mode=mode) for _ in range(30)]
        assert {result.status for result in results} == {Status.ERROR}


def test_a_value_that_only_the_child_can_read_is_no_crash() -> None:
    with Engine() as engine:
        result = engine.run("import sys; sys.set_int_max_str_digits(0); result = 10 ** 5001")
        assert result.error is not None
        assert result.error.name == "NotSerializableError"


def test_what_is_no_environment_is_refused_by_name() -> None:
    with Engine() as engine, pytest.raises(RequestError, match="environment='pandas'"):
        engine.run("1", environment="pandas")  # type: ignore[arg-type]  # the mistake under test


def test_ps_shows_names_as_they_are() -> None:
    with Engine(name="a[/b]") as engine:
        engine.run("1")
        command = [sys.executable, "-m", "hotbed.cli.main", "ps"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "a[/b]" in shown.stdout, shown.stderr
