"""The promise: FLOPs are those that PyTorch's own counter sees, forward and backward, component for component."""

from __future__ import annotations

import pytest

from fathom.cost.flops import decode_flops_per_token, forward_flops_per_token, mean_context, training_flops
from fathom.cost.huggingface import architecture_from_config
from fathom.cost.models import known_model
from fathom.errors import FathomError
from tests.cost.shrunken import CONFIGS, POSITIONS, reference_model

WITHOUT_GRADIENT = ("deepseek_v32", "deepseek_v4")  # the reference's indexer takes no part in the backward pass


@pytest.mark.parametrize("kind", CONFIGS)
def test_forward_and_backward_match_the_flop_counter(kind):
    """The reference's eager attention multiplies the whole square, so the square is what is compared here."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    torch.manual_seed(0)
    config = {"model_type": kind, **CONFIGS[kind]}
    model = reference_model(kind, config).float().train()
    tokens = torch.randint(3, 160, (2, POSITIONS))
    with FlopCounterMode(display=False) as forward:
        logits = model(input_ids=tokens, use_cache=False).logits
    with FlopCounterMode(display=False) as backward:
        logits.float().square().sum().backward()
    ours = forward_flops_per_token(architecture_from_config(config), POSITIONS, causal=False)
    indexer = _indexer_difference(ours, config) if kind in WITHOUT_GRADIENT else 0.0
    assert forward.get_total_flops() == pytest.approx(2 * POSITIONS * (sum(ours.values()) - indexer), rel=0.01)
    both = forward.get_total_flops() + backward.get_total_flops()
    trained = 3 * sum(ours.values()) - 2 * ours.get("indexer", 0.0) - indexer
    assert both == pytest.approx(2 * POSITIONS * trained, rel=0.01)


def _indexer_difference(ours, config):
    """V4's reference sums the indexer's heads by an element-wise product, which the counter does not see."""
    if config["model_type"] != "deepseek_v4":
        return 0.0
    entries = sum(POSITIONS // ratio for ratio in config["compress_ratios"] if ratio == 4)
    return 2 * config["index_n_heads"] * entries


@pytest.mark.parametrize("top_k", [1, 8, 64])
def test_sparse_attention_that_reads_only_what_it_chose_matches_the_flop_counter(top_k):
    """The reference of V3.2 multiplies the whole square and masks it; this one gathers, position by position."""
    pytest.importorskip("torch")
    config = {"model_type": "deepseek_v32", **CONFIGS["deepseek_v32"], "index_topk": top_k}
    ours = forward_flops_per_token(architecture_from_config(config), POSITIONS)
    attention = sum(ours[name] for name in ("attention_projections", "attention_products", "indexer"))
    counted = _gathered_latent_attention_flops(config) * config["num_hidden_layers"]
    assert counted == pytest.approx(POSITIONS * attention, rel=1e-9)


def _gathered_latent_attention_flops(c):
    """FLOPs of one layer over one sequence, each query scoring all positions before it and reading the best."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    heads, nope, rope, latent = (
        c[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "kv_lora_rank")
    )
    small, width = c["index_n_heads"], c["index_head_dim"]
    x = torch.randn(POSITIONS, c["hidden_size"])
    with FlopCounterMode(display=False) as counter:

        def project(rows, out):
            return rows @ torch.randn(rows.shape[-1], out)

        low = project(x, c["q_lora_rank"])
        queries = project(low, heads * (nope + rope)).unflatten(1, (heads, nope + rope))
        kept, shared = project(x, latent + rope).split([latent, rope], 1)
        expanded = project(kept, heads * (nope + c["v_head_dim"])).unflatten(1, (heads, -1))
        keys = torch.cat([expanded[..., :nope], shared.unsqueeze(1).expand(-1, heads, -1)], -1)
        values = expanded[..., nope:]
        index_queries = project(low, small * width).unflatten(1, (small, width))
        index_keys, weights = project(x, width), project(x, small)
        rows = []
        for i in range(POSITIONS):
            scores = torch.mm(weights[i : i + 1], torch.relu(torch.mm(index_queries[i], index_keys[: i + 1].T)))
            chosen = scores[0].topk(min(c["index_topk"], i + 1)).indices
            attention = torch.bmm(queries[i].unsqueeze(1), keys[chosen].permute(1, 2, 0)).softmax(-1)
            rows.append(torch.bmm(attention, values[chosen].transpose(0, 1)).flatten())
        project(torch.stack(rows), c["hidden_size"])
    return counter.get_total_flops()


