"""What code finds in its work directory, what comes back from it, and what it sees of the host."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hotbed import Artifact, Engine, Environment, HotbedError, Limits, Mount, Pool, RequestError, Status
from hotbed.isolation import Tier
from tests.isolation import asks, worlds
from tests.isolation.asks import TRIED, USES
from tests.isolation.host import answer_of

LISTS = """
import os
result = sorted(
    os.path.relpath(os.path.join(directory, name), ".")
    for directory, _folders, names in os.walk(".") for name in names
)
"""


@pytest.fixture(scope="module", params=["fresh", "worker", "oneshot"])
def mode(request: pytest.FixtureRequest) -> Any:
    """Each way to get a process."""
    return request.param


# ── files in ──


def test_given_files_are_in_the_work_directory(engine: Engine, mode: Any) -> None:
    files: dict[str, bytes | str] = {
        "data.csv": "a,b\n",
        "a/b/c.bin": b"\0\xff",
        "größe und 漢字": "ü",
        " x\ny": b"",
        "...": "dots",
    }
    code = f"{LISTS}\nresult = [result, {{name: open(name, 'rb').read().hex() for name in result}}]"
    names, contents = engine.run(code, files=files, mode=mode).value
    assert set(files) <= set(names)  # a worker keeps its directory
    for name, data in files.items():
        assert bytes.fromhex(contents[name]) == (data.encode() if isinstance(data, str) else data)


def test_the_work_directory_is_where_the_code_is_and_writable(engine: Engine, mode: Any) -> None:
    code = "import os; open('new', 'w').write(open('given').read()); [os.getcwd(), open('new').read()]"
    where, copied = engine.run(code, files={"given": "text"}, mode=mode).value
    assert (where, copied) == ("/home/box/work", "text")


def test_a_large_file_travels_whole(engine: Engine) -> None:
    data = os.urandom(30_000_000)
    result = engine.run("os = __import__('os'); os.rename('in', 'out')", files={"in": data}, limits=LARGE)
    [artifact] = result.artifacts
    assert artifact.data == data


LARGE = Limits(artifacts="32M", memory="1G")


def test_files_and_inputs_travel_together(engine: Engine) -> None:
    code = "[x, blob.hex(), open('a', 'rb').read().hex()]"
    told = engine.run(code, inputs={"x": [1], "blob": b"\1\2"}, files={"a": b"\3\4"})
    assert told.value == [[1], "0102", "0304"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/a",
        "//a",
        "..",
        "../a",
        "a/../b",
        "a//b",
        ".",
        "./a",
        "a/.",
        "a/",
        "a\0b",
        "\ud800",
        5,
        b"a",
        None,
    ],
)
def test_a_bad_name_is_refused(engine: Engine, name: Any) -> None:
    with pytest.raises(RequestError, match=r"^files holds the name "):
        engine.run("1", files={name: "text"})


@pytest.mark.parametrize(
    "files",
    [{"a" * 256: ""}, {"ü" * 128: ""}, {"/".join(["a" * 200] * 30): ""}, {"a": "", "a/b": ""}],
    ids=["a long name", "a long name in bytes", "a long path", "a file that is a folder too"],
)
def test_a_name_that_no_file_system_takes_is_refused(engine: Engine, files: dict[str, str]) -> None:
    with pytest.raises(RequestError, match=r"^files"):
        engine.run("1", files=files)


@pytest.mark.parametrize("data", [5, None, ["a"], {"a": 1}, "\ud800"])
def test_what_is_no_content_is_refused(engine: Engine, data: Any) -> None:
    with pytest.raises(RequestError, match=r"^files\['a'\]"):
        engine.run("1", files={"a": data})


@pytest.mark.parametrize("files", [["a"], "a", 5, {("a", b"")}])
def test_what_are_no_files_is_refused(engine: Engine, files: Any) -> None:
    with pytest.raises(RequestError, match=r"^files must be a dict"):
        engine.run("1", files=files)


def test_files_for_code_that_is_not_isolated_are_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match=r"^files are for isolated code"):
        engine.run("1", files={"a": "text"}, isolation="none")


@pytest.mark.parametrize(
    "files",
    [{"a": bytes(2_000_000)}, {str(number): "" for number in range(300)}],
    ids=["too large", "too many"],
)
def test_files_that_do_not_fit_the_disk_are_no_crash_of_the_code(
    engine: Engine, files: dict[str, bytes | str]
) -> None:
    try:
        result = engine.run("1", files=files, limits=Limits(disk="1M"))
    except RequestError as error:
        said = str(error)
    else:
        said = f"{result.status}: {result.error.message if result.error else ''}"
    assert said.startswith(("files", "error: "))
    assert "disk" in said or "space" in said


def test_nothing_of_an_execution_is_there_for_the_next(engine: Engine) -> None:
    leaves = """
    import os
    for directory in (".", os.environ["HOME"], os.environ["TMPDIR"], "/dev/shm"):
        os.makedirs(f"{directory}/left")
        open(f"{directory}/left/file", "w").close()
        os.chmod(f"{directory}/left", 0)
    os.chmod(".", 0)
    """
    finds = """
    import os
    result = [os.listdir(path) for path in (".", os.environ["HOME"], os.environ["TMPDIR"], "/dev/shm")]
    """
    for _ in range(4):  # more than stand by
        assert engine.run(textwrap.dedent(leaves)).status is Status.OK
        assert engine.run(textwrap.dedent(finds)).value == [[], [], [], []]


# ── artifacts out ──


def artifacts_of(engine: Engine, code: str, **options: Any) -> dict[str, bytes]:
    result = engine.run(textwrap.dedent(code), **options)
    assert result.ok, result
    return {artifact.name: artifact.data for artifact in result.artifacts}


def test_new_and_changed_files_come_back_and_no_others(engine: Engine) -> None:
    code = """
    import os
    open("new", "w").write("1")
    open("changed", "a").write("more")
    os.makedirs("folder/of/folders")
    open("folder/of/folders/größe", "wb").write(b"\\0\\xff")
    open("empty", "w").close()
    os.remove("removed")
    """
    given = {"changed": "", "same": "2", "removed": "3"}
    assert artifacts_of(engine, code, files=given) == {
        "new": b"1",
        "changed": b"more",
        "folder/of/folders/größe": b"\0\xff",
        "empty": b"",
    }


def test_artifacts_come_back_in_each_mode(engine: Engine, mode: Any) -> None:
    assert artifacts_of(engine, "open('made', 'w').write('x' * 7)", mode=mode) == {"made": b"x" * 7}


def test_a_worker_gives_what_is_new_since_its_last_execution(engine: Engine) -> None:
    assert set(artifacts_of(engine, "open('first', 'w').close()", mode="worker")) == {"first"}
    assert set(artifacts_of(engine, "open('second', 'w').close()", mode="worker")) == {"second"}


def test_files_elsewhere_do_not_come_back(engine: Engine) -> None:
    code = """
    import os
    for directory in (os.environ["HOME"], os.environ["TMPDIR"], "/dev/shm"):
        open(f"{directory}/elsewhere", "w").close()
    os.chdir(os.environ["TMPDIR"])
    open("elsewhere too", "w").close()
    """
    assert artifacts_of(engine, code) == {}


def test_artifacts_come_back_from_code_that_fails(engine: Engine) -> None:
    result = engine.run("open('made', 'w').write('x')\n1 / 0")
    assert result.status is Status.ERROR
    assert result.artifacts == (Artifact("made", b"x"),)


@pytest.mark.parametrize(
    "makes",
    [
        "os.symlink('/etc/passwd', 'odd')",
        "os.symlink('real', 'odd')",
        "os.symlink('/usr', 'odd')",
        "os.symlink('nowhere', 'odd')",
        "os.mkfifo('odd')",
        "socket.socket(socket.AF_UNIX).bind('odd')",
    ],
)
def test_what_is_no_regular_file_is_left_out_and_named(engine: Engine, makes: str) -> None:
    result = engine.run(f"import os, socket\nopen('real', 'w').write('x')\n{makes}")
    assert result.artifacts == (Artifact("real", b"x"),)
    assert result.left_out == ("odd: no regular file",)


def test_a_name_that_is_no_text_is_left_out_and_named(engine: Engine) -> None:
    result = engine.run("open(b'\\xff', 'w').close()")
    assert result.artifacts == ()
    assert len(result.left_out) == 1
    assert result.left_out[0].startswith("\\udcff: ")


def test_a_file_that_cannot_be_read_is_left_out_and_named(engine: Engine) -> None:
    result = engine.run("import os; open('closed', 'w').close(); os.chmod('closed', 0)")
    assert result.artifacts == ()
    assert [line.partition(":")[0] for line in result.left_out] == ["closed"]


def test_more_files_than_come_back_are_left_out_and_named(engine: Engine) -> None:
    result = engine.run("for i in range(260): open(f'{i:03}', 'w').close()")
    assert [artifact.name for artifact in result.artifacts] == [f"{i:03}" for i in range(256)]
    assert [line.partition(":")[0] for line in result.left_out] == ["256", "257", "258", "259"]


def test_folders_deeper_than_come_back_are_left_out_and_named(engine: Engine) -> None:
    code = "import os\nfor _ in range(2000): os.mkdir('d'); os.chdir('d')\nopen('deep', 'w').close()"
    result = engine.run(code)
    assert result.artifacts == ()
    assert [line.partition(":")[2] for line in result.left_out] == [" deeper than 16 folders"]


def test_an_artifact_is_saved_below_a_directory(engine: Engine, tmp_path: Path) -> None:
    result = engine.run("import os; os.mkdir('a'); open('a/b', 'w').write('text')")
    [artifact] = result.artifacts
    assert artifact.save(tmp_path) == str(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").read_bytes() == b"text"


def test_code_that_is_not_isolated_has_no_artifacts(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = engine.run("open(path, 'w').close()", inputs={"path": str(tmp_path / "a")}, isolation="none")
    assert (result.ok, result.artifacts, result.left_out) == (True, (), ())


# ── mounts ──


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A directory of the host with one file, in one with another; open to the user that code is outside."""
    tmp_path.chmod(0o755)
    (tmp_path / "secret").write_text("of the host")
    directory = tmp_path / "data"
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "file").write_text("text")
    return directory


