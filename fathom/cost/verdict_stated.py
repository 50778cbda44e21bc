"""What a claim states beside its hours, held against what follows from them: price, operations, energy, precision.

Each figure has room around what is computed, as wide as honest accounts differ; beyond it a figure and the hours cannot
both be right, and beyond a factor of `SLIP` a unit is mixed up.
"""

from __future__ import annotations

from collections.abc import Iterator

from fathom.cost.claim import Claim
from fathom.cost.hardware import Accelerator, canonical_precision
from fathom.cost.interval import Interval
from fathom.cost.say import amount, count, share, times
from fathom.cost.verdict_expect import rent_of
from fathom.cost.verdict_physics import Physics, Work, accelerator, hours_of
from fathom.cost.verdict_words import Reason, Verdict
from fathom.errors import FathomError

SLIP = 300.0
# Makers count with or without attention, the embedding and recomputation (4/3 of the work): no more than a factor 1.6.
OPERATIONS = Interval(0.6, 1.0, 1.6)
# Over what the whole run reached. Stated rates are of steps, or count recomputation; no run on file states more than
# 1.6 times what its hours give, none less than they give but for rounding and another count of operations.
UTILISATION = Interval(0.6, 1.0, 1.6)
# Watts a device over its rated power: idle accelerators draw a fifth, a whole building with its cooling and hosts three
# times as much (docs/plan.md).
POWER = Interval(0.2, 1.0, 3.0)
# Tonnes of CO2 equivalent a MWh: none from water and wind, 1.1 from lignite (IPCC AR5, annex III, table A.III.2).
CARBON_MOST = 1.3
# Rents on file are few; a contract may be this many times cheaper, a list price dearer, than the range they give.
RENT_ROOM = 3.0


def of_stated(claim: Claim, done: Work | None, found: Physics | None) -> list[Reason]:
    """Every figure that the claim states itself, whose hours (or least hours) say what it should be."""
    if claim.kind not in ("training", "closed"):
        return []
    rows: list[Reason | None] = [_precision(claim), *_price(claim, done)]
    if done is not None and _states(claim, "flops"):
        rows.append(_operations(claim, done))
    if found is not None:
        rows += [_utilisation(claim, found), *_electricity(claim, found)]
    return [row for row in rows if row is not None]


def _states(claim: Claim, name: str) -> bool:
    return name in claim.figures and claim.figures[name].basis == "stated"


def _question(claim: Claim, name: str, stated: float, expected: float, unit: str) -> None:
    """A figure off by hundreds and more is a unit mistaken, not a claim."""
    off = max(stated / expected, expected / stated)
    if off > SLIP:
        raise FathomError(
            f"{claim.path}: {name} = {stated:g} is questioned: {expected:,.3g} {unit} follows from the other figures, "
            f"{off:,.0f} times {'less' if stated > expected else 'more'}; are thousands, millions or billions mixed up?"
        )


def _held(claim: Claim, name: str, expected: float, room: Interval, unit: str, text: str) -> Reason | None:
    """Implausible where the stated figure lies outside of `room` times `expected`; else there is nothing to say."""
    stated = claim.value(name) or 0.0
    _question(claim, name, stated, expected, unit)
    if room.low <= stated / expected <= room.high:
        return None
    return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)


def _operations(claim: Claim, done: Work) -> Reason | None:
    stated = claim.value("flops") or 0.0
    text = (
        f"{amount(stated)} operations are stated; {amount(done.flops)} follow from weights and tokens "
        f"({done.method}). Ways of counting differ by attention and recomputation, not by {times(stated / done.flops)}."
    )
    return _held(claim, "flops", done.flops, OPERATIONS, "operations", text)


def _utilisation(claim: Claim, found: Physics) -> Reason | None:
    if not _states(claim, "utilisation"):
        return None
    stated = claim.value("utilisation") or 0.0
    text = (
        f"{share(stated)} of the peak is stated as utilisation; the stated hours give {share(found.utilisation)}. "
        f"Pauses and other ways of counting explain a part of such a gap, not all: hours or utilisation are wrong."
    )
    return _held(claim, "utilisation", found.utilisation, UTILISATION, "of the peak", text)


