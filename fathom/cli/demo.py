"""`fathom demo`: train a DeepSeek-style model and its LLaMA-style twin here, compare them, talk to the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fathom.cli.demo_job import Demo, Trained

DEFAULT_MINUTES = 14.0


@click.command("demo")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=1,
    show_default=True,
    help="Of the weights, the order of the data and the problems asked.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(1.0, 24 * 60.0),
    default=DEFAULT_MINUTES,
    show_default=True,
    help="For everything until the report.",
)
@click.option(
    "--problems",
    type=click.IntRange(8),
    default=420,
    show_default=True,
    help="How many never-seen problems each model answers.",
)
@click.option("--runs", type=click.Path(path_type=Path), help="The workspace (default: FATHOM_RUNS, else ./runs).")
@click.option("--no-chat", is_flag=True, help="Show five questions instead of opening a conversation.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(seed: int, minutes: float, problems: int, runs: Path | None, no_chat: bool, as_json: bool) -> None:
    """Gather the built-in data, train two models for the same time on it, and let both answer what they never saw."""
    from fathom.cli.demo_job import Demo, process_start
    from fathom.cli.train_display import TrainDisplay
    from fathom.ledger.workspace import workspace_dir

    demo = Demo(seed=seed, minutes=minutes, problems=problems, runs=workspace_dir(runs), started=process_start())
    with TrainDisplay() as display:
        document = demo.run(display)
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))
        return
    print_comparison(document)
    if no_chat or not (sys.stdin.isatty() and sys.stdout.isatty()):
        print_samples(document)
    else:
        talk(demo, demo.trained[0])


def print_comparison(document: dict[str, Any]) -> None:
    """Accuracy, bits per byte and the bills of both models, side by side, on stdout."""
    from rich.console import Console

    from fathom.cli.tables import bill_table, problems_table, text_table
    from fathom.ledger import show

    console = Console(highlight=False)
    models = document["models"]
    console.print(problems_table({name: model["problems"] for name, model in models.items()}))
    console.print(text_table({name: model["text"] for name, model in models.items()}))
    console.print(bill_table({name: model["bill"] for name, model in models.items()}))
    console.print(f"{show.seconds(document['seconds'])} in all; the report: {document['report']}", markup=False)


def print_samples(document: dict[str, Any]) -> None:
    """Five questions of different kinds with the first model's thinking, dimmed, and its answers."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    name, model = next(iter(document["models"].items()))
    console.print(f"\nFive questions to {name}, with its thinking", style="bold", markup=False)
    for sample in model["problems"]["samples"][:5]:
        console.print(Text(f"\n> {sample['question']}"))
        console.print(Text(sample["thinking"], style="dim"))
        verdict = "right" if sample["correct"] else f"wrong, it is {sample['expected']}"
        console.print(Text(f"{sample['answer']}   ({verdict})"))
    console.print(f"\nfathom chat {name} to go on asking", markup=False)


def talk(demo: Demo, trained: Trained) -> None:
    """A conversation with the model just trained, in this terminal."""
    from fathom.cli.chat import DEFAULT_MAX_TOKENS
    from fathom.cli.chat_session import Conversation
    from fathom.cli.chat_terminal import Terminal
    from fathom.cli.models import open_model
    from fathom.infer.engine import Engine
    from fathom.infer.weights import choose_dtype

    opened = open_model(str(trained.folder), runs=demo.runs)
    conversation = Conversation(opened, Engine(opened.decoder, dtype=choose_dtype("auto")))
    click.echo(f"Ask {opened.name} something like: {trained.problems['samples'][0]['question']}")
    Terminal(conversation, sampling=opened.sampling_with(), max_tokens=DEFAULT_MAX_TOKENS, stop=()).run()
