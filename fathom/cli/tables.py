"""Tables of measurements, one column a model, for `fathom eval` and `fathom demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathom.ledger import show

if TYPE_CHECKING:
    from rich.table import Table


def problems_table(by_model: dict[str, dict[str, Any]]) -> Table:
    """Exact match by kind with its interval, the number asked, and the share of answers that were cut off."""
    table = _table("held-out problems", by_model)
    kinds = list(dict.fromkeys(kind for results in by_model.values() for kind in results["kinds"]))
    for kind in kinds:
        _row(table, kind, [_share(results["kinds"].get(kind)) for results in by_model.values()])
    _row(table, "all", [_share(results) for results in by_model.values()], style="bold")
    _row(table, "with worked steps", [show.share(results["with_steps"]) for results in by_model.values()])
    _row(table, "cut off", [f"{results['truncated']:.1%}" for results in by_model.values()])
    return table


def text_table(by_model: dict[str, dict[str, Any]]) -> Table:
    """Bits per byte by domain."""
    table = _table("held-out text, bits per byte", by_model)
    for domain in dict.fromkeys(domain for results in by_model.values() for domain in results["domains"]):
        _row(table, domain, [_bits(results["domains"].get(domain)) for results in by_model.values()])
    _row(table, "all", [_bits(results) for results in by_model.values()], style="bold")
    return table


def bill_table(bills: dict[str, dict[str, Any]]) -> Table:
    """What each run took, as its receipt says."""
    table = _table("what it took", bills)
    rows = {
        "tokens": lambda bill: f"{bill['tokens']:,}",
        "steps": lambda bill: f"{bill['steps']:,}",
        "FLOPs": lambda bill: show.scaled(bill["flops"]["total"], "FLOP"),
        "time": lambda bill: show.seconds(bill["seconds"]),
        "energy": lambda bill: show.joules(bill["joules"]),
        "dollars": lambda bill: show.usd(bill["usd"]),
    }
    for name, figure in rows.items():
        _row(table, name, [figure(bill) for bill in bills.values()])
    return table


def _table(title: str, by_model: dict[str, Any]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE)
    table.add_column(title)
    for name in by_model:
        table.add_column(Text(name), justify="right")
    return table


def _row(table: Table, name: str, cells: list[str], style: str | None = None) -> None:
    from rich.text import Text

    table.add_row(Text(name), *(Text(cell) for cell in cells), style=style)


def _share(part: dict[str, Any] | None) -> str:
    if part is None:
        return "-"
    return f"{show.share(part['accuracy'])} ({part['low']:.0%} to {part['high']:.0%}) of {part['total']}"


def _bits(part: dict[str, Any] | None) -> str:
    return "-" if part is None or part["bits_per_byte"] is None else show.loss(part["bits_per_byte"])
