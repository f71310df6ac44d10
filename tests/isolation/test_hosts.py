"""Real hosts, simulated: which tier comes out, what is in force, and what is said of the rest."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hotbed import Engine, Environment, Mount
from hotbed.isolation import Tier
from hotbed.proc import cgroup
from hotbed.seed.sandbox import landlock
from tests.engine.venvs import Venv
from tests.isolation import asks, worlds
from tests.isolation.asks import Look, Neighbours
from tests.isolation.host import answer_of

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="hosts are simulated by mounts, which take root")

ENCLOSED = (Tier.FULL, Tier.SHARED)
NEWEST_ABI = 99
LEAST_ABI = 3  # before it Landlock does not keep files from being truncated


@dataclass(frozen=True, slots=True)
class Host:
    """A host, and what it must come to.

    not_full, not_landlock: why it is not that tier; "" where it is or is better. abi: of Landlock, at
    most. groups: whether cgroups can be had. other_user: whether code has another user than the engine.
    """

    world: Callable[[], None]
    tier: Tier
    not_full: str = ""
    not_landlock: str = ""
    abi: int = NEWEST_ABI
    groups: bool = True
    other_user: bool = True
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """What its environment has beside this one's."""
        return {**self.env, "HOTBED_LANDLOCK_ABI": str(self.abi)} if self.abi < NEWEST_ABI else {**self.env}

    @property
    def known_abi(self) -> int:
        """Of Landlock, on this machine."""
        return min(self.abi, landlock.abi())


def _full(world: Callable[[], None] = worlds.plain, *, groups: bool = True, **env: str) -> Host:
    return Host(world, Tier.FULL, groups=groups, env=env)


NO_MOUNTS = "make a mount namespace: EPERM"
NO_NAMESPACES = "make namespaces: EPERM"
NO_MORE_NAMESPACES = "make namespaces: ENOSPC"
NO_CELLS = "make a cell: ENOSPC"
NO_PROC = "mount /proc: EPERM"
NO_FORK = {"HOTBED_FORK": "0"}

HOSTS = {
    "root": _full(),
    "an ordinary user": Host(worlds.ordinary_user, Tier.FULL, groups=False, other_user=False),
    "root of a user namespace": _full(worlds.root_of_a_user_namespace),
    "root alone in a user namespace": Host(
        worlds.root_alone_in_a_user_namespace, Tier.FULL, other_user=False
    ),
    "Docker": Host(worlds.docker, Tier.LANDLOCK, NO_MOUNTS, groups=False),
    "Docker, an ordinary user": Host(
        worlds.docker_as_ordinary_user, Tier.LANDLOCK, NO_NAMESPACES, groups=False, other_user=False
    ),
    "Docker, no cgroup missing": Host(worlds.docker_profile_alone, Tier.LANDLOCK, NO_MOUNTS),
    "Docker, a closed temporary directory": Host(
        worlds.docker_with_a_closed_temporary_directory,
        Tier.LIMITS,
        NO_MOUNTS,
        not_landlock="would run as root",
        other_user=False,
    ),
    "Docker, hotbed closed to others": Host(
        worlds.docker_with_a_closed_hotbed,
        Tier.LIMITS,
        NO_MOUNTS,
        not_landlock="would run as root",
        other_user=False,
    ),
    "Docker, Landlock ABI 5": Host(worlds.docker_profile_alone, Tier.LANDLOCK, NO_MOUNTS, abi=5),
    "Docker, an ordinary user, Landlock ABI 5": Host(
        worlds.docker_as_ordinary_user,
        Tier.LIMITS,
        NO_NAMESPACES,
        not_landlock="code can signal all processes of its user",
        abi=5,
        groups=False,
        other_user=False,
    ),
    "Docker, Landlock ABI 2": Host(
        worlds.docker_profile_alone,
        Tier.LIMITS,
        NO_MOUNTS,
        not_landlock="this kernel has ABI 2, and 3 is needed",
        abi=2,
    ),
    "Docker without Landlock": Host(
        worlds.docker,
        Tier.LIMITS,
        NO_MOUNTS,
        not_landlock="this kernel has none",
        abi=0,
        groups=False,
    ),
    "Kubernetes": Host(worlds.kubernetes, Tier.LANDLOCK, NO_MOUNTS, groups=False),
    "a masked /proc": _full(worlds.masked_proc),
    "a masked /proc, an ordinary user": Host(
        worlds.masked_proc_as_ordinary_user, Tier.LANDLOCK, NO_PROC, groups=False, other_user=False
    ),
    "no user namespaces": Host(worlds.no_user_namespaces, Tier.LANDLOCK, NO_MORE_NAMESPACES),
    "neither user namespaces nor Landlock": Host(
        worlds.no_user_namespaces,
        Tier.LIMITS,
        NO_MORE_NAMESPACES,
        not_landlock="this kernel has none",
        abi=0,
    ),
    "no pid namespaces for children": Host(worlds.deep_in_pid_namespaces, Tier.SHARED, NO_CELLS),
    "a small /dev/shm": _full(worlds.small_shared_memory),
    "read-only cgroups": _full(worlds.read_only_cgroups, groups=False),
    "hidden cgroups": _full(worlds.hidden_cgroups, groups=False),
    "no cgroups": _full(worlds.no_cgroups, groups=False),
    "cgroups named wrongly": _full(groups=False, HOTBED_CGROUP="/no/such/group"),
    **{f"Landlock ABI {abi}": Host(worlds.plain, Tier.FULL, abi=abi) for abi in range(8)},
    "full, without fork": _full(HOTBED_FORK="0"),
    "shared, without fork": Host(worlds.deep_in_pid_namespaces, Tier.SHARED, NO_CELLS, env=NO_FORK),
    "landlock, without fork": Host(worlds.docker_profile_alone, Tier.LANDLOCK, NO_MOUNTS, env=NO_FORK),
    "limits, without fork": Host(
        worlds.docker_profile_alone,
        Tier.LIMITS,
        NO_MOUNTS,
        not_landlock="this kernel has none",
        abi=0,
        env=NO_FORK,
    ),
}
ALL = pytest.mark.parametrize("name", HOSTS)
# Where it is refused, that costs nothing; where it runs, a template and a proxy.
ASKED_FOR_A_NETWORK = ["root", "an ordinary user"]
ASKED_FOR_A_NETWORK += [name for name, host in HOSTS.items() if host.tier not in ENCLOSED]


