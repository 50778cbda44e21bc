"""The docket as a static site: an index that can be searched and sorted, a page a claim, no network.

Every page stands alone (styles, script and charts inside it); beside each lie the claim as JSON and as Markdown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fathom import __version__
from fathom.cost.claim import KINDS, Claim
from fathom.cost.claims import names, on_file
from fathom.cost.docket import Row, by_interest, row
from fathom.cost.docket_charts import Chart, among_runs, cost_over_size, left_out
from fathom.cost.docket_sections import sections
from fathom.cost.docket_text import as_markdown
from fathom.cost.efficiency import published_runs
from fathom.cost.hardware import Accelerator, find
from fathom.cost.say import count, share, usd
from fathom.cost.verdict import Trial, trial_dict
from fathom.cost.verdict_physics import published
from fathom.cost.verdict_rule import table as rule_table
from fathom.cost.verdict_words import MEANING, Verdict
from fathom.errors import FathomError

if TYPE_CHECKING:
    from markupsafe import Markup

PAGES = "pages"
MADE_BY = "Made by Fathom"  # in the footer of every page


def write_site(
    trials: Sequence[Trial], folder: Path, done: Callable[[int, int], None] = lambda number, total: None
) -> int:
    """Write the site into `folder`, new, empty or holding an earlier site; the number of pages.

    `done` is told after each claim how many of how many are written.
    """
    claims = _prepared(folder)
    rows = [row(trial) for trial in trials]
    _write(folder / "index.html", _index(rows, trials))
    for number, trial in enumerate(trials, start=1):
        stem = claims / trial.claim.id
        _write(stem.parent / f"{stem.name}.html", claim_page(trial, linked=True))
        _write(stem.parent / f"{stem.name}.md", as_markdown(trial))
        _write(stem.parent / f"{stem.name}.json", json.dumps(trial_dict(trial), indent=1, ensure_ascii=False) + "\n")
        done(number, len(trials))
    _write(folder / "about.html", _about(rows))
    return len(trials) + 2


def _prepared(folder: Path) -> Path:
    """The folder for the claims' pages, made. Somebody else's files are not written among."""
    try:
        if folder.exists() and not folder.is_dir():
            raise FathomError(f"{folder} is a file: give a folder for the site")
        if folder.exists() and any(folder.iterdir()) and not _is_site(folder):
            raise FathomError(f"{folder} holds other files and no site of Fathom's: give a new or an empty folder")
        claims = folder / "claims"
        claims.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FathomError(f"the site cannot be written to {folder}: {error.strerror}") from None
    return claims


def _is_site(folder: Path) -> bool:
    index = folder / "index.html"
    return index.is_file() and MADE_BY in index.read_text(encoding="utf-8", errors="replace")


def claim_page(trial: Trial, *, linked: bool = False) -> str:
    """One claim's page. `linked` within a site; otherwise it stands alone, without links to other pages."""
    charts: dict[str, list[Chart]] = {}
    for key, chart in (("verdict", among_runs(trial)), ("left-out", left_out(trial))):
        if chart is not None:
            charts.setdefault(key, []).append(chart)
    claim = trial.claim
    related = [(name, on_file(name).title) for name in claim.compares_with if name in names()]
    return _render(
        "claim.html",
        root="../",
        linked=linked,
        title=f"{claim.title}: {trial.verdict}",
        description=claim.statement[:300],
        claim=claim,
        verdict=str(trial.verdict),
        verdict_class=_class(trial.verdict),
        kind=KINDS[claim.kind].split(":")[0].capitalize() + ".",
        sections=sections(trial),
        charts=charts,
        related=related,
    )


def _index(rows: Sequence[Row], trials: Sequence[Trial]) -> str:
    searched = {trial.claim.id: _searched(trial) for trial in trials}
    return _render(
        "index.html",
        script_policy="'unsafe-inline'",
        root="",
        linked=True,
        title="Claims on trial: what language models cost",
        description=f"{len(rows)} published claims about the cost of language models, recomputed.",
        rows=[_cells(line, searched[line.id]) for line in sorted(rows, key=by_interest)],
        meanings={str(verdict): MEANING[verdict] for verdict in Verdict},
        counts={str(verdict): sum(line.verdict is verdict for line in rows) for verdict in Verdict},
        kinds=KINDS,
        references=len(published().values),
        charts=[cost_over_size(rows)],
    )


def _about(rows: Sequence[Row]) -> str:
    runs = published()
    return _render(
        "about.html",
        root="",
        linked=True,
        title="How a verdict is reached",
        description="The two rulers, the four verdicts, and what stated, derived and seen mean.",
        meanings={str(verdict): MEANING[verdict] for verdict in Verdict},
        references=len(runs.values),
        learned=len(published_runs()),
        lowest=share(runs.values[0]),
        highest=share(runs.values[-1]),
        quarter=share(runs.quantile(0.25)),
        three_quarters=share(runs.quantile(0.75)),
        unseen_claims=sum(line.unseen > 0 for line in rows),
        count=len(rows),
    )


def _cells(line: Row, searched: str) -> dict[str, Any]:
    """One row of the index: what is shown and what is sorted by."""
    tilde = "" if line.cost_is_stated else "~"
    return {
        "id": line.id,
        "title": line.title,
        "made_by": line.made_by,
        "date": line.date,
        "kind": line.kind,
        "verdict": str(line.verdict),
        "unexpected": line.verdict is Verdict.CONSISTENT and line.hours_as_expected is False,
        "hours": count(line.device_hours) if line.device_hours else "",
        "share": share(line.utilisation) if line.utilisation is not None else "",
        "cost": tilde + usd(line.cost_usd) if line.cost_usd is not None else "",
        "hours_sort": line.device_hours or "",
        "share_sort": line.utilisation or "",
        "cost_sort": line.cost_usd or "",
        "search": searched,
    }


def _searched(trial: Trial) -> str:
    """All text of a claim that a reader may look for it by, with every name of its accelerators and their makers."""
    claim = trial.claim
    own = (claim.id, claim.title, claim.kind, claim.subject, claim.family, claim.made_by, claim.date, *claim.flags)
    told = (str(trial.verdict), claim.statement, claim.context, claim.text("accelerator"), claim.text("precision"))
    model = (str(claim.model.get("name", "")),)
    devices = [f"{one.vendor} {one.name} {one.title} {' '.join(one.aliases)}" for one in _devices(claim)]
    return " ".join((*own, *told, *model, *devices)).lower()


def _devices(claim: Claim) -> list[Accelerator]:
    """Those that the claim computes with: of a rule every one that it is held against."""
    if claim.kind == "rule":
        return [row.device for row in rule_table()]
    device = find(claim.text("accelerator"))
    return [device] if device else []


def _class(verdict: Verdict) -> str:
    return str(verdict).split(" ")[0]


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("fathom.cost", PAGES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _code
    return environment


def _code(text: str) -> Markup:
    """`text` escaped, what stands between backticks in it as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _render(template: str, **values: Any) -> str:
    values.setdefault("script_policy", "'none'")
    style = resources.files("fathom.cost").joinpath(PAGES, "style.css").read_text(encoding="utf-8")
    return str(_environment().get_template(template).render(style=style, version=__version__, **values))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FathomError(f"{path} cannot be written: {error.strerror}") from None
