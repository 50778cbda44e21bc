"""One optimizer step: gradients of a whole batch, gathered from as many micro-batches as memory asks for.

B rows, T positions. The loss is summed over tokens and divided by the number of loss tokens of the *whole* step,
over all micro-batches and processes: so 1 x 8 rows equal 8 x 1, and a short sample weighs what its tokens weigh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fathom.errors import RunFailed
from fathom.model.decoder import Decoder
from fathom.train.optimizer import Optimizer
from fathom.train.parallel import Parallel
from fathom.train.recipe import Recipe

if TYPE_CHECKING:
    from fathom.data.shards import Batch


@dataclass(frozen=True, kw_only=True)
class StepOutcome:
    loss: float  # mean cross-entropy of the loss tokens, nats
    tokens: int  # rows x positions of the step, over all processes
    loss_tokens: int
    gradient_norm: float  # before clipping
    parts: dict[str, float]  # what else was in the loss: multi-token and balance terms; of a mixture, its routing


class NotFinite(RunFailed):
    """The loss or the gradient is not a number; the weights have not been touched."""


def take_step(
    model: Decoder, optimizer: Optimizer, batch: Batch, recipe: Recipe, learning_rate: float, parallel: Parallel
) -> StepOutcome:
    """Move the model by one batch.

    Raises NotFinite before any weight moves if the loss or gradient is NaN or infinite, and RunFailed if no token
    counts.
    """
    loss_tokens = int(batch.loss_mask.sum())
    if not loss_tokens:
        raise RunFailed("a batch holds no token to learn from: every target is masked; check the documents' answers")
    sums = _accumulate(model, batch, recipe, loss_tokens, parallel)
    gradients = [p.grad for p in optimizer.parameters.values() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    norm_value = parallel.whole(norm).item()
    loss = sums["cross_entropy"] / loss_tokens
    if not (math.isfinite(loss) and math.isfinite(norm_value)):
        optimizer.zero_gradients()
        raise NotFinite(f"the loss is {loss} and the gradient's norm {norm_value}")
    clip = recipe.optimizer.clip_norm
    if clip and norm_value > clip:
        torch._foreach_mul_(gradients, clip / norm_value)
    optimizer.step(learning_rate)
    optimizer.zero_gradients()
    if recipe.model.num_experts:
        loads = model.router_state()
        parallel.add_up(loads)
        sums |= routing(loads, int((batch.documents >= 0).sum()) * recipe.model.num_experts_per_token)
        model.update_router_bias(recipe.optimizer.balance_rate)
    return StepOutcome(
        loss=loss, tokens=batch.tokens.size, loss_tokens=loss_tokens, gradient_norm=norm_value, parts=sums
    )


def _accumulate(model: Decoder, batch: Batch, recipe: Recipe, loss_tokens: int, parallel: Parallel) -> dict[str, float]:
    rows = parallel.rows(recipe.train.rows_per_step)
    size = recipe.train.micro_batch_rows
    totals: dict[str, float] = {"cross_entropy": 0.0, "mtp": 0.0, "balance": 0.0}
    for start in range(0, len(rows), size):
        tensors = batch_tensors(batch, rows[start : start + size], parallel.device)
        parts = model.loss(
            **tensors, mtp_weight=recipe.optimizer.mtp_loss, balance_weight=recipe.optimizer.balance_loss
        )
        (parts.total / loss_tokens).backward()
        totals["cross_entropy"] += float(parts.cross_entropy_sum.detach())
        totals["mtp"] += float(parts.mtp_sum.detach())
        totals["balance"] += float(parts.balance.detach())
    return parallel.sum(totals)


def routing(loads: list[Tensor], choices: int) -> dict[str, float]:
    """How a step's tokens were spread over the experts, from each router's load [E] of all processes.

    `dropped_choices` is what reached no expert, of the `choices` (tokens times experts a token) that every router had:
    0, since no expert has a capacity. `load_max_over_mean` is the fullest expert's load over the mean, of the router
    where it is worst.
    """
    load_RE = torch.stack(loads).double()
    worst = (load_RE.amax(1) / load_RE.mean(1)).max()
    return {"dropped_choices": choices * len(loads) - float(load_RE.sum()), "load_max_over_mean": float(worst)}


def batch_tensors(batch: Batch, rows: list[int] | slice, device: torch.device) -> dict[str, Tensor]:
    """The rows of a batch as the decoder's `loss` takes them."""
    integers = {name: getattr(batch, name)[rows] for name in ("tokens", "targets", "documents", "positions")}
    tensors = {f"{name}_BT": torch.from_numpy(array).to(device, torch.long) for name, array in integers.items()}
    tensors["loss_mask_BT"] = torch.from_numpy(batch.loss_mask[rows]).to(device)
    return tensors
