"""The promise: hours, energy and dollars follow from the run, with intervals that published runs bear out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from fathom.cost import energy as energy_module
from fathom.cost.calibration import FEATURES, Row, fit, leave_one_group_out, score
from fathom.cost.efficiency import fitted, percentile_among_published, predict, published_runs, typical_count
from fathom.cost.energy import energy, modelled_joules
from fathom.cost.estimate import estimate
from fathom.cost.hardware import accelerator
from fathom.cost.interval import Interval
from fathom.cost.models import known_model
from fathom.cost.run import Run
from fathom.errors import FathomError

V3 = Run(
    name="deepseek-v3", architecture=known_model("deepseek-v3").architecture, tokens=14.8e12, sequence_length=4096,
    precision="fp8", device=accelerator("h800"), count=2048,
)  # fmt: skip


def test_deepseek_v3_lies_within_its_interval():
    """arXiv:2412.19437, table 1: 2,664,000 H800 hours of pre-training."""
    hours = estimate(V3).device_hours
    assert hours.low <= 2_664_000 <= hours.high


def test_the_document_says_unit_and_method_everywhere():
    for name, figure in estimate(V3).to_dict().items():
        assert figure["unit"], name
        assert figure["method"], name
    assert estimate(V3).to_dict()["device_hours"]["low"] < estimate(V3).to_dict()["device_hours"]["high"]


def test_hours_are_linear_in_tokens_at_equal_utilisation():
    one, two = predict(V3), predict(replace(V3, tokens=2 * V3.tokens))
    assert one.median == pytest.approx(two.median)
    assert two.device_hours(replace(V3, tokens=2 * V3.tokens)).median == pytest.approx(2 * one.device_hours(V3).median)


def test_effects_point_the_way_physics_does():
    small = Run(total_parameters=2e8, active_parameters=2e8, tokens=1e11, device=accelerator("h100"), count=8)
    large = replace(small, total_parameters=7e9, active_parameters=7e9)
    assert predict(small).median < predict(large).median
    assert predict(replace(large, count=4096)).median < predict(large).median
    assert predict(replace(large, device=accelerator("a100"))).median > predict(large).median
    assert predict(replace(large, precision="fp8")).median > predict(large).median
    for without in ("a100", "gaudi-3", "trainium"):  # no fp8 units, or units no faster than the 16-bit ones
        assert predict(replace(large, device=accelerator(without), precision="fp8")).reasons["fp8"] == 1.0
    early = replace(large, device=accelerator("a100"), tokens=2 * large.active)
    assert predict(early).median < predict(replace(early, tokens=100 * large.active)).median
    assert predict(replace(large, tokens=2 * large.active)).reasons["few_tokens"] == 1.0


def test_no_prediction_beats_the_peak():
    easy = Run(total_parameters=1e10, active_parameters=1e10, tokens=1e9, device=accelerator("a100"), count=1)
    assert predict(easy).interval.high <= 0.8
    assert predict(easy).median <= 0.67


def test_a_known_shape_and_its_size_agree():
    sized = replace(
        V3, architecture=None, total_parameters=671e9, active_parameters=36.7e9, layers=61, hidden_size=7168
    )
    assert sized.flops == pytest.approx(V3.flops, rel=0.15)


def test_active_above_total_is_refused():
    with pytest.raises(FathomError, match="are they exchanged"):
        Run(total_parameters=1e9, active_parameters=2e9, tokens=1e12, device=accelerator("h100"))


def test_more_work_takes_more_devices():
    small = Run(total_parameters=1e9, active_parameters=1e9, tokens=1e10, device=accelerator("h100"))
    assert typical_count(small) < typical_count(V3)


# The fit


def benchmark_rows() -> list[Row]:
    from benchmarks.efficiency_model import published_rows

    return published_rows()


def test_the_coefficients_on_file_are_those_of_the_claims_on_file():
    model, on_file = fit(benchmark_rows()), fitted()
    for i, name in enumerate(FEATURES):
        assert on_file["coefficients"][name] == pytest.approx(float(model.coefficients[i]), abs=0.02), (
            "the claims changed: run python -m benchmarks.efficiency_model --write"
        )
    assert on_file["error_low"] == pytest.approx(model.error_low, abs=0.03)
    assert on_file["error_high"] == pytest.approx(model.error_high, abs=0.03)


def test_developers_left_out_are_predicted_as_well_as_the_page_says():
    held = leave_one_group_out(benchmark_rows())
    assert {row["claim"] for row in published_runs()} == {one.row.claim for one in held}
    scores = score(held)
    results = json.loads((Path(__file__).parents[2] / "benchmarks/results/efficiency_model.json").read_text())
    for name, value in results["scores"]["developer"]["all"].items():
        assert scores[name] == pytest.approx(value, abs=0.02)
    assert 0.70 <= scores["coverage_of_80_percent"] <= 0.90
    assert scores["median_high_over_low"] <= 3


def test_families_left_out_are_predicted_within_a_quarter():
    scores = score(leave_one_group_out(benchmark_rows(), "family"))
    assert scores["median_absolute_error"] <= 0.25
    assert 0.70 <= scores["coverage_of_80_percent"] <= 0.90
    assert scores["median_high_over_low"] <= 3


def test_what_was_said_of_runs_before_they_were_learned_from_is_kept_as_it_was():
    """Stated hours are those on file, the scores follow from the rows, and the page shows both."""
    from benchmarks import efficiency_outside

    document, rows = efficiency_outside.recorded(), {row.claim: row for row in benchmark_rows()}
    assert len(document["runs"]) >= 32
    for row in document["runs"]:
        assert row["stated"] == pytest.approx(rows[row["claim"]].device_hours)
        assert row["low"] < row["median"] < row["high"]
    assert document["scores"] == efficiency_outside.scores(document["runs"])
    page = (Path(__file__).parents[2] / "docs/efficiency-model.md").read_text(encoding="utf-8")
    assert "\n".join(efficiency_outside.table(document)) in page


def test_leaving_out_a_developer_leaves_out_all_its_runs():
    rows = benchmark_rows()
    stripped = [row for row in rows if row.developer != "Meta"]
    mine = {one.row.claim: one.predicted for one in leave_one_group_out(rows) if one.row.developer == "Meta"}
    model = fit(stripped)
    for row in rows:
        if row.developer == "Meta":
            assert mine[row.claim] == pytest.approx(model.predict(row.run))


def test_a_synthetic_world_is_recovered():
    """Runs made from known effects: the fit finds them, and its intervals cover as they should."""
    import numpy as np

    random = np.random.default_rng(0)
    rows = []
    for developer in range(25):
        shift = random.normal(0, 0.2)
        for _ in range(5):
            size, fast = 10 ** random.uniform(8, 11), random.random() < 0.5
            run = Run(
                total_parameters=size, active_parameters=size, tokens=20 * size,
                device=accelerator("h100" if fast else "a100"), count=2 ** random.integers(3, 12),
            )  # fmt: skip
            thin = max(0.0, math.log(7e9 / size) + math.log(min(run.count, 2048) / 256))
            log = -0.9 - 0.4 * fast + 0.1 * math.log(size / 7e9) - 0.2 * fast * thin
            log -= 0.05 * math.log(run.count / 256)
            utilisation = math.exp(log + shift + random.normal(0, 0.2))
            rows.append(Row("", str(developer), "", run, run.device_hours(utilisation)))
    model = fit(rows)
    found = dict(zip(FEATURES, model.coefficients, strict=True))
    truth = {"fast_device": -0.4, "size": 0.1, "thin_on_fast": -0.2, "scale": -0.05}
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, abs=0.12), name
    assert 0.7 <= score(leave_one_group_out(rows))["coverage_of_80_percent"] <= 0.9


def test_percentiles_run_from_nothing_to_all():
    assert percentile_among_published(0.001) == 0.0
    assert percentile_among_published(0.99) == 1.0


# Energy


def test_energy_adds_up_from_rated_power():
    spent = energy("h800", 1.0)
    joules = 700 * 3600 * energy_module.DRAW_SHARE.median
    assert spent.devices_joules.median == pytest.approx(joules)
    assert spent.servers_joules.median == pytest.approx(joules * (1 + energy_module.HOST_SHARE.median))
    assert spent.mwh.median == pytest.approx(spent.building_joules.median / 3.6e9)
    assert spent.method == "modelled"


def test_olmo_and_granite_energy_lie_within_the_interval():
    """Granite 3.0 8B: 832,102 H100 hours and 757 MWh at 700 W and PUE 1.3 (its own model, so a check of the sum)."""
    mwh = energy("h100", 832_102).mwh
    assert mwh.low <= 757 <= mwh.high


def test_an_idle_device_still_draws():
    busy, idle = modelled_joules("cpu-epyc-genoa", 60, count=2), modelled_joules("cpu-epyc-genoa", 60, count=2, busy=0)
    assert 0 < idle.median < busy.median
    assert busy.low < busy.median < busy.high


@pytest.mark.parametrize("bad", [{"seconds": -1}, {"seconds": float("nan")}, {"busy": 1.5}, {"count": 0}])
def test_impossible_energy_is_refused(bad):
    with pytest.raises(FathomError):
        modelled_joules("cpu-server", **{"seconds": 60, **bad})


def test_independent_intervals_combine_in_squares():
    product = Interval(0.5, 1, 2) * Interval(0.5, 1, 2)
    assert product.high == pytest.approx(math.exp(math.hypot(math.log(2), math.log(2))))
    assert product.low == pytest.approx(1 / product.high)
    with pytest.raises(FathomError, match="ordered"):
        Interval(2, 1, 3)
