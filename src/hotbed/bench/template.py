"""How a raw template is started: exactly as the engine starts its own, but for the last word."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hotbed.core.ids import EnvironmentId
from hotbed.engine.place import Place
from hotbed.model import Environment
from hotbed.proc.places import seed_directory

FLAGS = ("-I", "-S")  # as proc/launch.py has them
SCRIPT = Path(__file__).with_name("rawfork.py")


def raw_command(preload: Sequence[str], warmup: str = "") -> tuple[list[str], dict[str, str]]:
    """The command line and the variables of a template that only forks, for the user's own code."""
    environment = Environment(preload=list(preload), warmup=warmup)
    setup = Place(EnvironmentId(1), environment, None).setup(tuple(preload), "")
    argv = [sys.executable, *FLAGS, str(SCRIPT), seed_directory(), json.dumps(setup)]
    return argv, dict(os.environ)
