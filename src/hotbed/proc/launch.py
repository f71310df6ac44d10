"""Starts the launcher, an engine's one direct child, and through it templates and interpreters."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from hotbed.errors import EngineError
from hotbed.proc.control import Control
from hotbed.proc.places import seed_directory

LAUNCHER_END_S = 5.0  # it kills and reaps everything below it, and waits at most 1 s for that

# Variables of the host that a process for strangers' code starts with; none can hold a secret.
ALLOWED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"}
    | {"LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
)


def host_variables(*, own: bool) -> dict[str, str]:
    """The variables that a process starts with: all of the host's for own code, else few."""
    if own:
        return dict(os.environ)
    return {name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith("LC_")}


class Launcher:
    """The root of the engine's processes; started when it is made."""

    def __init__(self, executable: str, remove: list[str]) -> None:
        """`remove` names what the launcher deletes when the engine has ended."""
        self.control = Control()
        self._executable, self._remove = executable, remove
        engine_pidfd = os.pidfd_open(os.getpid())
        far = self.control.far_end.fileno()
        try:
            self._process = subprocess.Popen(
                [executable, "-I", "-S", seed_directory(), "launcher", str(far), str(engine_pidfd)],
                stdin=subprocess.DEVNULL,
                pass_fds=(far, engine_pidfd),
                env=host_variables(own=False),
                cwd="/",
                start_new_session=True,  # Ctrl-C in the host's terminal is the host's affair
            )
        except OSError as error:
            self.control.close()
            raise EngineError(f"cannot start {executable!r}: {error}") from error
        finally:
            os.close(engine_pidfd)
            self.control.far_end.close()
        self.pid = self._process.pid
        self.control.say({"remove": remove})

    def start(
        self, process_id: int, role: str, executable: str, fds: list[int], *, own: bool, cwd: str
    ) -> None:
        """Start an interpreter in a role, on descriptors (channel or control, stdout, stderr).

        Raises:
            OSError: If the launcher is gone.
        """
        order: dict[str, Any] = {
            "id": process_id,
            "argv": [executable, "-I", "-S", seed_directory(), role],
            "env": host_variables(own=own),
            "cwd": cwd,
        }
        self.control.make(order, fds)

    def again(self) -> Launcher:
        """Another one like it, for when this one was killed."""
        return Launcher(self._executable, self._remove)

    def close(self) -> None:
        """End everything below the launcher, then itself; returns when it is gone."""
        self.control.close()
        try:
            self._process.wait(LAUNCHER_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def disown(self) -> None:
        """Let go without ending it: this process is a fork of the engine's host."""
        self.control.close()
        self._process.returncode = 0  # not ours to wait for


def default_executable() -> str:
    """The interpreter for the launcher: this one."""
    if not sys.executable:
        raise EngineError("sys.executable is empty; an embedding host must name an interpreter")
    return sys.executable
