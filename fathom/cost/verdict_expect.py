"""What the claimed training should take by the published runs on file, and what its hours cost to rent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fathom.cost.claim import Claim
from fathom.cost.claimed_run import run_of
from fathom.cost.estimate import Estimate, estimate
from fathom.cost.hardware import Accelerator
from fathom.cost.interval import Interval
from fathom.cost.prices import Price, price
from fathom.cost.verdict_physics import Distribution, Physics, Work, accelerator, hours_of

# A maker that names no accelerator is priced on this one: what the docket's best-documented runs of its day used.
ASSUMED_DEVICE = "h100"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Device-hours for the stated tokens (`hours`), or tokens for the stated hours (`tokens`).

    `modelled` where the hours are those that `fathom plan` predicts; else the middle 80% of the published runs.
    """

    accelerator: str
    assumed: bool
    hours: Interval | None
    tokens: Interval | None
    method: str
    modelled: bool = False
    usd: Interval | None = None
    rent: Price | None = None

    def to_dict(self) -> dict[str, Any]:
        rows = {
            "device_hours": (self.hours, "device-hours", self.method),
            "tokens": (self.tokens, "tokens", self.method),
            "cost_usd": (
                self.usd,
                "US dollars",
                f"device-hours x rent on file: {self.rent.source_and_time if self.rent else ''}",
            ),
        }
        return {"accelerator": self.accelerator, "accelerator_assumed": self.assumed} | {
            name: value.to_dict(unit, how) if value else None for name, (value, unit, how) in rows.items()
        }


@dataclass(frozen=True, kw_only=True)
class Priced:
    """The stated price, or the hours at the rents on file."""

    usd: float
    method: str
    market: Interval | None
    implied_rent: float | None
    rent: Price

    def to_dict(self) -> dict[str, Any]:
        market = (
            self.market.to_dict("US dollars", f"hours x rent on file: {self.rent.source_and_time}")
            if self.market
            else None
        )
        return {
            "usd": {"value": self.usd, "unit": "US dollars", "method": self.method},
            "at_rents_on_file": market,
            "implied_rent_usd_per_hour": self.implied_rent,
            "rent_usd_per_hour": self.rent.usd_per_hour.to_dict("US dollars a device-hour", self.rent.source_and_time),
            "rent_date": self.rent.nearest,
            "rent_is_of_its_time": self.rent.of_its_time,
        }


def expectation(claim: Claim, done: Work | None, runs: Distribution) -> Expectation | None:
    """None where neither tokens nor hours are stated."""
    if claim.kind != "training" or not runs.values:
        return None
    stated, _ = hours_of(claim)
    named = claim.text("accelerator")
    device = accelerator(named or ASSUMED_DEVICE)
    slow, usual, fast = (runs.quantile(q) * device.peak_flops("bf16") * 3600 for q in (0.1, 0.5, 0.9))
    rent = rent_of(claim, device)
    planned = _planned(claim)
    if planned is not None:
        hours = planned.device_hours
        how = "efficiency model (docs/efficiency-model.md), 80% interval, as `fathom plan` predicts"
        return Expectation(
            accelerator=device.name, assumed=not named, hours=hours, tokens=None, method=how, modelled=True,
            usd=hours * rent.usd_per_hour, rent=rent,
        )  # fmt: skip
    how = f"at the utilisation of the middle 80% of {len(runs.values)} published runs on {device.title}"
    if done is not None:
        wanted = Interval(done.flops / fast, done.flops / usual, done.flops / slow)
        return Expectation(
            accelerator=device.name, assumed=not named, hours=wanted, tokens=None, method=how,
            usd=wanted * rent.usd_per_hour, rent=rent,
        )  # fmt: skip
    per_token = _flops_per_token(claim)
    if stated is None or per_token is None:
        return None
    tokens = Interval(stated * slow / per_token, stated * usual / per_token, stated * fast / per_token)
    return Expectation(accelerator=device.name, assumed=not named, hours=None, tokens=tokens, method=how)


def _flops_per_token(claim: Claim) -> float | None:
    from fathom.cost.flops import training_flops
    from fathom.cost.verdict_physics import DEFAULT_SEQUENCE, architecture

    shape, active = architecture(claim), claim.value("active_parameters")
    if shape is not None:
        return training_flops(shape, 1, int(claim.value("sequence_length") or DEFAULT_SEQUENCE)).total
    return 6 * active if active is not None else None


def _planned(claim: Claim) -> Estimate | None:
    """The claim's training as `fathom plan` answers for it; of a run told in stages, pre-training alone."""
    pair = run_of(claim)
    if pair is None:
        return None
    run = pair[0]
    if run.architecture is not None:  # a plan by name counts the weights of the published shape
        run = replace(run, total_parameters=0.0, active_parameters=0.0)
    return estimate(run)


def priced(claim: Claim, found: Physics | None) -> Priced | None:
    """The claim's price and the hours at the rents on file. None where it has neither price nor hours."""
    cost, (hours, how) = claim.value("cost_usd"), hours_of(claim)
    if not claim.text("accelerator") or (cost is None and hours is None):
        return None
    rent = rent_of(claim, accelerator(claim.text("accelerator")))
    market = rent.usd_per_hour * hours if hours is not None and "price" not in how else None
    usd = cost if cost is not None else (market.median if market else None)
    if usd is None:
        return None
    return Priced(
        usd=usd,
        method="stated" if cost is not None else f"{how} x ${rent.usd_per_hour.median:.2f} an hour",
        market=market,
        implied_rent=cost / hours if cost is not None and hours and market else None,
        rent=rent,
    )


def rent_of(claim: Claim, device: Accelerator) -> Price:
    """What an hour of the device cost to rent around the claim's day."""
    return price(device.name, _iso(claim.date))


def _iso(date: str) -> str:
    """A date given as a year or a month, at its middle."""
    parts = date.split("-")
    return "-".join((*parts, *("07", "01")[len(parts) - 1 :])) if len(parts) < 3 else date
