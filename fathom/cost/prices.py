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
# A price this far from a day is no price of its time.
SAME_TIME_DAYS = 366
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
    """Dollars an hour for one device around the day that was `asked` (ISO; None: now), with where it comes from."""

    usd_per_hour: Interval
    date: str
    source: str
    entries: tuple[PriceEntry, ...]
    asked: str | None = None
    stands_in: str = ""  # where the device has no rent on file: whose was taken instead, and how

    @property
    def nearest(self) -> str:
        """Year and month of the entry nearest to the day asked for; the newest where none was."""
        if self.asked is None:
            return self.entries[-1].date[:7]
        return min(self.entries, key=lambda row: (_days_apart(row.date, self.asked), row.date)).date[:7]

    @property
    def of_its_time(self) -> bool:
        """Whether a price behind this one is of within a year of the day asked for."""
        return self.asked is None or any(_days_apart(row.date, self.asked) <= SAME_TIME_DAYS for row in self.entries)

    @property
    def when(self) -> str:
        """For a sentence: "at the rent of its time", or which one was taken for want of that."""
        if self.of_its_time:
            return "at the rent of its time"
        return f"at the nearest rent on file, of {self.nearest} (no rent of that time is on file)"

    @property
    def whose(self) -> str:
        """For a sentence: how many rents stand behind the interval, whose, and how far it was widened."""
        values = sorted({f"${row.usd_per_hour:,.2f}" for row in self.entries})
        stated = [row.provider for row in self.entries if row.kind == "stated"]
        by = f", stated by {' and '.join(dict.fromkeys(filter(None, stated))) or 'their payers'}" if stated else ""
        number = "one rent" if len(self.entries) == 1 else f"{len(self.entries)} rents"
        ends = f"${self.usd_per_hour.low:,.2f} to ${self.usd_per_hour.high:,.2f}"
        return f"{number} on file ({', '.join(values)}{by}), widened to {ends}"

    @property
    def source_and_time(self) -> str:
        """The source, with what must be said where it is of another time."""
        if self.of_its_time:
            return self.source
        return f"no rent of that time on file; the nearest is of {self.nearest}: {self.source}"

    @property
    def caveats(self) -> list[str]:
        """What a reader must be told of a price that is another device's or of another time."""
        return [caveat for caveat in (self.stands_in, self._another_time) if caveat]

    @property
    def _another_time(self) -> str:
        """Empty where a price on file is of within a year of the day."""
        if self.of_its_time:
            return ""
        first, last, asked = self.entries[0].date, self.entries[-1].date, str(self.asked)
        which = "earliest" if asked < first else "latest" if asked > last else "nearest"
        taken = first if asked < first else last
        return f"no rent on file is of within a year of {asked}: the {which} on file is used, of {taken}"


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
        return _price(rows, date, 1.0, SPREAD)
    donor = _donor(device)
    rows = _near(donor.name, when)
    missing = f"the rent of {device.title} is not on file"
    if device.kind == "cpu" and donor.kind == "cpu":  # clouds rent cores by the piece, whatever their arithmetic
        return _price(rows, date, 1.0, SPREAD, f"{missing}: that of {donor.title} is taken")
    scale = device.peak_flops() / donor.peak_flops()
    how = f"scaled by 16-bit peak rate (x {scale:.3g}) from that of {donor.title}"
    return _price(rows, date, scale, SCALED_SPREAD, f"{missing}: {how}")


def _near(name: str, when: Date | None) -> list[PriceEntry]:
    rows = [row for row in history() if row.accelerator == name]
    when = when or max((_date(row.date) for row in rows), default=Date.max)
    near = [row for row in rows if abs((_date(row.date) - when).days) <= WINDOW_DAYS]
    return near or sorted(rows, key=lambda row: abs((_date(row.date) - when).days))[:1]


def _price(rows: list[PriceEntry], asked: str | None, scale: float, least_spread: float, stands_in: str = "") -> Price:
    values = sorted(row.usd_per_hour * scale for row in rows)
    middle = _middle(values)
    spread = Interval(min(values[0], middle / least_spread), middle, max(values[-1], middle * least_spread))
    sources = "; ".join(dict.fromkeys(f"{row.source_title} ({row.date})" for row in rows))
    return Price(spread, rows[-1].date, "; ".join(filter(None, (stands_in, sources))), tuple(rows), asked, stands_in)


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


def _days_apart(one: str, other: str | None) -> int:
    return abs((_date(one) - _date(str(other))).days)


def _date(text: str) -> Date:
    try:
        return Date.fromisoformat(str(text))
    except ValueError:
        raise FathomError(f"date = {text!r} is not a date: write it as 2024-12-27") from None
