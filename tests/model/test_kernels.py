"""The fused passes in bf16 against the same mathematics by torch in fp32, and what happens without a compiler."""

import warnings

import pytest
import torch

from fathom.model import kernels
from fathom.model.kernels import build
from tests.model.conftest import GROUPED, LATENT
from tests.model.conftest import build as build_decoder

pytestmark = pytest.mark.skipif(not kernels.available(), reason="no C++ compiler on this machine")


def relative(ours, expected):
    return float((ours.float() - expected).norm() / (expected.norm() + 1e-12))


@pytest.mark.parametrize("config", [GROUPED, LATENT], ids=["grouped", "latent"])
@pytest.mark.parametrize("length", [7, 128, 300])
def test_fused_attention_equals_masked_attention(config, length):
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
def test_fused_model_has_the_gradients_of_the_plain_one(config):
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
