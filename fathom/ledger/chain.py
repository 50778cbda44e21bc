"""Lines that each carry the hash of the one before: the form of every ledger, and how a broken one is told.

A line is the RFC 8785 canonical JSON of one object and a newline. `hash` is the algorithm's name, a colon and the
digest of the canonical form of the object without `hash`; `previous` is the hash of the line before (`GENESIS` for the
first). Because only the canonical bytes are accepted, any byte that changes, white space too, is seen.

A crash may leave the last line torn. What stands there is never removed: the next append closes it with a newline and
its own record says, under `torn`, how many bytes there were and what their hash is. A torn stretch that no later line
names is a change, not a crash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rfc8785

from fathom.errors import FathomError

ALGORITHM = "sha256"
GENESIS = f"{ALGORITHM}:{'0' * 64}"
SCHEMA_VERSION = 1


def digest(content: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return f"{ALGORITHM}:{hashlib.sha256(content).hexdigest()}"


def hash_file(path: Path) -> str:
    """`sha256:<hex>` of a file, read in pieces."""
    with path.open("rb") as file:
        return f"{ALGORITHM}:{hashlib.file_digest(file, ALGORITHM).hexdigest()}"


def canonical(value: Any) -> bytes:
    """The RFC 8785 form of a JSON value. Raises FathomError for what JSON cannot carry exactly."""
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise FathomError(f"a ledger line cannot hold this value exactly: {error}") from error


def seal(record: Mapping[str, Any]) -> bytes:
    """One finished line, newline included, of a record that has no `hash` yet."""
    sealed = {**record, "hash": digest(canonical(dict(record)))}
    return canonical(sealed) + b"\n"


@dataclass
class Chain:
    """What reading a ledger file found. `records` are the lines that hold; `problems` are sentences, none if whole."""

    records: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    torn: bytes = b""  # an unfinished last line that no later line speaks of: a crash, or the run is writing just now
    torn_closed: bool = False  # the torn line has its newline already: the crash came while it was being closed

    @property
    def head(self) -> str:
        return self.records[-1]["hash"] if self.records else GENESIS

    @property
    def whole(self) -> bool:
        return not self.problems and not self.torn


def read_chain(path: Path) -> Chain:
    """Read and check every line; never raises for what the file holds, only where it cannot be read at all."""
    chain = Chain()
    lines = path.read_bytes().split(b"\n")
    chain.torn = lines.pop()  # what follows the last newline: nothing, or a torn line
    pending: bytes | None = None  # a stretch that does not hold, waiting for the next line to own up to it
    for number, line in enumerate(lines, start=1):
        record = _parse(line)
        if record is None:
            if pending is not None:
                chain.problems.append(f"line {number - 1} is not a ledger line: it was changed or damaged")
            pending = line
            continue
        _link(chain, record, number, pending)
        pending = None
    if pending is not None and not chain.torn:
        chain.torn, chain.torn_closed = pending, True
    elif pending is not None:
        chain.problems.append(f"line {len(lines)} is not a ledger line: it was changed or damaged")
    return chain


def _parse(line: bytes) -> dict[str, Any] | None:
    """The record of a line whose bytes are canonical and whose own hash is right, else None."""
    try:
        record = json.loads(line, parse_int=_number)
        if not isinstance(record, dict) or rfc8785.dumps(record) != line:
            return None
        body = {key: value for key, value in record.items() if key != "hash"}
        return record if record.get("hash") == digest(rfc8785.dumps(body)) else None
    except (ValueError, RecursionError, rfc8785.CanonicalizationError):
        return None


def _number(text: str) -> int | float:
    """A whole number beyond 2**53 was a float when it was written (RFC 8785 writes both alike)."""
    return value if abs(value := int(text)) < 2**53 else float(text)


def _link(chain: Chain, record: dict[str, Any], number: int, pending: bytes | None) -> None:
    """Hold a sound record against the line before it and against the torn stretch that it may speak of."""
    named = record.get("torn")
    if pending is not None and named != _describe(pending):
        chain.problems.append(f"line {number - 1} is not a ledger line: it was changed or damaged")
    if pending is None and named is not None and named["bytes"]:
        chain.problems.append(f"line {number} speaks of a torn line before it that is not there")
    if record.get("previous") != chain.head or record.get("sequence") != len(chain.records):
        chain.problems.append(f"line {number} does not follow the line before it: lines were removed, added or moved")
    chain.records.append(record)


def _describe(torn: bytes) -> dict[str, Any]:
    return {"bytes": len(torn), "hash": digest(torn)}


class Writer:
    """Appends sealed records to one file that no other process appends to (see `lock`)."""

    def __init__(self, path: Path) -> None:
        """Open for appending. Raises FathomError where the ledger that is there does not hold."""
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._load()

    def _load(self) -> None:
        self._stale = True
        chain = read_chain(self.path)
        if chain.problems:
            raise FathomError(f"{self.path} cannot be continued: {chain.problems[0]}")
        self.records, self._head, self._count = chain.records, chain.head, len(chain.records)
        self._torn = self._close_torn(chain) if chain.torn else None
        self._stale = False

    def _close_torn(self, chain: Chain) -> dict[str, Any]:
        """Give a torn tail its newline. One that is a whole line but for the newline counts as written."""
        if not chain.torn_closed:
            _write_all(self._file, b"\n")
        record = _parse(chain.torn)
        if record is not None and record.get("previous") == self._head and record.get("sequence") == self._count:
            self.records.append(record)
            self._head, self._count = record["hash"], self._count + 1
            return _describe(b"")
        return _describe(chain.torn)

    def append(self, body: Mapping[str, Any], *, durable: bool = False) -> dict[str, Any]:
        """Write one record (schema version, sequence number and previous hash are added here); return it whole.

        With `durable` the file is on disk when this returns. A write that fails half-way (a full disk) raises OSError
        and leaves a torn line, which the next append names.
        """
        if self._stale:
            self._load()
        record: dict[str, Any] = {**body, "schema_version": SCHEMA_VERSION, "sequence": self._count}
        record["previous"] = self._head
        if self._torn is not None:
            record["torn"] = self._torn
        line = seal(record)
        try:
            _write_all(self._file, line)
        except OSError:
            self._stale = True  # some of it may have reached the file: look again before the next append
            raise
        self._torn = None
        sealed = json.loads(line, parse_int=_number)
        self._head, self._count = sealed["hash"], self._count + 1
        if durable:
            os.fsync(self._file)
        return sealed

    @property
    def head(self) -> str:
        return self._head

    @property
    def count(self) -> int:
        return self._count

    def close(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1


def _write_all(file: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(file, view) :]
