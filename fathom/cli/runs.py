"""`fathom runs`: every run of the workspace, failed ones too."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--runs", type=click.Path(path_type=Path), help="The workspace (default: FATHOM_RUNS, else ./runs).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(runs: Path | None, as_json: bool) -> None:
    """List every run that was started in this workspace, in order, and what each took."""
    import json

    from fathom.ledger.programme import run_lines
    from fathom.ledger.workspace import workspace_dir

    lines = [line.as_dict() for line in run_lines(workspace_dir(runs))]
    if as_json:
        click.echo(json.dumps({"runs": lines}, ensure_ascii=False, allow_nan=False))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from fathom.ledger import show

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("run", overflow="fold", min_width=8)  # the one that gives way where a terminal is narrow
    for name in ("purpose", "status", "started"):
        table.add_column(name, no_wrap=True)
    for name in ("time", "energy", "dollars"):
        table.add_column(name, no_wrap=True, justify="right")
    rows = []
    for line in lines:
        joules, usd, started = line["joules"], line["usd"], line["started"][5:16].replace("T", " ")
        cells = [line["purpose"], line["status"], started, show.seconds(line["seconds"])]
        energy = f"{'~' if joules['low'] != joules['high'] else ''}{show.scaled(joules['likely'], 'J')}"
        dollars = "unknown" if usd["median"] is None else f"~${show.figure(show.round_up(usd['median']))}"
        rows.append([line["run"], *cells, energy, dollars])
    for column, texts in zip(table.columns[1:], list(zip(*rows, strict=True))[1:], strict=False):
        column.min_width = max(map(len, texts))
    for name, *cells in rows:
        table.add_row(Text(name), *cells)
    console = Console(highlight=False)
    console.print(table)
    console.print("~ the middle of an interval, modelled; fathom receipt RUN says how wide it is and why")
