"""The shape of any published decoder, as far as its parameters and products depend on it.

`ModelConfig` describes what Fathom trains. Claims are also made about models that it does not train: sliding windows,
sparse and compressed attention, biases, learned positions. An `Architecture` is a stack of layer groups, each with one
kind of attention and one kind of feed-forward network, and covers both; `Architecture.of(config)` translates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fathom.errors import FathomError
from fathom.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class GroupedAttention:
    """Multi-head attention with shared keys and values (arXiv:2305.13245); one KV head is multi-query attention."""

    num_heads: int
    num_kv_heads: int
    head_dim: int
    window: int = 0  # positions a query may see, itself included; 0: all before it
    chunk: int = 0  # queries see only their own chunk of so many positions (Llama 4); 0: no chunks
    qkv_bias: bool = False
    output_bias: bool = False
    norm_weights: int = 0  # weights of the query's and the key's norms together
    sinks: bool = False  # one learned logit a head (gpt-oss)


@dataclass(frozen=True, kw_only=True)
class Indexer:
    """The lightning indexer of DeepSeek sparse attention: small heads score every position, the best are read."""

    num_heads: int
    head_dim: int
    top_k: int


@dataclass(frozen=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (arXiv:2405.04434, section 2.1), optionally sparse through an indexer."""

    num_heads: int
    q_lora_rank: int  # 0: queries are not compressed
    kv_lora_rank: int
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    indexer: Indexer | None = None


@dataclass(frozen=True, kw_only=True)
class CompressedAttention:
    """DeepSeek-V4's attention: one shared key-value head, compressed beyond a window.

    `ratio` positions make one entry: 0 is a plain window, 4 with an indexer is compressed sparse attention, 128 without
    one is heavily compressed attention. With `overlap` each entry is pooled from two neighbouring windows, which
    doubles the compressor's projections. Queries are compressed to `q_lora_rank`; the output projection is grouped.
    """

    num_heads: int
    head_dim: int
    q_lora_rank: int
    window: int
    ratio: int
    overlap: bool
    output_groups: int
    output_rank: int
    rope_dim: int = 64  # of head_dim, kept in a wider format in the cache
    indexer: Indexer | None = None


Attention = GroupedAttention | LatentAttention | CompressedAttention


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A feed-forward network of `width`: three matrices with a gate (SwiGLU), two without."""

    width: int
    matrices: int = 3
    bias: bool = False


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts with `shared_width` for what every token passes (arXiv:2401.06066)."""

    num_experts: int
    num_per_token: int
    width: int
    shared_width: int = 0
    shared_gate: bool = False  # one logit scales the shared expert (Qwen2-MoE)
    matrices: int = 3
    bias: bool = False
    router_bias: bool = False  # a trained bias; the balancing bias of DeepSeek-V3 is a buffer and not counted


@dataclass(frozen=True, kw_only=True)
class Layer:
    """`count` equal layers."""

    count: int
    attention: Attention
    feed_forward: Dense | Experts
    norm_weights: int = 2  # vectors of hidden_size in the layer's norms
    hyper_connections: int = 0  # residual streams (mHC), 0 for a plain residual


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A whole decoder. `mtp` is one multi-token-prediction module's layer, used `num_mtp` times (arXiv:2412.19437)."""

    vocab_size: int
    hidden_size: int
    layers: tuple[Layer, ...]
    tie_word_embeddings: bool = False
    embedding_size: int = 0  # where it differs from hidden_size (OPT-350M); 0: the same
    position_weights: int = 0  # learned absolute positions: rows of hidden_size
    final_norm_weights: int = 1
    embedding_norm_weights: int = 0
    output_bias: bool = False
    mtp: Layer | None = None
    num_mtp: int = 0

    @property
    def num_layers(self) -> int:
        return sum(layer.count for layer in self.layers)

    @property
    def is_mixture(self) -> bool:
        return any(isinstance(layer.feed_forward, Experts) for layer in self.layers)

    @staticmethod
    def of(model: ModelConfig | Architecture) -> Architecture:
        """The architecture of a Fathom model; an architecture is returned as it is."""
        return model if isinstance(model, Architecture) else _from_model_config(model)


def _from_model_config(config: ModelConfig) -> Architecture:
    attention = _attention(config)
    dense = Layer(
        count=max(config.num_dense_layers, 1), attention=attention, feed_forward=Dense(width=config.intermediate_size)
    )
    layers = [replace(dense, count=config.num_dense_layers)] if config.num_dense_layers else []
    if config.num_moe_layers:
        experts = Experts(
            num_experts=config.num_experts,
            num_per_token=config.num_experts_per_token,
            width=config.moe_intermediate_size,
            shared_width=config.num_shared_experts * config.moe_intermediate_size,
        )
        layers.append(Layer(count=config.num_moe_layers, attention=attention, feed_forward=experts))
    return Architecture(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        layers=tuple(layers),
        tie_word_embeddings=config.tie_word_embeddings,
        mtp=replace(layers[-1], count=1) if config.num_mtp_layers else None,
        num_mtp=config.num_mtp_layers,
    )


def _attention(config: ModelConfig) -> Attention:
    if config.attention == "grouped":
        return GroupedAttention(
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            qkv_bias=config.qkv_bias,
            norm_weights=2 * config.head_dim if config.qk_norm else 0,
        )
    if config.attention == "latent":
        return LatentAttention(
            num_heads=config.num_heads,
            q_lora_rank=config.q_lora_rank,
            kv_lora_rank=config.kv_lora_rank,
            qk_nope_head_dim=config.qk_nope_head_dim,
            qk_rope_head_dim=config.qk_rope_head_dim,
            v_head_dim=config.v_head_dim,
        )
    raise FathomError(f"model.attention = {config.attention!r} is not known: it must be 'grouped' or 'latent'")
