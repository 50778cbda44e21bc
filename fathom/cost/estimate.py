"""From a run to what it takes: device-hours, time, energy, CO2 and dollars, each as a median with an 80% interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fathom.cost.efficiency import Prediction, fitted, predict, typical_count
from fathom.cost.energy import CO2_KG_PER_KWH, Energy, energy
from fathom.cost.interval import Interval
from fathom.cost.prices import Price, price
from fathom.cost.run import Run

LONG_DAYS = 365  # no run on file took half of it


@dataclass(frozen=True)
class Estimate:
    """`days` is the time on `count` devices; `count_assumed` where the run did not say how many."""

    run: Run
    prediction: Prediction
    device_hours: Interval
    count: float
    count_assumed: bool
    energy: Energy
    price: Price

    @property
    def days(self) -> Interval:
        return self.device_hours * (1 / (24 * self.count))

    @property
    def cost_usd(self) -> Interval:
        return self.device_hours * self.price.usd_per_hour

    def to_dict(self) -> dict[str, Any]:
        """Every figure with its unit and how it was got."""
        hours = "FLOPs / (utilisation x 16-bit peak x 3600 s); utilisation from the efficiency model, 80% interval"
        power = (
            "device-hours x rated power x share drawn x servers x building, each an interval; modelled, not measured"
        )
        return {
            "flops": {"value": self.run.flops, "unit": "FLOP", "method": self.run.flops_method},
            "utilisation": self.prediction.interval.to_dict("share of 16-bit peak", "efficiency model, 80% interval"),
            "device_hours": self.device_hours.to_dict("device-hours", hours),
            "days": self.days.to_dict("days", f"device-hours / 24 / {self.count:.0f} devices{self._assumed}"),
            "energy_mwh": self.energy.mwh.to_dict("MWh at the building's meter", power),
            "co2_tonnes": self.energy.co2_tonnes.to_dict(
                "tonnes CO2e",
                f"energy x {CO2_KG_PER_KWH.median} kg/kWh ({CO2_KG_PER_KWH.low} to {CO2_KG_PER_KWH.high})",
            ),
            "cost_usd": self.cost_usd.to_dict("US dollars", f"device-hours x rental price: {self.price.source}"),
        }

    @property
    def doubts(self) -> list[str]:
        """Why this is further from published runs than the interval says."""
        found = []
        if self.prediction.held_back:
            found.append(
                f"utilisation is held at {self.prediction.median:.0%}, the most that any run on file got: none is "
                "like this one (so few devices for such a model), expect less"
            )
        if self.count > fitted()["most_devices"]:
            found.append(
                f"{self.count:,.0f} devices are more than any run on file had ({fitted()['most_devices']:,.0f}), and "
                "what more of them lose is not known: expect more hours"
            )
        if self.days.median > LONG_DAYS:
            found.append(
                f"{self.days.median:,.0f} days are more than any run on file took "
                f"({fitted()['longest_days']:.0f}): too few devices?"
            )
        return found

    @property
    def _assumed(self) -> str:
        return ", as published runs of this much work use" if self.count_assumed else ""


def estimate(run: Run, date: str | None = None) -> Estimate:
    """What `run` takes. `date` picks the prices of that time (ISO); None takes the newest on file."""
    prediction = predict(run)
    hours = prediction.device_hours(run)
    count = run.count or typical_count(run)
    return Estimate(
        run, prediction, hours, count, not run.count, energy(run.device, hours), price(run.device.name, date)
    )
