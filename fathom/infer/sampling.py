"""From logits to the next token: greedy, or drawn after temperature, top-k, top-p, min-p and repetition penalty.

Letters: B batch rows, V vocabulary, K candidates looked at. The filters are applied in the order of `transformers`'
logits processors, so the same settings mean the same distribution there and here.

A row's draws depend on its own seed and distribution alone, never on the rows beside it: each row has its generator,
uses one uniform number a token, and walks its own candidates from the likeliest down until their sum passes that
number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fathom.errors import FathomError

_SHORTLIST = 512  # candidates taken by partial sort; a row that needs more is sorted whole (about 2 ms for 49,152)
_DRAWS_AHEAD = 128  # uniform numbers drawn from a row's generator at a time


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose the next token. Temperature 0 is greedy; the other defaults filter nothing.

    Raises `FathomError` for a value outside its range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # of CTRL (arXiv:1909.05858, section 4.1); counts the prompt too
    seed: int | None = None  # None: another answer each time

    def __post_init__(self) -> None:
        _check(math.isfinite(self.temperature) and self.temperature >= 0, "temperature", self.temperature, "0 or above")
        _check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        _check(self.top_k >= 0, "top_k", self.top_k, "0 (all) or a number of tokens")
        _check(0 <= self.min_p < 1, "min_p", self.min_p, "at least 0 and below 1")
        valid = math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0
        _check(valid, "repetition_penalty", self.repetition_penalty, "above 0 (1 changes nothing)")
        _check(self.seed is None or 0 <= self.seed < 2**63, "seed", self.seed, "between 0 and 2**63 - 1")


def _check(condition: bool, name: str, value: object, right: str) -> None:
    if not condition:
        raise FathomError(f"sampling: {name} = {value!r} cannot be used: it must be {right}")


class Sampler:
    """Chooses one token a row and step for a batch whose rows may all have different settings."""

    def __init__(self, settings: Sequence[Sampling], prompts: Sequence[Sequence[int]], vocab_size: int) -> None:
        self.settings = list(settings)
        self.greedy = all(s.temperature == 0 for s in settings)
        self._generators = [_generator(s.seed) for s in settings]
        self._draws_BN = torch.empty(len(self.settings), 0, dtype=torch.float64)
        self._next_draw = 0
        self._seen_BV = self._prompt_tokens(prompts, vocab_size)
        self._tables()

    def pick(self, logits_BV: Tensor) -> Tensor:
        """The next token of each row, tokens_B (int64, on the CPU)."""
        if self.greedy and self._seen_BV is None:
            return logits_BV.argmax(-1).cpu()
        logits_BV = logits_BV.float().cpu()
        if self._seen_BV is not None:
            punished_BV = torch.where(logits_BV > 0, logits_BV / self._penalty_B1, logits_BV * self._penalty_B1)
            logits_BV = torch.where(self._seen_BV, punished_BV, logits_BV)
        tokens_B = logits_BV.argmax(-1)
        if not self.greedy:
            tokens_B = torch.where(self._is_greedy_B, tokens_B, self._draw(logits_BV))
        if self._seen_BV is not None:
            self._seen_BV[torch.arange(len(tokens_B)), tokens_B] = True
        return tokens_B

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only (indices in the order wanted)."""
        chosen = rows.tolist()
        self.settings = [self.settings[row] for row in chosen]
        self._generators = [self._generators[row] for row in chosen]
        self._draws_BN = self._draws_BN[rows]
        self._seen_BV = None if self._seen_BV is None else self._seen_BV[rows]
        self.greedy = all(s.temperature == 0 for s in self.settings)
        self._tables()

    def _tables(self) -> None:
        """The rows' settings as columns, so that no step walks over rows in Python."""

        def column(name: str) -> Tensor:
            return torch.tensor([getattr(s, name) for s in self.settings], dtype=torch.float64)[:, None]

        self._is_greedy_B = column("temperature")[:, 0] == 0
        self._temperature_B1 = torch.where(column("temperature") == 0, 1.0, column("temperature"))
        self._top_p_B1, self._min_p_B1, self._penalty_B1 = (
            column("top_p"),
            column("min_p"),
            column("repetition_penalty").float(),
        )
        self._top_k_B1 = torch.where(column("top_k") == 0, math.inf, column("top_k"))
        self._filters_B1 = ~torch.isinf(self._top_k_B1) | (self._top_p_B1 < 1) | (self._min_p_B1 > 0)

    def _prompt_tokens(self, prompts: Sequence[Sequence[int]], vocab_size: int) -> Tensor | None:
        if all(s.repetition_penalty == 1 for s in self.settings):
            return None
        seen_BV = torch.zeros(len(self.settings), vocab_size, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            seen_BV[row, torch.tensor(prompt, dtype=torch.long)] = True
        return seen_BV

    def _uniform(self) -> Tensor:
        """One number in [0, 1) a row, from each row's own generator, uniform_B1."""
        if self._next_draw >= self._draws_BN.shape[1]:
            rows = [torch.rand(_DRAWS_AHEAD, generator=g, dtype=torch.float64) for g in self._generators]
            self._draws_BN, self._next_draw = torch.stack(rows), 0
        self._next_draw += 1
        return self._draws_BN[:, self._next_draw - 1 : self._next_draw]

    def _draw(self, logits_BV: Tensor) -> Tensor:
        probabilities_BV = torch.softmax(logits_BV.double() / self._temperature_B1, -1)
        uniform_B1 = self._uniform()
        vocab_size = probabilities_BV.shape[-1]
        top_BK, tokens_BK = probabilities_BV.topk(min(_SHORTLIST, vocab_size), dim=-1)
        index_B, certain_B = self._walk(top_BK, uniform_B1, slice(None), whole=top_BK.shape[1] == vocab_size)
        chosen_B = tokens_BK.gather(1, index_B[:, None])[:, 0]
        for row in (~certain_B & ~self._is_greedy_B).nonzero()[:, 0].tolist():
            whole_1V, order_1V = probabilities_BV[row : row + 1].sort(descending=True, stable=True)
            index_1, _ = self._walk(whole_1V, uniform_B1[row : row + 1], slice(row, row + 1), whole=True)
            chosen_B[row] = order_1V[0, index_1[0]]
        return chosen_B

    def _walk(self, sorted_BK: Tensor, uniform_B1: Tensor, rows: slice, *, whole: bool) -> tuple[Tensor, Tensor]:
        """Draw from each row's likeliest K tokens: index_B into them, and certain_B, True where no token beyond K
        matters.
        """
        kept_BK, exact_B = self._filtered(sorted_BK, rows)
        sums_BK = kept_BK.cumsum(-1)
        ended_B = exact_B & (kept_BK[:, -1] == 0)
        # a row that is not filtered has the mass 1 whether or not all of it is on the shortlist
        mass_B1 = torch.where((self._filters_B1[rows] | ended_B[:, None]) | torch.tensor(whole), sums_BK[:, -1:], 1.0)
        target_B1 = uniform_B1 * mass_B1
        index_B = torch.searchsorted(sums_BK, target_B1, right=True)[:, 0]
        index_B = torch.minimum(index_B, (kept_BK > 0).sum(-1) - 1)
        found_B = ~self._filters_B1[rows][:, 0] & (target_B1 < sums_BK[:, -1:])[:, 0]
        return index_B, ended_B | found_B | torch.tensor(whole)

    def _filtered(self, sorted_BK: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Probabilities with the filtered ones at 0, and exact_B: False where top-k reaches beyond the K given."""
        top_k_B1, top_p_B1 = self._top_k_B1[rows], self._top_p_B1[rows]
        kept_BK = torch.where(torch.arange(sorted_BK.shape[1]) < top_k_B1, sorted_BK, 0.0)
        # top-p counts shares of what top-k left; without top-k that is the whole distribution, whose sum is 1
        total_B1 = torch.where(torch.isinf(top_k_B1), 1.0, kept_BK.sum(-1, keepdim=True))
        before_BK = (kept_BK.cumsum(-1) - kept_BK) / total_B1
        likely_BK = ((before_BK < top_p_B1) | (top_p_B1 == 1)) & (kept_BK >= self._min_p_B1[rows] * kept_BK[:, :1])
        exact_B = (torch.isinf(top_k_B1) | (top_k_B1 <= sorted_BK.shape[1]))[:, 0]
        return torch.where(likely_BK, kept_BK, 0.0), exact_B


def _generator(seed: int | None) -> torch.Generator:
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    return generator
