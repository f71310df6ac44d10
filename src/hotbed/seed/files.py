"""Files in and out of a work directory: those given, and those that the code left.

Law: only regular files come back, by relative names, within the limits given; what did not is named
with the reason. The engine takes names and bytes as data and writes nothing anywhere.
"""

from __future__ import annotations

import os
import stat
from typing import Any, NamedTuple

# Bound here: user code may replace the modules' functions, and what it left is collected all the same.
_open, _fdopen, _scandir, _fstat, _sorted = os.open, open, os.scandir, os.fstat, sorted
_is_file, _is_directory = stat.S_ISREG, stat.S_ISDIR
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

MAX_FILES = 256
MAX_DEPTH = 16  # folders below the work directory
MAX_ENTRIES = 10000  # that are looked at: hostile code can make a directory of millions
_SKIPPED = ("__pycache__",)


class Found(NamedTuple):
    """What came of looking: names with bytes, and why others were left out."""

    files: list[tuple[str, bytes]]
    left_out: list[str]


def write(files: dict[str, list[int]], blobs: memoryview) -> None:
    """Write given files into the current directory; `files` is name -> [start, end] in `blobs`."""
    for name, (start, end) in files.items():
        folder = os.path.dirname(name)
        if folder:
            os.makedirs(folder, exist_ok=True)
        with open(name, "wb") as file:
            file.write(blobs[start:end])


def marks(directory: str) -> dict[str, tuple[int, int, int]]:
    """What tells each file of a directory from a changed one: inode, size, time of change in ns."""
    return {name: mark for name, _path, mark in _walk(directory, []) if mark is not None}


def collect(directory: str, before: dict[str, tuple[int, int, int]], limit_bytes: int) -> Found:
    """The files that are new or changed since `before`, in the order of their names."""
    files: list[tuple[str, bytes]] = []
    left_out: list[str] = []
    left_bytes = limit_bytes
    for name, path, mark in _sorted(_walk(directory, left_out)):
        if mark is None:
            left_out.append(f"{name}: no regular file")
        elif before.get(name) == mark:
            continue
        elif len(files) == MAX_FILES:
            left_out.append(f"{name}: more than {MAX_FILES} files")
        elif mark[1] > left_bytes:
            left_out.append(f"{name}: {mark[1]} bytes, over Limits(artifacts=...)")
        else:
            try:
                data = _read(path, left_bytes)
                name.encode()
            except (OSError, UnicodeEncodeError) as error:
                left_out.append(f"{name}: {error}")
                continue
            left_bytes -= len(data)
            files.append((name, data))
    return Found(files, left_out[:MAX_FILES])


def _walk(directory: str, left_out: list[str]) -> list[tuple[str, str, tuple[int, int, int] | None]]:
    found: list[tuple[str, str, tuple[int, int, int] | None]] = []
    folders: list[tuple[str, str]] = [("", directory)]
    while folders:
        prefix, path = folders.pop()
        try:
            entries = _scandir(path)
        except OSError as error:
            left_out.append(f"{prefix or '.'}: {error}")
            continue
        with entries:
            for entry in entries:
                if len(found) + len(folders) >= MAX_ENTRIES:
                    left_out.append(f"{prefix or '.'}: more than {MAX_ENTRIES} entries")
                    return found
                name = prefix + entry.name
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # it has gone meanwhile
                if _is_directory(status.st_mode):
                    if entry.name in _SKIPPED:
                        continue
                    if name.count("/") < MAX_DEPTH:
                        folders.append((name + "/", entry.path))
                    else:
                        left_out.append(f"{name}: deeper than {MAX_DEPTH} folders")
                elif _is_file(status.st_mode):
                    found.append((name, entry.path, (status.st_ino, status.st_size, status.st_mtime_ns)))
                else:
                    found.append((name, entry.path, None))
    return found


def _read(path: str, limit_bytes: int) -> bytes:
    # Another process of the code may have put something else there meanwhile.
    fd = _open(path, _FLAGS)
    with _fdopen(fd, "rb") as file:
        if not _is_file(_fstat(fd).st_mode):
            raise OSError("no regular file")
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError("it grew over Limits(artifacts=...)")
    return data


def answer_parts(found: Found) -> tuple[dict[str, Any], bytes]:
    """What goes into an answer: fields of its meta, and the bytes that follow the value."""
    names = [[name, len(data)] for name, data in found.files]
    # A name may hold what is no text: it is told with the escapes that Python shows.
    left_out = [line.encode("utf-8", "backslashreplace").decode() for line in found.left_out]
    return {"artifacts": names, "left_out": left_out}, b"".join(data for _name, data in found.files)
