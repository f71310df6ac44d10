"""What holds for every test: a private place, nothing left behind, no silent skip, one count.

Variables read here and hidden from the code under test:
    HOTBED_REQUIRE_ALL=1    a skipped test is a failed test
    HOTBED_TEST_PATIENCE=5  seconds that what a test started has to vanish
    HOTBED_TEST_REPORT      a file to write the outcome of each test to, for tools/check.py
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import pytest

from hotbed.proc import cgroup, hierarchy
from tests import interpreters, leftovers

REQUIRE_ALL = pytest.StashKey[bool]()
PLACE = pytest.StashKey[Path]()
GROUPS = pytest.StashKey[cgroup.Cgroups | cgroup.Unavailable]()
PATIENCE_S = pytest.StashKey[float]()

# A shared machine stalls at will, so a time limit on one example would fail at random.
hypothesis.settings.register_profile("hotbed", deadline=None)
hypothesis.settings.load_profile("hotbed")


# ── one count ──


@dataclass(slots=True, eq=False)  # pytest keeps its plugins in sets
class Outcomes:
    """One outcome for each test: the worst of its set-up, run and tear-down."""

    report: str | None
    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    skipped: dict[str, str] = field(default_factory=dict)

    def _add(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped and not hasattr(report, "wasxfail"):
            self.skipped[report.nodeid] = reason(report)
        elif isinstance(report, pytest.TestReport):
            self.passed.add(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._add(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._add(report)

    def pytest_sessionfinish(self) -> None:
        if self.report is None:
            return
        skipped = {test: why for test, why in self.skipped.items() if test not in self.failed}
        counts = {
            "passed": len(self.passed - self.failed - skipped.keys()),
            "failed": sorted(self.failed),
            "skipped": sorted(skipped.items()),
        }
        Path(self.report).write_text(json.dumps(counts))


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a test was skipped, without pytest's file and line."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


# ── a private place ──


def pytest_configure(config: pytest.Config) -> None:
    leftovers.adopt_orphans()
    config.stash[REQUIRE_ALL] = os.environ.pop("HOTBED_REQUIRE_ALL", "") == "1"
    config.stash[PATIENCE_S] = float(os.environ.pop("HOTBED_TEST_PATIENCE", leftovers.PATIENCE_S))
    config.pluginmanager.register(Outcomes(os.environ.pop("HOTBED_TEST_REPORT", None)), "outcomes")
    if config.stash[REQUIRE_ALL]:
        config.option.continue_on_collection_errors = True  # all that is missing, in one run

    # Short: a socket's path ends at 107 bytes. mkdtemp gives mode 0700, which a runtime directory must have.
    place = Path(tempfile.mkdtemp(prefix="ht-"))
    config.stash[PLACE] = place
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    os.environ.setdefault(
        "UV_CACHE_DIR", os.path.join(cache, "uv")
    )  # downloads are shared, what we build is not
    # TMPDIR too: another session's engines, running meanwhile, are no left-overs of ours.
    for variable, name in (
        ("XDG_RUNTIME_DIR", "r"),
        ("XDG_STATE_HOME", "s"),
        ("XDG_CACHE_HOME", "c"),
        ("TMPDIR", "t"),
    ):
        (place / name).mkdir(mode=0o700)
        os.environ[variable] = str(place / name)
    tempfile.tempdir = None
    # Likewise with control groups: engines of this session make theirs below one that is ours.
    groups = cgroup.find(f"hotbed-{place.name}")
    config.stash[GROUPS] = groups
    if isinstance(groups, cgroup.Cgroups):
        os.environ[hierarchy.SETTING] = ":".join(groups.paths)


def pytest_unconfigure(config: pytest.Config) -> None:
    groups = config.stash[GROUPS]
    if isinstance(groups, cgroup.Cgroups):
        groups.close()
    shutil.rmtree(config.stash[PLACE], ignore_errors=True)


# ── no silent skip ──


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("tool"):
        command: str = mark.args[0]
        if shutil.which(command) is None:
            pytest.skip(f"no {command} on PATH; install it with: {mark.kwargs['install']}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop tests whose parameters are an empty list: a law over no files says nothing, not even "skipped"."""
    empty = [
        item
        for item in items
        if any(
            mark.kwargs.get("reason", "").startswith("got empty parameter set")
            for mark in item.iter_markers("skip")
        )
    ]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        report.longrepr = f"skipped, and HOTBED_REQUIRE_ALL=1 forbids it: {reason(report)}"
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.config.stash[REQUIRE_ALL]:
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if collector.config.stash[REQUIRE_ALL]:
        _refuse_skip(report)
    return report


# ── nothing left behind ──


@pytest.fixture(scope="session", autouse=True)
def nothing_left_at_the_end(pytestconfig: pytest.Config) -> Iterator[None]:
    """Checks the fixtures of wider scope, after the last test."""
    before = leftovers.traces()
    yield
    if left := leftovers.left_since(before, pytestconfig.stash[PATIENCE_S]):
        pytest.fail(f"the session left behind:\n{left}", pytrace=False)


@pytest.fixture(autouse=True)
def nothing_left(pytestconfig: pytest.Config) -> Iterator[None]:
    """Checks the test: no new process, descriptor, hotbed thread, runtime entry or temporary file stays.

    Where an engine of a wider scope was already there, descriptors and files are not compared (a standby
    child may come or go meanwhile), and its own processes are its own affair until that scope ends.
    """
    before = leftovers.traces()
    yield
    if left := leftovers.left_since(before, pytestconfig.stash[PATIENCE_S]):
        pytest.fail(f"the test left behind:\n{left}", pytrace=False)


# ── interpreters ──


@pytest.fixture(params=interpreters.VERSIONS)
def seed_python(request: pytest.FixtureRequest) -> Path:
    """Each CPython the seed must run on, one after the other."""
    version: str = request.param
    python = interpreters.find(version)
    if python is None:
        pytest.skip(interpreters.how_to_install(version))
    return python
