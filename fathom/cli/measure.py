"""Measuring a model for `fathom eval` and `fathom demo`: problems and held-out text, entered in its run's ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fathom.data.tokenizer import Tokenizer
    from fathom.ledger.book import Ledger
    from fathom.model.config import ModelConfig
    from fathom.model.decoder import Decoder

DEFAULT_PROBLEMS = 420
TEXT_TOKENS = 100_000  # scored in a domain: one standard error is then about 0.5% of its bits per byte


@contextmanager
def reopened_ledger(run: Path, runs: Path) -> Iterator[Ledger]:
    """The ledger of a run that is over, open for what is measured on it now; afterwards its status is what it was.

    Raises FathomError where another process is still working on the run.
    """
    from fathom.ledger.book import Ledger
    from fathom.ledger.reading import read, status_of
    from fathom.train.checkpoint import latest_step

    status = status_of(run, read(run))
    ledger = Ledger.resume(run, runs=runs)
    ledger.resumed(from_step=latest_step(run))
    try:
        yield ledger
    except BaseException as error:
        ledger.note("evaluation", f"not finished: {type(error).__name__}: {error}", purpose="evaluation")
        raise
    finally:
        ledger.end("interrupted" if status == "running" or status == "killed" else status)


def solve_problems(
    decoder: Decoder,
    tokenizer: Tokenizer,
    *,
    total: int,
    seed: int,
    dtype: str = "auto",
    stop_ids: frozenset[int] | None = None,
    max_new_tokens: int | None = None,
    samples: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Greedy answers to `total` or a few more held-out problems, all kinds alike; see `evaluate.problems.results`."""
    from fathom.evaluate.problems import MAX_NEW_TOKENS, answer, questions, results
    from fathom.infer.engine import Engine
    from fathom.infer.weights import choose_dtype

    outcome = answer(
        Engine(decoder, dtype=choose_dtype(dtype)),
        tokenizer,
        questions(total, seed),
        stop_ids=stop_ids,
        max_new_tokens=max_new_tokens or MAX_NEW_TOKENS,
        progress=progress,
    )
    return results(outcome, seed=seed, samples=samples)


def score_text(decoder: Decoder, prepared: Path, sequence_length: int, dtype: str = "auto") -> dict[str, Any]:
    """Bits per byte on the held-out documents of prepared data, by domain."""
    from fathom.evaluate.perplexity import held_out_bits_per_byte
    from fathom.infer.weights import choose_dtype, for_inference

    model = for_inference(decoder, choose_dtype(dtype))
    return held_out_bits_per_byte(model, prepared, sequence_length, max_tokens=TEXT_TOKENS)


def flops_of(config: ModelConfig, tokens: int, sequence_length: int) -> dict[str, int]:
    """FLOPs by component of reading or writing `tokens` in sequences of about this length."""
    from fathom.cost.flops import forward_flops_per_token

    by_component = forward_flops_per_token(config, max(1, sequence_length), mtp=False)
    return {name: int(count * tokens) for name, count in by_component.items()}


def enter_problems(ledger: Ledger, config: ModelConfig, results: dict[str, Any]) -> None:
    """The evaluation as one event of the run's ledger."""
    tokens = results["prompt_tokens"] + results["new_tokens"]
    flops = flops_of(config, tokens, tokens // results["total"])
    ledger.evaluation(name="held-out problems", results=results, tokens=tokens, flops=flops)