@pytest.fixture(scope="module")
def mounting() -> Iterator[Engine]:
    """An engine for environments with mounts."""
    with Engine(Environment(preload=()), pool=Pool(standby=0)) as engine:
        assert engine.run("1").isolation[0] == Tier.FULL
        yield engine


def uses_of(engine: Engine, mount: Mount) -> dict[str, Any]:
    result = engine.run(
        USES, inputs={"path": mount.target}, environment=Environment(preload=(), mounts=[mount])
    )
    assert result.ok, result
    assert result.isolation[0] == Tier.FULL
    found: dict[str, Any] = result.value
    return found


@pytest.mark.parametrize("target", ["", "/data", "/tmp/data", "/opt/some/data", "/home/me/data"])
def test_a_mount_is_read_and_nothing_else(mounting: Engine, data: Path, target: str) -> None:
    uses = uses_of(mounting, Mount(data, target))
    assert uses == {"read": "text", "listed": ["file"], "made": "EROFS", "beside": "ENOENT"}
    assert os.listdir(data) == ["file"]


def test_a_writable_mount_is_written(mounting: Engine, data: Path) -> None:
    uses = uses_of(mounting, Mount(data, "/data", writable=True))
    assert uses == {"read": "text", "listed": ["file"], "made": None, "beside": "ENOENT"}
    assert sorted(os.listdir(data)) == ["file", "new"]


