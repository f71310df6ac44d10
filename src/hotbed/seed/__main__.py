"""Starts one of hotbed's processes inside a user's interpreter: `python -S path/to/seed ROLE ...`.

Law: standard library only, Python 3.10+, and nothing of ours may shadow a user's module: the
directory leaves sys.path at once and its modules live under one private package name.
"""

import sys
import types
from importlib import import_module

PACKAGE = "_hotbed_seed"
ROLES = ("launcher", "template", "interpreter", "proxy")


def main() -> None:
    """Become the process named by the first argument; the others are descriptor numbers."""
    directory = sys.path.pop(0)
    package = types.ModuleType(PACKAGE)
    package.__path__ = [directory]
    sys.modules[PACKAGE] = package
    role, numbers = sys.argv[1], [int(word) for word in sys.argv[2:]]
    if role not in ROLES:
        raise SystemExit(f"unknown role {role!r}: one of {', '.join(ROLES)}")
    sys.argv = [""]
    import_module(f"{PACKAGE}.{role}").main(*numbers)


if __name__ == "__main__":
    main()
