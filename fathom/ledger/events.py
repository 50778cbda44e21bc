"""The kinds of event that a run's ledger holds, as types: what may be written, in which unit, and nothing else.

Every event says when it was written, the seconds and joules that passed since the event before it in the same session
and the purpose they served, so the events of a session add up to all of its time, with no gap. Counts above 2**53 are
written as decimal strings, since JSON numbers (RFC 8785, I-JSON) are exact only below; numbers that are not finite are
written as the strings `NaN`, `Infinity` and `-Infinity`.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from fathom.errors import FathomError

Purpose = Literal["final", "ablation", "failed", "tuning", "evaluation", "data"]
Method = Literal["counter", "integrated power", "modelled", "mixed", "unknown"]
EndStatus = Literal["completed", "stopped", "interrupted", "failed"]

MAX_EXACT_INTEGER = 2**53 - 1


def exact(value: int) -> int | str:
    return value if abs(value) <= MAX_EXACT_INTEGER else str(value)


Count = Annotated[int, Field(ge=0)]


class Typed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Joules(Typed):
    """Energy of one stretch of time with the interval it is known to; equal ends where a counter was read."""

    low: float = Field(ge=0)
    likely: float = Field(ge=0)
    high: float = Field(ge=0)
    method: Method
    lost_samples: int = 0  # counter readings that could not be used (a wrap of unknown size): joules are missing


class Odometer(Typed):
    """One device's running total as read off the device, so that work between two runs can be seen."""

    device: str  # `gpu`, `rapl`
    id: str  # the GPU's UUID, the RAPL zone's path and name
    name: str = ""
    joules: float | None = None  # None: the device has no counter that can be read here
    driver: str = ""
    power_limit_watts: float | None = None


class Odometers(Typed):
    """Every counter of the machine at one moment."""

    boot_id: str
    host_id: str  # a hash of the machine id: tells two machines apart without naming them
    monotonic_seconds: float
    wall_time: str
    devices: list[Odometer] = []


class SourceSummary(BaseModel):
    """One source of the training data, as its manifest has it; further fields of the manifest are kept."""

    model_config = ConfigDict(extra="allow")

    name: str
    license: str = "unknown"
    documents: Count = 0
    bytes: Count = 0
    sha256: str = ""
    dropped: dict[str, Count] = {}


class EventBase(Typed):
    """What every event carries. The chain adds sequence number, previous hash and its own hash."""

    purpose: Purpose
    wall_time: str
    monotonic_seconds: float
    elapsed_seconds: float = Field(ge=0)
    joules: Joules


class Start(EventBase):
    kind: Literal["start"] = "start"
    run: str
    recipe: dict[str, Any]
    environment: dict[str, Any]
    hardware: dict[str, Any]
    code: dict[str, Any]
    odometers: Odometers


class Resume(EventBase):
    """A run goes on. What its last session did after its last event died with it; what can be known is said here."""

    kind: Literal["resume"] = "resume"
    from_step: Count
    environment: dict[str, Any]
    hardware: dict[str, Any]
    code: dict[str, Any]
    odometers: Odometers
    last_session: dict[str, Any]


class Data(EventBase):
    kind: Literal["data"] = "data"
    sources: list[SourceSummary]
    manifest_sha256: str = ""
    tokens: Count = 0
    details: dict[str, Any] = {}


class Step(EventBase):
    kind: Literal["step"] = "step"
    step: Count
    tokens: Count  # of this step, over all processes
    loss: float
    learning_rate: float
    gradient_norm: float | None = None
    flops: dict[str, Count] = {}  # by component, of this step
    seconds: float = Field(default=0.0, ge=0)  # of the step's own work; the rest of elapsed_seconds is overhead
    details: dict[str, Any] = {}


class Checkpoint(EventBase):
    kind: Literal["checkpoint"] = "checkpoint"
    step: Count
    path: str
    files: dict[str, str]  # file name -> `sha256:<hex>`
    odometers: Odometers


class Evaluation(EventBase):
    kind: Literal["evaluation"] = "evaluation"
    name: str
    step: Count | None = None
    results: Any
    tokens: Count = 0
    flops: dict[str, Count] = {}


class Note(EventBase):
    """Something worth remembering that is none of the other kinds: `plan`, `spike`, `rollback` (with `to_step`)."""

    kind: Literal["note"] = "note"
    topic: str
    text: str = ""
    details: dict[str, Any] = {}


class End(EventBase):
    kind: Literal["end"] = "end"
    status: EndStatus
    message: str = ""
    odometers: Odometers


Payload: TypeAlias = Annotated[
    Start | Resume | Data | Step | Checkpoint | Evaluation | Note | End, Field(discriminator="kind")
]
PAYLOADS: TypeAdapter[Payload] = TypeAdapter(Payload)


class Event(Typed):
    """One line of a ledger: its place in the chain and what it says."""

    sequence: int
    previous: str
    hash: str
    schema_version: int
    torn: dict[str, Any] | None = None
    body: Payload


def plain(value: Any, whole: Callable[[int], int | str] = exact) -> Any:
    """The value as canonical JSON carries it: large counts and numbers that are not finite as strings, arrays as lists.

    `whole` writes an integer. Raises FathomError for a type that has no such form.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return whole(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _NOT_FINITE.get(value, "NaN")
    if isinstance(value, Mapping):
        return {str(key): plain(item, whole) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, whole) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value), whole)
    if isinstance(value, BaseModel):
        return plain(value.model_dump(), whole)
    if isinstance(value, PurePath | datetime.date):
        return str(value)
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and torch, without importing either
        return plain(value.tolist(), whole)
    raise FathomError(f"a ledger cannot hold a {type(value).__name__}: {value!r:.80}")


_NOT_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}
CHAIN_FIELDS = ("sequence", "previous", "hash", "schema_version", "torn")


def event_from_record(record: dict[str, Any]) -> Event:
    """The typed event of one verified line. Raises pydantic.ValidationError for what this version does not know."""
    body = {key: value for key, value in record.items() if key not in CHAIN_FIELDS}
    return Event(body=PAYLOADS.validate_python(body), **{key: record[key] for key in CHAIN_FIELDS if key in record})
