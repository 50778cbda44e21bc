"""DeepSeek's own families out of their `config.json`: V2, V3, V3.2 and V4, and GLM-4.5, which shares their layers."""

from __future__ import annotations

from dataclasses import replace

from fathom.cost.architecture import (
    Architecture,
    Attention,
    CompressedAttention,
    Dense,
    Experts,
    Indexer,
    LatentAttention,
    Layer,
)
from fathom.cost.huggingface_parts import Config, build, grouped


def glm4_moe(c: Config) -> Architecture:
    attention = grouped(c, qkv_bias=bool(c.get("attention_bias", False)))
    if c.get("use_qk_norm"):
        attention = replace(attention, norm_weights=2 * attention.head_dim)
    return build(c, _layers(c, attention))


def _layers(c: Config, attention: Attention) -> list[Layer]:
    dense = Dense(width=c["intermediate_size"])
    width = c["moe_intermediate_size"]
    experts = Experts(
        num_experts=c["n_routed_experts"],
        num_per_token=c["num_experts_per_tok"],
        width=width,
        shared_width=width * (c.get("n_shared_experts") or 0),
    )
    first = c.get("first_k_dense_replace", 0)
    return [
        Layer(count=1, attention=attention, feed_forward=dense if i < first else experts)
        for i in range(c["num_hidden_layers"])
    ]


def deepseek(c: Config) -> Architecture:
    """V2, V3 and V3.2; the multi-token-prediction module repeats the last layer."""
    indexer = None
    if "index_topk" in c:
        indexer = Indexer(num_heads=c["index_n_heads"], head_dim=c["index_head_dim"], top_k=c["index_topk"])
    attention = LatentAttention(
        num_heads=c["num_attention_heads"],
        q_lora_rank=c.get("q_lora_rank") or 0,
        kv_lora_rank=c["kv_lora_rank"],
        qk_nope_head_dim=c["qk_nope_head_dim"],
        qk_rope_head_dim=c["qk_rope_head_dim"],
        v_head_dim=c["v_head_dim"],
        indexer=indexer,
    )
    layers = _layers(c, attention)
    mtp = c.get("num_nextn_predict_layers", 0)
    return build(c, layers, mtp=layers[-1] if mtp else None, num_mtp=mtp)


def deepseek_v4(c: Config) -> Architecture:
    experts = Experts(
        num_experts=c["n_routed_experts"],
        num_per_token=c["num_experts_per_tok"],
        width=c["moe_intermediate_size"],
        shared_width=c["moe_intermediate_size"] * c.get("n_shared_experts", 1),
    )
    ratios = list(c["compress_ratios"])[: c["num_hidden_layers"]]
    streams = c.get("hc_mult", 4)
    kinds = {ratio: _compressed(c, ratio) for ratio in {*ratios, 0}}
    layers = [
        Layer(count=1, attention=kinds[ratio], feed_forward=experts, hyper_connections=streams) for ratio in ratios
    ]
    mtp = c.get("num_nextn_predict_layers", 0)
    window = Layer(count=1, attention=kinds[0], feed_forward=experts, hyper_connections=streams)
    return build(c, layers, mtp=window if mtp else None, num_mtp=mtp)


def _compressed(c: Config, ratio: int) -> CompressedAttention:
    """A ratio of 4 is sparse, overlapping and indexed; a larger one dense over its few entries."""
    sparse = 0 < ratio <= 4
    indexer = Indexer(num_heads=c["index_n_heads"], head_dim=c["index_head_dim"], top_k=c["index_topk"])
    return CompressedAttention(
        num_heads=c["num_attention_heads"],
        head_dim=c["head_dim"],
        q_lora_rank=c["q_lora_rank"],
        window=c["sliding_window"],
        ratio=ratio,
        overlap=sparse,
        output_groups=c["o_groups"],
        output_rank=c["o_lora_rank"],
        rope_dim=c.get("qk_rope_head_dim", 64),
        indexer=indexer if sparse else None,
    )
