"""What is wrong with a request is said before any process runs, naming the field and the value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from hotbed import Engine, Environment, Limits, Mount, Pool, RefusedError, RequestError


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("request_of", "says"),
    [
        (lambda engine: engine.run(b"1"), "code must be text, not bytes"),
        (lambda engine: engine.run(None), "code must be text, not NoneType"),
        (lambda engine: engine.run("x = '\ud800'"), "lone surrogate at position 5"),
        (lambda engine: engine.run("1", inputs=[1]), "inputs must be a dict"),
        (lambda engine: engine.run("1", inputs={"a b": 1}), "'a b'"),
        (lambda engine: engine.run("1", inputs={1: 1}), "holds the name 1"),
        (lambda engine: engine.run("1", inputs={"x": object()}), "inputs.*object"),
        (lambda engine: engine.run("1", inputs={"x": lambda: 1}), "inputs.*function"),
        (lambda engine: engine.run("1", inputs={"x": nested(20_000)}), "nested too deeply"),
        (lambda engine: engine.run("1", inputs={"x": [b"a"]}), "bytes inside a container"),
        (lambda engine: engine.run("1", mode="quick"), "mode='quick'.*'fresh'"),
        (lambda engine: engine.run("1", mode=3), "mode=3"),
        (lambda engine: engine.run("1", isolation="full"), "isolation='full'"),
        (lambda engine: engine.run("1", env={"A=B": "1"}), "'A=B'"),
        (lambda engine: engine.run("1", env={"A": 1}), "env.'A'.*int"),
        (lambda engine: engine.run("1", env={"A": "\0"}), "env.'A'"),
        (lambda engine: engine.run("1", env=[("A", "1")]), "env must be a dict"),
        (lambda engine: engine.run("1", seed=-1), "seed=-1"),
        (lambda engine: engine.run("1", seed="x"), "seed='x'"),
        (lambda engine: engine.run("1", seed=True), "seed=True"),
        (lambda engine: engine.run("1", timeout=0), "timeout=0"),
        (lambda engine: engine.run("1", timeout=-1), "timeout=-1"),
        (lambda engine: engine.run("1", timeout="5"), "timeout='5'"),
        (lambda engine: engine.run("1", timeout=float("nan")), "timeout=nan"),
        (lambda engine: engine.run("1", timeout=float("inf")), "timeout=inf"),
        (lambda engine: engine.run("1", queue_timeout=0), "queue_timeout=0"),
        (lambda engine: engine.run("1", files=["a"]), "files must be a dict"),
        (lambda engine: engine.run("1", files={"/a": b""}), "files holds the name '/a'"),
        (lambda engine: engine.run("1", files={"a/../b": b""}), "files holds the name 'a/../b'"),
        (lambda engine: engine.run("1", files={"": b""}), "files holds the name ''"),
        (lambda engine: engine.run("1", files={"a": 1}), "files.'a'.*int"),
        (lambda engine: engine.run("1", files={"a": b""}, isolation="none"), "files are for isolated code"),
        (lambda engine: engine.run("1", on_stdout="print"), "on_stdout='print'"),
        (lambda engine: engine.call("provider.py"), "FILE:FUNCTION"),
        (lambda engine: engine.call("provider.py:not a name"), "FILE:FUNCTION"),
        (lambda engine: engine.call(":f"), "FILE:FUNCTION"),
        (lambda engine: engine.call(3), "not int"),
        (lambda engine: engine.call("/no/such/file.py:f"), "/no/such/file.py does not exist"),
        (lambda engine: engine.call("/tmp:f"), "is a directory"),
    ],
)
def test_a_bad_request_names_its_field_and_runs_nothing(
    forking: Engine, request_of: Callable[[Any], object], says: str
) -> None:
    with pytest.raises(RequestError, match=says):
        request_of(cast(Any, forking))
    assert forking.run("40 + 2").value == 42


def test_strict_isolation_is_refused_where_something_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTBED_LANDLOCK_ABI", "0")
    with Engine() as engine:
        with pytest.raises(RefusedError, match=r"isolation='strict'.*no Landlock"):
            engine.run("1", isolation="strict")
        assert engine.run("40 + 2", isolation="auto").value == 42


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Environment("/no/such/python"), "/no/such/python"),
        (lambda: Environment("/etc/passwd"), "/etc/passwd"),
        (lambda: Environment("/tmp"), "cannot be executed"),
        (lambda: Environment(preload="pandas"), "list of module names"),
        (lambda: Environment(preload=["a b"]), "'a b'"),
        (lambda: Environment(warmup="x" * 100_000), "at most"),
        (lambda: Limits(timeout=0), "timeout=0"),
        (lambda: Limits(output="big"), "output='big'"),
        (lambda: Limits(value=-1), "value=-1"),
        (lambda: Environment(mounts=cast(Any, ["/tmp"])), "mounts=.'/tmp'. must be a list of Mount"),
        (lambda: Mount("/no/such/directory"), "'/no/such/directory' does not exist"),
        (lambda: Mount("/usr", target="usr"), "target='usr' must be an absolute path"),
        (lambda: Mount("/"), "/ cannot be given"),
        (lambda: Mount("/proc/sys"), "/proc/sys cannot be given"),
        (lambda: Mount("/usr", target="/home/box"), "/home/box cannot be given"),
        (lambda: Pool(standby=-1), "standby=-1"),
        (lambda: Pool(max_concurrency=0), "max_concurrency=0"),
        (lambda: Pool(min_workers=3, max_workers=2), "min_workers=3"),
        (lambda: Pool(idle_timeout=0), "idle_timeout=0"),
    ],
)
def test_a_bad_setting_is_refused_when_it_is_made(make: Callable[[], object], says: str) -> None:
    with pytest.raises(RequestError, match=says):
        make()


def test_a_missing_function_is_named_with_those_that_there_are(forking: Engine, tmp_path: Path) -> None:
    file = tmp_path / "provider.py"
    file.write_text("def call_api(): pass\ndef other(): pass\n_hidden = print\n")
    with pytest.raises(RequestError, match="no function 'missing'; it has call_api, other"):
        forking.call(f"{file}:missing")
