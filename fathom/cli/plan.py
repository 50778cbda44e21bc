"""`fathom plan`: what would this training run, or this service, take?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

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
@click.option("--date", help="Prices of that day, as 2024-12-27; left out, the newest on file.")
@click.option("--chart", type=click.Path(path_type=Path), help="Also draw it: a .svg, .png or .pdf file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(file: Path | None, chart: Path | None, as_json: bool, **options: Any) -> None:
    """What would this training run take? FLOPs, memory, hours, energy, CO2, dollars, each with its interval.

    Give a FILE with the tables [model], [training], [cluster] and [serving], or the options; options override the file.
    """
    import json

    from fathom.cost.plan import Answer
    from fathom.cost.planfile import plan_from

    answer = Answer(plan_from(_tables(file, options)))
    if chart is not None:
        _draw(answer, chart)
    if as_json:
        click.echo(json.dumps(answer.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        _print(answer)


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

    if chart.suffix not in (".svg", ".png", ".pdf"):
        raise FathomError(f"--chart {chart} must end in .svg, .png or .pdf")
    if not chart.parent.is_dir():
        raise FathomError(f"--chart {chart} cannot be written: the folder {chart.parent} does not exist")
    draw_plan(answer, chart)


def _print(answer: Answer) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    document = answer.to_dict()
    _print_question(console, document)
    if document["feasible"]["fits"]:
        _print_takes(console, document)
        _print_memory(console, document)
        _print_levers(console, document)
        _print_alternative(console, document["compute_optimal"])
    else:
        console.print(f"[bold red]This cannot run:[/] {document['feasible']['why_not']}. It has no price.")
        console.print(f"compute: {document['flops']['value']:.3g} FLOP ({_components(document)})")
    _print_regulators(console, document["regulators"])
    _print_serving(console, document["serving"])
    for note in document["notes"]:
        console.print(f"note: {note}", markup=False)


def _print_question(console: Console, d: dict[str, Any]) -> None:
    model, training, cluster = d["model"], d["training"], d["cluster"]
    assumed = " (as runs of this much work use)" if cluster["count_assumed"] else ""
    console.print(f"[bold]{model['name'] or 'A model'}[/]: {_short(model['total_parameters'])} parameters, "
                  f"{_short(model['active_parameters'])} active, {_short(training['tokens'])} tokens of "
                  f"{training['sequence_length']} positions in {training['precision']} on {cluster['count']} x "
                  f"{cluster['accelerator']}{assumed}")  # fmt: skip


def _print_takes(console: Console, d: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("takes", "median", "80% interval", "unit", box=None, pad_edge=False)
    table.add_row("compute", f"{d['flops']['value']:.3g}", "", "FLOP")
    for name, title in (("utilisation", "utilisation"), ("device_hours", "device-hours"), ("days", "time"),
                        ("energy_mwh", "energy"), ("co2_tonnes", "CO2"), ("cost_usd", "cost")):  # fmt: skip
        row = d[name]
        table.add_row(title, _short(row["median"]), f"{_short(row['low'])} to {_short(row['high'])}", row["unit"])
    console.print(table)
    console.print(f"FLOPs: {_components(d)}.")
    console.print(f"{d['dominates']}.", style="dim")


def _components(d: dict[str, Any]) -> str:
    """Shares of the FLOPs, the largest first; what is below half a percent is left to the JSON."""
    parts, total = d["flops_by_component"], d["flops"]["value"]
    named = sorted(((value / total, name.replace("_", " ")) for name, value in parts.items()), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in named if share >= 0.005)


def _print_memory(console: Console, d: dict[str, Any]) -> None:
    memory, step = d["memory"], d["step"]
    if not memory["per_device"]:
        console.print(f"Memory: {memory['why']}.")
        return
    parts = {name: value for name, value in memory["per_device"].items() if name != "unit"}
    words = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in parts.items())
    console.print(f"Memory a device: {sum(parts.values()) / 1e9:.1f} of {memory['available']['value'] / 1e9:.0f} GB "
                  f"({words}) as {memory['layout']}; {memory['layouts_that_fit_count']} layouts fit")  # fmt: skip
    sent = ", ".join(
        f"{kind} {row['bytes_a_device'] / 1e9:.1f} GB" for kind, row in step["communication"].items()
        if row["bytes_a_device"]
    )  # fmt: skip
    console.print(f"Sent by a device in a step of {_short(step['tokens'])} tokens: {sent or 'nothing'}")


def _print_levers(console: Console, d: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table("what would change the cost", "from", "to", "US dollars", box=None, pad_edge=False)
    for lever in d["tornado"]:
        low, high = lever["usd"]
        table.add_row(lever["what"], lever["from"], lever["to"], f"{_short(low)} to {_short(high)}")
    console.print(table)


def _print_alternative(console: Console, optimal: dict[str, Any]) -> None:
    size = _short(optimal["parameters"]["value"])
    console.print(f"For the same money a dense model of {size} parameters sees "
                  f"{_short(optimal['tokens']['value'])} tokens: loss {optimal['loss']['value']:.3f}, as planned "
                  f"{optimal['loss_as_planned']['value']:.3f} nats a token (a law of dense models)")  # fmt: skip


def _print_regulators(console: Console, regulators: dict[str, Any]) -> None:
    ways = []
    for name, title in (("hardware_way", "N L H U"), ("architecture_way", "6 P D")):
        way = regulators[name]
        ways.append(f"{title} {way['value']:.3g} ({way['low']:.3g} to {way['high']:.3g}) FLOP")
    console.print(f"As EU regulators count, with their margin of 30%: {'; '.join(ways)}")
    for flag in regulators["counted"]["thresholds"]:
        state = "passes" if flag["passed"] else "stays below"
        doubt = ", within the margin of 30%" if flag["within_margin"] else ""
        if flag["passed"] or flag["within_margin"]:
            console.print(f"{state} {flag['threshold_flop']:.0e} FLOP{doubt}: {flag['rule']}")


def _print_serving(console: Console, serving: dict[str, Any] | None) -> None:
    if serving is None:
        return
    if "why" in serving:
        console.print(f"Serving: {serving['why']}")
        return
    rate, dollars = serving["decode_tokens_per_second"], serving["usd_per_million_tokens"]
    prefill, published = serving["prefill_tokens_per_second"], serving["kv_bytes_per_token_as_published"]
    kept = f" ({_short(published['value'])} in its maker's widths)" if published else ""
    console.print(f"Served in {serving['precision']} by {serving['devices']} x {serving['accelerator']} at "
                  f"{serving['context']} positions, by the roofline: "
                  f"{_short(serving['kv_bytes_per_token']['value'])} bytes of cache a token in 16 bits{kept}, prefill "
                  f"{_short(prefill['low'])} to {_short(prefill['high'])} tokens/s a device "
                  f"({serving['prefill_tokens_per_second_limit']['method']}), decoding "
                  f"{_short(rate['low'])} to {_short(rate['high'])} tokens/s a device "
                  f"({serving['decode_tokens_per_second_limit']['method']}), "
                  f"${dollars['median']:.2f} (${dollars['low']:.2f} to ${dollars['high']:.2f}) a million")  # fmt: skip
    if serving["at_load"]:
        load = serving["at_load"]
        devices, cost = load["devices"], load["usd_per_million_tokens"]
        spread = f"{_short(devices['low'])} to {_short(devices['high'])}"
        asked = _short(load["tokens_per_second"])
        console.print(
            f"For {asked} tokens/s: {_short(devices['median'])} devices ({spread}), ${cost['median']:.2f} a million"
        )


def _short(value: float) -> str:
    """Three digits with a letter for the power of a thousand."""
    for limit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if letter == 'k' else limit):.3g}{letter}"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
