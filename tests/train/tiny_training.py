"""A model and data small enough for a test: a Markov chain that can be learnt, as batches of packed documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fathom.train.loop import RunResult, open_ledger, train
from fathom.train.recipe import Recipe
from fathom.train.recipe_files import recipe_from_table
from fathom.train.run_folder import RunFolder

VOCABULARY = 64


@dataclass(frozen=True)
class TinyBatch:
    tokens: np.ndarray
    targets: np.ndarray
    documents: np.ndarray
    positions: np.ndarray
    loss_mask: np.ndarray


class TinyBatches:
    """batch(step) is a pure function of (seed, step): each token is its predecessor times 5 plus 1, sometimes noise."""

    def __init__(self, rows: int, length: int, seed: int = 0) -> None:
        self.rows, self.length, self.seed = rows, length, seed

    def batch(self, step: int) -> TinyBatch:
        random = np.random.default_rng([self.seed, step])
        sequence = np.empty((self.rows, self.length + 1), dtype=np.int32)
        sequence[:, 0] = random.integers(VOCABULARY, size=self.rows)
        noise = random.random((self.rows, self.length)) < 0.1
        for t in range(self.length):
            following = (sequence[:, t] * 5 + 1) % VOCABULARY
            sequence[:, t + 1] = np.where(noise[:, t], random.integers(VOCABULARY, size=self.rows), following)
        half = self.length // 2
        documents = np.broadcast_to(np.arange(self.length) // half, (self.rows, self.length)).astype(np.int32)
        positions = np.broadcast_to(np.arange(self.length) % half, (self.rows, self.length)).astype(np.int32)
        mask = random.random((self.rows, self.length)) < np.linspace(0.3, 1.0, self.rows)[:, None]
        return TinyBatch(sequence[:, :-1], sequence[:, 1:], documents, positions, mask)


MIXTURE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "attention": "latent",
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "intermediate_size": 64,
    "num_experts": 4,
    "num_experts_per_token": 2,
    "num_shared_experts": 1,
    "moe_intermediate_size": 16,
    "first_dense_layers": 1,
}
DENSE = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_layers": 2, "num_heads": 2, "intermediate_size": 64}


def tiny_recipe(model: dict | None = None, **sections: dict) -> Recipe:
    table = {
        "name": "tiny",
        "model": model or MIXTURE,
        "train": {"steps": 12, "sequence_length": 16, "rows_per_step": 4, "micro_batch_rows": 4, "precision": "fp32"},
        "checkpoint": {"every_steps": 4},
    }
    for section, values in sections.items():
        table[section] = {**table.get(section, {}), **values} if isinstance(values, dict) else values
    return recipe_from_table(table, where="test")


def run(recipe: Recipe, folder: Path, **options) -> RunResult:
    """Train or go on, as the command line does, with the ledger opened and ended."""
    RunFolder(folder).write_recipe(recipe)
    batches = options.pop("batches", None) or TinyBatches(recipe.train.rows_per_step, recipe.train.sequence_length)
    with open_ledger(recipe, folder) as ledger:
        return train(recipe, folder, batches, ledger=ledger, **options)