def _electricity(claim: Claim, found: Physics) -> Iterator[Reason | None]:
    watts, rated = claim.value("power_watts"), found.device.power_watts
    energy, hours = claim.value("energy_mwh"), hours_of(claim)[0] or found.device_hours
    if _states(claim, "power_watts") and watts is not None and found.device.kind != "cpu":
        text = f"{count(watts)} W a device are stated; {found.device.title} is rated at {count(rated)} W."
        yield _held(claim, "power_watts", rated, POWER, "W", text)
    if _states(claim, "energy_mwh") and energy is not None:
        usual = hours * rated / 1e6
        text = (
            f"{count(energy)} MWh are stated: {count(energy * 1e6 / hours)} W a device for the stated "
            f"hours, where {found.device.title} is rated at {count(rated)} W."
        )
        yield _held(claim, "energy_mwh", usual, POWER, "MWh", text)
    yield _carbon(claim, energy if energy is not None else POWER.high * hours * rated / 1e6)


def _carbon(claim: Claim, most_mwh: float) -> Reason | None:
    tonnes = claim.value("co2_tonnes")
    if tonnes is None or not _states(claim, "co2_tonnes") or tonnes <= CARBON_MOST * most_mwh:
        return None
    if tonnes > SLIP * CARBON_MOST * most_mwh:
        _question(claim, "co2_tonnes", tonnes, CARBON_MOST * most_mwh, "tonnes at most")
    text = (
        f"{count(tonnes)} tonnes of CO2 are stated for at most {count(most_mwh)} MWh: "
        f"{tonnes / most_mwh:.1f} tonnes a MWh, where lignite, the dirtiest fuel of power stations, gives 1.1."
    )
    return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)


def _precision(claim: Claim) -> Reason | None:
    if not _states(claim, "precision") or not claim.text("accelerator"):
        return None
    device, wanted = accelerator(claim.text("accelerator")), canonical_precision(claim.text("precision"))
    if wanted in ("fp32", "tf32") or device.runs_in(wanted) == wanted or {wanted, device.runs_in(wanted)} == _SIXTEEN:
        return None
    text = f"{wanted} is stated as the precision; {device.title} has no units for it ({', '.join(device.tflops)})."
    return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)


_SIXTEEN = {"bf16", "fp16"}  # either name is used for training in 16 bits


def _price(claim: Claim, done: Work | None) -> Iterator[Reason | None]:
    """The rent that the price implies; without hours, the least that the work could have cost."""
    cost, name = claim.value("cost_usd"), claim.text("accelerator")
    if cost is None or not name or not _states(claim, "cost_usd"):
        return
    device = accelerator(name)
    hours, how = hours_of(claim)
    if hours is not None and "price" not in how:
        yield _rent(claim, device, cost, hours)
    elif done is not None and hours is None:
        yield _least_price(claim, device, cost, done)


def _rent(claim: Claim, device: Accelerator, cost: float, hours: float) -> Reason | None:
    rent = rent_of(claim, device)
    known, implied = rent.usd_per_hour, cost / hours
    _question(claim, "cost_usd", cost, known.median * hours, "dollars")
    start = f"The stated price and hours make ${implied:,.2f} an hour of {device.title}; {rent.whose}"
    if not known.low / RENT_ROOM <= implied <= known.high * RENT_ROOM:
        side = "below" if implied < known.low else "above"
        text = f"{start}. That is {side} anything that such an hour is known to cost: price or hours are wrong."
        return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)
    if not known.low <= implied <= known.high:
        side = "cheaper" if implied < known.low else "dearer"
        return Reason(verdict=Verdict.CONSISTENT, text=f"{start}: {side} than that, by less than contracts differ.")
    return None


def _least_price(claim: Claim, device: Accelerator, cost: float, done: Work) -> Reason | None:
    """Without hours: the work at the peak rate without a pause, at a third of the lowest rent."""
    rent, wanted = rent_of(claim, device), claim.text("precision") or ("fp8" if "fp8" in device.tflops else "bf16")
    hours = done.flops / device.peak_flops(wanted) / 3600
    least = hours * rent.usd_per_hour.low / RENT_ROOM
    if cost >= least:
        return None
    text = (
        f"At the highest rate that {device.title} has, without a pause, the work takes {count(hours)} device-hours; "
        f"for ${count(cost)} an hour would cost ${cost / hours:,.4f}. {rent.whose[0].upper()}{rent.whose[1:]}."
    )
    return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)
