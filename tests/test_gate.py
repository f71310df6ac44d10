"""What conftest.py promises, shown on small suites run by a pytest of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import leftovers

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts by the report that tools/check.py reads, and what pytest printed."""

    passed: int
    failed: int
    skipped: list[str]
    output: str


def outcome(directory: Path, source: str, *, require_all: bool = False) -> Outcome:
    """Run a suite of one file under the real conftest.py."""
    (directory / "test_suite.py").write_text(source)
    report = directory / "report.json"
    command: list[str | Path] = [sys.executable, "-m", "pytest", "-p", "tests.conftest"]
    command += ["-p", "no:cacheprovider", "--assert=plain", "-c", ROOT / "pyproject.toml"]
    command += ["--rootdir", directory, directory]
    variables = {
        "HOTBED_REQUIRE_ALL": "1" if require_all else "",
        "HOTBED_TEST_PATIENCE": "0.8",
        "HOTBED_TEST_REPORT": str(report),
    }
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    counts = json.loads(report.read_text())
    reasons = [reason for _, reason in counts["skipped"]]
    return Outcome(counts["passed"], len(counts["failed"]), reasons, done.stdout)


NEEDS_A_TOOL = """
import pytest

@pytest.mark.tool("no-such-tool", install="apt-get install such-tool")
def test_needs_it(): pass
"""


def test_a_missing_tool_skips_with_the_command_that_installs_it(tmp_path: Path) -> None:
    seen = outcome(tmp_path, NEEDS_A_TOOL)
    assert seen.skipped == ["no no-such-tool on PATH; install it with: apt-get install such-tool"]


@pytest.mark.parametrize(
    "source",
    [
        NEEDS_A_TOOL,
        "import pytest\ndef test_it(): pytest.skip('later')",
        "import pytest\npytest.importorskip('no_such_module')\ndef test_it(): pass",
    ],
    ids=["tool", "call", "module"],
)
def test_a_skip_fails_where_everything_is_required(tmp_path: Path, source: str) -> None:
    seen = outcome(tmp_path, source, require_all=True)
    assert (seen.passed, seen.failed, seen.skipped) == (0, 1, [])


def test_a_law_over_an_empty_list_is_not_a_skip(tmp_path: Path) -> None:
    source = "import pytest\n@pytest.mark.parametrize('x', [])\ndef test_it(x): pass\ndef test_other(): pass"
    seen = outcome(tmp_path, source, require_all=True)
    assert (seen.passed, seen.failed, seen.skipped) == (1, 0, [])


LEAKS = {
    "process": "import subprocess\ndef test_it(): KEEP.append(subprocess.Popen(['sleep', '60']))",
    "orphan": "import subprocess\ndef test_it(): subprocess.run(['sh', '-c', 'sleep 60 >&- 2>&- &'])",
    "descriptor": "import os\ndef test_it(): os.pipe()",
    "thread": (
        "import threading\nSTOP = threading.Event()\n"
        "def test_it(): threading.Thread(target=STOP.wait, name='hotbed-keeper', daemon=True).start()"
    ),
    "file": (
        "import os, pathlib\ndef test_it():\n"
        "    pathlib.Path(os.environ['XDG_RUNTIME_DIR'], 'hotbed', 'x').mkdir(parents=True)"
    ),
}


@pytest.mark.parametrize("what", LEAKS)
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path, what: str) -> None:
    seen = outcome(tmp_path, f"KEEP = []\n{LEAKS[what]}")
    assert seen.failed == 1
    assert f"  {'process' if what == 'orphan' else what} " in seen.output


def test_what_ends_soon_after_the_test_is_no_leak(tmp_path: Path) -> None:
    source = "import subprocess\ndef test_it(): subprocess.run(['sh', '-c', 'sleep 0.3 >&- 2>&- &'])"
    assert outcome(tmp_path, source).passed == 1


def test_a_dead_orphan_counts_as_gone() -> None:
    line = subprocess.run(
        ["sh", "-c", "sleep 0.05 >&- & echo $!"], capture_output=True, text=True, check=True
    )
    assert leftovers.wait_gone([int(line.stdout)]) == set()
