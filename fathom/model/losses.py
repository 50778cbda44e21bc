"""What a batch costs: its parts, which tokens they are taken over, and the targets of heads that look further ahead.

B batch rows, T positions, M tokens of a batch in a row, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fathom.model.attention import document_starts
from fathom.model.experts import Routing, expert_load, sequence_balance
from fathom.model.kernels import available
from fathom.model.kernels.routing import BalanceFunction


@dataclass(frozen=True)
class LossParts:
    """What a batch costs, as sums over its tokens, so that micro-batches add up exactly; in nats.

    `total` is to be divided by the step's token count and then sent backward.
    """

    total: Tensor
    cross_entropy_sum: Tensor
    num_tokens: int
    mtp_sum: Tensor  # of all multi-token heads, before their weight; 0 without them
    num_mtp_tokens: int
    balance: Tensor  # sequence-wise balance loss summed over tokens and mixture layers, before its weight
    router_load: list[Tensor] = field(default_factory=list)  # per mixture layer, tokens that chose each expert [E]


@dataclass(frozen=True)
class Counted:
    """Which tokens the router's statistics are taken over, and to which sequence each belongs."""

    counted_M: Tensor
    sequence_M: Tensor
    num_sequences: int


def routing_statistics(routing: Routing, counted: Counted) -> tuple[Tensor, Tensor]:
    if routing.scores_ME.device.type == "cpu" and available():
        where = (counted.counted_M, counted.sequence_M, counted.num_sequences)
        return BalanceFunction.apply(routing.scores_ME, routing.experts_MA, *where)
    balance = sequence_balance(routing, counted.counted_M, counted.sequence_M, counted.num_sequences)
    return balance, expert_load(routing.experts_MA, counted.counted_M, routing.scores_ME.shape[1])


def count(documents_BT: Tensor | None, like_BT: Tensor) -> Counted:
    if documents_BT is None:
        rows = torch.arange(len(like_BT), device=like_BT.device).unsqueeze(1).expand_as(like_BT).flatten()
        return Counted(torch.ones_like(rows, dtype=torch.bool), rows, len(like_BT))
    sequence_M = document_starts(documents_BT).flatten().cumsum(0) - 1
    return Counted((documents_BT >= 0).flatten(), sequence_M, int(sequence_M[-1]) + 1)


def shift(values_BT: Tensor, by: int) -> Tensor:
    """values[t + by] at t; the last ones repeat, where no loss is taken."""
    return values_BT if by == 0 else torch.cat((values_BT[:, by:], values_BT[:, -1:].expand(-1, by)), dim=1)


def ahead_targets(targets_BT: Tensor, kept_BT: Tensor, documents_BT: Tensor | None, by: int) -> tuple[Tensor, Tensor]:
    """Targets `by` tokens further on, and where they count: inside the row, wanted, and in the same document."""
    valid_BT = shift(kept_BT, by).clone()
    valid_BT[:, max(valid_BT.shape[1] - by, 0) :] = False
    if documents_BT is not None:
        valid_BT &= shift(documents_BT, by) == documents_BT
    return shift(targets_BT, by), valid_BT
