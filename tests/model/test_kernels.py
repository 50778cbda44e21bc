"""The fused passes in bf16 against the same mathematics by torch in fp32, and what happens without a compiler."""

import warnings
from dataclasses import replace

import pytest
import torch

from fathom.model import kernels
from fathom.model.experts import Experts, Router, Routing, expert_load, sequence_balance
from fathom.model.kernels import attention as attention_kernels
from fathom.model.kernels import build
from fathom.model.kernels import experts as experts_kernels
from fathom.model.kernels.experts import ROW_STEP, _sort_by_expert
from fathom.model.kernels.routing import BalanceFunction, RouteFunction
from tests.model.conftest import GROUPED, LATENT
from tests.model.conftest import build as build_decoder

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler on this machine")


@pytest.fixture(params=["pass", "products"])
def way(request, monkeypatch):
    """Attention and experts as one pass of our own, where this processor has it, and by the library's products."""
    if request.param == "products":
        for module in (attention_kernels, experts_kernels):
            monkeypatch.setattr(module, "has", lambda name: False)
    elif not build.has("attention"):
        pytest.skip("this processor has no bf16 dot products, or tiles, with which the library's products are faster")


def relative(ours, expected):
    return float((ours.detach().float() - expected.detach()).norm() / (expected.detach().norm() + 1e-12))


@pytest.mark.parametrize("config", [GROUPED, LATENT], ids=["grouped", "latent"])
@pytest.mark.parametrize("length", [7, 64, 65, 300])
def test_fused_attention_equals_masked_attention(config, length, way):
    """Output and every gradient of one attention layer, over documents that start anywhere."""
    decoder = build_decoder(config)
    attention = decoder.layers[0].attention
    generator = torch.Generator().manual_seed(length)
    documents = torch.rand(2, length, generator=generator).gt(0.97).cumsum(1)
    tokens = torch.zeros(2, length, dtype=torch.int64)
    x = torch.randn(2, length, 64, generator=generator).bfloat16().float()
    slope = torch.randn(2, length, 64, generator=generator).bfloat16()
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        decoder.compute_dtype = dtype
        context = decoder._context(tokens, documents, None, None)
        assert (context.starts_BT is not None) == (dtype == torch.bfloat16)
        decoder.zero_grad()
        leaf = x.clone().requires_grad_()
        y = attention(leaf.to(dtype), context, 0)
        y.backward(slope.to(dtype))
        results.append([y, leaf.grad, *(p.grad for p in attention.parameters())])
    for ours, expected in zip(*results, strict=True):
        assert relative(ours, expected) < 2e-2


@pytest.mark.parametrize("config", [GROUPED], ids=["grouped"])
def test_fused_model_has_the_gradients_of_the_plain_one(config, way):
    decoder = build_decoder(config)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 61, (2, 150), generator=generator)
    documents = torch.arange(150).expand(2, -1) // 67
    gradients = []
    for dtype in (torch.bfloat16, torch.float32):
        decoder.compute_dtype = dtype
        decoder.zero_grad()
        decoder.loss(tokens, tokens.roll(-1, 1), documents).total.backward()
        gradients.append({name: p.grad for name, p in decoder.named_parameters()})
    for name, expected in gradients[1].items():
        assert relative(gradients[0][name], expected) < 6e-2, name


