"""Reading a run's ledger: its events, how it stands, which of its steps were wasted, what served which purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

import pydantic

from fathom.errors import FathomError
from fathom.ledger import events, lock
from fathom.ledger.chain import SCHEMA_VERSION, read_chain
from fathom.ledger.events import Event
from fathom.ledger.totals import Totals

LEDGER_NAME = "ledger.jsonl"
Status = Literal["running", "killed", "completed", "stopped", "interrupted", "failed"]
# A run that ended like this left no model that anybody asked for: what it took is the price of failing.
UNFINISHED: frozenset[Status] = frozenset({"killed", "interrupted", "failed"})

Kind = TypeVar("Kind", bound=events.EventBase)


def read(run_dir: Path | str) -> list[Event]:
    """The events of a run, a torn last line left out. Raises FathomError where its ledger does not hold."""
    path = Path(run_dir) / LEDGER_NAME
    if not path.is_file():
        raise FathomError(f"{run_dir} is not a run: it has no {LEDGER_NAME}")
    chain = read_chain(path)
    if chain.problems:
        raise FathomError(f"{path} does not hold: {chain.problems[0]}")
    return [parse(record, path) for record in chain.records]


def parse(record: dict, path: Path) -> Event:
    """The typed event of a line. Raises FathomError for the line of another version of Fathom."""
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        raise FathomError(
            f"{path} has events of schema version {version}; this Fathom reads version {SCHEMA_VERSION}: "
            "use the Fathom that wrote the run"
        )
    try:
        return events.event_from_record(record)
    except pydantic.ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise FathomError(
            f"{path}, event {record.get('sequence')}: field {where}: {error.errors()[0]['msg']}"
        ) from error


def only(past: list[Event], kind: type[Kind]) -> list[Kind]:
    """The bodies of one kind of event, in order."""
    return [event.body for event in past if isinstance(event.body, kind)]


def status_of(run_dir: Path, past: list[Event]) -> Status:
    """How the run stands: its end event's word, else whether a process holds it."""
    if past and isinstance(past[-1].body, events.End):
        return past[-1].body.status
    return "running" if lock.is_running(run_dir) else "killed"


def wasted(past: list[Event]) -> set[int]:
    """Sequence numbers of step events that a resume or a rollback to an earlier step made worthless."""
    lost: set[int] = set()
    for position, event in enumerate(past):
        back_to = _back_to(event.body)
        if back_to is not None:
            lost |= {earlier.sequence for earlier in past[:position] if _step(earlier.body) > back_to}
    return lost


def _back_to(body: events.Payload) -> int | None:
    if isinstance(body, events.Resume):
        return body.from_step
    if isinstance(body, events.Note) and body.topic == "rollback":
        return int(body.details["to_step"])
    return None


def _step(body: events.Payload) -> int:
    return body.step if isinstance(body, events.Step) else -1


def by_purpose(past: list[Event], status: Status) -> dict[str, Totals]:
    """What the run took, by purpose. Wasted steps, starting again and an unfinished run count as failed; the sums are
    the whole.
    """
    lost = wasted(past)
    totals: dict[str, Totals] = {}
    for event in past:
        again = event.sequence in lost or isinstance(event.body, events.Resume)
        failed = again or (status in UNFINISHED and event.body.purpose == "final")
        purpose = "failed" if failed else event.body.purpose
        totals.setdefault(purpose, Totals()).add(event.body)
    return totals
