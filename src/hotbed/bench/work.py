"""The functions that entrants call: importable, so that any kind of pool can name them.

It is also the user's file of hotbed's own calls, and so imports nothing at the top.
"""

from __future__ import annotations

from typing import Any


def add(a: int, b: int) -> int:
    """The smallest work there is."""
    return a + b


def add_to(connection: Any, a: int, b: int) -> None:
    """`add` for a process of its own: the sum leaves through a multiprocessing connection."""
    connection.send(a + b)
    connection.close()


def standardise(array: Any) -> Any:
    """Each column to mean 0 and deviation 1: what a model does to its input first."""
    return (array - array.mean(0)) / array.std(0)


def double(array: Any) -> Any:
    """The least one can do to an array and still return a new one."""
    return array * 2


def call_api(prompt: str, options: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """A provider as promptfoo knows it, without the model behind it."""
    text = prompt.format_map(context["vars"])
    words = text.split()
    return {
        "output": f"{options['config']['prefix']}{text.upper()}",
        "tokenUsage": {"total": 2 * len(words), "prompt": len(words), "completion": len(words)},
        "cost": round(len(words) * options["config"]["price"], 6),
    }
