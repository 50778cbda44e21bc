"""Dollars of a run: what its devices cost to rent for its seconds, with the price's date and source."""

from __future__ import annotations

import math
from typing import Any

from fathom.cost.hardware import find
from fathom.cost.prices import price

SECONDS_PER_HOUR = 3600


def dollars(billed: list[dict[str, Any]], seconds: float, date: str | None = None) -> dict[str, Any]:
    """Rent of `billed` devices (names of the hardware table, counts) for `seconds`, as low, median and high.

    A device without a price gives null figures and says which one lacks it: never zero.
    """
    unknown = [row["device"] for row in billed if find(row["device"]) is None]
    if unknown or not billed:
        reason = f"no price on file for {', '.join(unknown)}" if unknown else "no device was recorded"
        return {"low": None, "median": None, "high": None, "method": reason, "prices": []}
    ends, rows = {"low": 0.0, "median": 0.0, "high": 0.0}, []
    for row in billed:
        found = price(row["device"], date)
        for end in ends:
            ends[end] += getattr(found.usd_per_hour, end) * row["count"] * seconds / SECONDS_PER_HOUR
        rows.append(
            {"device": row["device"], "count": row["count"], "usd_per_hour": found.usd_per_hour.median,
             "date": found.date, "source": found.source}
        )  # fmt: skip
    return {**ends, "method": "rental price x devices x seconds", "prices": rows}


def round_up(value: float, digits: int = 3) -> float:
    """The value with `digits` significant figures, never less than it was: a bill does not round in its own favour."""
    if value <= 0 or not math.isfinite(value):
        return value
    places = digits - 1 - math.floor(math.log10(value))
    rounded = round(value, places)
    return rounded if rounded >= value else round(rounded + 10.0**-places, places)
