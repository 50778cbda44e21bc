"""From a published `config.json` of `transformers` to an `Architecture`, for the families that claims are made about.

A config may leave out what its class defaults to; defaults are those of the class. Every reader below is checked
against a meta-device count of the class itself (`tests/cost/test_parameters.py`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from fathom.cost.architecture import Architecture, Dense, Experts, GroupedAttention, Layer
from fathom.cost.huggingface_deepseek import deepseek, deepseek_v4, glm4_moe
from fathom.cost.huggingface_parts import Config, build, grouped, stack, windows
from fathom.errors import FathomError


def architecture_from_config(config: Config) -> Architecture:
    """Read a `config.json`; text models inside multimodal ones are read from their `text_config`.

    Raises `FathomError` for an unknown model type or a missing key.
    """
    if "text_config" in config and config.get("model_type") not in READERS:
        config = {"model_type": f"{config.get('model_type')}_text", **config["text_config"]}
    kind = str(config.get("model_type", ""))
    if kind not in READERS:
        close = difflib.get_close_matches(kind, READERS, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(sorted(READERS))}"
        raise FathomError(f"model_type = {kind!r} is not known{hint}")
    try:
        return READERS[kind](config)
    except KeyError as missing:
        raise FathomError(f"the config of a {kind} model lacks {missing}: add it as in the published file") from None


def _llama(c: Config) -> Architecture:
    bias = bool(c.get("attention_bias", False))
    attention = grouped(c, qkv_bias=bias, output_bias=bias, window=c.get("sliding_window") or 0)
    return build(c, stack(c, attention, Dense(width=c["intermediate_size"], bias=bool(c.get("mlp_bias", False)))))


def _qwen2(c: Config) -> Architecture:
    return build(c, stack(c, grouped(c, qkv_bias=True), Dense(width=c["intermediate_size"])))


def _qk_normed(c: Config) -> GroupedAttention:
    attention = grouped(c)
    return replace(attention, norm_weights=2 * attention.head_dim)


def _qwen3(c: Config) -> Architecture:
    return build(c, stack(c, _qk_normed(c), Dense(width=c["intermediate_size"])))


def _qwen3_moe(c: Config) -> Architecture:
    experts = Experts(
        num_experts=c["num_experts"], num_per_token=c["num_experts_per_tok"], width=c["moe_intermediate_size"]
    )
    return build(c, stack(c, _qk_normed(c), experts))


def _qwen2_moe(c: Config) -> Architecture:
    experts = Experts(
        num_experts=c["num_experts"],
        num_per_token=c["num_experts_per_tok"],
        width=c["moe_intermediate_size"],
        shared_width=c["shared_expert_intermediate_size"],
        shared_gate=True,
    )
    return build(c, stack(c, grouped(c, qkv_bias=True), experts))


def _mixtral(c: Config) -> Architecture:
    experts = Experts(
        num_experts=c["num_local_experts"], num_per_token=c["num_experts_per_tok"], width=c["intermediate_size"]
    )
    return build(c, stack(c, grouped(c), experts))


def _whole_qk_norm(c: Config) -> GroupedAttention:
    """OLMo 2's norms run over the whole projection, not head by head."""
    a = grouped(c)
    return replace(a, norm_weights=(a.num_heads + a.num_kv_heads) * a.head_dim)


def _olmo(c: Config) -> Architecture:
    layers = stack(c, grouped(c), Dense(width=c["intermediate_size"]), norm_weights=0)
    return build(c, layers, final_norm_weights=0)


def _olmo2(c: Config) -> Architecture:
    pattern = ["full_attention" if (i + 1) % 4 == 0 else "sliding_attention" for i in range(c["num_hidden_layers"])]
    attentions = windows(c, _whole_qk_norm(c), pattern if c["model_type"] == "olmo3" else None)
    dense = Dense(width=c["intermediate_size"])
    return build(c, [Layer(count=1, attention=a, feed_forward=dense) for a in attentions])


