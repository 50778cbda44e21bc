"""Exact match on held-out reasoning problems, by kind, with Wilson intervals.

Answers are greedy, so they repeat. Nothing is cut off an answer but the thinking before it: no stop text, only the
tokens that end a turn; an answer that did not end by itself counts as wrong and the share of those is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fathom.data.chat import render, split_thinking
from fathom.data.problems import KINDS, Problem, check, held_out_problems
from fathom.data.tokenizer import Tokenizer
from fathom.errors import FathomError
from fathom.infer.engine import Engine, Timing

MAX_NEW_TOKENS = 384  # the longest worked solution has about 300 tokens
ROWS = 128  # answered at once: more saves no time on a processor
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Answered:
    """One problem and what the model wrote: its thinking ("" where it wrote none) and its answer."""

    problem: Problem
    thinking: str
    answer: str
    truncated: bool  # it ran into the limit of tokens or the context window

    @property
    def correct(self) -> bool:
        return not self.truncated and check(self.problem, self.answer)


@dataclass(frozen=True)
class Outcome:
    """All answers, in the order of the problems, and what they took."""

    answered: list[Answered]
    template: bool  # whether the model's chat template framed the questions
    prompt_tokens: int
    new_tokens: int
    seconds: float


def questions(total: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Problem]:
    """At least `total` held-out problems, equally many of each kind, kinds in turn."""
    if total < 1:
        raise FathomError(f"{total} problems cannot be asked; ask at least 1")
    each = -(-total // len(kinds))
    by_kind = [held_out_problems(kind, seed, each) for kind in kinds]
    return [problem for row in zip(*by_kind, strict=True) for problem in row]


def answer(
    engine: Engine,
    tokenizer: Tokenizer,
    problems: Sequence[Problem],
    *,
    stop_ids: frozenset[int] | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Let a model answer all problems greedily, in batches of prompts of similar length.

    `stop_ids` end an answer (the tokenizer's own by default). A tokenizer without a chat template is asked plainly.
    Raises FathomError where a question does not fit the model's context window.
    """
    started, timing = time.monotonic(), Timing()
    template = tokenizer.chat_template is not None
    prompts = [_prompt(tokenizer, problem.question, template) for problem in problems]
    order = sorted(range(len(problems)), key=lambda index: len(prompts[index]))
    answered: dict[int, Answered] = {}
    prompt_tokens = new_tokens = 0
    for first in range(0, len(order), ROWS):
        rows = order[first : first + ROWS]
        timing = Timing()
        answers = engine.generate(
            [prompts[row] for row in rows],
            max_new_tokens=max_new_tokens,
            stop_ids=tokenizer.eos_ids if stop_ids is None else stop_ids,
            timing=timing,
        )
        prompt_tokens, new_tokens = prompt_tokens + timing.prompt_tokens, new_tokens + timing.new_tokens
        for row, given in zip(rows, answers, strict=True):
            thinking, text = split_thinking(tokenizer.decode(given.ids))
            answered[row] = Answered(problems[row], thinking or "", text.strip(), given.finish_reason != "stop")
        if progress is not None:
            progress(len(answered), len(problems))
    in_order = [answered[index] for index in range(len(problems))]
    return Outcome(in_order, template, prompt_tokens, new_tokens, time.monotonic() - started)


def _prompt(tokenizer: Tokenizer, question: str, template: bool) -> list[int]:
    if template:
        return render(tokenizer, [{"role": "user", "content": question}], True).ids
    return [tokenizer.document_start_id, *tokenizer.encode(question + "\n")]


def results(outcome: Outcome, *, seed: int, samples: int = 1) -> dict[str, Any]:
    """The evaluation as a ledger keeps it: shares by kind and of all, and the first answers of each kind."""
    by_kind = {kind: [a for a in outcome.answered if a.problem.kind == kind] for kind in _kinds(outcome.answered)}
    return {
        "seed": seed,
        "greedy": True,
        "template": outcome.template,
        "confidence": CONFIDENCE,
        **_share(outcome.answered),
        "kinds": {kind: _share(answered) for kind, answered in by_kind.items()},
        "prompt_tokens": outcome.prompt_tokens,
        "new_tokens": outcome.new_tokens,
        "seconds": outcome.seconds,
        "samples": [_sample(a) for answered in by_kind.values() for a in answered[:samples]],
    }


def _kinds(answered: Iterable[Answered]) -> list[str]:
    return list(dict.fromkeys(a.problem.kind for a in answered))


def _share(answered: Sequence[Answered]) -> dict[str, Any]:
    from scipy.stats import binomtest

    correct, total = sum(a.correct for a in answered), len(answered)
    interval = binomtest(correct, total).proportion_ci(CONFIDENCE, method="wilson")
    return {
        "correct": correct,
        "total": total,
        "accuracy": correct / total,
        "low": float(interval.low),
        "high": float(interval.high),
        "truncated": sum(a.truncated for a in answered) / total,
        "with_steps": sum(bool(a.thinking) for a in answered) / total,
    }


def _sample(answered: Answered) -> dict[str, Any]:
    return {
        "kind": answered.problem.kind,
        "question": answered.problem.question,
        "thinking": answered.thinking,
        "answer": answered.answer,
        "expected": answered.problem.answer,
        "correct": answered.correct,
        "truncated": answered.truncated,
    }
