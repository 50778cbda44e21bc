"""How much of its peak a whole training run gets: a linear model of the logarithm, fitted on the claims on file.

The model, its fit, its error and its picture are explained in `docs/efficiency-model.md`.
`benchmarks/efficiency_model.py` fits it and writes `efficiency.toml`; here it is only evaluated, without NumPy or
SciPy, so that a claim is tried fast.
"""

from __future__ import annotations

import math
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from fathom.cost.hardware import canonical_precision
from fathom.cost.interval import Interval
from fathom.cost.run import Run

FEATURES = ("one", "fast_device", "size", "thin_on_fast", "scale", "fp8", "few_tokens")
# What the factors are called in an answer, and what each is of.
FACTORS = {
    "one": ("start", "an A100 or a slower device, 7B active parameters, 256 devices, 16 bits"),
    "fast_device": ("faster_accelerator", "a peak rate above the A100's"),
    "size": ("active_parameters", "active parameters against 7B"),
    "thin_on_fast": (
        "thin_work_on_fast_accelerator",
        "fewer active parameters a device than 7B on 256, beyond an A100",
    ),
    "scale": ("number_of_devices", "devices against 256, no more loss beyond 2,048"),
    "fp8": ("fp8_arithmetic", "products in 8 bits on a device whose 8-bit units are faster"),
    "few_tokens": ("few_tokens_a_parameter", "fewer than 20 tokens a parameter on a device up to the A100: early runs"),
    "limit": ("limit_of_published_runs", "no whole run on file got more of its peak"),
    "wider_than_16_bits": ("wider_than_16_bits", "the rate in 32 bits against the 16-bit one"),
}
# The A100: devices up to its rate kept their units busy about equally well, faster ones less.
REFERENCE_PEAK_FLOPS = 312e12
H100_OVER_A100 = math.log(989.4 / 312)
REFERENCE_PARAMETERS = 7e9
# Chinchilla's ratio (arXiv:2203.15556): runs on older devices with fewer tokens a parameter were planned before it was
# known, with the software of 2020 to 2022. GPT-3's 1.7 is the least among them.
EARLY_TOKENS_PER_PARAMETER, LEAST_TOKENS_PER_PARAMETER = 20.0, 1.7
REFERENCE_COUNT = 256
# Beyond this many devices the runs on file lose no more with each doubling (Llama 3.1 405B ran on 16,384).
MOST_SCALED_COUNT = 2048
# Utilisation with which the typical number of devices is looked up (the middle of the published runs).
MIDDLE_UTILISATION = 0.33
REFERENCE_HOURS = 1e5
# The effects are lines, and lines leave the range of what was fitted, with few devices first: no whole run on file got
# more than 0.67 of its peak (MobileLLM-1B, Phi-2), and large products alone get about 0.8.
MOST_UTILISATION, HIGHEST_UTILISATION = 0.67, 0.8


@dataclass(frozen=True)
class Prediction:
    """Utilisation (share of 16-bit peak) of a whole run: a median and the ends of its 80% interval.

    `reasons` is the factor that each feature puts on the utilisation; the median is their product.
    """

    interval: Interval
    reasons: dict[str, float]

    @property
    def median(self) -> float:
        return self.interval.median

    def factors_dict(self) -> dict[str, Any]:
        """For `--json`: each factor on the utilisation by a name that says what it is of."""
        return {
            "unit": "factor on the utilisation",
            "method": "efficiency model (docs/efficiency-model.md); their product is the median of `utilisation`",
            "parts": {
                FACTORS[name][0]: {"value": value, "means": FACTORS[name][1]} for name, value in self.reasons.items()
            },
        }

    @property
    def held_back(self) -> bool:
        """Whether the effects lead beyond what whole runs reach, so that the median is the limit itself."""
        return "limit" in self.reasons

    def device_hours(self, run: Run) -> Interval:
        """A high utilisation gives the low end; no run beats the peak."""
        ends = (self.interval.high, self.interval.median, self.interval.low)
        return Interval(*(run.device_hours(share) for share in ends))


