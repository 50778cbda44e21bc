"""The sentences of a verdict. Written to be read by somebody who has never multiplied a matrix."""

from __future__ import annotations

from collections.abc import Sequence

from fathom.cost.claim import Claim
from fathom.cost.say import amount, count, in_unit, share, times
from fathom.cost.verdict_checks import Finding, describe
from fathom.cost.verdict_physics import Distribution, Physics, assumed
from fathom.cost.verdict_words import Reason, Verdict

# Beyond the fastest published run by this factor a figure is implausible: the runs on file are a sample. Slow is always
# possible, one can waste hours; a tenth of the slowest is no account of a training run any more.
FASTER, SLOWER = 1.1, 10.0


def of_physics(claim: Claim, found: Physics, runs: Distribution) -> list[Reason]:
    """Against the peak of the hardware, then against the published runs; on assumed figures neither tells anything."""
    told = _of_physics(found, runs)
    names = assumed(claim)
    if not names:
        return [told]
    text = (
        f"Whether it can be true cannot be told: the claim does not say {describe(names)}. What stands below in "
        f"their place is assumed here. On these assumptions, and on no others: {told.text}"
    )
    return [Reason(verdict=Verdict.CANNOT_BE_TOLD, text=text)]


def _of_physics(found: Physics, runs: Distribution) -> Reason:
    if found.share_of_limit > 1:
        return _beyond_hardware(found)
    lowest, highest = runs.values[0], runs.values[-1]
    if found.utilisation > highest * FASTER:
        return _beyond_runs(found, runs)
    if found.utilisation < lowest / SLOWER:
        return _below_runs(found, runs)
    return _among_runs(found, runs)


def _beyond_hardware(found: Physics) -> Reason:
    text = (
        f"The work is {amount(found.work.flops)} operations. In {count(found.device_hours)} device-hours that is "
        f"{times(found.share_of_limit)} the highest rate that {found.device.title} has "
        f"({found.limit_flops / 1e12:,.0f} trillion operations a second in {found.limit_precision}): without a single "
        f"pause at least {count(found.least_hours)} hours are needed. No machine of this kind can have done it."
    )
    return Reason(verdict=Verdict.IMPOSSIBLE, text=text)


def _beyond_runs(found: Physics, runs: Distribution) -> Reason:
    text = (
        f"The figures ask for {share(found.utilisation)} of the 16-bit peak of {found.device.title}, pauses included; "
        f"the fastest of {len(runs.values)} published runs on file reached {share(runs.values[-1])} "
        f"({runs.claims[-1]}). That would be {times(found.utilisation / runs.values[-1])} the best ever published, "
        f"though not beyond the hardware ({share(found.share_of_limit)} of its {found.limit_precision} peak)."
    )
    return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)


def _below_runs(found: Physics, runs: Distribution) -> Reason:
    text = (
        f"The figures mean {share(found.utilisation)} of the peak of {found.device.title}, less than a tenth of the "
        f"slowest of {len(runs.values)} published runs on file ({share(runs.values[0])}, {runs.claims[0]}): the hours "
        f"hold other work than the stated training, or a figure is wrong. {_slip(found, runs)}"
    )
    return Reason(verdict=Verdict.IMPLAUSIBLE, text=text)


def _slip(found: Physics, runs: Distribution) -> str:
    """The question that a run far too slow raises: which slip of units would make it an ordinary one."""
    short = runs.quantile(0.5) / found.utilisation
    if 1000 * found.utilisation < runs.values[0] / 2 or 1000 * found.utilisation > 2 * runs.values[-1]:
        return f"The tokens are few for the hours, or the hours many, by about {times(short)}: is a unit mixed up?"
    return (
        f"A thousand times the work would make it an ordinary run: are billions of tokens given for trillions "
        f"({count(1000 * found.work.tokens)}), millions of parameters for billions, or a thousand times the hours?"
    )