def test_a_single_file_is_mounted(mounting: Engine, data: Path) -> None:
    environment = Environment(preload=(), mounts=[Mount(data / "file", "/settings/here.txt")])
    code = "import os; [open('/settings/here.txt').read(), os.listdir('/settings')]"
    assert mounting.run(code, environment=environment).value == ["text", ["here.txt"]]


def test_a_link_is_mounted_as_what_it_leads_to(mounting: Engine, data: Path) -> None:
    link = data.parent / "link"
    link.symlink_to(data)
    assert uses_of(mounting, Mount(link))["listed"] == ["file"]


def test_mounts_make_another_environment(mounting: Engine, data: Path) -> None:
    assert uses_of(mounting, Mount(data, "/data"))["read"] == "text"
    assert mounting.run("import os; os.path.exists('/data')").value is False
    assert uses_of(mounting, Mount(data, "/data", writable=True))["made"] is None


def test_a_mount_within_a_mount_lies_over_it(mounting: Engine, data: Path) -> None:
    (data / "inner").mkdir()
    other = data.parent / "other"
    other.mkdir()
    (other / "there").touch()
    mounts = [Mount(other, "/data/inner"), Mount(data, "/data")]
    environment = Environment(preload=(), mounts=mounts)
    assert mounting.run("import os; os.listdir('/data/inner')", environment=environment).value == ["there"]


