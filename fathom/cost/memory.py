"""What training keeps in memory, component by component, before anything is allocated.

Weights, gradients and optimizer state follow from the parameter count; activations are counted tensor by tensor as
autograd saves them with a fused attention kernel (arXiv:2205.05198, section 4, generalised from its GPT block to
grouped-query and latent attention, gated feed-forward networks and experts). Letters as in `parameters.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from fathom.cost.architecture import (
    Architecture,
    Attention,
    CompressedAttention,
    Dense,
    Experts,
    GroupedAttention,
    LatentAttention,
    Layer,
)
from fathom.cost.checks import positive
from fathom.cost.parameters import parameters
from fathom.errors import FathomError
from fathom.model.config import ModelConfig

Optimizer = Literal["adamw", "muon", "sgd"]
Checkpointing = Literal["none", "full"]

BYTES = {"float32": 4, "fp32": 4, "bfloat16": 2, "bf16": 2, "float16": 2, "fp16": 2, "fp8": 1}
# Cross-entropy over chunks keeps one chunk's logits and their gradient in fp32, never all of them.
LOGITS_CHUNK_TOKENS = 2048


def training_memory_bytes(
    model: ModelConfig | Architecture,
    micro_batch: int,
    sequence_length: int,
    optimizer: Optimizer = "adamw",
    dtype: str = "bfloat16",
    checkpointing: Checkpointing = "none",
) -> dict[str, float]:
    """Bytes on one device that holds the whole model: fp32 master weights and gradients, products in `dtype`.

    Muon keeps one momentum for matrices and experts; embedding, head and norms keep AdamW's two moments.
    """
    arch = Architecture.of(model)
    positive("micro_batch", micro_batch)
    positive("sequence_length", sequence_length)
    width = dtype_bytes(dtype)
    count = parameters(arch)
    weights = count.total + count.mtp
    tokens = micro_batch * sequence_length
    return {
        "weights": 4.0 * weights,
        "weights_cast": float(width * weights) if width != 4 else 0.0,
        "gradients": 4.0 * weights,
        "optimizer": 4.0 * optimizer_values(arch, optimizer),
        "activations": tokens * activation_bytes_per_token(arch, dtype, checkpointing),
        "logits": 2 * 4.0 * min(tokens, LOGITS_CHUNK_TOKENS) * arch.vocab_size,
    }


def optimizer_values(model: ModelConfig | Architecture, optimizer: str) -> int:
    """Numbers that the optimizer keeps beside weights and gradients."""
    count = parameters(model)
    everything = count.total + count.mtp
    if optimizer == "adamw":
        return 2 * everything
    if optimizer == "sgd":
        return 0
    if optimizer == "muon":
        return everything + count.embedding + count.by_component["output_head"] + count.by_component["norms"]
    raise FathomError(f"optimizer = {optimizer!r} is not known: it must be 'adamw', 'muon' or 'sgd'")


def activation_bytes_per_token(
    model: ModelConfig | Architecture, dtype: str = "bfloat16", checkpointing: str = "none"
) -> float:
    """Bytes saved for backward, a token. Full checkpointing keeps each layer's input and the inside of one layer."""
    arch = Architecture.of(model)
    width, D = dtype_bytes(dtype), arch.hidden_size
    groups = [(layer.count, layer) for layer in arch.layers]
    if arch.mtp is not None:
        groups.append((arch.num_mtp, arch.mtp))
    inside = [(count, layer_activation_bytes(layer, D, width)) for count, layer in groups]
    ends = 2 * width * D + 4  # the final norm's input and output, and its fp32 inverse scale
    if checkpointing == "none":
        return ends + sum(count * bytes_ for count, bytes_ in inside)
    if checkpointing == "full":
        return ends + width * D * sum(count for count, _ in inside) + max(bytes_ for _, bytes_ in inside)
    raise FathomError(f"checkpointing = {checkpointing!r} is not known: it must be 'none' or 'full'")


def layer_activation_bytes(layer: Layer, hidden_size: int, width: int) -> float:
    """One layer's saved tensors, a token: two norms (input, fp32 scale), attention, feed-forward network."""
    streams = max(layer.hyper_connections, 1)
    norms = 2 * (width * hidden_size * (1 + streams) + 4)  # residual in, normed out
    inside = sum(_attention_values(layer.attention, hidden_size).values())
    return norms + width * (inside + _feed_forward_values(layer.feed_forward, hidden_size))


def _attention_values(a: Attention, D: int) -> Counter[str]:
    """Numbers saved by attention beside the normed input: query, key, value, output (and log-sum-exp in fp32)."""
    if isinstance(a, GroupedAttention):
        heads = a.num_heads * a.head_dim
        return Counter({"qkv": heads + 2 * a.num_kv_heads * a.head_dim, "output": heads, "sums": 2 * a.num_heads})
    if isinstance(a, LatentAttention):
        qk = a.num_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim)
        v = a.num_heads * a.v_head_dim
        latents = 2 * (a.q_lora_rank + a.kv_lora_rank) + a.qk_rope_head_dim
        return Counter({"latents": latents, "qkv": 2 * qk + v, "output": v, "sums": 2 * a.num_heads})
    return _compressed_values(a)


def _compressed_values(a: CompressedAttention) -> Counter[str]:
    width, series = a.num_heads * a.head_dim, 2 if a.overlap else 1
    pooled = 2 * series * a.head_dim + a.head_dim // a.ratio if a.ratio else 0
    inner = a.output_groups * a.output_rank
    return Counter({"latents": 2 * a.q_lora_rank + pooled, "qkv": width + a.head_dim, "output": width + inner})


def _feed_forward_values(f: Dense | Experts, D: int) -> float:
    """Gate and up products and their combination; each visited expert also keeps its copy of the input."""
    if isinstance(f, Dense):
        return f.matrices * f.width
    per_expert = f.matrices * f.width + 2 * D  # gathered input and the output that the router weighs
    return f.num_per_token * per_expert + f.matrices * f.shared_width + 2 * f.num_experts


def dtype_bytes(dtype: str) -> int:
    if dtype not in BYTES:
        raise FathomError(f"dtype = {dtype!r} is not known: it must be one of {', '.join(sorted(BYTES))}")
    return BYTES[dtype]
