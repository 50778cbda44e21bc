"""`fathom train PATH... --budget 10min`: your text and a budget become a model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("paths", nargs=-1)
@click.option("--budget", default="", help="What may be spent in all: 10min, 2usd or 0.05kWh (default 10min).")
@click.option("--from", "start_from", default="", help="Go on from a model: smollm2, hf:ORG/NAME, a folder, a run.")
@click.option("--recipe", default="", help="A recipe's name or TOML file, instead of the budget's choice.")
@click.option("--set", "sets", multiple=True, metavar="SECTION.KEY=VALUE", help="Override any key of the recipe.")
@click.option("--text-column", default="", help="Column that holds the text (default: text); a dotted path if nested.")
@click.option("--size", default="", help="A shape instead of the budget's choice: tiny, small, medium, large, xlarge.")
@click.option("--name", default="", help="The run's name (default: told from the request).")
@click.option("--runs", type=click.Path(path_type=Path), help="The workspace (default: FATHOM_RUNS, else ./runs).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(as_json: bool, runs: Path | None, text_column: str, **asked: Any) -> None:
    """Train a model on PATHS: files and folders of text, Markdown, code, JSONL or Parquet, hf:NAME, builtin:stdlib.

    The same command again continues a run that was interrupted, exactly.
    """
    started = _process_start()
    from fathom.audit.report import write_report
    from fathom.cli.train_display import TrainDisplay, outcome_document, print_outcome
    from fathom.ledger.workspace import workspace_dir
    from fathom.train.job import carry_out
    from fathom.train.parallel import Parallel
    from fathom.train.request import Request

    asked["paths"], asked["sets"] = list(asked["paths"]), list(asked["sets"])
    if text_column:
        asked["sets"].append(f"data.text_column={json.dumps(text_column)}")  # a string, even where it reads as a number
    request = Request(**asked, runs=workspace_dir(runs))
    parallel = Parallel.from_environment()
    with TrainDisplay(quiet=not parallel.writes) as display:
        outcome = carry_out(
            request,
            open_source=lambda spec: _open(spec, request.runs),
            display=display,
            started=started,
            parallel=parallel,
        )
    if parallel.writes:
        write_report(outcome.folder.path, runs=request.runs)
        document = outcome_document(outcome)
        if as_json:
            click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))
        else:
            print_outcome(document)
    parallel.close()


def _open(spec: str, runs: Path) -> Any:
    from fathom.cli.models import open_model
    from fathom.train.job import Source

    opened = open_model(spec, runs=runs)
    return Source(opened.decoder, opened.tokenizer, opened.name)


def _process_start() -> float:
    """When this process began, on the clock of time.monotonic: a budget counts from there, imports included."""
    import psutil

    return time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
