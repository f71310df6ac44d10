"""Engines that the tests of a file share, and ways to make environments for them.

An engine is made once a file: its start costs more than most tests. `engine` comes twice, with
forking and without, for what must hold either way.
"""

from __future__ import annotations

import tempfile
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


@pytest.fixture(scope="module")
def shared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What isolated code sees of the host in `sharing`; open to all, since to the host it is nobody."""
    path = tmp_path_factory.mktemp("shared")
    path.chmod(0o777)
    return path


@pytest.fixture(scope="module")
def sharing(shared_root: Path) -> Environment:
    """The running interpreter, and of the host's files those below `shared_root`."""
    return Environment(mounts=[Mount(shared_root, writable=True)])


@pytest.fixture
def shared(shared_root: Path) -> Path:
    """An empty directory that a test and its code may both read and write, in `sharing`."""
    path = Path(tempfile.mkdtemp(dir=shared_root))
    path.chmod(0o777)
    return path


@pytest.fixture
def make_venv(tmp_path: Path) -> Callable[[], Venv]:
    """Makes empty virtual environments of the running interpreter."""
    count = iter(range(100))
    return lambda: Venv.make(tmp_path / f"venv{next(count)}")
