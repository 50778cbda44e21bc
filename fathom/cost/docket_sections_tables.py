"""The rows and sentences of a trial's sections."""

from __future__ import annotations

from collections.abc import Iterator

from fathom.cost.claimed_run import pre_training
from fathom.cost.interval import Interval
from fathom.cost.regulators import MARGIN
from fathom.cost.say import amount, count, exact, power, share, usd
from fathom.cost.verdict import Trial, regulators_ways
from fathom.cost.verdict_words import Verdict

Row = tuple[str, ...]


def follows_rows(trial: Trial) -> Iterator[Row]:
    """What is computed from the claim's figures."""
    done, found = trial.work, trial.physics
    if done is not None:
        yield "operations of the training", amount(done.flops), done.method
        yield from _threshold_rows(trial)
    if found is not None:
        peak = f"{found.peak_flops / 1e12:,.4g} trillion operations a second in 16 bits"
        yield "device-hours", exact(found.device_hours), found.hours_method
        yield "utilisation", share(found.utilisation), f"of {peak} ({found.device.title}), pauses included"
        least = f"at the full {found.limit_precision} rate without a pause"
        yield "device-hours below which it is impossible", exact(found.least_hours), least
    if trial.priced is not None:
        yield from _price_rows(trial)
    if trial.capacity is not None:
        yield "accelerators", count(trial.capacity.count), trial.capacity.count_method
        if trial.capacity.usd_a_device is not None:
            yield "dollars a device, all in", usd(trial.capacity.usd_a_device), "investment / devices"
    for title, value, unit, says in trial.results:
        shown = "cannot be told" if value is None else _with_unit(value, unit)
        yield title, shown, says or "from the stated figures"


def _threshold_rows(trial: Trial) -> Iterator[Row]:
    """The highest legal threshold that the run is above, and one that it may be above, both ways of counting."""
    ways = regulators_ways(trial.claim, trial.work)
    if not ways:
        return
    counted, rough = ways["counted"], ways["architecture_way"]
    how = (
        f"of this run alone, by {amount(counted.flops)} as counted and {amount(rough.flops)} as C = 6 P D, which the "
        f"European Commission's guidelines want right within {MARGIN:.0%}"
    )
    for flags in reversed(list(zip(counted.flags, rough.flags, strict=True))):
        text = f"{power(flags[0]['threshold_flop']).removeprefix('1.00 × ')}, {flags[0]['rule']}"
        if all(flag["passed"] and not flag["within_margin"] for flag in flags):
            yield "legal threshold passed", text, how
            return
        if any(flag["passed"] or flag["within_margin"] for flag in flags):
            yield "legal threshold that may be passed", text, how


def _with_unit(value: float, unit: str) -> str:
    if unit.startswith("US dollars"):
        return usd(value) + unit.removeprefix("US dollars")
    return (
        f"{exact(value)} {unit}".strip()
        if not unit.startswith("share")
        else f"{share(value)} {unit[5:].strip()}".strip()
    )


def _price_rows(trial: Trial) -> Iterator[Row]:
    money = trial.priced
    assert money is not None
    if money.market is not None:
        name = "rents on file" if money.rent.of_its_time else f"the nearest rent on file, of {money.rent.nearest}"
        yield (
            f"price of the hours at {name}",
            dollars(money.market),
            f"{money.rent.whose}; {money.rent.source_and_time}",
        )
    if money.elsewhere is not None:
        yield (
            f"price of the hours at the rents of {money.elsewhere_of}, whose 16-bit peak is the same",
            dollars(money.elsewhere),
            "those above are what makers of models stated",
        )
    if money.implied_rent is not None:
        yield "rent that the stated price implies", f"{usd(money.implied_rent)} an hour", money.rent.whose


def dollars(value: Interval) -> str:
    return f"{usd(value.low)} to {usd(value.high)} (middle {usd(value.median)})"


def stage_rows(trial: Trial) -> Iterator[Row]:
    """Each stage priced: as stated, and at the rent on file."""
    for stage in trial.claim.stages:
        hours, cost = stage.figures.get("device_hours"), stage.figures.get("cost_usd")
        market = trial.priced.rent.usd_per_hour * hours.number if trial.priced and hours else None
        yield (
            stage.name,
            exact(hours.number) if hours else "not given",
            usd(cost.number) if cost else "not given",
            dollars(market) if market else "not known",
        )


def expected_text(trial: Trial) -> Iterator[str]:
    """Sentences on what published runs lead one to expect: one prediction, the one that `fathom plan` gives."""
    wanted = trial.expected
    if wanted is None:
        return
    on = f"on {wanted.accelerator.upper()}" + (", which is assumed: the claim names none" if wanted.assumed else "")
    if wanted.hours is not None:
        yield from _hours_text(trial, wanted.hours, on)
    if wanted.usd is not None and wanted.rent is not None:
        yield f"Rented, {wanted.rent.when}, that comes to {dollars(wanted.usd)}."
    if wanted.tokens is not None:
        yield (
            f"Turned round: at the utilisation of the published runs the stated hours {on} are worth "
            f"{count(wanted.tokens.low)} to {count(wanted.tokens.high)} tokens of such a model."
        )


