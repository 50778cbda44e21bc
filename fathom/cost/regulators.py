"""The training compute that regulators ask for, and the thresholds it is held against.

European Commission, Guidelines on the scope of the obligations for general-purpose AI models, C(2025) 5045 of 18 July
2025, Annex A.2: the hardware way C = N L H U and the architecture way C = 6 P D, either within an overall margin of
30% of the reported estimate. The Annex leaves open which peak H and which utilisation U it means; here H is the dense
16-bit peak and U the share of it that model FLOPs are, so that both ways count the same thing. The text of the Annex
was at hand only as quoted by others (Vilanakis, doi:10.5281/zenodo.22881088, and its code); the thresholds and what
counts are read from the AI Act itself (Regulation (EU) 2024/1689, Article 51(2) and Recital 111).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fathom.cost.checks import positive
from fathom.errors import FathomError

MARGIN = 0.30
THRESHOLDS = (
    (1e23, "EU: indicative of a general-purpose AI model (Commission guidelines of 18 July 2025)"),
    (1e25, "EU: presumed to be of systemic risk (AI Act, Article 51(2))"),
    (1e26, "California: frontier model (SB 53, 2025)"),
)
# Recital 111: all "activities and methods that are intended to enhance the capabilities of the model prior to
# deployment, such as pre-training, synthetic data generation and fine-tuning". The purposes are those of the ledger.
COUNTS: dict[str, tuple[bool, str]] = {
    "final": (True, "training of the model itself"),
    "tuning": (True, "fine-tuning enhances the model"),
    "data": (True, "generating training data enhances the model"),
    "evaluation": (False, "measures the model, does not enhance it"),
    "ablation": (False, "another model, whose weights are not in this one"),
    "failed": (False, "its weights are not in the model"),
}


@dataclass(frozen=True)
class Compute:
    """An estimate with its margin; the true value may lie between `low` and `high`."""

    flops: float
    method: str

    @property
    def low(self) -> float:
        return self.flops * (1 - MARGIN)

    @property
    def high(self) -> float:
        return self.flops * (1 + MARGIN)

    @property
    def flags(self) -> list[dict[str, Any]]:
        """Each threshold: passed, not passed, or within the margin of it."""
        return [
            {
                "threshold_flop": limit,
                "rule": rule,
                "passed": self.flops > limit,
                "within_margin": self.low <= limit <= self.high,
            }
            for limit, rule in THRESHOLDS
        ]

    def to_dict(self) -> dict[str, Any]:
        ends = {"value": self.flops, "low": self.low, "high": self.high, "unit": "FLOP", "method": self.method}
        return ends | {"thresholds": self.flags}


def hardware_way(units: float, seconds: float, peak_flops: float, utilisation: float) -> Compute:
    """Annex A.2.1: N hardware units for L seconds at the share U of their peak H."""
    for name, value in (("units", units), ("seconds", seconds), ("peak_flops", peak_flops)):
        positive(name, value)
    if not 0 < utilisation <= 1:
        raise FathomError(f"utilisation = {utilisation!r} cannot be: it is a share of the peak, above 0 and at most 1")
    return Compute(units * seconds * peak_flops * utilisation, "Annex A.2.1: C = N L H U")


def mean_peak(units: Iterable[tuple[float, float]]) -> float:
    """H of a mixed fleet: the mean of (count, peak), weighted by the number of units (Annex A.2.1)."""
    pairs = [(positive("units", count), positive("peak_flops", peak)) for count, peak in units]
    if not pairs:
        raise FathomError("a fleet needs at least one kind of unit")
    return sum(count * peak for count, peak in pairs) / sum(count for count, _ in pairs)


def architecture_way(parameters: float, tokens: float) -> Compute:
    """Annex A.2.2: six operations a parameter (of a mixture: an active one) and training token."""
    return Compute(6 * positive("parameters", parameters) * positive("tokens", tokens), "Annex A.2.2: C = 6 P D")


def totals(flops_by_purpose: Mapping[str, float]) -> dict[str, Any]:
    """Of a programme's FLOPs by purpose: the final run's, what regulators count, and all of it.

    An unknown purpose counts, so that nothing is left out by a name; `not_counted` says what was and why.
    """
    for purpose, flops in flops_by_purpose.items():
        positive(f"flops of {purpose}", flops, zero=True)
    counted = {p: f for p, f in flops_by_purpose.items() if COUNTS.get(p, (True, ""))[0]}
    left = {p: COUNTS[p][1] for p in flops_by_purpose if p not in counted}
    return {
        "final_run": {"value": flops_by_purpose.get("final", 0.0), "unit": "FLOP"},
        "regulators": Compute(sum(counted.values()), "AI Act, Recital 111: " + ", ".join(sorted(counted))).to_dict(),
        "all": {"value": sum(flops_by_purpose.values()), "unit": "FLOP"},
        "not_counted": left,
    }
