"""Two small models, one of each family, with weights that all matter."""

import pytest
import torch

from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder

LATENT = ModelConfig(
    vocab_size=61,
    hidden_size=64,
    num_layers=3,
    num_heads=4,
    attention="latent",
    q_lora_rank=24,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=8,
    v_head_dim=16,
    intermediate_size=128,
    num_experts=8,
    num_experts_per_token=2,
    num_shared_experts=1,
    moe_intermediate_size=32,
    first_dense_layers=1,
    num_mtp_layers=1,
)
GROUPED = ModelConfig(
    vocab_size=61,
    hidden_size=64,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    intermediate_size=128,
    qk_norm=True,
    qkv_bias=True,
)


def build(config: ModelConfig, seed: int = 0) -> Decoder:
    decoder = Decoder(config)
    decoder.init_weights(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.empty_like(parameter).normal_(0, 0.1, generator=generator))
            else:
                parameter.copy_(
                    torch.empty_like(parameter).normal_(0, parameter.shape[-1] ** -0.5, generator=generator)
                )
    return decoder


@pytest.fixture(params=[LATENT, GROUPED], ids=["latent-experts", "grouped-dense"])
def decoder(request) -> Decoder:
    return build(request.param)
