"""Experts: grouped products against a plain loop, exact zeros where no token went, the router as it is defined."""

import pytest
import torch
import torch.nn.functional as F

from fathom.model.config import ModelConfig
from fathom.model.experts import Experts, Router, Routing, grouped_products, looped_products, sequence_balance


def config(**more):
    return ModelConfig(
        **{
            "vocab_size": 8,
            "hidden_size": 32,
            "num_layers": 1,
            "num_heads": 2,
            "num_experts": 6,
            "num_experts_per_token": 2,
            "moe_intermediate_size": 16,
        }
        | more
    )


def random_experts(shape=None):
    experts = Experts(shape or config())
    torch.manual_seed(0)
    with torch.no_grad():
        for stack in experts.parameters():
            stack.normal_(0, 0.2)
    return experts


def loop_over_tokens(experts, x, chosen, weights):
    """The definition, one token and one expert at a time, in float64."""
    gate, up, down = (stack.double() for stack in experts.parameters())
    rows = []
    for token, row in enumerate(x.double()):
        total = torch.zeros_like(row)
        for expert, weight in zip(chosen[token].tolist(), weights[token].double(), strict=True):
            total = total + weight * (down[expert] @ (F.silu(gate[expert] @ row) * (up[expert] @ row)))
        rows.append(total)
    return torch.stack(rows)


def routed(tokens, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, 32, generator=generator)
    # expert 5 is never chosen
    chosen = torch.stack([torch.randperm(5, generator=generator)[:2] for _ in range(tokens)])
    return x, chosen, torch.rand(tokens, 2, generator=generator), torch.randn(tokens, 32, generator=generator)


@pytest.mark.parametrize("tokens", [1, 7, 400])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_grouped_products_equal_a_loop_over_tokens(tokens, dtype, tolerance):
    experts = random_experts()
    x, chosen, weights, slope = routed(tokens)
    results = []
    for compute in (lambda a, w: experts(a.to(dtype), chosen, w), lambda a, w: loop_over_tokens(experts, a, chosen, w)):
        experts.zero_grad()
        a, w = x.to(dtype).float().requires_grad_(), weights.clone().requires_grad_()
        y = compute(a, w)
        y.backward(slope.to(dtype).to(y.dtype))
        results.append([y.double(), a.grad, w.grad, *(stack.grad for stack in experts.parameters())])
    for ours, expected in zip(*results, strict=True):
        error = (ours.double() - expected.double()).norm() / expected.double().norm()
        assert error < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_expert_without_tokens_gets_exact_zeros_even_from_dirty_memory(dtype):
    for _ in range(3):
        dirty = [torch.full((6, 32, 16), float("nan"), dtype=kind) for kind in (dtype, torch.float32) for _ in range(8)]
        del dirty
        experts = random_experts()
        x, chosen, weights, slope = routed(5)
        experts(x.to(dtype), chosen, weights).backward(slope.to(dtype))
        for stack in experts.parameters():
            assert torch.equal(stack.grad[5], torch.zeros_like(stack.grad[5]))
            assert torch.isfinite(stack.grad).all()


def test_many_experts_few_tokens_train_without_nan():
    shape = config(num_experts=64, num_experts_per_token=1)
    for dtype in (torch.float32, torch.bfloat16):
        router, experts = Router(shape), random_experts(shape)
        torch.nn.init.normal_(router.weight)
        optimizer = torch.optim.AdamW([*router.parameters(), *experts.parameters()], lr=1e-3, weight_decay=0.0)
        start = [stack.detach().clone() for stack in experts.parameters()]
        used = torch.zeros(64, dtype=torch.bool)
        torch.manual_seed(0)
        for _ in range(30):
            x = torch.randn(8, 32).to(dtype)
            routing = router(x)
            used[routing.experts_MA.flatten()] = True
            (experts(x, routing.experts_MA, routing.weights_MA).float() - 1).pow(2).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        for stack, before in zip(experts.parameters(), start, strict=True):
            assert torch.isfinite(stack).all()
            assert torch.equal(stack[~used], before[~used])
            assert not torch.equal(stack[used], before[used])


def test_groups_limit_the_choice_and_the_bias_moves_only_the_choice():
    shape = config(num_experts=8, num_expert_groups=4, num_groups_per_token=2, num_experts_per_token=3)
    router = Router(shape)
    torch.manual_seed(0)
    torch.nn.init.normal_(router.weight)
    x = torch.randn(50, 32)
    scores = torch.sigmoid(x @ router.weight.T)
    router.bias.copy_(torch.randn(8) * 0.1)
    routing = router(x)
    for token in range(50):
        biased = (scores[token] + router.bias).view(4, 2)
        groups = biased.sum(-1).topk(2).indices
        allowed = {int(2 * g + i) for g in groups for i in range(2)}
        best = sorted(allowed, key=lambda e: -float(biased.detach().flatten()[e]))[:3]
        chosen = routing.experts_MA[token]
        assert set(chosen.tolist()) == set(best)
        torch.testing.assert_close(routing.weights_MA[token], scores[token][chosen] / scores[token][chosen].sum())


def test_balance_loss_is_the_papers_formula_and_one_when_even():
    torch.manual_seed(0)
    scores, chosen = torch.rand(10, 6), torch.stack([torch.randperm(6)[:2] for _ in range(10)])
    counted = torch.tensor([True] * 8 + [False] * 2)
    sequence = torch.tensor([0] * 3 + [1] * 7)
    ours = sequence_balance(Routing(chosen, scores, scores), counted, sequence, 2)
    expected = 0.0
    for tokens in (range(3), range(3, 8)):
        for expert in range(6):
            f = 6 / (2 * len(tokens)) * sum(expert in chosen[t].tolist() for t in tokens)
            p = sum(float(scores[t, expert] / scores[t].sum()) for t in tokens) / len(tokens)
            expected += len(tokens) * f * p
    assert abs(float(ours) - expected) < 1e-4
    even = Routing(torch.arange(6).view(3, 2), torch.ones(3, 2), torch.ones(3, 6))
    three = torch.zeros(3, dtype=torch.int64)
    assert abs(float(sequence_balance(even, torch.ones(3, dtype=torch.bool), three, 1)) - 3) < 1e-6


def test_grouped_product_equals_a_product_an_expert_with_its_gradients():
    """The path of a GPU, tried on the processor: same values, same slopes, exact zeros without rows."""
    generator = torch.Generator().manual_seed(0)
    counts_E = torch.tensor([7, 0, 13, 0])
    found = []
    for product in (grouped_products, looped_products):
        rows_SI = torch.randn(20, 32, generator=generator.manual_seed(1)).bfloat16().requires_grad_()
        weights_EOI = torch.randn(4, 48, 32, generator=generator).requires_grad_()
        out_SO = product(rows_SI, weights_EOI, counts_E)
        out_SO.float().square().sum().backward()
        found.append((out_SO.detach(), rows_SI.grad, weights_EOI.grad))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-2, atol=1e-2)
    assert found[0][2][[1, 3]].eq(0).all()
