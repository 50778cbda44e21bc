"""`fathom plan`: what would this training run, or this service, take?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fathom.cost.plan import Answer

# option -> (table of the plan file, key)
OPTIONS = {
    "model": ("model", "name"), "total_parameters": ("model", "total_parameters"),
    "active_parameters": ("model", "active_parameters"), "tokens": ("training", "tokens"),
    "sequence_length": ("training", "sequence_length"), "precision": ("training", "precision"),
    "batch_tokens": ("training", "batch_tokens"), "optimizer": ("training", "optimizer"),
    "date": ("training", "date"), "accelerator": ("cluster", "accelerator"), "count": ("cluster", "count"),
    "context": ("serving", "context"), "load": ("serving", "tokens_per_second"),
}  # fmt: skip


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--model", help="A known model, as deepseek-v3 or llama-3-70b.")
@click.option("--total-parameters", type=float, help="Size of a model that is not known by name.")
@click.option("--active-parameters", type=float, help="Parameters that one token uses (of a mixture of experts).")
@click.option("--tokens", type=float, help="Training tokens, as 14.8e12.")
@click.option("--accelerator", help="Device, as h800, a100, tpu-v4, cpu-epyc-genoa.")
@click.option("--count", type=float, help="Devices; left out, as many as runs of this much work use.")
@click.option("--sequence-length", type=float, help="Positions of a training sequence.")
@click.option("--precision", help="Arithmetic of the training: bf16, fp8, ...")
@click.option("--batch-tokens", type=float, help="Tokens of one optimizer step.")
@click.option("--optimizer", help="adamw, muon or sgd: what the memory must hold.")
@click.option("--context", type=float, help="Positions in the cache when serving.")
@click.option("--load", type=float, help="Tokens a second that the service must decode.")
@click.option("--date", help="Prices of that day, as 2024-12-27; left out, those around the newest on file.")
@click.option("--chart", type=click.Path(path_type=Path), help="Also draw it: a .svg, .png or .pdf file.")
@click.option("--list", "listing", is_flag=True, help="The models and accelerators that are known by name.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(file: Path | None, chart: Path | None, listing: bool, as_json: bool, **options: Any) -> None:
    """What would this training run take? FLOPs, memory, hours, energy, CO2, dollars, each with its interval.

    Give a FILE with the tables [model], [training], [cluster] and [serving], or the options; options override the file.
    """
    import json

    if listing:
        _list(as_json)
        return
    from fathom.cli.plan_text import print_plan
    from fathom.cost.plan import Answer
    from fathom.cost.planfile import plan_from

    answer = Answer(plan_from(_tables(file, options)))
    if chart is not None:
        _draw(answer, chart)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        print_plan(answer.to_dict())


def _list(as_json: bool) -> None:
    import json

    from fathom.cli.plan_text import print_list
    from fathom.cost.planlist import known

    if as_json:
        click.echo(json.dumps(known(), ensure_ascii=False, allow_nan=False))
    else:
        print_list(known())


def _tables(file: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    from fathom.cost.planfile import read_tables
    from fathom.errors import FathomError

    given = {name: value for name, value in options.items() if value is not None}
    if file is None and not given:
        raise FathomError(
            "nothing to plan: give a TOML file, or options as in: fathom plan --model deepseek-v3 --tokens 14.8e12 "
            "--accelerator h800 --count 2048"
        )
    tables = dict(read_tables(file)) if file is not None else {}
    for name, value in given.items():
        table, key = OPTIONS[name]
        tables[table] = {**tables.get(table, {}), key: value}
    return tables


def _draw(answer: Answer, chart: Path) -> None:
    from fathom.cost.charts import draw_plan
    from fathom.errors import FathomError

    if answer.plan.run is None:
        raise FathomError(f"--chart {chart} draws a training run: give [training] tokens")
    if chart.suffix not in (".svg", ".png", ".pdf"):
        raise FathomError(f"--chart {chart} must end in .svg, .png or .pdf")
    if not chart.parent.is_dir():
        raise FathomError(f"--chart {chart} cannot be written: the folder {chart.parent} does not exist")
    draw_plan(answer, chart)
