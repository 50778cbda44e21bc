"""The budget's choice: whole, buildable, larger with more time, and kept by the clock."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from tiny_training import DENSE, TinyBatches, run, tiny_recipe

from fathom.cost.flops import parameters
from fathom.errors import FathomError
from fathom.model.decoder import Decoder
from fathom.train import dial
from fathom.train.fit import check_memory
from fathom.train.machine import MachineSpeed, measure
from fathom.train.muon import orthogonalize, orthogonalize_flops
from fathom.train.pace import Pace
from fathom.train.run_folder import RunFolder
from fathom.train.schedule import learning_rate_ratio, plan_at
from fathom.train.shapes import SIZES, WIDTHS, deepseek_style, llama_style

LAPTOP = MachineSpeed("cpu", 2, 4e11)
GPU = MachineSpeed("cuda", 16, 8e14)


@pytest.mark.parametrize("seconds", [30, 600, 86400, 30 * 86400])
@pytest.mark.parametrize("speed", [LAPTOP, GPU])
def test_every_budget_gives_a_recipe_that_can_be_built(seconds: float, speed: MachineSpeed) -> None:
    recipe = dial.choose(seconds, speed, dial.vocabulary_for(seconds))
    with torch.device("meta"):
        Decoder(recipe.model)
    assert recipe.train.rows_per_step % recipe.train.micro_batch_rows == 0
    assert recipe.train.micro_batch_rows * recipe.train.sequence_length <= 16384
    assert recipe.schedule.warmup_steps > 0
    assert recipe.train.steps == 0  # they follow from the clock


def test_more_time_never_chooses_a_smaller_model() -> None:
    widths = [dial.choose(60 * 4**n, LAPTOP, 4096).model.hidden_size for n in range(6)]
    assert widths == sorted(widths)
    assert widths[-1] > widths[0]
    assert dial.choose(600, GPU, 4096).model.hidden_size > dial.choose(600, LAPTOP, 4096).model.hidden_size


def test_little_text_chooses_a_model_that_is_no_larger() -> None:
    rich = dial.choose(3600, LAPTOP, 4096)
    poor = dial.choose(3600, LAPTOP, 4096, train_tokens=20_000)
    assert poor.model.hidden_size <= rich.model.hidden_size


@pytest.mark.parametrize("size", SIZES)
def test_a_size_overrides_the_choice(size: str) -> None:
    assert dial.choose(600, LAPTOP, 4096, size).model.hidden_size == SIZES[size]


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(FathomError, match="'huge' is not known; use one of tiny"):
        dial.choose(600, LAPTOP, 4096, "huge")


def test_repeated_tokens_are_worth_less_and_never_more() -> None:
    worth = [dial._worth(tokens, 1e6) for tokens in (5e5, 1e6, 2e6, 4e6, 1e8, 1e10)]
    assert worth[:2] == [5e5, 1e6]
    assert worth == sorted(worth)
    assert worth[2] == pytest.approx(1.97e6, rel=0.01)  # up to four epochs cost little (arXiv:2305.16264)
    assert worth[-1] < 17e6


def test_the_law_falls_with_size_and_tokens() -> None:
    for narrow, wide in itertools.pairwise(WIDTHS):
        small, large = deepseek_style(narrow, 4096), deepseek_style(wide, 4096)
        assert parameters(small).active < parameters(large).active
        assert dial.predicted_bits_per_byte(small, 1e7) > dial.predicted_bits_per_byte(large, 1e7)
    assert dial.predicted_bits_per_byte(small, 1e6) > dial.predicted_bits_per_byte(small, 1e7)


@pytest.mark.parametrize("width", WIDTHS)
def test_both_twins_of_a_rung_have_its_width_and_depth(width: int) -> None:
    ours, twin = deepseek_style(width, 4096), llama_style(width, 4096)
    assert (ours.hidden_size, ours.num_layers, ours.num_heads) == (twin.hidden_size, twin.num_layers, twin.num_heads)


def test_muons_operations_are_those_that_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        orthogonalize(torch.randn(3, 24, 40))
    assert counter.get_total_flops() == 3 * orthogonalize_flops(24, 40)


def test_the_machine_is_measured() -> None:
    speed = measure(torch.device("cpu"))
    assert speed.peak_flops_per_second > 1e9
    assert speed.threads == torch.get_num_threads()


def test_what_does_not_fit_is_refused_with_the_number() -> None:
    recipe = tiny_recipe(DENSE, train={"micro_batch_rows": 4}).with_changes(
        model={"hidden_size": 16384, "intermediate_size": 65536, "num_layers": 80, "head_dim": 8192}
    )
    with pytest.raises(FathomError, match=r"needs [\d.]+ GB of memory \(.*\) and [\d.]+ GB are free"):
        check_memory(recipe, torch.device("cpu"))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("later", [2.0, 0.5], ids=["slower", "faster"])
@pytest.mark.parametrize("change", [60, 110])
@pytest.mark.parametrize("decay", [0.5, 0.8])
def test_the_steps_are_fixed_from_the_first_ones_and_corrected_to_the_end(
    tmp_path: Path, monkeypatch, later: float, change: int, decay: float
) -> None:
    """Steps of 1 s are planned for; from `change` on they take `later`: the corrections keep the end near 200 s."""
    clock = Clock()
    monkeypatch.setattr("fathom.train.pace.time", clock)
    from fathom.train.parallel import Parallel

    recipe = tiny_recipe(DENSE, train={"steps": 0}, budget={"seconds": 200.0}, schedule={"decay_fraction": decay})
    pace = Pace(recipe, RunFolder(tmp_path), Parallel())
    pace.begin(0)
    step = 0
    while step < plan_at(pace.plans, step).total_steps:
        seconds = 1.0 if step < change else later
        clock.now += seconds
        step += 1
        pace.after_step(step, seconds)
    assert [plan.reason for plan in pace.plans][:3] == ["to be calibrated", "calibrated", "corrected"]
    assert clock.now - 100 == pytest.approx(200, rel=0.03)
    for before, after in itertools.pairwise(pace.plans[1:]):
        at = [learning_rate_ratio(recipe.schedule, plan, after.from_step) for plan in (before, after)]
        assert at[0] == pytest.approx(at[1], abs=0.03)  # steps are whole
    again = Pace(recipe, RunFolder(tmp_path), Parallel())
    again.begin(step)
    assert again.plans == pace.plans


def test_a_real_run_ends_at_the_step_that_its_clock_gave(tmp_path: Path) -> None:
    recipe = tiny_recipe(DENSE, train={"steps": 0}, budget={"seconds": 3.0}, schedule={"warmup_steps": 5})
    result = run(recipe, tmp_path / "run", batches=TinyBatches(4, 16))
    plans = RunFolder(tmp_path / "run").plans()
    assert [plan.reason for plan in plans][:2] == ["to be calibrated", "calibrated"]
    assert result.steps == plans[-1].total_steps
