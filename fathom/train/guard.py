"""Watching the loss: a leap far above what it was is caught before it has spoilt many steps."""

from __future__ import annotations

import statistics
from collections import deque

WINDOW = 32  # losses whose median is the standard; a leap shows within one step


class SpikeWatch:
    """Says whether a loss leaps above `factor` times the median of the last steps; a factor of 0 never does."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.recent: deque[float] = deque(maxlen=WINDOW)

    def leaps(self, loss: float) -> bool:
        full = len(self.recent) == WINDOW
        if self.factor and full and loss > self.factor * statistics.median(self.recent):
            return True
        self.recent.append(loss)
        return False

    def forget(self) -> None:
        self.recent.clear()


def advice(what: str, learning_rate: float, step: int) -> str:
    return (
        f"{what} at step {step}, with a learning rate of {learning_rate:.3g}; checkpoints before it are kept. Try "
        f"--set train.learning_rate={learning_rate / 3:.2g}, a longer warm-up (schedule.warmup_fraction), or "
        f"guard.action=rollback"
    )
