"""One step: however it is cut into micro-batches it is the same step, and a diverged one never touches the weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import DENSE, MIXTURE, TinyBatches, run, tiny_recipe

from fathom.errors import RunFailed
from fathom.ledger import read
from fathom.train.loop import build_model
from fathom.train.optimizer import Optimizer
from fathom.train.parallel import Parallel
from fathom.train.step import NotFinite, batch_tensors, routing, take_step

CPU = torch.device("cpu")


def one_step(recipe, batch):
    model = build_model(recipe, CPU)
    model.init_weights(1)
    for layer in model.layers:  # output projections start at zero, which would hide most gradients
        for name, parameter in layer.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "down_EDF")):
                torch.nn.init.normal_(parameter, 0.0, 0.1, generator=torch.Generator().manual_seed(3))
    outcome = take_step(model, Optimizer(model, recipe.optimizer), batch, recipe, 1e-2, Parallel(device=CPU))
    return model, outcome


@pytest.mark.parametrize("model", [MIXTURE, DENSE, {**MIXTURE, "num_mtp_layers": 1}], ids=["mixture", "dense", "mtp"])
def test_one_batch_of_eight_equals_eight_of_one(model: dict) -> None:
    """Rows hold from 30% to 100% loss tokens, so a mean of means would differ."""
    shape = {"rows_per_step": 8, "micro_batch_rows": 8}
    together = tiny_recipe(model, train=shape)
    apart = tiny_recipe(model, train={**shape, "micro_batch_rows": 1})
    batch = TinyBatches(8, 16).batch(0)
    (model_a, a), (model_b, b) = one_step(together, batch), one_step(apart, batch)
    assert a.loss == pytest.approx(b.loss, rel=1e-6)
    assert a.gradient_norm == pytest.approx(b.gradient_norm, rel=1e-5)
    differences = [(p - q).abs().max().item() for p, q in zip(model_a.parameters(), model_b.parameters(), strict=True)]
    assert max(differences) < 2e-3  # AdamW divides by a gradient near zero here and there: the worst case is loose,
    assert sum(differences) / len(differences) < 1e-4  # the mean is not


def test_a_step_says_how_its_tokens_were_spread() -> None:
    shape = {"rows_per_step": 8, "micro_batch_rows": 2}
    _, outcome = one_step(tiny_recipe(MIXTURE, train=shape), TinyBatches(8, 16).batch(0))
    assert outcome.parts["dropped_choices"] == 0
    assert 1 <= outcome.parts["load_max_over_mean"] <= MIXTURE["num_experts"]
    _, outcome = one_step(tiny_recipe(DENSE, train=shape), TinyBatches(8, 16).batch(0))
    assert "dropped_choices" not in outcome.parts


def test_load_and_drops_are_counted_from_the_routers_loads() -> None:
    even, uneven = torch.tensor([4.0, 4.0, 4.0, 4.0]), torch.tensor([8.0, 4.0, 4.0, 0.0])
    assert routing([even, even], 16) == {"dropped_choices": 0.0, "load_max_over_mean": 1.0}
    assert routing([even, uneven], 16) == {"dropped_choices": 0.0, "load_max_over_mean": 2.0}
    assert routing([even, uneven], 18)["dropped_choices"] == pytest.approx(4.0)


def test_the_gradient_is_that_of_the_mean_over_loss_tokens() -> None:
    recipe = tiny_recipe(DENSE, train={"rows_per_step": 8, "micro_batch_rows": 2}, optimizer={"clip_norm": 0.0})
    batch = TinyBatches(8, 16).batch(0)
    model = build_model(recipe, CPU)
    model.init_weights(1)
    tensors = batch_tensors(batch, slice(None), CPU)
    hidden = model(tensors["tokens_BT"], documents_BT=tensors["documents_BT"], positions_BT=tensors["positions_BT"])
    kept = tensors["loss_mask_BT"]
    reference = torch.nn.functional.cross_entropy(model.logits(hidden)[kept], tensors["targets_BT"][kept])
    gradients = torch.autograd.grad(reference, list(model.parameters()))
    norm = torch.stack([g.norm() for g in gradients]).norm().item()
    _, outcome = one_step_plain(recipe, batch)
    assert outcome.loss == pytest.approx(reference.item(), rel=1e-6)
    assert outcome.gradient_norm == pytest.approx(norm, rel=1e-5)


def one_step_plain(recipe, batch):
    model = build_model(recipe, CPU)
    model.init_weights(1)
    return model, take_step(model, Optimizer(model, recipe.optimizer), batch, recipe, 1e-2, Parallel(device=CPU))


def test_a_batch_without_a_token_to_learn_from_is_refused() -> None:
    recipe = tiny_recipe(DENSE)
    batch = TinyBatches(4, 16).batch(0)
    empty = dataclasses.replace(batch, loss_mask=np.zeros_like(batch.loss_mask))
    with pytest.raises(RunFailed, match="no token to learn from"):
        one_step_plain(recipe, empty)


def test_a_loss_that_is_not_a_number_leaves_the_weights_alone() -> None:
    recipe = tiny_recipe(DENSE)
    model = build_model(recipe, CPU)
    model.init_weights(1)
    with torch.no_grad():
        model.norm.weight[0] = float("nan")
    before = {name: p.clone() for name, p in model.named_parameters()}
    with pytest.raises(NotFinite):
        take_step(
            model, Optimizer(model, recipe.optimizer), TinyBatches(4, 16).batch(0), recipe, 1e-2, Parallel(device=CPU)
        )
    for name, p in model.named_parameters():
        assert torch.equal(torch.nan_to_num(p), torch.nan_to_num(before[name])), name
        assert p.grad is None


LEARNING = {"steps": 60, "learning_rate": 0.02, "rows_per_step": 16, "micro_batch_rows": 16}


class PoisonedBatches(TinyBatches):
    """Batch 5 makes the loss leap: its targets are what the data never shows."""

    def batch(self, step: int):
        batch = super().batch(step)
        return dataclasses.replace(batch, targets=(batch.targets + 7) % 64) if step == 45 else batch


def test_a_leap_of_the_loss_stops_with_advice_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    recipe = tiny_recipe(DENSE, train=LEARNING, guard={"spike_factor": 1.8})
    with pytest.raises(RunFailed, match=r"the loss leapt to .* at step 46.*train.learning_rate="):
        run(recipe, tmp_path / "run", batches=PoisonedBatches(16, 16))
    assert (tmp_path / "run/checkpoints/latest").read_text().strip() == "step-00000044"


def test_a_leap_of_the_loss_rolls_back_where_the_recipe_says_so(tmp_path: Path) -> None:
    guard = {"spike_factor": 1.8, "action": "rollback"}
    recipe = tiny_recipe(DENSE, train=LEARNING, guard=guard)
    result = run(recipe, tmp_path / "run", batches=PoisonedBatches(16, 16))
    assert result.steps == 60
    notes = [e.body for e in read(tmp_path / "run") if e.body.kind == "note" and e.body.topic == "rollback"]
    assert [(note.details["at_step"], note.details["to_step"]) for note in notes] == [(46, 44)]
    rates = {e.body.step: e.body.learning_rate for e in read(tmp_path / "run") if e.body.kind == "step"}
    assert rates[45] < 0.6 * rates[44]
