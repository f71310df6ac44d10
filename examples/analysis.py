"""A pandas analysis: how warm and how wet each month was, and how long it stayed dry.

    python analysis.py seattle-weather.csv

prints it as JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import pandas as pd


def analyse(path: str) -> dict[str, Any]:
    """Monthly climate, the longest dry spell, and how often each weather was seen."""
    days = pd.read_csv(path, parse_dates=["date"])
    months = days.groupby(days["date"].dt.month).agg(
        warmest=("temp_max", "max"), coldest=("temp_min", "min"), rain=("precipitation", "sum")
    )
    dry = days["precipitation"] == 0
    spell = dry.ne(dry.shift()).cumsum()[dry]  # a number for each run of dry days
    longest = days["date"][spell.index[spell == spell.mode()[0]]]
    return {
        "days": len(days),
        "months": months.round(1).rename_axis("month").reset_index().to_dict(orient="records"),
        "rainiest month": int(months["rain"].idxmax()),
        "longest dry spell": [str(longest.min().date()), str(longest.max().date()), len(longest)],
        "weather": days["weather"].value_counts().to_dict(),
    }


if __name__ == "__main__":
    print(json.dumps(analyse(sys.argv[1])))
