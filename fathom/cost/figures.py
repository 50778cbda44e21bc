"""The figures that a claim may state by name: their units, the range in which they make sense, and slips of units.

A range is wide on purpose: outside of it is a slip of units or of the pen, not a bold claim. Bold claims are tried.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fathom.cost.checks import positive
from fathom.errors import FathomError


@dataclass(frozen=True)
class FigureKind:
    """`low` to `high` is what can be meant; `hint` names the usual slip below `low`."""

    unit: str
    low: float
    high: float
    hint: str = ""


KNOWN: dict[str, FigureKind] = {
    "total_parameters": FigureKind("parameters", 1e6, 1e15, "write billions out: 671e9, not 671"),
    "active_parameters": FigureKind("parameters", 1e6, 1e15, "write billions out: 37e9, not 37"),
    "tokens": FigureKind("tokens", 1e7, 1e17, "write trillions out: 14.8e12, not 14.8"),
    "sequence_length": FigureKind("tokens", 16, 1e8, "write thousands out: 4096, not 4"),
    "device_hours": FigureKind("device-hours", 0.1, 1e11, "device-hours are hours times devices"),
    "accelerator_count": FigureKind("devices", 1, 1e8),
    "wall_days": FigureKind("days", 1e-4, 3650),
    "cost_usd": FigureKind("US dollars", 1, 1e13, "write millions out: 5.576e6, not 5.576"),
    "price_usd_per_hour": FigureKind("US dollars a device-hour", 0.01, 1000),
    "energy_mwh": FigureKind("MWh", 1e-6, 1e9),
    "co2_tonnes": FigureKind("tonnes CO2e", 1e-6, 1e9),
    "utilisation": FigureKind("share of peak", 0, 1, "write a share: 0.38, not 38"),
    "flops": FigureKind("FLOP", 1e15, 1e30, "write the exponent out: 3.14e23"),
    "power_watts": FigureKind("W", 1, 1e12),
}
TEXT = ("accelerator", "precision")
UNITS = {name: kind.unit for name, kind in KNOWN.items()} | dict.fromkeys(TEXT, "")


def check_number(name: str, value: float, where: str) -> float:
    """`value` as a float in the range of `name`; a `FathomError` that says what would be right otherwise."""
    number = float(positive(f"{where}{name}", value, zero=name not in KNOWN))
    kind = KNOWN.get(name)
    if name == "accelerator_count" and number != int(number):
        raise FathomError(f"{where}accelerator_count = {number:g} must be a whole number of devices")
    if kind is None or kind.low <= number <= kind.high:
        return number
    hint = f"; {kind.hint}" if kind.hint else ""
    expected = f"between {kind.low:g} and {kind.high:g} was expected"
    raise FathomError(f"{where}{name} = {number:g} {kind.unit} is questioned: {expected}{hint}")


def check_together(numbers: Mapping[str, float], where: str) -> None:
    """Figures that contradict each other by a slip of units, or that cannot be true of one model."""
    total, active = numbers.get("total_parameters"), numbers.get("active_parameters")
    if total is not None and active is not None and active > total * 1.001:
        raise FathomError(
            f"{where}active_parameters = {active:g} cannot exceed total_parameters = {total:g}: are they exchanged?"
        )
    _check_hours(numbers, where)
    _check_cost(numbers, where)


def _check_hours(numbers: Mapping[str, float], where: str) -> None:
    stated, count, days = (numbers.get(n) for n in ("device_hours", "accelerator_count", "wall_days"))
    if stated is None or count is None or days is None:
        return
    product = count * days * 24
    if count > 8 and 0.5 < stated / (days * 24) < 2:
        raise FathomError(
            f"{where}device_hours = {stated:g} is questioned: it looks like hours on the clock; {count:g} devices for "
            f"{days:g} days are {product:,.0f} device-hours"
        )
    _question_thousand(f"{where}device_hours", stated, product, f"{count:g} devices x {days:g} days x 24")


def _check_cost(numbers: Mapping[str, float], where: str) -> None:
    cost, hours, price = (numbers.get(n) for n in ("cost_usd", "device_hours", "price_usd_per_hour"))
    if cost is not None and hours is not None and price is not None:
        _question_thousand(f"{where}cost_usd", cost, hours * price, f"{hours:g} hours x ${price:g}")


def _question_thousand(name: str, stated: float, expected: float, how: str) -> None:
    """A factor near 1,000 or a million, either way, is a unit mistaken and not a claim."""
    for factor in (1e3, 1e6):
        for ratio in (stated / expected, expected / stated):
            if 0.4 * factor < ratio < 2.5 * factor:
                raise FathomError(
                    f"{name} = {stated:g} is questioned: {how} = {expected:,.0f}, off by a factor of about "
                    f"{factor:,.0f}; are thousands, millions or billions mixed up?"
                )
