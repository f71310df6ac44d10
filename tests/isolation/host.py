"""Runs a host of hotbed in a new interpreter, after a change to its world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec

import hotbed
from hotbed.proc import hierarchy
from tests import leftovers

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0  # a host takes about a second on a quiet machine

T = TypeVar("T")


def answer_of(
    ask: Callable[..., T],
    world: Callable[[], None],
    kind: type[T],
    *,
    env: Mapping[str, str] | None = None,
    **arguments: Any,
) -> T:
    """What `ask(**arguments)` gives there, by way of JSON; both functions are of modules.

    Raises:
        AssertionError: If the host ends otherwise, or leaves something behind; with what it printed.
    """
    paths = [str(ROOT), str(Path(hotbed.__file__).parents[1])]
    order = json.dumps({"world": _name(world), "ask": _name(ask), "arguments": arguments})
    # What tests/conftest.py says of cgroups is about this machine, not about the host.
    inherited = {name: value for name, value in os.environ.items() if name != hierarchy.SETTING}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.isolation import host; host.main()", order],
        env={**inherited, **(env or {}), "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    printed = (done.stdout + done.stderr).decode("utf-8", "replace")
    assert done.returncode == 0, f"the host ended with {done.returncode}\n{printed}"
    return msgspec.json.decode(done.stdout, type=kind)


def _name(function: Callable[..., Any]) -> list[str]:
    return [function.__module__, function.__qualname__]


def main() -> None:
    """In the new interpreter: change the world, then ask and print the answer."""
    order = json.loads(sys.argv[1])
    _function(order["world"])()
    leftovers.adopt_orphans()
    before = leftovers.traces()
    answer = _function(order["ask"])(**order["arguments"])
    if left := leftovers.left_since(before):
        raise SystemExit(f"the host left behind:\n{left}")
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _function(name: list[str]) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(name[0]), name[1])
    return found
