"""The options that `run` and `call` share, at both doors, in one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import msgspec

from hotbed.model import Environment, Limits, Mode

Isolation = Literal["auto", "strict", "none"]
ModeName = Literal["fresh", "worker", "oneshot"]
Listener = Callable[[str], object]


class Default:
    """Stands for "as the engine was made": None means no limit."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = Default()


class Options(msgspec.Struct, frozen=True):
    """One execution's options as the caller gave them; `Engine.run` says what each means."""

    mode: Mode | ModeName
    environment: Environment | None
    isolation: Isolation | None
    env: Mapping[str, str] | None
    seed: int | None
    limits: Limits | None
    timeout: float | Default | None
    queue_timeout: float | None
    on_stdout: Listener | None
    on_stderr: Listener | None
    id: str | None
