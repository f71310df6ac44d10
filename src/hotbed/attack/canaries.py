"""What stands on the host to be attacked: files, sockets, a variable, a process.

All of it is made for the purpose, so a case that escapes harms nothing. The attacked are told where
it is, never what the secret says: a secret that comes back was read.
"""

from __future__ import annotations

import contextlib
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import Any

VARIABLE = "HOTBED_ATTACK_SECRET"
TEXT = "this must not change\n"
_VICTIM = "import sys; sys.stdin.read()"  # until this process is gone, however it goes


class Canaries:
    """Made on the host before an engine is; ask `harm` after each case."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self._mark = f"hotbed-attack-victim-{secrets.token_hex(4)}"
        self._close = contextlib.ExitStack()
        os.environ[VARIABLE] = self.secret
        self._close.callback(os.environ.pop, VARIABLE, None)
        self._directory = tempfile.mkdtemp(prefix="hotbed-attack-")
        self._close.callback(shutil.rmtree, self._directory, ignore_errors=True)
        os.chmod(self._directory, 0o777)  # open to everybody: what keeps others out is the sandbox
        self._secret_file = self._write("secret", self.secret, 0o644)
        self._open_file = self._write("open", TEXT, 0o666)
        self._listeners = {
            "tcp": self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
            "udp": self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
            "socket": self._listen(socket.AF_UNIX, socket.SOCK_STREAM, f"{self._directory}/socket"),
            "abstract": self._listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{self._mark}"),
        }
        os.chmod(f"{self._directory}/socket", 0o777)
        self._victim = self._start_victim()
        self._close.callback(self._end_victim)
        self._before = self._facts()

    def _write(self, name: str, text: str, mode: int) -> str:
        path = f"{self._directory}/{name}"
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, mode)
        return path

    def _listen(self, family: int, kind: int, address: Any) -> socket.socket:
        listener = self._close.enter_context(socket.socket(family, kind))
        listener.bind(address)
        if kind == socket.SOCK_STREAM:
            listener.listen()
        listener.setblocking(False)
        return listener

    def _start_victim(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", "-S", "-c", _VICTIM, self._mark]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    def _end_victim(self) -> None:
        self._victim.kill()
        self._victim.communicate()

    def told(self) -> dict[str, Any]:
        """Where everything is: what cases know as `host`."""
        return {
            "directory": self._directory,
            "secret_file": self._secret_file,
            "open_file": self._open_file,
            "secret_variable": VARIABLE,
            "victim": self._victim.pid,
            "victim_mark": self._mark,
            "tcp_port": self._listeners["tcp"].getsockname()[1],
            "udp_port": self._listeners["udp"].getsockname()[1],
            "socket": f"{self._directory}/socket",
            "abstract": f"\0{self._mark}",
        }

    def _facts(self) -> dict[str, Any]:
        """Everything that a case might change, as it is now."""
        facts: dict[str, Any] = {
            "names": sorted(os.listdir(self._directory)),
            "host name": os.uname().nodename,
        }
        for path in (self._secret_file, self._open_file):
            with contextlib.suppress(OSError):
                status = os.stat(path)
                facts[f"mode, owner and time of {path}"] = (status.st_mode, status.st_uid, status.st_mtime_ns)
                with open(path) as file:
                    facts[f"text of {path}"] = file.read()
        pid = self._victim.pid
        facts["victim alive"] = self._victim.poll() is None
        with contextlib.suppress(OSError):
            facts["victim's nice value"] = os.getpriority(os.PRIO_PROCESS, pid)
            facts["victim's cores"] = os.sched_getaffinity(pid)
            facts["victim's scheduling"] = os.sched_getscheduler(pid)
            facts["victim's limit"] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            with open(f"/proc/{pid}/stat") as file:
                facts["victim stopped"] = file.read().rpartition(")")[2].split()[0] in "Tt"
        return facts

    def harm(self) -> str:
        """What is no longer as it was made; "" if all is. Mends it, so that one escape is one failure."""
        found = [f"{name} reached" for name, listener in self._listeners.items() if _reached(listener)]
        now = self._facts()
        found += [
            f"{what} is {now.get(what)!r}" for what, was in self._before.items() if now.get(what) != was
        ]
        if found:
            self._mend()
        return ", ".join(found)

    def _mend(self) -> None:
        for name in set(os.listdir(self._directory)) - {"secret", "open", "socket"}:
            path = f"{self._directory}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)
        self._write("secret", self.secret, 0o644)
        self._write("open", TEXT, 0o666)
        with contextlib.suppress(ProcessLookupError):
            self._victim.send_signal(signal.SIGCONT)
        self._end_victim()
        self._victim = self._start_victim()
        self._before = self._facts()

    def close(self) -> None:
        """Remove everything."""
        self._close.close()


def _reached(listener: socket.socket) -> bool:
    """Whether somebody connected to it or sent it something since the last time."""
    reached = False
    with contextlib.suppress(BlockingIOError):
        while True:
            if listener.type == socket.SOCK_STREAM:
                listener.accept()[0].close()
            else:
                listener.recv(1000)
            reached = True
    return reached
