"""Feed-forward networks: dense SwiGLU and DeepSeek's mixture of fine-grained routed and shared experts.

M tokens, D hidden_size, E routed experts, A experts of a token, F width of an expert, G groups of experts; S sequences,
or rows sorted by expert; O and I widths out of and into a product.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fathom.model.config import ModelConfig
from fathom.model.kernels.experts import ExpertsFunction
from fathom.model.kernels.functions import FeedForwardFunction, usable
from fathom.model.kernels.routing import RouteFunction
from fathom.model.ops import Linear, swiglu


class FeedForward(nn.Module):
    """Dense SwiGLU: down(silu(gate x) * up x)."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.gate_proj = Linear(hidden_size, width)
        self.up_proj = Linear(hidden_size, width)
        self.down_proj = Linear(width, hidden_size)

    def forward(self, x_MD: Tensor) -> Tensor:
        if usable(x_MD):
            weights = (self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)
            return FeedForwardFunction.apply(x_MD, *weights)
        return self.down_proj(swiglu(self.gate_proj(x_MD), self.up_proj(x_MD)))


@dataclass(frozen=True)
class Routing:
    """Where each token goes: the experts chosen, their weights, and every expert's score."""

    experts_MA: Tensor  # int64
    weights_MA: Tensor  # fp32
    scores_ME: Tensor  # fp32: sigmoids or softmax probabilities


