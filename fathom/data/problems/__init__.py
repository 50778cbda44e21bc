"""Worked reasoning problems without end: a question, the solution written out as thinking, and the answer.

Questions, answers and their metadata come from `reasoning-gym` (Apache-2.0); the steps are ours. They are written so
that each token follows from a few earlier ones by copying, comparing or one entry of a small table, which is what a
model of a few million parameters can learn in minutes: digits are worked from the last to the first with the carry in
sight, comparisons and remainders are spelt out, and a partial result is repeated where the next step needs it.

Never-seen problems: whether a question is held out depends on its text alone (`is_held_out`), so no stream of training
problems, whatever its seed, can contain one of the evaluation's.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fathom.data.problems import arithmetic, clock, filtering, letters, sorting
from fathom.data.problems.gym import dataset
from fathom.errors import FathomError

HELD_OUT_SHARE = 1 / 8  # of all questions
_STRIDE = 1 << 32  # problems of one seed lie apart from those of every other
_KINDS = {
    "chain_sum": arithmetic.chain_sum,
    "products": arithmetic.products,
    "number_sorting": sorting.number_sorting,
    "letter_counting": letters.letter_counting,
    "number_filtering": filtering.number_filtering,
    "time_intervals": clock.time_intervals,
}
KINDS = tuple(_KINDS)
# How often a kind comes in training, relative to the others: more where more must be learnt.
WEIGHTS = {**dict.fromkeys(KINDS, 1.0), "letter_counting": 1.3, "products": 0.8, "time_intervals": 0.8}
# What each kind asks, for tables and reports: the ranges are those of `gym.RANGES`.
RANGES = {
    "chain_sum": "sums and differences of two numbers of 2 to 4 digits, negative results included",
    "products": "products of two 2-digit numbers",
    "number_sorting": "3 or 4 numbers between 10 and 99, ascending or descending",
    "letter_counting": "how often a letter occurs in 2 to 4 running words of a story",
    "number_filtering": "which of 3 to 5 numbers between 10 and 99 are larger or smaller than another, or are not",
    "time_intervals": "time between two moments of a day, in HH:MM",
}


@dataclass(frozen=True)
class Problem:
    """One problem. `thinking` ends with everything that `answer` needs."""

    kind: str
    question: str
    thinking: str
    answer: str

    def messages(self) -> list[dict[str, Any]]:
        """The conversation that a model is trained on."""
        return [
            {"role": "user", "content": self.question},
            {"role": "assistant", "reasoning_content": self.thinking, "content": self.answer},
        ]


def problem(kind: str, seed: int, index: int) -> Problem:
    """The problem number `index` of a kind and seed: a pure function. Raises FathomError for an unknown kind."""
    if kind not in _KINDS:
        raise FathomError(f"there are no problems of kind {kind!r}; the kinds are {', '.join(KINDS)}")
    if not 0 <= index < _STRIDE or seed < 0:
        raise FathomError(
            f"problem {index} of seed {seed} cannot be made: both must be at least 0, the number below 2**32"
        )
    entry = dataset(kind)[seed * _STRIDE + index]
    return Problem(kind, *_KINDS[kind](entry["question"], entry["answer"], entry["metadata"]))


def check(asked: Problem, answer: str) -> bool:
    """Is `answer` right? Exactly the expected text, white space around it aside."""
    return answer.strip() == asked.answer


def is_held_out(question: str) -> bool:
    """Whether the question is kept for evaluation and never trained on; depends on its text alone."""
    digest = hashlib.sha256(question.encode()).digest()
    return int.from_bytes(digest[:8], "big") < HELD_OUT_SHARE * 2**64


def training_problems(seed: int, weights: Mapping[str, float] | None = None) -> Iterator[Problem]:
    """Problems to learn from, without end, kinds drawn by `WEIGHTS` or those given; none that is held out."""
    shares = dict(WEIGHTS if weights is None else weights)
    if unknown := sorted(shares.keys() - set(KINDS)):
        raise FathomError(f"there are no problems of kind {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
    chooser = random.Random(seed)
    numbers = dict.fromkeys(shares, 0)
    while True:
        kind = chooser.choices(list(shares), list(shares.values()))[0]
        made = problem(kind, seed, numbers[kind])
        numbers[kind] += 1
        if not is_held_out(made.question):
            yield made


def held_out_problems(kind: str, seed: int, count: int) -> list[Problem]:
    """`count` different problems of a kind that no training stream contains."""
    found: dict[str, Problem] = {}
    for index in range(1000 * (count + 10)):
        made = problem(kind, seed, index)
        if is_held_out(made.question):
            found.setdefault(made.question, made)
        if len(found) >= count:
            return list(found.values())[:count]
    raise FathomError(f"there are only {len(found)} held-out problems of kind {kind!r}; ask for no more")
