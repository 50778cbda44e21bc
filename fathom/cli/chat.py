"""`fathom chat MODEL`: talk to a model in the terminal, or get one answer with `--prompt`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.cli.chat_session import Conversation, Turn
    from fathom.cli.models import OpenedModel

DEFAULT_MAX_TOKENS = 1024


@click.command("chat")
@click.argument("model")
@click.option("--prompt", metavar="TEXT", help="Ask this and print the answer alone; '-' reads it from standard input.")
@click.option("--system", metavar="TEXT", help="System prompt (default: the model's own, if its template has one).")
@click.option("--temperature", type=float, help="0 is greedy (default: the model's own setting).")
@click.option("--top-p", type=float, help="Keep the likeliest tokens that together have this probability.")
@click.option("--top-k", type=int, help="Keep this many of the likeliest tokens; 0 keeps all.")
@click.option("--min-p", type=float, help="Keep tokens with at least this share of the likeliest one's probability.")
@click.option("--repetition-penalty", type=float, help="Above 1 makes tokens that already occurred less likely.")
@click.option("--seed", type=int, help="Same seed, same answer.")
@click.option(
    "--max-tokens", type=click.IntRange(1), default=DEFAULT_MAX_TOKENS, show_default=True, help="Longest answer."
)
@click.option(
    "--stop", multiple=True, metavar="TEXT", help="End the answer before this text; may be given several times."
)
@click.option("--raw", is_flag=True, help="No chat template: go on from the text as it is.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Precision of the weights.",
)
@click.option(
    "--runs", metavar="DIR", help="Workspace in which a run's name is looked up (default: runs, or FATHOM_RUNS)."
)
@click.option(
    "--json", "as_json", is_flag=True, help="With --prompt: one JSON document with the answer and what it took."
)
def command(
    model: str, prompt: str | None, as_json: bool, max_tokens: int, stop: tuple[str, ...], **options: Any
) -> None:
    """Talk to MODEL: a run, a folder of transformers, a .gguf file, smollm2, or hf:ORG/NAME."""
    if as_json and prompt is None:
        raise click.UsageError("--json needs --prompt: a conversation is no single document")
    if prompt == "-":
        prompt = _standard_input()
    conversation, opened = _open(model, options)
    settings = {key: options[key] for key in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")}
    sampling = opened.sampling_with(**settings)
    if prompt is None:
        from fathom.cli.chat_terminal import Terminal

        Terminal(conversation, sampling=sampling, max_tokens=max_tokens, stop=stop).run()
        return
    for part, piece in conversation.ask(prompt, sampling=sampling, max_new_tokens=max_tokens, stop=stop):
        if part == "answer" and not as_json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    _finish(conversation, opened, sampling, as_json)


def _standard_input() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8").rstrip("\n")
    except UnicodeDecodeError as error:
        raise FathomError(f"standard input is not valid UTF-8 (byte {error.start})") from error


def _open(model: str, options: dict[str, Any]) -> tuple[Conversation, OpenedModel]:
    from rich.console import Console

    with Console(stderr=True).status(f"opening {model}"):  # nothing where standard error is no terminal
        from fathom.cli.chat_session import Conversation
        from fathom.cli.models import open_model
        from fathom.infer.engine import Engine
        from fathom.infer.weights import choose_dtype

        opened = open_model(model, runs=options["runs"])
        engine = Engine(opened.decoder, dtype=choose_dtype(options["dtype"]))
    return Conversation(opened, engine, system=options["system"], raw=options["raw"]), opened


def _finish(conversation: Conversation, opened: OpenedModel, sampling: Any, as_json: bool) -> None:
    turn = conversation.turns[-1]
    if as_json:
        click.echo(json.dumps(document(turn, opened, sampling), ensure_ascii=False))
        return
    click.echo()
    if remark := why_it_ended(turn, opened):
        click.echo(f"fathom: {remark}", err=True)


def document(turn: Turn, opened: OpenedModel, sampling: Any) -> dict[str, Any]:
    """The one JSON document of `--prompt --json`."""
    import dataclasses

    return {
        "model": opened.name,
        "source": opened.source,
        **dataclasses.asdict(turn),
        "tokens_per_second": turn.tokens_per_second,
        "sampling": dataclasses.asdict(sampling),
    }


def why_it_ended(turn: Turn, opened: OpenedModel) -> str | None:
    """What to say where an answer did not end by itself."""
    if turn.finish_reason == "length":
        return f"the answer was cut after {turn.new_tokens} tokens, the limit set by --max-tokens"
    if turn.finish_reason == "context":
        window = opened.config.max_position_embeddings
        return f"the answer was cut: the model's context window of {window} tokens is full"
    return None
