"""The conversation at the keyboard: a prompt, streamed answers with the thinking dimmed, and a few commands."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
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

    def run(self) -> None:
        """Until /quit or the end of the input."""
        if self.at_keyboard:
            opened = self.conversation.model
            click.echo(
                f"{opened.name}, a context of {opened.config.max_position_embeddings} tokens. /help lists the commands."
            )
        while self._turn():
            pass

    def _turn(self) -> bool:
        """One line read and answered; False where it was the last. Ctrl-C between two answers does not leave."""
        try:
            line = self._read()
            if line is None or line.strip() == "/quit":
                return False
            if line.strip():
                self._answer_or_obey(line)
        except KeyboardInterrupt:
            if not self.at_keyboard:
                raise
            click.echo("\n(/quit or Ctrl-D leaves)")
        return True

    def _read(self) -> str | None:
        """The next line, None at the end of the input."""
        while True:
            try:
                if self.at_keyboard:
                    return input("\n> ")
                line = sys.stdin.readline()
                return line.rstrip("\n") if line else None
            except EOFError:
                return None
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
        with _interrupts() as interrupted, contextlib.closing(pieces):  # type: ignore[type-var]
            for part, piece in pieces:
                if (part == "thinking") != dimmed:
                    dimmed = part == "thinking"
                    colour = (_DIM if dimmed else _PLAIN) if self.colour else ""
                    sys.stdout.write(colour if dimmed else f"{colour}\n")
                sys.stdout.write(piece)
                sys.stdout.flush()
                if interrupted.is_set():
                    break
        sys.stdout.write((_PLAIN if dimmed and self.colour else "") + "\n")
        sys.stdout.flush()
        turn = self.conversation.turns[-1]
        if turn.finish_reason == "interrupted":
            click.echo("(stopped)", err=True)
        elif remark := why_it_ended(turn, self.conversation.model):
            click.echo(f"fathom: {remark}", err=True)


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """While an answer runs Ctrl-C only sets this event, so that no computation is torn apart."""
    event = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)


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
