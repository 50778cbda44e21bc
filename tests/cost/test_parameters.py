"""The promise: parameters are those of the published models, counted exactly, active ones too."""

from __future__ import annotations

import math

import pytest

from fathom.cost.architecture import Architecture
from fathom.cost.huggingface import architecture_from_config
from fathom.cost.models import known_model, known_models
from fathom.cost.parameters import parameters
from fathom.errors import FathomError
from fathom.model.config import ModelConfig
from tests.cost.shrunken import CONFIGS, reference_model


@pytest.mark.parametrize("kind", CONFIGS)
def test_count_equals_the_reference_implementation(kind):
    torch = pytest.importorskip("torch")
    config = {"model_type": kind, **CONFIGS[kind]}
    with torch.device("meta"):
        model = reference_model(kind, config)
    trained = {id(p): p.numel() for p in model.parameters() if p.requires_grad}
    # Apertus learns two scalars of its activation in each layer, which no product sees
    scalars = 2 * config["num_hidden_layers"] if kind == "apertus" else 0
    assert parameters(architecture_from_config(config)).total == sum(trained.values()) - scalars


def last_digit(figure: float) -> float:
    """One unit of the last digit that a maker states: 1e11 of 1.6e12, 1e9 of 109e9."""
    digits = f"{figure:.10g}" if figure < 1e10 else f"{figure:.0f}"
    return 10.0 ** (len(digits) - len(digits.rstrip("0"))) if figure >= 1e3 else math.nan


@pytest.mark.parametrize("name", known_models())
def test_published_totals(name):
    """Within 0.5%, or within the last digit where the maker rounds more coarsely than that."""
    model = known_model(name)
    count = parameters(model.architecture)
    allowed = max(0.0055 * model.published_total, last_digit(model.published_total))
    assert abs(count.total + model.other_parameters - model.published_total) <= allowed
    if model.published_active:
        active = count.active if model.active_counts == "all" else count.active_without_embedding
        allowed = max(0.005 * model.published_active, last_digit(model.published_active))
        assert abs(active - model.published_active) <= allowed


def test_multi_token_prediction_is_counted_apart():
    """DeepSeek-V3 publishes 671B for the main model and 14B for the module, which copies embedding and head."""
    count = parameters(known_model("deepseek-v3").architecture)
    copies = count.embedding + count.by_component["output_head"]
    assert count.mtp + copies == pytest.approx(14e9, rel=0.05)


def test_a_fathom_config_and_a_published_one_agree():
    config = ModelConfig(
        vocab_size=160, hidden_size=64, num_layers=3, num_heads=4, attention="latent", q_lora_rank=24, kv_lora_rank=16,
        qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12, intermediate_size=112, num_experts=8,
        num_experts_per_token=2, num_shared_experts=1, moe_intermediate_size=48, first_dense_layers=1,
    )  # fmt: skip
    published = architecture_from_config({"model_type": "deepseek_v3", **CONFIGS["deepseek_v3"]})
    assert parameters(config).by_component == parameters(published).by_component
    assert Architecture.of(published) is published


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "deepseek_v5"}, "did you mean 'deepseek_v"),
        ({"model_type": "llama", "hidden_size": 64}, "lacks 'num_attention_heads'"),
    ],
)
def test_unreadable_configs_say_what_is_wrong(config, says):
    with pytest.raises(FathomError, match=says):
        architecture_from_config(config)


def test_an_unknown_model_suggests_the_nearest():
    with pytest.raises(FathomError, match=r"nearest names are .*deepseek-v3"):
        known_model("deepseek-v33")
