"""Totals over all runs of a workspace, failures included, and which runs shared a meter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.ledger import lock, workspace
from fathom.ledger.chain import GENESIS
from fathom.ledger.dollars import dollars
from fathom.ledger.reading import LEDGER_NAME, UNFINISHED, Status, by_purpose, read, status_of
from fathom.ledger.totals import Totals


@dataclass
class RunLine:
    """One run as the workspace knows it."""

    run: str
    run_id: str
    purpose: str
    status: Status
    started: str
    folder: str  # `there`, or `gone`: then the totals are those of the last entry that the workspace has
    totals: Totals
    by_purpose: dict[str, Totals]
    usd: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "run": self.run, "run_id": self.run_id, "purpose": self.purpose, "status": self.status,
            "started": self.started, "folder": self.folder, **self.totals.as_dict(), "usd": self.usd,
        }  # fmt: skip


def run_lines(runs: Path) -> list[RunLine]:
    """Every run that was ever started in the workspace, in order."""
    return [_line(runs, entries) for entries in workspace.runs(runs).values()]


def _line(runs: Path, entries: list[dict[str, Any]]) -> RunLine:
    last, folder = entries[-1], runs / entries[0]["run"]
    there = _holds(folder, last["run_id"])
    if last["entry"] == "end":
        status: Status = last["status"]
        parts = {purpose: Totals.from_dict(part) for purpose, part in last["by_purpose"].items()}
    elif there:
        past = read(folder)
        status = status_of(folder, past)
        parts = by_purpose(past, status)
    else:
        status, totals = "killed", Totals.from_dict(last["totals"])
        parts = {"failed" if last["purpose"] == "final" else last["purpose"]: totals}
    whole = Totals()
    for part in parts.values():
        whole.merge(part)
    started = entries[0]["odometers"]["wall_time"]
    usd = dollars(last["billed"], whole.seconds, started[:10])
    place = "there" if there else "gone"
    return RunLine(last["run"], last["run_id"], last["purpose"], status, started, place, whole, parts, usd)


def _holds(folder: Path, run_id: str) -> bool:
    """Whether the folder is still that run's (a name may have been used again)."""
    try:
        with (folder / LEDGER_NAME).open("rb") as file:
            first = file.readline()
    except OSError:
        return False
    return run_id.encode() in first


def programme(runs: Path) -> dict[str, Any]:
    """All that the workspace ever took: counts by status, totals by purpose and together."""
    lines = run_lines(runs)
    whole = Totals()
    purposes: dict[str, Totals] = {}
    statuses: dict[str, int] = {}
    for line in lines:
        statuses[line.status] = statuses.get(line.status, 0) + 1
        whole.merge(line.totals)
        for purpose, part in line.by_purpose.items():
            purposes.setdefault(purpose, Totals()).merge(part)
    usd = _sum_dollars([line.usd for line in lines])
    return {
        "runs_started": len(lines),
        "by_status": statuses,
        "unfinished": sum(count for status, count in statuses.items() if status in UNFINISHED),
        **whole.as_dict(),
        "usd": usd,
        "by_purpose": {purpose: part.as_dict() for purpose, part in sorted(purposes.items())},
        "shared_metering": sorted({name for line in lines for name in overlaps(runs, line.run_id)}),
    }


def _sum_dollars(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Sum of the runs that have a price; how many have none is said beside it."""
    priced = [part for part in parts if part["median"] is not None]
    ends = {end: sum(part[end] for part in priced) for end in ("low", "median", "high")}
    return {**ends, "runs_without_price": len(parts) - len(priced)}


@dataclass(frozen=True)
class Session:
    """One stretch of a run on one boot of one machine, by its monotonic clock."""

    run: str
    run_id: str
    host: tuple[str, str]
    start: float
    end: float


def sessions(runs: Path) -> list[Session]:
    """Every session in the workspace. One that never ended lasts until its last event, or for ever while it runs."""
    found = []
    for entries in workspace.runs(runs).values():
        begun: dict[str, Any] | None = None
        for entry in entries:
            if entry["entry"] in ("start", "resume"):
                if begun is not None:
                    found.append(_session(begun, _last_before(runs, begun, entry)))
                begun = entry
            elif entry["entry"] == "end" and begun is not None:
                found.append(_session(begun, entry["odometers"]["monotonic_seconds"]))
                begun = None
        if begun is not None:
            found.append(_session(begun, _open_end(runs, begun, entries)))
    return found


def _session(begun: dict[str, Any], end: float) -> Session:
    odometers = begun["odometers"]
    host = (odometers["host_id"], odometers["boot_id"])
    return Session(begun["run"], begun["run_id"], host, odometers["monotonic_seconds"], end)


def _last_before(runs: Path, begun: dict[str, Any], resumed: dict[str, Any]) -> float:
    """When a killed session was last heard of: its last event before the resume."""
    return _last_event_seconds(runs / begun["run"], begun, until=resumed["head"])


def _open_end(runs: Path, begun: dict[str, Any], entries: list[dict[str, Any]]) -> float:
    folder = runs / begun["run"]
    if _holds(folder, begun["run_id"]):
        return float("inf") if lock.is_running(folder) else _last_event_seconds(folder, begun, until=GENESIS)
    return entries[-1]["odometers"]["monotonic_seconds"]


def _last_event_seconds(folder: Path, begun: dict[str, Any], until: str) -> float:
    last = begun["odometers"]["monotonic_seconds"]
    if not _holds(folder, begun["run_id"]):
        return last
    for event in read(folder):
        if event.hash == until:
            break
        last = event.body.monotonic_seconds
    return last


def overlaps(runs: Path, run_id: str) -> dict[str, float]:
    """Seconds that other runs of the workspace ran on the same machine at the same time, by run: a shared meter."""
    every = sessions(runs)
    mine = [session for session in every if session.run_id == run_id]
    shared: dict[str, float] = {}
    for own in mine:
        for other in every:
            seconds = min(own.end, other.end) - max(own.start, other.start)
            if other.run_id != run_id and other.host == own.host and seconds > 0:
                shared[other.run] = shared.get(other.run, 0.0) + seconds
    return shared
