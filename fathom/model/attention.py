"""Attention: grouped-query (LLaMA, Qwen) and multi-head latent (DeepSeek-V2 and V3), causal and within documents.

B batch rows, T new positions, S positions seen (cached and new), D hidden_size, N heads, K key-value heads, H head
width, R kv_lora_rank, P rotary width of a latent head, Q width of a latent head without position, C width of a latent
value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathom.model.config import ModelConfig
from fathom.model.kernels.attention import AttentionFunction
from fathom.model.ops import Linear, RMSNorm
from fathom.model.rotary import rotate, softmax_scale

# The latent norms have no key in DeepSeek's configuration: both its releases and transformers build them with this one.
LATENT_NORM_EPSILON = 1e-6


class KeyValueCache(Protocol):
    """What attention asks of a cache while decoding; `fathom.infer.cache` has the classes."""

    def append(self, layer: int, first_BTx: Tensor, second_BTx: Tensor) -> tuple[Tensor, Tensor]:
        """Add T positions to a layer and return all S: keys and values [B, S, K, H], or latents [B, S, R] and rotary
        keys [B, S, P].
        """
        ...

    def mask(self, new_positions: int) -> Tensor | None:
        """Which of S positions each of the T new ones may see, bool [B, 1, T, S]; None where plain causality says it
        all: a cache that was empty, or T = 1 with every cached position visible.
        """
        ...

    def positions(self, new_positions: int) -> Tensor:
        """Positions of the T new tokens, integers [B, T]."""
        ...


@dataclass(frozen=True)
class Context:
    """What every layer's attention needs to know of the batch."""

    cos_BTP: Tensor
    sin_BTP: Tensor
    mask_B1TS: Tensor | None = None  # None: causal
    cache: KeyValueCache | None = None
    starts_BT: Tensor | None = None  # where each position's document begins: the fused passes are used


