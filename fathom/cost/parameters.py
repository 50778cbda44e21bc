"""How many weights a model has, component by component, and how many of them one token uses.

Checked against meta-device counts of `transformers` models and against the totals that their makers publish
(`tests/cost/test_parameters.py`). Letters: D hidden size, N heads, K key-value heads, H head width, R latent rank,
P rotary width, E experts, A experts per token, F feed-forward width, V vocabulary, L layers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fathom.cost.architecture import (
    Architecture,
    Attention,
    CompressedAttention,
    Dense,
    Experts,
    GroupedAttention,
    Indexer,
    LatentAttention,
    Layer,
)
from fathom.model.config import ModelConfig


@dataclass(frozen=True)
class ParameterCount:
    """Weights of the main model. Multi-token-prediction modules are counted apart, as DeepSeek-V3 publishes them."""

    by_component: dict[str, int]
    inactive: int  # weights of the routed experts that a token does not visit
    mtp: int  # all multi-token-prediction modules, without the embedding and head that they share

    @property
    def total(self) -> int:
        return sum(self.by_component.values())

    @property
    def active(self) -> int:
        """Weights that one token uses, its rows of the embedding table counted as the whole table."""
        return self.total - self.inactive

    @property
    def embedding(self) -> int:
        return self.by_component["embedding"]

    @property
    def active_without_embedding(self) -> int:
        """As gpt-oss and DeepSeek-V3's weights page count: the input table left out, the output head kept."""
        tied = 0 if self.by_component["output_head"] else self.embedding
        return self.active - self.embedding + tied


def parameters(model: ModelConfig | Architecture) -> ParameterCount:
    """Count the weights of `model`; a tied head counts once, under `embedding`."""
    arch = Architecture.of(model)
    D = arch.hidden_size
    count: Counter[str] = Counter()
    embedding_size = arch.embedding_size or D
    count["embedding"] = arch.vocab_size * embedding_size
    count["embedding_projection"] = 2 * embedding_size * D if embedding_size != D else 0
    count["positions"] = arch.position_weights
    count["output_head"] = 0 if arch.tie_word_embeddings else arch.vocab_size * D
    count["output_head"] += arch.vocab_size if arch.output_bias else 0
    count["norms"] = (arch.final_norm_weights + arch.embedding_norm_weights) * D
    count["hyper_connections"] = _hyper_head(arch)
    inactive = 0
    for layer in arch.layers:
        count.update({name: layer.count * n for name, n in layer_parameters(layer, D).items()})
        inactive += layer.count * _inactive(layer, D)
    return ParameterCount(by_component=dict(count), inactive=inactive, mtp=_mtp_parameters(arch))


def layer_parameters(layer: Layer, hidden_size: int) -> dict[str, int]:
    """Weights of one layer of the group, by component."""
    D, n = hidden_size, layer.hyper_connections
    count: Counter[str] = Counter(attention_parameters(layer.attention, D))
    count.update(_feed_forward(layer.feed_forward, D))
    count["norms"] += layer.norm_weights * D
    # two mHC modules a layer: a projection of all streams to the mixing weights, a bias and three scales
    count["hyper_connections"] += 2 * ((2 + n) * n * (n * D + 1) + 3) if n else 0
    return count


def attention_parameters(attention: Attention, hidden_size: int) -> dict[str, int]:
    if isinstance(attention, GroupedAttention):
        return _grouped(attention, hidden_size)
    if isinstance(attention, LatentAttention):
        return _latent(attention, hidden_size)
    return _compressed(attention, hidden_size)


def _grouped(a: GroupedAttention, D: int) -> dict[str, int]:
    queries, keys = a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim
    weights = D * (queries + 2 * keys) + queries * D
    biases = (queries + 2 * keys if a.qkv_bias else 0) + (D if a.output_bias else 0)
    return {"attention": weights + biases + a.norm_weights + (a.num_heads if a.sinks else 0)}


def _latent(a: LatentAttention, D: int) -> dict[str, int]:
    query_width = a.num_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim)
    R = a.q_lora_rank
    queries = D * R + R + R * query_width if R else D * query_width
    latent = D * (a.kv_lora_rank + a.qk_rope_head_dim) + a.kv_lora_rank
    expansion = a.kv_lora_rank * a.num_heads * (a.qk_nope_head_dim + a.v_head_dim)
    output = a.num_heads * a.v_head_dim * D
    indexer = 0
    if a.indexer is not None:  # queries from the compressed query, one key with a LayerNorm, one weight a head
        i = a.indexer
        indexer = (R or D) * i.num_heads * i.head_dim + D * i.head_dim + 2 * i.head_dim + D * i.num_heads
    return {"attention": queries + latent + expansion + output, "indexer": indexer}


def _compressed(a: CompressedAttention, D: int) -> dict[str, int]:
    width = a.num_heads * a.head_dim
    queries = D * a.q_lora_rank + a.q_lora_rank + a.q_lora_rank * width
    keys = D * a.head_dim + a.head_dim
    output = width * a.output_rank + a.output_groups * a.output_rank * D
    compressor = _compressor(a.head_dim, a.ratio, a.overlap, D) if a.ratio else 0
    indexer = _compressed_indexer(a, a.indexer, D) if a.indexer else 0
    return {"attention": queries + keys + output + a.num_heads + compressor, "indexer": indexer}


def _compressor(width: int, ratio: int, overlap: bool, D: int) -> int:
    """Values, gates and a position bias of one or two series, and the pooled entry's norm."""
    series = 2 if overlap else 1
    return 2 * D * series * width + ratio * series * width + width


def _compressed_indexer(a: CompressedAttention, i: Indexer, D: int) -> int:
    return _compressor(i.head_dim, a.ratio, a.overlap, D) + a.q_lora_rank * i.num_heads * i.head_dim + D * i.num_heads


def _feed_forward(f: Dense | Experts, D: int) -> dict[str, int]:
    if isinstance(f, Dense):
        bias = ((f.matrices - 1) * f.width + D) if f.bias else 0
        return {"dense_mlp": f.matrices * D * f.width + bias}
    return {
        "routed_experts": f.num_experts * _expert(f, D),
        "shared_experts": f.matrices * D * f.shared_width + (D if f.shared_gate else 0),
        "router": D * f.num_experts + (f.num_experts if f.router_bias else 0),
    }


def _expert(f: Experts, D: int) -> int:
    return f.matrices * D * f.width + (((f.matrices - 1) * f.width + D) if f.bias else 0)


def _inactive(layer: Layer, D: int) -> int:
    f = layer.feed_forward
    return (f.num_experts - f.num_per_token) * _expert(f, D) if isinstance(f, Experts) else 0


def _hyper_head(arch: Architecture) -> int:
    """The last collapse of the residual streams: one projection, a bias a stream and one scale."""
    n = max((layer.hyper_connections for layer in arch.layers), default=0)
    return n * n * arch.hidden_size + n + 1 if n else 0


def _mtp_parameters(arch: Architecture) -> int:
    """One module: norms of hidden state and embedding, their joint projection 2D -> D, a layer and a final norm."""
    if arch.mtp is None:
        return 0
    D = arch.hidden_size
    layer = sum(layer_parameters(arch.mtp, D).values())
    return arch.num_mtp * (layer + 2 * D * D + 3 * D)
