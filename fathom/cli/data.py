"""`fathom data`: prepare, inspect, sample and describe training data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fathom.data.records import Manifest

_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@click.group(name="data")
def command() -> None:
    """Gather, clean, tokenize, inspect and describe training data."""


@command.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new or empty directory.")
@click.option(
    "--vocab-size",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    help="Tokens of the tokenizer to train.",
)
@click.option(
    "--tokenizer", "tokenizer_dir", type=click.Path(path_type=Path), help="Use the tokenizer of this folder instead."
)
@click.option(
    "--held-out", type=float, default=0.02, show_default=True, help="Share of the documents never trained on."
)
@click.option("--text-column", help="Column that holds the text, a dotted path for nested ones (default: text).")
@click.option("--license", "license_", help="Licence of the sources (default: what the rows say, else unknown).")
@click.option("--seed", type=int, default=0, show_default=True, help="Chooses the tokenizer's training sample.")
@_AS_JSON
def prepare(
    sources: tuple[str, ...],
    out: Path,
    vocab_size: int,
    tokenizer_dir: Path | None,
    held_out: float,
    text_column: str | None,
    license_: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Turn SOURCES (files, folders, hf:NAME, builtin:stdlib, builtin:problems) into token shards in --out."""
    from fathom.data import manifest
    from fathom.data.sources import open_sources
    from fathom.data.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(tokenizer_dir) if tokenizer_dir else None
    opened = open_sources(sources, text_column=text_column, license=license_)
    with _progress() as progress:
        made = manifest.prepare(
            opened,
            out,
            vocab_size=vocab_size,
            tokenizer=tokenizer,
            seed=seed,
            held_out_fraction=held_out,
            progress=progress,
        )
    _report(made, as_json)


@command.command()
@_DIRECTORY
@_AS_JSON
def inspect(directory: Path, as_json: bool) -> None:
    """Check every hash of the prepared data in DIRECTORY and say what it holds."""
    from fathom.data.records import verify

    _report(verify(directory), as_json)


@command.command()
@_DIRECTORY
@click.option("--count", type=click.IntRange(min=1), default=3, show_default=True, help="Rows to show.")
@click.option("--sequence-length", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--held-out", is_flag=True, help="Show held-out rows instead of training rows.")
@_AS_JSON
def sample(directory: Path, count: int, sequence_length: int, seed: int, held_out: bool, as_json: bool) -> None:
    """Show rows as a model would see them: each piece with its source and text."""
    import json

    from fathom.data.shards import Batches
    from fathom.data.tokenizer import Tokenizer

    batches = Batches(
        directory, sequence_length=sequence_length, rows=count, seed=seed, split="held_out" if held_out else "train"
    )
    pieces = _pieces(batches.batch(0), Tokenizer.load(directory / "tokenizer"), batches.manifest)
    if as_json:
        click.echo(json.dumps(pieces, ensure_ascii=False))
        return
    for piece in pieces:
        click.secho(
            f"row {piece['row']}, {piece['source']}, {piece['tokens']} tokens, {piece['targets']} to predict", bold=True
        )
        click.echo(piece["text"] + "\n")


@command.command()
@_DIRECTORY
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write to this file, which must not exist (default: stdout)."
)
@_AS_JSON
def croissant(directory: Path, out: Path | None, as_json: bool) -> None:
    """Describe the prepared data in DIRECTORY as Croissant JSON-LD, validated by mlcroissant."""
    import json

    from fathom.data.croissant import to_croissant
    from fathom.data.records import Manifest
    from fathom.errors import FathomError

    text = json.dumps(
        to_croissant(Manifest.load(directory), directory), indent=None if as_json else 1, ensure_ascii=False
    )
    if out is None:
        click.echo(text)
        return
    try:
        with out.open("x", encoding="utf-8") as stream:
            stream.write(text + "\n")
    except FileExistsError as error:
        raise FathomError(f"{out} exists and is not overwritten; name another file") from error
    except OSError as error:
        raise FathomError(f"cannot write {out}: {error.strerror}") from error
    click.echo(json.dumps({"written": str(out)}) if as_json else f"written to {out}")


def _pieces(batch: Any, tokenizer: Any, manifest: Manifest) -> list[dict[str, Any]]:
    """The pieces of a batch's rows, padding left out."""
    found = []
    for row in range(len(batch.tokens)):
        for piece in range(int(batch.documents[row].max()) + 1):
            inside = batch.documents[row] == piece
            if not batch.loss_mask[row][inside].any():
                continue  # padding, or a question whose answer lies in another row
            ids = batch.tokens[row][inside].tolist()
            source = manifest.sources[int(batch.source_ids[row])].name
            found.append(
                {
                    "row": row,
                    "source": source,
                    "tokens": len(ids),
                    "targets": int(batch.loss_mask[row][inside].sum()),
                    "text": tokenizer.decode(ids),
                }
            )
    return found


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Live progress on stderr, nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)

        yield show


def _report(manifest: Manifest, as_json: bool) -> None:
    import json

    if as_json:
        click.echo(json.dumps({**manifest.model_dump(mode="json"), "digest": manifest.digest}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "source", "licence", "read", "kept", "MB", "train tokens", "held-out tokens", "dropped", header_style="bold"
    )
    for source in manifest.sources:
        dropped = ", ".join(f"{count} {reason}" for reason, count in source.dropped.items())
        counts = (
            f"{source.documents_read:,}",
            f"{source.documents_kept:,}",
            f"{source.text_bytes / 1e6:.2f}",
            f"{source.train.tokens:,}",
            f"{source.held_out.tokens:,}",
        )
        table.add_row(source.name, source.license, *counts, dropped or "none")
    console = Console(highlight=False)
    console.print(table)
    for source in manifest.sources:
        for note in source.notes:
            console.print(f"{source.name}: {note}", style="dim", markup=False)
    console.print(
        f"{manifest.train_tokens:,} training tokens, {manifest.bytes_per_token:.2f} bytes a token, vocabulary "
        f"{manifest.tokenizer.vocab_size:,}"
    )
    console.print(f"digest {manifest.digest}", style="dim", markup=False)