@functools.cache
def looks_at(world: Callable[[], None]) -> dict[str, Look | str]:
    """What is found on the hosts that one change of the world makes."""
    hosts = {name: host for name, host in HOSTS.items() if host.world is world}
    found = answer_of(
        asks.looks,
        world,
        list[Look | str],
        settings=[host.variables for host in hosts.values()],
        networks=[name in ASKED_FOR_A_NETWORK for name in hosts],
    )
    return dict(zip(hosts, found, strict=True))


def look_at(name: str) -> Look:
    """What is found there."""
    found = looks_at(HOSTS[name].world)[name]
    assert isinstance(found, Look), found
    return found


@functools.cache
def groups_here() -> frozenset[str]:
    """The mechanisms that cgroups give root on this machine."""
    found = cgroup.find(f"hotbed-test-{os.getpid()}")
    if isinstance(found, cgroup.Unavailable):
        return frozenset()
    found.close()
    return frozenset(f"{name}-cgroup" for name in found.controllers)


def mechanisms_of(host: Host) -> set[str]:
    expected = {"no-new-privs", "no-capabilities", "rlimits", "seccomp"}
    if host.tier in ENCLOSED:
        expected |= {"user-ns", "mount-ns", "ipc-ns", "uts-ns", "cgroup-ns", "net-ns"}
    if host.tier is Tier.FULL:
        expected |= {"pid-ns"}
    for name, since in (("landlock", LEAST_ABI), ("landlock-tcp", 4), ("landlock-scopes", 6)):
        if host.known_abi >= since:
            expected |= {name}
    if host.other_user:
        expected |= {"unprivileged-uid"}
    return expected | groups_here() if host.groups else expected


# ── what comes out ──


@ALL
def test_a_host_gets_the_best_tier_that_it_allows(name: str) -> None:
    assert look_at(name).tier == HOSTS[name].tier


@ALL
def test_the_mechanisms_told_are_those_that_this_host_allows(name: str) -> None:
    assert look_at(name).mechanisms == mechanisms_of(HOSTS[name])


