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
GREEDY = Sampling()
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
    reused_tokens: int = 0  # of the prompt, taken from a `Memory`
    new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        return self.new_tokens / self.decode_seconds if self.decode_seconds else 0.0


@dataclass
class Memory:
    """What the engine keeps between the answers of one conversation: the tokens last read and their cache.

    A prompt that begins with the same tokens is read only from where it differs.
    """

    ids: list[int] = field(default_factory=list)
    cache: Cache | None = None

    def take(self, prompt: Sequence[int]) -> Cache | None:
        """The cache cut to what `prompt` has in common with it, its last token always left to read; None if nothing."""
        shared = next(
            (i for i, (a, b) in enumerate(zip(self.ids, prompt, strict=False)) if a != b),
            min(len(self.ids), len(prompt)),
        )
        shared = min(shared, len(prompt) - 1)
        if self.cache is None or shared < 1:
            return None
        self.cache.truncate(shared)
        return self.cache


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
        sampling: Sampling | Sequence[Sampling] = GREEDY,
        stop_ids: frozenset[int] | set[int] = frozenset(),
        timing: Timing | None = None,
    ) -> list[Answer]:
        """Answer all prompts at once, in their order; each answer is the one it would be alone.

        Raises `FathomError` for an empty prompt, an id outside the vocabulary, or a prompt that fills the context
        window.
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
        sampling: Sampling = GREEDY,
        stop_ids: frozenset[int] | set[int] = frozenset(),
        memory: Memory | None = None,
    ) -> Stream:
        """Answer one prompt, token by token; `memory` is read and kept up to date. Raises as `generate` does, at
        once.
        """
        batch = _Batch(self, [prompt], [sampling], max_new_tokens, stop_ids, Timing(), memory)

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
    memory: Memory | None = None
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
                    f"the prompt has {len(prompt)} tokens, but the model's context window holds "
                    f"{config.max_position_embeddings}, the answer included; shorten it"
                )

    def steps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (tokens, stopped) of the running rows after every step. Torch's inference mode is on only while it
        computes.
        """
        start = time.perf_counter()
        cache, logits_BV = self._prefill()
        sampler = Sampler(self.sampling, self.prompts, self.engine.config.vocab_size)
        rows_B = torch.arange(self.num_rows)
        running_B = torch.ones(self.num_rows, dtype=torch.bool)  # of the rows still in the batch
        self.timing.prefill_seconds = time.perf_counter() - start
        for step in range(self.out_BN.shape[1]):
            start = time.perf_counter()
            tokens_B = sampler.pick(logits_BV)
            stopped_B = torch.isin(tokens_B, self.stop_S)
            self._record(rows_B, running_B, tokens_B, stopped_B, step)
            self.timing.decode_seconds += time.perf_counter() - start
            yield tokens_B, stopped_B
            running_B = running_B & ~stopped_B & (step + 1 < self.limit_B[rows_B])
            num_running = int(running_B.sum())
            if num_running == 0:
                return
            start = time.perf_counter()
            if num_running <= len(rows_B) // 2:  # copies half the cache at the most, and halves the work from here on
                kept = running_B.nonzero()[:, 0]
                rows_B, tokens_B, running_B = rows_B[kept], tokens_B[kept], running_B[kept]
                cache.keep(kept.to(self.engine.device))
                sampler.keep(kept)
            logits_BV = self._step(tokens_B, cache)
            self.timing.decode_seconds += time.perf_counter() - start

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
        cache = self.memory.take(self.prompts[0]) if self.memory is not None else None
        cache = self._new_cache(longest) if cache is None else cache
        self.timing.prompt_tokens, self.timing.reused_tokens = sum(map(len, self.prompts)), cache.length
        padded = [[_PAD] * (longest - len(prompt)) + list(prompt[cache.length :]) for prompt in self.prompts]
        if self.memory is not None:
            self.memory.ids, self.memory.cache = list(self.prompts[0]), cache
        hidden_BTD = self.engine.decoder(torch.tensor(padded, device=self.engine.device), cache=cache)
        return cache, self.engine.decoder.logits(hidden_BTD[:, -1])

    def _new_cache(self, longest: int) -> Cache:
        padding_B = torch.tensor([longest - len(prompt) for prompt in self.prompts], device=self.engine.device)
        capacity = longest + min(self.out_BN.shape[1], 256)
        return Cache(self.engine.config.num_layers, padding_B=padding_B, capacity=capacity, device=self.engine.device)

    @torch.inference_mode()
    def _step(self, tokens_B: Tensor, cache: Cache) -> Tensor:
        if self.memory is not None:
            self.memory.ids.append(int(tokens_B[0]))
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
