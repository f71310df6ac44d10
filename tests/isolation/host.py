"""Runs a host of hotbed in a new interpreter, after a change to its world."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import hotbed

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0  # a host takes one or two seconds on a quiet machine


def answer_of(
    ask: Callable[..., Any], world: Callable[[], None], *, env: Mapping[str, str] | None = None, **arguments: Any
) -> Any:
    """What `ask(**arguments)` gives there, by way of JSON; both are functions of modules.

    Raises:
        AssertionError: If the host ends otherwise, with what it printed.
    """
    paths = [str(ROOT), str(Path(hotbed.__file__).parents[1])]
    order = json.dumps({"world": _name(world), "ask": _name(ask), "arguments": arguments})
    done = subprocess.run(
        [sys.executable, "-c", "from tests.isolation import host; host.main()", order],
        env={**os.environ, **(env or {}), "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, f"the host ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def _name(function: Callable[..., Any]) -> list[str]:
    return [function.__module__, function.__qualname__]


def main() -> None:
    """In the new interpreter: change the world, then ask and print the answer."""
    order = json.loads(sys.argv[1])
    _function(*order["world"])()
    print(json.dumps(_function(*order["ask"])(**order["arguments"])))


def _function(module: str, name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
