"""Where groups may be made, read from files as the kernel writes them.

These trees are plain directories in the shape of a mount of cgroups: what is read and decided is
tested here, what the kernel does about it in test_cgroup.py.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotbed.proc import hierarchy
from hotbed.proc.hierarchy import Membership, Mount, Place, Site, Survey

ALL = frozenset(hierarchy.CONTROLLERS)
USER = os.geteuid() or 1000  # an ordinary user
STRANGER = USER + 1


def group(directory: Path, *, passed_on: str = "", offered: str = "memory pids cpu", owner: int = 0) -> Path:
    """A group of version 2."""
    directory.mkdir()
    (directory / "cgroup.type").write_text("domain\n")
    (directory / "cgroup.procs").write_text("")
    (directory / "cgroup.controllers").write_text(offered + "\n")
    (directory / "cgroup.subtree_control").write_text(passed_on + "\n")
    if owner and os.geteuid() == 0:
        os.chown(directory, owner, -1)
    return directory


def mount_of_2(point: Path, *, root: str = "/", read_only: bool = False) -> Mount:
    return Mount(2, root, str(point), read_only, frozenset())


def mount_of_1(point: Path, controllers: str, *, root: str = "/", read_only: bool = False) -> Mount:
    point.mkdir(exist_ok=True)
    return Mount(1, root, str(point), read_only, frozenset(controllers.split(",")))


def member_of_2(path: str) -> Membership:
    return Membership(frozenset(), path)


def member_of_1(controllers: str, path: str) -> Membership:
    return Membership(frozenset(controllers.split(",")), path)


def survey(own: list[Membership], seen: list[Mount], *, setting: str = "", user: int = USER) -> Survey:
    return hierarchy.survey(own, seen, setting=setting, user=user)


# ── the kernel's files ──


def test_memberships_tell_the_versions_apart() -> None:
    assert hierarchy.memberships("4:memory:/a:b\n2:cpu,cpuacct:/\n1:name=systemd:/s\n0::/user.slice\n") == [
        member_of_1("memory", "/a:b"),
        member_of_1("cpu,cpuacct", "/"),
        member_of_1("name=systemd", "/s"),
        member_of_2("/user.slice"),
    ]


def test_mounts_are_read_with_their_optional_fields_and_escapes() -> None:
    text = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "31 22 0:29 /../x /mnt/c\\040g rw,nosuid shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct\n"
        "32 22 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    first, second = hierarchy.mounts(text)
    assert (first.version, first.root, first.point, first.read_only) == (1, "/../x", "/mnt/c g", False)
    assert first.controllers >= {"cpu", "cpuacct"}
    assert second == Mount(2, "/", "/sys/fs/cgroup", True, frozenset())


# ── version 2 ──


def test_a_parent_that_passes_controllers_on_is_the_place(tmp_path: Path) -> None:
    app = group(tmp_path / "app.slice", passed_on="memory pids cpu")
    group(app / "run-1.scope")
    found = survey([member_of_2("/app.slice/run-1.scope")], [mount_of_2(tmp_path)])
    assert found.places[0] == Place(2, (Site(str(app), ALL),))


def test_what_a_parent_does_not_pass_on_is_said(tmp_path: Path) -> None:
    app = group(tmp_path / "app.slice", passed_on="memory pids", owner=STRANGER)
    group(app / "run-1.scope")
    found = survey([member_of_2("/app.slice/run-1.scope")], [mount_of_2(tmp_path)])
    assert found.places[0].sites[0].controllers == {"memory", "pids"}
    assert f"{app} passes no cpu on to its children (cgroup.subtree_control)" in found.problems


def test_a_group_handed_over_to_the_user_may_pass_on_what_it_has(tmp_path: Path) -> None:
    service = group(tmp_path / "x.service", passed_on="", owner=USER)
    group(service / "main", offered="")
    found = survey([member_of_2("/x.service/main")], [mount_of_2(tmp_path)])
    assert found.places == (Place(2, (Site(str(service), frozenset(), to_pass_on=ALL),)),)


def test_root_does_not_change_what_a_manager_s_group_passes_on(tmp_path: Path) -> None:
    group(tmp_path / "system.slice", passed_on="memory pids", owner=STRANGER)
    group(tmp_path / "system.slice" / "x.service")
    found = survey([member_of_2("/system.slice/x.service")], [mount_of_2(tmp_path)], user=0)
    assert not any(site.to_pass_on for place in found.places for site in place.sites)


def test_a_group_that_holds_this_process_is_no_place(tmp_path: Path) -> None:
    """As in a container with a cgroup namespace: its own group is all that it sees."""
    group(tmp_path / "view", owner=USER)
    found = survey([member_of_2("/")], [mount_of_2(tmp_path / "view")])
    assert found.places == ()
    assert "cannot while it holds processes" in found.problems[0]


def test_a_process_that_nobody_has_placed_may_use_the_true_root(tmp_path: Path) -> None:
    """The root of all has no cgroup.type, and may hold processes and pass controllers on."""
    root = group(tmp_path / "root", owner=USER)
    (root / "cgroup.type").unlink()
    found = survey([member_of_2("/")], [mount_of_2(root)])
    assert found.places == (Place(2, (Site(str(root), frozenset(), to_pass_on=ALL),)),)


def test_a_read_only_mount_is_said_with_the_remedy(tmp_path: Path) -> None:
    group(tmp_path / "view", passed_on="memory pids cpu")
    found = survey([member_of_2("/")], [mount_of_2(tmp_path / "view", read_only=True)])
    assert found.places == ()
    assert f"read-only at {tmp_path / 'view'}" in found.problems[0]
    assert "writable-cgroups=true" in found.problems[0]


# ── version 1, and both ──


def test_each_tree_of_version_1_gives_its_own_group(tmp_path: Path) -> None:
    seen = [
        mount_of_1(tmp_path / "memory", "rw,memory"),
        mount_of_1(tmp_path / "both", "rw,cpu,cpuacct,pids"),
    ]
    (tmp_path / "memory" / "job").mkdir()
    own = [member_of_1("memory", "/job"), member_of_1("cpu,cpuacct,pids", "/")]
    sites = (
        Site(str(tmp_path / "memory" / "job"), frozenset({"memory"})),
        Site(str(tmp_path / "both"), frozenset({"cpu", "pids"})),
    )
    assert survey(own, seen).places == (Place(1, sites),)


def test_a_container_s_view_is_translated(tmp_path: Path) -> None:
    """Without a cgroup namespace a container sees its own group at the mount, under the host's name."""
    seen = [mount_of_1(tmp_path / "memory", "memory", root="/docker/3f")]
    found = survey([member_of_1("memory", "/docker/3f")], seen)
    assert [place.sites[0].directory for place in found.places] == [str(tmp_path / "memory")]