class Router(nn.Module):
    """Scores tokens against experts in fp32 and picks A of E, if asked only within the best groups.

    The bias moves the choice, never the weights (arXiv:2408.15664); it is no parameter: `update_bias` moves it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.bias: Tensor | None
        self.register_buffer("bias", torch.zeros(config.num_experts) if config.router_bias else None)
        self.load: Tensor
        self.register_buffer("load", torch.zeros(config.num_experts), persistent=False)

    def forward(self, x_MD: Tensor) -> Routing:
        logits_ME = x_MD.float() @ self.weight.float().T
        if usable(x_MD):
            return Routing(*RouteFunction.apply(logits_ME, self.bias, self.config))
        return self.choose(logits_ME)

    def choose(self, logits_ME: Tensor) -> Routing:
        config = self.config
        scores_ME = logits_ME.sigmoid() if config.router_scoring == "sigmoid" else logits_ME.softmax(-1)
        with torch.no_grad():
            choice_ME = scores_ME if self.bias is None else scores_ME + self.bias
            if config.num_groups_per_token < config.num_expert_groups:
                choice_ME = self._within_best_groups(choice_ME)
            experts_MA = choice_ME.topk(config.num_experts_per_token, dim=-1, sorted=False).indices
        weights_MA = scores_ME.gather(1, experts_MA)
        if config.normalize_expert_weights:
            weights_MA = weights_MA / (weights_MA.sum(-1, keepdim=True) + 1e-20)
        return Routing(experts_MA, weights_MA * config.routed_scaling_factor, scores_ME)

    def _within_best_groups(self, choice_ME: Tensor) -> Tensor:
        """A group counts as its best two experts (V3, sigmoid) or as its best one (V2, softmax); the others are out."""
        config = self.config
        choice_MGE = choice_ME.unflatten(-1, (config.num_expert_groups, -1))
        best = min(2, choice_MGE.shape[-1]) if config.router_scoring == "sigmoid" else 1
        group_MG = choice_MGE.topk(best, dim=-1).values.sum(-1)
        kept = group_MG.topk(config.num_groups_per_token, dim=-1, sorted=False).indices
        dropped_MG = torch.ones_like(group_MG, dtype=torch.bool).scatter(1, kept, False)
        return choice_MGE.masked_fill(dropped_MG.unsqueeze(-1), float("-inf")).flatten(-2)

    @torch.no_grad()
    def update_bias(self, rate: float) -> None:
        """Move the bias by `rate` against the load counted since the last call, then forget the load."""
        if self.bias is not None:
            self.bias += rate * torch.sign(self.load.mean() - self.load)
        self.load.zero_()


def sequence_balance(routing: Routing, counted_M: Tensor, sequence_M: Tensor, num_sequences: int) -> Tensor:
    """Sum over tokens of their sequence's balance loss (arXiv:2412.19437, equations 17 to 20), before its weight.

    A sequence's loss is sum over experts of (share of its tokens that chose the expert, times E/A) * (mean normalised
    score); 1 where the load is even. Tokens with `counted_M` false (padding) neither count nor are counted.
    """
    num_experts, per_token = routing.scores_ME.shape[1], routing.experts_MA.shape[1]
    counted = counted_M.to(routing.scores_ME.dtype).unsqueeze(-1)
    share_ME = routing.scores_ME / routing.scores_ME.sum(-1, keepdim=True) * counted
    chosen_ME = torch.zeros_like(share_ME).scatter(1, routing.experts_MA, 1.0) * counted
    zeros_SE = share_ME.new_zeros(num_sequences, num_experts)
    chosen_SE = zeros_SE.index_add(0, sequence_M, chosen_ME)
    share_SE = zeros_SE.index_add(0, sequence_M, share_ME)
    tokens_S = zeros_SE[:, 0].index_add(0, sequence_M, counted[:, 0]).clamp(min=1)
    return ((chosen_SE * share_SE).sum(-1) / tokens_S).sum() * num_experts / per_token


def expert_load(experts_MA: Tensor, counted_M: Tensor, num_experts: int) -> Tensor:
    """How many counted tokens chose each expert, fp32 [E]."""
    weights = counted_M.unsqueeze(-1).expand_as(experts_MA).flatten().float()
    return torch.bincount(experts_MA.flatten(), weights=weights, minlength=num_experts).float()


class Experts(nn.Module):
    """Routed SwiGLU experts as three stacks of matrices; tokens are sorted by expert once and none is ever dropped."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        count, width, hidden = config.num_experts, config.moe_intermediate_size, config.hidden_size
        self.gate_EFD = nn.Parameter(torch.empty(count, width, hidden))
        self.up_EFD = nn.Parameter(torch.empty(count, width, hidden))
        self.down_EDF = nn.Parameter(torch.empty(count, hidden, width))

    def forward(self, x_MD: Tensor, experts_MA: Tensor, weights_MA: Tensor) -> Tensor:
        if usable(x_MD):
            return ExpertsFunction.apply(x_MD, experts_MA, weights_MA, self.gate_EFD, self.up_EFD, self.down_EDF)
        per_token = experts_MA.shape[1]
        order = experts_MA.flatten().argsort(stable=True)  # position in [M * A], by expert
        counts_E = torch.bincount(experts_MA.flatten(), minlength=len(self.gate_EFD))
        grouped = grouped_products if x_MD.is_cuda and x_MD.dtype == torch.bfloat16 else looped_products
        sorted_x = x_MD[order // per_token]
        h = swiglu(grouped(sorted_x, self.gate_EFD, counts_E), grouped(sorted_x, self.up_EFD, counts_E))
        y = grouped(h, self.down_EDF, counts_E) * weights_MA.flatten()[order].unsqueeze(-1).to(x_MD.dtype)
        return torch.empty_like(y).index_copy(0, order, y).unflatten(0, (-1, per_token)).sum(1)


def grouped_products(rows_SI: Tensor, weights_EOI: Tensor, counts_E: Tensor) -> Tensor:
    """Each expert's rows times its matrix transposed, [S, O], as one grouped product; nothing waits for the device.

    Whatever the grouped product's own backward leaves for an expert without rows, its gradient is exactly zero.
    """
    used_E11 = (counts_E > 0).view(-1, 1, 1)
    weights_EOI = torch.where(used_E11, weights_EOI, weights_EOI.detach()).to(rows_SI.dtype)
    ends_E = counts_E.cumsum(0).to(torch.int32)
    return torch.nn.functional.grouped_mm(rows_SI, weights_EOI.transpose(1, 2), offs=ends_E)


def looped_products(rows_SI: Tensor, weights_EOI: Tensor, counts_E: Tensor) -> Tensor:
    """The same, one product an expert: for the processor, and for precisions without grouped products."""
    parts = zip(rows_SI.split(counts_E.tolist()), weights_EOI, strict=True)
    return torch.cat([rows @ weight.to(rows.dtype).T for rows, weight in parts])


class MixtureOfExperts(nn.Module):
    """Routed experts plus shared ones that see every token."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)
        shared = config.num_shared_experts * config.moe_intermediate_size
        self.shared = FeedForward(config.hidden_size, shared) if shared else None

    def forward(self, x_MD: Tensor) -> tuple[Tensor, Routing]:
        routing = self.router(x_MD)
        y_MD = self.experts(x_MD, routing.experts_MA, routing.weights_MA)
        if self.shared is not None:
            y_MD = y_MD + self.shared(x_MD)
        return y_MD, routing
