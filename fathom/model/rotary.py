"""Rotary positions (arXiv:2104.09864) and their stretched forms: YaRN, Llama 3.1's and linear.

One layout for both families: the first half of the rotary dimensions is paired with the second half, as LLaMA does.
DeepSeek's checkpoints pair neighbours; `families.huggingface` permutes their rows on the way in and out.

B batch rows, T positions, N heads, P rotary dimensions of a head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fathom.model.config import ModelConfig, RopeScaling


def inverse_frequencies(config: ModelConfig) -> Tensor:
    """Radians per position of each rotary pair, fp32 [P/2]."""
    dim = config.rotary_dim
    frequency = 1.0 / config.rope_theta ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    scaling = config.rope_scaling
    if scaling is None:
        return frequency
    if scaling.kind == "linear":
        return frequency / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(frequency, scaling)
    return _yarn(frequency, scaling, config.rope_theta)


def _llama3(frequency: Tensor, scaling: RopeScaling) -> Tensor:
    """Long waves are stretched by `factor`, short ones kept, those between blended (Llama 3.1 release)."""
    wavelength = 2 * math.pi / frequency
    context = scaling.original_max_position_embeddings
    blend = (context / wavelength - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return (1 - blend) * frequency / scaling.factor + blend * frequency


def _yarn(frequency: Tensor, scaling: RopeScaling, theta: float) -> Tensor:
    """Pairs that turn more than `beta_fast` times in the trained context are kept, fewer than `beta_slow` stretched."""
    dim = 2 * len(frequency)

    def dimension_turning(times: float) -> float:
        turns = scaling.original_max_position_embeddings / (times * 2 * math.pi)
        return dim * math.log(turns) / (2 * math.log(theta))

    low = max(math.floor(dimension_turning(scaling.beta_fast)), 0)
    high = min(math.ceil(dimension_turning(scaling.beta_slow)), dim - 1)
    span = max(high - low, 0.001)  # a step rather than a ramp where both fall together
    stretched = ((torch.arange(dim // 2, dtype=torch.float32) - low) / span).clamp(0, 1)
    return frequency / scaling.factor * stretched + frequency * (1 - stretched)


def _yarn_mscale(factor: float, mscale: float) -> float:
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def attention_factor(config: ModelConfig) -> float:
    """What cosines and sines are multiplied by: 1, or YaRN's temperature (arXiv:2309.00071, section 3.4)."""
    scaling = config.rope_scaling
    if scaling is None or scaling.kind != "yarn":
        return 1.0
    if scaling.attention_factor:
        return scaling.attention_factor
    if scaling.mscale and scaling.mscale_all_dim:
        return _yarn_mscale(scaling.factor, scaling.mscale) / _yarn_mscale(scaling.factor, scaling.mscale_all_dim)
    return _yarn_mscale(scaling.factor, 1.0)


def softmax_scale(config: ModelConfig) -> float:
    """What attention scores are multiplied by: 1/sqrt(width), and with latent attention DeepSeek's mscale squared."""
    scale = config.qk_head_dim**-0.5
    scaling = config.rope_scaling
    if config.attention == "latent" and scaling is not None and scaling.kind == "yarn" and scaling.mscale_all_dim:
        scale *= _yarn_mscale(scaling.factor, scaling.mscale_all_dim) ** 2
    return scale


class Rotary(torch.nn.Module):
    """Cosines and sines of positions; holds no parameters and is never saved."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.factor = attention_factor(config)
        self._frequency: Tensor | None = None

    def forward(self, positions_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines, fp32 [B, T, P/2] each, of integer positions."""
        if self._frequency is None or self._frequency.device != positions_BT.device:
            self._frequency = inverse_frequencies(self.config).to(positions_BT.device)
        angle_BTP = positions_BT.float().unsqueeze(-1) * self._frequency
        return angle_BTP.cos() * self.factor, angle_BTP.sin() * self.factor


def rotate(x_BTNP: Tensor, cos_BTP: Tensor, sin_BTP: Tensor) -> Tensor:
    """Turn each head's pairs by the angles of their positions, in fp32, back in x's dtype."""
    first, second = x_BTNP.float().chunk(2, dim=-1)
    cos, sin = cos_BTP.unsqueeze(2), sin_BTP.unsqueeze(2)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x_BTNP.dtype)
