"""The promise: caches are as published, and the decode roofline stands above published services, by a known share."""

from __future__ import annotations

import pytest

from fathom.cost.hardware import accelerator
from fathom.cost.inference import PUBLISHED_SHARES, Service, kv_bytes_per_token, kv_cache_bytes, largest_batch
from fathom.cost.models import known_model
from fathom.errors import FathomError


def shape(name):
    return known_model(name).architecture


@pytest.mark.parametrize(
    ("name", "published"), [("deepseek-v3", 70_272), ("qwen2.5-72b", 327_680), ("llama-3.1-405b", 516_096)]
)
def test_cache_a_token_as_published(name, published):
    """arXiv:2505.09343, table 1: bytes a token in bf16."""
    assert kv_bytes_per_token(shape(name)) == published


def test_latent_cache_against_plain_multi_head_attention():
    """arXiv:2405.04434, section 2.1.4: the latent cache equals grouped attention with 2.25 groups (of heads 128 wide);
    DeepSeek-V2's 128 heads would keep 128 / 2.25 times as much."""
    v2 = shape("deepseek-v2")
    plain = v2.num_layers * 2 * 128 * 128 * 2
    assert plain / kv_bytes_per_token(v2) == pytest.approx(128 / 2.25, rel=1e-9)


@pytest.mark.parametrize(("name", "published"), [("deepseek-v4-pro", 0.10), ("deepseek-v4-flash", 0.07)])
def test_v4_against_v32_at_a_million_positions(name, published):
    """DeepSeek-V4 report: 10% and 7% of V3.2's cache at a million positions, rotary parts in 16 bits, the rest in 8,
    the indexer's keys in 8 (V3.2) and 4 (V4)."""
    v32 = kv_cache_bytes(shape("deepseek-v3.2"), 10**6, value_bytes=1, rope_bytes=2, index_bytes=1)
    v4 = kv_cache_bytes(shape(name), 10**6, value_bytes=1, rope_bytes=2, index_bytes=0.5)
    assert v4 / v32 == pytest.approx(published, abs=0.006)


def test_windows_stop_growing():
    arch = shape("gpt-oss-120b")
    grown = kv_cache_bytes(arch, 20_000) - kv_cache_bytes(arch, 10_000)
    full_layers = 18
    assert grown == pytest.approx(10_000 * full_layers * 2 * 8 * 64 * 2)


# name of the model, device, devices, sequences a device, positions, format, tokens/s of all devices, where published
SERVED = [
    # gpt-fast README: batch 1, prompts of 5 tokens and 200 generated, A100-80GB held to 330 W
    ("llama-2-7b", "a100", 1, 1, 105, "bf16", 104.9),
    ("llama-2-7b", "a100", 1, 1, 105, "int8", 155.58),
    ("llama-2-70b", "a100", 4, 1 / 4, 105, "bf16", 38.01),
    ("llama-2-70b", "a100", 8, 1 / 8, 105, "bf16", 62.50),
    # DeepSeek's inference day: 14.8k decoded tokens/s a node of eight, 4,989 positions of cache, experts over 144
    # devices; the batch is not published: 128 a device is what its open-sourced kernels are tuned and profiled with
    ("deepseek-v3", "h800", 144, 128, 4989, "fp8", 14_800 / 8 * 144),
]


@pytest.mark.parametrize(("name", "device", "devices", "batch", "context", "precision", "published"), SERVED)
def test_the_roofline_stands_above_published_services(name, device, devices, batch, context, precision, published):
    service = Service(
        architecture=shape(name), device=accelerator(device), devices=devices, batch=batch, context=context,
        precision=precision,
    )  # fmt: skip
    share = published / (devices * service.decode_tokens_per_second)
    assert PUBLISHED_SHARES.low <= share <= PUBLISHED_SHARES.high


def test_deepseek_prefill_is_below_the_roofline():
    """73.7k input tokens/s a node, of which 56.3% hit the cache and cost nothing."""
    service = Service(
        architecture=shape("deepseek-v3"),
        device=accelerator("h800"),
        devices=32,
        batch=1,
        context=4989,
        precision="fp8",
    )
    computed = 73_700 * (1 - 0.563) / 8
    assert 0.1 < computed / service.prefill_tokens_per_second < 1


def test_a_step_reads_all_experts_only_when_the_batch_is_large():
    small, large = (
        Service(architecture=shape("deepseek-v3"), device=accelerator("h800"), devices=16, batch=batch, context=1024,
                precision="fp8")
        for batch in (1 / 16, 256)
    )  # fmt: skip
    active = 37e9 / 671e9
    assert small.decode_seconds["memory"] * 3.35e12 == pytest.approx(active * small.weight_bytes, rel=0.05)
    weights = large.decode_seconds["memory"] * 3.35e12 - large.cache_bytes_total
    assert weights == pytest.approx(large.weight_bytes, rel=0.01)


def test_what_does_not_fit_has_no_batch():
    service = Service(
        architecture=shape("deepseek-v3"),
        device=accelerator("h800"),
        devices=8,
        batch=1,
        context=4096,
        precision="bf16",
    )
    assert not service.fits
    assert largest_batch(service) == 0


def test_dollars_follow_from_rent_and_rate():
    service = Service(architecture=shape("llama-3-8b"), device=accelerator("h100"), devices=1, batch=64, context=4096)
    usd = service.usd_per_million_tokens()
    assert usd.low < usd.median < usd.high
    twice = Service(architecture=shape("llama-3-8b"), device=accelerator("h100"), devices=1, batch=64, context=8192)
    assert twice.usd_per_million_tokens().median > usd.median


def test_bad_settings_are_named():
    with pytest.raises(FathomError, match=r"serving\.batch"):
        Service(architecture=shape("gpt-2"), device=accelerator("t4"), devices=1, batch=-1, context=10)
