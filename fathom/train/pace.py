"""How many steps a run takes: as many as asked, or as many as the seconds of its budget allow.

With a budget in seconds the first steps are real ones; once their speed is known the number of steps is fixed. It is
corrected where the decay begins (half-way, where it began before), and half-way to the end again and again, for a
machine may be slower or faster later; the decay goes on from the rate it has come to. Every plan is on the disk before
the first step that follows it.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

from fathom.errors import FathomError
from fathom.train.parallel import Parallel
from fathom.train.recipe import Recipe
from fathom.train.run_folder import RunFolder
from fathom.train.schedule import Plan, first_plan, plan_at, stretched

WARM_STEPS = 2  # the first steps allocate and compile: slower than the rest
CALIBRATION_STEPS = 6
CALIBRATION_SHARE = 0.04  # of the seconds, at least, before the speed is believed
GUESSED_STEPS = 1_000_000  # until the speed is known; the warm-up is then still short


class Pace:
    """The plans of a run and the clock that makes them."""

    def __init__(self, recipe: Recipe, folder: RunFolder, parallel: Parallel) -> None:
        self.recipe, self.folder, self.parallel = recipe, folder, parallel
        self.seconds = recipe.budget.seconds
        self.started = time.monotonic()
        self.times: list[float] = []  # of each step's own work
        self.marks: list[float] = [0.0]  # when each step ended
        self.plans: list[Plan] = []

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def seconds_per_step(self) -> float:
        """Mean of this session's steps so far, the first ones left out; 0 before any."""
        times = self.times[WARM_STEPS:] or self.times
        return statistics.fmean(times) if times else 0.0

    def seconds_left(self, plan: Plan, done: int) -> float:
        """Until the plan's end; until the budget's where the plan waits for the pace to be known."""
        if plan.reason == "to be calibrated":
            return max(0.0, self.seconds - self.elapsed)
        return self.seconds_per_step * (plan.total_steps - done)

    def begin(self, step: int) -> None:
        """Take up the plans of the run, or make the first one."""
        self.plans = self.folder.plans()
        if self.plans:
            return
        steps = self.recipe.train.steps
        if not steps and not self.seconds:
            raise FathomError(
                "the recipe says neither how many steps to train (train.steps) nor for how long (budget.seconds, "
                "--budget)"
            )
        if steps:
            self._adopt(first_plan(self.recipe, steps, "asked"))
        else:
            self._adopt(
                dataclasses.replace(
                    first_plan(self.recipe, GUESSED_STEPS, "to be calibrated"), warmup_steps=self._warmup()
                )
            )

    def _warmup(self) -> int:
        """The warm-up must be known before the speed is: the recipe's steps, else the planner's expectation."""
        return self.recipe.schedule.warmup_steps or 20

    def after_step(self, done: int, seconds: float) -> bool:
        """Note one step's time; True where it made a new plan."""
        self.times.append(seconds)
        self.marks.append(self.elapsed)
        if not self.seconds or self.recipe.train.steps:
            return False
        plan = plan_at(self.plans, done)
        if plan.reason == "to be calibrated":
            return self._calibrate(plan, done)
        if done == self._next_correction(plan):
            return self._correct(plan, done)
        return False

    def _next_correction(self, plan: Plan) -> int:
        """Half-way to the end, not before the decay; -1 once so few steps are left that they hold no surprise."""
        if plan.total_steps - plan.from_step <= 2 * CALIBRATION_STEPS:
            return -1
        half_way = (plan.from_step + plan.total_steps) // 2
        return max(plan.decay_start, half_way) if plan.reason == "calibrated" else half_way

    def _calibrate(self, plan: Plan, done: int) -> bool:
        enough = len(self.times) >= WARM_STEPS + CALIBRATION_STEPS and self.elapsed >= CALIBRATION_SHARE * self.seconds
        if not self.parallel.agree(enough or self.elapsed >= 0.5 * self.seconds):
            return False
        total = done + self._steps_left()
        decay = round(self.recipe.schedule.decay_fraction * total)
        start = max(done, total - decay)
        self._adopt(
            dataclasses.replace(plan, from_step=done, total_steps=total, decay_start=start, reason="calibrated")
        )
        return True

    def _correct(self, plan: Plan, done: int) -> bool:
        self._adopt(stretched(plan, done, done + self._steps_left()))
        return True

    def _steps_left(self) -> int:
        """By the pace of the last quarter of the steps, checkpoints between them included: machines get slower and
        faster while others use them.
        """
        count = min(len(self.marks) - 1, max(CALIBRATION_STEPS, len(self.marks) // 4))
        per_step = (self.marks[-1] - self.marks[-1 - count]) / count
        left = max(1, round((self.seconds - self.elapsed) / per_step))
        return int(self.parallel.agree(left))

    def roll_back(self, to_step: int, skipped: int, ratio: float) -> None:
        """From `to_step` on: lower learning rate and batches that were not seen when the loss diverged."""
        plan = self.plans[-1]
        self._adopt(
            dataclasses.replace(
                plan,
                from_step=to_step,
                rollbacks=plan.rollbacks + 1,
                learning_rate_scale=plan.learning_rate_scale * ratio,
                skipped_batches=plan.skipped_batches + skipped,
            )
        )

    def _adopt(self, plan: Plan) -> None:
        self.plans.append(plan)
        if self.parallel.writes:
            self.folder.write_plans(self.plans)
