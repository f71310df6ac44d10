"""Where groups of processes (cgroups) can be made on this machine, read from what the kernel shows.

There are two systems. In version 2 one tree has every controller, and a group's children are
under a controller only if the group passes it on (`cgroup.subtree_control`), which it cannot
while it holds processes itself. In version 1 each controller has a tree, or shares one. A
machine may run both, each controller in one of them.

Reads and decides; makes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

CONTROLLERS = ("memory", "pids", "cpu")  # those of use here, the most useful first
SETTING = "HOTBED_CGROUP"

_READ_ONLY = (
    "cgroups are mounted read-only at {point}; start the container with writable ones: Docker 28 "
    "`--cgroupns=private --security-opt writable-cgroups=true`, Podman `--security-opt unmask=/sys/fs/cgroup`"
)
_FORBIDDEN = (
    "user {user} may not write to {path}; start hotbed with `systemd-run --user --scope`, or in a "
    "service with Delegate=yes and DelegateSubgroup=main, or name a directory in $HOTBED_CGROUP"
)
_OCCUPIED = (
    "{directory} passes no {controllers} on to its children, and cannot while it holds processes; start "
    "hotbed in a group of its own below it: in a systemd service DelegateSubgroup=main beside Delegate=yes, "
    "in a container by moving its first processes into a subgroup"
)
_NOT_PASSED_ON = "{directory} passes no {controllers} on to its children (cgroup.subtree_control)"
_HIDDEN = (
    "this process's own group {path} lies outside of what is mounted at {point}; mount cgroups anew in this "
    "container, or name a directory in $HOTBED_CGROUP"
)


@dataclass(frozen=True, slots=True)
class Membership:
    """A line of /proc/self/cgroup: the group of this process in one tree."""

    controllers: frozenset[str]  # empty: the tree of version 2
    path: str  # from the root of the cgroup namespace; "/.." above it


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/self/mountinfo that shows a tree, or a part of it."""

    version: int
    root: str  # the group that is seen at `point`, from the root of the cgroup namespace
    point: str
    read_only: bool
    controllers: frozenset[str]  # version 1 only


@dataclass(frozen=True, slots=True)
class Site:
    """A group below which groups may perhaps be made."""

    directory: str
    controllers: frozenset[str]  # that groups made here have
    to_pass_on: frozenset[str] = frozenset()  # that the site has, but must first pass on; version 2


