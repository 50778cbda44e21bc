"""Small random decoders of every kind for the tests of this room."""

from __future__ import annotations

import torch

from fathom.model.config import ModelConfig, RopeScaling
from fathom.model.decoder import Decoder

_COMMON = {"vocab_size": 97, "hidden_size": 48, "num_layers": 3, "num_heads": 4, "max_position_embeddings": 96}
_LATENT = {"attention": "latent", "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 12}
_EXPERTS = {
    "num_experts": 8, "num_experts_per_token": 2, "num_shared_experts": 1, "moe_intermediate_size": 16,
    "first_dense_layers": 1, "num_expert_groups": 4, "num_groups_per_token": 2, "routed_scaling_factor": 1.5,
}  # fmt: skip
CONFIGS = {
    "grouped": ModelConfig(**_COMMON, num_kv_heads=2, intermediate_size=80, tie_word_embeddings=True),
    "qwen": ModelConfig(**_COMMON, num_kv_heads=1, head_dim=16, intermediate_size=80, qk_norm=True, qkv_bias=True),
    "latent": ModelConfig(**_COMMON, **_LATENT, q_lora_rank=24, intermediate_size=80),
    "latent-experts": ModelConfig(
        **_COMMON, **_LATENT, **_EXPERTS, intermediate_size=80, num_mtp_layers=1,
        rope_scaling=RopeScaling(
            kind="yarn", factor=4.0, original_max_position_embeddings=24, mscale=1.0, mscale_all_dim=0.7
        ),
    ),
}  # fmt: skip


def random_decoder(kind: str, seed: int = 0) -> Decoder:
    """A decoder whose every parameter is random, so that no part of it is silently without effect."""
    decoder = Decoder(CONFIGS[kind])
    decoder.init_weights(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            scale = 0.1 if parameter.ndim == 1 else 1.2 * parameter.shape[-1] ** -0.5
            parameter.mul_(parameter.ndim == 1).add_(torch.randn(parameter.shape, generator=generator) * scale)
        for router in decoder.routers():
            if router.bias is not None:
                router.bias.copy_(torch.randn(router.bias.shape, generator=generator) * 0.1)
    return decoder.eval()


def greedy_by_full_passes(decoder: Decoder, prompt: list[int], num_tokens: int) -> list[int]:
    """The slow truth: a whole forward pass without a cache for every new token."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(num_tokens):
            hidden_BTD = decoder(torch.tensor([ids]))
            ids.append(int(decoder.logits(hidden_BTD[:, -1]).argmax()))
    return ids[len(prompt) :]
