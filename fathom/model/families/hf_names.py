"""Which tensor of a transformers checkpoint is which parameter of ours, and how its rows lie.

DeepSeek pairs neighbouring rotary dimensions, we pair halves (`fathom.model.rotary`): the rows that make rotary
dimensions are permuted on the way in and out. A rotation does not care, as long as queries and keys are permuted alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.model.config import ModelConfig


@dataclass(frozen=True)
class Entry:
    """One tensor of a checkpoint."""

    theirs: str
    ours: str
    expert: int | None = None  # index in our stack of experts
    rotary_heads: int = 0  # heads whose last rows are rotary and permuted; 0: taken as it is


def interleaved_to_halves(weight: Tensor, heads: int, rotary: int) -> Tensor:
    """Rows of `heads` equal heads, the last `rotary` of each in neighbouring pairs, the pairs split in halves."""
    head_rows = weight.unflatten(0, (heads, -1))
    kept, turned = head_rows.split((head_rows.shape[1] - rotary, rotary), dim=1)
    return torch.cat((kept, turned[:, 0::2], turned[:, 1::2]), dim=1).flatten(0, 1)


def halves_to_interleaved(weight: Tensor, heads: int, rotary: int) -> Tensor:
    """The inverse of `interleaved_to_halves`."""
    head_rows = weight.unflatten(0, (heads, -1))
    kept, turned = head_rows.split((head_rows.shape[1] - rotary, rotary), dim=1)
    paired = torch.stack(turned.chunk(2, dim=1), dim=2).flatten(1, 2)
    return torch.cat((kept, paired), dim=1).flatten(0, 1)


def entries(config: ModelConfig) -> Iterator[Entry]:
    """Every tensor that a complete checkpoint of this shape has."""
    yield Entry("model.embed_tokens.weight", "embedding.weight")
    yield Entry("model.norm.weight", "norm.weight")
    if not config.tie_word_embeddings:
        yield Entry("lm_head.weight", "head.weight")
    for layer in range(config.num_layers):
        mixture = layer >= config.num_dense_layers
        yield from _block(config, f"model.layers.{layer}", f"layers.{layer}", mixture)
    for depth in range(config.num_mtp_layers):
        yield from _multi_token_head(config, f"model.layers.{config.num_layers + depth}", f"mtp.{depth}")


def shared_copies(config: ModelConfig) -> Iterator[Entry]:
    """Copies of embedding and output projection that DeepSeek's checkpoint keeps beside each multi-token head."""
    for depth in range(config.num_mtp_layers):
        theirs = f"model.layers.{config.num_layers + depth}"
        yield Entry(f"{theirs}.embed_tokens.weight", "embedding.weight")
        head = "embedding.weight" if config.tie_word_embeddings else "head.weight"
        yield Entry(f"{theirs}.shared_head.head.weight", head)


def _multi_token_head(config: ModelConfig, theirs: str, ours: str) -> Iterator[Entry]:
    yield Entry(f"{theirs}.enorm.weight", f"{ours}.embedding_norm.weight")
    yield Entry(f"{theirs}.hnorm.weight", f"{ours}.hidden_norm.weight")
    yield Entry(f"{theirs}.eh_proj.weight", f"{ours}.projection.weight")
    yield Entry(f"{theirs}.shared_head.norm.weight", f"{ours}.norm.weight")
    yield from _block(config, theirs, f"{ours}.block", config.num_experts > 0)


def _block(config: ModelConfig, theirs: str, ours: str, mixture: bool) -> Iterator[Entry]:
    yield Entry(f"{theirs}.input_layernorm.weight", f"{ours}.attention_norm.weight")
    yield Entry(f"{theirs}.post_attention_layernorm.weight", f"{ours}.feed_forward_norm.weight")
    attention = _latent if config.attention == "latent" else _grouped
    yield from attention(config, f"{theirs}.self_attn", f"{ours}.attention")
    feed_forward = f"{ours}.feed_forward"
    yield from _mixture(config, f"{theirs}.mlp", feed_forward) if mixture else _swiglu(f"{theirs}.mlp", feed_forward)


def _grouped(config: ModelConfig, theirs: str, ours: str) -> Iterator[Entry]:
    for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
        yield Entry(f"{theirs}.{name}.weight", f"{ours}.{name}.weight")
        if config.qkv_bias and name != "o_proj":
            yield Entry(f"{theirs}.{name}.bias", f"{ours}.{name}.bias")
    if config.qk_norm:
        yield Entry(f"{theirs}.q_norm.weight", f"{ours}.q_norm.weight")
        yield Entry(f"{theirs}.k_norm.weight", f"{ours}.k_norm.weight")


def _latent(config: ModelConfig, theirs: str, ours: str) -> Iterator[Entry]:
    if config.q_lora_rank:
        yield Entry(f"{theirs}.q_a_proj.weight", f"{ours}.q_a_proj.weight")
        yield Entry(f"{theirs}.q_a_layernorm.weight", f"{ours}.q_a_norm.weight")
    query = "q_b_proj" if config.q_lora_rank else "q_proj"
    yield Entry(f"{theirs}.{query}.weight", f"{ours}.{query}.weight", rotary_heads=config.num_heads)
    yield Entry(f"{theirs}.kv_a_proj_with_mqa.weight", f"{ours}.kv_a_proj.weight", rotary_heads=1)
    yield Entry(f"{theirs}.kv_a_layernorm.weight", f"{ours}.kv_a_norm.weight")
    yield Entry(f"{theirs}.kv_b_proj.weight", f"{ours}.kv_b_proj.weight")
    yield Entry(f"{theirs}.o_proj.weight", f"{ours}.o_proj.weight")


def _swiglu(theirs: str, ours: str) -> Iterator[Entry]:
    for name in ("gate_proj", "up_proj", "down_proj"):
        yield Entry(f"{theirs}.{name}.weight", f"{ours}.{name}.weight")


def _mixture(config: ModelConfig, theirs: str, ours: str) -> Iterator[Entry]:
    yield Entry(f"{theirs}.gate.weight", f"{ours}.router.weight")
    if config.router_bias:
        yield Entry(f"{theirs}.gate.e_score_correction_bias", f"{ours}.router.bias")
    stacks = {"gate_proj": "gate_EFD", "up_proj": "up_EFD", "down_proj": "down_EDF"}
    for expert in range(config.num_experts):
        for name, stack in stacks.items():
            yield Entry(f"{theirs}.experts.{expert}.{name}.weight", f"{ours}.experts.{stack}", expert=expert)
    if config.num_shared_experts:
        yield from _swiglu(f"{theirs}.shared_experts", f"{ours}.shared")
