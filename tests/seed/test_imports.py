"""Watching first imports: their time, and the installed modules that were named."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotbed.seed import imports


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A site-packages directory on sys.path, watched; modules loaded from it go again."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    before = set(sys.modules)
    original = imports._bootstrap._find_and_load
    imports.prepare()
    imports.begin()
    yield directory
    imports._bootstrap._find_and_load = original
    for name in set(sys.modules) - before:
        del sys.modules[name]


def module(directory: Path, name: str, source: str = "") -> None:
    path = directory / (name.replace(".", "/") + ".py")
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    importlib.invalidate_caches()


def test_an_installed_module_is_named_and_timed(site: Path) -> None:
    module(site, "watched_one", "import time; time.sleep(0.01)")
    importlib.import_module("watched_one")
    spent_s, named = imports.seen()
    assert named == ["watched_one"]
    assert spent_s >= 0.01


def test_a_module_that_is_loaded_already_costs_nothing(site: Path) -> None:
    module(site, "watched_two")
    importlib.import_module("watched_two")
    imports.begin()
    importlib.import_module("watched_two")
    assert imports.seen() == (0.0, [])


def test_what_a_package_imports_for_itself_is_not_named(site: Path) -> None:
    module(site, "watched_inner")
    module(site, "watched_outer", "import watched_inner, colorsys")
    importlib.import_module("watched_outer")
    assert imports.seen()[1] == ["watched_outer"]


def test_a_submodule_is_named_in_full(site: Path) -> None:
    module(site, "watched_package.part")
    module(site, "watched_package.__init__")
    importlib.import_module("watched_package.part")
    assert "watched_package.part" in imports.seen()[1]


@pytest.mark.parametrize("make", [lambda path: None, lambda path: module(path, "watched_local")])
def test_the_standard_library_and_local_files_are_not_named(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    make(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("wave", "watched_local"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    assert imports.seen()[1] == []


@pytest.mark.parametrize("source", ["1 / 0", "import watched_missing", "raise SystemExit"])
def test_a_module_that_fails_is_not_named(site: Path, source: str) -> None:
    module(site, "watched_failing", source)
    with pytest.raises((Exception, SystemExit)):
        importlib.import_module("watched_failing")
    assert imports.seen()[1] == []
    module(site, "watched_after")
    importlib.import_module("watched_after")
    assert imports.seen()[1] == ["watched_after"]


def test_begin_forgets(site: Path) -> None:
    module(site, "watched_three")
    importlib.import_module("watched_three")
    imports.begin()
    assert imports.seen() == (0.0, [])


def test_no_more_names_are_told_than_the_limit(site: Path) -> None:
    for number in range(imports.MOST_NAMES + 5):
        module(site, f"watched_many_{number}")
        importlib.import_module(f"watched_many_{number}")
    assert len(imports.seen()[1]) == imports.MOST_NAMES


def test_a_finder_that_raises_is_the_imports_own_error_alone(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Finder:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name.startswith("watched_refused"):
                raise LookupError(name)

    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    with pytest.raises(LookupError):
        importlib.import_module("watched_refused")
    assert imports.seen()[1] == []
