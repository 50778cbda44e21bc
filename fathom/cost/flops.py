"""How many floating-point operations a model's products take, component by component.

The one set of formulas of the project: the trainer, the planner and the trial of claims all call it. Counted are
matrix products, two operations a multiply-add, as PyTorch's own counter does (`torch.utils.flop_counter`) and as
"model FLOPs" are in the literature (arXiv:2204.02311, appendix B); an embedding look-up is no product and costs none.
A backward pass is two forward passes. Recomputed activations are no model FLOPs; `recomputed` says what they add.

Attention is counted over the positions that a query really sees: half of them when causal. Papers that count the whole
square can be matched with `causal=False`. Letters as in `parameters.py`; T positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

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
from fathom.cost.parameters import ParameterCount, parameters
from fathom.model.config import ModelConfig

__all__ = [
    "Flops",
    "ParameterCount",
    "decode_flops_per_token",
    "forward_flops_per_token",
    "mean_context",
    "parameters",
    "training_flops",
]

BACKWARD_OVER_FORWARD = 2  # one product for the input's gradient, one for the weight's (arXiv:2001.08361, section 2.1)

# One length for all sequences, or the lengths of the documents of a pack, each attending to itself alone.
Lengths = int | Sequence[int]


@dataclass(frozen=True)
class Flops:
    """Operations by component; `recomputed` is what activation checkpointing adds on top and no model FLOPs."""

    by_component: dict[str, float]
    recomputed: float = 0.0

    @property
    def total(self) -> float:
        return sum(self.by_component.values())

    @property
    def total_with_recomputation(self) -> float:
        return self.total + self.recomputed


def training_flops(
    model: ModelConfig | Architecture,
    tokens: float,
    sequence_length: Lengths,
    *,
    causal: bool = True,
    recomputed_layers: float = 0.0,
) -> Flops:
    """Forward and backward over `tokens`. `recomputed_layers` is the share (0 to 1) of layers run forward twice."""
    arch = Architecture.of(model)
    positive("tokens", tokens, zero=True)
    forward = forward_flops_per_token(arch, sequence_length, causal=causal)
    scale = tokens * (1 + BACKWARD_OVER_FORWARD)
    layers = sum(n for name, n in forward.items() if name not in ("embedding", "output_head"))
    return Flops({name: n * scale for name, n in forward.items()}, recomputed=layers * tokens * recomputed_layers)


def forward_flops_per_token(
    model: ModelConfig | Architecture, sequence_length: Lengths, *, causal: bool = True, mtp: bool = True
) -> dict[str, float]:
    """Mean operations of one token's forward pass, by component.

    `sequence_length` is one length or the lengths of packed documents. `mtp` counts the multi-token-prediction modules,
    which run in training and, unless used for speculation, not in serving.
    """
    arch = Architecture.of(model)
    D = arch.hidden_size
    count: Counter[str] = Counter({"embedding": 0})
    for layer in arch.layers:
        count.update(_scaled(_layer(layer, D, sequence_length, causal), layer.count))
    count["output_head"] += _output_head(arch)  # type: ignore[assignment]
    streams = max((layer.hyper_connections for layer in arch.layers), default=0)
    count["hyper_connections"] += 2 * streams * streams * D
    if mtp and arch.mtp is not None:
        one = sum(_layer(arch.mtp, D, sequence_length, causal).values()) + 4 * D * D + _output_head(arch)
        count["mtp"] += arch.num_mtp * one  # type: ignore[assignment]
    return {name: float(n) for name, n in count.items() if n or name == "embedding"}


def decode_flops_per_token(
    model: ModelConfig | Architecture, context: int, *, absorbed: bool = True
) -> dict[str, float]:
    """Operations to generate one token with `context` positions in the cache, itself included.

    `absorbed` folds the expansion of latent attention into queries and outputs (arXiv:2405.04434, section 2.1.2), so
    that scores are taken in the latent space; otherwise every cached latent is expanded again for every token.
    """
    arch = Architecture.of(model)
    positive("context", context)
    D = arch.hidden_size
    count: Counter[str] = Counter({"embedding": 0})
    for layer in arch.layers:
        one = _decode_attention(layer.attention, D, context, absorbed)
        one.update(_feed_forward(layer.feed_forward, D))
        one.update(_hyper_connections(layer, D))
        count.update(_scaled(one, layer.count))
    count["output_head"] += _output_head(arch)  # type: ignore[assignment]
    return {name: float(n) for name, n in count.items() if n or name == "embedding"}


def mean_context(lengths: Lengths, *, causal: bool = True, window: int = 0, ratio: int = 1, top_k: int = 0) -> float:
    """How many entries a query attends to, averaged over all positions of all `lengths`.

    `window` caps it at the last positions; with `ratio` > 1 entries are whole blocks of so many positions that end at
    or before the query (DeepSeek-V4); `top_k` caps it at so many chosen entries.
    """
    documents = [lengths] if isinstance(lengths, int) else list(lengths)
    for length in documents:
        positive("sequence_length", length)
    limits = [limit for limit in (window, top_k) if limit]
    cap = min(limits) if limits else 0
    pairs = sum(_pairs(length, causal, ratio, cap) for length in documents)
    return pairs / sum(documents)


def _pairs(length: int, causal: bool, ratio: int, cap: int) -> float:
    """Sum over positions of min(entries visible, cap), in closed form."""
    most = length // ratio
    if not causal:
        return length * (min(most, cap) if cap else most)
    # position i (from 1) sees i // ratio entries: `ratio` positions for each number of entries, the last ones fewer
    capped = min(most, cap) if cap else most
    below = ratio * capped * (capped - 1) // 2  # positions that see 1 .. capped-1 entries
    at_cap = length - ratio * capped + 1 if capped else 0
    return below + capped * at_cap


def _chunked(lengths: Lengths, chunk: int) -> Lengths:
    """Documents cut into chunks that cannot see each other."""
    if not chunk:
        return lengths
    documents = [lengths] if isinstance(lengths, int) else lengths
    return [min(chunk, length - start) for length in documents for start in range(0, length, chunk)]


def _layer(layer: Layer, D: int, lengths: Lengths, causal: bool) -> Counter[str]:
    count = _attention(layer.attention, D, lengths, causal)
    count.update(_feed_forward(layer.feed_forward, D))
    count.update(_hyper_connections(layer, D))
    return count


def _attention(a: Attention, D: int, lengths: Lengths, causal: bool) -> Counter[str]:
    if isinstance(a, GroupedAttention):
        return _grouped(a, D, mean_context(_chunked(lengths, a.chunk), causal=causal, window=a.window))
    if isinstance(a, LatentAttention):
        whole = mean_context(lengths, causal=causal)
        seen = mean_context(lengths, causal=causal, top_k=a.indexer.top_k) if a.indexer else whole
        return _latent(a, D, seen, whole)
    entries = mean_context(lengths, causal=causal, ratio=a.ratio) if a.ratio else 0.0
    top_k = a.indexer.top_k if a.indexer else 0
    chosen = mean_context(lengths, causal=causal, ratio=a.ratio, top_k=top_k) if a.ratio else 0.0
    return _compressed(a, D, mean_context(lengths, causal=causal, window=a.window), chosen, entries)


def _decode_attention(a: Attention, D: int, context: int, absorbed: bool) -> Counter[str]:
    if isinstance(a, GroupedAttention):
        limits = [context, *(limit for limit in (a.window, a.chunk) if limit)]
        return _grouped(a, D, min(limits))
    if isinstance(a, LatentAttention):
        seen = min(context, a.indexer.top_k) if a.indexer else context
        return _latent_absorbed(a, D, seen, context) if absorbed else _latent(a, D, seen, context, expand=seen)
    entries = context // a.ratio if a.ratio else 0
    chosen = min(entries, a.indexer.top_k) if a.indexer else entries
    return _compressed(a, D, min(context, a.window), chosen, entries)


def _grouped(a: GroupedAttention, D: int, seen: float) -> Counter[str]:
    projections = 2 * D * a.head_dim * (2 * a.num_heads + 2 * a.num_kv_heads)
    products = 2 * 2 * a.num_heads * a.head_dim * seen  # scores, then values
    return _counter(attention_projections=projections, attention_products=products)


def _latent(a: LatentAttention, D: int, seen: float, whole: float, expand: float = 1.0) -> Counter[str]:
    """Latent attention with keys and values expanded; `expand` latents are expanded for each token."""
    qk = a.qk_nope_head_dim + a.qk_rope_head_dim
    queries = _latent_queries(a, D)
    latent = 2 * D * (a.kv_lora_rank + a.qk_rope_head_dim)
    expansion = 2 * a.kv_lora_rank * a.num_heads * (a.qk_nope_head_dim + a.v_head_dim) * expand
    output = 2 * a.num_heads * a.v_head_dim * D
    products = 2 * a.num_heads * (qk + a.v_head_dim) * seen
    return _counter(
        attention_projections=queries + latent + expansion + output,
        attention_products=products,
        indexer=_latent_indexer(a, D, whole),
    )


def _latent_absorbed(a: LatentAttention, D: int, seen: float, whole: float) -> Counter[str]:
    latent = 2 * D * (a.kv_lora_rank + a.qk_rope_head_dim)
    folded = 2 * a.num_heads * a.kv_lora_rank * (a.qk_nope_head_dim + a.v_head_dim)  # into the query, out of the value
    output = 2 * a.num_heads * a.v_head_dim * D
    products = 2 * a.num_heads * (2 * a.kv_lora_rank + a.qk_rope_head_dim) * seen
    return _counter(
        attention_projections=_latent_queries(a, D) + latent + folded + output,
        attention_products=products,
        indexer=_latent_indexer(a, D, whole),
    )


def _latent_queries(a: LatentAttention, D: int) -> int:
    width = a.num_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim)
    return 2 * (D * a.q_lora_rank + a.q_lora_rank * width) if a.q_lora_rank else 2 * D * width


def _latent_indexer(a: LatentAttention, D: int, whole: float) -> float:
    """Every position is scored by every indexer head, then the heads' weighted sum is taken."""
    i = a.indexer
    if i is None:
        return 0.0
    projections = 2 * ((a.q_lora_rank or D) * i.num_heads * i.head_dim + D * i.head_dim + D * i.num_heads)
    return projections + 2 * i.num_heads * (i.head_dim + 1) * whole