@pytest.mark.parametrize(
    "source", ["/", "//", "/.", "/tmp/..", "/proc", "/proc/1", "//proc", "/sys", "/dev", "/dev/shm", "/home"]
)
def test_a_source_that_no_code_may_have_is_refused(source: str) -> None:
    with pytest.raises(RequestError, match=r"^mounts: .* cannot be given"):
        Mount(source, "/data")


@pytest.mark.parametrize(
    "target", ["/", "//", "/a/..", "/proc", "/proc/x", "//proc/x", "/sys/x", "/dev/x", "/home", "/home/box"]
)
@pytest.mark.parametrize("writable", [False, True])
def test_a_target_that_would_hide_the_sandbox_is_refused(data: Path, target: str, writable: bool) -> None:
    with pytest.raises(RequestError, match=r"^mounts: .* cannot be given"):
        Mount(data, target, writable=writable)


@pytest.mark.parametrize("source", ["", "/no/such/directory", "a\0b", 5, None, b"/usr"])
def test_a_source_that_is_no_path_is_refused(source: Any) -> None:
    with pytest.raises(RequestError, match=r"^mounts: source="):
        Mount(source)


@pytest.mark.parametrize("target", ["relative", "./relative", "/a\0b", 5, b"/data"])
def test_a_target_that_is_no_path_is_refused(data: Path, target: Any) -> None:
    with pytest.raises(RequestError, match=r"^mounts: target="):
        Mount(data, target)


def test_a_link_to_the_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(RequestError, match=r"^mounts: / cannot be given"):
        Mount(tmp_path / "link", "/data")


@pytest.mark.parametrize("mounts", ["/usr", ["/usr"], [("/usr", "/data")], {"/usr": "/data"}, 5])
def test_what_are_no_mounts_is_refused(mounts: Any) -> None:
    with pytest.raises(RequestError, match=r"^mounts="):
        Environment(mounts=mounts)


@pytest.mark.parametrize("target", ["/usr/share/data", "/etc", "/usr"])
def test_a_mount_that_cannot_be_made_never_weakens_the_sandbox_of_others(data: Path, target: str) -> None:
    """Not even as the first that an engine is asked for, by which it finds out what its host allows."""
    with Engine(Environment(preload=()), pool=Pool(standby=0)) as engine:
        try:
            environment = Environment(preload=(), mounts=[Mount(data, target)])
            came_to = engine.run("1", environment=environment).isolation[0]
        except HotbedError as error:
            came_to = str(error)
        assert came_to == Tier.FULL or target in came_to
        assert engine.run("1").isolation[0] == Tier.FULL


