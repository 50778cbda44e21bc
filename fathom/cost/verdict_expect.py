"""What the claimed training should take by the published runs on file, and what its hours cost to rent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fathom.cost.claim import Claim
from fathom.cost.claimed_run import run_of
from fathom.cost.claims import on_file
from fathom.cost.efficiency import published_runs
from fathom.cost.estimate import Estimate, estimate
from fathom.cost.hardware import Accelerator, accelerators
from fathom.cost.interval import Interval
from fathom.cost.prices import Price, price
from fathom.cost.run import Run
from fathom.cost.verdict_physics import Distribution, Physics, Work, accelerator, hours_of

# A flag of runs whose hours go into writing answers, which the published runs say nothing of.
OTHER_WORK = "reinforcement-learning"
# A maker that names no accelerator is priced on this one: what the docket's best-documented runs of its day used.
ASSUMED_DEVICE = "h100"


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """Device-hours for the stated tokens (`hours`), by the efficiency model; or, without parameters and tokens, tokens
    for the stated hours (`tokens`), by the middle 80% of the published runs.

    The model has learned from the published runs. Where the one on trial is among them, `hours` is the prediction of a
    fit that saw no run of its maker (`left_out`), and `plan_hours` what `fathom plan` answers, which saw them all.
    """

    accelerator: str
    assumed: bool
    hours: Interval | None
    tokens: Interval | None
    method: str
    left_out: str = ""
    plan_hours: Interval | None = None
    stated_hours: float | None = None  # of the same work
    usd: Interval | None = None
    rent: Price | None = None

    @property
    def met(self) -> bool | None:
        """Whether the stated hours lie in the interval; None where there is none, or no hours."""
        if self.hours is None or self.stated_hours is None:
            return None
        return self.hours.low <= self.stated_hours <= self.hours.high

    def to_dict(self) -> dict[str, Any]:
        rows = {
            "device_hours": (self.hours, "device-hours", self.method),
            "device_hours_by_plan": (self.plan_hours, "device-hours", "as `fathom plan` answers: its fit saw them"),
            "tokens": (self.tokens, "tokens", self.method),
            "cost_usd": (
                self.usd,
                "US dollars",
                f"device-hours x rent on file: {self.rent.source_and_time if self.rent else ''}",
            ),
        }
        about = {
            "accelerator": self.accelerator,
            "accelerator_assumed": self.assumed,
            "left_out": self.left_out or None,
            "stated_hours_lie_within": self.met,
        }
        return about | {name: value.to_dict(unit, how) if value else None for name, (value, unit, how) in rows.items()}


@dataclass(frozen=True, kw_only=True)
class Priced:
    """The stated price, or the hours at the rents on file."""

    usd: float
    method: str
    market: Interval | None
    implied_rent: float | None
    rent: Price
    elsewhere: Interval | None = None  # where only makers of models stated those rents: the hours on `elsewhere_of`
    elsewhere_of: str = ""

    def to_dict(self) -> dict[str, Any]:
        market = (
            self.market.to_dict("US dollars", f"hours x rent on file: {self.rent.source_and_time}")
            if self.market
            else None
        )
        return {
            "usd": {"value": self.usd, "unit": "US dollars", "method": self.method},
            "at_rents_on_file": market,
            "at_rents_of_others": self.elsewhere.to_dict("US dollars", f"hours x rent of {self.elsewhere_of}")
            if self.elsewhere
            else None,
            "implied_rent_usd_per_hour": self.implied_rent,
            "rent_usd_per_hour": self.rent.usd_per_hour.to_dict("US dollars a device-hour", self.rent.source_and_time),
            "rent_date": self.rent.nearest,
            "rent_is_of_its_time": self.rent.of_its_time,
        }


def expectation(claim: Claim, done: Work | None, runs: Distribution) -> Expectation | None:
    """None where neither tokens nor hours are stated."""
    if claim.kind != "training" or not runs.values or OTHER_WORK in claim.flags:
        return None
    named = claim.text("accelerator")
    device = accelerator(named or ASSUMED_DEVICE)
    if done is not None:
        return _of_hours(claim, device, assumed=not named)
    stated, _ = hours_of(claim)
    per_token = _flops_per_token(claim)
    if stated is None or per_token is None:
        return None
    slow, usual, fast = (runs.quantile(q) * device.peak_flops("bf16") * 3600 for q in (0.1, 0.5, 0.9))
    return Expectation(
        accelerator=device.name,
        assumed=not named,
        hours=None,
        tokens=Interval(stated * slow / per_token, stated * usual / per_token, stated * fast / per_token),
        method=f"at the utilisation of the middle 80% of {len(runs.values)} published runs on {device.title}",
    )


def _of_hours(claim: Claim, device: Accelerator, *, assumed: bool) -> Expectation | None:
    pair, known = run_of(claim, device), _learned_from(claim)
    if pair is None:
        return None
    planned = _planned(pair[0])
    hours, how = planned.device_hours, "efficiency model (docs/efficiency-model.md), 80% interval"
    if known is not None:
        ends = (known["predicted_high"], known["predicted"], known["predicted_low"])
        hours = Interval(*(planned.run.device_hours(share) for share in ends))
        how += f", fitted without any run of {known['developer']}"
    rent = rent_of(claim, device)
    return Expectation(
        accelerator=device.name,
        assumed=assumed,
        hours=hours,
        tokens=None,
        method=how if known else f"{how}, as `fathom plan` predicts",
        left_out=known["developer"] if known else "",
        plan_hours=planned.device_hours if known else None,
        stated_hours=pair[1],
        usd=hours * rent.usd_per_hour,
        rent=rent,
    )


def _learned_from(claim: Claim) -> dict[str, Any] | None:
    """The published run that the claim is of, or is about: the fit knows its hours."""
    runs = {run["claim"]: run for run in published_runs()}
    for name in (claim.id, *claim.compares_with):
        if name in runs and (name == claim.id or _same_run(claim, on_file(name))):
            return runs[name]
    return None


def _same_run(claim: Claim, other: Claim) -> bool:
    return bool(claim.model) and claim.model == other.model and claim.value("tokens") == other.value("tokens")


def _flops_per_token(claim: Claim) -> float | None:
    from fathom.cost.flops import training_flops
    from fathom.cost.verdict_physics import DEFAULT_SEQUENCE, architecture

    shape, active = architecture(claim), claim.value("active_parameters")
    if shape is not None:
        return training_flops(shape, 1, int(claim.value("sequence_length") or DEFAULT_SEQUENCE)).total
    return 6 * active if active is not None else None


def _planned(run: Run) -> Estimate:
    """As `fathom plan` answers by name, which counts the weights of the published shape."""
    named = run.architecture is not None
    return estimate(replace(run, total_parameters=0.0, active_parameters=0.0) if named else run)


def priced(claim: Claim, found: Physics | None) -> Priced | None:
    """The claim's price and the hours at the rents on file. None where it has neither price nor hours."""
    cost, (hours, how) = claim.value("cost_usd"), hours_of(claim)
    if not claim.text("accelerator") or (cost is None and hours is None):
        return None
    rent = rent_of(claim, accelerator(claim.text("accelerator")))
    market = rent.usd_per_hour * hours if hours is not None and "price" not in how else None
    usd = cost if cost is not None else (market.median if market else None)
    other = _rented_from_clouds(claim, accelerator(claim.text("accelerator")), rent) if market else None
    if usd is None:
        return None
    return Priced(
        usd=usd,
        method="stated" if cost is not None else f"{how} x ${rent.usd_per_hour.median:.2f} an hour",
        market=market,
        implied_rent=cost / hours if cost is not None and hours and market else None,
        rent=rent,
        elsewhere=rent_of(claim, other).usd_per_hour * hours if other and hours else None,
        elsewhere_of=other.title if other else "",
    )


def _rented_from_clouds(claim: Claim, device: Accelerator, rent: Price) -> Accelerator | None:
    """Where every rent of `device` on file is a model maker's word: one of the same peak that clouds rent out."""
    if not all(row.kind == "stated" for row in rent.entries):
        return None
    alike = (
        one for one in accelerators().values()
        if one.name != device.name and one.vendor == device.vendor and one.peak_flops() == device.peak_flops()
    )  # fmt: skip
    rents = ((one, rent_of(claim, one)) for one in alike)
    of_clouds = (one for one, own in rents if not own.stands_in and any(row.kind != "stated" for row in own.entries))
    return next(of_clouds, None)


def rent_of(claim: Claim, device: Accelerator) -> Price:
    """What an hour of the device cost to rent around the claim's day."""
    return price(device.name, _iso(claim.date))


def _iso(date: str) -> str:
    """A date given as a year or a month, at its middle."""
    parts = date.split("-")
    return "-".join((*parts, *("07", "01")[len(parts) - 1 :])) if len(parts) < 3 else date
