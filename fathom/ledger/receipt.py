"""A run's bill: what it learned from, what it took, for which purpose, and what the whole workspace took.

Figures are sums over the ledger, unrounded; where they are shown, costs are rounded up. `receipt.json` is written when
the run ends. It carries no signature.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fathom.cost import regulators
from fathom.errors import FathomError
from fathom.ledger import events, programme, workspace
from fathom.ledger.chain import canonical, digest
from fathom.ledger.dollars import dollars
from fathom.ledger.events import Event, plain
from fathom.ledger.reading import by_purpose, only, read, status_of, wasted
from fathom.ledger.totals import Totals

RECEIPT_NAME = "receipt.json"
RECEIPT_VERSION = 1
ROUNDING = "figures here are sums, unrounded; where they are printed, costs are rounded up and counts are exact"


def figures(run_dir: Path | str) -> dict[str, Any]:
    """What the ledger alone gives, the same on every machine and at any time after the run."""
    folder = Path(run_dir)
    past = read(folder)
    if not past or not isinstance(past[0].body, events.Start):
        raise FathomError(f"{run_dir} has no start event: the run died before it began, so there is nothing to bill")
    status, lost = status_of(folder, past), wasted(past)
    whole, again = Totals(), Totals()
    for event in past:
        whole.add(event.body)
        if event.sequence in lost:
            again.add(event.body)
    parts = by_purpose(past, status)
    return plain(
        {
            "receipt_version": RECEIPT_VERSION,
            "run": folder.resolve().name,
            "run_id": past[0].hash,
            "head": past[-1].hash,
            "events": len(past),
            "purpose": past[0].body.purpose,
            "status": status,
            "recipe_sha256": digest(canonical(plain(past[0].body.recipe))),
            "code": past[0].body.code,
            "hardware": past[0].body.hardware,
            "sessions": _sessions(past),
            "data": _data(past),
            "routing": _routing([event.body for event in past if event.sequence not in lost]),
            **whole.as_dict(),
            "by_purpose": {purpose: part.as_dict() for purpose, part in sorted(parts.items())},
            "wasted": again.as_dict(),
            "rounding": ROUNDING,
        },
        whole=int,
    )


def receipt(run_dir: Path | str, runs: Path | None = None) -> dict[str, Any]:
    """The whole bill: the ledger's figures, regulators' count, dollars, shared meters and the workspace's totals."""
    folder = Path(run_dir)
    bill = figures(folder)
    started = bill["sessions"][0]["started"]
    bill["regulators"] = regulators.totals({name: part["flops"]["total"] for name, part in bill["by_purpose"].items()})
    bill["usd"] = dollars(bill["hardware"].get("billed", []), bill["seconds"], started[:10])
    place = folder.resolve().parent if runs is None else runs
    if (place / workspace.LEDGER_NAME).is_file():
        bill["shared_metering"] = plain(programme.overlaps(place, bill["run_id"]), whole=int)
        bill["programme"] = programme.programme(place)
    else:
        bill["shared_metering"], bill["programme"] = None, None
    return bill


def _sessions(past: list[Event]) -> list[dict[str, Any]]:
    """Each stretch from a start or resume to its end, with what became of it."""
    found: list[dict[str, Any]] = []
    for event in past:
        body = event.body
        if isinstance(body, events.Start | events.Resume):
            found.append({"started": body.wall_time, "ended": "killed", "seconds": 0.0, "last_event": body.wall_time})
            if isinstance(body, events.Resume):
                found[-1]["from_step"], found[-1]["before"] = body.from_step, body.last_session
        if isinstance(body, events.End):
            found[-1]["ended"] = body.status
        found[-1]["seconds"] += body.elapsed_seconds
        found[-1]["last_event"] = body.wall_time
    return found


def _data(past: list[Event]) -> dict[str, Any]:
    """The sources of the last data event, with sums."""
    all_data = only(past, events.Data)
    if not all_data:
        return {"sources": [], "tokens": 0, "manifest_sha256": ""}
    last = all_data[-1]
    return {
        "sources": [source.model_dump() for source in last.sources],
        "tokens": last.tokens,
        "manifest_sha256": last.manifest_sha256,
        "documents": sum(source.documents for source in last.sources),
        "bytes": sum(source.bytes for source in last.sources),
        "dropped": sum(sum(source.dropped.values()) for source in last.sources),
        "details": last.details,
    }


def _routing(bodies: list[events.Payload]) -> dict[str, float] | None:
    """Of a mixture of experts: the choices that reached no expert in all the steps that made the model, and how full
    the fullest expert was over the mean, averaged over the last twentieth of them. None of a dense model.
    """
    steps = [body.details for body in bodies if isinstance(body, events.Step) and "dropped_choices" in body.details]
    if not steps:
        return None
    tail = [step["load_max_over_mean"] for step in steps[-max(1, len(steps) // 20) :]]
    return {
        "dropped_choices": sum(step["dropped_choices"] for step in steps),
        "load_max_over_mean": sum(tail) / len(tail),
    }


def write(run_dir: Path, runs: Path | None = None) -> Path:
    """Write the run's receipt.json, whole or not at all."""
    path = run_dir / RECEIPT_NAME
    half = path.with_suffix(".json.part")
    with half.open("w", encoding="utf-8") as file:
        json.dump(receipt(run_dir, runs), file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    half.replace(path)
    return path


def stored(run_dir: Path) -> dict[str, Any] | None:
    """The receipt as it was written at the end of the run, or None. Raises FathomError for one that is no JSON."""
    path = run_dir / RECEIPT_NAME
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FathomError(f"{path} is not JSON: {error}; `fathom receipt` derives it again from the ledger") from error