@ALL
def test_each_tier_above_is_told_with_the_step_that_failed(name: str) -> None:
    host, failures = HOSTS[name], look_at(name).failures
    above = list(Tier)[: list(Tier).index(host.tier)]
    assert list(failures) == above
    assert host.not_full in failures.get("full", "")
    assert host.not_landlock in failures.get("landlock", "")
    assert all("None" not in step and "Errno" not in step for step in failures.values()), failures


@ALL
def test_strict_runs_only_where_nothing_is_missing_and_else_names_it(name: str) -> None:
    host, refusal = HOSTS[name], look_at(name).strict
    expected = {
        f"tier full: {host.not_full}": host.tier is not Tier.FULL,
        "allow user namespaces": host.tier not in ENCLOSED,
        "no Landlock: needs Linux": host.known_abi < LEAST_ABI,
        "no Landlock scopes: needs Linux 6.12": host.known_abi < 6,
        "no memory cgroup: run under systemd": "memory-cgroup" not in mechanisms_of(host),
        "no pids cgroup": "pids-cgroup" not in mechanisms_of(host),
    }
    assert {text: text in refusal for text in expected} == expected, refusal
    assert bool(refusal) == any(expected.values())


@pytest.mark.parametrize("name", ASKED_FOR_A_NETWORK)
def test_an_allow_list_of_hosts_is_refused_where_code_could_pass_it_by(name: str) -> None:
    host, refusal = HOSTS[name], look_at(name).network
    if host.tier in ENCLOSED:
        assert refusal == ""
    else:
        assert refusal is not None
        assert refusal.startswith("network=('api.example.com:443',) needs a network namespace")
        assert host.not_full in refusal


@ALL
def test_code_reaches_nothing_of_the_host_but_its_own_directory(name: str) -> None:
    host, seen = HOSTS[name], look_at(name).seen
    assert seen["own"] == "kept"
    assert seen["connected"] == "EPERM"
    if host.tier is not Tier.LIMITS:
        kind = "ENOENT" if host.tier in ENCLOSED else "EACCES"
        assert [seen[deed] for deed in ("read", "listed", "made")] == [kind] * 3
        assert seen["signalled"] in ("ESRCH", "EPERM")


@ALL
def test_a_host_without_any_sandbox_is_warned_about_once(name: str) -> None:
    warned = look_at(name).warnings
    assert len(warned) == (1 if HOSTS[name].tier is Tier.LIMITS else 0), warned
    assert all("no security boundary" in text for text in warned)


@ALL
def test_no_cgroup_is_left(name: str) -> None:
    assert look_at(name).groups_left == []


@pytest.mark.parametrize("name", [name for name, host in HOSTS.items() if "HOTBED_FORK" in host.env])
def test_without_fork_the_reason_is_told(name: str) -> None:
    assert "HOTBED_FORK=0" in look_at(name).reason


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("an ordinary user", "user 65534 may not write to"),
        ("read-only cgroups", "cgroups are mounted read-only at"),
        ("hidden cgroups", "lies outside of what is mounted at"),
        ("no cgroups", "no cgroups are mounted here"),
        ("cgroups named wrongly", "$HOTBED_CGROUP names /no/such/group"),
    ],
)
def test_cgroups_that_cannot_be_had_are_told_with_the_reason(name: str, says: str) -> None:
    assert says in look_at(name).groups


# ── neighbours ──

NEIGHBOURHOODS = {
    "shared": worlds.deep_in_pid_namespaces,
    "landlock": worlds.docker_profile_alone,
    "landlock, as another user": worlds.docker,
}


@functools.cache
def neighbours_in(name: str) -> Neighbours:
    return answer_of(asks.neighbours, NEIGHBOURHOODS[name], Neighbours)


@pytest.mark.parametrize("name", NEIGHBOURHOODS)
@pytest.mark.parametrize("deed", ["read", "listed", "written", "made", "removed"])
def test_an_execution_does_nothing_to_the_files_of_another(name: str, deed: str) -> None:
    assert neighbours_in(name).pried[deed] in ("EACCES", "ENOENT", "EROFS")


@pytest.mark.parametrize("name", NEIGHBOURHOODS)
@pytest.mark.parametrize("deed", ["signalled", "its variables", "its memory", "its files"])
def test_an_execution_does_nothing_to_the_process_of_another(name: str, deed: str) -> None:
    assert neighbours_in(name).pried[deed] in ("EPERM", "EACCES", "ESRCH", "ENOENT")


