"""Does a run's ledger hold? Every hash is derived again, from the lines, the checkpoints and the workspace."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fathom.errors import FathomError
from fathom.ledger import events, receipt, workspace
from fathom.ledger.chain import digest, hash_file, read_chain
from fathom.ledger.events import Event
from fathom.ledger.reading import LEDGER_NAME, only, parse


@dataclass
class Verification:
    """`problems` are sentences; `checked` says what was looked at, `unchecked` what could not be and why."""

    events: int = 0
    head: str = ""
    problems: list[str] = field(default_factory=list)
    torn_bytes: int = 0
    checked: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.problems and not self.torn_bytes


def verify(run_dir: Path | str, runs: Path | None = None) -> Verification:
    """Derive every hash of the run again. Raises FathomError only where there is no ledger to look at."""
    folder = Path(run_dir)
    path = folder / LEDGER_NAME
    if not path.is_file():
        raise FathomError(f"{run_dir} is not a run: it has no {LEDGER_NAME}")
    chain = read_chain(path)
    found = Verification(len(chain.records), chain.head, list(chain.problems), len(chain.torn))
    try:
        past = [parse(record, path) for record in chain.records]
    except FathomError as error:
        found.problems.append(str(error))
        return found
    found.checked.append(f"{len(past)} ledger lines, each against its hash and the line before it")
    _check_order(past, found)
    _check_checkpoints(folder, past, found)
    _check_manifest(folder, past, found)
    if not found.problems:
        _check_receipt(folder, found)
    _check_workspace(folder.parent if runs is None else runs, past, found)
    return found


def _check_order(past: list[Event], found: Verification) -> None:
    """A run starts once, first, and only a resume follows an end."""
    for position, event in enumerate(past):
        first = isinstance(event.body, events.Start)
        if first != (position == 0):
            found.problems.append(f"event {position} is a {event.body.kind}: a run has one start event, its first")
        after_end = position > 0 and isinstance(past[position - 1].body, events.End)
        if after_end and not isinstance(event.body, events.Resume):
            found.problems.append(f"event {position} follows the end of the run without a resume")


def _check_checkpoints(folder: Path, past: list[Event], found: Verification) -> None:
    """The newest event of each checkpoint folder that is still there, file by file."""
    newest = {checkpoint.path: checkpoint for checkpoint in only(past, events.Checkpoint)}
    for name, checkpoint in newest.items():
        place = folder / name
        if not place.is_dir():
            found.unchecked.append(f"checkpoint {name}: no longer there")
            continue
        there = {file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file()}
        for file in sorted(there ^ set(checkpoint.files)):
            what = "is not in the ledger" if file in there else "is missing"
            found.problems.append(f"checkpoint {name}: {file} {what}")
        for file in sorted(there & set(checkpoint.files)):
            if hash_file(place / file) != checkpoint.files[file]:
                found.problems.append(f"checkpoint {name}: {file} is not the file that was saved")
        found.checked.append(f"checkpoint {name}: {len(checkpoint.files)} files against their hashes")


def _check_manifest(folder: Path, past: list[Event], found: Verification) -> None:
    data = [event for event in only(past, events.Data) if event.manifest_sha256]
    path = folder / "data" / "manifest.json"
    if not data or not path.is_file():
        found.unchecked.append("data manifest: none kept in the run folder")
        return
    if digest(path.read_bytes()) != data[-1].manifest_sha256:
        found.problems.append("data/manifest.json is not the manifest that the run learned from")
    found.checked.append("data manifest against its hash")


def _check_receipt(folder: Path, found: Verification) -> None:
    """The figures of receipt.json are those that the ledger gives."""
    stored = receipt.stored(folder)
    if stored is None:
        found.unchecked.append("receipt.json: the run has not ended yet")
        return
    if stored.get("head") not in {event.hash for event in receipt.read(folder)}:
        found.problems.append("receipt.json names a ledger line that is not in this ledger")
    elif stored["head"] != found.head:
        found.unchecked.append("receipt.json: the run went on after it was written")
    elif receipt.figures(folder) != {key: stored.get(key) for key in receipt.figures(folder)}:
        found.problems.append("receipt.json does not say what the ledger says")
    else:
        found.checked.append("receipt.json against the figures derived from the ledger")


def _check_workspace(runs: Path, past: list[Event], found: Verification) -> None:
    """What the workspace was told of this run is still in its ledger: nothing was cut off its end."""
    if not past or not (runs / workspace.LEDGER_NAME).is_file():
        found.unchecked.append("workspace ledger: none beside this run, so lines cut off the end would not be seen")
        return
    chain = workspace.read_workspace(runs)
    found.problems.extend(f"{runs / workspace.LEDGER_NAME}: {problem}" for problem in chain.problems)
    hashes = {event.hash for event in past}
    entries = [entry for entry in chain.records if entry["run_id"] == past[0].hash]
    if not entries:
        found.problems.append("the workspace ledger does not know this run: it was moved here, or rewritten")
    for entry in entries:
        if entry["head"] not in hashes:
            found.problems.append(f"the event that the workspace saw at {entry['odometers']['wall_time']} is gone")
    found.checked.append(f"{len(entries)} entries of the workspace ledger against this one")
