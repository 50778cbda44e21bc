"""The promise: caches are as published, and the decode roofline stands above published services, by a known share."""

from __future__ import annotations

import pytest

from benchmarks.pages import renewed
from benchmarks.serving_roofline import PUBLISHED, ROOT, table
from fathom.cost.hardware import accelerator
from fathom.cost.inference import (
    PREFILL_SHARES,
    PUBLISHED_SHARES,
    Service,
    kv_bytes_per_token,
    kv_cache_bytes,
    largest_batch,
)
from fathom.cost.models import known_model
from fathom.cost.plan import Answer
from fathom.cost.planfile import plan_from
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


def test_v3_keeps_a_57th_of_plain_multi_head_attention():
    """arXiv:2412.19437, section 4.2: 61 layers of 128 heads of 128; the latent 512 and 64 rotary numbers are kept."""
    v3 = shape("deepseek-v3")
    assert v3.num_layers * 2 * 128 * 128 * 2 / kv_bytes_per_token(v3) == pytest.approx(2 * 128 * 128 / 576, rel=1e-9)


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


@pytest.mark.parametrize("one", PUBLISHED, ids=lambda one: f"{one.model}-{one.device}-{one.devices}-{one.phase}")
def test_the_roofline_stands_above_published_services(one):
    shares = PUBLISHED_SHARES if one.phase == "decode" else PREFILL_SHARES
    assert shares.low <= one.share <= shares.high < 1


def test_at_least_three_published_services_with_their_error():
    assert len({one.source for one in PUBLISHED if one.phase == "decode"}) >= 3
    errors = [abs(one.to_dict()["error"]) for one in PUBLISHED]
    assert sorted(errors)[len(errors) // 2] <= 0.25
    assert max(errors) <= 0.5


def test_the_table_in_the_docs_is_the_present_one():
    page = ROOT / "docs" / "plan.md"
    text = page.read_text(encoding="utf-8")
    assert renewed(text, {"serving": table()}, page.name) == text, "run python -m benchmarks.serving_roofline --write"


def test_prefill_across_nodes_is_bound_by_sending_to_experts():
    def service(devices):
        return Service(
            architecture=shape("deepseek-v3"), device=accelerator("h800"), devices=devices, batch=1, context=4096,
            precision="fp8",
        )  # fmt: skip

    assert service(8).prefill_bound_by == "compute"
    assert service(32).prefill_bound_by == "experts_sent"
    # 58 layers, 3 copies to the other 3 nodes, 7168 numbers of 3 bytes over 50 GB/s
    assert service(32).prefill_seconds["experts_sent"] == pytest.approx(58 * 3 * 7168 * 3 / 50e9)


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


@pytest.mark.parametrize(
    ("name", "in_widths", "in_16_bits"), [("deepseek-v4-pro", 0.106, 0.115), ("deepseek-v4-flash", 0.074, 0.080)]
)
def test_a_plan_gives_the_cache_in_16_bits_and_as_published(name, in_widths, in_16_bits):
    def serving(model):
        cluster = {"accelerator": "h800", "count": 2048}
        tables = {"model": {"name": model}, "training": {"tokens": 1e13}, "cluster": cluster}
        return Answer(plan_from({**tables, "serving": {"context": 10**6}})).to_dict()["serving"]

    mine, v32 = serving(name), serving("deepseek-v3.2")
    for key, ratio in (("kv_bytes_per_token_as_published", in_widths), ("kv_bytes_per_token", in_16_bits)):
        assert mine[key]["value"] / v32[key]["value"] == pytest.approx(ratio, abs=0.001)
