"""Which accelerators fall under the export controls of the United States, by the rules of 2022 and of 2023.

87 FR 62186 (7 October 2022): ECCN 3A090.a, a total processing performance (TPP) and the rate of all inputs and outputs
together. 88 FR 73458 (17 October 2023): 3A090.a and .b, TPP and performance density, TPP over the applicable die area
in square millimetres (technical note 4). Note 2 frees what is neither made nor marketed for datacenters, below 4800.
Both were read as a study quotes them item by item; later rules change the licence policy, not these limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from fathom.cost.hardware import Accelerator

TPP, LINK_GB_PER_SECOND = 4800.0, 600.0  # 2022: both; 2023: TPP alone is enough
TPP_DENSE, TPP_NOTIFIED = 1600.0, 2400.0
DENSITY, DENSITY_NOTIFIED, DENSITY_DENSE_NOTIFIED = 5.92, 1.6, 3.2
NOT_TOLD = "cannot be told"


@dataclass(frozen=True)
class Density:
    """Performance density as far as the die area on file tells it: `low` to `high`, equal where it is exact."""

    low: float
    high: float

    def at_least(self, limit: float) -> bool | None:
        """Whether it reaches `limit`; None where that cannot be told."""
        return True if self.low >= limit else False if self.high < limit else None

    @property
    def shown(self) -> str:
        if self.low == self.high:
            return f"{self.low:.2f}"
        return f"{self.low:.2f} or more" if self.low else "not on file"

    def to_dict(self) -> dict[str, float | None]:
        return {"low": self.low or None, "high": None if self.high == inf else self.high}


def density(device: Accelerator, performance: float) -> Density:
    if not device.die_mm2:
        return Density(0.0, inf)
    reached = performance / device.die_mm2
    return Density(reached, inf if device.die_is_most else reached)


def rule_of_2022(device: Accelerator, performance: float) -> str:
    """ "over" where both limits are reached, else "under" and by which; a bridge between pairs counts as a link."""
    links = device.link_gb_per_second + device.bridge_gb_per_second
    if performance < TPP:
        return "under"
    return "over" if links >= LINK_GB_PER_SECOND else f"under by its link of {links:,.0f} GB/s"


def rule_of_2023(device: Accelerator, performance: float) -> str:
    """The item that a device falls under, "under" where none, or that it cannot be told and for want of what."""
    if performance >= TPP:
        return "over: 3A090.a"
    if performance < TPP_DENSE:
        return "under"
    if not device.datacenter:
        return "under: not made for datacenters"
    found = density(device, performance)
    dense, notified = found.at_least(DENSITY), _notified(found, performance)
    if dense:
        return "over: 3A090.a, by its density"
    if dense is False and notified:
        return "over: 3A090.b, after notice"
    if dense is False and notified is False:
        return "under"
    return f"{NOT_TOLD}: density not on file" if not found.low else f"{NOT_TOLD}: density known only from below"


def _notified(found: Density, performance: float) -> bool | None:
    """3A090.b below the density of 3A090.a: the lower limit of density is that of the device's performance."""
    return found.at_least(DENSITY_NOTIFIED if performance >= TPP_NOTIFIED else DENSITY_DENSE_NOTIFIED)
