"""The few operations that a decoder is made of, in the compute dtype over fp32 parameters.

Every weight stays an fp32 parameter; a product casts it where it is used, so that gradients and optimizer see fp32 and
sharding can be applied from outside.

B rows, T positions, D width in, O width out, V vocabulary, M tokens in a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fathom.model.kernels.functions import RMSNormFunction, softmax_slopes, usable


class Linear(nn.Linear):
    """A projection whose fp32 weight (and bias) is cast to the dtype of its input."""

    def __init__(self, width_in: int, width_out: int, *, bias: bool = False) -> None:
        super().__init__(width_in, width_out, bias=bias)

    def reset_parameters(self) -> None:
        """Left to `Decoder.init_weights`, which draws every parameter from one seed."""

    def forward(self, x_BTD: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x_BTD.dtype)
        return F.linear(x_BTD, self.weight.to(x_BTD.dtype), bias)


class RMSNorm(nn.Module):
    """x / rms(x) * weight (arXiv:1910.07467), computed in fp32 and returned in x's dtype."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.epsilon = epsilon

    def forward(self, x_BTD: Tensor) -> Tensor:
        if usable(x_BTD):
            return RMSNormFunction.apply(x_BTD, self.weight, self.epsilon)
        x = x_BTD.float()
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (x * scale * self.weight).to(x_BTD.dtype)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up (arXiv:2002.05202)."""
    return F.silu(gate) * up


class _CrossEntropySum(torch.autograd.Function):
    """Sum of next-token losses with gradients taken in the same pass, a chunk of tokens at a time.

    The logits [M, V] never exist as a whole: each chunk's are made, turned into their own gradient in place, multiplied
    out and dropped (the idea of Liger's fused linear cross-entropy, arXiv:2410.10989, section 3.2).
    """

    @staticmethod
    def forward(ctx, hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor, chunk: int) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad[:2])
        cast_VD = weight_VD.to(hidden_MD.dtype)
        total = hidden_MD.new_zeros((), dtype=torch.float32)
        buffer_CV = hidden_MD.new_empty(min(chunk, len(targets_M)), len(weight_VD))
        grad_hidden = torch.empty_like(hidden_MD) if needs_gradient else None
        grad_weight = torch.zeros_like(weight_VD, dtype=torch.float32) if needs_gradient else None
        for hidden_CD, targets_C, rows in _chunks(hidden_MD, targets_M, chunk):
            logits_CV = torch.mm(hidden_CD, cast_VD.T, out=buffer_CV[: len(targets_C)])
            losses_C, slopes_CV = _losses_and_slopes(logits_CV, targets_C, slopes=needs_gradient)
            total += losses_C.sum()
            if grad_hidden is not None and grad_weight is not None:
                torch.mm(slopes_CV, cast_VD, out=grad_hidden[rows])
                grad_weight += slopes_CV.T @ hidden_CD
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor):
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad.to(grad_hidden.dtype), grad_weight * grad, None, None


def _losses_and_slopes(logits_CV: Tensor, targets_C: Tensor, *, slopes: bool) -> tuple[Tensor, Tensor]:
    """Losses [C] in fp32, and (with `slopes`) the gradient of their sum by the logits, in the logits' dtype."""
    if usable(logits_CV):
        return softmax_slopes(logits_CV, targets_C, slopes=slopes), logits_CV
    logits = logits_CV.float()
    log_sum_C = logits.logsumexp(-1)
    losses_C = log_sum_C - logits.gather(1, targets_C[:, None])[:, 0]
    if slopes:
        logits = logits.sub_(log_sum_C[:, None]).exp_()
        logits[torch.arange(len(targets_C), device=targets_C.device), targets_C] -= 1
    return losses_C, logits.to(logits_CV.dtype)


def _chunks(hidden_MD: Tensor, targets_M: Tensor, chunk: int):
    for start in range(0, len(targets_M), chunk):
        rows = slice(start, start + chunk)
        yield hidden_MD[rows], targets_M[rows], rows


# Tokens whose logits exist at one time: at a vocabulary of 8192, 16 MB in bf16, which a last-level cache holds.
CROSS_ENTROPY_CHUNK = 1024


def cross_entropy_sum(hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    """Sum over tokens of -log p(target), a scalar in fp32, in nats; logits are made in the dtype of `hidden_MD`."""
    return _CrossEntropySum.apply(hidden_MD, weight_VD, targets_M, CROSS_ENTROPY_CHUNK)


@torch.no_grad()
def token_losses(hidden_MD: Tensor, weight_VD: Tensor, targets_M: Tensor) -> Tensor:
    """-log p(target) of each token, fp32 [M], in nats, without gradients and without holding all logits."""
    cast_VD = weight_VD.to(hidden_MD.dtype)
    losses = [
        _losses_and_slopes(hidden_CD @ cast_VD.T, targets_C, slopes=False)[0]
        for hidden_CD, targets_C, _ in _chunks(hidden_MD, targets_M, CROSS_ENTROPY_CHUNK)
    ]
    return torch.cat(losses) if losses else hidden_MD.new_zeros(0, dtype=torch.float32)
