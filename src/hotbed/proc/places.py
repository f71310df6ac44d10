"""Where an engine keeps its files: a socket for `hotbed ps`, work directories of executions.

The law: directories of ours are of mode 0700 and owned by this user, or they are not used.
"""

from __future__ import annotations

import os
import stat
import tempfile

from hotbed.errors import EngineError

PREFIX = "hotbed-"


def runtime_directory() -> str:
    """The directory of this user's engine sockets, made if it is missing.

    `$XDG_RUNTIME_DIR/hotbed`, or `hotbed-UID` in the temporary directory where there is none.

    Raises:
        EngineError: If it belongs to another user or is no directory.
    """
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    if base and os.access(base, os.W_OK):
        path = os.path.join(base, "hotbed")
    else:
        path = os.path.join(tempfile.gettempdir(), f"hotbed-runtime-{os.getuid()}")
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise EngineError(
            f"{path} is not a directory of this user; remove it, or set XDG_RUNTIME_DIR to one that is"
        )
    if status.st_mode & 0o077:
        os.chmod(path, 0o700)
    return path


def engine_directory() -> str:
    """A new private directory for one engine's executions; the launcher removes it."""
    return tempfile.mkdtemp(prefix=PREFIX)


def seed_directory() -> str:
    """The directory that interpreters run to become processes of ours."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "seed")
