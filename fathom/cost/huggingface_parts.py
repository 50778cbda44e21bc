"""What the readers of `config.json` files share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from fathom.cost.architecture import Architecture, Attention, Dense, Experts, GroupedAttention, Layer

Config = Mapping[str, Any]


def build(c: Config, layers: Iterable[Layer], **more: Any) -> Architecture:
    """Collect equal layers into groups."""
    groups = Counter(layers)
    shape = {
        "vocab_size": c["vocab_size"],
        "hidden_size": c.get("hidden_size") or c.get("n_embd") or c.get("d_model"),
        "tie_word_embeddings": c.get("tie_word_embeddings", False),
    }
    stack = tuple(replace(layer, count=count) for layer, count in groups.items())
    return Architecture(**{**shape, "layers": stack, **more})


def grouped(c: Config, **more: Any) -> GroupedAttention:
    heads = c["num_attention_heads"]
    kv_heads = c.get("num_key_value_heads") or heads
    head_dim = c.get("head_dim") or c["hidden_size"] // heads
    return GroupedAttention(**{"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim, **more})


def stack(c: Config, attention: Attention, feed_forward: Dense | Experts, **more: Any) -> list[Layer]:
    return [Layer(count=1, attention=attention, feed_forward=feed_forward, **more)] * c["num_hidden_layers"]


def windows(c: Config, attention: GroupedAttention, default: list[str] | None = None) -> list[GroupedAttention]:
    """One attention a layer, windowed where `layer_types` says so."""
    types = c.get("layer_types") or default or ["full_attention"] * c["num_hidden_layers"]
    window = c.get("sliding_window") or 0
    return [replace(attention, window=window if kind == "sliding_attention" else 0) for kind in types]