def _compressed(a: CompressedAttention, D: int, near: float, chosen: float, entries: float) -> Counter[str]:
    """`near` positions in the window, `chosen` of `entries` compressed ones."""
    width, series = a.num_heads * a.head_dim, 2 if a.overlap else 1
    queries = 2 * (D * a.q_lora_rank + a.q_lora_rank * width)
    output = 2 * (width * a.output_rank + a.output_groups * a.output_rank * D)
    compressor = 2 * 2 * D * series * a.head_dim if a.ratio else 0
    indexer = 0.0
    if a.indexer is not None:
        i = a.indexer
        indexer = 2 * (2 * D * series * i.head_dim + a.q_lora_rank * i.num_heads * i.head_dim + D * i.num_heads)
        indexer += 2 * i.num_heads * (i.head_dim + 1) * entries
    return _counter(
        attention_projections=queries + 2 * D * a.head_dim + output + compressor,
        attention_products=2 * 2 * width * (near + chosen),
        indexer=indexer,
    )


def _feed_forward(f: Dense | Experts, D: int) -> Counter[str]:
    if isinstance(f, Dense):
        return _counter(dense_mlp=2 * f.matrices * D * f.width)
    return _counter(
        routed_experts=2 * f.matrices * D * f.width * f.num_per_token,
        shared_experts=2 * f.matrices * D * f.shared_width + (2 * D if f.shared_gate else 0),
        router=2 * D * f.num_experts,
    )


def _hyper_connections(layer: Layer, D: int) -> Counter[str]:
    """mHC, two modules a layer: all n streams to (2+n)n mixing weights, then the n x n mix of the streams."""
    n = layer.hyper_connections
    return _counter(hyper_connections=2 * (2 * (2 + n) * n * n * D + 2 * n * n * D))


def _output_head(arch: Architecture) -> float:
    size = arch.embedding_size or arch.hidden_size
    return 2 * size * arch.vocab_size + (4 * size * arch.hidden_size if size != arch.hidden_size else 0)


def _counter(**components: float) -> Counter[str]:
    return Counter(components)


def _scaled(count: Counter[str], factor: int) -> Counter[str]:
    return Counter({name: n * factor for name, n in count.items()})
