"""All cases, in the order in which they are run."""

from __future__ import annotations

from hotbed.attack.case import Case
from hotbed.attack.cases import (
    artifacts,
    calls,
    channel,
    files,
    leaks,
    life,
    network,
    processes,
    resources,
    values,
)

CATALOGUE: tuple[Case, ...] = (
    *files.CASES,
    *artifacts.CASES,
    *processes.CASES,
    *network.CASES,
    *calls.CASES,
    *resources.CASES,
    *channel.CASES,
    *life.CASES,
    *values.CASES,
    *leaks.CASES,
)
