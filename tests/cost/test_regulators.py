"""The promise: the Commission's eight worked examples come out, and thresholds are flagged with their margin."""

from __future__ import annotations

import math

import pytest

from fathom.cost.regulators import architecture_way, hardware_way, mean_peak, totals
from fathom.errors import FathomError

# Annex A.3 of the guidelines: inputs, the figure that the Commission prints and its digits. The rounding is uneven:
# seven figures have two digits, example B has one (1.08e23 is printed as 1e23).
ARCHITECTURE = [
    ("A", 3.8e9, 3.3e12, 7.5e22, 2),
    ("C", 0.6e9, 36e12, 1.3e23, 2),
    ("D", 1.54e9, 18e12, 1.7e23, 2),
    ("E", 1.7e9, 36e12, 3.7e23, 2),
    ("F", 2.5e9, 12e12, 1.8e23, 2),
    ("G", 2.6e9, 10e12, 1.6e23, 2),
]
HARDWARE = [
    ("B", 200_000, 300e12, 0.5, 1e23, 1),
    ("H", 370_000, 989e12, 0.5, 6.6e23, 2),
]


def rounded(value: float, digits: int) -> float:
    return round(value, digits - 1 - math.floor(math.log10(value)))


@pytest.mark.parametrize(("name", "parameters", "tokens", "printed", "digits"), ARCHITECTURE)
def test_architecture_examples(name, parameters, tokens, printed, digits):
    assert rounded(architecture_way(parameters, tokens).flops, digits) == pytest.approx(printed)


@pytest.mark.parametrize(("name", "hours", "peak", "utilisation", "printed", "digits"), HARDWARE)
def test_hardware_examples(name, hours, peak, utilisation, printed, digits):
    assert rounded(hardware_way(1, hours * 3600, peak, utilisation).flops, digits) == pytest.approx(printed)


def test_a_mixed_fleet_weighs_its_peaks_by_units():
    assert mean_peak([(400, 312e12), (200, 989e12)]) == pytest.approx((400 * 312e12 + 200 * 989e12) / 600)


@pytest.mark.parametrize(
    ("flops", "passed", "doubtful"),
    [(5e22, 0, 0), (9e22, 0, 1), (2e23, 1, 0), (8e24, 1, 1), (1.2e25, 2, 1), (2e26, 3, 0)],
)
def test_thresholds_are_flagged_with_their_margin(flops, passed, doubtful):
    flags = architecture_way(flops / 6, 1.0).flags
    assert [flag["passed"] for flag in flags].count(True) == passed
    assert [flag["within_margin"] for flag in flags].count(True) == doubtful


def test_what_flows_into_the_model_counts_and_the_rest_is_named():
    report = totals({"final": 5e22, "tuning": 1e22, "data": 2e22, "evaluation": 1e21, "failed": 3e22, "ablation": 4e22})
    assert report["final_run"]["value"] == 5e22
    assert report["regulators"]["value"] == pytest.approx(8e22)
    assert report["all"]["value"] == pytest.approx(1.51e23)
    assert set(report["not_counted"]) == {"evaluation", "failed", "ablation"}


def test_a_share_above_one_is_refused():
    with pytest.raises(FathomError, match="share of the peak"):
        hardware_way(8, 3600, 1e15, 38)
