"""Configurations of transformers to and from ours; no torch.

What a configuration asks for and this project does not compute is refused by name, never passed over: a model that
loads and answers nonsense is worse than one that does not load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fathom.errors import FathomError
from fathom.model.config import ModelConfig, RopeScaling

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM",
}
# What transformers takes where the key is absent, by model type; only what differs from ours.
_DEFAULT_POSITIONS = {"llama": 2048, "deepseek_v2": 2048, "deepseek_v3": 4096}


def config_from_hf(hf: Mapping[str, Any]) -> ModelConfig:
    """Our shape of a transformers `config.json`. Raises FathomError for an architecture or option not computed here."""
    kind = hf.get("model_type")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise FathomError(f"config.json has model_type {kind!r}; Fathom reads {known}")
    _refuse_options(hf)
    fields = _common_fields(hf, kind)
    fields |= _latent_fields(hf) if kind.startswith("deepseek") else _grouped_fields(hf, kind)
    if kind in ("deepseek_v2", "deepseek_v3"):
        fields |= _deepseek_expert_fields(hf, kind)
    elif kind == "qwen3_moe":
        fields |= _qwen_expert_fields(hf)
    return ModelConfig(**fields)


def _need(hf: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        if hf.get(name) is not None:
            return hf[name]
    raise FathomError(f"config.json lacks '{names[0]}', which {hf.get('model_type')} models need")


def _refuse_options(hf: Mapping[str, Any]) -> None:
    wanted: dict[str, tuple[Any, ...]] = {
        "hidden_act": ("silu", None),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
        "use_sliding_window": (False, None),
        "quantization_config": (None,),
        "decoder_sparse_step": (1, None),
        "moe_layer_freq": (1, None),
        "partial_rotary_factor": (1, 1.0, None),
    }
    for name, accepted in wanted.items():
        if hf.get(name) not in accepted:
            raise FathomError(
                f"config.json has {name} = {hf[name]!r}, which Fathom does not compute; it takes {accepted[0]!r}"
            )


def _common_fields(hf: Mapping[str, Any], kind: str) -> dict[str, Any]:
    rope = dict(hf.get("rope_parameters") or hf.get("rope_scaling") or {})
    positions = hf.get("max_position_embeddings") or _DEFAULT_POSITIONS.get(kind, 32768)
    return {
        "vocab_size": _need(hf, "vocab_size"),
        "hidden_size": _need(hf, "hidden_size"),
        "num_layers": _need(hf, "num_hidden_layers"),
        "num_heads": _need(hf, "num_attention_heads"),
        "intermediate_size": _need(hf, "intermediate_size"),
        "num_mtp_layers": hf.get("num_nextn_predict_layers", hf.get("num_mtp_layers")) or 0,
        "max_position_embeddings": positions,
        "rope_theta": float(rope.get("rope_theta") or hf.get("rope_theta") or 10000.0),
        "rope_scaling": _rope_from_hf(rope, positions),
        "rms_norm_eps": hf.get("rms_norm_eps", 1e-6),
        "tie_word_embeddings": bool(hf.get("tie_word_embeddings", False)),
    }


def _rope_from_hf(rope: Mapping[str, Any], max_positions: int) -> RopeScaling | None:
    kind: Any = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return None
    if kind not in ("yarn", "llama3", "linear") or rope.get("truncate", True) is not True:
        raise FathomError(
            f"config.json has rope scaling {dict(rope)!r}; Fathom computes default, linear, yarn and llama3"
        )
    trained = rope.get("original_max_position_embeddings") or max_positions
    factor = rope.get("factor") or max_positions / trained
    names = (
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "attention_factor",
        "low_freq_factor",
        "high_freq_factor",
    )
    given = {name: float(rope[name]) for name in names if rope.get(name) is not None}
    return RopeScaling(kind=kind, factor=float(factor), original_max_position_embeddings=trained, **given)


def _grouped_fields(hf: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {
        "attention": "grouped",
        "num_kv_heads": hf.get("num_key_value_heads") or 0,
        "head_dim": hf.get("head_dim") or (128 if kind == "qwen3" else 0),  # Qwen3Config's own default is 128
        "qk_norm": kind.startswith("qwen3"),
        "qkv_bias": kind == "qwen2",
    }


def _latent_fields(hf: Mapping[str, Any]) -> dict[str, Any]:
    names = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    return {"attention": "latent", "q_lora_rank": hf.get("q_lora_rank") or 0} | {
        name: _need(hf, name) for name in names
    }


def _deepseek_expert_fields(hf: Mapping[str, Any], kind: str) -> dict[str, Any]:
    dense = hf.get("first_k_dense_replace") or 0
    if dense >= _need(hf, "num_hidden_layers"):
        return {}
    v3 = kind == "deepseek_v3"
    scoring = hf.get("scoring_func", "sigmoid" if v3 else "softmax")
    normalize = bool(hf.get("norm_topk_prob", v3))
    if scoring != ("sigmoid" if v3 else "softmax") or (normalize and not v3):
        raise FathomError(
            f"config.json has scoring_func = {scoring!r} and norm_topk_prob = {normalize}, "
            f"which {kind} of transformers does not compute"
        )
    grouped = v3 or hf.get("topk_method") == "group_limited_greedy"
    return {
        "num_experts": _need(hf, "n_routed_experts", "num_local_experts", "num_experts"),
        "num_experts_per_token": _need(hf, "num_experts_per_tok"),
        "num_shared_experts": hf.get("n_shared_experts") or 0,
        "moe_intermediate_size": _need(hf, "moe_intermediate_size"),
        "first_dense_layers": dense,
        "num_expert_groups": (hf.get("n_group") or 1) if grouped else 1,
        "num_groups_per_token": (hf.get("topk_group") or 1) if grouped else 1,
        "router_scoring": scoring,
        "router_bias": v3,
        "normalize_expert_weights": normalize,
        "routed_scaling_factor": float(hf.get("routed_scaling_factor", 1.0)),
    }


def _qwen_expert_fields(hf: Mapping[str, Any]) -> dict[str, Any]:
    dense = sorted(hf.get("mlp_only_layers") or [])
    if dense != list(range(len(dense))):
        raise FathomError(
            f"config.json has mlp_only_layers = {dense}; Fathom computes dense layers only before all others"
        )
    return {
        "num_experts": _need(hf, "num_experts", "num_local_experts"),
        "num_experts_per_token": _need(hf, "num_experts_per_tok"),
        "moe_intermediate_size": _need(hf, "moe_intermediate_size"),
        "first_dense_layers": len(dense),
        "router_scoring": "softmax",
        "router_bias": False,
        "normalize_expert_weights": bool(hf.get("norm_topk_prob", False)),
    }


def model_type(config: ModelConfig) -> str:
    """The transformers model type that computes exactly this shape. Raises FathomError where none of ours does."""
    softmax_only = config.router_scoring == "softmax" and not config.router_bias
    if config.attention == "latent":
        if not config.num_experts:
            return "deepseek_v3"
        if config.router_scoring == "sigmoid" and config.num_shared_experts:
            return "deepseek_v3"
        if softmax_only and not config.normalize_expert_weights and config.num_shared_experts:
            return "deepseek_v2"
        raise FathomError(
            "transformers has no DeepSeek model with this router: it needs shared experts, and sigmoid scores (V3) "
            "or softmax without bias and renormalising (V2)"
        )
    if config.num_experts:
        plain = config.num_expert_groups == 1 and not config.num_shared_experts and config.routed_scaling_factor == 1.0
        if softmax_only and plain and config.qk_norm and not config.qkv_bias:
            return "qwen3_moe"
        raise FathomError(
            "transformers has grouped-query attention with experts only as Qwen3Moe: qk_norm, softmax router, "
            "no bias, groups or shared experts"
        )
    if config.qk_norm and config.qkv_bias:
        raise FathomError("transformers has no model with both qk_norm and qkv_bias; turn one off")
    return "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias else "llama"


def config_to_hf(config: ModelConfig) -> dict[str, Any]:
    """The `config.json` under which transformers computes the same. Raises FathomError where it has no such model."""
    kind = model_type(config)
    hf: dict[str, Any] = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "intermediate_size": config.intermediate_size or config.moe_intermediate_size,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": False,
        "rope_theta": config.rope_theta,
        "rope_scaling": _rope_to_hf(config.rope_scaling),
    }
    if config.attention == "latent":
        hf |= _latent_to_hf(config, kind)
    else:
        hf["head_dim"] = config.head_dim
    if kind == "qwen3_moe":
        hf |= _qwen_experts_to_hf(config)
    if config.num_mtp_layers or kind == "deepseek_v3":
        hf["num_nextn_predict_layers"] = config.num_mtp_layers
    return hf


def _rope_to_hf(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    hf: dict[str, Any] = {"type": scaling.kind, "rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind != "linear":
        hf["original_max_position_embeddings"] = scaling.original_max_position_embeddings
    if scaling.kind == "llama3":
        hf |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
    if scaling.kind == "yarn":
        hf |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        optional = ("mscale", "mscale_all_dim", "attention_factor")
        hf |= {name: getattr(scaling, name) for name in optional if getattr(scaling, name)}
    return hf


def _latent_to_hf(config: ModelConfig, kind: str) -> dict[str, Any]:
    hf: dict[str, Any] = {
        "q_lora_rank": config.q_lora_rank or None,
        "kv_lora_rank": config.kv_lora_rank,
        "qk_nope_head_dim": config.qk_nope_head_dim,
        "qk_rope_head_dim": config.qk_rope_head_dim,
        "v_head_dim": config.v_head_dim,
        "first_k_dense_replace": config.num_dense_layers,
    }
    if kind == "deepseek_v3":
        hf["rope_interleave"] = True
    if not config.num_experts:
        return hf
    hf |= {
        "n_routed_experts": config.num_experts,
        "num_experts_per_tok": config.num_experts_per_token,
        "n_shared_experts": config.num_shared_experts,
        "moe_intermediate_size": config.moe_intermediate_size,
        "n_group": config.num_expert_groups,
        "topk_group": config.num_groups_per_token,
        "norm_topk_prob": config.normalize_expert_weights,
        "scoring_func": config.router_scoring,
        "routed_scaling_factor": config.routed_scaling_factor,
    }
    limited = config.num_expert_groups > 1
    hf["topk_method"] = "noaux_tc" if kind == "deepseek_v3" else "group_limited_greedy" if limited else "greedy"
    return hf


def _qwen_experts_to_hf(config: ModelConfig) -> dict[str, Any]:
    return {
        "num_experts": config.num_experts,
        "num_experts_per_tok": config.num_experts_per_token,
        "moe_intermediate_size": config.moe_intermediate_size,
        "norm_topk_prob": config.normalize_expert_weights,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(range(config.first_dense_layers)),
    }
