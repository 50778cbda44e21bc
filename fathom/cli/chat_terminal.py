"""The conversation at the keyboard: a prompt, streamed answers with the thinking dimmed, and a few commands."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from fathom.cli.chat import why_it_ended
from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.cli.chat_session import Conversation, Turn

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"
HELP = """/help            this list
/stats           tokens per second, joules and dollars of this session
/clear           forget the conversation
/system TEXT     set the system prompt and start anew (no text: the model's own)
/quit            leave (so does Ctrl-D); Ctrl-C stops an answer, no more"""


class Terminal:
    """Reads questions line by line. From a pipe it prints the answers alone, one after the other."""

    def __init__(self, conversation: Conversation, *, sampling: Any, max_tokens: int, stop: Sequence[str]) -> None:
        self.conversation, self.sampling, self.max_tokens, self.stop = conversation, sampling, max_tokens, stop
        self.at_keyboard = sys.stdin.isatty() and sys.stdout.isatty()
        self.colour = sys.stdout.isatty()
        self.interrupts = _Interrupts()

    def run(self) -> None:
        """Until /quit or the end of the input."""
        if self.at_keyboard:
            opened = self.conversation.model
            click.echo(
                f"{opened.name}, a context of {opened.config.max_position_embeddings} tokens. /help lists the commands."
            )
        with self.interrupts if self.at_keyboard else contextlib.nullcontext():
            while (line := self._read()) is not None and line.strip() != "/quit":
                if line.strip():
                    self._answer_or_obey(line)

    def _read(self) -> str | None:
        """The next line, None at the end of the input. Ctrl-C at the prompt does not leave."""
        while True:
            try:
                if self.at_keyboard:
                    with self.interrupts.raised():
                        return input("\n> ")
                line = sys.stdin.readline()
                return line.rstrip("\n") if line else None
            except EOFError:
                return None
            except KeyboardInterrupt:
                if not self.at_keyboard:
                    raise
                click.echo("\n(/quit or Ctrl-D leaves)")
            except UnicodeDecodeError:
                click.echo("fathom: that line is not valid UTF-8 and was not asked", err=True)

    def _answer_or_obey(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._obey(line.strip())
            else:
                self._answer(line)
        except FathomError as error:  # the conversation goes on as it was before
            click.echo(f"fathom: {error}", err=True)

    def _obey(self, line: str) -> None:
        verb, _, argument = line.partition(" ")
        if verb == "/help":
            click.echo(HELP)
        elif verb == "/stats":
            click.echo(stats(self.conversation.turns))
        elif verb == "/clear":
            self.conversation.clear()
            click.echo("(forgotten)")
        elif verb == "/system":
            self.conversation.system = argument.strip() or None
            self.conversation.clear()
            click.echo("(system prompt set; the conversation starts anew)")
        else:
            click.echo(f"fathom: there is no command {verb}; /help lists them", err=True)

    def _answer(self, question: str) -> None:
        dimmed = False
        pieces = self.conversation.ask(question, sampling=self.sampling, max_new_tokens=self.max_tokens, stop=self.stop)
        self.interrupts.seen = False
        with contextlib.closing(pieces):
            for part, piece in pieces:
                if (part == "thinking") != dimmed:
                    dimmed = part == "thinking"
                    colour = (_DIM if dimmed else _PLAIN) if self.colour else ""
                    sys.stdout.write(colour if dimmed else f"{colour}\n")
                sys.stdout.write(piece)
                sys.stdout.flush()
                if self.interrupts.seen:
                    break
        sys.stdout.write((_PLAIN if dimmed and self.colour else "") + "\n")
        sys.stdout.flush()
        turn = self.conversation.turns[-1]
        if turn.finish_reason == "interrupted":
            click.echo("(stopped)", err=True)
        elif remark := why_it_ended(turn, self.conversation.model):
            click.echo(f"fathom: {remark}", err=True)


class _Interrupts:
    """Ctrl-C in a chat at a keyboard: KeyboardInterrupt at the prompt, and nowhere else, so that no computation and no
    message is torn apart; elsewhere it is only `seen`."""

    def __init__(self) -> None:
        self.seen = False
        self._raising = False

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, self._handle)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    @contextlib.contextmanager
    def raised(self) -> Iterator[None]:
        """While the line reader waits. One that the reader itself notices does not come through `_handle`."""
        try:
            self._raising = True
            yield
        finally:
            self._raising = False

    def _handle(self, *_: object) -> None:
        self.seen = True
        if self._raising:
            self._raising = False
            raise KeyboardInterrupt


def stats(turns: Sequence[Turn]) -> str:
    """What the last answer and the whole session took. Joules say how they were got."""
    if not turns:
        return "nothing was asked yet"
    last = turns[-1]
    speed = "" if last.tokens_per_second is None else f", {last.tokens_per_second:.1f} tokens/s"
    lines = [
        f"last answer: {last.prompt_tokens} tokens read ({last.reused_tokens} of them remembered) in "
        f"{last.prefill_seconds:.2f} s, "
        f"{last.new_tokens} written in {last.decode_seconds:.2f} s{speed}",
        f"last answer: {_joules([last])}, {_usd([last])}",
        f"session: {len(turns)} answers, {sum(t.new_tokens for t in turns)} tokens, "
        f"{sum(t.seconds for t in turns):.1f} s, {_joules(turns)}, {_usd(turns)}",
    ]
    return "\n".join(lines)


def _joules(turns: Sequence[Turn]) -> str:
    low, likely, high = (sum(turn.joules[key] for turn in turns) for key in ("low", "likely", "high"))
    method = turns[-1].joules["method"]
    return (
        f"{likely:.1f} J ({method})" if method == "counter" else f"{likely:.1f} J ({method}, {low:.1f} to {high:.1f})"
    )


def _usd(turns: Sequence[Turn]) -> str:
    if any(turn.usd["median"] is None for turn in turns):
        return f"no price ({turns[-1].usd['method']})"
    return f"${sum(turn.usd['median'] for turn in turns):.7f} (rental price)"
