"""The ladder of shapes that the budget chooses from: DeepSeek-style, one per width, and the LLaMA-style twin of each.

One rule gives every rung: heads of 64, a layer for every 64 of width (near the aspect ratio at which
arXiv:2001.08361, figure 5, is flat), a latent of a quarter of the width, 8 experts as wide as the model of which a
token visits 2, and a shared one.
"""

from __future__ import annotations

from fathom.errors import FathomError
from fathom.model.config import ModelConfig

WIDTHS = (64, 128, 192, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048)
SIZES = {"tiny": 128, "small": 192, "medium": 256, "large": 384, "xlarge": 512}
HEAD = 64


def deepseek_style(width: int, vocab_size: int) -> ModelConfig:
    """The rung of this width: latent attention, one dense layer, then mixtures of experts."""
    heads = width // HEAD
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_layers=max(2, heads),
        num_heads=heads,
        attention="latent",
        kv_lora_rank=max(32, width // 4),
        qk_nope_head_dim=HEAD // 2,
        qk_rope_head_dim=HEAD // 2,
        v_head_dim=HEAD,
        intermediate_size=round_to(width * 11 / 4, 32),
        num_experts=8,
        num_experts_per_token=2,
        num_shared_experts=1,
        moe_intermediate_size=width,
        first_dense_layers=1,
    )


def llama_style(width: int, vocab_size: int) -> ModelConfig:
    """The dense twin: same depth, width and heads."""
    heads = width // HEAD
    return ModelConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        num_layers=max(2, heads),
        num_heads=heads,
        intermediate_size=round_to(width * 11 / 4, 32),
    )


def round_to(value: float, multiple: int) -> int:
    return max(multiple, round(value / multiple) * multiple)


def width_of(size: str) -> int:
    """The width that a `--size` names. Raises FathomError for an unknown one."""
    if size not in SIZES:
        raise FathomError(f"--size {size!r} is not known; use one of {', '.join(SIZES)}")
    return SIZES[size]
