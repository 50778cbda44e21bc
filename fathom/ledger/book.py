"""A run's ledger: one method for each kind of event, called from one place each.

    with Ledger.create(run_dir) as ledger:          # or Ledger.resume(run_dir)
        ledger.start(recipe=..., purpose="final")   # or ledger.resumed(from_step=500)
        ledger.step(step=1, tokens=4096, loss=8.1, learning_rate=1e-3, flops={...})
        ...
        ledger.end("completed")

Leaving the block with an exception, or the interpreter without an end, writes the end event; after `kill -9` the next
`resumed` says what can be known. Each event is charged the seconds and joules since the one before.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from fathom.errors import FathomError
from fathom.ledger import events, lock, machine, meters, reading, receipt, workspace
from fathom.ledger.chain import Writer, hash_file, read_chain
from fathom.ledger.reading import LEDGER_NAME
from fathom.ledger.totals import Totals

_END_OF_EXCEPTION: dict[type[BaseException], events.EndStatus] = {
    KeyboardInterrupt: "interrupted",
    SystemExit: "interrupted",
}


class Ledger:
    """The open ledger of one run; only one process holds it."""

    def __init__(self, run_dir: Path, runs: Path | None, since: float | None) -> None:
        """Use `create` or `resume`. `runs` is the workspace, the run folder's parent by default.

        `since` is the time.monotonic() at which the work began that the first event is charged for (default: now).
        """
        self.run_dir, self.workspace = run_dir, run_dir.parent if runs is None else runs
        run_dir.mkdir(parents=True, exist_ok=True)
        self._lock = lock.hold_run(run_dir)
        try:
            self._writer = Writer(run_dir / LEDGER_NAME)
            self._past = [events.event_from_record(record) for record in self._writer.records]
        except BaseException:
            lock.release_run(self._lock)
            raise
        self.totals, self.run_id, self.ended = Totals(), "", True
        self.purpose: events.Purpose = "final"
        self._billed: list[dict[str, Any]] = []
        for event in self._past:
            self._remember(event)
        self.meter = meters.Meter().start(since)
        self._last_seconds, self._last_joules = 0.0, events.Joules(low=0, likely=0, high=0, method="unknown")
        atexit.register(self._at_exit)

    @classmethod
    def create(cls, run_dir: Path | str, *, runs: Path | None = None, since: float | None = None) -> Ledger:
        """A new run. Raises FathomError where the folder already holds a run's events."""
        path = Path(run_dir) / LEDGER_NAME
        if path.exists() and read_chain(path).records:
            raise FathomError(f"{run_dir} already holds a run: resume it, or give the new run another name")
        return cls(Path(run_dir), runs, since)

    @classmethod
    def resume(cls, run_dir: Path | str, *, runs: Path | None = None, since: float | None = None) -> Ledger:
        """A run that goes on. Raises FathomError where there is none or its ledger does not hold."""
        if not (Path(run_dir) / LEDGER_NAME).is_file():
            raise FathomError(f"{run_dir} has no {LEDGER_NAME}, so there is no run to resume there")
        return cls(Path(run_dir), runs, since)

    @property
    def started(self) -> bool:
        """Whether the start event was ever written (a run may die before it)."""
        return bool(self.run_id)

    def start(
        self, *, recipe: Mapping[str, Any], purpose: events.Purpose = "final", details: Mapping[str, Any] | None = None
    ) -> None:
        """The run begins: recipe in full, environment, hardware (`details` adds measured peaks), code, odometers."""
        if self.started:
            raise FathomError(f"{self.run_dir} was already started: a run that goes on is `resumed`")
        self.purpose, self.ended = purpose, False
        odometers = meters.read_odometers()
        self._append(
            events.Start, durable=True, run=self.run_dir.name, recipe=dict(recipe), odometers=odometers,
            environment=machine.environment(), hardware={**machine.hardware(), **(details or {})},
            code=machine.code_version(),
        )  # fmt: skip
        self._enter("start", odometers)

    def resumed(self, *, from_step: int, details: Mapping[str, Any] | None = None) -> None:
        """The run goes on after `from_step`; steps beyond it that were already taken count as wasted."""
        if not self.started:
            raise FathomError(f"{self.run_dir} was never started: nothing in it can be resumed; begin it anew")
        self.ended = False
        odometers = meters.read_odometers()
        self._append(
            events.Resume, durable=True, from_step=from_step, odometers=odometers, environment=machine.environment(),
            hardware={**machine.hardware(), **(details or {})}, code=machine.code_version(),
            last_session=last_session(self._past, odometers),
        )  # fmt: skip
        self._enter("resume", odometers)

    def data(
        self,
        *,
        sources: list[dict[str, Any]],
        manifest_sha256: str = "",
        tokens: int = 0,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """What the run learns from, as its manifest has it. `manifest_sha256` is the hash of data/manifest.json."""
        if manifest_sha256 and ":" not in manifest_sha256:
            manifest_sha256 = f"sha256:{manifest_sha256}"
        self._append(
            events.Data, purpose="data", sources=sources, manifest_sha256=manifest_sha256, tokens=tokens,
            details=dict(details or {}),
        )  # fmt: skip

    def step(
        self,
        *,
        step: int,
        tokens: int,
        loss: float,
        learning_rate: float,
        gradient_norm: float | None = None,
        flops: Mapping[str, int] | None = None,
        seconds: float = 0.0,
        purpose: events.Purpose | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """One optimizer step, numbered from 1: tokens over all processes, FLOPs by component, its own seconds."""
        self._append(
            events.Step, purpose=purpose, step=step, tokens=tokens, loss=loss, learning_rate=learning_rate,
            gradient_norm=gradient_norm, flops=dict(flops or {}), seconds=seconds, details=dict(details or {}),
        )  # fmt: skip

    def checkpoint(self, *, step: int, path: Path | str, files: Mapping[str, str] | None = None) -> None:
        """Weights are durable at `path`. `files` gives their hashes (`sha256:<hex>`); without it they are read."""
        folder = Path(path)
        hashes = dict(files) if files else hash_files(folder)
        name = folder.relative_to(self.run_dir) if folder.is_relative_to(self.run_dir) else folder
        odometers = meters.read_odometers()
        self._append(
            events.Checkpoint, durable=True, step=step, path=name.as_posix(), files=hashes, odometers=odometers
        )
        self._enter("progress", odometers)

    def evaluation(
        self,
        *,
        name: str,
        results: Any,
        step: int | None = None,
        tokens: int = 0,
        flops: Mapping[str, int] | None = None,
    ) -> None:
        """What a measurement of the model gave."""
        self._append(
            events.Evaluation, purpose="evaluation", name=name, results=results, step=step, tokens=tokens,
            flops=dict(flops or {}),
        )  # fmt: skip

    def note(self, topic: str, text: str = "", *, purpose: events.Purpose | None = None, **details: Any) -> None:
        """Anything else worth keeping: `plan`, `spike`, `rollback` (with `to_step`: later steps were wasted)."""
        self._append(events.Note, purpose=purpose, topic=topic, text=text, details=details)

    def end(self, status: events.EndStatus, message: str = "") -> None:
        """The session is over, however it went; the file is on disk and the run free for others when this returns."""
        try:
            if self.started and not self.ended:
                self._end(status, message)
        finally:
            self.close()

    def _end(self, status: events.EndStatus, message: str) -> None:
        odometers = meters.read_odometers()
        purpose: events.Purpose | None = "failed" if status == "failed" else None
        self._append(events.End, durable=True, purpose=purpose, status=status, message=message, odometers=odometers)
        self._enter("end", odometers, status)
        self.ended = True
        receipt.write(self.run_dir, self.workspace)

    def close(self) -> None:
        """Free the run without an end event, as a crash would."""
        atexit.unregister(self._at_exit)
        self.meter.stop()
        self._writer.close()
        lock.release_run(self._lock)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.ended:
            self.close()
        elif error is None:
            self.end("completed")
        else:
            self.end(_END_OF_EXCEPTION.get(type(error), "failed"), f"{type(error).__name__}: {error}")

    def _at_exit(self) -> None:
        error = getattr(sys, "last_value", None)  # the exception that nobody caught, if that is why it leaves
        if not self.ended and error is not None:
            self.__exit__(type(error), error, None)
        elif not self.ended:
            self.end("interrupted", "the interpreter left without ending the run")

    def _append(
        self,
        kind: type[events.EventBase],
        *,
        durable: bool = False,
        purpose: events.Purpose | None = None,
        **fields: Any,
    ) -> None:
        """Charge what passed since the last event to this one, check its type, write it, add it up."""
        if self.ended:
            raise FathomError(f"{self.run_dir} is not open: call start or resumed first")
        seconds, joules = self.meter.seconds, self.meter.read()
        event = kind(
            purpose=purpose or self.purpose, wall_time=meters.wall_time(), monotonic_seconds=time.monotonic(),
            elapsed_seconds=seconds - self._last_seconds, joules=meters.difference(joules, self._last_joules), **fields,
        )  # fmt: skip
        self._last_seconds, self._last_joules = seconds, joules
        record = self._writer.append(events.plain(event.model_dump()), durable=durable)
        self._remember(events.event_from_record(record))

    def _remember(self, event: events.Event) -> None:
        self.totals.add(event.body)
        if isinstance(event.body, events.Start | events.Resume):
            self._billed = event.body.hardware.get("billed", [])
        if isinstance(event.body, events.Start):
            self.run_id, self.purpose = event.hash, event.body.purpose

    def _enter(self, entry: workspace.Entry, odometers: events.Odometers, status: reading.Status = "running") -> None:
        purposes = reading.by_purpose(reading.read(self.run_dir), status) if entry == "end" else None
        workspace.enter(
            self.workspace, entry, run=run_name(self.run_dir, self.workspace), run_id=self.run_id,
            purpose=self.purpose, head=self._writer.head, odometers=odometers, billed=self._billed,
            totals=self.totals, by_purpose=purposes, status=status,
        )  # fmt: skip


def run_name(run_dir: Path, runs: Path) -> str:
    """How the workspace calls the run: its folder's path from there."""
    return Path(os.path.relpath(run_dir, runs)).as_posix()


def hash_files(folder: Path) -> dict[str, str]:
    """`sha256:<hex>` of every file under a folder, by its path in there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in files}


def last_session(past: list[events.Event], now: events.Odometers) -> dict[str, Any]:
    """How the session before ended and what passed unseen since its last event, as far as it can be known."""
    last = past[-1].body
    known: dict[str, Any] = {"last_event": last.kind, "last_wall_time": last.wall_time}
    known["ended"] = last.status if isinstance(last, events.End) else "killed"
    before = next((e.body.odometers for e in reversed(past) if hasattr(e.body, "odometers")), None)
    if before is None or (before.boot_id, before.host_id) != (now.boot_id, now.host_id):
        return {**known, "unseen": "another machine or boot: what passed between cannot be known"}
    known["unseen_seconds"] = max(now.monotonic_seconds - last.monotonic_seconds, 0.0)
    known["counters_since"] = before.wall_time
    known["device_joules"] = {
        new.id: new.joules - old.joules
        for new in now.devices
        for old in before.devices
        if new.id == old.id and new.joules is not None and old.joules is not None and new.joules >= old.joules
    }
    return known
