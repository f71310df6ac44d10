"""Every check of the repository in one command; the last line is the count.

    tools/check.py [lint] [format] [types] [tests] [-- PYTEST ARGUMENTS]

Runs with the interpreter of .venv, from any directory. Exit status 0 only if nothing failed. The last line
of the output is always `N passed, N failed, N skipped`: each test counts one, and so do lint, format and
types. HOTBED_REQUIRE_ALL=1 makes every skipped test a failed one (tests/conftest.py does that).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS_LIMIT_S = 900.0  # the suite is held to ten minutes on two cores; past this it hangs

STATIC: dict[str, tuple[tuple[str, ...], ...]] = {
    "lint": (("ruff", "check"),),
    "format": (("ruff", "format", "--check"),),
    # seed/ runs on older interpreters than the rest, so it is checked once more for the oldest.
    "types": (("mypy",), ("mypy", "--python-version", "3.10", "src/hotbed/seed")),
}


@dataclass(slots=True)
class Tally:
    """Counts so far; each skip and each failure with what it was."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def line(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {len(self.skipped)} skipped"


def check(name: str, tally: Tally) -> None:
    """Run one static check; its output is shown only if it fails."""
    started = time.monotonic()
    output = ""
    for command in STATIC[name]:
        if command[-1].startswith("src/") and not (ROOT / command[-1]).exists():
            continue
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            output += f"$ {' '.join(command)}\n{done.stdout}"
    if output:
        tally.failed.append(name)
    else:
        tally.passed += 1
    print(f"{name:<8} {'FAILED' if output else 'ok':<7} {time.monotonic() - started:5.1f} s", flush=True)
    if output:
        print(output, flush=True)


def run_tests(arguments: Sequence[str], tally: Tally) -> None:
    """Run pytest in view of the user and add its counts."""
    with tempfile.TemporaryDirectory(prefix="ht-") as directory:
        report = Path(directory) / "report.json"
        try:
            status = subprocess.run(
                [sys.executable, "-m", "pytest", *arguments],
                cwd=ROOT,
                env={**os.environ, "HOTBED_TEST_REPORT": str(report)},
                timeout=TESTS_LIMIT_S,
                check=False,
            ).returncode
            trouble = f"pytest (exit status {status})"
        except subprocess.TimeoutExpired:
            status, trouble = 1, f"pytest (killed after {TESTS_LIMIT_S:.0f} s)"
        counts = json.loads(report.read_text()) if report.exists() else {}
    tally.passed += counts.get("passed", 0)
    tally.failed += counts.get("failed", [])
    tally.skipped += [(test, reason) for test, reason in counts.get("skipped", [])]
    # A run that was cut short or collected nothing has failed even if no test did.
    if status != 0 and not counts.get("failed"):
        tally.failed.append(trouble)


def show(tally: Tally) -> None:
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    for test, reason in tally.skipped:
        reasons[reason].append(test)
    if tally.failed:
        print("\nfailed:")
        for name in tally.failed:
            print(f"  {name}")
    if reasons:
        print("\nskipped:")
        for reason, tests in sorted(reasons.items()):
            print(f"  {len(tests)} x {reason}")
            for test in tests:
                print(f"      {test}")
    print()
    print(tally.line(), flush=True)


def main(arguments: Sequence[str]) -> int:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    known = (*STATIC, "tests")
    names = arguments[:cut] or known
    if unknown := [name for name in names if name not in known]:
        print(f"check: no check named {unknown[0]!r}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    tally = Tally()
    for name in names:
        if name == "tests":
            run_tests(arguments[cut + 1 :], tally)
        else:
            check(name, tally)
    show(tally)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
