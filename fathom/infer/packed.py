"""Matrices whose values lie on a grid of 4 or 8 bits in groups of 32, kept in just those bits.

Weights from Q4_1 or Q8_0 files are of this kind: their codes are found again in the values, and nothing is rounded
that was not rounded before (the two numbers of each group become bf16, as every weight would). A matrix of any other
kind is left alone; this is no quantisation.

The product is `torch`'s 4-bit kernel for CPUs, which computes (code - 8) * scale + zero; 8-bit codes are two 4-bit
planes. One token's step through SmolLM2's 576 x 1536 matrices takes 31 microseconds so, and 166 in bf16 (2 cores,
AVX-512).

Letters: O rows (outputs), I columns (inputs), G groups of 32 columns, M tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_GROUP = 32
_SMALLEST_ROWS = 16  # the kernel works on blocks of 16 rows
_TOLERANCE = 1e-2  # of one step: the fp16 scales of the formats leave 1e-3


@dataclass(frozen=True)
class _Plane:
    """4-bit codes in the kernel's own order, with scale and zero of each group, [G, O, 2] in bf16."""

    codes: Tensor
    scales_GO2: Tensor

    def __call__(self, x_MI: Tensor) -> Tensor:
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x_MI, self.codes, _GROUP, self.scales_GO2)


@dataclass(frozen=True)
class Packed:
    """A matrix as one plane (4 bits) or two (8 bits)."""

    planes: tuple[_Plane, ...]

    def __call__(self, x_MI: Tensor) -> Tensor:
        """x @ weight.T in bf16, [M, O], of bf16 rows."""
        out = self.planes[0](x_MI)
        for plane in self.planes[1:]:
            out = out + plane(x_MI)
        return out


def pack(weight_OI: Tensor) -> Packed | None:
    """The matrix in its own few bits, or None where its values lie on no such grid or the device is no CPU."""
    rows, columns = weight_OI.shape
    if weight_OI.device.type != "cpu" or columns % _GROUP or rows % _SMALLEST_ROWS:
        return None
    groups_OGI = weight_OI.float().unflatten(1, (-1, _GROUP))
    for find in (_four_bits, _eight_bits):
        if find(groups_OGI[:_SMALLEST_ROWS]) is not None:  # a look at the first rows spares the search of most others
            found = find(groups_OGI)
            return None if found is None else Packed(found)
    return None


def _four_bits(groups_OGI: Tensor) -> tuple[_Plane, ...] | None:
    """value = lowest + code * step, code 0 to 15."""
    lowest_OG1, highest_OG1 = groups_OGI.aminmax(dim=-1, keepdim=True)
    step_OG1 = ((highest_OG1 - lowest_OG1) / 15).clamp_min(torch.finfo(torch.float32).tiny)
    codes_OGI = _codes((groups_OGI - lowest_OG1) / step_OG1)
    if codes_OGI is None:
        return None
    return (_plane(codes_OGI, step_OG1, lowest_OG1 + 8 * step_OG1),)


def _eight_bits(groups_OGI: Tensor) -> tuple[_Plane, ...] | None:
    """value = code * step, code -127 to 127, as 16 * high + low."""
    step_OG1 = (groups_OGI.abs().amax(-1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    codes_OGI = _codes(groups_OGI / step_OG1)
    if codes_OGI is None:
        return None
    shifted_OGI = codes_OGI + 128
    high = _plane(shifted_OGI // 16, 16 * step_OG1, torch.zeros_like(step_OG1))  # (high - 8) * 16 = 16 * high - 128
    return high, _plane(shifted_OGI % 16, step_OG1, 8 * step_OG1)


def _codes(steps_OGI: Tensor) -> Tensor | None:
    """Whole numbers of steps, None where some value is not on the grid."""
    codes_OGI = steps_OGI.round()
    if bool(((steps_OGI - codes_OGI).abs_() > _TOLERANCE).any()):
        return None
    return codes_OGI.to(torch.int32)


def _plane(codes_OGI: Tensor, scale_OG1: Tensor, zero_OG1: Tensor) -> _Plane:
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes_OGI.flatten(1), 1)
    scales_GO2 = torch.cat((scale_OG1, zero_OG1), dim=-1).transpose(0, 1).to(torch.bfloat16).contiguous()
    return _Plane(packed, scales_GO2)
