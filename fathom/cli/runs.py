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

    table = Table("run", "purpose", "status", "started", "steps", "time", "energy", "dollars", box=box.SIMPLE)
    for line in lines:
        purpose, bill = show.PURPOSES.get(line["purpose"], line["purpose"]), show.usd(line["usd"])
        cells = [line["status"], line["started"][:16], f"{line['steps']:,}", show.seconds(line["seconds"])]
        table.add_row(Text(line["run"]), purpose, *cells, show.joules(line["joules"]), bill)
    Console(highlight=False).print(table)