def document_starts(documents_BT: Tensor) -> Tensor:
    """Where a document begins, bool [B, T]: a document is a run of equal numbers in a row."""
    starts_BT = torch.ones_like(documents_BT, dtype=torch.bool)
    starts_BT[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return starts_BT


def document_mask(documents_BT: Tensor) -> Tensor:
    """Causal and within one document, bool [B, 1, T, T]."""
    run_BT = document_starts(documents_BT).cumsum(1)
    return (run_BT.unsqueeze(-1) == run_BT.unsqueeze(-2)).tril().unsqueeze(1)


def first_positions(tokens_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
    """Index in its row at which each position's document begins, int64 [B, T]; 0 without `documents_BT`."""
    if documents_BT is None:
        return torch.zeros_like(tokens_BT, dtype=torch.int64)
    index_BT = torch.arange(tokens_BT.shape[1], device=tokens_BT.device).expand_as(tokens_BT)
    return (index_BT * document_starts(documents_BT)).cummax(1).values


def attend(q_BTNH: Tensor, k_BSKH: Tensor, v_BSKC: Tensor, mask_B1TS: Tensor | None, scale: float) -> Tensor:
    """softmax(q k^T * scale) v as [B, T, N, C]; a query that may see nothing gets zeros."""
    num_positions, value_width = q_BTNH.shape[1], v_BSKC.shape[-1]
    padding = q_BTNH.shape[-1] - value_width
    if padding > 0:  # the fused kernels want one width for keys and values
        v_BSKC = F.pad(v_BSKC, (0, padding))
    out_BNTC = F.scaled_dot_product_attention(
        q_BTNH.transpose(1, 2),
        k_BSKH.transpose(1, 2),
        v_BSKC.transpose(1, 2),
        attn_mask=mask_B1TS,
        is_causal=mask_B1TS is None and num_positions > 1,
        scale=scale,
        enable_gqa=q_BTNH.shape[2] != k_BSKH.shape[2],
    )
    if mask_B1TS is not None and mask_B1TS.shape[-1] != num_positions:
        out_BNTC = out_BNTC.masked_fill(~mask_B1TS.any(-1, keepdim=True), 0.0)
    return out_BNTC.transpose(1, 2)[..., :value_width]


class GroupedAttention(nn.Module):
    """Grouped-query attention (arXiv:2305.13245), with optional norms of queries and keys and optional biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        self.scale = softmax_scale(config)
        bias = config.qkv_bias
        self.q_proj = Linear(config.hidden_size, self.num_heads * self.head_dim, bias=bias)
        self.k_proj = Linear(config.hidden_size, self.num_kv_heads * self.head_dim, bias=bias)
        self.v_proj = Linear(config.hidden_size, self.num_kv_heads * self.head_dim, bias=bias)
        self.o_proj = Linear(self.num_heads * self.head_dim, config.hidden_size)
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(self, x_BTD: Tensor, context: Context, layer: int) -> Tensor:
        q_BTNH = self.q_proj(x_BTD).unflatten(-1, (self.num_heads, self.head_dim))
        k_BTKH = self.k_proj(x_BTD).unflatten(-1, (self.num_kv_heads, self.head_dim))
        v_BTKH = self.v_proj(x_BTD).unflatten(-1, (self.num_kv_heads, self.head_dim))
        if self.q_norm is not None and self.k_norm is not None:
            q_BTNH, k_BTKH = self.q_norm(q_BTNH), self.k_norm(k_BTKH)
        if context.starts_BT is not None:
            angles = (context.cos_BTP, context.sin_BTP, context.starts_BT, self.scale)
            return self.o_proj(AttentionFunction.apply(q_BTNH, k_BTKH, None, v_BTKH, *angles).flatten(-2))
        q_BTNH = rotate(q_BTNH, context.cos_BTP, context.sin_BTP)
        k_BTKH = rotate(k_BTKH, context.cos_BTP, context.sin_BTP)
        if context.cache is not None:
            k_BTKH, v_BTKH = context.cache.append(layer, k_BTKH, v_BTKH)
        out_BTNH = attend(q_BTNH, k_BTKH, v_BTKH, context.mask_B1TS, self.scale)
        return self.o_proj(out_BTNH.flatten(-2))


class LatentAttention(nn.Module):
    """Multi-head latent attention with decoupled rotary keys (arXiv:2412.19437, section 2.1.1).

    Keys and values are grown from one latent per position; the cache keeps the latent and the one rotary key. Where
    earlier positions are cached, queries are moved into the latent space instead (the absorbed product), so that a new
    token costs nothing per cached position but the attention itself.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads, self.rank = config.num_heads, config.kv_lora_rank
        self.nope, self.rope, self.value = config.qk_nope_head_dim, config.qk_rope_head_dim, config.v_head_dim
        self.scale = softmax_scale(config)
        query_width = self.num_heads * (self.nope + self.rope)
        if config.q_lora_rank:
            self.q_a_proj = Linear(config.hidden_size, config.q_lora_rank)
            self.q_a_norm = RMSNorm(config.q_lora_rank, LATENT_NORM_EPSILON)
            self.q_b_proj = Linear(config.q_lora_rank, query_width)
        else:
            self.q_proj = Linear(config.hidden_size, query_width)
        self.kv_a_proj = Linear(config.hidden_size, self.rank + self.rope)
        self.kv_a_norm = RMSNorm(self.rank, LATENT_NORM_EPSILON)
        self.kv_b_proj = Linear(self.rank, self.num_heads * (self.nope + self.value))
        self.o_proj = Linear(self.num_heads * self.value, config.hidden_size)

    def forward(self, x_BTD: Tensor, context: Context, layer: int) -> Tensor:
        q_BTNH = self._queries(x_BTD)
        latent_BTR, rope_BTP = self.kv_a_proj(x_BTD).split((self.rank, self.rope), dim=-1)
        latent_BTR = self.kv_a_norm(latent_BTR)
        if context.starts_BT is not None:
            angles = (context.cos_BTP, context.sin_BTP, context.starts_BT, self.scale)
            k_BTNQ, v_BTNC = self._grow(latent_BTR)
            return self.o_proj(AttentionFunction.apply(q_BTNH, k_BTNQ, rope_BTP, v_BTNC, *angles).flatten(-2))
        q_nope_BTNQ, q_rope_BTNP = q_BTNH.split((self.nope, self.rope), dim=-1)
        q_rope_BTNP = rotate(q_rope_BTNP, context.cos_BTP, context.sin_BTP)
        rope_BTP = rotate(rope_BTP.unsqueeze(2), context.cos_BTP, context.sin_BTP).squeeze(2)
        if context.cache is not None:
            latent_BTR, rope_BTP = context.cache.append(layer, latent_BTR, rope_BTP)
        arguments = (q_nope_BTNQ, q_rope_BTNP, latent_BTR, rope_BTP, context.mask_B1TS)
        seen_before = latent_BTR.shape[1] > x_BTD.shape[1]
        out_BTNC = self._absorbed(*arguments) if seen_before else self._expanded(*arguments)
        return self.o_proj(out_BTNC.flatten(-2))

    def _queries(self, x_BTD: Tensor) -> Tensor:
        """Queries [B, T, N, Q + P], not yet rotated."""
        q = self.q_b_proj(self.q_a_norm(self.q_a_proj(x_BTD))) if hasattr(self, "q_a_proj") else self.q_proj(x_BTD)
        return q.unflatten(-1, (self.num_heads, -1))

    def _grow(self, latent_BTR: Tensor) -> tuple[Tensor, Tensor]:
        """Keys without position [B, T, N, Q] and values [B, T, N, C] of every head, from the latents."""
        kv = self.kv_b_proj(latent_BTR).unflatten(-1, (self.num_heads, -1))
        return kv.split((self.nope, self.value), dim=-1)

    def _expanded(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, rope: Tensor, mask: Tensor | None) -> Tensor:
        """Keys and values of every head grown from the latents: the fewest FLOPs where queries are as many as keys."""
        k_nope, v = self._grow(latent)
        k = torch.cat((k_nope, rope.unsqueeze(2).expand(-1, -1, self.num_heads, -1)), dim=-1)
        return attend(torch.cat((q_nope, q_rope), dim=-1), k, v, mask, self.scale)

    def _absorbed(self, q_nope: Tensor, q_rope: Tensor, latent: Tensor, rope: Tensor, mask: Tensor | None) -> Tensor:
        """Attention over the latents themselves, one key-value head for all: kv_b is folded into query and output."""
        up = self.kv_b_proj.weight.to(latent.dtype).view(self.num_heads, self.nope + self.value, self.rank)
        key_up_NQR, value_up_NCR = up.split((self.nope, self.value), dim=1)
        q_BTNR = torch.einsum("btnq,nqr->btnr", q_nope, key_up_NQR)
        k_BS1R = torch.cat((latent, rope), dim=-1).unsqueeze(2)
        out_BTNR = attend(torch.cat((q_BTNR, q_rope), dim=-1), k_BS1R, latent.unsqueeze(2), mask, self.scale)
        return torch.einsum("btnr,ncr->btnc", out_BTNR, value_up_NCR)
