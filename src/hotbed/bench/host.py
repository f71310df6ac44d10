"""The process around one ordinary entrant: opens it, measures it, closes it.

Each entrant has a process to itself, so that a peer which forks its caller finds a small one
with one thread, and no entrant's threads, garbage or crash reaches another's times. It is
started with `-c`: a `__main__` without a file spares multiprocessing's children the import of
their parent's main module, which is the best a peer can get.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import traceback

from hotbed.bench import loop

COMMAND = "from hotbed.bench.host import main; main()"


def main() -> None:
    """Run the entrant named by the arguments: "module:function" and its options as JSON."""
    opener, options = sys.argv[1], json.loads(sys.argv[2])
    line = loop.Line()
    with contextlib.ExitStack() as stack:
        try:
            module, _, function = opener.partition(":")
            opened = getattr(importlib.import_module(module), function)(**options)
            subject: loop.Subject = stack.enter_context(opened)
            loop.serve(line, subject)
        except BaseException as error:  # the border of this process: told to the parent, by name
            traceback.print_exc()
            loop.fail(line, error)
