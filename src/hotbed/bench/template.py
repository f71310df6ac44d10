"""How a raw template is started: exactly as the engine starts its own, but for the last word."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hotbed.core.ids import EnvironmentId
from hotbed.engine import confinement
from hotbed.engine.confinement import Confinement
from hotbed.engine.place import Place
from hotbed.isolation import Tier
from hotbed.model import Environment
from hotbed.proc.places import seed_directory

FLAGS = ("-I", "-S")  # as proc/launch.py has them
SCRIPT = Path(__file__).with_name("rawfork.py")


def raw_command(
    preload: Sequence[str], warmup: str = "", steps: Sequence[str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """The command line and the variables of a template that only forks.

    For the user's own code, or with `steps` in the full sandbox: those that each child takes.
    """
    environment = Environment(preload=list(preload), warmup=warmup)
    held = None if steps is None else Confinement()
    place = Place(EnvironmentId(1), environment, held, None if steps is None else Tier.FULL)
    argv = [sys.executable, *FLAGS, str(SCRIPT), seed_directory()]
    argv.append(json.dumps(place.setup(tuple(preload), "")))
    if held is not None and steps is not None:
        spec = confinement.enclosure(environment, held, Tier.FULL)
        argv += [json.dumps(spec), ",".join(steps)]
    return argv, dict(os.environ)
