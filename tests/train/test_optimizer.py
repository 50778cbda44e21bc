"""Muon and AdamW against independent references, and what must not move."""

from __future__ import annotations

import pytest
import torch
from tiny_training import MIXTURE, tiny_recipe
from torch import nn

from fathom.errors import FathomError
from fathom.train.loop import build_model
from fathom.train.muon import orthogonalize, rms_matched_scale
from fathom.train.optimizer import Optimizer
from fathom.train.recipe import OptimizerSection

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 16, 48), (3, 48, 16)])
def test_newton_schulz_comes_near_the_polar_factor(shape: tuple[int, int, int]) -> None:
    """The reference is U V^T of the singular value decomposition in float64."""
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    got = orthogonalize(matrices).double()
    u, _, vh = torch.linalg.svd(matrices.double(), full_matrices=False)
    cosine = (got * (u @ vh)).sum((-1, -2)) / (got.norm(dim=(-1, -2)) * (u @ vh).norm(dim=(-1, -2)))
    assert cosine.min() > 0.97
    singular = torch.linalg.svdvals(got)
    assert singular.median() == pytest.approx(0.95, abs=0.25)
    assert singular.max() < 1.35


def test_newton_schulz_leaves_nothing_at_nothing() -> None:
    stack = torch.stack([torch.zeros(8, 8), torch.eye(8)])
    got = orthogonalize(stack)
    assert got[0].abs().max() == 0
    assert got[1].abs().max() > 0.5


def test_the_scale_gives_an_orthogonal_update_the_size_of_an_adamw_step() -> None:
    """An orthogonal M x N matrix has mean square 1 / max(M, N); times the scale its root is 0.2 (arXiv:2502.16982)."""
    for rows, columns in ((64, 64), (32, 128), (128, 32)):
        q = torch.linalg.qr(torch.randn(max(rows, columns), min(rows, columns)))[0]
        rms = q.pow(2).mean().sqrt() * rms_matched_scale(rows, columns)
        assert rms.item() == pytest.approx(0.2, rel=1e-4)


def test_a_muon_step_follows_the_published_rule() -> None:
    """Three steps re-derived with float64 singular value decompositions: momentum, Nesterov, scale, decoupled decay."""
    section = OptimizerSection(weight_decay=0.1)
    model = nn.ModuleDict({"layer": nn.Linear(24, 16, bias=False), "norm": nn.RMSNorm(24)})
    optimizer = Optimizer(model, section)
    weight, momentum = model["layer"].weight.detach().double().clone(), torch.zeros(16, 24, dtype=torch.float64)
    start = weight.clone()
    for step in range(3):
        gradient = torch.randn(16, 24, generator=torch.Generator().manual_seed(step))
        model["layer"].weight.grad = gradient.clone()
        optimizer.step(0.01)
        momentum = 0.95 * momentum + 0.05 * gradient.double()
        u, _, vh = torch.linalg.svd(0.05 * gradient.double() + 0.95 * momentum, full_matrices=False)
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * 0.2 * 24**0.5 * (u @ vh)
    ours, theirs = (moved.double() - start for moved in (model["layer"].weight.detach(), weight))
    assert (ours * theirs).sum() / (ours.norm() * theirs.norm()) > 0.97
    assert ours.norm() / theirs.norm() == pytest.approx(0.95, abs=0.15)  # the quintic leaves singular values near 0.95


def test_the_rest_moves_as_torch_adamw_does() -> None:
    section = OptimizerSection(kind="adamw", weight_decay=0.1, epsilon=1e-8)
    torch.manual_seed(0)
    ours, theirs = nn.ModuleDict({"layer": nn.Linear(8, 8, bias=False)}), nn.Linear(8, 8, bias=False)
    theirs.weight.data.copy_(ours["layer"].weight.data)
    optimizer = Optimizer(ours, section)
    reference = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for _ in range(5):
        gradient = torch.randn(8, 8)
        ours["layer"].weight.grad, theirs.weight.grad = gradient.clone(), gradient.clone()
        optimizer.step(0.01)
        reference.step()
    assert torch.allclose(ours["layer"].weight, theirs.weight, atol=1e-7)


def test_an_expert_without_tokens_moves_only_by_weight_decay() -> None:
    recipe = tiny_recipe(MIXTURE)
    model = build_model(recipe, CPU)
    model.init_weights(1)
    experts = model.layers[1].feed_forward.experts
    torch.nn.init.normal_(experts.gate_EFD)
    optimizer = Optimizer(model, recipe.optimizer)
    before = experts.gate_EFD.detach().clone()
    experts.gate_EFD.grad = torch.randn_like(experts.gate_EFD)
    experts.gate_EFD.grad[2] = 0.0
    optimizer.step(0.01)
    assert torch.allclose(experts.gate_EFD[2], before[2] * (1 - 0.01 * recipe.optimizer.weight_decay))
    assert (experts.gate_EFD[1] - before[1]).abs().max() > 1e-3


def test_every_parameter_has_exactly_one_optimizer_and_the_right_role() -> None:
    recipe = tiny_recipe({**MIXTURE, "num_mtp_layers": 1})
    model = build_model(recipe, CPU)
    optimizer = Optimizer(model, recipe.optimizer)
    adamw = {id(p) for group in optimizer.adamw.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (name in optimizer.momentum) != (id(parameter) in adamw), name
    roles = {name: role.kind for name, role in optimizer.roles.items()}
    assert roles["embedding.weight"] == "embedding"
    assert roles["head.weight"] == "head"
    assert roles["layers.1.feed_forward.router.weight"] == "vector"
    assert roles["layers.1.feed_forward.experts.down_EDF"] == "matrix"
    assert roles["layers.0.attention_norm.weight"] == "vector"
    assert {r.decay for n, r in optimizer.roles.items() if roles[n] != "matrix"} == {0.0}


def test_another_models_state_is_refused() -> None:
    model = nn.ModuleDict({"layer": nn.Linear(8, 8, bias=False), "norm": nn.RMSNorm(8)})
    with pytest.raises(FathomError, match="of another model or recipe"):
        Optimizer(model, OptimizerSection()).load({"momentum.other": torch.zeros(8, 8)}, 3)
