"""Causal attention within documents on the processor, in one of two ways.

Where the processor has bf16 dot products a pass of our own does a head at a time, products and all (`attention.cpp`).
Elsewhere, and with tiles, the products are torch's and what lies between them is fused: a row is cut into bands of
queries; a band takes the keys from the beginning of its first query's document to its own end, so that what the mask
would throw away is mostly never computed, and one band's scores are all that exist at once.

B rows, T positions, N heads, K key-value heads, H width of a query, P its rotary part, C width of a value.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fathom.model.kernels.build import has
from fathom.model.kernels.functions import call

# Queries of one band. Measured on 512 positions with 6 heads of 96: 128 saves the most of the square without making the
# products so small that their overhead eats it.
BAND = 128
# A band's keys begin at a multiple of this. The products' library compiles itself anew for every shape it meets (about
# a millisecond each): documents of any length must not make more than a few shapes.
KEY_STEP = 64
# Rows up to this length share their products: the products of one row alone are then shorter than the calls to them.
JOINED_LENGTH = 256


class AttentionFunction(torch.autograd.Function):
    """softmax(rotated q, k within documents) v, [B, T, N, C].

    q [B, T, N, H], its last P values rotary. k [B, T, K, H - P] with the rotary keys of all heads in `k_rotary`
    [B, T, P] (latent attention), or k [B, T, K, H] with its own last P values rotary and `k_rotary` None. v [B, T, K,
    C]. `starts` [B, T] is where each position's document begins.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        k_rotary: Tensor | None,
        v: Tensor,
        cos: Tensor,
        sin: Tensor,
        starts: Tensor,
        scale: float,
    ) -> Tensor:
        B, T, N, H = q.shape
        C, rotary = v.shape[-1], 2 * cos.shape[-1]
        cos, sin = cos.contiguous(), sin.contiguous()
        q_packed, k_packed, v_packed = (q.new_empty(B, N, T, width) for width in (H, H, C))
        _pack(q, q_packed, 0, rotary, cos, sin)
        _pack(k, k_packed, 0, 0 if k_rotary is not None else rotary, cos, sin)
        if k_rotary is not None:
            _pack(k_rotary.unsqueeze(2), k_packed, H - rotary, rotary, cos, sin)
        _pack(v, v_packed, 0, 0, cos, sin)
        out, log_sum = q.new_empty(B, T, N, C), q.new_empty(B, N, T, dtype=torch.float32)
        if in_one_pass(H, C):
            call("attention", q_packed, k_packed, v_packed, starts, out, log_sum, B, N, T, H, C, scale)
        else:
            _forward_by_bands(q_packed, k_packed, v_packed, starts, out, log_sum, scale)
        ctx.save_for_backward(q_packed, k_packed, v_packed, out, log_sum, cos, sin, starts)
        ctx.scale, ctx.rotary, ctx.kv_heads, ctx.shared = scale, rotary, k.shape[2], k_rotary is not None
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        q_packed, k_packed, v_packed, out, log_sum, cos, sin, starts = ctx.saved_tensors
        (B, N, T, H), C = q_packed.shape, v_packed.shape[-1]
        dq, d_out = torch.empty_like(q_packed), d_out.contiguous()
        dk, dv = (torch.empty_like(packed, dtype=torch.float32) for packed in (k_packed, v_packed))
        given = (q_packed, k_packed, v_packed, d_out, out, log_sum, starts)
        if in_one_pass(H, C):
            call("attention_backward", *given, dq, dk, dv, B, N, T, H, C, ctx.scale)
        else:
            _backward_by_bands(*given, dq, dk.zero_(), dv.zero_(), ctx.scale)
        rotary, kv_heads = ctx.rotary, ctx.kv_heads
        d_k_rotary = None
        if ctx.shared:
            d_k_rotary = _unpack(dk, 1, H - rotary, 0, rotary, cos, sin).squeeze(2)
            d_k = _unpack(dk, kv_heads, 0, H - rotary, 0, cos, sin)
        else:
            d_k = _unpack(dk, kv_heads, 0, H - rotary, rotary, cos, sin)
        d_q = _unpack(dq, N, 0, H - rotary, rotary, cos, sin)
        return d_q, d_k, d_k_rotary, _unpack(dv, kv_heads, 0, C, 0, cos, sin), None, None, None, None


