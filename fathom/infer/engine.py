"""Answers from a decoder: one pass over the prompts, then one step a token for all rows at once.

Letters: B batch rows, T positions of the padded prompts, N most new tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from fathom.errors import FathomError
from fathom.infer.cache import Cache
from fathom.infer.sampling import Sampler, Sampling
from fathom.infer.weights import for_inference
from fathom.model.decoder import Decoder

FinishReason = Literal["stop", "length", "context"]
_PAD = 0  # any id of the vocabulary: padding is never attended to


@dataclass(frozen=True)
class Answer:
    """One prompt's new tokens, the stop token not among them.

    `finish_reason`: a stop token came, `max_new_tokens` were made, or the context window was full.
    """

    ids: list[int]
    finish_reason: FinishReason


@dataclass
class Timing:
    """What one call of the engine took; filled in while it runs."""

    prompt_tokens: int = 0
    new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        return self.new_tokens / self.decode_seconds if self.decode_seconds else 0.0


@dataclass
class Stream:
    """The tokens of one answer as they come. `finish_reason` is known when the iterator is exhausted."""

    tokens: Iterator[int]
    timing: Timing
    finish_reason: FinishReason | None = None

    def __iter__(self) -> Iterator[int]:
        return self.tokens


class Engine:
    """Generates with a decoder whose weights it holds in `dtype`.

    The decoder that is passed in is never changed: with another dtype than its own, the engine makes its own copy.
    """

    def __init__(self, decoder: Decoder, *, dtype: torch.dtype = torch.float32) -> None:
        self.decoder = for_inference(decoder, dtype)
        self.config = decoder.config
        self.device = next(self.decoder.parameters()).device

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        sampling: Sampling | Sequence[Sampling] = Sampling(),
        stop_ids: frozenset[int] | set[int] = frozenset(),
        timing: Timing | None = None,
    ) -> list[Answer]:
        """Answer all prompts at once, in their order; each answer is the one it would be alone.

        Raises `FathomError` for an empty prompt, an id outside the vocabulary, or a prompt that fills the context window.
        """
        if not prompts:
            return []
        batch = _Batch(self, prompts, _per_row(sampling, len(prompts)), max_new_tokens, stop_ids, timing or Timing())
        for _ in batch.steps():
            pass
        return batch.answers()

    def stream(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        sampling: Sampling = Sampling(),
        stop_ids: frozenset[int] | set[int] = frozenset(),
    ) -> Stream:
        """Answer one prompt, token by token. Raises as `generate` does, before the first token."""
        batch = _Batch(self, [prompt], [sampling], max_new_tokens, stop_ids, Timing())

        def tokens() -> Iterator[int]:
            for token_1, stopped_1 in batch.steps():
                if not stopped_1[0]:
                    yield int(token_1[0])
            stream.finish_reason = batch.answers()[0].finish_reason

        stream = Stream(tokens(), batch.timing)
        return stream


@dataclass
class _Batch:
    """One call's state: what every row has produced, and which rows still run."""

    engine: Engine
    prompts: Sequence[Sequence[int]]
    sampling: Sequence[Sampling]
    max_new_tokens: int
    stop_ids: frozenset[int] | set[int]
    timing: Timing
    lengths_B: Tensor = field(init=False)  # new tokens of each row, of all rows
    out_BN: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._check()
        self.num_rows = len(self.prompts)
        window = self.engine.config.max_position_embeddings
        self.room_B = torch.tensor([window - len(prompt) for prompt in self.prompts])
        self.limit_B = self.room_B.clamp_max(self.max_new_tokens)
        self.out_BN = torch.zeros(self.num_rows, int(self.limit_B.max()), dtype=torch.long)
        self.lengths_B = torch.zeros(self.num_rows, dtype=torch.long)
        self.stopped_B = torch.zeros(self.num_rows, dtype=torch.bool)
        self.stop_S = torch.tensor(sorted(self.stop_ids), dtype=torch.long)

    def _check(self) -> None:
        config = self.engine.config
        if self.max_new_tokens < 1:
            raise FathomError(f"max_new_tokens is {self.max_new_tokens}; at least 1 is needed")
        for prompt in self.prompts:
            if not prompt:
                raise FathomError("the prompt is empty; at least one token is needed")
            if not 0 <= min(prompt) <= max(prompt) < config.vocab_size:
                raise FathomError(f"the prompt has a token id outside the vocabulary of {config.vocab_size}")
            if len(prompt) >= config.max_position_embeddings:
                raise FathomError(
                    f"the prompt has {len(prompt)} tokens, but the model's context window holds {config.max_position_embeddings}, the answer included; shorten it"
                )

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens, stopped) of the running rows after every step. Torch's inference mode is on only while it computes."""
        start = time.perf_counter()
        cache, logits_BV = self._prefill()
        sampler = Sampler(self.sampling, self.prompts, self.engine.config.vocab_size)
        self.timing.prompt_tokens = sum(len(prompt) for prompt in self.prompts)
        rows_B = torch.arange(self.num_rows)
        running_B = torch.ones(self.num_rows, dtype=torch.bool)  # of the rows still in the batch
        self.timing.prefill_seconds = time.perf_counter() - start
        for step in range(self.out_BN.shape[1]):
            start = time.perf_counter()
            if step:
                logits_BV = self._step(tokens_B, cache)  # noqa: F821 - set by the step before
            tokens_B = sampler.pick(logits_BV)
            stopped_B = torch.isin(tokens_B, self.stop_S)
            self._record(rows_B, running_B, tokens_B, stopped_B, step)
            self.timing.decode_seconds += time.perf_counter() - start
            yield tokens_B, stopped_B
            running_B = running_B & ~stopped_B & (step + 1 < self.limit_B[rows_B])
            num_running = int(running_B.sum())
            if num_running == 0:
                return
            if num_running <= len(rows_B) // 2:  # a copy of half the cache at the most, and half the work from here on
                kept = running_B.nonzero()[:, 0]
                rows_B, tokens_B, running_B = rows_B[kept], tokens_B[kept], running_B[kept]
                cache.keep(kept.to(self.engine.device))
                sampler.keep(kept)

    def _record(self, rows_B: Tensor, running_B: Tensor, tokens_B: Tensor, stopped_B: Tensor, step: int) -> None:
        counted_B = running_B & ~stopped_B
        self.out_BN[rows_B[counted_B], step] = tokens_B[counted_B]
        self.lengths_B[rows_B[counted_B]] += 1
        self.stopped_B[rows_B[running_B & stopped_B]] = True
        self.timing.new_tokens += int(counted_B.sum())

    @torch.inference_mode()
    def _prefill(self) -> tuple[Cache, Tensor]:
        """Read all prompts in one pass, padded on the left; the logits of each row's first new token, logits_BV."""
        longest = max(len(prompt) for prompt in self.prompts)
        padded = [[_PAD] * (longest - len(prompt)) + list(prompt) for prompt in self.prompts]
        tokens_BT = torch.tensor(padded, device=self.engine.device)
        padding_B = torch.tensor([longest - len(prompt) for prompt in self.prompts], device=self.engine.device)
        capacity = longest + min(self.out_BN.shape[1], 256)
        cache = Cache(self.engine.config.num_layers, padding_B=padding_B, capacity=capacity, device=self.engine.device)
        hidden_BTD = self.engine.decoder(tokens_BT, cache=cache)
        return cache, self.engine.decoder.logits(hidden_BTD[:, -1])

    @torch.inference_mode()
    def _step(self, tokens_B: Tensor, cache: Cache) -> Tensor:
        hidden_B1D = self.engine.decoder(tokens_B[:, None].to(self.engine.device), cache=cache)
        return self.engine.decoder.logits(hidden_B1D[:, -1])

    def answers(self) -> list[Answer]:
        """What every row has so far, with the reason why it ended."""
        answers = []
        for row, (length, stopped) in enumerate(zip(self.lengths_B.tolist(), self.stopped_B.tolist(), strict=True)):
            full = length >= int(self.room_B[row]) and length < self.max_new_tokens
            reason: FinishReason = "stop" if stopped else "context" if full else "length"
            answers.append(Answer(self.out_BN[row, :length].tolist(), reason))
        return answers


def _per_row(sampling: Sampling | Sequence[Sampling], num_rows: int) -> list[Sampling]:
    rows = [sampling] * num_rows if isinstance(sampling, Sampling) else list(sampling)
    if len(rows) != num_rows:
        raise FathomError(f"{len(rows)} sampling settings were given for {num_rows} prompts; give one, or one each")
    return rows
