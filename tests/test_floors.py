"""Imports go downward only.

A package stands on a floor and imports from lower floors and from itself. Imports inside functions and under
TYPE_CHECKING count: a name one knows is a name one depends on. The seed stands on nothing but the standard
library, since it runs in interpreters where nothing of ours is installed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src"

# The first path component under hotbed/ decides.
FLOORS = {
    "seed": 0,
    **dict.fromkeys(("model", "errors", "config", "clock", "version", "isolation"), 1),
    "core": 2,
    **dict.fromkeys(("proc", "env"), 3),
    **dict.fromkeys(("engine", "observe"), 4),
    **dict.fromkeys(("__main__", "cli", "http", "stdio", "mcp", "promptfoo", "n8n", "adapters"), 5),
    **dict.fromkeys(("cluster", "bench", "attack"), 5),
}
WORDS = 1  # its modules are one vocabulary and may know each other
DOORS = 5
DOORMAN = "cli"  # its commands open the other doors

# The core decides: whoever reads a clock, a lock, a process or a file acts.
CLOCKS = {"time"}
LOCKS = {"asyncio", "threading"}
SYSTEM = {"multiprocessing", "os", "select", "selectors", "signal", "socket", "subprocess"}
IMPURE = CLOCKS | LOCKS | SYSTEM


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module or name, dotted and absolute ("hotbed.core.plan")."""

    name: str
    line: int
    relative: bool
    lazy: bool  # inside a function or under TYPE_CHECKING


def imports(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[Import]:
    package = module if is_package else module.rpartition(".")[0]

    def visit(node: ast.AST, lazy: bool) -> Iterator[Import]:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield Import(alias.name, node.lineno, relative=False, lazy=lazy)
            case ast.ImportFrom(module=source, names=names, level=level):
                parts = package.split(".")
                base = (
                    ".".join([*parts[: len(parts) - level + 1], *filter(None, [source])]) if level else source
                )
                for alias in names:
                    yield Import(f"{base}.{alias.name}", node.lineno, relative=level > 0, lazy=lazy)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                lazy = True
            case ast.If(test=test) if "TYPE_CHECKING" in ast.unparse(test):
                lazy = True
        for child in ast.iter_child_nodes(node):
            yield from visit(child, lazy)

    return visit(tree, False)


def broken_rule(path: str, found: Import) -> str | None:
    """The rule that `found` breaks in the file at `path` (below src/), or None."""
    own = component(path)
    name = found.name.split(".")
    if own == "seed":
        if found.relative:
            return (
                None
                if name[:2] == ["hotbed", "seed"]
                else "the seed imports nothing of ours from outside seed/"
            )
        if name[0] in sys.stdlib_module_names:
            return None
        return "the seed imports the standard library and, by relative imports, itself"
    if own == "core" and name[0] in IMPURE:
        return f"the core is pure and does not import {name[0]}"
    if name[0] != "hotbed":
        return None
    target = name[1] if len(name) > 1 else "__init__"
    if own == "__init__":
        if found.lazy or FLOORS.get(target, DOORS) <= WORDS:
            return None
        return "`import hotbed` stays light: it imports the words at once and the rest inside a function"
    if own not in FLOORS:
        return f"{own!r} stands on no floor; add it to FLOORS"
    if target == own:
        return None
    if target not in FLOORS:
        return f"{target!r} stands on no floor: name the module that has it, not the package hotbed"
    here, there = FLOORS[own], FLOORS[target]
    if there < here or here == there == WORDS or (own == DOORMAN and there == DOORS):
        return None
    if there == here:
        return f"{own} and {target} share floor {here} and do not know each other"
    return f"{own} (floor {here}) imports {target} (floor {there}): imports go downward only"


def component(path: str) -> str:
    """The package or module directly under hotbed/ that a file belongs to."""
    return Path(path).parts[1].removesuffix(".py")


def violations(path: str, source: str) -> list[str]:
    """All broken rules of one file, as `file:line: rule`."""
    parts = Path(path).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    module = ".".join(parts[:-1] if is_package else parts)
    return [
        f"src/{path}:{found.line}: {rule} ({found.name})"
        for found in imports(ast.parse(source), module, is_package=is_package)
        if (rule := broken_rule(path, found))
    ]


FILES = [str(path.relative_to(SOURCE)) for path in sorted((SOURCE / "hotbed").rglob("*.py"))]


@pytest.mark.parametrize("path", FILES)
def test_imports_go_downward_only(path: str) -> None:
    found = violations(path, (SOURCE / path).read_text())
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("hotbed/seed/child.py", "import msgspec"),
        ("hotbed/seed/child.py", "from .. import model"),
        ("hotbed/seed/child.py", "import hotbed.seed.wire"),
        ("hotbed/model.py", "from hotbed.core import plan"),
        ("hotbed/core/plan.py", "import time"),
        ("hotbed/core/plan.py", "def f():\n    from os import path"),
        ("hotbed/core/plan.py", "from ..proc import launch"),
        ("hotbed/proc/launch.py", "import hotbed.env.store"),
        ("hotbed/engine/keeper.py", "from .. import observe"),
        ("hotbed/observe/metrics.py", "if TYPE_CHECKING:\n    from hotbed.engine import Engine"),
        ("hotbed/http/server.py", "from hotbed.mcp import server"),
        ("hotbed/engine/keeper.py", "from hotbed import Engine"),
        ("hotbed/engine/keeper.py", "import hotbed"),
        ("hotbed/__init__.py", "from hotbed.engine import Engine"),
        ("hotbed/shed/tool.py", "import hotbed.model"),
    ],
)
def test_an_upward_import_is_found(path: str, source: str) -> None:
    assert len(violations(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("hotbed/seed/child.py", "import os\nfrom . import wire\nfrom .wire import send"),
        ("hotbed/seed/__init__.py", "from .wire import send"),
        ("hotbed/model.py", "import msgspec\nfrom hotbed.errors import HotbedError"),
        ("hotbed/core/plan.py", "from . import queue\nfrom ..model import Limits\nfrom .. import errors"),
        (
            "hotbed/engine/keeper.py",
            "import time\nfrom hotbed.core import plan\nfrom ..proc.launch import start",
        ),
        ("hotbed/cli/serve.py", "def serve():\n    from hotbed.http.server import Server"),
        ("hotbed/__init__.py", "from .errors import HotbedError\ndef f():\n    from .engine import Engine"),
    ],
)
def test_a_downward_import_is_allowed(path: str, source: str) -> None:
    assert violations(path, source) == []
