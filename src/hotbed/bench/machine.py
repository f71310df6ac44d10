"""The machine a report was made on, without anything that names it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("hotbed", "numpy", "pandas", "loky", "pebble", "mpire")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts that change figures.

    cores: those this process may use. load: runnable tasks, one-minute average at the start.
    huge_pages: the kernel's setting of transparent huge pages.
    packages: version by name; "not installed" where it is missing.
    """

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    huge_pages: str
    virtual: bool
    load: float
    packages: dict[str, str]


@dataclass(frozen=True, slots=True)
class ProcessorTime:
    """All processors' time since the machine started, in the kernel's ticks."""

    total: int
    stolen: int

    def stolen_since(self, before: ProcessorTime) -> float:
        """The part of the time since `before` in which the host ran other guests instead of us."""
        passed = self.total - before.total
        return (self.stolen - before.stolen) / passed if passed > 0 else 0.0


def processor_time() -> ProcessorTime:
    """The first line of /proc/stat; its eighth number is the stolen time."""
    words = _read(Path("/proc/stat")).partition("\n")[0].split()
    # The last two, time spent on guests of ours, are part of the first two.
    ticks = [int(word) for word in words[1:9]]
    return ProcessorTime(sum(ticks), ticks[7] if len(ticks) == 8 else 0)


def here() -> Machine:
    """This machine, now."""
    info = _read(Path("/proc/cpuinfo"))
    return Machine(
        cpu=_field(info, "model name") or platform.processor() or "unknown",
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        huge_pages=chosen(_read(HUGE_PAGES)),
        virtual="hypervisor" in _field(info, "flags").split(),
        load=round(os.getloadavg()[0], 2),
        packages={name: _version(name) for name in PACKAGES},
    )


def chosen(text: str) -> str:
    """The option in brackets of a kernel setting such as "always [madvise] never"."""
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else "unknown"


def _field(info: str, name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", info, re.MULTILINE)
    return found[1].strip() if found else ""


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
