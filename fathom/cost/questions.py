"""Figures that are each possible and together a slip of units: asked about before anything is computed from them."""

from __future__ import annotations

from fathom.cost import say
from fathom.cost.run import Run
from fathom.errors import FathomError

# Tokens an active parameter of published runs: from 0.5 (Megatron-Turing NLG 530B, 270B) to 60,400 (Qwen3-0.6B, 36T).
TOKENS_PER_PARAMETER = (0.5, 61_000)
# All parameters over active ones: 32 in the sparsest mixture on file (DeepSeek-V4 Pro); Switch-C (arXiv:2101.03961),
# the sparsest of all, came near a thousand, which cannot be told from a slip and is asked about.
TOTAL_OVER_ACTIVE = 500
# The largest runs are put at 5e26 FLOP (2025); two thousand times that is more than any that is planned.
MOST_FLOPS = 1e30
# Active parameters over 12 x layers x width^2 lie between 0.84 (Falcon) and 2.9 (Grok-1) for every known model.
SHAPE_FACTOR = 4.0
# Printed sizes are rounded, and leave embeddings or prediction heads out: never by so much.
OTHER_MODEL = 1.2
LARGEST_VOCABULARY = 300_000
MIXED_UP = "are thousands, millions or billions mixed up?"


def question_run(run: Run) -> None:
    """Stop at a size, tokens and work that no run had, named so that the wrong one of them is found."""
    if run.total > TOTAL_OVER_ACTIVE * run.active:
        raise FathomError(
            f"model.active_parameters = {run.active:g} of total_parameters = {run.total:g} is questioned: a token uses "
            f"one in {run.total / run.active:,.0f}, in the sparsest mixtures on file one in 32; {MIXED_UP}"
        )
    question_tokens("training.tokens", run.tokens, run.active)
    if run.flops > MOST_FLOPS:
        raise FathomError(
            f"training.tokens = {run.tokens:g} for {run.active:g} active parameters is questioned: {run.flops:.1g} "
            f"FLOP are thousands of times the largest runs there were (about 5e26); {MIXED_UP}"
        )


def question_tokens(name: str, tokens: float, active: float) -> None:
    """Stop at more or fewer tokens an active parameter than any run had; `name` is how the figure is called."""
    ratio, (low, high) = tokens / active, TOKENS_PER_PARAMETER
    if not low <= ratio <= high:
        raise FathomError(
            f"{name} = {tokens:g} for {active:g} active parameters is questioned: published runs lie "
            f"between {low:g} and {high:,} tokens a parameter, this is {say.count(ratio)}; {MIXED_UP}"
        )


def question_batch(batch_tokens: float, run: Run) -> None:
    """One optimizer step sees no more tokens than the whole training, and no less than one sequence."""
    if 0 < batch_tokens < run.sequence_length:
        raise FathomError(
            f"training.batch_tokens = {batch_tokens:g} is questioned: one sequence has {run.sequence_length} tokens "
            f"(training.sequence_length); {MIXED_UP}"
        )
    if batch_tokens > run.tokens:
        raise FathomError(
            f"training.batch_tokens = {batch_tokens:g} cannot exceed training.tokens = {run.tokens:g}: it is the "
            f"tokens of one optimizer step; {MIXED_UP}"
        )


def question_shape(layers: int, width: int, active: float) -> None:
    """12 x layers x width^2 weights are what one token passes in a usual decoder, beside the vocabulary's."""
    usual = 12.0 * layers * width**2
    if usual / SHAPE_FACTOR <= active <= usual * SHAPE_FACTOR + 2 * LARGEST_VOCABULARY * width:
        return
    raise FathomError(
        f"model.layers = {layers} and hidden_size = {width} are questioned: such decoders have about {usual:.2g} "
        f"active parameters (12 x layers x width^2), not {active:.3g}; correct them, leave them out, or give "
        "a mixture's active_parameters"
    )
