"""Figures as people read them: costs rounded up, successes down, the method of every joule beside it."""

from __future__ import annotations

import math
from typing import Any

from fathom.ledger.dollars import round_up

_PREFIXES = ((1e24, "Y"), (1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
JOULES_PER_KWH = 3.6e6


def scaled(value: float, unit: str) -> str:
    """`1.24 TFLOP`: three significant figures, rounded up, with the prefix that fits."""
    value = round_up(value)
    size, prefix = next(((size, prefix) for size, prefix in _PREFIXES if value >= size), (1.0, ""))
    return f"{figure(round_up(value / size))} {prefix}{unit}".strip()


def figure(value: float) -> str:
    """Three significant figures without an exponent: `0.00123`, `12.3`, `1,230`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    decimals = max(2 - math.floor(math.log10(abs(value))), 0)
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(value: float) -> str:
    """`97.8%` of something to be proud of: one decimal, rounded down."""
    return f"{math.floor(round(value * 1000, 6)) / 10:.1f}%"


def loss(value: float) -> str:
    """Three decimals, rounded up: losses and bits are costs too."""
    return f"{math.ceil(round(value * 1000, 6)) / 1000:.3f}" if math.isfinite(value) else str(value)


def seconds(value: float) -> str:
    """`4 min 5 s`, rounded up to whole seconds above a minute, to three figures below."""
    if value < 60:
        return f"{figure(round_up(value))} s"
    whole = math.ceil(value)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{count:,} {unit}" for count, unit in parts if count)


def joules(part: dict[str, Any]) -> str:
    """`1.3 kJ (0.9 kJ to 1.8 kJ, modelled)`, or the one figure of a counter, and any lost sample."""
    words = [part["method"]]
    if part.get("lost_samples"):
        words.append(f"{part['lost_samples']} readings lost, so it was more")
    if part["low"] != part["high"]:
        words.insert(0, f"{scaled(part['low'], 'J')} to {scaled(part['high'], 'J')}")
    return f"{scaled(part['likely'], 'J')} ({', '.join(words)})"


def kwh(part: dict[str, Any]) -> str:
    return f"{figure(round_up(part['likely'] / JOULES_PER_KWH))} kWh"


def usd(part: dict[str, Any]) -> str:
    """`$0.0042 ($0.0028 to $0.0063)`, or why there is no price."""
    if part["median"] is None:
        return f"unknown: {part['method']}"
    low, median, high = (figure(round_up(part[end])) for end in ("low", "median", "high"))
    missing = part.get("runs_without_price")
    note = f"; {missing} runs have no price" if missing else ""
    return f"${median} (${low} to ${high}{note})"


def prices(part: dict[str, Any]) -> list[str]:
    """One line a device: how many, at what an hour, when and where that price was seen."""
    return [
        f"{row['count']} x {row['device']} at ${figure(row['usd_per_hour'])} an hour ({row['date']}; {row['source']})"
        for row in part.get("prices", [])
    ]


def regulators(part: dict[str, Any]) -> str:
    """`4.2 TFLOP (2.9 TFLOP to 5.4 TFLOP), below every threshold`, or the rules whose threshold it passes or nears."""
    count = part["regulators"]
    near = [row["rule"] for row in count["thresholds"] if row["passed"] or row["within_margin"]]
    words = f"passes or comes near: {'; '.join(near)}" if near else "below every threshold"
    ends = f"{scaled(count['low'], 'FLOP')} to {scaled(count['high'], 'FLOP')}"
    return f"{scaled(count['value'], 'FLOP')} ({ends}), {words}"


def routing(part: dict[str, Any]) -> str:
    """`fullest expert 1.21 times the mean, no token dropped`, of a mixture of experts."""
    dropped = round(part["dropped_choices"])
    words = f"{dropped:,} choices of an expert DROPPED" if dropped else "no token dropped"
    return f"fullest expert {figure(round_up(part['load_max_over_mean']))} times the mean, {words}"


def size(value: int) -> str:
    """Bytes in decimal units."""
    return scaled(value, "B")


PURPOSES = {
    "final": "final run",
    "ablation": "ablations",
    "failed": "failed and redone",
    "tuning": "tuning",
    "evaluation": "evaluation",
    "data": "data",
}
