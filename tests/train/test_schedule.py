"""Warm-up, stable, decay: the learning rate is what the plan says, and ends at the last step, not before or after."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import DENSE, tiny_recipe

from fathom.train.recipe import ScheduleSection
from fathom.train.schedule import first_plan, learning_rate_ratio, plan_at


@given(
    steps=st.integers(1, 2000),
    warmup=st.floats(0, 1),
    decay=st.floats(0, 1),
    shape=st.sampled_from(["linear", "sqrt", "cosine"]),
)
def test_up_flat_down(steps: int, warmup: float, decay: float, shape: str) -> None:
    schedule = ScheduleSection(warmup_fraction=warmup, decay_fraction=decay, decay_shape=shape)
    plan = first_plan(tiny_recipe(DENSE, train={"steps": steps}, schedule=schedule.model_dump()), steps)
    ratios = [learning_rate_ratio(schedule, plan, step) for step in range(steps)]
    assert all(0 < ratio <= 1 for ratio in ratios)
    up, down = ratios[: plan.warmup_steps], ratios[plan.decay_start :]
    assert up == sorted(up)
    assert down == sorted(down, reverse=True)
    assert all(ratio == 1 for ratio in ratios[plan.warmup_steps : plan.decay_start])
    if plan.warmup_steps and plan.warmup_steps <= plan.decay_start:
        assert ratios[plan.warmup_steps - 1] == 1


def test_values_by_hand() -> None:
    """10 steps, 2 of warm-up, the last 4 decay linearly over 5 intervals: 4/5, 3/5, 2/5, 1/5 and 0 just after."""
    schedule = ScheduleSection(warmup_steps=2, decay_fraction=0.4)
    plan = first_plan(tiny_recipe(DENSE, schedule=schedule.model_dump()), 10)
    ratios = [learning_rate_ratio(schedule, plan, step) for step in range(11)]
    assert ratios == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])


def test_the_newest_plan_counts_from_its_step_on() -> None:
    import dataclasses

    first = first_plan(tiny_recipe(DENSE), 100)
    second = dataclasses.replace(first, from_step=60, total_steps=80)
    assert plan_at([first, second], 59) is first
    assert plan_at([first, second], 60) is second