@pytest.mark.parametrize("name", NEIGHBOURHOODS)
def test_the_directory_of_an_execution_goes_with_it(name: str) -> None:
    assert neighbours_in(name).gone


# ── interpreters wherever they are ──


@pytest.fixture
def venv(tmp_path: Path) -> Venv:
    """A virtual environment below the temporary directory, in directories that are closed to others."""
    return Venv.make(tmp_path / "venv")


def prefixes_in(engine: Engine, python: Path) -> list[str]:
    result = engine.run(
        "import sys; [sys.prefix, sys.base_prefix]", environment=Environment(python=python, preload=())
    )
    assert result.ok, result
    assert result.isolation[0] == Tier.FULL
    found: list[str] = result.value
    return found


def prefixes_of(python: Path) -> list[str]:
    code = "import sys; print(sys.prefix, sys.base_prefix, sep='\\n')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )[:2]


def test_each_interpreter_that_the_seed_runs_on_is_confined_in_full(
    engine: Engine, seed_python: Path
) -> None:
    assert prefixes_in(engine, seed_python) == prefixes_of(seed_python)


def test_a_virtual_environment_below_tmp_is_found(engine: Engine, venv: Venv) -> None:
    assert prefixes_in(engine, venv.path) == [str(venv.path), sys.base_prefix]


def test_a_virtual_environment_behind_links_is_found(engine: Engine, venv: Venv, tmp_path: Path) -> None:
    (tmp_path / "second").symlink_to(venv.path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "first").symlink_to("../second")
    link = tmp_path / "elsewhere" / "first"
    assert prefixes_in(engine, link) == prefixes_of(link / "bin" / "python")


def test_an_interpreter_behind_links_is_found(engine: Engine, venv: Venv, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "second").symlink_to("../venv/bin/python")
    (tmp_path / "first").symlink_to(tmp_path / "elsewhere" / "second")
    assert prefixes_in(engine, tmp_path / "first") == prefixes_of(tmp_path / "first")


@pytest.fixture
def project(venv: Venv, tmp_path: Path) -> Path:
    """A project of the host that is installed in the environment as it lies there (pip install -e)."""
    tmp_path.chmod(0o755)
    source = tmp_path / "project" / "src"
    source.mkdir(parents=True)
    (source / "editable.py").write_text("answer = 42\n")
    (tmp_path / "project" / "secret").write_text("of the host")
    (venv.site / "__editable__.project.pth").write_text(f"{source}\n")
    return source


USES_THE_PROJECT = f"""{asks.TRIED}
import editable
result = [editable.answer, tried(lambda: open(secret).read())]
"""


def test_an_editable_installation_is_found_where_it_is_mounted_and_nothing_beside_it(
    engine: Engine, venv: Venv, project: Path
) -> None:
    environment = Environment(python=venv.path, mounts=[Mount(project)])
    inputs = {"secret": str(project.parent / "secret")}
    result = engine.run(USES_THE_PROJECT, inputs=inputs, environment=environment)
    assert result.value == [42, "ENOENT"], result


def test_an_editable_installation_gives_no_directory_by_itself(
    engine: Engine, venv: Venv, project: Path
) -> None:
    """Any package can have a .pth file that names any directory of the host."""
    result = engine.run("import editable", environment=Environment(python=venv.path))
    assert result.error is not None
    assert result.error.name == "ModuleNotFoundError"


@pytest.mark.parametrize("where", ["python", "home/python", "home/.local"])
def test_an_interpreter_that_lives_in_a_closed_directory_is_found_and_nothing_beside_it(
    tmp_path: Path, where: str
) -> None:
    prefix = tmp_path / where
    prefix.mkdir(parents=True)
    (tmp_path / "home").mkdir(exist_ok=True)
    for directory in (tmp_path, tmp_path / "home"):
        directory.chmod(0o700)
    (prefix.parent / "secret").write_text("of the host")
    executable = Path(os.path.realpath(sys.executable)).relative_to(os.path.realpath(sys.base_prefix))
    told = answer_of(
        asks.interpreter,
        worlds.interpreter_elsewhere,
        asks.Interpreter,
        env={"HOTBED_TEST_PREFIX": str(prefix), "HOME": str(tmp_path / "home")},
        python=str(prefix / executable),
        beside=str(prefix.parent / "secret"),
    )
    assert told == asks.Interpreter(Tier.FULL, str(prefix), "ENOENT")
