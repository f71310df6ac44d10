"""`hotbed ps`: asks every engine of this user what it has and does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hotbed.proc.memory import memory_of
from hotbed.proc.places import runtime_directory

ANSWER_S = 2.0  # an engine whose keeper does not answer by then is reported as silent


def show(*, as_json: bool) -> None:
    """Print all engines, as tables or as one JSON document."""
    engines = [with_memory(engine) for engine in find_engines()]
    if as_json:
        print(json.dumps({"engines": engines}, indent=2))
        return
    # A pipe has no width: 120 columns keep a table readable there.
    console = Console(width=None if sys.stdout.isatty() else 120)
    if not engines:
        console.print("No engine is running. A Python program that uses hotbed has one while it runs.")
    for engine in engines:
        _print_engine(console, engine)


def find_engines() -> list[dict[str, Any]]:
    """What each engine that listens in the runtime directory says of itself, oldest first."""
    directory = runtime_directory()
    found = []
    for name in sorted(os.listdir(directory)):
        if name.startswith("engine-") and name.endswith(".sock"):
            answer = ask(os.path.join(directory, name))
            if answer is not None:
                found.append(answer)
    return found


def ask(path: str) -> dict[str, Any] | None:
    """One engine's answer; None where nobody listens any more, and the stale socket is removed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(path)
            data = b""
            while chunk := client.recv(65536):
                data += chunk
            answer: dict[str, Any] = json.loads(data)
            return answer
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                os.unlink(path)
            return None
        except (OSError, ValueError) as error:
            return {"name": os.path.basename(path), "silent": str(error) or type(error).__name__}


def with_memory(engine: dict[str, Any]) -> dict[str, Any]:
    """Add each process's memory; measured here, so that no engine pays for being watched."""
    for environment in engine.get("environments", ()):
        for process in (*environment["templates"], *environment["children"]):
            memory = memory_of(process["pid"]) if process["pid"] else None
            process["private_bytes"] = memory.private if memory else None
            process["proportional_bytes"] = memory.proportional if memory else None
    return engine


def _print_engine(console: Console, engine: dict[str, Any]) -> None:
    if "silent" in engine:
        console.print(f"[bold]{escape(engine['name'])}[/bold] does not answer: {escape(engine['silent'])}")
        return
    console.print(
        f"[bold]{escape(engine['name'])}[/bold] (pid {engine['pid']})  "
        f"{engine['running']} of {engine['max_concurrency']} running, {engine['queued']} queued"
    )
    for environment in engine["environments"]:
        _print_environment(console, environment)
    console.print()


def _print_environment(console: Console, environment: dict[str, Any]) -> None:
    preloaded = ", ".join(environment["preloaded"]) or "nothing"
    code = "own code" if environment["code"] == "own" else "strangers' code"
    console.print(f"  environment {escape(environment['name'])} ({code}), preloaded: {escape(preloaded)}")
    if environment["reason"]:
        console.print(f"  [yellow]{escape(environment['reason'].splitlines()[0])}[/yellow]")
    table = Table(box=None, pad_edge=False, padding=(0, 2), header_style="dim")
    for name in ("", "process", "pid", "state", "served", "private", "PSS", "doing"):
        right = name in ("pid", "served", "private", "PSS")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "doing")
    for template in environment["templates"]:
        state = "ready" if template["ready"] else "starting"
        table.add_row("", "template", _text(template["pid"]), state, "", *_sizes(template), "")
    for child in environment["children"]:
        what = "worker" if child["mode"] == "worker" else "child"
        doing = f"{escape(child['doing'])}, for {child['for_s']:.1f} s" if "doing" in child else ""
        state = child["state"]
        if state == "standby":
            state = "idle" if what == "worker" else "rehearsed" if child["rehearsed"] else "waiting"
        elif state == "leased":
            state = "running"
        served = str(child["served"]) if what == "worker" else ""
        table.add_row("", what, _text(child["pid"]), state, served, *_sizes(child), doing)
    console.print(table)


def _sizes(process: dict[str, Any]) -> tuple[str, str]:
    return _megabytes(process["private_bytes"]), _megabytes(process["proportional_bytes"])


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e6:.1f} MB"


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
