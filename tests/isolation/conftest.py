"""Engines that the tests of a file share: one as this host allows, one without cgroups."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotbed import Engine, Environment, Pool
from hotbed.isolation import Tier

NO_GROUPS = "/no/such/group"


def _engine() -> Engine:
    # Nothing is learned, so that no template is made anew in the middle of a test.
    return Engine(Environment(preload=()), pool=Pool(standby=1, min_workers=1, max_concurrency=4))


def _needs_full(engine: Engine) -> None:
    tier = engine.run("1").isolation[0]
    if tier != Tier.FULL:
        pytest.skip(f"this host allows tier {tier} only; run as root, or where user namespaces are allowed")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine in the full tier."""
    with _engine() as engine:
        _needs_full(engine)
        yield engine


@pytest.fixture(scope="module")
def grouped(engine: Engine) -> Engine:
    """The same, where cgroups are to be had."""
    if missing := {"memory-cgroup", "pids-cgroup", "cpu-cgroup"}.difference(engine.run("1").isolation):
        pytest.skip(f"no {', '.join(missing)} here; run as root where /sys/fs/cgroup is writable")
    return engine


@pytest.fixture(scope="module")
def groupless() -> Iterator[Engine]:
    """An engine in the full tier that finds no cgroups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTBED_CGROUP", NO_GROUPS)
        with _engine() as engine:
            _needs_full(engine)
            yield engine


@pytest.fixture(scope="module", params=["grouped", "groupless"])
def either(request: pytest.FixtureRequest) -> Engine:
    """An engine with cgroups, then one without: for what must hold either way."""
    engine: Engine = request.getfixturevalue(request.param)
    return engine
