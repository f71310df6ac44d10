"""What an engine tells about itself: to its owner as data, to `hotbed ps` over a socket.

Law: it tells what runs, never with which values.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from hotbed.engine.dispatcher import Dispatcher
from hotbed.proc.places import runtime_directory

_serial = itertools.count(1)
SEND_BUFFER = 4 * 1024 * 1024  # bytes; a snapshot of thousands of processes goes out at once


class StatusSocket:
    """Listens in the user's runtime directory; whoever connects reads one JSON document."""

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self.path = os.path.join(runtime_directory(), f"engine-{os.getpid()}-{next(_serial)}.sock")
        self._snapshot = snapshot
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)  # of an engine that had our pid before us
        self._socket.bind(self.path)
        os.chmod(self.path, 0o600)
        self._socket.listen(16)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def answer(self) -> None:
        """Serve one client; never blocks."""
        try:
            client, _address = self._socket.accept()
        except OSError:
            return
        with client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
            client.setblocking(False)
            with contextlib.suppress(OSError):
                client.sendall(json.dumps(self._snapshot()).encode())

    def disown(self) -> None:
        """Close it without removing the file, which is the parent's."""
        self._socket.close()

    def close(self) -> None:
        """Stop listening and remove the file."""
        self._socket.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def snapshot(dispatcher: Dispatcher, name: str) -> dict[str, Any]:
    """The engine as a JSON-compatible dict; ages in seconds."""
    now = time.monotonic()
    with dispatcher.lock:
        plan = dispatcher.plan
        doing = {
            job.lease.child: {
                "id": job.id,
                "doing": job.request.label,
                "for_s": round(now - job.leased_at, 3),
            }
            for job in dispatcher.jobs.values()
            if job.lease is not None
        }
        environments = []
        for shelf in plan.shelves.values():
            place = dispatcher.places[shelf.id]
            environments.append(
                {
                    "name": place.environment.name,
                    "executable": place.environment.executable,
                    "code": "own" if place.own else "guest",
                    "template": shelf.template.value if shelf.forks else "none",
                    "reason": shelf.reason,
                    "preloaded": list(shelf.loaded if shelf.forks else shelf.wanted_preload()),
                    "templates": [
                        {"pid": template.pid, "generation": template.generation, "ready": template.ready}
                        for template in list(place.templates.values())
                    ],
                    "children": [
                        {
                            "child": child.id,
                            "pid": link.pid if (link := dispatcher.links.get(child.id)) else None,
                            "mode": str(child.mode),
                            "state": child.state.value,
                            "rehearsed": child.rehearsed,
                            "served": child.served,
                            "age_s": round(now - child.born, 3),
                            **doing.get(child.id, {}),
                        }
                        for child in plan.children.values()
                        if child.environment == shelf.id
                    ],
                }
            )
        return {
            "name": name,
            "pid": os.getpid(),
            "launcher_pid": dispatcher.launcher.pid,
            "queued": plan.queued,
            "running": plan.running,
            "max_concurrency": plan.pool.max_concurrency,
            "environments": environments,
        }