def _among_runs(found: Physics, runs: Distribution) -> Reason:
    below, total = runs.rank(found.utilisation), len(runs.values)
    start = (
        f"The work is {amount(found.work.flops)} operations; in {count(found.device_hours)} hours "
        f"({found.hours_method}) the machines ran at {share(found.utilisation)} of their 16-bit peak. "
    )
    if found.utilisation < runs.values[0]:
        text = (
            f"That is slower than every one of {total} published runs on file (the slowest: {share(runs.values[0])}): "
            f"possible, and a sign that the hours hold more than the stated training."
        )
    elif runs.quantile(0.1) <= found.utilisation <= runs.quantile(0.9):
        text = (
            f"Of {total} published runs on file {below} were slower and {total - below} faster (half of them between "
            f"{share(runs.quantile(0.25))} and {share(runs.quantile(0.75))}). Nothing about it is out of the ordinary."
        )
    elif found.utilisation > runs.values[-1]:
        text = (
            f"That is faster than every one of {total} published runs on file, by less than a tenth (the fastest: "
            f"{share(runs.values[-1])}, {runs.claims[-1]})."
        )
    else:
        text = (
            f"That is {'slow' if below < total / 2 else 'fast'}: {below} of {total} published runs on file were "
            f"slower. It is within what has been done ({share(runs.values[0])} to {share(runs.values[-1])})."
        )
    return Reason(verdict=Verdict.CONSISTENT, text=start + text)


def of_checks(claim: Claim, checks: Sequence[Finding]) -> list[Reason]:
    """What the claim's own figures say about each other."""
    return [reason for finding in checks if (reason := _of_check(claim, finding)) is not None]


def _of_check(claim: Claim, finding: Finding) -> Reason | None:
    check = finding.check
    if finding.if_not is None:
        return None
    if finding.outcome == "cannot be told":
        text = f"{check.title}: cannot be told, since it is not said {describe(finding.missing)}."
        return Reason(verdict=Verdict.CANNOT_BE_TOLD, text=text)
    sides = _sides(claim, finding)
    if finding.outcome == "holds":
        return Reason(verdict=Verdict.CONSISTENT, text=f"{check.title}: {sides}. {check.says}")
    off = finding.off
    by = f", off by {share(abs(off))}" if off is not None else ""
    text = f"{check.title}: not so. {sides}{by}. {check.says}"
    return Reason(verdict=finding.if_not, text=text)


def _sides(claim: Claim, finding: Finding) -> str:
    """Both sides of a check as a reader takes them in: "3.66 days computed, 3.7 days stated"."""
    check = finding.check
    left, right = in_unit(finding.left, check.unit), in_unit(finding.right, check.unit)
    same = left == right
    right = right.removesuffix(f" {check.unit}")  # named once is enough
    if check.relation != "equals":
        return f"{left} against a limit of {right}"
    if same:
        return f"{left} both ways"
    stated = [side.strip() in claim.numbers() for side in (check.expression, check.equals)]
    if stated[0] == stated[1]:
        return f"{left} by the one figure, {right} by the other" if stated[0] else f"{left} one way, {right} the other"
    return f"{left} {'stated' if stated[0] else 'computed'}, {right} {'stated' if stated[1] else 'computed'}"


def of_kind(claim: Claim, found: Physics | None, lacking: Sequence[str]) -> list[Reason]:
    """What cannot be told, and why."""
    if claim.kind in ("training", "closed") and found is None:
        text = f"Whether it can be true cannot be told: {_who(claim)} not say {describe(list(lacking))}."
        return [Reason(verdict=Verdict.CANNOT_BE_TOLD, text=text)]
    if claim.kind == "capacity":
        text = (
            f"Whether the machines exist, or will, is no matter of arithmetic. What was not published: "
            f"{describe(list(lacking))}. What they would do can be computed, and whether anything published needs them."
        )
        return [Reason(verdict=Verdict.CANNOT_BE_TOLD, text=text)]
    return []


def _who(claim: Claim) -> str:
    return f"{claim.made_by} did" if claim.kind == "training" else f"{claim.made_by} does"
