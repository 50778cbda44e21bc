"""What an hour of a device costs to rent, from the history in `prices.toml`: every entry with its date and source.

A price here is what somebody paid or published for renting. What buying the machines costs is another question.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date as Date
from functools import cache
from importlib import resources

from fathom.cost.hardware import Accelerator, accelerator, accelerators
from fathom.cost.interval import Interval
from fathom.errors import FathomError

# Prices older or newer than this around the asked date say little about it, so the nearest are taken.
WINDOW_DAYS = 270
# However few or equal the prices on file: rental prices of one device at one time differ by about this factor between
# hyperscaler list and small clouds (half the spread of the H100 entries of prices.toml).
SPREAD = 1.5
# A device priced from another one's price a FLOP: vendors differ by about this much.
SCALED_SPREAD = 2.5


@dataclass(frozen=True, kw_only=True)
class PriceEntry:
    accelerator: str
    date: str
    usd_per_hour: float
    kind: str  # on-demand, spot, contract or stated
    provider: str = ""
    source_title: str
    source_url: str
    note: str = ""


@dataclass(frozen=True)
class Price:
    """Dollars an hour for one device, with where it comes from."""

    usd_per_hour: Interval
    date: str
    source: str
    entries: tuple[PriceEntry, ...]

    def near(self, date: str, days: int = 365) -> bool:
        """Whether a price behind this one is of within `days` of `date` (ISO): only then is it the rent of its time."""
        when = _date(date)
        return any(abs((_date(entry.date) - when).days) <= days for entry in self.entries)

    def caveat(self, date: str | None) -> str:
        """What must be said where no price on file is of within a year of `date`; empty where one is."""
        if date is None or self.near(date):
            return ""
        first, last = self.entries[0].date, self.entries[-1].date
        which = (
            "the earliest on file" if date < first else "the latest on file" if date > last else "the nearest on file"
        )
        return f"no rent on file is of within a year of {date}: {which} is used, of {first if date < first else last}"


@cache
def history() -> tuple[PriceEntry, ...]:
    """Every price on file, oldest first."""
    text = resources.files("fathom.cost").joinpath("prices.toml").read_text(encoding="utf-8")
    return tuple(sorted((PriceEntry(**row) for row in tomllib.loads(text)["price"]), key=lambda row: row.date))


def price(name: str, date: str | None = None) -> Price:
    """Rental price of the device `name` around `date` (ISO; None: the newest on file), with an interval.

    The interval spans the entries within `WINDOW_DAYS` of the date, and at least `SPREAD` each way. A device without an
    entry of its own takes the price per unit of 16-bit rate of the nearest device that has one; `source` says so.
    """
    device = accelerator(name)
    when = _date(date) if date else None
    rows = _near(device.name, when)
    if rows:
        return _price(rows, 1.0, SPREAD, "")
    donor = _donor(device)
    if device.kind == "cpu" and donor.kind == "cpu":  # clouds rent cores by the piece, whatever their arithmetic
        return _price(_near(donor.name, when), 1.0, SPREAD, f"as {donor.title}; ")
    scale = device.peak_flops() / donor.peak_flops()
    prefix = f"no price on file for {device.title}: scaled by peak rate from {donor.title}; "
    return _price(_near(donor.name, when), scale, SCALED_SPREAD, prefix)


def _near(name: str, when: Date | None) -> list[PriceEntry]:
    rows = [row for row in history() if row.accelerator == name]
    when = when or max((_date(row.date) for row in rows), default=Date.max)
    near = [row for row in rows if abs((_date(row.date) - when).days) <= WINDOW_DAYS]
    return near or sorted(rows, key=lambda row: abs((_date(row.date) - when).days))[:1]


def _price(rows: list[PriceEntry], scale: float, least_spread: float, prefix: str) -> Price:
    values = sorted(row.usd_per_hour * scale for row in rows)
    middle = _middle(values)
    spread = Interval(min(values[0], middle / least_spread), middle, max(values[-1], middle * least_spread))
    sources = "; ".join(dict.fromkeys(f"{row.source_title} ({row.date})" for row in rows))
    return Price(spread, rows[-1].date, prefix + sources, tuple(rows))


def _donor(device: Accelerator) -> Accelerator:
    """The device with a price that is most like this one: the same kind, the nearest release."""
    priced = {row.accelerator for row in history()}
    known = [row for row in accelerators().values() if row.name in priced]
    alike = [row for row in known if row.kind == device.kind]
    alike = alike or [row for row in known if (row.kind == "cpu") == (device.kind == "cpu")]
    return min(alike, key=lambda row: (abs(_months(row.released) - _months(device.released)), row.name))


def _middle(values: list[float]) -> float:
    half = len(values) // 2
    return values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2


def _months(released: str) -> int:
    year, month = released.split("-")[:2]
    return int(year) * 12 + int(month)


def _date(text: str) -> Date:
    try:
        return Date.fromisoformat(str(text))
    except ValueError:
        raise FathomError(f"date = {text!r} is not a date: write it as 2024-12-27") from None
