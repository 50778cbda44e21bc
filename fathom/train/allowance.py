"""What a budget leaves for each part of a command: training gets all but what preparing, evaluating and saving take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from fathom.cost.flops import forward_flops_per_token, parameters
from fathom.cost.memory import optimizer_values
from fathom.errors import FathomError
from fathom.train.budget import budget_seconds, parse_budget
from fathom.train.machine import MachineSpeed
from fathom.train.recipe import Recipe
from fathom.train.request import Request

DEFAULT_BUDGET = "10min"
EVALUATION_SHARE = 0.03  # of the budget, for one evaluation on held-out text
LEAST_EVALUATION_TOKENS = 4_000  # a domain
FORWARD_SHARE_OF_PEAK = 0.35  # that an evaluation reaches, at least
SAVE_BYTES_PER_SECOND = 250e6  # written, flushed and hashed; two cores and a network disk gave 300 to 600 MB/s
LEAST_TRAINING_SHARE = 0.2  # of the budget: where less is left to train in, it is refused


@dataclass(frozen=True)
class Allowance:
    """Seconds of the whole command, counted from `started` (time.monotonic); 0: no limit."""

    seconds: float
    text: str
    started: float
    evaluations: int

    @classmethod
    def of(cls, request: Request, started: float) -> Allowance:
        """The request's budget; ten minutes where neither budget nor recipe is given."""
        text = request.budget or ("" if request.recipe else DEFAULT_BUDGET)
        seconds = budget_seconds(parse_budget(text)) if text else 0.0
        return cls(seconds, text, started, 2 if request.start_from else 1)

    def seconds_left(self, recipe: Recipe, evaluation_seconds: float | None = None) -> float:
        """For the training loop, now. `evaluation_seconds`: what one evaluation took, where one was done already.

        Raises FathomError where next to nothing is left, with the budget that would do.
        """
        saved = 4.0 * (parameters(recipe.model).total + optimizer_values(recipe.model, recipe.optimizer.kind))
        expected = self.evaluations * EVALUATION_SHARE * self.seconds
        reserve = (expected if evaluation_seconds is None else evaluation_seconds) + saved / SAVE_BYTES_PER_SECOND
        left = self.seconds - (time.monotonic() - self.started) - reserve
        if left < LEAST_TRAINING_SHARE * self.seconds:
            enough = math.ceil((self.seconds - left) / (1 - LEAST_TRAINING_SHARE) / 60)
            raise FathomError(
                f"--budget {self.text} leaves {max(left, 0.0):.0f} seconds to train in, after preparing the data and "
                f"before evaluating and saving; give {enough}min or more (the prepared data is kept)"
            )
        return left

    def evaluation_tokens(self, recipe: Recipe, speed: MachineSpeed, domains: int) -> int:
        """Held-out tokens of a domain that one evaluation may take within its share of the budget."""
        per_token = sum(forward_flops_per_token(recipe.model, recipe.train.sequence_length, mtp=False).values())
        rate = FORWARD_SHARE_OF_PEAK * speed.peak_flops_per_second / per_token
        each = int(EVALUATION_SHARE * self.seconds * rate / max(1, domains))
        return min(recipe.data.evaluation_tokens, max(LEAST_EVALUATION_TOKENS, each))
