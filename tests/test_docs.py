"""The documents say what the code does.

Every python block of README.md and docs/ runs, every relative link leads somewhere, every public name stands
somewhere in the documents as code. Two words after the fence's "python" change how a block is run:

    ```python no-run              shown only
    ```python file=provider.py    written to the working directory, for the blocks after it to use
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

ROOT = Path(__file__).resolve().parent.parent
MANUAL = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if path.exists()]
PAGES = sorted({*MANUAL, *ROOT.glob("*.md")})
EXAMPLES_LIMIT_S = 120.0

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_LINK = re.compile(
    r"\]\(\s*<?(?P<target>[^)\s>]+)[^)]*\)|^ *\[[^\]]+\]:\s*(?P<named>\S+)|(?:src|href)=\"(?P<html>[^\"]+)\""
)
_OUTSIDE = re.compile(r"^[a-z][a-z0-9+.-]*:|^//", re.IGNORECASE)
_CODE_SPAN = re.compile(r"(`+)(.+?)\1")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block; `line` is that of its first line of text, counted from 1."""

    info: tuple[str, ...]
    line: int
    lines: tuple[str, ...]


def blocks(text: str) -> Iterator[Block]:
    opened: re.Match[str] | None = None
    start, body = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        match = _FENCE.match(line)
        if opened is None:
            if match:
                opened, start, body = match, number + 1, []
        elif match and match["fence"].startswith(opened["fence"]) and not match["info"].strip():
            yield Block(tuple(opened["info"].split()), start, tuple(body))
            opened = None
        else:
            body.append(line.removeprefix(opened["indent"]))
    if opened is not None:
        raise ValueError(f"the block opened in line {start - 1} is never closed")


def without_blocks(text: str) -> str:
    """The prose alone, line numbers kept."""
    lines = text.splitlines()
    for block in blocks(text):
        for index in range(block.line - 2, block.line + len(block.lines)):
            lines[index] = ""
    return "\n".join(lines)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# ── examples run ──


def examples(path: Path) -> list[Block]:
    found = [block for block in blocks(path.read_text()) if block.info[:1] == ("python",)]
    return [block for block in found if "no-run" not in block.info]


@pytest.mark.parametrize("path", [path for path in MANUAL if examples(path)], ids=name)
def test_every_example_runs(path: Path, tmp_path: Path) -> None:
    program: list[str] = []
    for block in examples(path):
        files = [word.removeprefix("file=") for word in block.info if word.startswith("file=")]
        if files:
            (tmp_path / files[0]).write_text("\n".join(block.lines) + "\n")
        else:
            # Padded, so that a traceback names the line of the document.
            program += [""] * (block.line - 1 - len(program)) + list(block.lines)
    script = tmp_path / f"{path.stem.replace('-', '_').lower()}_md.py"
    script.write_text("\n".join(program) + "\n")
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=EXAMPLES_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"the examples of {name(path)} (same line numbers) failed:\n{done.stdout}"


# ── links lead somewhere ──


def anchors(path: Path) -> set[str]:
    """The fragments GitHub gives to the headings of a page, and explicit ids."""
    found = set[str]()
    for line in without_blocks(path.read_text()).splitlines():
        if heading := re.match(r"#{1,6}\s+(.*?)\s*#*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(
                slug
                if slug not in found
                else next(s for n in range(1, 99) if (s := f"{slug}-{n}") not in found)
            )
        found |= set(re.findall(r"(?:id|name)=\"([^\"]+)\"", line))
    return found


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    dead = []
    for number, line in enumerate(without_blocks(path.read_text()).splitlines(), 1):
        for match in _LINK.finditer(_CODE_SPAN.sub("", line)):
            target = match["target"] or match["named"] or match["html"]
            if _OUTSIDE.match(target):
                continue
            file, _, fragment = target.partition("#")
            leads_to = (path.parent / file) if file else path
            if not leads_to.exists():
                dead.append(f"{name(path)}:{number}: {target}: no such file")
            elif fragment and leads_to.suffix == ".md" and fragment not in anchors(leads_to):
                dead.append(f"{name(path)}:{number}: {target}: no such heading")
    assert not dead, "\n" + "\n".join(dead)


# ── every name is documented ──


def documented() -> str:
    """Everything the manual shows as code: blocks and code spans, one a line."""
    shown: list[str] = []
    for path in MANUAL:
        text = path.read_text()
        shown += (line for block in blocks(text) for line in block.lines)
        shown += (match[2] for match in _CODE_SPAN.finditer(without_blocks(text)))
    return "\n".join(shown)


DOCUMENTED = documented()


def module(dotted: str) -> ModuleType | None:
    """The module, or None where it does not exist; one that fails to import is an error."""
    parts = dotted.split(".")
    for depth in range(1, len(parts) + 1):
        if importlib.util.find_spec(".".join(parts[:depth])) is None:
            return None
    return importlib.import_module(dotted)


def public_names() -> list[str]:
    return sorted(getattr(module("hotbed"), "__all__", ()))


def error_classes() -> list[str]:
    found = vars(module("hotbed.errors") or ModuleType("none")).items()
    return sorted(
        key
        for key, value in found
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == "hotbed.errors"
    )


def settings() -> list[str]:
    """Every field of the classes of hotbed.config, with its section where it has one: "pool.max_workers"."""
    config = module("hotbed.config")
    classes = [
        value
        for value in vars(config or ModuleType("none")).values()
        if isinstance(value, type)
        and value.__module__ == "hotbed.config"
        and not value.__name__.startswith("_")
    ]
    fields = {cls: field_types(cls) for cls in classes}
    prefix = {kind: f"{key}." for types in fields.values() for key, kind in types.items() if kind in fields}
    return sorted(
        prefix.get(cls, "") + key
        for cls, types in fields.items()
        for key, kind in types.items()
        if kind not in fields and not key.startswith("_")
    )


def field_types(cls: type) -> dict[str, object]:
    """Field name to type of a dataclass or msgspec.Struct; nothing for any other class."""
    info = (
        msgspec.inspect.type_info(cls)
        if hasattr(cls, "__dataclass_fields__") or issubclass(cls, msgspec.Struct)
        else None
    )
    if not isinstance(info, msgspec.inspect.DataclassType | msgspec.inspect.StructType):
        return {}
    return {field.name: getattr(field.type, "cls", None) for field in info.fields}


def commands() -> list[str]:
    """Every command line a user can start with: "hotbed env build"."""
    main = module("hotbed.cli.commands")
    if main is None:
        return []
    typer = importlib.import_module("typer.main")

    def walk(command: object, words: str) -> Iterator[str]:
        below = getattr(command, "commands", None)
        if below is None:
            yield words
            return
        for key, child in below.items():
            if not child.hidden:
                yield from walk(child, f"{words} {key}")

    return sorted(walk(typer.get_command(main.app), "hotbed"))


@pytest.mark.parametrize(
    "word",
    [
        *(pytest.param(word, id=f"name-{word}") for word in public_names()),
        *(pytest.param(word, id=f"error-{word}") for word in error_classes()),
        *(pytest.param(word, id=f"setting-{word}") for word in settings()),
        *(pytest.param(word, id=f"command-{word.replace(' ', '-')}") for word in commands()),
    ],
)
def test_every_public_name_is_documented(word: str) -> None:
    if not re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-])", DOCUMENTED):
        pytest.fail(
            f"`{word}` stands nowhere in README.md or docs/ as code; say what it is for", pytrace=False
        )
