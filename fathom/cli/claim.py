"""`fathom claim`: put a published cost claim on trial, list the docket, write its site. Never loads torch."""

from __future__ import annotations

import json
import shutil
import sys
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

    tried = trials()
    rows = [row(trial) for trial in tried]
    if site is not None:
        from fathom.cost.site import write_site

        pages = write_site(tried, site)
        click.echo(f"{pages} pages in {site}; open {site / 'index.html'}", err=True)
    if as_json:
        click.echo(json.dumps(docket_dict(rows), indent=2, ensure_ascii=False, allow_nan=False))
    elif listing:
        from fathom.cost.docket_text import list_text

        click.echo(list_text(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0))
