"""Random generators after a fork: no two executions may draw the same numbers.

`random` reseeds itself after a fork; the global generators of NumPy and torch do not. A caller's
seed also holds for a generator that the code imports only later.
"""

from __future__ import annotations

import os
import sys

GENERATORS = frozenset(("random", "numpy.random", "torch"))
_seed: int | None = None  # the caller's, of the execution under way


def from_system() -> None:
    """Seed from the system's entropy every loaded global generator that a fork copies."""
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        # A list of words is a tenth of the cost, and of the pages touched, of seed()'s SeedSequence.
        numpy_random.seed(list(memoryview(os.urandom(32)).cast("I")))
    if (torch := sys.modules.get("torch")) is not None:
        # torch.seed() would ask for CUDA generators too; manual_seed defers them.
        torch.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)


def from_number(seed: int) -> None:
    """Seed them from the caller's number, so that the run can be repeated.

    `seed` is at least 0; NumPy takes its lowest 32 bits.
    """
    global _seed
    _seed = seed
    for name in GENERATORS:
        imported(name)


def imported(name: str) -> None:
    """Seed a generator that has just been imported, if this execution has a seed."""
    module = sys.modules.get(name)
    if _seed is None or module is None:
        return
    if name == "random":
        module.seed(_seed)
    elif name == "numpy.random":
        module.seed(_seed & 0xFFFF_FFFF)
    else:
        module.manual_seed(_seed & 0x7FFF_FFFF_FFFF_FFFF)


def forget() -> None:
    """End what `from_number` or a warm-up snippet began, where no fork follows."""
    global _seed
    _seed = None
    if (random := sys.modules.get("random")) is not None:
        random.seed()
    from_system()
