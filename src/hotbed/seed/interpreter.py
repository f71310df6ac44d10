"""One interpreter without a template: started ahead and used once, or a persistent worker.

The way where fork is not to be had: a preloaded package started threads that would not
survive one, or forking is switched off.
"""

from __future__ import annotations

import os

from . import bootstrap, child, kernel, wire
from .launcher import CHANNEL_FD, ENGINE_FD


def main() -> None:
    """Set up as the channel's first frame says, then live as a child."""
    kernel.set_name("hotbed-python")
    os.close(ENGINE_FD)
    channel = wire.Channel(CHANNEL_FD)
    frame = channel.receive()
    if frame is None:
        return
    message = wire.decode(frame.meta)
    setup = bootstrap.Setup.of(message["setup"])
    try:
        sandbox = bootstrap.confine(setup, None)
        child.enter(setup, sandbox, message["order"]["id"])
        report = bootstrap.become(setup)
        child.prepare(setup, sandbox)
    except (bootstrap.BrokenError, OSError) as error:
        channel.send(wire.BROKEN, wire.encode({"error": str(error)}))
        return
    end = os._exit  # user code may replace the module's
    try:
        child.live(channel, {**message["order"], "directories": report["directories"]})
    finally:
        end(70)
