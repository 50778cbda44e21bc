"""Numbers as a newspaper would print them."""

from __future__ import annotations

import math

_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_WORDS = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))


def count(value: float | None) -> str:
    """Three digits that matter: 2.79 million, 226.8, 54.2 trillion; powers of ten beyond a thousand trillion."""
    if value is None:
        return "not given"
    size = abs(value)
    if size >= 1e15:
        return power(value)
    for factor, word in _WORDS:
        if size >= factor:
            return f"{_digits(value / factor)} {word}"
    return _digits(value)


def exact(value: float | None) -> str:
    """As `count`, with every digit of figures below a billion: sides of an equation that a reader may want to check."""
    return f"{value:,.0f}" if value is not None and 1000 <= abs(value) < 1e9 else count(value)


def in_unit(value: float | None, unit: str) -> str:
    """`exact` with its unit; dollars and shares as a newspaper prints them: $5,576,000, $50.00 per watt, 42.5%."""
    if unit.startswith("US dollars"):
        dollars = f"${exact(value)}" if value is not None and 1000 <= abs(value) < 1e9 else usd(value)
        return dollars + unit.removeprefix("US dollars")
    if unit.startswith("share") and value is not None:
        return share(value) + unit.removeprefix("share")
    return f"{exact(value)} {unit}".strip()


def _digits(value: float) -> str:
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.4g}"
    return f"{value:.3g}"


def power(value: float) -> str:
    """3.42 × 10²⁴."""
    exponent = math.floor(math.log10(abs(value)))
    return f"{value / 10**exponent:.2f} × 10{str(exponent).translate(_RAISED)}"


def amount(flops: float) -> str:
    return power(flops) if flops >= 1e6 else count(flops)


def usd(value: float | None) -> str:
    """$5.58 million, $0.76, $87,072."""
    if value is None:
        return "not given"
    if 0 < abs(value) < 100:
        return f"${value:,.2f}"
    return f"${count(value)}" if abs(value) >= 1e6 else f"${value:,.0f}"


def share(value: float) -> str:
    """38.8%, 368%, 0.59%."""
    percent = 100 * value
    return f"{percent:,.0f}%" if abs(percent) >= 100 else f"{percent:.3g}%"


def times(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f} times"
    return f"{value:.3g} times" if 0.9 < value < 1.1 else f"{value:.2g} times"  # never "1 times"
