"""The fused passes as differentiable functions: norm, SwiGLU and the loss's softmax, for bf16 on the processor.

M tokens, D width, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fathom.model.kernels.build import available, library


def usable(x: Tensor) -> bool:
    """Whether the fused passes serve this tensor: bf16 on the processor, with the library at hand."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and available()


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Run one pass; tensors go by their address and must be contiguous where the pass takes no strides."""
    getattr(library(), name)(*(a.data_ptr() if isinstance(a, Tensor) else a for a in arguments))


class RMSNormFunction(torch.autograd.Function):
    """x / rms(x) * weight over the last dimension; weight fp32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        x = x.contiguous()
        width = x.shape[-1]
        y, inverse_rms = torch.empty_like(x), x.new_empty(x.numel() // width, dtype=torch.float32)
        weight = weight.float()
        call("rms_norm", x, weight, y, inverse_rms, len(inverse_rms), width, epsilon)
        ctx.save_for_backward(x, weight, inverse_rms)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse_rms = ctx.saved_tensors
        dx, dw = torch.empty_like(x), torch.zeros_like(weight)
        call("rms_norm_backward", dy.contiguous(), x, weight, inverse_rms, dx, dw, len(inverse_rms), x.shape[-1])
        return dx, dw, None


class SwiGLUFunction(torch.autograd.Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        h = torch.empty_like(gate)
        call("swiglu", gate, up, None, h, gate.numel() // gate.shape[-1], gate.shape[-1])
        ctx.save_for_backward(gate, up)
        return h

    @staticmethod
    def backward(ctx: Any, dh: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
        rows, width = gate.numel() // gate.shape[-1], gate.shape[-1]
        call("swiglu_backward", dh.contiguous(), gate, up, None, d_gate, d_up, None, rows, width)
        return d_gate, d_up


def softmax_slopes(logits_CV: Tensor, targets_C: Tensor, *, slopes: bool) -> Tensor:
    """Losses [C] in fp32; with `slopes` the bf16 logits are overwritten by softmax - one-hot."""
    losses = logits_CV.new_empty(len(targets_C), dtype=torch.float32)
    call("cross_entropy", logits_CV, targets_C.contiguous(), losses, *logits_CV.shape, int(slopes))
    return losses
