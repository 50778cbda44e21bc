"""`report.html`: one run, or several side by side, as a page for people. Self-contained, no script, nothing fetched.

Everything on it is read from the runs' ledgers. Text that a model or a data source wrote is escaped like any other.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

import fathom
from fathom.audit.charts import line_chart, share_chart
from fathom.audit.run_view import RunView, Sample, view
from fathom.errors import FathomError
from fathom.ledger import show

TEMPLATE = "report.html.jinja"
MAX_RUNS = 4  # columns that fit a page, and colours that can be told apart
MAX_SAMPLES = 12
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def write_report(
    run_dirs: Path | str | Sequence[Path | str],
    path: Path | str | None = None,
    *,
    title: str | None = None,
    runs: Path | None = None,
) -> Path:
    """Write the report of one to four runs and return where it is (`report.html` in the first run's folder by default).

    Raises FathomError where a folder is no run, its ledger does not hold, or there are none or too many.
    """
    folders = [run_dirs] if isinstance(run_dirs, Path | str) else list(run_dirs)
    if not 0 < len(folders) <= MAX_RUNS:
        raise FathomError(f"a report holds 1 to {MAX_RUNS} runs side by side, not {len(folders)}")
    target = Path(path) if path is not None else Path(folders[0]) / "report.html"
    page = render([view(folder, runs) for folder in folders], title)
    half = target.with_name(f".{target.name}.part")
    with half.open("w", encoding="utf-8") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    half.replace(target)
    return target


def render(views: list[RunView], title: str | None = None) -> str:
    """The page of these runs."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fathom.audit", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "loss": show.loss}
    kinds = list(dict.fromkeys(kind for one in views for kind in one.shares if kind))
    return environment.get_template(TEMPLATE).render(
        title=title or " and ".join(one.name for one in views),
        views=views,
        version=fathom.__version__,
        glance=glance(views),
        loss_chart=line_chart([one.curve for one in views], "seconds of training", "loss, nats a token"),
        share_chart=share_chart([(kind, [one.shares.get(kind) for one in views]) for kind in kinds], _names(views)),
        kinds=kinds,
        domains=list(dict.fromkeys(domain for one in views for domain in one.bits)),
        samples=paired_samples(views),
        sources=_sources(views),
        programme=views[0].bill["programme"],
        unchecked=unchecked(views),
        show=show,
    )


def visible(text: str) -> str:
    """Text with control characters and direction overrides made visible, so that it cannot disguise itself."""
    return _CONTROL.sub("�", str(text))


def glance(views: list[RunView]) -> list[tuple[str, list[str]]]:
    """The table at the head: one line a figure, one column a run; lines that no run has are left out."""
    rows = [
        ("model", [one.family for one in views]),
        ("parameters", [_parameters(one) for one in views]),
        ("ended", [one.bill["status"] for one in views]),
        ("training", [f"{one.bill['steps']:,} steps, {one.bill['tokens']:,} tokens" for one in views]),
        ("training time", [show.seconds(one.training_seconds) for one in views]),
        ("load of the experts", _routing(views)),
        ("tokens a second", [_rate(one) for one in views]),
        ("final loss", [_loss(one.final_loss) for one in views]),
        ("bits per byte, held out", [_loss(one.bits.get("")) for one in views]),
        ("problems solved", [_solved(one) for one in views]),
        ("FLOPs, all in", [show.scaled(one.bill["flops"]["total"], "FLOP") for one in views]),
        ("time, all in", [show.seconds(one.bill["seconds"]) for one in views]),
        ("energy, all in", [show.joules(one.bill["joules"]) for one in views]),
        ("dollars, all in", [show.usd(one.bill["usd"]) for one in views]),
    ]
    return [(name, cells) for name, cells in rows if any(cells)]


def _parameters(one: RunView) -> str:
    if one.size is None:
        return ""
    total, active = show.figure(one.size.total / 1e6), show.figure(one.size.active / 1e6)
    return f"{total} M, {active} M active" if one.size.inactive else f"{total} M"


def _routing(views: list[RunView]) -> list[str]:
    """Nothing where no run has experts."""
    found = [one.bill["routing"] for one in views]
    return [show.routing(part) if part else "has none" for part in found] if any(found) else []


def _rate(one: RunView) -> str:
    """Tokens of the kept steps by their time, rounded down: the run does not flatter itself."""
    kept = one.bill["tokens"] - one.bill["wasted"]["tokens"]
    return f"{math.floor(kept / one.training_seconds):,}" if one.training_seconds else ""


def _loss(value: float | None) -> str:
    return "" if value is None else show.loss(value)


def _solved(one: RunView) -> str:
    if "" not in one.counts:
        return ""
    (solved, asked), share = one.counts[""], one.shares[""]
    low, high = math.floor(share.low * 1000) / 10, math.ceil(share.high * 1000) / 10
    return f"{solved} of {asked}, {show.share(share.value)} ({low:g}% to {high:g}%)"


def paired_samples(views: list[RunView]) -> list[tuple[Sample, list[Sample | None]]]:
    """Each question once, with every run's answer to it."""
    by_question: dict[tuple[str, str], list[Sample | None]] = {}
    for number, one in enumerate(views):
        for sample in one.samples:
            answers = by_question.setdefault((sample.kind, sample.question), [None] * len(views))
            answers[number] = sample
    return [
        (next(sample for sample in answers if sample is not None), answers)
        for answers in list(by_question.values())[:MAX_SAMPLES]
    ]


def _names(views: list[RunView]) -> list[str]:
    return [one.name for one in views]


def _sources(views: list[RunView]) -> list[tuple[dict[str, Any], list[str]]]:
    """Every data source once, with the names of the runs that learned from it."""
    found: list[tuple[dict[str, Any], list[str]]] = []
    for one in views:
        for source in one.bill["data"]["sources"]:
            known = next((names for other, names in found if other == source), None)
            if known is None:
                found.append((source, known := []))
            known.append(one.name)
    return found


def unchecked(views: list[RunView]) -> list[str]:
    """What nobody has checked about these runs, the reader's warning."""
    said = [f"{one.name}: {words}" for one in views for words in one.found.unchecked]
    modelled = [one.name for one in views if one.bill["joules"]["method"] != "counter"]
    if modelled:
        said.append(f"Energy of {', '.join(modelled)} is modelled at least in part, not read off a counter.")
    for one in views:
        said += [
            f"{one.name} shared the machine with {other} for {show.seconds(seconds)}: both bills hold all its energy."
            for other, seconds in (one.bill["shared_metering"] or {}).items()
        ]
    return [
        *said,
        "Dollars are a table's rental price for the time taken, not an invoice.",
        "Nobody has trained these runs again to see whether the same losses come out.",
        "The ledgers carry no signature: whoever holds the folders could have written them anew from the first line.",
    ]
