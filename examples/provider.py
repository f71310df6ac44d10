"""A provider in promptfoo's shape: answers questions about airports from a CSV, without a network.

    python provider.py "Which airport serves Bay Springs, MS?" '{"config": {"airports": "airports.csv"}}'

It scores every airport by the words it shares with the question; a rare word counts more. The
index over the file is built by the first call and kept in this module, as is the count of calls.
"""

from __future__ import annotations

import csv
import json
import math
import string
import sys
from typing import Any

SPACES = str.maketrans(dict.fromkeys(string.punctuation, " "))
# Words of questions, not of places.
IDLE = frozenset(
    ["a", "airport", "an", "in", "is", "near", "of", "on", "serves", "the", "there", "where", "which"]
)

calls = 0
_indexes: dict[str, Index] = {}


class Index:
    """Airports, each with the words of its name and place."""

    def __init__(self, path: str) -> None:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            self.columns = next(reader)
            self.rows = list(reader)
        self.words = [f" {' '.join(row[:4])} ".lower().translate(SPACES) for row in self.rows]

    def best(self, question: str) -> tuple[dict[str, str] | None, float]:
        """The airport that fits best, and its score; the first in the file wins a tie."""
        scores: dict[int, float] = {}
        for word in sorted(set(question.lower().translate(SPACES).split()) - IDLE):
            whole = f" {word} "
            found = [number for number, words in enumerate(self.words) if whole in words]
            for number in found:
                scores[number] = scores.get(number, 0.0) + math.log(len(self.rows) / len(found))
        if not scores:
            return None, 0.0
        number = min(scores, key=lambda one: (-scores[one], one))
        return dict(zip(self.columns, self.rows[number], strict=True)), scores[number]


def call_api(prompt: str, options: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    """promptfoo calls this once for each prompt."""
    global calls
    calls += 1
    path = options["config"]["airports"]
    index = _indexes.get(path)
    if index is None:
        index = _indexes[path] = Index(path)
    row, score = index.best(prompt)
    if row is None:
        return {"output": "I know no such place.", "metadata": {"score": 0.0}}
    place = f"{row['city']}, {row['state']}"
    where = f"{float(row['latitude']):.2f}, {float(row['longitude']):.2f}"
    return {
        "output": f"{row['name']} ({row['iata']}) in {place}, at {where}",
        "metadata": {"score": round(score, 6), "airports": len(index.rows)},
    }


def calls_so_far() -> int:
    """How many calls this process has answered."""
    return calls


if __name__ == "__main__":
    print(json.dumps(call_api(sys.argv[1], json.loads(sys.argv[2]), {})))
