"""The live display of `fathom train` on stderr, and what it prints at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from fathom.ledger import show
from fathom.ledger.dollars import dollars
from fathom.ledger.machine import billed_devices
from fathom.train.job import Display

if TYPE_CHECKING:
    from fathom.train.job import Outcome
    from fathom.train.loop import Progress as TrainingProgress
    from fathom.train.machine import MachineSpeed

_PLAIN_SECONDS = 10.0  # without a terminal: one line this often


class TrainDisplay(Display):
    """One live line: step, loss, tokens/s, share of the measured peak, joules and dollars so far, time left."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
        )
        self.live = Live(self.bar, console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self.task: Any = None
        self.billed = billed_devices()
        self.last_line = 0.0

    def __enter__(self) -> TrainDisplay:
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.live is not None:
            self.live.stop()

    def phase(self, text: str) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
        self.task = self.bar.add_task(text, total=None, figures="")
        if self.live is None:
            self.console.print(text, markup=False, soft_wrap=True)

    def preparing(self, stage: str, done: int, total: int | None) -> None:
        self.bar.update(
            self.task, total=total, completed=done, figures=f"{stage} {done:,}" + (f" of {total:,}" if total else "")
        )

    def training(self, now: TrainingProgress, speed: MachineSpeed) -> None:
        self.bar.update(self.task, total=now.total_steps, completed=now.step, figures=self._figures(now, speed))
        if self.live is None and (now.seconds - self.last_line >= _PLAIN_SECONDS or now.step == now.total_steps):
            self.last_line = now.seconds
            self.console.print(self._figures(now, speed), markup=False, soft_wrap=True)

    def _figures(self, now: TrainingProgress, speed: MachineSpeed) -> str:
        share = now.flops_per_second / speed.peak_flops_per_second
        parts = [
            f"step {now.step:,}",
            f"loss {now.loss:.3f}",
            f"{now.tokens_per_second:,.0f} tokens/s",
            f"{share:.0%} of peak",
            show.joules(now.joules.model_dump()),
            show.usd(dollars(self.billed, now.billed_seconds)),
            f"{show.seconds(now.seconds_left)} left",
        ]
        return " · ".join(parts)

    def evaluated(self, name: str, results: dict[str, Any]) -> None:
        if results["bits_per_byte"] is not None:
            scored = sum(domain["documents"] for domain in results["domains"].values())
            self.console.print(
                f"held-out, {name}: {results['bits_per_byte']:.4f} bits per byte (on {results['tokens']:,} tokens of "
                f"{scored} documents)",
                markup=False,
            )


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """Everything that `--json` prints."""
    from fathom.ledger.receipt import receipt

    before, after = outcome.before, outcome.after
    change = None
    if before and before["bits_per_byte"] and after["bits_per_byte"] is not None:
        change = after["bits_per_byte"] / before["bits_per_byte"] - 1
    return {
        "run": outcome.folder.path.name,
        "folder": str(outcome.folder.path),
        "resumed": outcome.resumed,
        "steps": outcome.result.steps,
        "seconds": outcome.seconds,
        "before": before,
        "after": after,
        "change": change,
        "bill": receipt(outcome.folder.path),
    }


def print_outcome(document: dict[str, Any]) -> None:
    """The end of the story for a person, on stdout."""
    console = Console(highlight=False)
    table = Table(show_header=True, box=None)
    table.add_column("held-out text")
    for column in ("before", "after", "change") if document["before"] else ("bits per byte",):
        table.add_column(column, justify="right")
    for domain, after in document["after"]["domains"].items():
        cells = [f"{after['bits_per_byte']:.4f}"]
        if document["before"]:
            before = document["before"]["domains"][domain]["bits_per_byte"]
            cells = [f"{before:.4f}", cells[0], f"{after['bits_per_byte'] / before - 1:+.1%}"]
        table.add_row(f"{domain} ({after['tokens']:,} tokens of {after['documents']} documents)", *cells)
    console.print(table)
    bill = document["bill"]
    console.print(
        f"{document['run']}: {document['steps']:,} steps, {bill['tokens']:,} tokens, {show.seconds(bill['seconds'])}, "
        f"{show.joules(bill['joules'])}, {show.usd(bill['usd'])}",
        markup=False,
    )
    console.print(
        f"fathom chat {document['run']} to talk to it; fathom receipt {document['run']} for the whole bill",
        markup=False,
    )
