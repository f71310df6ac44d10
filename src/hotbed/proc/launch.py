"""Starts the launcher, an engine's one direct child, and through it templates and interpreters."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from typing import Any

import msgspec

from hotbed.errors import EngineError
from hotbed.proc.control import Control
from hotbed.proc.places import seed_directory

TRIAL_S = 10.0  # for a trial to report; one takes a few milliseconds
LAUNCHER_END_S = 5.0  # it kills and reaps everything below it, and waits at most 1 s for that

# Variables of the host that a process for strangers' code starts with; none can hold a secret.
ALLOWED = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"}
    | {"LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    | {f"{library}_NUM_THREADS" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
)


def guest_variables() -> dict[str, str]:
    """The host's variables that strangers' code starts with."""
    return {name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith("LC_")}


class Trial(msgspec.Struct):
    """What became of a trial: the mechanisms that were applied, or the step that failed."""

    isolation: tuple[str, ...] = ()
    error: str = ""
    fault: str = ""


_trials = msgspec.json.Decoder(Trial)


class Launcher:
    """The root of the engine's processes; started when it is made."""

    def __init__(self, executable: str, remove: list[str], groups: list[str]) -> None:
        """`remove` names what the launcher deletes when the engine has ended; `groups` its cgroups."""
        self.control = Control()
        self._executable, self._remove, self._groups = executable, remove, groups
        engine_pidfd = os.pidfd_open(os.getpid())
        far = self.control.far_end.fileno()
        try:
            self._process = subprocess.Popen(
                [executable, "-I", "-S", seed_directory(), "launcher", str(far), str(engine_pidfd)],
                stdin=subprocess.DEVNULL,
                pass_fds=(far, engine_pidfd),
                env=guest_variables(),
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
        self.control.say({"remove": remove, "groups": groups})

    def start(
        self,
        process_id: int,
        role: str,
        executable: str,
        fds: list[int],
        *,
        env: dict[str, str],
        cwd: str,
        sandbox: dict[str, Any] | None,
        user: int | None,
    ) -> None:
        """Start an interpreter in a role, on descriptors (channel or control, stdout, stderr).

        `sandbox` is what seed/sandbox/enclosure.py takes, or None for a process like any other;
        such a one may change to an unprivileged `user`.

        Raises:
            OSError: If the launcher is gone.
        """
        order: dict[str, Any] = {
            "id": process_id,
            "argv": [executable, "-I", "-S", seed_directory(), role],
            "env": env,
            "cwd": "/" if sandbox is not None else cwd,
            "sandbox": sandbox,
            "user": user,
        }
        self.control.make(order, fds)

    def start_helper(self, process_id: int, role: str, fds: list[int]) -> None:
        """Start a process of ours that runs no code of the user's, in the launcher's interpreter.

        Raises:
            OSError: If the launcher is gone.
        """
        self.start(
            process_id, role, self._executable, fds, env=guest_variables(), cwd="/", sandbox=None, user=None
        )

    def try_tier(self, process_id: int, sandbox: dict[str, Any] | None, profile: dict[str, Any]) -> Trial:
        """Try a tier on this host, in processes that are thrown away.

        Raises:
            EngineError: If the launcher does not answer.
        """
        reader, writer = os.pipe()
        try:
            order = {"id": process_id, "sandbox": sandbox, "profile": profile}
            try:
                self.control.make(order, [writer])
            finally:
                os.close(writer)
            said = bytearray()
            poll = select.poll()
            poll.register(reader, select.POLLIN)
            while poll.poll(TRIAL_S * 1000.0) and (data := os.read(reader, 65536)):
                said += data
        except OSError as error:
            raise EngineError(f"the launcher is gone: {error}; try again") from error
        finally:
            os.close(reader)
        if not said:
            return Trial(error="it was killed")
        trial = _trials.decode(said)
        if trial.fault:  # must not pass for a host that allows less
            raise EngineError(f"a trial of the sandbox failed by an error of hotbed's: {trial.fault}")
        return trial

    def again(self) -> Launcher:
        """Another one like it, for when this one was killed."""
        return Launcher(self._executable, self._remove, self._groups)

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
