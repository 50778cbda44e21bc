"""`fathom receipt RUN`: print a run's bill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@click.command()
@click.argument("run")
@click.option("--runs", type=click.Path(path_type=Path), help="The workspace (default: FATHOM_RUNS, else ./runs).")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(run: str, runs: Path | None, as_json: bool) -> None:
    """Print the bill of RUN (a name in the workspace or a run folder): data, FLOPs, seconds, joules, dollars."""
    import json

    from fathom.ledger.receipt import receipt
    from fathom.ledger.verify import verify
    from fathom.ledger.workspace import find_run

    folder, workspace = find_run(run, runs)
    bill, found = receipt(folder, workspace), verify(folder, workspace)
    if as_json:
        click.echo(json.dumps({**bill, "ledger": _ledger_state(found)}, ensure_ascii=False, allow_nan=False))
    else:
        _print(bill, found)


def _ledger_state(found: Any) -> dict[str, Any]:
    return {
        "holds": not found.problems,
        "problems": found.problems,
        "torn_bytes": found.torn_bytes,
        "checked": found.checked,
        "unchecked": found.unchecked,
    }


def _print(bill: dict[str, Any], found: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    console.print(f"Receipt of {bill['run']}", style="bold", markup=False)
    console.print(
        f"{bill['status']}, purpose: {bill['purpose']}, {bill['events']} events, {bill['head']}", markup=False
    )
    _print_data(console, bill["data"])
    _print_took(console, bill)
    _print_purposes(console, bill["by_purpose"], "By purpose")
    _print_warnings(console, bill, found)
    if bill["programme"]:
        _print_programme(console, bill["programme"])
    console.print(bill["rounding"], style="dim", markup=False)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE, title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position == 0 else "right", overflow="fold")
    return table


def _row(table: Table, *cells: str) -> None:
    """Add cells as they are: a source's name is nobody's markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells))


def _print_data(console: Console, data: dict[str, Any]) -> None:
    from fathom.ledger import show

    table = _table("Data", "source", "licence", "documents", "bytes", "dropped", "sha256")
    for source in data["sources"]:
        dropped = sum(source["dropped"].values())
        _row(
            table, source["name"], source["license"], f"{source['documents']:,}", show.size(source["bytes"]),
            f"{dropped:,}", source["sha256"].removeprefix("sha256:")[:12],
        )  # fmt: skip
    if data["sources"]:
        console.print(table)


def _print_took(console: Console, bill: dict[str, Any]) -> None:
    from fathom.ledger import show

    table = _table("What it took", "", "")
    for name, count in bill["flops"]["by_component"].items():
        _row(table, f"FLOPs, {name}", show.scaled(count, "FLOP"))
    _row(table, "FLOPs", show.scaled(bill["flops"]["total"], "FLOP"))
    _row(table, "FLOPs as regulators count", show.regulators(bill["regulators"]))
    _row(table, "tokens", f"{bill['tokens']:,} in {bill['steps']:,} steps")
    _row(table, "time", show.seconds(bill["seconds"]))
    _row(table, "energy", f"{show.joules(bill['joules'])} = {show.kwh(bill['joules'])}")
    _row(table, "dollars", show.usd(bill["usd"]))
    for line in show.prices(bill["usd"]):
        _row(table, "", line)
    if bill["routing"]:
        _row(table, "experts", show.routing(bill["routing"]))
    if bill["wasted"]["steps"]:
        wasted = bill["wasted"]
        _row(table, "of it redone", f"{wasted['steps']:,} steps, {show.seconds(wasted['seconds'])}")
    console.print(table)


def _print_purposes(console: Console, purposes: dict[str, Any], title: str) -> None:
    from fathom.ledger import show

    table = _table(title, "purpose", "FLOPs", "tokens", "time", "energy")
    for purpose, part in purposes.items():
        _row(
            table, show.PURPOSES.get(purpose, purpose), show.scaled(part["flops"]["total"], "FLOP"),
            f"{part['tokens']:,}", show.seconds(part["seconds"]), show.joules(part["joules"]),
        )  # fmt: skip
    console.print(table)


def _print_warnings(console: Console, bill: dict[str, Any], found: Any) -> None:
    from fathom.ledger import show

    for other, seconds in (bill["shared_metering"] or {}).items():
        console.print(
            f"Shared metering: {other} ran on this machine at the same time for {show.seconds(seconds)}; "
            "both bills hold the whole machine's energy and rent for it.",
            style="yellow", markup=False,
        )  # fmt: skip
    for problem in found.problems:
        console.print(f"The ledger does not hold: {problem}", style="red", markup=False)
    if found.torn_bytes:
        console.print(f"The last ledger line is torn ({found.torn_bytes} bytes), as a crash leaves it.", markup=False)


def _print_programme(console: Console, programme: dict[str, Any]) -> None:
    from fathom.ledger import show

    states = ", ".join(f"{count} {status}" for status, count in programme["by_status"].items())
    _print_purposes(
        console, programme["by_purpose"], f"The workspace, runs started: {programme['runs_started']} ({states})"
    )
    total = [show.scaled(programme["flops"]["total"], "FLOP"), show.seconds(programme["seconds"])]
    total += [show.joules(programme["joules"]), show.usd(programme["usd"])]
    console.print("Together: " + "; ".join(total), markup=False)
    if programme["shared_metering"]:
        console.print(
            f"Some of it is counted twice: {', '.join(programme['shared_metering'])} shared a meter.",
            style="yellow", markup=False,
        )  # fmt: skip
