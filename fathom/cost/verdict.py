"""The trial of a claim: `consistent`, `implausible`, `impossible` or `cannot be told`, with the reasons.

Two rulers, both from outside the claim: the hardware's peak rate, which nothing exceeds, and the utilisation of the
published runs on file, which says what has been done. Beside them stand the claim's own figures, which must fit each
other. The worst finding decides. A critic's claim is tried by the same rules as a maker's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fathom.cost import expression
from fathom.cost.claim import Claim
from fathom.cost.figures import UNITS
from fathom.cost.omissions import OmissionLedger, ledger
from fathom.cost.parameters import parameters
from fathom.cost.questions import OTHER_MODEL, question_tokens
from fathom.cost.regulators import Compute, architecture_way
from fathom.cost.verdict_checks import Finding, describe, findings, values_for
from fathom.cost.verdict_expect import Expectation, Priced, expectation, priced
from fathom.cost.verdict_fleet import Capacity, CounterClaim, capacity, counter_claim
from fathom.cost.verdict_physics import (
    Distribution,
    Physics,
    Work,
    architecture,
    missing,
    physics,
    published,
    work,
)
from fathom.cost.verdict_reasons import of_checks, of_kind, of_physics
from fathom.cost.verdict_stated import of_stated
from fathom.cost.verdict_words import Reason, Verdict
from fathom.errors import FathomError

# A utilisation this many times the limit is a slip of units sooner than a claim.
UNIT_SLIP = (300.0, 3e6)
# From so many devices on, hours on the clock cannot be taken for a fast run's device-hours.
MANY_DEVICES = 16


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that was found. `missing` names what the claim lacks to be held against hardware."""

    claim: Claim
    verdict: Verdict
    reasons: tuple[Reason, ...]
    work: Work | None
    physics: Physics | None
    runs: Distribution
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    expected: Expectation | None
    priced: Priced | None
    counter: CounterClaim | None
    capacity: Capacity | None
    omissions: OmissionLedger
    results: tuple[tuple[str, float | None, str, str], ...]  # title, value where its figures are given, unit, words


def try_claim(claim: Claim) -> Trial:
    """Try `claim` from first principles. Raises `FathomError` where a figure must be a slip of units."""
    done, found = work(claim), physics(claim)
    _question_shape(claim)
    if done is not None and (active := active_parameters(claim)) is not None:
        question_tokens(f"{claim.path}: tokens", done.tokens, active)
    _question_units(claim, found)
    values = values_for(claim, done, found)
    checks = findings(claim, values)
    lacking = missing(claim)
    runs = published(claim.id)
    reasons = _reasons(claim, done, found, checks, lacking, runs)
    verdict, money = _worst(reasons), priced(claim, found)
    return Trial(
        claim=claim,
        verdict=verdict,
        reasons=tuple(reasons),
        work=done,
        physics=found,
        runs=runs,
        findings=tuple(checks),
        missing=tuple(lacking),
        expected=expectation(claim, done, runs),
        priced=money,
        counter=counter_claim(claim, found) if found else None,
        capacity=capacity(claim) if claim.kind == "capacity" else None,
        omissions=ledger(claim, money.usd if money else None, money.method if money else "", verdict),
        results=tuple(_results(claim, values)),
    )


def _worst(reasons: Sequence[Reason]) -> Verdict:
    """Impossible, then implausible, then consistent; only where nothing at all could be tried, cannot be told."""
    given = {reason.verdict for reason in reasons}
    for verdict in (Verdict.IMPOSSIBLE, Verdict.IMPLAUSIBLE):
        if verdict in given:
            return verdict
    if Verdict.CANNOT_BE_TOLD in given:
        return Verdict.CANNOT_BE_TOLD
    return Verdict.CONSISTENT if given else Verdict.CANNOT_BE_TOLD


def _reasons(
    claim: Claim,
    done: Work | None,
    found: Physics | None,
    checks: Sequence[Finding],
    lacking: Sequence[str],
    runs: Distribution,
) -> list[Reason]:
    rows = of_physics(claim, found, runs) if found else []
    rows += of_stated(claim, done, found)
    rows += of_checks(claim, checks)
    return rows + of_kind(claim, found, lacking)


def _question_shape(claim: Claim) -> None:
    """A known model's name beside another size: the work would be counted for the one and stated for the other."""
    shape, stated = architecture(claim), claim.value("total_parameters")
    if shape is None or stated is None:
        return
    counted = parameters(shape).total
    if not 1 / OTHER_MODEL < stated / counted < OTHER_MODEL:
        raise FathomError(
            f"{claim.path}: total_parameters = {stated:g} is questioned: [model] name = {claim.model['name']!r} has "
            f"{counted:,} parameters; give the name of the claim's own model, or none"
        )


