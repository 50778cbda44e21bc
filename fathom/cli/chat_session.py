"""A conversation with a model: history, the context window, and what every answer took. No terminal here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fathom.cli.models import OpenedModel
from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.infer.engine import Engine, Memory, Stream
    from fathom.infer.sampling import Sampling

Part = Literal["thinking", "answer"]
_OPEN, _CLOSE = "<think>", "</think>"


class ThinkingSplitter:
    """Sorts streamed text into thinking, which stands between tags at its beginning, and the answer after it."""

    def __init__(self, *, inside: bool = False) -> None:
        """`inside`: the prompt already opened the thinking, as some templates do."""
        self._state: Literal["start", "thinking", "answer"] = "thinking" if inside else "start"
        self._held = ""

    def push(self, text: str, *, ended: bool = False) -> list[tuple[Part, str]]:
        """The parts that are certain by now; a piece that could still become a tag is held back until `ended`."""
        self._held += text
        parts: list[tuple[Part, str]] = []
        while self._held:
            if self._state == "start":
                if self._undecided(self._held, _OPEN) and not ended:
                    break
                opened = self._held.startswith(_OPEN)
                self._held = self._held.removeprefix(_OPEN)
                self._state = "thinking" if opened else "answer"
            elif self._state == "thinking":
                if not self._think(parts, ended):
                    break
            else:
                parts.append(("answer", self._held))
                self._held = ""
        return parts

    def _think(self, parts: list[tuple[Part, str]], ended: bool) -> bool:
        """Pass on what is certainly thinking; False where more text is needed first."""
        thought, tag, rest = self._held.partition(_CLOSE)
        if tag:
            self._held, self._state = rest, "answer"
        else:
            cut = next((n for n in range(len(_CLOSE) - 1, 0, -1) if self._held.endswith(_CLOSE[:n])), 0)
            kept = 0 if ended else cut
            thought, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
        if thought:
            parts.append(("thinking", thought))
        return bool(tag)

    @staticmethod
    def _undecided(text: str, tag: str) -> bool:
        return len(text) < len(tag) and tag.startswith(text)


@dataclass
class Turn:
    """One answer and what it took. Complete once its stream has ended."""

    question: str
    thinking: str = ""
    answer: str = ""
    finish_reason: str = "interrupted"  # until it ends by itself: stop, length or context
    prompt_tokens: int = 0
    reused_tokens: int = 0
    new_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    joules: dict[str, Any] = field(default_factory=dict)
    usd: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return self.prefill_seconds + self.decode_seconds

    @property
    def tokens_per_second(self) -> float | None:
        return self.new_tokens / self.decode_seconds if self.decode_seconds else None


class Conversation:
    """Questions and answers with one model. A question that cannot be asked leaves the history as it was."""

    def __init__(self, model: OpenedModel, engine: Engine, *, system: str | None = None, raw: bool = False) -> None:
        """`raw`: no chat template; each question is a text to be continued, on its own."""
        from fathom.data.token_bytes import token_bytes
        from fathom.infer.engine import Memory
        from fathom.ledger.meters import Meter

        self.model, self.engine, self.raw = model, engine, raw
        self.system = system
        self.history: list[dict[str, str]] = []
        self.turns: list[Turn] = []
        self._bytes_of: Callable[[int], bytes] = token_bytes(model.tokenizer)
        self._memory: Memory = Memory()
        self._meter = Meter().start()

    def clear(self) -> None:
        """Forget what was said; the system prompt and the statistics stay."""
        self.history.clear()

    def ask(
        self, question: str, *, sampling: Sampling, max_new_tokens: int, stop: Sequence[str] = ()
    ) -> Generator[tuple[Part, str]]:
        """Answer piece by piece. Stopping to iterate ends the answer; what came until then stays in the history.

        Raises `FathomError` before the first piece where the conversation no longer fits into the context window.
        """
        messages = [*self.history, {"role": "user", "content": question}]
        prompt = self._prompt(messages)
        self._check_window(prompt)
        stream = self.engine.stream(
            prompt, max_new_tokens=max_new_tokens, sampling=sampling, stop_ids=self.model.stop_ids, memory=self._memory
        )
        turn = Turn(question)
        before, start = self._meter.read(), self._meter.seconds
        try:
            yield from self._pieces(stream, turn, stop, prompt)
        finally:
            self._close(turn, stream, before, start)
            self.history = [*messages, _answered(turn)]

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        from fathom.data.chat import render

        tokenizer = self.model.tokenizer
        if self.raw:
            start = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
            return start + tokenizer.encode(messages[-1]["content"])
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return render(tokenizer, [*system, *messages], True).ids

    def _check_window(self, prompt: list[int]) -> None:
        window = self.model.config.max_position_embeddings
        if not prompt:
            raise FathomError("the prompt is empty; give the model at least one character to go on from")
        if len(prompt) >= window:
            advice = "start anew with /clear, or ask something shorter" if self.history else "ask something shorter"
            raise FathomError(
                f"the conversation has {len(prompt)} tokens and this model's context window holds {window}, "
                f"answer included: {advice}"
            )

    def _pieces(self, stream: Stream, turn: Turn, stop: Sequence[str], prompt: list[int]) -> Iterator[tuple[Part, str]]:
        from fathom.infer.text import TextStream

        text = TextStream(self._bytes_of, stop)
        tail = self.model.tokenizer.decode(prompt[-8:])
        splitter = ThinkingSplitter(inside=not self.raw and tail.rstrip().endswith(_OPEN))
        for piece in text.pieces(stream):
            yield from self._noted(turn, splitter.push(piece))
        yield from self._noted(turn, splitter.push("", ended=True))
        turn.finish_reason = "stop" if text.stopped_by is not None else stream.finish_reason or "stop"

    @staticmethod
    def _noted(turn: Turn, parts: list[tuple[Part, str]]) -> Iterator[tuple[Part, str]]:
        for part, text in parts:
            if part == "thinking":
                turn.thinking += text
            else:
                turn.answer += text
            yield part, text

    def _close(self, turn: Turn, stream: Stream, before: Any, start: float) -> None:
        from fathom.ledger.dollars import dollars
        from fathom.ledger.machine import billed_devices
        from fathom.ledger.meters import difference

        timing = stream.timing
        turn.prompt_tokens, turn.reused_tokens, turn.new_tokens = (
            timing.prompt_tokens,
            timing.reused_tokens,
            timing.new_tokens,
        )
        turn.prefill_seconds, turn.decode_seconds = timing.prefill_seconds, timing.decode_seconds
        turn.joules = difference(self._meter.read(), before).model_dump()
        turn.usd = dollars(billed_devices(), self._meter.seconds - start)
        self.turns.append(turn)


def _answered(turn: Turn) -> dict[str, str]:
    message = {"role": "assistant", "content": turn.answer}
    return message | ({"reasoning_content": turn.thinking} if turn.thinking else {})
