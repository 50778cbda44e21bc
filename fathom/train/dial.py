"""From seconds to a recipe: shape, tokens, batch, learning rate and schedule, by a small scaling law.

The law predicts held-out bits per byte from a model's active parameters and its training tokens; the tokens follow from
the seconds, the machine's measured peak and the share of it that a shape reaches. The rung of the ladder with the
smallest prediction is taken. Coefficients lie in `scaling.json`, which `benchmarks/scaling_sweep.py` writes from
sweeps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch

from fathom.cost.flops import parameters, training_flops
from fathom.model.config import ModelConfig
from fathom.model.decoder import Decoder
from fathom.train.machine import MachineSpeed
from fathom.train.model_table import model_table
from fathom.train.muon import orthogonalize_flops
from fathom.train.optimizer import role_of
from fathom.train.recipe import OptimizerSection, Recipe
from fathom.train.recipe_files import load_recipe, recipe_from_table
from fathom.train.shapes import WIDTHS, deepseek_style, width_of

# Tokens seen again teach less; after 16 repetitions next to nothing is left (arXiv:2305.16264, equation 5).
REPETITION_HALVES = 15.4
# Of Muon's batched products on two cores with AVX-512 BF16, where a square product of 2048 sets the peak.
MUON_SHARE_OF_PEAK = 0.7
SEQUENCE_LENGTH = 256  # of budgets up to an hour; see `_sequence_length`


@dataclass(frozen=True)
class Choice:
    """One rung weighed: what it would see and reach in the time."""

    width: int
    rows: int  # of a step
    sequence_length: int
    tokens: float
    tokens_per_second: float
    bits_per_byte: float


@cache
def coefficients() -> dict[str, Any]:
    return json.loads(resources.files("fathom.train").joinpath("scaling.json").read_text(encoding="utf-8"))


def predicted_bits_per_byte(config: ModelConfig, tokens: float, unique_tokens: float = 0.0) -> float:
    """floor + A / parameters^a + B / tokens^b, repeated tokens counting less.

    `parameters` are the active ones without the input embedding, which is a look-up.
    """
    law = coefficients()["law"]
    useful = _worth(tokens, unique_tokens) if unique_tokens else tokens
    size = active_parameters(config)
    from_size = law["parameters"] / size ** law["parameters_exponent"]
    return law["floor"] + from_size + law["tokens"] / useful ** law["tokens_exponent"]


def active_parameters(config: ModelConfig) -> int:
    count = parameters(config)
    return count.active if config.tie_word_embeddings else count.active - count.embedding


def _worth(tokens: float, unique: float) -> float:
    """Fresh tokens that `tokens` drawn from `unique` are worth (arXiv:2305.16264)."""
    import math

    repetitions = max(0.0, tokens / unique - 1)
    return min(tokens, unique) + unique * REPETITION_HALVES * (1 - math.exp(-repetitions / REPETITION_HALVES))


def expected_tokens_per_second(config: ModelConfig, speed: MachineSpeed, rows: int, length: int) -> float:
    """Products at the share of the peak that models of this work per token reach, and Muon's at its own.

    Small models spend more of their time outside products, so their share is smaller.
    """
    efficiency, peak = coefficients()["efficiency"], speed.peak_flops_per_second
    tokens, per_token = rows * length, training_flops(config, 1, length).total
    share = efficiency["limit"] * per_token / (per_token + efficiency["half_flops_per_token"])
    return tokens / (tokens * per_token / (share * peak) + muon_flops(config) / (MUON_SHARE_OF_PEAK * peak))


@cache
def muon_flops(config: ModelConfig) -> float:
    """Operations of one optimizer step's orthogonalisations."""
    with torch.device("meta"):
        decoder = Decoder(config)
    section, total = OptimizerSection(), 0.0
    for name, parameter in decoder.named_parameters():
        if role_of(name, parameter, section).kind == "matrix":
            rows, columns = parameter.shape[-2:]
            total += parameter.numel() / (rows * columns) * orthogonalize_flops(rows, columns)
    return total


