"""What hostile code left on disk goes, whatever it is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hotbed.seed.launcher import remove_tree

NOBODY = 65534


def deep(root: Path) -> None:
    """3,000 directories one in the other: deeper than a path may be long and than recursion goes."""
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def same_names(root: Path) -> None:
    """Names that meet each other, and ours, when directories are moved up."""
    for path in ("a/a/a", "b/a", "a/b/c", ".hotbed-1/.hotbed-1", "1/2/1"):
        (root / path).mkdir(parents=True)
        (root / path / "a.txt").touch()


def read_only(root: Path) -> None:
    (root / "a/b").mkdir(parents=True)
    (root / "a/b/file").touch()
    for path in (root / "a/b/file", root / "a/b", root / "a", root):
        path.chmod(0o000)


def links(root: Path) -> None:
    root.mkdir()
    keep = root.parent / "keep"
    keep.mkdir()
    (keep / "file").touch()
    (root / "to_directory").symlink_to(keep)
    (root / "to_nothing").symlink_to("nowhere")
    (root / "loop").symlink_to(root)
    os.link(keep / "file", root / "hard")


def odd_files(root: Path) -> None:
    root.mkdir()
    os.mkfifo(root / "fifo")
    (root / "name with\nnewline").touch()
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).touch()
    (root / ("x" * 255)).mkdir()


def many(root: Path) -> None:
    root.mkdir()
    for number in range(3000):
        (root / str(number)).touch()


TREES: list[Callable[[Path], None]] = [
    deep,
    same_names,
    read_only,
    links,
    odd_files,
    many,
    Path.touch,
    Path.mkdir,
]


@pytest.mark.parametrize("make", TREES, ids=lambda make: make.__name__)
def test_a_tree_is_removed_whole(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "tree")
    remove_tree(str(tmp_path / "tree"))
    assert not os.path.lexists(tmp_path / "tree")


@pytest.mark.parametrize("make", [deep, read_only], ids=lambda make: make.__name__)
def test_an_ordinary_user_removes_it_too(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "tree")
    root = os.getuid() == 0
    if root:
        subprocess.run(["chown", "-R", str(NOBODY), tmp_path], check=True)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.chdir(tmp_path)  # the way here may be closed to others
            if root:
                os.setuid(NOBODY)
            remove_tree("tree")
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not os.path.lexists(tmp_path / "tree")


def test_what_a_link_points_to_stays(tmp_path: Path) -> None:
    links(tmp_path / "tree")
    remove_tree(str(tmp_path / "tree"))
    assert (tmp_path / "keep/file").exists()


def test_a_link_itself_is_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "keep")
    remove_tree(str(tmp_path / "link"))
    assert [path.name for path in tmp_path.iterdir()] == ["keep"]


def test_a_missing_path_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "missing"))
