"""A recipe that is wrong is refused with the key's name; one that is right is written out whole and read back equal."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_training import tiny_recipe

from fathom.errors import FathomError
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import apply_sets, load_recipe, recipe_names, recipe_toml

WRONG = [
    ("train.lerning_rate=1", "unknown key 'train.lerning_rate'; did you mean 'train.learning_rate'"),
    ("trian.steps=1", "did you mean 'train'"),
    ("train.clip_norm=1", "did you mean 'optimizer.clip_norm'"),
    ("model.hiden_size=1", "did you mean 'model.hidden_size'"),
    ("model.rope_scaling={kind='yarn', facter=2.0}", "did you mean 'model.rope_scaling.factor'"),
    ("train.steps=1.5", "train.steps = 1.5 cannot be used: input should be a valid integer"),
    ("train.steps=-1", "train.steps = -1 cannot be used: input should be greater than or equal to 0"),
    (
        "train.checkpoint_activations=yes",
        'train.checkpoint_activations = "yes" cannot be used: input should be a valid boolean',
    ),
    ("train.learning_rate=fast", "train.learning_rate"),
    ("train.learning_rate=nan", "train.learning_rate"),
    ("train.learning_rate=0", "greater than 0"),
    ("optimizer.kind=sgd", "'muon' or 'adamw'"),
    ("model.hidden_size=wide", "model.hidden_size"),
    ("model.num_heads=5", "model.q|model.num_heads|model.hidden_size"),
    ("train.sequence_length=999999", "train.sequence_length 999999 exceeds model.max_position_embeddings"),
    ("steps", "not of the form section.key=value"),
    ("train.steps.more=1", "single value"),
]


@pytest.mark.parametrize(("assignment", "message"), WRONG)
def test_a_wrong_key_or_value_is_named(assignment: str, message: str) -> None:
    recipe = "laptop-llama" if "num_heads" in assignment else "laptop"
    with pytest.raises(FathomError, match=message) as caught:
        load_recipe(recipe, [assignment])
    assert "\n" not in str(caught.value)


def test_set_overrides_any_key() -> None:
    recipe = load_recipe(
        "laptop", ["train.learning_rate=3e-4", "model.num_layers=2", "name=mine", "data.sources=['a', 'b']"]
    )
    assert recipe.train.learning_rate == 3e-4
    assert recipe.model.num_layers == 2
    assert recipe.name == "mine"
    assert recipe.data.sources == ["a", "b"]
    assert apply_sets(recipe, ["seed=7"]).seed == 7


@pytest.mark.parametrize("name", recipe_names())
def test_what_is_written_out_is_complete_and_reads_back_equal(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name)
    file = tmp_path / "recipe.toml"
    file.write_text(recipe_toml(recipe))
    assert load_recipe(file) == recipe
    for section, field in Recipe.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert any(form in recipe_toml(recipe) for form in (f"\n{key} = ", f"[{section}.{key}]")), (
                f"{section}.{key}"
            )


def test_sizes_that_were_not_given_follow_those_that_are_set() -> None:
    plain, wider = load_recipe("laptop-llama").model, load_recipe("laptop-llama", ["model.num_heads=8"]).model
    assert wider.num_heads * wider.head_dim == plain.num_heads * plain.head_dim == plain.hidden_size
    assert load_recipe("laptop-llama", ["model.num_heads=2"]).model.num_heads == 2


def test_every_fault_of_a_recipe_is_named() -> None:
    with pytest.raises(FathomError) as told:
        load_recipe("laptop", ["train.lerning_rate=1", "train.steps=many", "modle.hidden_size=3"])
    for key in ("train.lerning_rate", "train.steps", "modle"):
        assert key in str(told.value)


def test_a_missing_recipe_suggests_the_nearest() -> None:
    with pytest.raises(FathomError, match="did you mean 'deepseek-v3'"):
        load_recipe("deepseek-v4x")


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe\x00"])
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(FathomError, match=r"bad\.toml"):
        load_recipe(file)


def test_changes_are_checked_too() -> None:
    recipe = tiny_recipe()
    assert recipe.with_changes(train={"steps": 3}, model={"num_layers": 3}).train.steps == 3
    with pytest.raises(ValueError, match="steps"):
        recipe.with_changes(train={"steps": -3})
