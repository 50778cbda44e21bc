"""The router's choice and its statistics on the processor: two passes where torch takes some fifty small operations.

M tokens, E routed experts, A experts of a token, S sequences.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fathom.model.config import ModelConfig
from fathom.model.kernels.functions import call


class RouteFunction(torch.autograd.Function):
    """Experts [M, A], their weights [M, A] and all scores [M, E] from fp32 logits [M, E]; as `Router.choose`."""

    @staticmethod
    def forward(
        ctx: Any, logits_ME: Tensor, bias_E: Tensor | None, config: ModelConfig
    ) -> tuple[Tensor, Tensor, Tensor]:
        logits_ME = logits_ME.contiguous()
        scores_ME = torch.empty_like(logits_ME)
        experts_MA = torch.empty(len(logits_ME), config.num_experts_per_token, dtype=torch.int64)
        weights_MA = logits_ME.new_empty(experts_MA.shape)
        shape = (*logits_ME.shape, config.num_experts_per_token)
        groups = (config.num_expert_groups, config.num_groups_per_token)
        how = (config.router_scoring == "sigmoid", config.normalize_expert_weights, config.routed_scaling_factor)
        call("route", logits_ME, bias_E, scores_ME, experts_MA, weights_MA, *shape, *groups, *how)
        ctx.save_for_backward(scores_ME, experts_MA)
        ctx.how = how
        ctx.mark_non_differentiable(experts_MA)
        return experts_MA, weights_MA, scores_ME

    @staticmethod
    def backward(ctx: Any, _: None, d_weights_MA: Tensor, d_scores_ME: Tensor) -> tuple[Tensor, None, None]:
        scores_ME, experts_MA = ctx.saved_tensors
        d_logits_ME = torch.empty_like(scores_ME)
        slopes = (d_weights_MA.contiguous(), d_scores_ME.contiguous())
        shape = (*scores_ME.shape, experts_MA.shape[1])
        call("route_backward", scores_ME, experts_MA, *slopes, d_logits_ME, *shape, *ctx.how)
        return d_logits_ME, None, None


class BalanceFunction(torch.autograd.Function):
    """The summed balance loss, a scalar, and the load [E]; as `sequence_balance` and `expert_load`."""

    @staticmethod
    def forward(
        ctx: Any, scores_ME: Tensor, experts_MA: Tensor, counted_M: Tensor, sequence_M: Tensor, num_sequences: int
    ) -> tuple[Tensor, Tensor]:
        num_experts = scores_ME.shape[1]
        loss, load_E = scores_ME.new_zeros(()), scores_ME.new_zeros(num_experts)
        chosen_SE, share_SE = (scores_ME.new_zeros(num_sequences, num_experts) for _ in range(2))
        where = (counted_M.contiguous(), sequence_M.contiguous())
        shape = (*scores_ME.shape, experts_MA.shape[1], num_sequences)
        call("balance", scores_ME, experts_MA, *where, chosen_SE, share_SE, load_E, loss, *shape)
        ctx.save_for_backward(scores_ME, *where, chosen_SE)
        ctx.mark_non_differentiable(load_E)
        return loss, load_E

    @staticmethod
    def backward(ctx: Any, slope: Tensor, _: None) -> tuple[Tensor, None, None, None, None]:
        scores_ME, counted_M, sequence_M, slope_SE = ctx.saved_tensors
        d_scores_ME = torch.empty_like(scores_ME)
        where = (counted_M, sequence_M, slope_SE, float(slope))
        call("balance_backward", scores_ME, *where, d_scores_ME, *scores_ME.shape)
        return d_scores_ME, None, None, None, None
