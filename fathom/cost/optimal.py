"""What else the same money would buy: the compute-optimal dense model, and what would change the bill most."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fathom.cost.efficiency import predict
from fathom.cost.estimate import Estimate, estimate
from fathom.cost.interval import Interval
from fathom.cost.run import Run


@dataclass(frozen=True)
class ScalingLaw:
    """Loss in nats a token of a dense decoder of N parameters after D tokens: E + A / N^alpha + B / D^beta.

    The constants are those of Besiroglu et al. 2024 (arXiv:2404.10102, equation 4), who corrected the third fit of
    Hoffmann et al. 2022 (arXiv:2203.15556) to the same runs.
    """

    e: float = 1.8172
    a: float = 482.01
    b: float = 2085.43
    alpha: float = 0.3478
    beta: float = 0.3658

    def loss(self, parameters: float, tokens: float) -> float:
        return self.e + self.a / parameters**self.alpha + self.b / tokens**self.beta


LAW = ScalingLaw()
# Active over all parameters: 1 for a dense model (a little less where somebody leaves the embedding out), at most 0.28
# for the mixtures on file.
MIXTURE_BELOW = 0.9


DENSE_LAW = "The law was fitted on dense models."
OF_MIXTURES = (
    "What it would say of a mixture of experts, as this one, is not known: the second figure is that of a dense model "
    "of its active parameters, and a mixture does better."
)
OVER_TRAINED = "A smaller model on more tokens is often chosen on purpose: it is cheaper to serve."


@dataclass(frozen=True)
class Alternative:
    """A dense model for the same device-hours. Losses are comparable with each other, not with a mixture's."""

    parameters: float
    tokens: float
    loss: float
    loss_as_planned: float  # by the same law, of a dense model of the planned active parameters
    mixture: bool = False  # whether the plan is of one
    over_trained: bool = False  # whether the plan's model is smaller than the law would choose

    @property
    def caveat(self) -> str:
        """What the comparison does not say, to stand beside it."""
        said = (DENSE_LAW, OF_MIXTURES if self.mixture else "", OVER_TRAINED if self.over_trained else "")
        return " ".join(filter(None, said))

    def to_dict(self) -> dict[str, Any]:
        method = "dense scaling law of arXiv:2404.10102 at equal predicted device-hours on the same devices"
        return {
            "parameters": {"value": self.parameters, "unit": "parameters", "method": method},
            "tokens": {"value": self.tokens, "unit": "tokens", "method": method},
            "loss": {"value": self.loss, "unit": "nats a token", "method": method},
            "loss_as_planned": {
                "value": self.loss_as_planned,
                "unit": "nats a token",
                "method": "the same law for a dense model of the planned active parameters; a mixture does better",
            },
            "caveat": self.caveat,
        }


def compute_optimal(run: Run) -> Alternative:
    """The dense model of least loss that takes as many predicted device-hours as `run` (three digits)."""
    hours = predict(run).device_hours(run).median
    best: tuple[float, float, float] | None = None
    for step in range(-120, 121):
        size = run.active * 10 ** (step / 40)
        tokens = _affordable_tokens(run, size, hours)
        loss = LAW.loss(size, tokens)
        if best is None or loss < best[0]:
            best = (loss, size, tokens)
    assert best is not None
    loss, size, tokens = best
    return Alternative(
        _digits(size), _digits(tokens), loss, LAW.loss(run.active, run.tokens),
        mixture=run.active < MIXTURE_BELOW * run.total, over_trained=run.active < size,
    )  # fmt: skip


def _affordable_tokens(run: Run, size: float, hours: float) -> float:
    """Tokens that a dense model of `size` sees in `hours`: hours are nearly linear in tokens, so two steps suffice."""
    dense = replace(
        run, architecture=None, total_parameters=size, active_parameters=size, layers=0, hidden_size=0,
        tokens=max(1.0, run.tokens * run.active / size),
    )  # fmt: skip
    for _ in range(2):
        taken = predict(dense).device_hours(dense).median
        dense = replace(dense, tokens=dense.tokens * hours / taken)
    return dense.tokens


def _digits(value: float, digits: int = 3) -> float:
    return round(value, digits - 1 - math.floor(math.log10(value)))


@dataclass(frozen=True)
class Lever:
    """One thing changed alone: the cost at its two ends."""

    name: str
    low_says: str
    high_says: str
    usd_low: float
    usd_high: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "what": self.name,
            "from": self.low_says,
            "to": self.high_says,
            "usd": [self.usd_low, self.usd_high],
            "unit": "US dollars, median of the estimate",
        }


def tornado(estimated: Estimate, date: str | None = None) -> list[Lever]:
    """What moves the median cost most, the largest first: each lever alone, all else as planned."""
    run, count = estimated.run, estimated.count
    middle = estimated.cost_usd.median

    def cost(**change: Any) -> float:
        return estimate(replace(run, **change), date).cost_usd.median

    share, rent = estimated.prediction.interval, estimated.price.usd_per_hour
    levers = [
        Lever("utilisation", f"{share.high:.0%}", f"{share.low:.0%}", *_scaled(middle, share)),
        Lever("rent of a device-hour", f"${rent.low:.2f}", f"${rent.high:.2f}",
              middle * rent.low / rent.median, middle * rent.high / rent.median),
        _lever("tokens", run.tokens, 0.5, 2.0, _trillions, lambda x: cost(tokens=x)),
        _lever("devices at once", count, max(0.25, 1 / count), 4.0, lambda x: f"{x:.0f}", lambda x: cost(count=x)),
        _lever("sequence length", run.length, 0.5, 4.0, lambda x: f"{x:.0f}",
               lambda x: cost(sequence_length=max(1, int(x)))),
    ]  # fmt: skip
    if "fp8" in run.device.tflops:
        levers.append(Lever("precision", "fp8", "bf16", cost(precision="fp8"), cost(precision="bf16")))
    return sorted(levers, key=lambda lever: -abs(lever.usd_high - lever.usd_low))


def _trillions(tokens: float) -> str:
    """As people say it: 14.8T, 300B, 50M."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if tokens >= limit:
            return f"{tokens / limit:.3g}{letter}"
    return f"{tokens:.3g}"


def _scaled(middle: float, share: Interval) -> tuple[float, float]:
    return middle * share.median / share.high, middle * share.median / share.low


def _lever(
    name: str, value: float, down: float, up: float, says: Callable[[float], str], cost: Callable[[float], float]
) -> Lever:
    return Lever(name, says(value * down), says(value * up), cost(value * down), cost(value * up))
