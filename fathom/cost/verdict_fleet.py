"""What a fleet of accelerators would do: in operations a year, in runs like DeepSeek-V3, in days for one run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fathom.cost.claim import Claim
from fathom.cost.claimed_run import run_of
from fathom.cost.claims import on_file
from fathom.cost.efficiency import predict
from fathom.cost.hardware import Accelerator
from fathom.cost.interval import Interval
from fathom.cost.verdict_physics import Physics, accelerator, assumed, work

SECONDS_A_YEAR = 365 * 86400
YARDSTICK = "deepseek-v3"
# The fleet that was alleged in January 2025 and that every run is held against.
ALLEGED_DEVICE, ALLEGED_COUNT = "h100", 50_000


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """`count` devices at `utilisation` of their 16-bit peak."""

    device: Accelerator
    count: float
    utilisation: float
    why: str

    @property
    def flops_a_second(self) -> float:
        return self.count * self.device.peak_flops("bf16") * self.utilisation

    @property
    def flops_a_year(self) -> float:
        return self.flops_a_second * SECONDS_A_YEAR

    def days_for(self, flops: float) -> float:
        return flops / self.flops_a_second / 86400

    def to_dict(self) -> dict[str, Any]:
        return {
            "accelerator": self.device.name,
            "count": self.count,
            "utilisation": {"value": self.utilisation, "unit": "share of 16-bit peak", "method": self.why},
            "flops_a_year": {"value": self.flops_a_year, "unit": "FLOP a year", "method": "count x peak x utilisation"},
        }


@dataclass(frozen=True, kw_only=True)
class CounterClaim:
    """The run of a claim on another fleet: days for it, runs in the same time, share of the fleet's year."""

    fleet: Fleet
    days: float
    share_of_year: float
    own_days: float | None  # on the stated cluster
    runs_in_that_time: float | None

    def to_dict(self) -> dict[str, Any]:
        return self.fleet.to_dict() | {
            "days_for_this_run": self.days,
            "share_of_the_fleets_year": self.share_of_year,
            "days_on_the_stated_cluster": self.own_days,
            "such_runs_in_that_time": self.runs_in_that_time,
        }


def counter_claim(claim: Claim, physics: Physics) -> CounterClaim | None:
    """The alleged 50,000 H100 doing this claim's work, at the utilisation that the claim implies.

    None for a claim that hardware rules out, and where the utilisation stands on what is assumed.
    """
    if physics.share_of_limit > 1 or assumed(claim):
        return None
    device = accelerator(ALLEGED_DEVICE)
    why = f"as {claim.subject} on {physics.device.title}, by its own figures"
    fleet = Fleet(device=device, count=ALLEGED_COUNT, utilisation=physics.utilisation, why=why)
    days = fleet.days_for(physics.work.flops)
    count = claim.value("accelerator_count")
    own = physics.device_hours / count / 24 if count else None
    return CounterClaim(
        fleet=fleet,
        days=days,
        share_of_year=days / 365,
        own_days=own,
        runs_in_that_time=own / days if own else None,
    )


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """A fleet announced or alleged, in years of work, at the utilisation to expect of runs like the yardstick's."""

    count: float
    count_method: str
    fleets: tuple[Fleet, Fleet, Fleet]
    yardstick_flops: float
    usd_a_device: float | None

    def runs_a_year(self, fleet: Fleet) -> float:
        return fleet.flops_a_year / self.yardstick_flops

    def to_dict(self) -> dict[str, Any]:
        names = ("low", "median", "high")
        return {
            "accelerators": {"value": self.count, "unit": "devices", "method": self.count_method},
            "flops_a_year": {n: f.flops_a_year for n, f in zip(names, self.fleets, strict=True)} | {"unit": "FLOP"},
            "v3_sized_runs_a_year": {n: self.runs_a_year(f) for n, f in zip(names, self.fleets, strict=True)},
            "days_for_one_v3_sized_run": {
                n: f.days_for(self.yardstick_flops) for n, f in zip(names, self.fleets, strict=True)
            },
            "usd_a_device_all_in": self.usd_a_device,
        }


def capacity(claim: Claim) -> Capacity | None:
    """What the claimed machines could do, or None where neither their number nor power says how many they are."""
    name = claim.text("accelerator")
    count, how = _count(claim)
    yardstick = work(on_file(YARDSTICK))
    if not name or count is None or yardstick is None:
        return None
    device = accelerator(name)
    expected = _yardstick_on(device, count)
    ends = {"low end": expected.low, "median": expected.median, "high end": expected.high}
    fleets = [
        Fleet(device=device, count=count, utilisation=share, why=f"efficiency model, {end} of the 80% interval")
        for end, share in ends.items()
    ]
    dollars = claim.value("investment_usd")
    return Capacity(
        count=count,
        count_method=how,
        fleets=(fleets[0], fleets[1], fleets[2]),
        yardstick_flops=yardstick.flops,
        usd_a_device=dollars / count if dollars else None,
    )


def _yardstick_on(device: Accelerator, count: float) -> Interval:
    """Utilisation to expect of the yardstick's run on such a fleet: the same model that `fathom plan` answers with."""
    pair = run_of(on_file(YARDSTICK))
    assert pair is not None, YARDSTICK
    return predict(replace(pair[0], device=device, count=count)).interval


def _count(claim: Claim) -> tuple[float | None, str]:
    count, power, watts = (claim.value(n) for n in ("accelerator_count", "power_watts", "watts_a_device"))
    if count is not None:
        return count, "as claimed"
    if power is None or watts is None:
        return None, ""
    return power / watts, f"{power / 1e9:g} GW / {watts:g} W a device, all in"
