"""Warm-up, stable, decay: the learning rate of each step, from the plan that stands at that step.

The plan may change while a run goes on (calibrated on the first steps, corrected as the decay goes on), so it is a
short list of records, each valid from its step on. The list lies in the run folder and in the ledger: a resumed
run reads it and repeats exactly the learning rates of the run that was never stopped.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from fathom.errors import FathomError
from fathom.train.recipe import Recipe, ScheduleSection


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long the run is, from step `from_step` on. Steps count from 0; the last step is `total_steps` - 1."""

    from_step: int
    total_steps: int
    warmup_steps: int
    decay_start: int
    reason: str  # asked | to be calibrated | calibrated | corrected
    learning_rate_scale: float = 1.0  # lowered by a rollback
    rollbacks: int = 0
    skipped_batches: int = 0  # batches passed over by a rollback: step s reads batch s + skipped_batches


def first_plan(recipe: Recipe, total_steps: int, reason: str = "asked") -> Plan:
    schedule = recipe.schedule
    warmup = schedule.warmup_steps or math.ceil(schedule.warmup_fraction * total_steps)
    warmup = min(warmup, total_steps)
    decay = round(schedule.decay_fraction * total_steps)
    return Plan(
        from_step=0,
        total_steps=total_steps,
        warmup_steps=warmup,
        decay_start=max(warmup, total_steps - decay),
        reason=reason,
    )


def plan_at(plans: list[Plan], step: int) -> Plan:
    """The newest plan that is valid at `step`."""
    valid = [plan for plan in plans if plan.from_step <= step]
    if not valid:
        raise FathomError(f"the run's plan says nothing about step {step}; its plan file was changed")
    return valid[-1]


def stretched(plan: Plan, step: int, total_steps: int) -> Plan:
    """The plan from `step` on with another end. A decay that has begun goes on from where it is: its start is moved, so
    that the share of it that is over stays the same.
    """
    start = plan.decay_start
    if step > start:
        over = (step - start + 1) / (plan.total_steps - start + 1)
        start = min(step, round(total_steps + 1 - (total_steps - step) / (1.0 - over)))
    return dataclasses.replace(plan, from_step=step, total_steps=total_steps, decay_start=start, reason="corrected")


def learning_rate_ratio(schedule: ScheduleSection, plan: Plan, step: int) -> float:
    """Share of the peak learning rate at `step`, 0 to 1.

    Linear warm-up reaches the peak at the last warm-up step. The decay (arXiv:2404.06395, arXiv:2405.18392: linear and
    1 - sqrt are the two best cool-downs) reaches `final_ratio` one step after the last, so that no step is wasted at 0.
    """
    if step < plan.warmup_steps:
        return plan.learning_rate_scale * (step + 1) / plan.warmup_steps
    if step < plan.decay_start:
        return plan.learning_rate_scale
    progress = (step - plan.decay_start + 1) / (plan.total_steps - plan.decay_start + 1)
    falling = _SHAPES[schedule.decay_shape](min(progress, 1.0))
    return plan.learning_rate_scale * (schedule.final_ratio + (1.0 - schedule.final_ratio) * falling)


_SHAPES = {
    "linear": lambda progress: 1.0 - progress,
    "sqrt": lambda progress: 1.0 - math.sqrt(progress),
    "cosine": lambda progress: 0.5 * (1.0 + math.cos(math.pi * progress)),
}
