"""A figure that is not known exactly: a median and the ends of its 80% interval."""

from __future__ import annotations

from dataclasses import dataclass

from fathom.errors import FathomError


@dataclass(frozen=True)
class Interval:
    """`low` and `high` are the 10th and 90th percentile unless the maker says otherwise."""

    low: float
    median: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.median <= self.high:
            raise FathomError(f"an interval must be ordered: {self.low:g} <= {self.median:g} <= {self.high:g} fails")

    @staticmethod
    def exactly(value: float) -> Interval:
        return Interval(value, value, value)

    def __mul__(self, factor: float | Interval) -> Interval:
        """Scale by a known factor; two intervals of positive quantities combine as independent log-normal ones."""
        if isinstance(factor, Interval):
            return _product(self, factor)
        return Interval(self.low * factor, self.median * factor, self.high * factor)

    __rmul__ = __mul__

    def to_dict(self, unit: str, method: str) -> dict[str, float | str]:
        """For `--json`: every figure carries its unit and how it was got."""
        return {"low": self.low, "median": self.median, "high": self.high, "unit": unit, "method": method}


def _product(a: Interval, b: Interval) -> Interval:
    """Independent relative errors add in squares of their logarithms, on each side of the median apart."""
    from math import exp, hypot, log

    median = a.median * b.median
    if not median or not a.low or not b.low:
        return Interval(a.low * b.low, median, a.high * b.high)
    down = hypot(log(a.median / a.low), log(b.median / b.low))
    up = hypot(log(a.high / a.median), log(b.high / b.median))
    return Interval(median * exp(-down), median, median * exp(up))
