"""An execution that runs beside every case: what happens to it is what happens to other tenants."""

from __future__ import annotations

import secrets
import threading
from typing import Any

from hotbed.attack.case import describe
from hotbed.engine.engine import Engine
from hotbed.errors import EngineError
from hotbed.model import Limits, Result

START_S = 30.0
_ID = "attack-neighbour"
_PROGRAM = """
import contextlib, os, socket, tempfile, time
kept = secret * 100
places = [".", tempfile.gettempdir(), os.path.expanduser("~"), "/dev/shm"]
files = [f"{place}/hotbed-attack-neighbour" for place in places]
files = files if whole else files[:1]
for path in files:
    with open(path, "w") as file:
        file.write(secret)
with contextlib.suppress(OSError):  # where others could reach them, there are no sockets
    stream, datagram = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stream.bind(abstract)
    stream.listen()
    datagram.bind(abstract + "-datagram")
print(*map(os.path.abspath, files), sep="\\n", flush=True)
print("ready", flush=True)
time.sleep(1e6)
"""


class Neighbour:
    """Started when it is made; `told` is what cases know of it."""

    def __init__(self, engine: Engine, *, whole: bool = True) -> None:
        self.secret = secrets.token_hex(16)
        self._engine, self._whole = engine, whole
        self._abstract = f"\0hotbed-attack-{secrets.token_hex(4)}"
        self.told: dict[str, Any] = {}
        self._start()

    def _start(self) -> None:
        self._result: Result | None = None
        self._printed = ""
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="attack-neighbour", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_S) or self._result is not None:
            ended = describe(self._result) if self._result is not None else "waiting"
            raise EngineError(f"the neighbour of the attacked does not start: {ended}")
        files = self._printed.split()[:-1]
        self.told = {"files": files, "abstract": self._abstract}

    def _run(self) -> None:
        inputs = {"secret": self.secret, "abstract": self._abstract, "whole": self._whole}
        self._result = self._engine.run(
            _PROGRAM, inputs=inputs, limits=Limits(timeout=None), on_stdout=self._hear, id=_ID
        )
        self._ready.set()

    def _hear(self, text: str) -> None:
        self._printed += text
        if "ready" in self._printed:
            self._ready.set()

    def fault(self) -> str:
        """What became of it; "" if it runs. If it ended, it is started anew."""
        if self._thread.is_alive():
            return ""
        ended = self._result
        self._start()
        return f"the neighbour ended: {describe(ended) if ended is not None else 'unknown'}"

    def close(self) -> None:
        """End it."""
        self._engine.cancel(_ID)
        self._thread.join()
