"""Small copies of published architectures: the same code paths, sizes that a laptop runs in a moment."""

from __future__ import annotations

from typing import Any

POSITIONS = 32  # of the sequences that the copies are run on; windows and top-k below are wider on purpose

SMALL: dict[str, Any] = {
    "vocab_size": 160,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 112,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
EXPERTS: dict[str, Any] = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 48}
DEEPSEEK: dict[str, Any] = {
    **SMALL,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 48,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
}
INDEXED = {"index_n_heads": 3, "index_head_dim": 16, "index_topk": 64}
V4: dict[str, Any] = {
    **{key: SMALL[key] for key in ("vocab_size", "hidden_size", "num_attention_heads", "max_position_embeddings")},
    **{key: SMALL[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")},
    **INDEXED,
    "num_hidden_layers": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "qk_rope_head_dim": 8,
    "q_lora_rank": 24,
    "o_groups": 2,
    "o_lora_rank": 16,
    "moe_intermediate_size": 48,
    "n_routed_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "sliding_window": 64,
    "hc_mult": 4,
    "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    "compress_ratios": [0, 4, 8, 4],
    "layer_types": [
        "sliding_attention",
        "compressed_sparse_attention",
        "heavily_compressed_attention",
        "compressed_sparse_attention",
    ],
    "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
}

# model type -> the keys of its config.json
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "attention_bias": True, "mlp_bias": True},
    "mistral": SMALL,
    "smollm3": {**SMALL, "tie_word_embeddings": True},
    "granite": SMALL,
    "qwen2": SMALL,
    "qwen3": {**SMALL, "head_dim": 24},
    "qwen3_moe": {**SMALL, **EXPERTS, "head_dim": 24, "mlp_only_layers": [], "decoder_sparse_step": 1},
    "qwen2_moe": {**SMALL, **EXPERTS, "shared_expert_intermediate_size": 80},
    "mixtral": {**SMALL, "num_local_experts": 6, "num_experts_per_tok": 2},
    "granitemoe": {**SMALL, "num_local_experts": 6, "num_experts_per_tok": 2},
    "olmo": SMALL,
    "olmo2": SMALL,
    "olmo3": {**SMALL, "sliding_window": 64},
    "olmoe": {**SMALL, "num_experts": 6, "num_experts_per_tok": 2},
    "gemma": {**SMALL, "head_dim": 24},
    "gemma2": {**SMALL, "head_dim": 24, "sliding_window": 64},
    "gemma3_text": {**SMALL, "head_dim": 24, "sliding_window": 64},
    "gpt2": {"vocab_size": 160, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 64},
    "opt": {**SMALL, "ffn_dim": 144, "word_embed_proj_dim": 64, "num_key_value_heads": 4},
    "bloom": {"vocab_size": 160, "hidden_size": 64, "n_layer": 3, "n_head": 4},
    "mpt": {"vocab_size": 160, "d_model": 64, "n_layers": 3, "n_heads": 4, "max_seq_len": 64},
    "gpt_neox": {**SMALL, "num_key_value_heads": 4},
    "falcon": {**SMALL, "num_kv_heads": 2, "new_decoder_architecture": True, "bias": False},
    "gpt_oss": {**SMALL, "head_dim": 16, "num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 64},
    "ernie4_5": {**SMALL, "head_dim": 16},
    "ernie4_5_moe": {
        **SMALL,
        "moe_num_experts": 6,
        "moe_k": 2,
        "moe_num_shared_experts": 1,
        "moe_intermediate_size": 48,
        "moe_layer_start_index": 1,
    },
    "llama4_text": {
        **SMALL,
        "head_dim": 16,
        "num_local_experts": 4,
        # the reference runs every expert over every token and multiplies by zero, so all four are counted as visited
        "num_experts_per_tok": 4,
        "intermediate_size_mlp": 128,
        "interleave_moe_layer_step": 2,
        "attention_chunk_size": 64,
    },
    "apertus": SMALL,
    "glm4_moe": {**DEEPSEEK, "head_dim": 16, "attention_bias": True, "use_qk_norm": True},
    "deepseek_v2": {**DEEPSEEK, "topk_method": "greedy"},
    "deepseek_v3": DEEPSEEK,
    "deepseek_v32": {**DEEPSEEK, **INDEXED},
    "deepseek_v4": V4,
}


def reference_model(kind: str, config: dict[str, Any]) -> Any:
    """The `transformers` model of this config, with plain experts and attention that the FLOP counter can see."""
    from transformers import AutoConfig, AutoModelForCausalLM

    unknown = {"compress_ratios"} if "layer_types" in config else set()
    keys = {name: value for name, value in config.items() if name not in unknown | {"model_type"}}
    shape = AutoConfig.for_model(kind, **keys)
    shape._attn_implementation = "eager"
    shape._experts_implementation = "eager"
    return AutoModelForCausalLM.from_config(shape, attn_implementation="eager")