@pytest.fixture(scope="module")
def without_namespaces() -> list[asks.Mounted]:
    """What comes of mounts in tier landlock."""
    if os.geteuid() != 0:
        pytest.skip("hosts are simulated by mounts, which take root")
    told = answer_of(asks.mounts, worlds.docker_profile_alone, list[asks.Mounted])
    assert {one.tier for one in told} == {Tier.LANDLOCK}
    return told


def test_without_namespaces_a_mount_is_seen_at_its_own_place(without_namespaces: list[asks.Mounted]) -> None:
    for told in without_namespaces:
        if not told.elsewhere:
            made = None if told.writable else "EACCES"
            assert told.seen == {"read": "text", "listed": ["file"], "made": made, "beside": "EACCES"}


def test_without_namespaces_a_mount_elsewhere_is_refused(without_namespaces: list[asks.Mounted]) -> None:
    assert all("mounts" in told.refusal for told in without_namespaces if told.elsewhere)


# ── the directory of a called function ──

PROVIDER = f"""{TRIED}
import helper
HERE = os.path.dirname(os.path.abspath(__file__))

def look():
    return {{
        "own": open(f"{{HERE}}/data.txt").read(),
        "imported": helper.answer,
        "made": tried(lambda: open(f"{{HERE}}/new", "w").close()),
        "changed": tried(lambda: open(f"{{HERE}}/data.txt", "a").close()),
        "beside": tried(lambda: open(f"{{HERE}}/../neighbour/secret").read()),
        "above": tried(lambda: os.listdir(f"{{HERE}}/..")),
        "work": [os.getcwd(), tried(lambda: open("made", "w").close())],
    }}
"""


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    """A file of functions with a module and data beside it, and a neighbour."""
    tmp_path.chmod(0o755)
    for directory in ("project", "neighbour"):
        (tmp_path / directory).mkdir()
    (tmp_path / "neighbour" / "secret").write_text("of the host")
    (tmp_path / "project" / "helper.py").write_text("answer = 42\n")
    (tmp_path / "project" / "data.txt").write_text("data")
    (tmp_path / "project" / "provider.py").write_text(PROVIDER)
    return tmp_path / "project" / "provider.py"


def test_a_called_function_sees_its_own_directory_read_only_and_no_other(
    engine: Engine, provider: Path, mode: Any
) -> None:
    result = engine.call(f"{provider}:look", isolation="auto", mode=mode)
    assert result.isolation[0] == Tier.FULL
    assert {result.value.pop(deed) for deed in ("made", "changed")} <= {"EROFS", "EACCES"}
    assert result.value == {
        "own": "data",
        "imported": 42,
        "beside": "ENOENT",
        "above": ["project"],
        "work": ["/home/box/work", None],
    }
    assert not (provider.parent / "new").exists()


def test_functions_of_two_directories_do_not_see_each_other(engine: Engine, provider: Path) -> None:
    other = provider.parents[1] / "neighbour" / "other.py"
    other.write_text("import os\ndef look(path): return os.path.exists(path)\n")
    assert engine.call(f"{other}:look", str(other), isolation="auto").value is True
    assert engine.call(f"{other}:look", str(provider), isolation="auto").value is False


def test_of_a_home_a_called_function_sees_its_own_file_alone(
    engine: Engine, provider: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(provider.parent))
    alone = provider.parent / "alone.py"
    alone.write_text("import os\ndef look(): return os.listdir(os.path.dirname(__file__))\n")
    assert engine.call(f"{alone}:look", isolation="auto").value == ["alone.py"]


def test_own_code_sees_everything(engine: Engine, provider: Path) -> None:
    own = provider.parent / "own.py"
    own.write_text("def look(path): return open(path).read()\n")
    secret = provider.parents[1] / "neighbour" / "secret"
    assert engine.call(f"{own}:look", str(secret)).value == "of the host"