def test_the_loss_of_certain_and_of_impossible_tokens_is_exact():
    from fathom.model.kernels.functions import softmax_slopes

    logits = torch.tensor([[80.0, 0.0, -80.0]] * 3).bfloat16()
    losses = softmax_slopes(logits, torch.tensor([0, 1, 2]), slopes=True)
    torch.testing.assert_close(losses, torch.tensor([0.0, 80.0, 160.0]), atol=1e-4, rtol=0)
    expected = torch.tensor([[0.0, 0, 0], [1, -1, 0], [1, 0, -1]])
    torch.testing.assert_close(logits.float(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("hidden", "width"), [(32, 16), (40, 26)])
def test_experts_with_more_rows_than_a_chunk_equal_the_plain_ones(hidden, width, way):
    """Expert 3 has no rows, expert 0 more than one chunk of them, expert 1 an odd number."""
    shape = replace(LATENT, hidden_size=hidden, moe_intermediate_size=width, num_experts=4, num_experts_per_token=1)
    experts = Experts(shape)
    generator = torch.Generator().manual_seed(width)
    with torch.no_grad():
        for stack in experts.parameters():
            stack.copy_(torch.empty(stack.shape).normal_(0, 0.3, generator=generator).bfloat16())
    chosen = torch.tensor([0] * 1100 + [1] * 77 + [2] * 23)[torch.randperm(1200, generator=generator)].unsqueeze(1)
    x, slope = (torch.randn(1200, hidden, generator=generator).bfloat16() for _ in range(2))
    weights = torch.rand(1200, 1, generator=generator)
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        experts.zero_grad()
        leaf, weight = x.to(dtype, copy=True).requires_grad_(), weights.clone().requires_grad_()
        y = experts(leaf, chosen, weight)
        y.backward(slope.to(dtype))
        results.append([y, leaf.grad, weight.grad, *(stack.grad for stack in experts.parameters())])
    for ours, expected in zip(*results, strict=True):
        assert relative(ours, expected.float()) < 1e-2
    assert all(float(stack.grad[3].abs().max()) == 0.0 for stack in experts.parameters())


def test_not_a_number_is_passed_on():
    x = torch.full((2, 64), float("nan")).bfloat16()
    norm = build_decoder(GROUPED).norm
    assert norm(x).isnan().all()


def test_without_a_compiler_one_warning_says_what_it_costs(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    build.library.cache_clear()
    try:
        with pytest.warns(UserWarning, match="half as fast"):
            assert build.library() is None
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert build.library() is None
    finally:
        build.library.cache_clear()


@pytest.mark.parametrize("scoring", ["sigmoid", "softmax"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("groups", "kept", "bias"), [(1, 1, True), (4, 2, True), (4, 1, False)])
def test_the_fused_router_is_the_plain_one(scoring, normalize, groups, kept, bias):
    """Choice, weights, scores, balance loss, load and the slope of the logits, over padding and several sequences."""
    config = replace(
        LATENT,
        num_experts=8,
        num_experts_per_token=2,
        num_expert_groups=groups,
        num_groups_per_token=kept,
        router_scoring=scoring,
        normalize_expert_weights=normalize,
        routed_scaling_factor=1.7,
        router_bias=bias,
    )
    router = Router(config)
    generator = torch.Generator().manual_seed(kept)
    if router.bias is not None:
        router.bias.copy_(torch.randn(8, generator=generator))
    logits, slopes = (torch.randn(60, width, generator=generator) for width in (8, 2))
    counted, sequence = torch.arange(60) < 55, torch.arange(60) // 17
    results = []
    for fused in (True, False):
        leaf = logits.clone().requires_grad_()
        routing = Routing(*RouteFunction.apply(leaf, router.bias, config)) if fused else router.choose(leaf)
        order = routing.experts_MA.argsort(1)  # which of a token's experts comes first is nobody's business
        if fused:
            balance, load = BalanceFunction.apply(routing.scores_ME, routing.experts_MA, counted, sequence, 4)
        else:
            balance = sequence_balance(routing, counted, sequence, 4)
            load = expert_load(routing.experts_MA, counted, 8)
        weights = routing.weights_MA.gather(1, order)
        (0.3 * balance + (weights * slopes).sum()).backward()
        results.append([routing.experts_MA.gather(1, order), weights, routing.scores_ME, balance, load, leaf.grad])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_rows_sorted_by_expert_are_filled_up_with_rows_that_weigh_nothing():
    experts = torch.randint(0, 5, (400, 2), generator=torch.Generator().manual_seed(0))
    experts[experts == 3] = 4  # an expert without tokens
    weights = torch.rand(400, 2, generator=torch.Generator().manual_seed(1))
    place, tokens, row_weights, counts = _sort_by_expert(experts, weights, 5, ROW_STEP)
    assert counts[3] == 0
    assert all(count % ROW_STEP == 0 for count in counts)
    assert sum(counts) == len(tokens) == len(row_weights)
    owner = torch.repeat_interleave(torch.arange(5), counts)
    assert torch.equal(owner[place], experts)
    assert torch.equal(tokens[place], torch.arange(400)[:, None].expand(-1, 2))
    assert torch.equal(row_weights[place], weights)
    assert float(row_weights.sum()) == pytest.approx(float(weights.sum()), rel=1e-5)
    assert (place.flatten()[experts.flatten() == 4].diff() == 1).all()  # in the tokens' order


def test_a_logit_that_is_not_a_number_chooses_experts_that_exist():
    logits = torch.full((3, 8), float("nan"))
    experts, _, scores = RouteFunction.apply(logits, None, replace(LATENT, num_experts=8, router_bias=False))
    assert ((experts >= 0) & (experts < 8)).all()
    assert scores.isnan().all()