def predict(run: Run) -> Prediction:
    """Utilisation to expect of `run`, restarts, evaluation and checkpoints included: published hours are whole runs."""
    fit = fitted()
    x = features(run, fit["count_model"])
    weights = [fit["coefficients"][name] for name in FEATURES]
    median = sum(w * value for w, value in zip(weights, x, strict=True)) + fit["median_error"]
    doubt = sum(x[i] * fit["covariance"][i][j] * x[j] for i in range(len(x)) for j in range(len(x)))
    ends = interval_ends(fit["error_low"], fit["error_high"], fit["log_sd"], doubt)
    low, middle, high = (share * run.wide_arithmetic for share in bounded(median, *ends))
    reasons = {name: math.exp(w * value) for name, w, value in zip(FEATURES, weights, x, strict=True)}
    reasons["one"] *= math.exp(fit["median_error"])
    if math.exp(median) > MOST_UTILISATION:
        reasons["limit"] = MOST_UTILISATION / math.exp(median)
    if run.wide_arithmetic < 1:
        reasons["wider_than_16_bits"] = run.wide_arithmetic
    return Prediction(Interval(low, middle, high), reasons)


def bounded(log_median: float, low: float, high: float) -> tuple[float, float, float]:
    """Utilisation at 10%, the median and 90%, from its logarithm and the ends around it, within what was reached."""
    middle = min(math.exp(log_median), MOST_UTILISATION)
    return middle * math.exp(low), middle, min(middle * math.exp(high), HIGHEST_UTILISATION)


def interval_ends(low: float, high: float, log_sd: float, doubt: float) -> tuple[float, float]:
    """The 10% and 90% errors of the published runs around their median, wider by the doubt in the coefficients.

    `doubt` is the variance that uncertain coefficients add to a prediction, `log_sd` the errors' own deviation.
    """
    wider = math.sqrt(1 + doubt / log_sd**2)
    return low * wider, high * wider


def features(run: Run, count_model: list[float]) -> list[float]:
    """What the model knows of a run, in the order of `FEATURES`."""
    fast = max(0.0, math.log(run.peak_flops / REFERENCE_PEAK_FLOPS)) / H100_OVER_A100
    size = math.log(run.active / REFERENCE_PARAMETERS)
    count = run.count or typical_count(run, count_model)
    scale = math.log(min(count, MOST_SCALED_COUNT) / REFERENCE_COUNT)
    fp8 = canonical_precision(run.precision) in ("fp8", "fp4") and run.device.peak_flops("fp8") > run.peak_flops
    return [
        1.0,
        fast,
        size,
        fast * max(0.0, scale - size),
        scale,
        float(fp8),
        _few_tokens(run),
    ]


def _few_tokens(run: Run) -> float:
    """log of how far below Chinchilla's ratio a run on a device up to the A100 stays: a mark of its years."""
    if run.peak_flops > 1.1 * REFERENCE_PEAK_FLOPS:
        return 0.0
    ratio = max(run.tokens / run.active, LEAST_TOKENS_PER_PARAMETER)
    return max(0.0, math.log(EARLY_TOKENS_PER_PARAMETER / ratio))


def typical_count(run: Run, count_model: list[float] | None = None) -> float:
    """Devices that published runs of this much work used: a power law of the work in device-hours."""
    intercept, slope = count_model or fitted()["count_model"]
    hours = run.device_hours(MIDDLE_UTILISATION)
    return max(1.0, math.exp(intercept + slope * math.log(hours / REFERENCE_HOURS)))


@cache
def fitted() -> dict[str, Any]:
    """Coefficients and the runs behind them."""
    text = resources.files("fathom.cost").joinpath("efficiency.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def published_runs() -> list[dict[str, Any]]:
    """The runs of the fit: `claim`, `developer`, `utilisation` as stated, and what is `predicted` of it, with the ends
    of its 80% interval, by a fit that saw no run of its developer."""
    return list(fitted()["run"])


def percentile_among_published(utilisation: float) -> float:
    """Share of the published runs on file that state a lower utilisation."""
    values = sorted(row["utilisation"] for row in published_runs())
    return bisect_right(values, utilisation) / len(values)
