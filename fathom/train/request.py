"""What a person asks `fathom train` for, and which run answers it: a new one, or the one that was interrupted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from fathom.errors import FathomError
from fathom.ledger.lock import is_running
from fathom.train.recipe import RequestSection
from fathom.train.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Request:
    """The command line of `fathom train`, checked."""

    paths: list[str]
    budget: str = ""
    start_from: str = ""
    recipe: str = ""
    size: str = ""
    sets: list[str] = field(default_factory=list)
    name: str = ""
    runs: Path = Path("runs")

    def section(self) -> RequestSection:
        return RequestSection(
            paths=list(self.paths),
            budget=self.budget,
            start_from=self.start_from,
            recipe=self.recipe,
            size=self.size,
            sets=list(self.sets),
        )

    def default_name(self) -> str:
        """Told from the request: `rust-rfcs-smollm2-5min`."""
        first = (
            Path(self.paths[0].removeprefix("builtin:").removeprefix("hf:")).name.split(".")[0] if self.paths else "run"
        )
        parts = [first, Path(self.start_from.removeprefix("hf:")).name, Path(self.recipe).stem, self.size, self.budget]
        text = "-".join(part for part in parts if part)
        return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:80] or "run"


def find_run(request: Request) -> RunFolder:
    """The folder to work in: that of an unfinished run of the same request, else a new one.

    Raises FathomError where the name asked for belongs to a finished run, to another request, or to a live process.
    """
    if request.name:
        return _named(request)
    base = request.default_name()
    number = 1
    while True:
        folder = RunFolder(request.runs / (base if number == 1 else f"{base}-{number}"))
        if not folder.path.exists() or (_same(folder, request) and not is_running(folder.path)):
            return folder
        number += 1


def _named(request: Request) -> RunFolder:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", request.name):
        raise FathomError(f"--name {request.name!r} cannot name a folder; use letters, digits, '.', '_' and '-'")
    folder = RunFolder(request.runs / request.name)
    if not folder.path.exists():
        return folder
    if is_running(folder.path):
        raise FathomError(f"{folder.path} is being trained by another process; wait for it or choose another --name")
    if folder.finished:
        raise FathomError(
            f"{folder.path} is a finished run; choose another --name, or go on from it with --from {request.name}"
        )
    if not _same(folder, request):
        raise FathomError(
            f"{folder.path} is an unfinished run of another request{_difference(folder, request)}; choose another "
            f"--name"
        )
    return folder


def _same(folder: RunFolder, request: Request) -> bool:
    return folder.exists and not folder.finished and folder.recipe().request == request.section()


def _difference(folder: RunFolder, request: Request) -> str:
    if not folder.exists:
        return ""
    before, now = folder.recipe().request.model_dump(), request.section().model_dump()
    key = next(key for key in now if now[key] != before[key])
    return f" ({key} was {before[key]!r}, now {now[key]!r})"
