"""`fathom claim`: put a published cost claim on trial, list the docket, write its site. Never loads torch."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fathom.cost.verdict import Trial


@click.command()
@click.argument("name", required=False, metavar="[NAME|FILE.toml]")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout (keys: docs/claims.md).")
@click.option("--html", "as_html", is_flag=True, help="The claim's page, self-contained, on stdout.")
@click.option("--markdown", "as_md", is_flag=True, help="The verdict as Markdown, ready to paste into an article.")
@click.option("--list", "listing", is_flag=True, help="Every claim on file with its verdict.")
@click.option("--site", type=click.Path(path_type=Path, file_okay=False), help="Write the docket as a static site.")
def command(name: str | None, as_json: bool, as_html: bool, as_md: bool, listing: bool, site: Path | None) -> None:
    """Put a published cost claim on trial.

    NAME is a claim on file (see --list); FILE.toml is one of your own, in the same form (docs/claims.md). The verdict
    is consistent, implausible, impossible, or cannot be told, with its reasons.
    """
    if sum((as_json, as_html, as_md)) > 1:
        raise click.UsageError("give one of --json, --html and --markdown, not several")
    if listing or site is not None:
        if name is not None:
            raise click.UsageError("--list and --site take the whole docket: leave out the name")
        if as_html or as_md:
            raise click.UsageError("the docket comes as text, as --json, or as pages with --site DIR")
        _docket(listing, site, as_json)
    elif name is None:
        raise click.UsageError("name a claim, for instance deepseek-v3, or see them all with --list")
    else:
        _one(name, as_json, as_html, as_md)


def _one(name: str, as_json: bool, as_html: bool, as_md: bool) -> None:
    from fathom.cost.claims import open_claim
    from fathom.cost.verdict import trial_dict, try_claim

    trial = try_claim(open_claim(name))
    if as_json:
        click.echo(json.dumps(trial_dict(trial), indent=2, ensure_ascii=False, allow_nan=False))
    elif as_html:
        from fathom.cost.site import claim_page

        click.echo(claim_page(trial))
    elif as_md:
        from fathom.cost.docket_text import as_markdown

        click.echo(as_markdown(trial), nl=False)
    else:
        click.echo(_text(trial))


def _text(trial: Trial) -> str:
    from fathom.cost.docket_text import as_text

    return as_text(trial, shutil.get_terminal_size().columns)


def _docket(listing: bool, site: Path | None, as_json: bool) -> None:
    from fathom.cost.docket import docket_dict, row, trials

    if site is None:
        tried = trials()
    else:
        tried, pages = _site(site, as_json)
        click.echo(f"{pages} pages in {site}; open {site / 'index.html'}", err=True)
    rows = [row(trial) for trial in tried]
    if as_json:
        click.echo(json.dumps(docket_dict(rows), indent=2, ensure_ascii=False, allow_nan=False))
    elif listing:
        from fathom.cost.docket_text import list_text

        click.echo(list_text(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0))


def _site(site: Path, as_json: bool) -> tuple[list[Trial], int]:
    """Every claim tried and the site of them written, with the number of its pages."""
    from fathom.cost.docket import trials
    from fathom.cost.site import write_site

    with _progress(quiet=as_json) as stage:
        tried = trials(stage("trying the claims"))
        return tried, write_site(tried, site, stage("writing their pages"))


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """A bar on stderr for each stage; none where that is no terminal, or where a program reads."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:

        def stage(name: str) -> Callable[[int, int], None]:
            task = bar.add_task(name, total=None)
            return lambda number, total: bar.update(task, completed=number, total=total)

        yield stage