def _hours_text(trial: Trial, hours: Interval, on: str) -> Iterator[str]:
    """The expected hours with their interval, for what they stand, and whether the stated hours lie among them."""
    wanted, stage = trial.expected, pre_training(trial.claim)
    assert wanted is not None
    work = f"the {stage.name} alone" if stage else "this training"
    without = f" nor of any other run of {wanted.left_out}" if wanted.left_out else ""
    yield (
        f"Told the model, its tokens, the precision and the machines, and nothing of the stated hours{without}, Fathom "
        f"expects {work} to take {count(hours.low)} to {count(hours.high)} device-hours {on} (middle "
        f"{count(hours.median)}). It is fitted on published runs; eight runs in ten should lie between its ends."
    )
    yield from _stated_against(trial)
    if wanted.plan_hours is not None and wanted.plan_hours != hours:
        yield (
            f"`fathom plan`, whose fit saw runs of {wanted.left_out} too, answers {count(wanted.plan_hours.low)} to "
            f"{count(wanted.plan_hours.high)} (middle {count(wanted.plan_hours.median)})."
        )


def _stated_against(trial: Trial) -> Iterator[str]:
    stage, wanted = pre_training(trial.claim), trial.expected
    given = stage.figures.get("device_hours") if stage else trial.claim.figures.get("device_hours")
    if wanted is None or wanted.stated_hours is None:
        return
    where = "lie within" if wanted.met else "lie outside of"
    basis = given.basis if given else "stated"
    text = f"The {count(wanted.stated_hours)} hours {basis}{' for it' if stage else ''} {where} that interval."
    whole = trial.claim.device_hours
    if stage and whole is not None and whole > wanted.stated_hours:
        text += (
            f" The other stages, {count(whole - wanted.stated_hours)} stated hours, are other work per token and are "
            f"not predicted: the whole is stated as {count(whole)}."
        )
    yield text


def omission_rows(trial: Trial) -> Iterator[Row]:
    for line in trial.omissions.lines:
        row = line.omission
        if line.low_usd is not None:
            spread = (
                usd(line.low_usd) if line.low_usd == line.high_usd else f"{usd(line.low_usd)} to {usd(line.high_usd)}"
            )
        else:
            spread = f"{row.low:g} to {row.high:g} times the run"
        note = "" if row.adds else " (not added)"
        seen = f"; seen in: {row.seen_in}" if row.seen_in else ""
        yield row.name + note, spread, row.says, f"{row.source.title}: {row.where}{seen}"


def omission_total(trial: Trial) -> str:
    total = trial.omissions.total_usd
    if total is None or not trial.omissions.lines or total[0] == total[1]:
        return ""
    price = usd(trial.omissions.price_usd)
    stated = "The stated price" if trial.omissions.price_method == "stated" else "The price of the hours"
    return (
        f"{stated} is {price}. With the lines below that add to it, it is {usd(total[0])} to {usd(total[1])}: "
        f"{total[0] / (trial.omissions.price_usd or 1):.2g} to {total[1] / (trial.omissions.price_usd or 1):.2g} times."
    )


def in_short(trial: Trial) -> str:
    """What a reader must know beside the verdict: what the price is of, and what it is not of."""
    total = trial.omissions.total_usd
    if trial.verdict is not Verdict.CONSISTENT or total is None or total[0] == total[1]:
        return ""
    price = usd(trial.omissions.price_usd)
    if trial.omissions.price_method == "stated":
        start = f"That is a verdict on the stated price of this training alone, {price}"
    else:
        when = trial.priced.rent.when if trial.priced else "at the rent of its time"
        more = trial.claim.value("all_in_usd")
        stated = f"The price stated, {usd(more)}, is of more than this training" if more else "No price is stated"
        start = f"{stated}; {when} the training alone comes to {price}"
    return f"{start}. With what such prices leave out it is {usd(total[0])} to {usd(total[1])}, by the ledger below."


def counter_text(trial: Trial) -> Iterator[str]:
    other = trial.counter
    if other is None or trial.verdict is Verdict.IMPOSSIBLE:
        return
    alone = trial.physics is not None and trial.physics.hours_method.endswith("of pre-training")
    what = "the pre-training" if alone else "this run"
    text = (
        f"{other.fleet.count:,.0f} H100 at the same utilisation would do {what} in {_days(other.days)}, "
        f"{share(other.share_of_year)} of such a fleet's year."
    )
    if other.runs_in_that_time is not None and other.own_days is not None:
        text += (
            f" In the {_days(other.own_days)} that the stated machines take for {what} they would do "
            f"{other.runs_in_that_time:,.3g} such runs."
        )
    yield text


def _days(days: float) -> str:
    if days >= 2:
        return f"{days:,.3g} days"
    return f"{days * 24:,.3g} hours" if days * 24 >= 1 else f"{days * 1440:,.2g} minutes"


def capacity_rows(trial: Trial) -> Iterator[Row]:
    found = trial.capacity
    if found is None:
        return
    slow, usual, fast = found.fleets
    yield "utilisation to expect", *(share(f.utilisation) for f in found.fleets)
    yield "operations a year", *(amount(f.flops_a_year) for f in found.fleets)
    yield "runs the size of DeepSeek-V3 a year", *(count(found.runs_a_year(f)) for f in found.fleets)
    yield (
        "time for one such run, if all of them could work on it",
        *(_days(f.days_for(found.yardstick_flops)) for f in (slow, usual, fast)),
    )


def rule_rows(trial: Trial) -> Iterator[Row]:
    if trial.claim.kind != "rule":
        return
    from fathom.cost.verdict_rule import table

    for row in table():
        yield (
            row.device.title,
            f"{row.performance:,.0f}",
            row.density.shown,
            row.rule_of_2022,
            row.rule_of_2023,
            share(row.rate),
            share(row.bandwidth),
            share(row.link),
            row.device.source + (f"; die: {row.device.die_source}" if row.device.die_source else ""),
        )
