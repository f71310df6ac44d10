"""A template of hotbed's own making that does nothing but fork: the floor under every fresh child.

Run as a script, with the interpreter flags and variables that a real template gets. It loads
the real seed and becomes the real template, so what is forked has the same size; then each
"call" is fork, _exit in the child, wait4 in the parent, timed here.

    python -I -S rawfork.py SEED_DIRECTORY SETUP_AS_JSON
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import types

PACKAGE = "_hotbed_seed"  # the name under which the seed's modules know each other


def main() -> None:
    """Become the template, then fork on order until the input ends."""
    here = os.path.dirname(os.path.abspath(__file__))
    seed, setup = sys.argv[1], json.loads(sys.argv[2])
    bench = types.ModuleType("_hotbed_bench")
    bench.__path__ = [here]
    package = types.ModuleType(PACKAGE)
    package.__path__ = [seed]
    sys.modules |= {"_hotbed_bench": bench, PACKAGE: package}
    loop = importlib.import_module("_hotbed_bench.loop")
    importlib.import_module(f"{PACKAGE}.template")  # with all that it imports
    bootstrap = importlib.import_module(f"{PACKAGE}.bootstrap")
    child = importlib.import_module(f"{PACKAGE}.child")
    line = loop.Line()
    try:
        ready = bootstrap.Setup.of(setup)
        bootstrap.become(ready)
        child.prepare(ready)
    except BaseException as error:  # the border of this process: told to the parent
        loop.fail(line, error)
    loop.serve(line, loop.Subject(fork))


def fork() -> None:
    """One child from its birth to its reaping."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.wait4(pid, 0)


if __name__ == "__main__":
    main()
