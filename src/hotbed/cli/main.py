"""The `hotbed` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; says how to install what it needs, if that is missing."""
    try:
        from hotbed.cli.commands import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"hotbed: the command line needs {error.name}; install it with: pip install 'hotbed[cli]'")
    app()


if __name__ == "__main__":
    main()
