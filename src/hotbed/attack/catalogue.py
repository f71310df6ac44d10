"""All cases, in the order in which they are run."""

from __future__ import annotations

from hotbed.attack.case import Case
from hotbed.attack.cases import (
    answers,
    artifacts,
    calls,
    channel,
    disk,
    files,
    leaks,
    life,
    memory,
    network,
    privileges,
    processes,
    resources,
    values,
)

CATALOGUE: tuple[Case, ...] = (
    *files.CASES,
    *disk.CASES,
    *artifacts.CASES,
    *processes.CASES,
    *privileges.CASES,
    *network.CASES,
    *calls.CASES,
    *memory.CASES,
    *resources.CASES,
    *channel.CASES,
    *answers.CASES,
    *life.CASES,
    *values.CASES,
    *leaks.CASES,
)