@dataclass(frozen=True, slots=True)
class Place:
    """All of one version that there is: one site in version 2, one for each tree in version 1."""

    version: int
    sites: tuple[Site, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """Places to try, the best first, and what stands against better ones, in plain words."""

    places: tuple[Place, ...]
    problems: tuple[str, ...]


def memberships(text: str) -> list[Membership]:
    """Parse /proc/self/cgroup."""
    found = []
    for line in text.splitlines():
        _number, controllers, path = line.split(":", 2)
        found.append(Membership(frozenset(controllers.split(",")) - {""}, path))
    return found


def mounts(text: str) -> list[Mount]:
    """Parse /proc/self/mountinfo; what shows no cgroups is left out."""
    found = []
    for line in text.splitlines():
        fields, _dash, tail = line.partition(" - ")
        kind, _source, options = tail.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            root, point, flags = fields.split(" ")[3:6]
            words = frozenset(options.split(","))
            found.append(
                Mount(
                    version=2 if kind == "cgroup2" else 1,
                    root=_unescaped(root),
                    point=_unescaped(point),
                    read_only="ro" in flags.split(",") or "ro" in words,
                    controllers=frozenset() if kind == "cgroup2" else words,
                )
            )
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def survey(own: list[Membership], seen: list[Mount], *, setting: str, user: int) -> Survey:
    """Find the places for this process.

    `setting` is the value of $HOTBED_CGROUP, "" if it is not set: a directory, or for version 1
    several with a colon between them; then nothing else is considered. `user` is the effective
    user id.
    """
    if not seen:
        return Survey((), ("no cgroups are mounted here; mount them at /sys/fs/cgroup",))
    if setting:
        return _named(setting, own, seen, user)
    problems: list[str] = []
    places = [Place(2, (site,)) for site in _sites_of_2(own, seen, user, problems)]
    if sites := tuple(_sites_of_1(own, seen, user, problems)):
        places.append(Place(1, sites))
    # One that lacks memory is worse than any that has it; the sort keeps version 2 first among equals.
    places.sort(key=_worth, reverse=True)
    return Survey(tuple(places), tuple(dict.fromkeys(problems)))


def _worth(place: Place) -> tuple[bool, int]:
    controllers = frozenset[str]().union(*(site.controllers | site.to_pass_on for site in place.sites))
    return "memory" in controllers, len(controllers)


def _named(setting: str, own: list[Membership], seen: list[Mount], user: int) -> Survey:
    problems: list[str] = []
    sites, versions = [], set()
    for name in setting.split(os.pathsep):
        directory = os.path.realpath(name)
        mount = max(
            (mount for mount in seen if _below(directory, mount.point) is not None),
            key=lambda mount: len(mount.point),
            default=None,
        )
        if mount is None or not os.path.isdir(directory):
            problems.append(f"${SETTING} names {name}, which is no directory in a mount of cgroups")
            continue
        home = _directory(_group_in_2(own), mount) if mount.version == 2 else None
        if (problem := _forbidden(mount, directory, home, user)) is not None:
            problems.append(problem)
        elif mount.version == 2:
            sites.append(_site_of_2(directory, ours=True))
        else:
            sites.append(Site(directory, mount.controllers.intersection(CONTROLLERS)))
        versions.add(mount.version)
    if len(versions) > 1 or (versions == {2} and len(sites) > 1):
        problems.append(f"${SETTING}={setting} must name one directory, or one for each tree of version 1")
    if problems:
        return Survey((), tuple(problems))
    place = Place(versions.pop(), tuple(sites))
    return Survey((place,), tuple(_lacking(place.sites[0])) if place.version == 2 else ())


def _sites_of_1(own: list[Membership], seen: list[Mount], user: int, problems: list[str]) -> Iterator[Site]:
    """This process's own group in each tree that has a controller of ours."""
    for membership in own:
        controllers = membership.controllers.intersection(CONTROLLERS)
        if not controllers:
            continue
        trees = [mount for mount in seen if controllers <= mount.controllers]
        directory = _visible(membership.path, trees, problems)
        if directory is not None:
            home, mount = directory
            if (problem := _forbidden(mount, home, None, user)) is None:
                yield Site(home, controllers)
            else:
                problems.append(problem)
        elif not trees:
            problems.append(f"the tree of {_listed(controllers)} is not mounted")


def _sites_of_2(own: list[Membership], seen: list[Mount], user: int, problems: list[str]) -> Iterator[Site]:
    """The group's parent, then itself, then for the system's user the root of all."""
    trees = [mount for mount in seen if mount.version == 2]
    path = _group_in_2(own)
    directory = _visible(path, trees, problems) if path is not None else None
    if directory is None:
        return
    home, mount = directory
    candidates = [home]
    if home != mount.point:
        candidates.insert(0, os.path.dirname(home))
        if user == 0:
            candidates.append(mount.point)
    for candidate in dict.fromkeys(candidates):
        if (problem := _forbidden(mount, candidate, home, user)) is not None:
            problems.append(problem)
            continue
        if _is_true_root(candidate):
            occupied, ours = False, candidate == home  # elsewhere a manager has put us, whose root it is
        else:
            occupied = candidate == home
            ours = not occupied and _is_handed_over(candidate, user)
        site = _site_of_2(candidate, ours=ours)
        problems.extend(_lacking(site, occupied=occupied))
        if site.controllers or site.to_pass_on:
            yield site


def _site_of_2(directory: str, *, ours: bool) -> Site:
    """What a group passes on already, and where it is ours to change, what it could."""
    passed_on = _words(directory, "cgroup.subtree_control")
    offered = _words(directory, "cgroup.controllers") - passed_on if ours else frozenset[str]()
    return Site(directory, passed_on, offered)


def _lacking(site: Site, *, occupied: bool = False) -> Iterator[str]:
    """Say which controllers a site can not give."""
    if missing := frozenset(CONTROLLERS) - site.controllers - site.to_pass_on:
        template = _OCCUPIED if occupied else _NOT_PASSED_ON
        yield template.format(directory=site.directory, controllers=_listed(missing))


def _listed(controllers: frozenset[str]) -> str:
    return ", ".join(name for name in CONTROLLERS if name in controllers)


def _group_in_2(own: list[Membership]) -> str | None:
    return next((membership.path for membership in own if not membership.controllers), None)


def _visible(path: str, trees: list[Mount], problems: list[str]) -> tuple[str, Mount] | None:
    """The directory of a group, in a mount that shows it; a writable one if there is one."""
    shown = [(directory, mount) for mount in trees if (directory := _directory(path, mount)) is not None]
    if shown:
        return min(shown, key=lambda pair: pair[1].read_only)
    if trees:
        problems.append(_HIDDEN.format(path=path, point=trees[0].point))
    return None


def _directory(path: str | None, mount: Mount) -> str | None:
    """Where a group lies in a mount; None if the mount does not show it."""
    below = _below(path, mount.root) if path is not None else None
    if below is None:
        return None
    directory = os.path.normpath(f"{mount.point}/{below}")
    return directory if os.path.isdir(directory) else None


def _below(path: str, root: str) -> str | None:
    """The rest of a path below `root`, or None; "/.." in either is above the namespace: unknown."""
    if ".." in path.split("/") or ".." in root.split("/"):
        return "" if path == root else None
    if path == root or root == "/":
        return path.removeprefix(root)
    return path.removeprefix(root) if path.startswith(root + "/") else None


def _forbidden(mount: Mount, directory: str, home: str | None, user: int) -> str | None:
    """Why no group can be made here and entered, as far as that can be seen without trying.

    In version 2 whoever moves a process from one group to another must be allowed to write to
    the nearest group above both; `home` is where the processes come from.
    """
    if mount.read_only:
        return _READ_ONLY.format(point=mount.point)
    common = None if home is None else os.path.commonpath([home, directory])
    for path in (directory, common and f"{common}/cgroup.procs"):
        if path and not os.access(path, os.W_OK, effective_ids=True):
            return _FORBIDDEN.format(user=user, path=path)
    return None


def _is_true_root(directory: str) -> bool:
    """Whether it is the root of version 2 itself, which alone may hold processes and pass on."""
    return not os.path.exists(f"{directory}/cgroup.type")


def _is_handed_over(directory: str, user: int) -> bool:
    """Whether a group was given to us to manage, so that we may change what it passes on.

    Elsewhere that is the affair of whoever manages it, systemd in most cases.
    """
    if user != 0:
        return os.stat(directory).st_uid == user
    for name in ("user.delegate", "trusted.delegate"):  # systemd's mark
        try:
            if os.getxattr(directory, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _words(directory: str, name: str) -> frozenset[str]:
    try:
        with open(f"{directory}/{name}", encoding="ascii") as file:
            return frozenset(file.read().split()).intersection(CONTROLLERS)
    except OSError:
        return frozenset()
