"""The workspace's own ledger, `runs/ledger.jsonl`: every run is entered when it starts, goes on and ends.

Several runs may write at once; each append holds the file's lock. What a run had taken so far is entered at every
checkpoint, so that deleting the folder of a failed run does not delete its cost.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal

from fathom.errors import FathomError
from fathom.ledger import lock
from fathom.ledger.chain import Chain, Writer, read_chain
from fathom.ledger.events import Odometers, plain
from fathom.ledger.totals import Totals

LEDGER_NAME = "ledger.jsonl"
Entry = Literal["start", "resume", "progress", "end"]


def workspace_dir(runs: str | Path | None = None) -> Path:
    """The folder of the runs: `runs` if given, else FATHOM_RUNS, else `runs` in the current folder."""
    return Path(runs or os.environ.get("FATHOM_RUNS") or "runs")


def enter(
    workspace: Path,
    entry: Entry,
    *,
    run: str,
    run_id: str,
    purpose: str,
    head: str,
    odometers: Odometers,
    billed: list[dict[str, Any]],
    totals: Totals,
    by_purpose: dict[str, Totals] | None = None,
    status: str = "running",
) -> None:
    """Append one durable entry about a run. `run_id` is the hash of its start event; `head` that of its last."""
    workspace.mkdir(parents=True, exist_ok=True)
    path = workspace / LEDGER_NAME
    body = {
        "entry": entry,
        "run": run,
        "run_id": run_id,
        "purpose": purpose,
        "head": head,
        "status": status,
        "odometers": odometers.model_dump(),
        "billed": billed,
        "totals": totals.as_dict(),
    }
    if by_purpose is not None:
        body["by_purpose"] = {purpose: part.as_dict() for purpose, part in sorted(by_purpose.items())}
    with lock.exclusive(path):
        writer = Writer(path)
        try:
            writer.append(plain(body), durable=True)
        finally:
            writer.close()


def read_workspace(workspace: Path) -> Chain:
    """Every entry of the workspace, checked. Raises FathomError where there is no workspace."""
    path = workspace / LEDGER_NAME
    if not path.is_file():
        raise FathomError(f"{workspace} has no {LEDGER_NAME}: no run was ever started there")
    with lock.exclusive(path):
        return read_chain(path)


def runs(workspace: Path) -> dict[str, list[dict[str, Any]]]:
    """The entries by run identity (a name used twice is two runs), in order of their start."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for entry in read_workspace(workspace).records:
        by_run.setdefault(entry["run_id"], []).append(entry)
    return by_run


def find_run(run: str, runs: Path | None = None) -> tuple[Path, Path]:
    """(run folder, workspace) of a run given as a folder or by its name in the workspace.

    Raises FathomError, with the nearest names, where there is none.
    """
    place = workspace_dir(runs)
    for folder in (Path(run), place / run):
        if (folder / LEDGER_NAME).is_file() and not _is_workspace(folder):
            return folder, place if runs else folder.resolve().parent
    names = sorted({entries[0]["run"] for entries in _runs_or_none(place).values()})
    close = difflib.get_close_matches(run, names, n=3, cutoff=0.4) or names[-3:]
    hint = f"; there are {', '.join(close)}" if close else f"; {place} holds no runs"
    raise FathomError(f"no run '{run}' here, neither a folder with a {LEDGER_NAME} nor a name in {place}{hint}")


def _runs_or_none(place: Path) -> dict[str, list[dict[str, Any]]]:
    return runs(place) if (place / LEDGER_NAME).is_file() else {}


def _is_workspace(folder: Path) -> bool:
    """A workspace's ledger has entries, a run's has events."""
    records = read_chain(folder / LEDGER_NAME).records
    return bool(records) and "entry" in records[0]
