"""The standard scenarios: one program each, run by every entrant from the same text.

A program finds its input in `data` and leaves its value in `result`. What goes in and comes
out is JSON data, so that a plain `python file` can take part through its standard streams.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

# Ten thousand rows in a hundred groups; other columns and other statistics than WARMUP has.
GROUPBY = """
import numpy as np
import pandas as pd
count = 10_000
frame = pd.DataFrame({"group": np.arange(count) % 100, "amount": np.arange(count) * 0.5})
table = frame.groupby("group")["amount"].agg(["mean", "sum", "max"])
result = [float(table["mean"].sum()), float(table["sum"].max()), int(len(table))]
"""

# What a user who runs such programs would put into Environment(warmup=...).
WARMUP = """
import numpy as np
import pandas as pd
frame = pd.DataFrame({"key": np.arange(10_000) % 50, "value": np.ones(10_000)})
frame.groupby("key")["value"].agg(["mean", "sum", "max"])
"""

SUM = """
result = sum(i * i for i in range(1_000))
"""

MATMUL = """
import numpy as np
a = np.arange(40_000, dtype=float).reshape(200, 200) / 40_000
result = float((a @ a.T).trace())
"""

MATMUL_WARMUP = """
import numpy as np
a = np.ones((200, 200))
a @ a
"""

JSON = """
import json
result = json.loads(json.dumps(data))
"""

# Without `tempfile`: its import would be most of what a cold interpreter does.
FILE = """
import os
path = os.path.join(os.environ.get("TMPDIR", "/tmp"), f"hotbed-bench-{os.getpid()}")
with open(path, "wb") as file:
    file.write(b"0123456789abcdef" * 65536)
with open(path, "rb") as file:
    result = len(file.read())
os.unlink(path)
"""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One program, its input, and the environment that suits it."""

    code: str
    data: Any = None
    preload: tuple[str, ...] = ()
    warmup: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments of the openers that run programs."""
        return {
            "code": self.code,
            "data": self.data,
            "preload": list(self.preload),
            "warmup": self.warmup,
        }


def records(size_bytes: int) -> list[dict[str, Any]]:
    """Records whose JSON is about this long."""
    one = {
        "id": 100_000,
        "name": "a name of some letters",
        "score": 0.125,
        "tags": ["red", "green"],
        "open": True,
    }
    each = 110  # bytes of one record as JSON, with its comma
    return [{**one, "id": 100_000 + number} for number in range(size_bytes // each)]


def program(code: str, *, reads: bool) -> str:
    """The same program as a file of its own: input on stdin, value on stdout, both JSON."""
    start = "import json, sys\ndata = json.load(sys.stdin)\n" if reads else "import json, sys\n"
    return start + textwrap.dedent(code) + "\njson.dump(result, sys.stdout)\n"


SCENARIOS: dict[str, Scenario] = {
    "sum": Scenario(SUM),
    "json-10k": Scenario(JSON, records(10_000)),
    "json-100k": Scenario(JSON, records(100_000)),
    "numpy": Scenario(MATMUL, preload=("numpy",), warmup=MATMUL_WARMUP),
    "pandas": Scenario(GROUPBY, preload=("numpy", "pandas"), warmup=WARMUP),
    "file": Scenario(FILE),
}