def _olmoe(c: Config) -> Architecture:
    experts = Experts(
        num_experts=c["num_experts"], num_per_token=c["num_experts_per_tok"], width=c["intermediate_size"]
    )
    return build(c, stack(c, _whole_qk_norm(c), experts))


def _gemma(c: Config) -> Architecture:
    tied = {"tie_word_embeddings": True}
    return build(c, stack(c, grouped(c), Dense(width=c["intermediate_size"])), **tied)


def _gemma2(c: Config) -> Architecture:
    third = c["model_type"] != "gemma2"
    every = c.get("sliding_window_pattern", 6) if third else 2
    kinds = ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(c["num_hidden_layers"])]
    attentions = windows(c, _qk_normed(c) if third else grouped(c), kinds)
    dense = Dense(width=c["intermediate_size"])
    layers = [Layer(count=1, attention=a, feed_forward=dense, norm_weights=4) for a in attentions]
    return build(c, layers, tie_word_embeddings=True)


def _gpt2(c: Config) -> Architecture:
    D = c["n_embd"]
    heads = {"num_heads": c["n_head"], "num_kv_heads": c["n_head"], "head_dim": D // c["n_head"]}
    attention = GroupedAttention(**heads, qkv_bias=True, output_bias=True)
    dense = Dense(width=c.get("n_inner") or 4 * D, matrices=2, bias=True)
    layer = Layer(count=1, attention=attention, feed_forward=dense, norm_weights=4)
    return build(
        c, [layer] * c["n_layer"], tie_word_embeddings=True, position_weights=c["n_positions"] * D, final_norm_weights=2
    )


def _opt(c: Config) -> Architecture:
    D = c["hidden_size"]
    dense = Dense(width=c["ffn_dim"], matrices=2, bias=True)
    layers = stack(c, grouped(c, qkv_bias=True, output_bias=True), dense, norm_weights=4)
    embedding = c.get("word_embed_proj_dim") or D
    return build(
        c,
        layers,
        tie_word_embeddings=c.get("tie_word_embeddings", True),
        embedding_size=embedding if embedding != D else 0,
        position_weights=(c["max_position_embeddings"] + 2) * D,  # two rows of padding in the original table
        final_norm_weights=2,
    )


def _bloom(c: Config) -> Architecture:
    D, heads = c.get("hidden_size") or c["n_embed"], c.get("n_head") or c["num_attention_heads"]
    attention = GroupedAttention(
        num_heads=heads, num_kv_heads=heads, head_dim=D // heads, qkv_bias=True, output_bias=True
    )
    layer = Layer(count=1, attention=attention, feed_forward=Dense(width=4 * D, matrices=2, bias=True), norm_weights=4)
    shape = {"hidden_size": D, "tie_word_embeddings": True, "final_norm_weights": 2, "embedding_norm_weights": 2}
    return build(c, [layer] * (c.get("n_layer") or c["num_hidden_layers"]), **shape)


def _mpt(c: Config) -> Architecture:
    D, heads = c["d_model"], c["n_heads"]
    attention = GroupedAttention(num_heads=heads, num_kv_heads=heads, head_dim=D // heads)
    layer = Layer(count=1, attention=attention, feed_forward=Dense(width=c.get("expansion_ratio", 4) * D, matrices=2))
    return build(c, [layer] * c["n_layers"], tie_word_embeddings=True)


def _gpt_neox(c: Config) -> Architecture:
    dense = Dense(width=c["intermediate_size"], matrices=2, bias=True)
    layers = stack(c, grouped(c, qkv_bias=True, output_bias=True), dense, norm_weights=4)
    return build(c, layers, final_norm_weights=2)


def _falcon(c: Config) -> Architecture:
    """One norm for attention and feed-forward in 7B, one each in 40B and 180B."""
    new = c.get("new_decoder_architecture", False)
    kv_heads = c["num_kv_heads"] if new else (1 if c.get("multi_query", True) else c["num_attention_heads"])
    attention = grouped({**c, "num_key_value_heads": kv_heads})
    dense = Dense(width=c.get("ffn_hidden_size") or 4 * c["hidden_size"], matrices=2)
    norms = 4 if new and c.get("num_ln_in_parallel_attn") != 1 else 2
    return build(c, stack(c, attention, dense, norm_weights=norms), tie_word_embeddings=True, final_norm_weights=2)


def _gpt_oss(c: Config) -> Architecture:
    pattern = ["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(c["num_hidden_layers"])]
    attentions = windows(c, grouped(c, qkv_bias=True, output_bias=True, sinks=True), pattern)
    experts = Experts(
        num_experts=c["num_local_experts"],
        num_per_token=c["num_experts_per_tok"],
        width=c["intermediate_size"],
        bias=True,
        router_bias=True,
    )
    return build(c, [Layer(count=1, attention=a, feed_forward=experts) for a in attentions])


def _ernie(c: Config) -> Architecture:
    dense = Dense(width=c["intermediate_size"])
    if "moe_num_experts" not in c:
        return build(c, stack(c, grouped(c), dense), tie_word_embeddings=c.get("tie_word_embeddings", True))
    width = c["moe_intermediate_size"]
    experts = Experts(
        num_experts=c["moe_num_experts"],
        num_per_token=c["moe_k"],
        width=width,
        shared_width=width * c.get("moe_num_shared_experts", 0),
    )
    first, last = c.get("moe_layer_start_index", 1), c.get("moe_layer_end_index", -1)
    last = c["num_hidden_layers"] - 1 if last == -1 else last
    layers = [
        Layer(count=1, attention=grouped(c), feed_forward=experts if first <= i <= last else dense)
        for i in range(c["num_hidden_layers"])
    ]
    return build(c, layers, tie_word_embeddings=c.get("tie_word_embeddings", True))


def _llama4(c: Config) -> Architecture:
    """Three layers of four see chunks of 8192 positions; every second layer (Maverick) or every one has experts."""
    experts = Experts(
        num_experts=c["num_local_experts"],
        num_per_token=c["num_experts_per_tok"],
        width=c["intermediate_size"],
        shared_width=c["intermediate_size"],
    )
    dense, step = Dense(width=c["intermediate_size_mlp"]), c.get("interleave_moe_layer_step", 1)
    chunked, whole = grouped(c, chunk=c.get("attention_chunk_size", 8192)), grouped(c)
    layers = [
        Layer(
            count=1,
            attention=whole if (i + 1) % 4 == 0 else chunked,
            feed_forward=experts if (i + 1) % step == 0 else dense,
        )
        for i in range(c["num_hidden_layers"])
    ]
    return build(c, layers)


def _apertus(c: Config) -> Architecture:
    return build(c, stack(c, _qk_normed(c), Dense(width=c["intermediate_size"], matrices=2)))


READERS: dict[str, Callable[[Config], Architecture]] = {
    "llama": _llama, "mistral": _llama, "granite": _llama, "smollm3": _llama, "stablelm": _llama,
    "qwen2": _qwen2, "qwen3": _qwen3, "qwen3_moe": _qwen3_moe, "qwen2_moe": _qwen2_moe,
    "mixtral": _mixtral, "granitemoe": _mixtral, "olmo": _olmo, "olmo2": _olmo2, "olmo3": _olmo2, "olmoe": _olmoe,
    "gemma": _gemma, "gemma2": _gemma2, "gemma3_text": _gemma2, "gpt2": _gpt2, "opt": _opt, "bloom": _bloom,
    "mpt": _mpt, "gpt_neox": _gpt_neox, "falcon": _falcon, "gpt_oss": _gpt_oss, "ernie4_5": _ernie,
    "ernie4_5_moe": _ernie, "llama4_text": _llama4, "apertus": _apertus, "glm4_moe": glm4_moe,
    "deepseek_v2": deepseek, "deepseek_v3": deepseek, "kimi_k2": deepseek, "deepseek_v32": deepseek,
    "deepseek_v4": deepseek_v4,
}  # fmt: skip
