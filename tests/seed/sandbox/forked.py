"""Runs a function in a forked child, for what a process can do to itself once only."""

from __future__ import annotations

import json
import os
import subprocess
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import errorcode
from pathlib import Path
from typing import Any

from hotbed.seed import kernel
from hotbed.seed.sandbox import namespaces

SEED = Path(__file__).resolve().parents[3] / "src" / "hotbed" / "seed"

_PR_SET_KEEPCAPS = 8


def value_of(function: Callable[[], Any]) -> Any:
    """What `function` returns in a forked child, by way of JSON; the errno's name if it raises OSError."""
    reader, writer = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            try:
                answer = {"value": function()}
            except OSError as error:
                answer = {"value": errorcode[error.errno or 0]}
            except BaseException:
                answer = {"problem": traceback.format_exc()}
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        text = pipe.read()
    _pid, status = os.waitpid(pid, 0)
    assert text, f"the child ended without an answer, wait status {status}"
    answer = json.loads(text)
    assert "problem" not in answer, answer["problem"]
    return answer["value"]


def end_of(function: Callable[[], object]) -> int:
    """How a forked child ends that calls `function`: minus the signal's number, 0 if it returns."""
    pid = fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextmanager
def waiting(prepare: Callable[[], object]) -> Iterator[int]:
    """The pid of a forked child that has called `prepare` and waits until the block ends."""
    ready_reader, ready = os.pipe()
    end, end_writer = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            os.close(end_writer)
            prepare()
            os.write(ready, b".")
            os.read(end, 1)
        finally:
            os._exit(0)
    os.close(ready)
    os.close(end)
    try:
        assert os.read(ready_reader, 1), "the child ended before it was ready"
        yield pid
    finally:
        os.close(end_writer)
        os.close(ready_reader)
        os.waitpid(pid, 0)


def fork() -> int:
    """os.fork, without the warning that a thread of this process could hold a lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become_privileged() -> None:
    """In a child: have every capability, in a user namespace of its own unless it is root already."""
    if os.geteuid() != 0:
        _own_user_namespace(inside=0)


def become_ordinary_with_capabilities() -> None:
    """In a child: be a user but uid 0, with every capability permitted."""
    if os.geteuid() != 0:
        _own_user_namespace(inside=1000)
    else:
        kernel.prctl(_PR_SET_KEEPCAPS, 1)
        os.setresuid(65534, 65534, 65534)


def _own_user_namespace(inside: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(namespaces.NEW_USER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside} {uid} 1"),
        ("gid_map", f"{inside} {gid} 1"),
    ):
        Path("/proc/self", name).write_text(text)


def own_mounts() -> None:
    """In a child: have a mount namespace whose mounts nobody else sees."""
    become_privileged()
    namespaces.unshare(namespaces.NEW_MOUNT)
    namespaces.mount("", "/", flags=namespaces.PRIVATE | namespaces.RECURSIVE)


def printed_by(python: Path, code: str) -> Any:
    """What a script prints as JSON, run by `python`, for which the seed is the package `seed`."""
    script = f"""
import sys, types
sys.modules["seed"] = types.ModuleType("seed")
sys.modules["seed"].__path__ = [{str(SEED)!r}]
{code}"""
    answer = subprocess.run(
        [python, "-I", "-S", "-B", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)
