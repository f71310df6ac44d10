"""Random generators after a fork: no two executions may draw the same numbers.

`random` reseeds itself after a fork; the global generators of NumPy and torch do not.
"""

from __future__ import annotations

import os
import sys


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
    if (random := sys.modules.get("random")) is not None:
        random.seed(seed)
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed(seed & 0xFFFF_FFFF)
    if (torch := sys.modules.get("torch")) is not None:
        torch.manual_seed(seed & 0x7FFF_FFFF_FFFF_FFFF)
