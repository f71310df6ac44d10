"""The demonstration shows what it says, in the width of a terminal."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MISSING = [name for name in ("pandas", "vega_datasets") if find_spec(name) is None]
LIMIT_S = 120.0
COLUMNS = 100

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(MISSING), reason=f"needs {', '.join(MISSING)}; install with: pip install 'hotbed[demo]'"
    ),
]


def test_the_demo_finds_all_outputs_equal_and_no_state_left() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "demo: all outputs equal, no state left"
    assert max(map(len, lines)) <= COLUMNS
