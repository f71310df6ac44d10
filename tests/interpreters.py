"""The other CPython interpreters of this machine, found by name and tried before use."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.10", "3.11", "3.12", "3.13")

# -I -S: what is asked is the bare interpreter, whatever site or PYTHON* variables would make of it.
_WHO = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2], sys.executable, sep='\\n')"


def _pyenv_root() -> Path | None:
    if root := os.environ.get("PYENV_ROOT"):
        return Path(root)
    if pyenv := shutil.which("pyenv"):
        answer = subprocess.run([pyenv, "root"], capture_output=True, text=True, timeout=20, check=False)
        return Path(answer.stdout.strip()) if answer.returncode == 0 else None
    home = os.environ.get("HOME")
    return Path(home, ".pyenv") if home else None


def _candidates(version: str) -> Iterator[Path]:
    name = f"python{version}"
    for directory in os.get_exec_path():
        yield Path(directory, name)
    if root := _pyenv_root():
        yield from sorted(root.glob(f"versions/{version}.*/bin/{name}"), reverse=True)


@functools.cache
def find(version: str) -> Path | None:
    """The executable of CPython `version` ("3.12"), or None if there is none that runs.

    Trying is the only test: a pyenv shim lies on PATH for each version installed and fails for those not
    selected. The path given back is the interpreter's own, not a shim's.
    """
    for candidate in _candidates(version):
        if not os.access(candidate, os.X_OK):
            continue
        try:
            answer = subprocess.run(
                [candidate, "-I", "-S", "-c", _WHO], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0 and answer.stdout.splitlines()[:2] == ["cpython", version]:
            return Path(answer.stdout.splitlines()[2])
    return None


def how_to_install(version: str) -> str:
    """The reason of a skipped test: what is missing and the command that brings it."""
    return f"no CPython {version}; install it with: pyenv install {version}"
