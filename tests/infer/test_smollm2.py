"""SmolLM2 from its GGUF file answers as `transformers` does on the same dequantized weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fathom.cli.models import OpenedModel, open_model
from fathom.data.chat import render
from fathom.infer.engine import Engine
from fathom.infer.packed import pack

PROMPTS = [
    "What is the capital of France?", "Write a haiku about the sea.", "Explain gravity to a child.",
    "List three uses of a paperclip.", "Translate 'good morning' into Spanish.", "What is 17 plus 25?",
    "Why is the sky blue?", "Give me a recipe for pancakes.", "Who wrote Hamlet?", "Say something kind. 😊",
]  # fmt: skip


@pytest.fixture(scope="module")
def smollm2() -> OpenedModel:
    return open_model("smollm2")


@pytest.fixture(scope="module")
def theirs(smollm2: OpenedModel) -> Any:
    """`transformers`' LLaMA with the same weights, given to it by their names there."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from fathom.model.families.hf_config import config_to_hf
    from fathom.model.families.huggingface import _tensors

    hf = config_to_hf(smollm2.config)
    config = AutoConfig.for_model(hf.pop("model_type"), **hf)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(dict(_tensors(smollm2.decoder, torch.float32)), strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # its frequencies are no weights
    assert not any(parameter.is_meta for parameter in model.parameters())
    return model.eval()


@pytest.mark.parametrize(
    ("num_prompts", "num_tokens"), [(2, 12), pytest.param(10, 64, marks=pytest.mark.slow)], ids=["some", "all"]
)
def test_greedy_answers_are_those_of_transformers_token_for_token(
    smollm2: OpenedModel, theirs: Any, num_prompts: int, num_tokens: int
) -> None:
    engine = Engine(smollm2.decoder)
    asked = [[{"role": "user", "content": text}] for text in PROMPTS[:num_prompts]]
    prompts = [render(smollm2.tokenizer, messages, True).ids for messages in asked]
    ours = engine.generate(prompts, max_new_tokens=num_tokens)
    for prompt, answer in zip(prompts, ours, strict=True):
        generated = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=num_tokens, do_sample=False, eos_token_id=None
        )
        assert answer.ids == generated[0, len(prompt) :].tolist()


def test_logits_are_those_of_transformers(smollm2: OpenedModel, theirs: Any) -> None:
    ids = render(smollm2.tokenizer, [{"role": "user", "content": PROMPTS[0]}], True).ids
    with torch.inference_mode():
        ours = smollm2.decoder.logits(smollm2.decoder(torch.tensor([ids])))
        torch.testing.assert_close(ours, theirs(torch.tensor([ids])).logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "name", ["layers.0.attention.k_proj.weight", "layers.29.feed_forward.down_proj.weight", "embedding.weight"]
)
def test_weights_from_four_and_eight_bits_are_found_to_be_so_and_multiply_the_same(
    smollm2: OpenedModel, name: str
) -> None:
    weight_OI = smollm2.decoder.state_dict()[name][:1024]
    packed = pack(weight_OI)
    assert packed is not None
    x_MI = torch.randn(4, weight_OI.shape[1], generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = x_MI.float() @ weight_OI.T
    error = (packed(x_MI).float() - exact).norm() / exact.norm()
    plain = ((x_MI @ weight_OI.bfloat16().T).float() - exact).norm() / exact.norm()
    assert error < 2 * plain  # no worse than bf16 weights, up to the rounding of the groups' two numbers


def test_other_weights_are_never_packed() -> None:
    assert pack(torch.randn(32, 64, generator=torch.Generator().manual_seed(0))) is None
    nearly = pack((torch.arange(32 * 64) % 16).view(32, 64).float())
    assert nearly is not None  # whole numbers from 0 to 15 lie on the grid
    moved = (torch.arange(32 * 64) % 16).view(32, 64).float()
    moved[31, 63] = 14.5
    assert pack(moved) is None
    assert pack(torch.zeros(30, 64)) is None  # rows that the kernel cannot take