def _question_units(claim: Claim, found: Physics | None) -> None:
    """Thousands of times faster than any machine, or slower than any run, is a unit mistaken."""
    if found is None:
        return
    _question_clock(claim, found)
    share = found.share_of_limit
    if UNIT_SLIP[0] < share < UNIT_SLIP[1] or 1 / UNIT_SLIP[1] < share < 1 / (100 * UNIT_SLIP[0]):
        rate = f"{share:,.0f} times" if share > 1 else f"a {1 / share:,.0f}th of"
        raise FathomError(
            f"{claim.path}: the figures are questioned: {found.work.tokens:g} tokens in {found.device_hours:g} "
            f"device-hours would be {rate} what {found.device.title} can do at most; are thousands, millions or "
            f"billions mixed up, or hours on the clock given for device-hours?"
        )


def _question_clock(claim: Claim, found: Physics) -> None:
    """Impossible as device-hours, ordinary as hours on the clock of that many devices: the latter will be meant."""
    devices, runs = claim.value("accelerator_count"), published(claim.id)
    stated = claim.figures.get("device_hours")
    if devices is None or devices < MANY_DEVICES or stated is None or stated.basis != "stated":
        return
    if found.share_of_limit > 1 and runs.values[0] <= found.utilisation / devices <= runs.values[-1]:
        raise FathomError(
            f"{claim.path}: device_hours = {stated.number:g} is questioned: the work cannot be done in so many, and as "
            f"hours on the clock they would be ordinary; {devices:g} devices for {stated.number:g} hours are "
            f"{devices * stated.number:,.0f} device-hours"
        )


def _results(claim: Claim, values: dict[str, float]) -> Iterator[tuple[str, float | None, str, str]]:
    for row in claim.results:
        if lacking := [name for name in expression.names(row.expression) if name not in values]:
            yield row.title, None, row.unit, f"it is not said {describe(lacking)}"
        else:
            yield row.title, expression.evaluate(row.expression, values), row.unit, row.says


def active_parameters(claim: Claim) -> float | None:
    """Parameters that one token uses, as stated or by the published shape."""
    shape = architecture(claim)
    return claim.value("active_parameters") or (parameters(shape).active if shape else None)


def regulators_ways(claim: Claim, done: Work | None) -> dict[str, Compute]:
    """The run's operations as counted here and as C = 6 P D, called as in a plan; none without tokens."""
    active = active_parameters(claim)
    if done is None or active is None:
        return {}
    return {"counted": Compute(done.flops, done.method), "architecture_way": architecture_way(active, done.tokens)}


def trial_dict(trial: Trial) -> dict[str, Any]:
    """The trial as `fathom claim --json` prints it; the keys are described in `docs/claims.md`."""
    claim = trial.claim
    computed = trial.physics or trial.work
    return {
        "claim": claim.id,
        "title": claim.title,
        "kind": claim.kind,
        "subject": claim.subject,
        "made_by": claim.made_by,
        "date": claim.date,
        "statement": claim.statement,
        "context": claim.context,
        "verdict": str(trial.verdict),
        "reasons": [reason.to_dict() for reason in trial.reasons],
        "missing": list(trial.missing),
        "figures": {name: figure.to_dict() for name, figure in claim.figures.items()},
        "stages": [{"name": s.name, "figures": {n: f.to_dict() for n, f in s.figures.items()}} for s in claim.stages],
        "sources": [
            {"id": s.id, "title": s.title, "url": s.url, "primary": s.primary, "note": s.note}
            for s in claim.sources.values()
        ],
        "computed": computed.to_dict() if computed else None,
        "regulators": {name: way.to_dict() for name, way in regulators_ways(claim, trial.work).items()} or None,
        "published_runs": _runs_dict(trial),
        "expected": trial.expected.to_dict() if trial.expected else None,
        "price": trial.priced.to_dict() if trial.priced else None,
        "checks": [finding.to_dict() for finding in trial.findings],
        "results": [{"title": t, "value": v, "unit": u, "says": s} for t, v, u, s in trial.results],
        "left_out": trial.omissions.to_dict(),
        "counter_claim": trial.counter.to_dict() if trial.counter else None,
        "capacity": trial.capacity.to_dict() if trial.capacity else None,
        "units": {name: unit for name, unit in UNITS.items() if name in claim.figures},
    } | _rule_dict(claim)


def _runs_dict(trial: Trial) -> dict[str, Any]:
    runs = trial.runs
    quantiles = {f"p{q}": runs.quantile(q / 100) for q in (0, 10, 25, 50, 75, 90, 100)}
    below = runs.rank(trial.physics.utilisation) if trial.physics else None
    return {"count": len(runs.values), "utilisation": quantiles, "runs_below_this_claim": below}


def _rule_dict(claim: Claim) -> dict[str, Any]:
    if claim.kind != "rule":
        return {}
    from fathom.cost.verdict_rule import table

    return {"accelerators": [row.to_dict() for row in table()]}
