"""The published recipes have exactly the published parameter counts, ours and as `transformers` builds them."""

from __future__ import annotations

import pytest
import torch

from fathom.cost.flops import parameters
from fathom.model.decoder import Decoder
from fathom.train.recipe_files import load_recipe

# Parameters of the main model, as the sums of the tensors in the published files.
PUBLISHED = {
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v3": 671_026_404_352,  # without the 58 x 256 balancing biases, which are no parameters
    "llama-3-8b": 8_030_261_248,
    "qwen3-30b-a3b": 30_532_122_624,
}


def meta_parameters(name: str) -> int:
    with torch.device("meta"):
        decoder = Decoder(load_recipe(name, ["model.num_mtp_layers=0"]).model)
    return sum(p.numel() for p in decoder.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_count(name: str) -> None:
    assert meta_parameters(name) == PUBLISHED[name] == parameters(load_recipe(name).model).total


@pytest.mark.parametrize("name", PUBLISHED)
def test_transformers_builds_the_same_count(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    from fathom.model.families.huggingface import config_to_hf

    table = config_to_hf(load_recipe(name, ["model.num_mtp_layers=0"]).model)
    config = transformers.AutoConfig.for_model(**table)
    with torch.device("meta"):
        theirs = transformers.AutoModelForCausalLM.from_config(config)
    assert sum(p.numel() for p in theirs.parameters()) == PUBLISHED[name]


@pytest.mark.parametrize(("name", "active"), [("one-gpu-0.5b", 0.22e9), ("one-gpu-3b-active", 2.9e9)])
def test_the_one_gpu_recipes_fit_one_gpu(name: str, active: float) -> None:
    from fathom.train.fit import predicted_bytes

    recipe = load_recipe(name)
    assert parameters(recipe.model).active == pytest.approx(active, rel=0.1)
    assert sum(predicted_bytes(recipe).values()) < 80e9
