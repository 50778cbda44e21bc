"""What the claimed training should take by the published runs on file, and what its hours cost to rent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fathom.cost.claim import Claim
from fathom.cost.claimed_run import run_of
from fathom.cost.efficiency import predict
from fathom.cost.interval import Interval
from fathom.cost.prices import price
from fathom.cost.verdict_physics import Distribution, Physics, Work, accelerator, hours_of

# A maker that names no accelerator is priced on this one: what the docket's best-documented runs of its day used.
ASSUMED_DEVICE = "h100"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Device-hours for the stated tokens (`hours`), or tokens for the stated hours (`tokens`)."""

    accelerator: str
    assumed: bool
    hours: Interval | None
    tokens: Interval | None
    method: str
    predicted: Interval | None = None  # by the efficiency model, where the claim gives what it needs
    usd: Interval | None = None

    def to_dict(self) -> dict[str, Any]:
        rows = {
            "device_hours": (self.hours, "device-hours", self.method),
            "tokens": (self.tokens, "tokens", self.method),
            "predicted_device_hours": (
                self.predicted,
                "device-hours",
                "efficiency model (docs/efficiency-model.md), 80% interval",
            ),
            "cost_usd": (self.usd, "US dollars", "device-hours x rental prices on file"),
        }
        return {"accelerator": self.accelerator, "accelerator_assumed": self.assumed} | {
            name: value.to_dict(unit, how) if value else None for name, (value, unit, how) in rows.items()
        }


@dataclass(frozen=True, kw_only=True)
class Priced:
    """The stated price, or the hours at market rent; `rent` is what an hour cost at the time."""

    usd: float
    method: str
    market: Interval | None
    implied_rent: float | None
    rent: Interval
    rent_source: str

    def to_dict(self) -> dict[str, Any]:
        market = self.market.to_dict("US dollars", f"hours x rent on file: {self.rent_source}") if self.market else None
        return {
            "usd": {"value": self.usd, "unit": "US dollars", "method": self.method},
            "at_market_rent": market,
            "implied_rent_usd_per_hour": self.implied_rent,
            "rent_usd_per_hour": self.rent.to_dict("US dollars a device-hour", self.rent_source),
        }


def expectation(claim: Claim, done: Work | None, runs: Distribution) -> Expectation | None:
    """None where neither tokens nor hours are stated."""
    if claim.kind != "training" or not runs.values:
        return None
    hours, _ = hours_of(claim)
    named = claim.text("accelerator")
    device = accelerator(named or ASSUMED_DEVICE)
    slow, usual, fast = (runs.quantile(q) * device.peak_flops("bf16") * 3600 for q in (0.1, 0.5, 0.9))
    how = f"at the utilisation of the middle 80% of {len(runs.values)} published runs on {device.title}"
    if done is not None:
        wanted = Interval(done.flops / fast, done.flops / usual, done.flops / slow)
        rent = price(device.name, _iso(claim.date)).usd_per_hour
        return Expectation(
            accelerator=device.name, assumed=not named, hours=wanted, tokens=None, method=how,
            predicted=_predicted(claim), usd=wanted * rent,
        )  # fmt: skip
    per_token = _flops_per_token(claim)
    if hours is None or per_token is None:
        return None
    tokens = Interval(hours * slow / per_token, hours * usual / per_token, hours * fast / per_token)
    return Expectation(accelerator=device.name, assumed=not named, hours=None, tokens=tokens, method=how)


def _flops_per_token(claim: Claim) -> float | None:
    from fathom.cost.flops import training_flops
    from fathom.cost.verdict_physics import DEFAULT_SEQUENCE, architecture

    shape, active = architecture(claim), claim.value("active_parameters")
    if shape is not None:
        return training_flops(shape, 1, int(claim.value("sequence_length") or DEFAULT_SEQUENCE)).total
    return 6 * active if active is not None else None


def _predicted(claim: Claim) -> Interval | None:
    """Device-hours by the efficiency model. Of a run told in stages it predicts pre-training alone."""
    pair = run_of(claim)
    return predict(pair[0]).device_hours(pair[0]) if pair is not None else None


def priced(claim: Claim, found: Physics | None) -> Priced | None:
    """The claim's price and the hours at market rent. None where it has neither price nor hours."""
    cost, (hours, how) = claim.value("cost_usd"), hours_of(claim)
    if not claim.text("accelerator") or (cost is None and hours is None):
        return None
    rent = price(accelerator(claim.text("accelerator")).name, _iso(claim.date))
    market = rent.usd_per_hour * hours if hours is not None and "price" not in how else None
    usd = cost if cost is not None else (market.median if market else None)
    if usd is None:
        return None
    return Priced(
        usd=usd,
        method="stated" if cost is not None else f"{how} x ${rent.usd_per_hour.median:.2f} an hour",
        market=market,
        implied_rent=cost / hours if cost is not None and hours and market else None,
        rent=rent.usd_per_hour,
        rent_source=rent.source,
    )


def _iso(date: str) -> str:
    """A date given as a year or a month, at its middle."""
    parts = date.split("-")
    return "-".join((*parts, *("07", "01")[len(parts) - 1 :])) if len(parts) < 3 else date
