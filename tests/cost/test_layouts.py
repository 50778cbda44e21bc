"""The promise: what a device holds and sends in a layout is what a simulation of the collectives counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fathom.cost.flops import training_flops
from fathom.cost.hardware import accelerator
from fathom.cost.layouts import Layout, Placed, candidates, ranked
from fathom.cost.memory import LOGITS_CHUNK_TOKENS
from fathom.cost.models import known_model
from fathom.cost.parameters import parameters

LLAMA = known_model("llama-3-8b").architecture
V3 = known_model("deepseek-v3").architecture
H100, H800 = accelerator("h100"), accelerator("h800")


def ring_all_gather_bytes(devices: int, whole: int) -> list[int]:
    """What each device of a ring sends until all have everything: its piece goes round, step by step."""
    piece = whole // devices
    has = [{rank} for rank in range(devices)]
    sent = [0] * devices
    passing = list(range(devices))
    while any(len(pieces) < devices for pieces in has):
        arriving = [passing[(rank - 1) % devices] for rank in range(devices)]
        for rank in range(devices):
            sent[rank] += piece
            has[rank].add(arriving[rank])
        passing = arriving
    return sent


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_sharded_weights_are_gathered_and_gradients_scattered_as_rings(devices):
    placed = Placed(LLAMA, H100, Layout(1, 1, devices), 8192, 8192 * devices)
    whole = 2 * parameters(LLAMA).total  # 16 bits
    one_gather = ring_all_gather_bytes(devices, whole)[0]
    assert placed.sent_bytes["data"] == pytest.approx(2 * one_gather, rel=1e-6)  # a scatter sends as much as a gather
    sharded = replace(placed, layout=replace(placed.layout, zero=3))
    assert sharded.sent_bytes["data"] == pytest.approx(3 * one_gather, rel=1e-6)


def test_one_device_sends_nothing():
    assert set(Placed(LLAMA, H100, Layout(1, 1, 1), 8192, 8192).sent_bytes.values()) == {0.0}


def test_experts_are_sent_as_the_paper_counts():
    """arXiv:2505.09343, section 2.3.2: 32 tokens a device, 9 experts of 7,000 numbers, one byte out and two back take
    120.96 us over 50 GB/s. The layout counts 8 routed experts of 7,168 numbers, 16 bits each way, forward only here."""
    paper = (1 + 2) * 32 * 9 * 7000 / 50e9
    assert paper == pytest.approx(120.96e-6)
    placed = Placed(V3, H800, Layout(1, 1, 64, expert=64), 32, 32 * 64)
    layers = 58
    one_way_forward = placed.sent_bytes["expert"] / 2 / layers
    assert one_way_forward / (63 / 64) / 50e9 == pytest.approx(paper * (4 / 3) * (8 / 9) * (7168 / 7000))


def test_splitting_splits_memory():
    whole = Placed(LLAMA, H100, Layout(1, 1, 1), 4096, 4096).memory_bytes
    tensor = Placed(LLAMA, H100, Layout(4, 1, 1), 4096, 4096).memory_bytes
    pipeline = Placed(LLAMA, H100, Layout(1, 4, 1), 4096, 4 * 4096).memory_bytes
    data = Placed(LLAMA, H100, Layout(1, 1, 4), 4096, 4 * 4096).memory_bytes
    for part in ("weights", "gradients", "optimizer"):
        assert tensor[part] == pytest.approx(whole[part] / 4)
        assert pipeline[part] == pytest.approx(whole[part] / 4)
    assert data["weights"] == whole["weights"]
    assert data["optimizer"] == pytest.approx(whole["optimizer"] / 4)
    assert tensor["activations"] == pytest.approx(whole["activations"] / 4)
    # one micro-batch in flight for each stage: the first stage holds as much as one device without a pipeline
    assert pipeline["activations"] == pytest.approx(whole["activations"])


def test_expert_parallelism_divides_experts_alone():
    alone = Placed(V3, H800, Layout(1, 16, 128), 4096, 128 * 4096 * 64)
    spread = replace(alone, layout=replace(alone.layout, expert=64))
    assert spread.shares[0] == pytest.approx(alone.shares[0] / 64)
    assert spread.shares[1] == alone.shares[1]


def test_every_layout_offered_fits_and_uses_every_device():
    batch = 2048 * 4096
    found = ranked(V3, H800, 2048, 4096, batch, training_flops(V3, batch, 4096).total)
    assert found
    assert all(placed.layout.devices == 2048 for placed in found)
    limit = 0.9 * H800.memory_gb * 1e9
    assert all(sum(placed.memory_bytes.values()) <= limit for placed in found)
    assert len({placed.layout for placed in found}) == len(found) <= len(list(candidates(V3, H800, 2048)))


def test_too_few_devices_have_no_layout():
    assert ranked(V3, H800, 8, 4096, 8 * 4096, training_flops(V3, 8 * 4096, 4096).total) == []


def test_pipelines_wait_as_the_paper_says():
    """arXiv:2104.04473, section 2.2.1: (p - 1) / m of the ideal time, that is (p - 1) / (m + p - 1) of the step."""
    placed = Placed(LLAMA, H100, Layout(1, 4, 1), 1024, 12 * 1024)
    assert placed.bubble_share == pytest.approx(3 / (12 + 3))
    assert LOGITS_CHUNK_TOKENS >= 1024
