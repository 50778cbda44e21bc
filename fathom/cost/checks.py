"""Numbers that a person typed, checked before anything is computed from them."""

from __future__ import annotations

import math

from fathom.errors import FathomError


def positive(name: str, value: float, *, zero: bool = False, unit: str = "") -> float:
    """`value` as a finite number above zero (or at least zero); a `FathomError` that names it otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FathomError(f"{name} = {value!r} is not a number: give a plain number such as 14.8e12")
    if math.isnan(value) or math.isinf(value):
        raise FathomError(f"{name} = {value} is not a finite number: give the figure itself")
    if value < 0 or (value == 0 and not zero):
        least = "zero or more" if zero else "above zero"
        raise FathomError(f"{name} = {value:g}{unit and ' ' + unit} cannot be: it must be {least}")
    return value
