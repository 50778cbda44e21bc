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


def first(model, device, count, sequence_length, batch_tokens):
    shape = known_model(model).architecture
    flops = training_flops(shape, batch_tokens, sequence_length).total
    return ranked(shape, accelerator(device), count, sequence_length, batch_tokens, flops)[0]


@pytest.mark.parametrize(("device", "count"), [("b200", 512), ("h100", 512), ("a100", 256)])
def test_a_model_that_needs_no_splitting_is_trained_by_sharded_data_parallelism(device, count):
    """What PyTorch's own recipe for an 8B does: data parallelism with the state sharded, nothing recomputed."""
    best = first("llama-3-8b", device, count, 4096, 4.2e6).layout
    assert (best.tensor, best.pipeline, best.expert, best.checkpointing) == (1, 1, 1, "none")


def test_experts_are_spread_before_layers_are():
    best = first("qwen3-30b-a3b", "h100", 256, 4096, 4.2e6).layout
    assert (best.tensor, best.pipeline, best.checkpointing) == (1, 1, "none")
    assert best.expert > 1


def test_a_dense_model_beyond_a_device_is_split_within_the_node_first():
    best = first("llama-3-70b", "h100", 2048, 8192, 16.8e6)
    assert best.layout.tensor > 1
    assert best.bubble_share < 0.1
    assert best.layout.checkpointing == "none"


def test_of_layouts_as_fast_the_least_split_comes_first():
    shape, batch = LLAMA, 64 * 8192.0
    flops = training_flops(shape, batch, 8192).total
    found = ranked(shape, H100, 64, 8192, batch, flops)
    seconds = [one.step_seconds(0.6 * H100.peak_flops("bf16"), flops) for one in found]
    near = [one for one, time in zip(found, seconds, strict=True) if time <= 1.02 * min(seconds)]
    assert found[: len(near)] == near
    assert [one.layout.splits for one in near] == sorted(one.layout.splits for one in near)


def test_a_ring_of_replicas_leaves_a_node_once_for_all_its_members():
    """Eight rings through nodes of eight: a network card carries an eighth of what its device sends."""
    apart = Placed(LLAMA, H100, Layout(1, 1, 64), 8192, 64 * 8192)
    network = 8 * H100.network_gb_per_second * 1e9
    expected = apart.sent_bytes["data"] / min(network, H100.link_gb_per_second / 2 * 1e9)
    assert apart.communication_seconds["data"] == pytest.approx(expected)
    alone = Placed(LLAMA, H100, Layout(8, 1, 8), 8192, 64 * 8192)
    assert alone.communication_seconds["data"] == pytest.approx(
        alone.sent_bytes["data"] / (H100.network_gb_per_second * 1e9)
    )
