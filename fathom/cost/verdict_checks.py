"""Do a claim's own figures fit each other? Each `[[check]]` is an identity; what it lacks is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fathom.cost import expression
from fathom.cost.claim import Check, Claim, stage_key
from fathom.cost.flops import decode_flops_per_token, forward_flops_per_token
from fathom.cost.verdict_physics import (
    NEEDED,
    NEEDED_OF_A_FLEET,
    Physics,
    Work,
    accelerator,
    architecture,
    limit_precision,
)
from fathom.cost.verdict_words import Verdict

Outcome = Literal["holds", "fails", "cannot be told"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check after the trial. `left` and `right` are the two sides, None where a figure is `missing`."""

    check: Check
    outcome: Outcome
    left: float | None = None
    right: float | None = None
    missing: tuple[str, ...] = ()

    @property
    def off(self) -> float | None:
        """Relative difference of the sides."""
        if self.left is None or not self.right:
            return None
        return self.left / self.right - 1

    @property
    def if_not(self) -> Verdict | None:
        """What follows from a failure: only a bound of the hardware makes impossible. Figures that contradict each
        other show that one of them is wrong, and not which. None where it does not bear on the verdict."""
        if not self.check.bears:
            return None
        of_hardware = self.check.relation == "at most" and "limit_flops" in expression.names(self.check.equals)
        return Verdict.IMPOSSIBLE if of_hardware else Verdict.IMPLAUSIBLE

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.check.title,
            "outcome": self.outcome,
            "expression": self.check.expression,
            "relation": self.check.relation,
            "equals": self.check.equals,
            "left": self.left,
            "right": self.right,
            "unit": self.check.unit,
            "off_by": self.off,
            "tolerance": self.check.tolerance,
            "if_not": str(self.if_not) if self.if_not else "note",
            "missing": list(self.missing),
            "says": self.check.says,
        }


def values_for(claim: Claim, work: Work | None, physics: Physics | None) -> dict[str, float]:
    """The claim's figures, and what is computed from them: the names are listed in `docs/claims.md`."""
    values = claim.numbers()
    if work is not None:
        values |= {"model_flops": work.flops, "model_flops_per_token": work.flops_per_token}
        values["main_flops_per_token"] = (work.flops - work.prediction_flops) / work.tokens
    if claim.text("accelerator"):
        device = accelerator(claim.text("accelerator"))
        values["peak_flops"] = device.peak_flops("bf16")
        values["limit_flops"] = device.peak_flops(limit_precision(claim, device))
    if physics is not None:
        values["utilisation_computed"] = physics.utilisation
    if claim.kind == "inference":
        values |= _serving_values(claim)
    if claim.kind == "rule":
        from fathom.cost.verdict_rule import performance_values

        values |= performance_values()
    return values


def _serving_values(claim: Claim) -> dict[str, float]:
    """Operations of reading and of writing one token at the service's `mean_context`."""
    shape, context = architecture(claim), claim.value("mean_context")
    if shape is None or context is None:
        return {}
    return {
        "read_flops_per_token": sum(forward_flops_per_token(shape, int(context)).values()),
        "write_flops_per_token": sum(decode_flops_per_token(shape, int(context)).values()),
    }


def findings(claim: Claim, values: Mapping[str, float]) -> list[Finding]:
    """Every check of the claim, tried, and those that any run with the figures must pass."""
    return [_try(check, values) for check in (*claim.checks, *_of_any_run(claim))]


def _try(check: Check, values: Mapping[str, float]) -> Finding:
    needed = dict.fromkeys([*expression.names(check.expression), *expression.names(check.equals)])
    lacking = tuple(name for name in needed if name not in values)
    if lacking:
        return Finding(check=check, outcome="cannot be told", missing=lacking)
    left, right = expression.evaluate(check.expression, values), expression.evaluate(check.equals, values)
    return Finding(check=check, outcome="holds" if _holds(check, left, right) else "fails", left=left, right=right)


def _holds(check: Check, left: float, right: float) -> bool:
    slack = check.tolerance * abs(right)
    if check.relation == "at most":
        return left <= right + slack
    if check.relation == "at least":
        return left >= right - slack
    return abs(left - right) <= slack


# Rounded figures of one table differ by a few percent; more is a contradiction.
ROUNDING = 0.03


def _of_any_run(claim: Claim) -> list[Check]:
    """Identities that hold by the meaning of the words, for files that do not write them out."""
    names, written = claim.numbers(), " ".join(check.expression for check in claim.checks)
    rows = _of_stages(claim, written)
    priced = {"device_hours", "price_usd_per_hour", "cost_usd"} <= names.keys() and "price_usd_per_hour" not in written
    if priced and claim.figures["device_hours"].basis == "stated":
        rows.append(
            Check(
                title="Hours times rent is the price",
                expression="device_hours * price_usd_per_hour",
                equals="cost_usd",
                tolerance=ROUNDING,
                says="The stated price is the stated hours at the stated rent.",
                unit="US dollars",
            )
        )
    if {"device_hours", "accelerator_count", "wall_days"} <= names.keys() and "wall_days" not in written:
        rows.append(
            Check(
                title="Devices times days are the hours",
                expression="accelerator_count * wall_days * 24",
                equals="device_hours",
                tolerance=ROUNDING + 1 / names["wall_days"],  # days are given whole
                says="The stated devices for the stated days are the stated hours.",
                unit="device-hours",
            )
        )
    return rows


def _of_stages(claim: Claim, written: str) -> list[Check]:
    """The stages are the whole; where one of them lacks the figure, no more than the whole."""
    rows = []
    for name, unit in (("device_hours", "device-hours"), ("cost_usd", "US dollars")):
        parts = [f"{stage_key(stage.name)}_{name}" for stage in claim.stages if name in stage.figures]
        if not parts or name not in claim.figures or any(part in written for part in parts):
            continue
        relation: Literal["equals", "at most"] = "equals" if len(parts) == len(claim.stages) else "at most"
        rows.append(
            Check(
                title=f"The stages add up, in {unit}",
                expression=" + ".join(parts),
                equals=name,
                relation=relation,
                tolerance=ROUNDING,
                says="The stages are parts of what is stated as the whole.",
                unit=unit,
            )
        )
    return rows


def describe(names: tuple[str, ...] | list[str]) -> str:
    """Missing figures in words, each with its name in a claim file, for a sentence."""
    words = NEEDED_OF_A_FLEET if "proof_of_machines" in names else NEEDED
    return ", ".join(f"{words[name]} ({name})" if name in words else name for name in names)
