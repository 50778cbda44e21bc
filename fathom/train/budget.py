"""The one dial: `10min`, `2usd` or `0.05kWh` to the seconds that the whole command may take.

The budget covers the whole command, as a person with a watch would take it: starting up, preparing the data, training,
the final evaluation and writing the model. Money and energy are turned into seconds of this machine by its rental price
and its power (measured where there is a counter, else modelled), each at its likely value.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from fathom.cost.energy import modelled_joules
from fathom.errors import FathomError
from fathom.ledger.dollars import dollars
from fathom.ledger.machine import billed_devices

Unit = Literal["seconds", "usd", "kwh"]

MINIMUM_SECONDS = 30.0  # below this, starting up and evaluating leave nothing to train in
MAXIMUM_SECONDS = 366 * 86400.0

_UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), ("seconds", 1.0)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), ("seconds", 60.0)),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), ("seconds", 3600.0)),
    **dict.fromkeys(("d", "day", "days"), ("seconds", 86400.0)),
    **dict.fromkeys(("usd", "$", "dollar", "dollars"), ("usd", 1.0)),
    **dict.fromkeys(("cent", "cents", "ct"), ("usd", 0.01)),
    "kwh": ("kwh", 1.0),
    "wh": ("kwh", 1e-3),
    "mj": ("kwh", 1 / 3.6),
}
_FORM = "such as 10min, 2usd or 0.05kWh"


@dataclass(frozen=True)
class Budget:
    """What may be spent: an amount of one unit, and the text that said so."""

    amount: float
    unit: Unit
    text: str


def parse_budget(text: str) -> Budget:
    """Read a budget. Raises FathomError where number or unit is missing, unknown or impossible."""
    match = re.fullmatch(r"(\$?)([0-9.eE+-]+)([a-z$]*)", text.strip().lower().replace(" ", ""))
    if match is None:
        raise FathomError(f"--budget {text!r} is not a budget; give a number and a unit, {_FORM}")
    dollar, number, unit_name = match.groups()
    try:
        amount = float(number)
    except ValueError:
        raise FathomError(f"--budget {text!r}: {number!r} is not a number; give one with its unit, {_FORM}") from None
    unit_name = "usd" if dollar and not unit_name else unit_name
    if unit_name not in _UNITS:
        what = f"{unit_name!r} is not a unit" if unit_name else "the unit is missing"
        raise FathomError(f"--budget {text!r}: {what}; use s, min, h, d, usd or kWh, {_FORM}")
    unit, scale = _UNITS[unit_name]
    if not (math.isfinite(amount) and amount > 0):
        raise FathomError(f"--budget {text!r}: it must be more than nothing, {_FORM}")
    return Budget(amount * scale, unit, text)


def budget_seconds(budget: Budget, billed: list[dict[str, Any]] | None = None) -> float:
    """Seconds of this machine that the budget buys.

    Raises FathomError where that is less than a run needs or more than a year, or where the machine has no price.
    """
    seconds = budget.amount if budget.unit == "seconds" else _bought(budget, billed or billed_devices())
    if seconds < MINIMUM_SECONDS:
        raise FathomError(
            f"--budget {budget.text!r} is {seconds:.3g} s of this machine, and a run needs at least "
            f"{MINIMUM_SECONDS:.0f}"
        )
    if seconds > MAXIMUM_SECONDS:
        raise FathomError(
            f"--budget {budget.text!r} is {seconds / 86400:,.0f} days of this machine; at most a year can be planned"
        )
    return seconds


def _bought(budget: Budget, billed: list[dict[str, Any]]) -> float:
    if budget.unit == "usd":
        hourly = dollars(billed, 3600.0)
        if not hourly["median"]:
            raise FathomError(
                f"--budget {budget.text!r} cannot be turned into time: {hourly['method']}; give a time instead"
            )
        return 3600.0 * budget.amount / hourly["median"]
    return budget.amount * 3.6e6 / machine_watts(billed)


def machine_watts(billed: list[dict[str, Any]]) -> float:
    """Likely power of this machine at work, modelled from the hardware table."""
    return sum(modelled_joules(row["device"], 1.0, count=row["count"]).median for row in billed)
