"""Energy where no counter was read: always called modelled, always with an interval.

Three steps from rated power to the meter of the building: what share of its rated power a busy device draws, what the
rest of the server draws beside it, and what the building adds (power usage effectiveness). Each has its source below.
"""

from __future__ import annotations

from dataclasses import dataclass

from fathom.cost.checks import positive
from fathom.cost.hardware import Accelerator, accelerator
from fathom.cost.interval import Interval
from fathom.errors import FathomError

JOULES_PER_MWH = 3.6e9

# Share of its rated power that an accelerator draws while it trains, and what the rest of its server (processors,
# memory, network, fans) draws beside it, as a share of that. A server of eight H100s rated at 10.2 kW, 5.6 kW of it
# for the accelerators, drew at most 8.4 kW in training: 1.5 times the accelerators' rating (arXiv:2412.08602,
# abstract); runs that wait for data or for each other draw less.
DRAW_SHARE = Interval(0.6, 0.8, 0.95)
HOST_SHARE = Interval(0.3, 0.5, 0.7)
# Building over servers: 1.08 to 1.10 is what Meta and Google report of their own, 1.2 what BLOOM's centre had
# (arXiv:2211.02001), 1.56 the mean of Uptime Institute's survey of 2024.
PUE = Interval(1.08, 1.15, 1.5)
# Processors: no published measurement of training on them was found, so these are assumptions, and wide: a busy core
# draws near its share of the package's rating, boost above it; memory, board and supply add to the package.
CPU_DRAW_SHARE = Interval(0.6, 0.85, 1.1)
CPU_HOST_SHARE = Interval(0.1, 0.3, 0.8)
# Kilograms of CO2 equivalent a kWh: France, as BLOOM had it (arXiv:2211.02001), the world in 2024 and India (Ember,
# Global Electricity Review 2025).
CO2_KG_PER_KWH = Interval(0.057, 0.473, 0.71)


@dataclass(frozen=True)
class Energy:
    """Joules of the devices alone, of the servers, and of the building."""

    devices_joules: Interval
    servers_joules: Interval
    building_joules: Interval
    method: str = "modelled"

    @property
    def mwh(self) -> Interval:
        """At the building's meter."""
        return self.building_joules * (1 / JOULES_PER_MWH)

    @property
    def co2_tonnes(self) -> Interval:
        """At the mean of the world's grids; one kg a kWh is one tonne a MWh."""
        return self.mwh * CO2_KG_PER_KWH


def energy(device: str | Accelerator, device_hours: Interval | float) -> Energy:
    """Modelled energy of `device_hours` of work (for a processor: core-hours)."""
    row = accelerator(device) if isinstance(device, str) else device
    hours = (
        device_hours
        if isinstance(device_hours, Interval)
        else Interval.exactly(positive("hours", device_hours, zero=True))
    )
    cpu = row.kind == "cpu"
    rated = hours * (row.power_watts * 3600)
    devices = rated * (CPU_DRAW_SHARE if cpu else DRAW_SHARE)
    host = CPU_HOST_SHARE if cpu else HOST_SHARE
    servers = devices * Interval(1 + host.low, 1 + host.median, 1 + host.high)
    return Energy(devices, servers, servers * PUE)


def modelled_joules(device: str, seconds: float, *, count: float = 1, busy: float = 1.0) -> Interval:
    """Joules that `count` devices (cores of a processor) and their server drew in `seconds`, without the building.

    `busy` is the share of the time that they worked; an idle device still draws about a fifth of its rated power.
    """
    positive("seconds", seconds, zero=True)
    positive("count", count)
    if not 0 <= busy <= 1:
        raise FathomError(f"busy = {busy!r} cannot be: it is a share of the time, from 0 to 1")
    idle = 0.2
    return energy(device, seconds * count * (busy + (1 - busy) * idle) / 3600).servers_joules
