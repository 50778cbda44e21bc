"""One measured process of `benchmarks.training_speed`: trains one kind of model a few steps, prints one JSON line."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

ROWS, LENGTH, VOCABULARY = 8, 512, 8192
HIDDEN, LAYERS, HEADS = 384, 6, 6
EXPERTS, EXPERT_WIDTH, PER_TOKEN, LATENT = 16, 192, 4, 128
NOPE, ROPE, VALUE = 64, 32, 64  # DeepSeek's own proportions (128 : 64 : 128) at heads of 64
DENSE_WIDTH = 1024
UNTIMED_STEPS, TIMED_STEPS = 3, 6

Built = tuple[Any, Callable[[Any], Any]]  # a model, and its mean loss on a batch of tokens


def ours(kind: str) -> Built:
    """Fathom's decoder: bf16 products over fp32 parameters."""
    import torch

    from fathom.model.config import ModelConfig
    from fathom.model.decoder import Decoder

    shape: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS}
    if kind == "deepseek":
        shape |= {"attention": "latent", "kv_lora_rank": LATENT, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE}
        shape |= {"v_head_dim": VALUE, "num_experts": EXPERTS, "num_experts_per_token": PER_TOKEN}
        shape |= {"num_shared_experts": 1, "moe_intermediate_size": EXPERT_WIDTH}
    else:
        shape["intermediate_size"] = DENSE_WIDTH
    decoder = Decoder(ModelConfig(**shape))
    decoder.init_weights(0)
    decoder.compute_dtype = torch.bfloat16

    def loss(tokens: Any) -> Any:
        parts = decoder.loss(tokens[:, :-1], tokens[:, 1:])
        return parts.total / parts.num_tokens

    return decoder, loss


def transformers_deepseek(autocast: bool) -> Built:
    """The peer as it is: its own default attention and expert products."""
    import torch
    import transformers

    config = transformers.DeepseekV3Config(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        moe_intermediate_size=EXPERT_WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        n_shared_experts=1,
        n_routed_experts=EXPERTS,
        num_experts_per_tok=PER_TOKEN,
        q_lora_rank=None,
        kv_lora_rank=LATENT,
        qk_nope_head_dim=NOPE,
        qk_rope_head_dim=ROPE,
        v_head_dim=VALUE,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=0,
        max_position_embeddings=LENGTH,
        use_cache=False,
    )
    torch.manual_seed(0)
    model = transformers.DeepseekV3ForCausalLM(config)

    def loss(tokens: Any) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            return model(input_ids=tokens[:, :-1], labels=tokens[:, :-1]).loss

    return model, loss


def nanochat() -> Built:
    """nanochat's GPT, compiled as its own training script compiles it, in bf16, full attention in every layer."""
    os.environ["NANOCHAT_DTYPE"] = "bfloat16"
    sys.path.insert(0, os.environ["NANOCHAT_DIR"])
    import torch
    from nanochat.gpt import GPT, GPTConfig  # type: ignore[import-not-found]

    config = GPTConfig(
        sequence_len=LENGTH,
        vocab_size=VOCABULARY,
        n_layer=LAYERS,
        n_head=HEADS,
        n_kv_head=HEADS,
        n_embd=HIDDEN,
        window_pattern="L",
    )
    model = GPT(config)
    model.init_weights()
    compiled = torch.compile(model, dynamic=False)
    return model, lambda tokens: compiled(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())


KINDS: dict[str, Callable[[], Built]] = {
    "deepseek-ours": lambda: ours("deepseek"),
    "deepseek-transformers-fp32": lambda: transformers_deepseek(autocast=False),
    "deepseek-transformers-bf16": lambda: transformers_deepseek(autocast=True),
    "deepseek-ours-muon": lambda: ours("deepseek"),
    "llama-ours": lambda: ours("llama"),
    "llama-nanochat": nanochat,
}


def flops_per_token(kind: str) -> int:
    """Forward and backward, one convention for all: 6 a weight that multiplies the token, and attention's causal half.

    The recomputation of scores in the backward pass counts for nothing, nor do embeddings, norms and the optimizer.
    """
    head = VOCABULARY * HIDDEN
    if kind.startswith("deepseek"):
        width_query, width_key = HEADS * (NOPE + ROPE), HEADS * (NOPE + VALUE)
        projections = HIDDEN * width_query + HIDDEN * (LATENT + ROPE) + LATENT * width_key + HEADS * VALUE * HIDDEN
        layer = projections + (PER_TOKEN + 1) * 3 * HIDDEN * EXPERT_WIDTH + EXPERTS * HIDDEN
        mixing = HEADS * (NOPE + ROPE + VALUE)
    else:  # SwiGLU's three matrices of 1024 and nanochat's two of 1536 are as many weights
        layer = 4 * HIDDEN * HIDDEN + 3 * HIDDEN * DENSE_WIDTH
        mixing = 2 * HIDDEN
    attention = 3 * 2 * mixing * (LENGTH + 1) // 2  # a token sees (length + 1) / 2 on average; three products' worth
    return 6 * (head + LAYERS * layer) + LAYERS * attention


class _Muon:
    """The trainer's own optimizer behind the two calls that the measured loop makes."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step(1e-3)

    def zero_grad(self, set_to_none: bool) -> None:
        assert set_to_none
        self.optimizer.zero_gradients()


def optimizer_of(kind: str, model: Any) -> Any:
    import torch

    if kind.endswith("muon"):
        from fathom.train.optimizer import Optimizer
        from fathom.train.recipe import OptimizerSection

        return _Muon(Optimizer(model, OptimizerSection(kind="muon")))
    return torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)


def measure(kind: str) -> dict[str, Any]:
    import torch

    model, loss = KINDS[kind]()
    optimizer = optimizer_of(kind, model)
    tokens = torch.randint(0, VOCABULARY, (ROWS, LENGTH + 1), generator=torch.Generator().manual_seed(0))
    seconds = []
    for _ in range(UNTIMED_STEPS + TIMED_STEPS):
        start = time.perf_counter()
        value = loss(tokens)
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    return {
        "kind": kind,
        "tokens_per_second": ROWS * LENGTH / statistics.median(seconds[UNTIMED_STEPS:]),
        "first_step_seconds": seconds[0],
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "flops_per_token": flops_per_token(kind),
        "last_loss": float(value.detach()),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