@pytest.mark.parametrize("length", [1, 7, 64, 300])
@pytest.mark.parametrize("ratio", [1, 4, 128])
@pytest.mark.parametrize("cap", [0, 1, 5, 400])
def test_mean_context_equals_counting(length, ratio, cap):
    counted = [min(i // ratio, cap or length) for i in range(1, length + 1)]
    assert mean_context(length, ratio=ratio, top_k=cap) == pytest.approx(sum(counted) / length)


def test_packed_documents_attend_to_themselves_alone():
    by_hand = (sum(range(1, 11)) + sum(range(1, 31))) / 40
    assert mean_context([10, 30]) == pytest.approx(by_hand)
    arch = known_model("llama-3-8b").architecture
    packed = forward_flops_per_token(arch, [1024] * 8)
    assert packed == forward_flops_per_token(arch, 1024)


def test_causal_attention_is_half_of_the_square():
    arch = known_model("llama-3-8b").architecture
    half = forward_flops_per_token(arch, 8192)["attention_products"]
    whole = forward_flops_per_token(arch, 8192, causal=False)["attention_products"]
    assert half / whole == pytest.approx(8193 / 16384)


def test_more_experts_at_the_same_top_k_cost_only_their_router():
    few = {"model_type": "qwen3_moe", **CONFIGS["qwen3_moe"]}
    many = {**few, "num_experts": 2 * few["num_experts"]}
    one = forward_flops_per_token(architecture_from_config(few), 64)
    two = forward_flops_per_token(architecture_from_config(many), 64)
    assert {name for name in one if one[name] != two[name]} == {"router"}


def test_training_is_three_forwards_and_the_look_up_is_free():
    arch = known_model("deepseek-v3").architecture
    forward = forward_flops_per_token(arch, 4096)
    training = training_flops(arch, 1e6, 4096)
    assert training.total == pytest.approx(3e6 * sum(forward.values()))
    assert training.by_component["embedding"] == 0
    again = training_flops(arch, 1e6, 4096, recomputed_layers=1.0)
    assert again.total == training.total
    assert again.recomputed == pytest.approx(1e6 * (sum(forward.values()) - forward["output_head"]))


def test_deepseek_v3_costs_what_its_makers_say():
    """arXiv:2505.09343, table 2: 250 GFLOPS a token of training at a sequence length of 4096 (module left out)."""
    arch = known_model("deepseek-v3").architecture
    forward = forward_flops_per_token(arch, 4096, mtp=False)
    assert 3 * sum(forward.values()) == pytest.approx(250e9, rel=0.01)


def test_absorbed_decoding_equals_expanded_attention_at_one_position_in_products_of_the_same_shape():
    """Absorption trades the expansion of every cached latent for scores in the latent space: it wins from a few
    positions on, and both cost the same everywhere else in the layer."""
    arch = known_model("deepseek-v3").architecture
    for context in (64, 4096):
        absorbed = decode_flops_per_token(arch, context)
        expanded = decode_flops_per_token(arch, context, absorbed=False)
        same = set(absorbed) - {"attention_projections", "attention_products"}
        assert all(absorbed[name] == expanded[name] for name in same)
        assert sum(absorbed.values()) < sum(expanded.values())


def test_decoding_every_position_costs_the_causal_forward():
    """Token by token with a cache, grouped attention does just the products of one causal pass."""
    arch = known_model("llama-3-8b").architecture
    decoded = sum(sum(decode_flops_per_token(arch, position).values()) for position in range(1, 65))
    assert decoded == pytest.approx(64 * sum(forward_flops_per_token(arch, 64).values()))


def test_v4_saves_what_its_makers_say():
    """DeepSeek-V4 model card: at a million positions Pro takes 27% of V3.2's FLOPs a token."""
    pro = sum(decode_flops_per_token(known_model("deepseek-v4-pro").architecture, 2**20).values())
    v32 = sum(decode_flops_per_token(known_model("deepseek-v3.2").architecture, 2**20).values())
    assert pro / v32 == pytest.approx(0.27, abs=0.01)


@pytest.mark.parametrize("tokens", [-1, float("nan"), float("inf"), "12B", True])
def test_impossible_token_counts_are_named(tokens):
    with pytest.raises(FathomError, match="tokens"):
        training_flops(known_model("gpt-2").architecture, tokens, 1024)