def weigh(seconds: float, speed: MachineSpeed, vocab_size: int, train_tokens: int = 0) -> list[Choice]:
    """Every rung with what it would reach in `seconds`, of `train_tokens` different tokens (0: as many as it sees)."""
    choices = []
    for width in WIDTHS:
        config = deepseek_style(width, vocab_size)
        rows, length = _rows(seconds * speed.peak_flops_per_second), _sequence_length(seconds)
        rate = expected_tokens_per_second(config, speed, rows, length)
        tokens = rate * seconds
        choices.append(Choice(width, rows, length, tokens, rate, predicted_bits_per_byte(config, tokens, train_tokens)))
    return choices


def vocabulary_for(seconds: float) -> int:
    """Entries of the tokenizer to train. Of 2048, 4096 and 8192 the largest gave the fewest bits per byte even in 25
    seconds of two cores: fewer tokens to the byte outweigh the larger output projection.
    """
    return 8192 if seconds < 86400 else 32768


def choose(seconds: float, speed: MachineSpeed, vocab_size: int, size: str = "", train_tokens: int = 0) -> Recipe:
    """The recipe that a machine of this speed should spend `seconds` on, with `train_tokens` different tokens to
    see.
    """
    if size:
        wanted = width_of(size)
        best = next(choice for choice in weigh(seconds, speed, vocab_size) if choice.width == wanted)
    else:
        best = _best(weigh(seconds, speed, vocab_size))
        # The law knows no overfitting: little text, read often, must not call for a larger model than plenty would.
        repeating = weigh(seconds, speed, vocab_size, train_tokens)
        best = _best([choice for choice in repeating if choice.width <= best.width])
    return recipe_of(best, vocab_size)


def _best(choices: list[Choice]) -> Choice:
    return min(choices, key=lambda choice: choice.bits_per_byte)


def recipe_of(choice: Choice, vocab_size: int) -> Recipe:
    """The complete recipe of one rung."""
    config = deepseek_style(choice.width, vocab_size)
    rows, length = choice.rows, choice.sequence_length
    rate = coefficients()["learning_rate"]
    steps = choice.tokens / (rows * length)
    table = {
        "name": f"budget-{choice.width}",
        "model": model_table(config),
        "data": {"vocab_size": max(vocab_size, 300)},
        "train": {
            "sequence_length": length,
            "rows_per_step": rows,
            "micro_batch_rows": _micro_rows(rows, length),
            "learning_rate": rate["at_width_256"] * (256 / choice.width) ** rate["width_exponent"],
        },
        "optimizer": {"embedding_ratio": coefficients()["embedding_ratio"]},
        "schedule": {"warmup_steps": max(5, min(200, round(0.02 * steps))), "decay_fraction": 0.5},
    }
    return recipe_from_table(table, where="budget")


def _sequence_length(seconds: float) -> int:
    """Longer contexts once the model can use them; attention is still a small part of the work."""
    return SEQUENCE_LENGTH if seconds < 3600 else 512 if seconds < 6 * 3600 else 1024


def _rows(peak_flops: float) -> int:
    """Rows of a step: the batch grows with the run (arXiv:2401.02954, section 3.1: a power of the compute).

    `peak_flops` is what the machine could compute in the run's time.
    """
    batch = coefficients()["batch_rows"]
    return max(4, 4 * round(batch["at_1e14_flops"] * (peak_flops / 1e14) ** batch["flops_exponent"] / 4))


def _micro_rows(rows: int, length: int) -> int:
    """Rows at once: at most 16,384 tokens, and a divisor of the step's rows."""
    most = max(1, 16384 // length)
    return next(count for count in range(min(rows, most), 0, -1) if rows % count == 0)


def continue_from(config: ModelConfig, recipe: str = "") -> Recipe:
    """The recipe for going on from published weights of this shape; a recipe named by the user keeps all but the
    shape.
    """
    if recipe:
        return load_recipe(recipe).with_changes(model=model_table(config))
    table = {
        "name": "continue",
        "model": model_table(config),
        "data": {"vocab_size": max(config.vocab_size, 300)},
        "train": {
            "learning_rate": 2e-4,
            "sequence_length": min(512, config.max_position_embeddings),
            "rows_per_step": 4,
            "micro_batch_rows": 4,
        },
        "optimizer": {"kind": "adamw", "weight_decay": 0.0, "epsilon": 1e-8, "balance_rate": 0.0, "balance_loss": 0.0},
        "schedule": {"warmup_steps": 4, "decay_fraction": 0.8},
        "checkpoint": {"every_seconds": 300.0, "keep_last": 1},
    }
    return recipe_from_table(table, where="--from")