def in_one_pass(width: int, value_width: int) -> bool:
    """Whether this processor has the pass that does a whole head at once; its products take two values at a time."""
    return has("attention") and width % 2 == 0 and value_width % 2 == 0


def _forward_by_bands(
    q_packed: Tensor, k_packed: Tensor, v_packed: Tensor, starts: Tensor, out: Tensor, log_sum: Tensor, scale: float
) -> None:
    _, T, N, C = out.shape
    for rows, first, begin, end in _bands(starts):
        queries, keys, values = (packed[rows].flatten(0, 1) for packed in (q_packed, k_packed, v_packed))
        scores = torch.bmm(queries[:, begin:end], keys[:, first:end].transpose(1, 2))
        statistics = (log_sum[rows, :, begin:], T, starts[rows, begin:], N)
        call("causal_softmax", scores, *statistics, *scores.shape, begin, first, scale)
        block = torch.bmm(scores, values[:, first:end])
        call("place_values", block, out[rows, begin:], len(block) // N, T, N, end - begin, C)


def _backward_by_bands(
    q_packed: Tensor,
    k_packed: Tensor,
    v_packed: Tensor,
    d_out: Tensor,
    out: Tensor,
    log_sum: Tensor,
    starts: Tensor,
    dq: Tensor,
    dk: Tensor,
    dv: Tensor,
    scale: float,
) -> None:
    B, T, N, C = out.shape
    slopes, delta = torch.empty_like(v_packed), torch.empty_like(log_sum)
    call("pack_slopes", d_out, out, slopes, delta, B, T, N, C)
    for rows, first, begin, end in _bands(starts):
        queries, slope = (packed[rows].flatten(0, 1)[:, begin:end] for packed in (q_packed, slopes))
        keys, values = (packed[rows].flatten(0, 1)[:, first:end] for packed in (k_packed, v_packed))
        scores = torch.bmm(queries, keys.transpose(1, 2))
        d_scores = torch.bmm(slope, values.transpose(1, 2))
        statistics = (log_sum[rows, :, begin:], delta[rows, :, begin:], T, starts[rows, begin:], N)
        call("causal_softmax_backward", scores, d_scores, *statistics, *scores.shape, begin, first, scale)
        dq[rows].flatten(0, 1)[:, begin:end] = torch.bmm(d_scores, keys)
        for total, part in (
            (dk, torch.bmm(d_scores.transpose(1, 2), queries)),
            (dv, torch.bmm(scores.transpose(1, 2), slope)),
        ):
            call("accumulate", total[rows, :, first:], T, part, *part.shape)


def _bands(starts_BT: Tensor) -> Iterator[tuple[slice, int, int, int]]:
    """(rows, first key, first query, end of queries and keys)."""
    rows, length = starts_BT.shape
    together = rows if length <= JOINED_LENGTH else 1
    begins = starts_BT[:, ::BAND].tolist()
    for row in range(0, rows, together):
        for band, begin in enumerate(range(0, length, BAND)):
            first = min(starts[band] for starts in begins[row : row + together])
            yield slice(row, row + together), first // KEY_STEP * KEY_STEP, begin, min(begin + BAND, length)


def _angle_stride(cos: Tensor) -> int:
    return 0 if cos.shape[0] == 1 else cos[0].numel()


def _pack(source: Tensor, packed: Tensor, offset: int, rotary: int, cos: Tensor, sin: Tensor) -> None:
    """Heads [B, T, heads, *] into packed [B, N, T, width] from `offset`, their last `rotary` values turned."""
    if source.stride(-1) != 1:
        source = source.contiguous()
    B, N, T, width = packed.shape
    group, kept = N // source.shape[2], source.shape[3] - rotary
    where = (packed, B, T, N, width, offset)
    call("pack_heads", source, *source.stride()[:3], group, kept, rotary, cos, sin, _angle_stride(cos), *where)


def _unpack(packed: Tensor, heads: int, offset: int, kept: int, rotary: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Gradients of packed heads back as [B, T, heads, kept + rotary], summed over the query heads that shared one."""
    B, N, T, width = packed.shape
    gradient = torch.empty(B, T, heads, kept + rotary, dtype=torch.bfloat16)
    name = "unpack_heads_fp32" if packed.dtype == torch.float32 else "unpack_heads_bf16"
    strides = gradient.stride()[:3]
    call(
        name, packed, width, offset, gradient, *strides, N // heads, kept, rotary, cos, sin, _angle_stride(cos), B, T, N
    )
    return gradient
