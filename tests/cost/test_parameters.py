"""The promise: parameters are those of the published models, counted exactly, active ones too."""

from __future__ import annotations

import pytest

from fathom.cost.architecture import Architecture
from fathom.cost.huggingface import architecture_from_config
from fathom.cost.models import Deviation, deviations, known_model, known_models, printed
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


@pytest.mark.parametrize("name", known_models())
def test_published_totals(name):
    """Within 0.5%, or within the rounding (half of the last digit that the maker prints), by the maker's convention."""
    for what, one in deviations(known_model(name)).items():
        assert one.within, f"{name} {what}: counted {one.counted:g}, published {one.published:g}"


def test_only_rounded_figures_need_more_than_half_a_percent():
    """Three printed digits bind to half a percent: whatever is further off is a figure of one or two digits."""
    for name, model in known_models().items():
        for one in deviations(model).values():
            if abs(one.relative) > 0.005 and not one.cut_off:
                assert len(printed(one.published).strip("TBM").replace(".", "")) <= 2, name


@pytest.mark.parametrize(
    ("counted", "published", "cut_off", "within"),
    [
        (1.026e12, 1e12, False, True), (1.51e12, 1e12, False, False), (1.573e12, 1.6e12, False, True),
        (1.54e12, 1.6e12, False, False), (110e9, 109e9, False, False), (3.353e9, 3.3e9, False, False),
        (3.353e9, 3.3e9, True, True), (3.28e9, 3.3e9, True, False), (3.41e9, 3.3e9, True, False),
    ],
)  # fmt: skip
def test_half_of_the_last_digit_is_allowed_not_a_whole_one(counted, published, cut_off, within):
    assert Deviation(counted, published, cut_off).within is within


def test_the_table_in_the_docs_is_the_present_one():
    from benchmarks.pages import renewed
    from benchmarks.published_parameters import PAGE, table

    text = PAGE.read_text(encoding="utf-8")
    assert renewed(text, {"parameters": table()}, PAGE.name) == text, (
        "run python -m benchmarks.published_parameters --write"
    )


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
