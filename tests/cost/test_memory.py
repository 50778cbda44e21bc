"""The promise: predicted activations are what autograd saves, and the rest is arithmetic on the parameter count."""

from __future__ import annotations

import pytest

from fathom.cost.huggingface import architecture_from_config
from fathom.cost.memory import activation_bytes_per_token, optimizer_values, training_memory_bytes
from fathom.cost.models import known_model
from fathom.cost.parameters import parameters
from fathom.errors import FathomError
from tests.cost.shrunken import CONFIGS, POSITIONS, reference_model


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_activations_are_what_autograd_saves(kind):
    """Bytes of the distinct tensors that the reference keeps for its backward pass, weights left out. Its RMSNorm and
    rotary code save some intermediates that a fused kernel would not, hence the margin on one side only."""
    torch = pytest.importorskip("torch")
    config = {
        "model_type": kind,
        **CONFIGS[kind],
        "hidden_size": 128,
        "intermediate_size": 384,
        "attention_bias": False,
    }
    config.pop("mlp_bias", None)
    model = reference_model(kind, config)
    model.config._attn_implementation = "sdpa"
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def save(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = torch.randint(3, 160, (4, POSITIONS))
    with torch.autograd.graph.saved_tensors_hooks(save, lambda t: t):
        hidden = model.model(input_ids=tokens, use_cache=False).last_hidden_state
    hidden.sum().backward()
    ours = activation_bytes_per_token(architecture_from_config(config), "float32") * tokens.numel()
    measured = sum(kept.values())
    assert ours <= measured * 1.02
    assert ours >= measured * 0.6


def test_full_checkpointing_keeps_one_layer_and_every_input():
    arch = known_model("llama-3-8b").architecture
    all_of_it = activation_bytes_per_token(arch, "bfloat16", "none")
    little = activation_bytes_per_token(arch, "bfloat16", "full")
    inputs = 32 * 4096 * 2
    assert inputs < little < inputs + all_of_it / 25


def test_states_follow_from_the_count():
    arch = known_model("gpt-2").architecture
    count = parameters(arch).total
    memory = training_memory_bytes(arch, 1, 1024, "adamw", "float32")
    assert memory["weights"] == memory["gradients"] == 4 * count
    assert memory["optimizer"] == 8 * count
    assert memory["weights_cast"] == 0
    assert training_memory_bytes(arch, 1, 1024, "adamw", "bfloat16")["weights_cast"] == 2 * count


def test_muon_keeps_one_moment_for_matrices_and_two_for_the_rest():
    arch = known_model("llama-3-8b").architecture
    count = parameters(arch)
    rest = count.embedding + count.by_component["output_head"] + count.by_component["norms"]
    assert optimizer_values(arch, "muon") == count.total + rest
    assert optimizer_values(arch, "sgd") == 0


def test_activations_grow_with_tokens_and_logits_do_not_beyond_a_chunk():
    arch = known_model("gpt-2").architecture
    one, eight = (training_memory_bytes(arch, rows, 1024) for rows in (4, 32))
    assert eight["activations"] == pytest.approx(8 * one["activations"])
    assert eight["logits"] == one["logits"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optimizer": "adam"}, "optimizer = 'adam' is not known"),
        ({"dtype": "bf17"}, "dtype = 'bf17' is not known"),
        ({"checkpointing": "some"}, "checkpointing = 'some' is not known"),
        ({"micro_batch": 0}, "micro_batch"),
    ],
)
def test_bad_settings_are_named(change, says):
    settings = {"micro_batch": 1, "sequence_length": 16, **change}
    with pytest.raises(FathomError, match=says):
        training_memory_bytes(known_model("gpt-2").architecture, **settings)
