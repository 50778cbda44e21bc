"""Routed experts on the processor: sorted once, then in one of two ways, as in attention: an expert at a time in a pass
of our own (`experts.cpp`), or one product of torch a matrix and expert with everything between them fused.

M tokens, A experts of a token, S rows sorted by expert, D hidden_size, E experts, F width of an expert, G = 2F.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fathom.model.kernels.build import has
from fathom.model.kernels.functions import call


class ExpertsFunction(torch.autograd.Function):
    """Sum over a token's experts of weight * down(silu(gate x) * up x); no token dropped, none computed twice."""

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, experts_MA: Tensor, weights_MA: Tensor, *stacks: Tensor) -> Tensor:
        cast = [stack.to(x_MD.dtype) for stack in stacks]
        (E, F, D), per_token = cast[0].shape, experts_MA.shape[1]
        ctx.in_one_pass = in_one_pass(experts_MA.numel(), E, D, F)
        step = ROW_STEP if not ctx.in_one_pass and experts_MA.numel() >= ROW_STEP * E else 1
        place_MA, tokens_S, weights_S, counts_E = _sort_by_expert(experts_MA, weights_MA, E, step)
        if ctx.in_one_pass:
            gate_up_SG, y_SD = x_MD.new_empty(len(tokens_S), 2 * F), x_MD.new_empty(len(tokens_S), D)
            call("experts", x_MD.contiguous(), tokens_S, weights_S, counts_E, *cast, gate_up_SG, y_SD, E, D, F)
        else:
            gate_up_SG, y_SD = _forward_by_products(x_MD, tokens_S, weights_S, counts_E.tolist(), cast)
        y_MD = torch.empty_like(x_MD)
        call("gather_sum", y_SD, place_MA, y_MD, len(x_MD), per_token, D)
        ctx.save_for_backward(x_MD, tokens_S, place_MA, weights_S, counts_E, gate_up_SG, *cast)
        return y_MD

    @staticmethod
    def backward(ctx: Any, dy_MD: Tensor) -> tuple[Tensor | None, ...]:
        x_MD, tokens_S, place_MA, weights_S, counts_E, gate_up_SG, *cast = ctx.saved_tensors
        given = (x_MD.contiguous(), dy_MD.contiguous(), tokens_S, weights_S)
        if ctx.in_one_pass:
            (E, F, D), dx_SD = cast[0].shape, x_MD.new_empty(len(tokens_S), x_MD.shape[1])
            d_weights_S, slopes = torch.empty_like(weights_S), [torch.empty_like(stack) for stack in cast]
            call("experts_backward", *given, counts_E, *cast, gate_up_SG, dx_SD, d_weights_S, *slopes, E, D, F)
        else:
            dx_SD, d_weights_S, slopes = _backward_by_products(*given, counts_E.tolist(), cast, gate_up_SG)
        dx_MD = torch.empty_like(x_MD)
        call("gather_sum", dx_SD, place_MA, dx_MD, len(x_MD), place_MA.shape[1], x_MD.shape[1])
        return dx_MD, None, d_weights_S[place_MA], *slopes


# Rows of an expert from which to pack its matrices pays.
FEWEST_ROWS = 8


def in_one_pass(rows: int, num_experts: int, hidden: int, width: int) -> bool:
    """Whether this processor has the pass that does a whole expert at once, and the rows are enough for it."""
    return has("experts") and rows >= FEWEST_ROWS * num_experts and hidden % 2 == 0 and width % 2 == 0


def _forward_by_products(
    x_MD: Tensor, tokens_S: Tensor, weights_S: Tensor, counts: list[int], cast: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Gate and up of every row, side by side, and the experts' results, by torch's products."""
    gate_up_SG = _products(x_MD.index_select(0, tokens_S), torch.cat(cast[:2], dim=1), counts)
    h_SF = x_MD.new_empty(len(tokens_S), cast[0].shape[1])
    call("swiglu", gate_up_SG, weights_S, h_SF, *h_SF.shape)
    return gate_up_SG, _products(h_SF, cast[2], counts)


def _backward_by_products(
    x_MD: Tensor,
    dy_MD: Tensor,
    tokens_S: Tensor,
    weights_S: Tensor,
    counts: list[int],
    cast: list[Tensor],
    gate_up_SG: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    gate_up_EGD, down_EDF = torch.cat(cast[:2], dim=1), cast[2]
    dy_SD = dy_MD.index_select(0, tokens_S)
    dh_SF = _products(dy_SD, down_EDF.transpose(1, 2), counts)
    h_SF, slopes_SG, d_weights_S = (torch.empty_like(made) for made in (dh_SF, gate_up_SG, weights_S))
    call("swiglu_backward", dh_SF, gate_up_SG, weights_S, h_SF, slopes_SG, d_weights_S, *h_SF.shape)
    d_gate_EFD, d_up_EFD = _weight_gradients(slopes_SG, x_MD.index_select(0, tokens_S), counts).chunk(2, dim=1)
    dx_SD = _products(slopes_SG, gate_up_EGD.transpose(1, 2), counts)
    return dx_SD, d_weights_S, [d_gate_EFD, d_up_EFD, _weight_gradients(dy_SD, h_SF, counts)]


# Rows of an expert are filled up to a multiple of this where there are many: the products' library compiles itself anew
# for every number of rows it meets, about a millisecond each, which made these products cost three times as much.
ROW_STEP = 32


def _sort_by_expert(
    experts_MA: Tensor, weights_MA: Tensor, num_experts: int, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Where each (token, choice) lies among the sorted rows [M, A], each row's token and weight [S], and how many rows
    each expert has [E], a multiple of `step`. Rows that only fill up an expert are token 0's, with the weight 0.
    """
    place_MA, counts_E = torch.empty_like(experts_MA), experts_MA.new_empty(num_experts)
    room = experts_MA.numel() + num_experts * (step - 1)
    tokens, weights = experts_MA.new_zeros(room), torch.zeros(room)
    given = (experts_MA.contiguous(), weights_MA.float().contiguous())
    call("sort_by_expert", *given, place_MA, tokens, weights, counts_E, *experts_MA.shape, num_experts, step)
    rows = int(counts_E.sum())
    return place_MA, tokens[:rows], weights[:rows], counts_E


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
