"""Routed experts on the processor: sorted once, one product a matrix and expert, everything between fused.

M tokens, A experts of a token, S rows sorted by expert, D hidden_size, E experts, F width of an expert.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fathom.model.kernels.functions import call


class ExpertsFunction(torch.autograd.Function):
    """Sum over a token's experts of weight * down(silu(gate x) * up x); no token dropped, none computed twice."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, experts_MA: Tensor, weights_MA: Tensor, *stacks: Tensor) -> Tensor:
        gate_EFD, up_EFD, down_EDF = (stack.to(x_MD.dtype) for stack in stacks)
        per_token = experts_MA.shape[1]
        place_MA, tokens_S, counts = _sort_by_expert(experts_MA, len(gate_EFD))
        x_SD = x_MD.index_select(0, tokens_S)
        weights_S = weights_MA.new_zeros(len(tokens_S), dtype=torch.float32)
        weights_S[place_MA.flatten()] = weights_MA.float().flatten()
        gate_SF, up_SF = _products(x_SD, gate_EFD, counts), _products(x_SD, up_EFD, counts)
        h_SF = torch.empty_like(gate_SF)
        call("swiglu", gate_SF, up_SF, weights_S, h_SF, *h_SF.shape)
        y_MD = torch.empty_like(x_MD)
        call("gather_sum", _products(h_SF, down_EDF, counts), place_MA, None, y_MD, len(x_MD), per_token, x_MD.shape[1])
        ctx.counts, ctx.per_token = counts, per_token
        ctx.save_for_backward(x_MD, tokens_S, place_MA, weights_S, gate_SF, up_SF, gate_EFD, up_EFD, down_EDF)
        return y_MD

    @staticmethod
    def backward(ctx: Any, dy_MD: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, tokens_S, place_MA, weights_S, gate_SF, up_SF, gate_EFD, up_EFD, down_EDF = ctx.saved_tensors
        counts = ctx.counts
        x_SD, dy_SD = x_MD.index_select(0, tokens_S), dy_MD.contiguous().index_select(0, tokens_S)
        h_SF = torch.empty_like(gate_SF)
        call("swiglu", gate_SF, up_SF, weights_S, h_SF, *h_SF.shape)
        d_down_EDF = _weight_gradients(dy_SD, h_SF, counts)
        dh_SF = _products(dy_SD, down_EDF.transpose(1, 2), counts)
        d_gate_SF, d_up_SF, d_weights_S = (
            torch.empty_like(gate_SF),
            torch.empty_like(up_SF),
            torch.empty_like(weights_S),
        )
        call("swiglu_backward", dh_SF, gate_SF, up_SF, weights_S, d_gate_SF, d_up_SF, d_weights_S, *gate_SF.shape)
        d_gate_EFD, d_up_EFD = _weight_gradients(d_gate_SF, x_SD, counts), _weight_gradients(d_up_SF, x_SD, counts)
        dx_SD = _products(d_gate_SF, gate_EFD.transpose(1, 2), counts)
        _products(d_up_SF, up_EFD.transpose(1, 2), counts, add_to=dx_SD)
        dx_MD = torch.empty_like(x_MD)
        call("gather_sum", dx_SD, place_MA, None, dx_MD, len(x_MD), ctx.per_token, x_MD.shape[1])
        d_weights_MA = d_weights_S[place_MA].view(len(x_MD), ctx.per_token)
        return dx_MD, None, d_weights_MA, d_gate_EFD, d_up_EFD, d_down_EDF


# Rows of an expert are filled up to a multiple of this where there are many: the products' library compiles itself anew for
# every number of rows it meets, about a millisecond each, which made these products cost three times as much.
ROW_STEP = 64


def _sort_by_expert(experts_MA: Tensor, num_experts: int) -> tuple[Tensor, Tensor, list[int]]:
    """Where each (token, choice) lies among the sorted rows [M, A], each row's token [S], and each expert's rows.

    Rows that only fill up an expert belong to token 0 and must be given the weight 0.
    """
    chosen = experts_MA.flatten()
    order = chosen.argsort(stable=True)
    counts = torch.bincount(chosen, minlength=num_experts)
    step = ROW_STEP if len(chosen) >= ROW_STEP * num_experts else 1
    filled = (counts + step - 1) // step * step
    shift = (filled.cumsum(0) - filled) - (counts.cumsum(0) - counts)  # by which filling moved each expert's rows
    places = torch.arange(len(chosen)) + shift[chosen[order]]
    tokens_S = torch.zeros(int(filled.sum()), dtype=torch.int64).index_copy_(0, places, order // experts_MA.shape[1])
    place_MA = torch.empty_like(order).index_copy_(0, order, places).view_as(experts_MA)
    return place_MA, tokens_S, filled.tolist()


def _products(rows_SI: Tensor, weights_EOI: Tensor, counts: list[int], add_to: Tensor | None = None) -> Tensor:
    """Each expert's rows times its matrix transposed, [S, O]."""
    out = rows_SI.new_empty(len(rows_SI), weights_EOI.shape[1]) if add_to is None else add_to
    for rows, weight, place in zip(rows_SI.split(counts), weights_EOI, out.split(counts), strict=True):
        if len(rows) and add_to is None:
            torch.mm(rows, weight.t(), out=place)
        elif len(rows):
            torch.addmm(place, rows, weight.t(), out=place)
    return out


def _weight_gradients(slopes_SO: Tensor, rows_SI: Tensor, counts: list[int]) -> Tensor:
    """Each expert's gradient, fp32 [E, O, I]; exactly zero for an expert without tokens."""
    gradient = slopes_SO.new_empty(len(counts), slopes_SO.shape[1], rows_SI.shape[1])
    for slopes, rows, out in zip(slopes_SO.split(counts), rows_SI.split(counts), gradient, strict=True):
        if len(rows):
            torch.mm(slopes.t(), rows, out=out)
        else:
            out.zero_()
    return gradient.float()