@pytest.mark.parametrize(
    ("path", "root"), [("/", "/../.."), ("/../other", "/"), ("/docker/4a", "/docker/3f")]
)
def test_a_group_that_no_mount_shows_is_said(tmp_path: Path, path: str, root: str) -> None:
    found = survey([member_of_1("memory", path)], [mount_of_1(tmp_path / "memory", "memory", root=root)])
    assert found.places == ()
    assert f"own group {path} lies outside" in found.problems[0]


def test_an_unmounted_tree_is_said(tmp_path: Path) -> None:
    found = survey([member_of_1("memory", "/")], [mount_of_1(tmp_path / "pids", "pids")])
    assert found.problems == ("the tree of memory is not mounted",)


def test_the_version_that_has_memory_comes_first(tmp_path: Path) -> None:
    group(tmp_path / "unified", passed_on="pids cpu")
    group(tmp_path / "unified" / "here")
    seen = [mount_of_2(tmp_path / "unified"), mount_of_1(tmp_path / "memory", "memory")]
    found = survey([member_of_1("memory", "/"), member_of_2("/here")], seen)
    assert [place.version for place in found.places] == [1, 2]


def test_without_any_mount_the_remedy_is_said() -> None:
    assert survey([], []).problems == ("no cgroups are mounted here; mount them at /sys/fs/cgroup",)


# ── $HOTBED_CGROUP ──


def test_a_named_directory_is_the_only_place(tmp_path: Path) -> None:
    group(tmp_path / "unified", passed_on="memory pids cpu")
    group(tmp_path / "unified" / "here")
    named = group(tmp_path / "unified" / "named", owner=STRANGER)
    found = survey([member_of_2("/here")], [mount_of_2(tmp_path / "unified")], setting=str(named))
    assert found.places == (Place(2, (Site(str(named), frozenset(), to_pass_on=ALL),)),)


def test_several_named_directories_are_trees_of_version_1(tmp_path: Path) -> None:
    seen = [mount_of_1(tmp_path / name, name) for name in ("memory", "pids")]
    found = survey([], seen, setting=f"{tmp_path}/memory:{tmp_path}/pids")
    sites = tuple(Site(str(tmp_path / name), frozenset({name})) for name in ("memory", "pids"))
    assert found.places == (Place(1, sites),)


def test_a_named_directory_outside_of_all_mounts_is_refused(tmp_path: Path) -> None:
    seen = [mount_of_1(tmp_path / "memory", "memory")]
    found = survey([member_of_1("memory", "/")], seen, setting=str(tmp_path))
    assert found.places == ()
    assert found.problems == (
        f"$HOTBED_CGROUP names {tmp_path}, which is no directory in a mount of cgroups",
    )


def test_named_directories_of_both_versions_are_refused(tmp_path: Path) -> None:
    unified = group(tmp_path / "unified")
    seen = [mount_of_2(unified), mount_of_1(tmp_path / "memory", "memory")]
    found = survey([], seen, setting=f"{unified}:{tmp_path}/memory")
    assert found.places == ()
    assert "one for each tree of version 1" in found.problems[0]
