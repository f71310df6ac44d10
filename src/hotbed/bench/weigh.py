"""How much memory a process holds that would be free without it."""

from __future__ import annotations

from pathlib import Path


def process(pid: int) -> dict[str, int]:
    """Bytes of one process, from /proc (Linux).

    private: pages that only it maps. pss: its share of all pages it maps. tables: the kernel's
    page tables for it; the kernel's further structures (stack, task, files) are some 30 KB and
    not to be read per process.
    """
    rollup = _kilobytes(Path(f"/proc/{pid}/smaps_rollup").read_text())
    status = _kilobytes(Path(f"/proc/{pid}/status").read_text())
    return {
        "private": 1024 * (rollup["Private_Clean"] + rollup["Private_Dirty"]),
        "pss": 1024 * rollup["Pss"],
        "tables": 1024 * status["VmPTE"],
    }


def _kilobytes(text: str) -> dict[str, int]:
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2] == "kB":
            found[words[0].rstrip(":")] = int(words[1])
    return found
