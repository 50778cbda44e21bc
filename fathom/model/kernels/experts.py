"""Routed experts on the processor: sorted once, one product a matrix and expert, everything between fused.

M tokens, A experts of a token, S rows sorted by expert, D hidden_size, E experts, F width of an expert, G = 2F.
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
        gate_up_EGD, down_EDF = torch.cat(stacks[:2], dim=1).to(x_MD.dtype), stacks[2].to(x_MD.dtype)
        per_token = experts_MA.shape[1]
        place_MA, tokens_S, weights_S, counts = _sort_by_expert(experts_MA, weights_MA, len(down_EDF))
        gate_up_SG = _products(x_MD.index_select(0, tokens_S), gate_up_EGD, counts)
        h_SF = x_MD.new_empty(len(tokens_S), gate_up_EGD.shape[1] // 2)
        call("swiglu", gate_up_SG, weights_S, h_SF, *h_SF.shape)
        y_MD = torch.empty_like(x_MD)
        call("gather_sum", _products(h_SF, down_EDF, counts), place_MA, y_MD, len(x_MD), per_token, x_MD.shape[1])
        ctx.counts = counts
        ctx.save_for_backward(x_MD, tokens_S, place_MA, weights_S, gate_up_SG, gate_up_EGD, down_EDF)
        return y_MD

    @staticmethod
    def backward(ctx: Any, dy_MD: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, tokens_S, place_MA, weights_S, gate_up_SG, gate_up_EGD, down_EDF = ctx.saved_tensors
        counts = ctx.counts
        dy_SD = dy_MD.contiguous().index_select(0, tokens_S)
        dh_SF = _products(dy_SD, down_EDF.transpose(1, 2), counts)
        h_SF, slopes_SG, d_weights_S = (torch.empty_like(made) for made in (dh_SF, gate_up_SG, weights_S))
        call("swiglu_backward", dh_SF, gate_up_SG, weights_S, h_SF, slopes_SG, d_weights_S, *h_SF.shape)
        d_down_EDF = _weight_gradients(dy_SD, h_SF, counts)
        d_gate_up_EGD = _weight_gradients(slopes_SG, x_MD.index_select(0, tokens_S), counts)
        d_gate_EFD, d_up_EFD = d_gate_up_EGD.chunk(2, dim=1)
        dx_SD, dx_MD = _products(slopes_SG, gate_up_EGD.transpose(1, 2), counts), torch.empty_like(x_MD)
        call("gather_sum", dx_SD, place_MA, dx_MD, len(x_MD), place_MA.shape[1], x_MD.shape[1])
        return dx_MD, None, d_weights_S[place_MA], d_gate_EFD, d_up_EFD, d_down_EDF


# Rows of an expert are filled up to a multiple of this where there are many: the products' library compiles itself anew
# for every number of rows it meets, about a millisecond each, which made these products cost three times as much.
ROW_STEP = 32


def _sort_by_expert(
    experts_MA: Tensor, weights_MA: Tensor, num_experts: int
) -> tuple[Tensor, Tensor, Tensor, list[int]]:
    """Where each (token, choice) lies among the sorted rows [M, A], each row's token and weight [S], and each expert's
    rows. Rows that only fill up an expert are token 0's, with the weight 0.
    """
    step = ROW_STEP if experts_MA.numel() >= ROW_STEP * num_experts else 1
    place_MA, counts_E = torch.empty_like(experts_MA), experts_MA.new_empty(num_experts)
    room = experts_MA.numel() + num_experts * (step - 1)
    tokens, weights = experts_MA.new_zeros(room), torch.zeros(room)
    given = (experts_MA.contiguous(), weights_MA.float().contiguous())
    call("sort_by_expert", *given, place_MA, tokens, weights, counts_E, *experts_MA.shape, num_experts, step)
    counts = counts_E.tolist()
    return place_MA, tokens[: sum(counts)], weights[: sum(counts)], counts


def _products(rows_SI: Tensor, weights_EOI: Tensor, counts: list[int]) -> Tensor:
    """Each expert's rows times its matrix transposed, [S, O]."""
    out = rows_SI.new_empty(len(rows_SI), weights_EOI.shape[1])
    for rows, weight, place in zip(rows_SI.split(counts), weights_EOI, out.split(counts), strict=True):
        if len(rows):
            torch.mm(rows, weight.t(), out=place)
    return out


def _weight_gradients(slopes_SO: Tensor, rows_SI: Tensor, counts: list[int]) -> Tensor:
    """Each expert's gradient [E, O, I]; exactly zero for an expert without tokens."""
    gradient = slopes_SO.new_empty(len(counts), slopes_SO.shape[1], rows_SI.shape[1])
    for slopes, rows, out in zip(slopes_SO.split(counts), rows_SI.split(counts), gradient, strict=True):
        if len(rows):
            torch.mm(slopes.t(), rows, out=out)
        else:
            out.zero_()
    return gradient
