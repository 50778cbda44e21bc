"""The fused passes as differentiable functions: norm, dense SwiGLU and the loss's softmax, for bf16 on the processor.

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


class FeedForwardFunction(torch.autograd.Function):
    """down(silu(gate x) * up x) of rows x [M, D] and fp32 weights [F, D], [F, D], [D, F].

    Gate and up are one product, and what lies between the products is made again in the backward pass rather than kept.
    """

    @staticmethod
    def forward(ctx: Any, x_MD: Tensor, gate_FD: Tensor, up_FD: Tensor, down_DF: Tensor) -> Tensor:
        gate_up = torch.cat((gate_FD, up_FD)).to(x_MD.dtype)
        down = down_DF.to(x_MD.dtype)
        joined = x_MD @ gate_up.t()
        h_MF = x_MD.new_empty(len(x_MD), len(gate_FD))
        call("swiglu", joined, None, h_MF, *h_MF.shape)
        ctx.save_for_backward(x_MD, joined, gate_up, down)
        return h_MF @ down.t()

    @staticmethod
    def backward(ctx: Any, dy_MD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x_MD, joined, gate_up, down = ctx.saved_tensors
        dy_MD = dy_MD.contiguous()
        dh_MF = dy_MD @ down
        h_MF, slopes = torch.empty_like(dh_MF), torch.empty_like(joined)
        call("swiglu_backward", dh_MF, joined, None, h_MF, slopes, None, *h_MF.shape)
        d_gate, d_up = (slopes.t() @ x_MD).chunk(2)
        return slopes @ gate_up, d_gate, d_up, dy_MD.t() @ h_MF


def softmax_slopes(logits_CV: Tensor, targets_C: Tensor, *, slopes: bool) -> Tensor:
    """Losses [C] in fp32; with `slopes` the bf16 logits are overwritten by softmax - one-hot."""
    losses = logits_CV.new_empty(len(targets_C), dtype=torch.float32)
    call("cross_entropy", logits_CV, targets_C.contiguous(), losses, *logits_CV.shape, int(slopes))
    return losses
