"""Engines that the tests of a file share, and ways to make environments for them.

An engine is made once a file: its start costs more than most tests. `engine` comes twice, with
forking and without, for what must hold either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotbed import Engine, Environment, Mount, Pool
from tests.engine.venvs import Venv

WAYS = ("forked", "interpreters")


@pytest.fixture(scope="module", params=WAYS)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine that forks, then one that must not (HOTBED_FORK=0)."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "interpreters":
            patch.setenv("HOTBED_FORK", "0")
        with Engine() as engine:
            yield engine


@pytest.fixture(scope="module")
def forking() -> Iterator[Engine]:
    """An engine that forks."""
    with Engine(pool=Pool(max_concurrency=4)) as engine:
        with pytest.MonkeyPatch.context() as patch:  # `engine` may have switched it off just now
            patch.setenv("HOTBED_FORK", "1")
            engine.warm()
        yield engine


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory of the host that isolated code may read and write in `sharing`.

    Open to all: to the host, such code is nobody in particular.
    """
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o777)
    return path


@pytest.fixture
def sharing(shared: Path) -> Environment:
    """The running interpreter, and of the host's files those in `shared`."""
    return Environment(mounts=[Mount(shared, writable=True)])


@pytest.fixture
def make_venv(tmp_path: Path) -> Callable[[], Venv]:
    """Makes empty virtual environments of the running interpreter."""
    count = iter(range(100))
    return lambda: Venv.make(tmp_path / f"venv{next(count)}")
