"""`fathom eval MODEL`: bits per byte on held-out text, exact match on held-out problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fathom.errors import FathomError

if TYPE_CHECKING:
    from fathom.cli.models import OpenedModel

DEFAULT_TEXT = "builtin:stdlib"  # for a model that is no run of ours
_SEQUENCE_LENGTH = 512  # for a model that is no run of ours: longer windows change bits per byte little and cost more


@click.command("eval")
@click.argument("model")
@click.option(
    "--problems",
    type=click.IntRange(0),
    help="How many held-out problems to ask (default: 420 if it learnt from problems).",
)
@click.option(
    "--text",
    "texts",
    multiple=True,
    metavar="PATH",
    help="Score what training on this text would hold out, instead of what the run held out (other models: "
    f"{DEFAULT_TEXT}).",
)
@click.option("--no-text", is_flag=True, help="Ask problems only.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Which held-out problems.")
@click.option("--max-tokens", type=click.IntRange(1), help="Longest answer to a problem.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="Precision of the weights.",
)
@click.option("--runs", type=click.Path(path_type=Path), help="The workspace (default: FATHOM_RUNS, else ./runs).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(model: str, as_json: bool, **asked: Any) -> None:
    """Measure MODEL: a run, a folder of transformers, a .gguf file, smollm2, or hf:ORG/NAME.

    A run's results are entered in its ledger, with what measuring took.
    """
    from fathom.cli.models import open_model
    from fathom.ledger.workspace import workspace_dir

    runs = workspace_dir(asked.pop("runs"))
    opened = open_model(model, runs=runs)
    document = {"model": opened.name, "source": opened.source, **_measured(opened, runs, asked)}
    if as_json:
        click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))
    else:
        print_document(document)


def _measured(opened: OpenedModel, runs: Path, asked: dict[str, Any]) -> dict[str, Any]:
    if opened.source["kind"] != "run":
        return {"entered": False, **_measure(opened, runs, asked, None)}
    from fathom.cli.measure import reopened_ledger

    with reopened_ledger(Path(opened.source["path"]), runs) as ledger:
        return {"entered": True, **_measure(opened, runs, asked, ledger)}


def _measure(opened: OpenedModel, runs: Path, asked: dict[str, Any], ledger: Any) -> dict[str, Any]:
    from fathom.cli.measure import DEFAULT_PROBLEMS, enter_problems, flops_of, score_text, solve_problems

    prepared, sequence_length, learnt_problems = _data(opened, runs, asked["texts"])
    total = asked["problems"] if asked["problems"] is not None else DEFAULT_PROBLEMS * learnt_problems
    if asked["no_text"] and not total:
        raise FathomError(
            "there is nothing to measure: --no-text leaves the text out and no problems are asked; give --problems N"
        )
    document: dict[str, Any] = {"text": None, "problems": None}
    if not asked["no_text"]:
        text = score_text(opened.decoder, prepared(), sequence_length, asked["dtype"])
        if ledger is not None:
            flops = flops_of(opened.config, text["tokens"], sequence_length)
            ledger.evaluation(name="held-out text", results=text, tokens=text["tokens"], flops=flops)
        document["text"] = text
    if total:
        solved = solve_problems(
            opened.decoder, opened.tokenizer, total=total, seed=asked["seed"], dtype=asked["dtype"],
            stop_ids=opened.stop_ids, max_new_tokens=asked["max_tokens"], progress=_progress,
        )  # fmt: skip
        if ledger is not None:
            enter_problems(ledger, opened.config, solved)
        document["problems"] = solved
    return document


def _data(opened: OpenedModel, runs: Path, texts: tuple[str, ...]) -> tuple[Any, int, bool]:
    """How to get the prepared data to score, the sequence length to score it at, and whether problems were learnt."""
    recipe = None
    if opened.source["kind"] == "run":
        from fathom.train.run_folder import RunFolder

        recipe = RunFolder(Path(opened.source["path"])).recipe()
    learnt = recipe is not None and any(path.startswith("builtin:problems") for path in recipe.request.paths)
    length = min(recipe.train.sequence_length if recipe else _SEQUENCE_LENGTH, opened.config.max_position_embeddings)

    def prepared() -> Path:
        if recipe is not None and not texts:
            from fathom.data.records import Manifest

            folder = Path(recipe.data.prepared)
            if Manifest.load(folder).digest != recipe.data.manifest_sha256:
                raise FathomError(
                    f"the data at {folder} is no longer what {opened.name} was trained on; name text with --text"
                )
            return folder
        return _prepare(opened, runs, list(texts) or [DEFAULT_TEXT])

    return prepared, length, learnt


def _prepare(opened: OpenedModel, runs: Path, texts: list[str]) -> Path:
    from fathom.data.manifest import prepare_cached

    click.echo(f"preparing {', '.join(texts)} with the model's tokenizer", err=True)
    return prepare_cached(texts, runs / ".prepared", tokenizer=opened.tokenizer)[1]


def _progress(done: int, total: int) -> None:
    click.echo(f"{done} of {total} problems answered", err=True)


def print_document(document: dict[str, Any]) -> None:
    """Both measurements as tables on stdout."""
    from rich.console import Console

    from fathom.cli.tables import problems_table, text_table

    console = Console(highlight=False)
    name = document["model"]
    if document["text"]:
        console.print(text_table({name: document["text"]}))
    if document["problems"]:
        console.print(problems_table({name: document["problems"]}))
        template = "with" if document["problems"]["template"] else "without"
        console.print(
            f"greedy answers, {template} the model's chat template; intervals are Wilson's at 95%", markup=False
        )
