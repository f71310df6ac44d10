"""A host that runs out of something: typed errors while it lasts, service as before when it is over."""

from __future__ import annotations

import subprocess
import sys

HOST = """
import os, resource
import hotbed

taken = [os.dup(0) for _ in range(32)]  # every number below the limit to come: nobody gets one of these back
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
with hotbed.Engine() as engine:
    engine.warm()
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[-1], hard))
    said = []
    for _ in range(4):  # two find a standby child, the others none
        try:
            said.append(engine.run("40 + 2").value)
        except hotbed.EngineError as error:
            said.append("ulimit -n" in str(error))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for fd in taken:
        os.close(fd)
    print(*said, engine.run("40 + 2").value)
"""


def test_a_host_without_descriptors_is_told_and_served_again_when_it_has_some() -> None:
    done = subprocess.run([sys.executable, "-c", HOST], capture_output=True, text=True, timeout=60)

    assert (done.stdout, done.stderr) == ("42 42 True True 42\n", "")
