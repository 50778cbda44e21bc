"""Checkpoints: safetensors and one JSON file each, whole or absent, verified before use.

    checkpoints/
      latest               text: the name of the newest whole checkpoint
      step-00000500/
        model.safetensors      parameters (fp32) and buffers, by name
        optimizer.safetensors  momenta and moments, by name
        state.json             format version, step, and each file's SHA-256 and size

A checkpoint is written into `.part-*`, each file and the folder flushed to the disk, then renamed; only then does
`latest` move, and only then do older ones go. A kill at any moment leaves either the old state or the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fathom.errors import FathomError, RunFailed
from fathom.train.durable import disk_errors, file_sha256, flush_file, write_text
from fathom.train.parallel import Parallel

FORMAT_VERSION = 1
_PARTS = ("model", "optimizer")


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint: `step` steps are done."""

    path: Path
    step: int
    state: dict[str, Any]

    def tensors(self, part: str = "model") -> dict[str, Tensor]:
        """The tensors of 'model' or 'optimizer'. Raises FathomError where the file is damaged."""
        file = self.path / f"{part}.safetensors"
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise FathomError(f"{file} is not a readable safetensors file: {error}") from None


def checkpoints_directory(run_directory: Path) -> Path:
    return run_directory / "checkpoints"


def save(
    run_directory: Path,
    step: int,
    *,
    model: dict[str, Tensor],
    optimizer: dict[str, Tensor],
    state: dict[str, Any],
    keep_last: int = 2,
    parallel: Parallel | None = None,
) -> Checkpoint:
    """Write the state after `step` completed steps and point `latest` to it. Every process calls it.

    Raises RunFailed with the file's name where the disk is full; what was there before is then untouched.
    """
    parallel = parallel or Parallel()
    final = checkpoints_directory(run_directory) / f"step-{step:08d}"
    aside = final.with_name(f".part-{final.name}")
    try:
        if parallel.writes:
            _make_aside(aside)
        parallel.wait()
        for part, tensors in {"model": model, "optimizer": optimizer}.items():
            with disk_errors(aside / f"{part}.safetensors"):
                parallel.write(tensors, aside / f"{part}.safetensors")
        if parallel.writes:
            state = _seal(aside, step, state)
            _publish(aside, final, keep_last)
        parallel.wait()
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return Checkpoint(final, step, state)


def _make_aside(aside: Path) -> None:
    """An empty folder to write in; what killed writes left behind goes."""
    aside.parent.mkdir(parents=True, exist_ok=True)
    for leftover in aside.parent.glob(".part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()


def _publish(aside: Path, final: Path, keep_last: int) -> None:
    """Rename the durable folder, then move `latest`, then drop older ones: in this order a kill loses nothing."""
    if final.exists():  # the same step, written by the run that was killed and repeated exactly
        shutil.rmtree(final)
    aside.replace(final)
    flush_file(final.parent)
    write_text(final.with_name("latest"), final.name + "\n")
    _drop_others(final, keep_last)


def _seal(aside: Path, step: int, state: dict[str, Any]) -> dict[str, Any]:
    """Flush the files to the disk and write what they must be found to be."""
    files = {}
    for part in _PARTS:
        file = aside / f"{part}.safetensors"
        with disk_errors(file):
            flush_file(file)
        files[file.name] = {"sha256": file_sha256(file), "bytes": file.stat().st_size}
    state = {**state, "format_version": FORMAT_VERSION, "step": step, "files": files}
    write_text(aside / "state.json", json.dumps(state, indent=1, sort_keys=True) + "\n")
    flush_file(aside)
    return state


def _drop_others(newest: Path, keep_last: int) -> None:
    """Keep `newest` and the `keep_last` - 1 before it; a later step can only be a killed run's that `latest` never
    reached.
    """
    others = sorted(newest.parent.glob("step-*"))
    before = [path for path in others if path.name < newest.name]
    kept = {newest, *before[-(keep_last - 1) :]} if keep_last > 1 else {newest}
    for path in others:
        if path not in kept:
            shutil.rmtree(path, ignore_errors=True)


def load_latest(run_directory: Path) -> Checkpoint | None:
    """The newest checkpoint, verified file by file; None where the run has none yet."""
    directory = checkpoints_directory(run_directory)
    pointer = directory / "latest"
    if not pointer.is_file():
        return None
    return load_checkpoint(directory / f"step-{latest_step(run_directory):08d}")


def latest_step(run_directory: Path) -> int:
    """Steps done at the newest checkpoint, by its name alone; 0 where there is none."""
    pointer = checkpoints_directory(run_directory) / "latest"
    name = pointer.read_text(encoding="utf-8").strip() if pointer.is_file() else "step-0"
    try:
        return int(name.removeprefix("step-"))
    except ValueError:
        raise FathomError(
            f"{pointer} names {name!r}, which is no checkpoint; it should be like step-00000500"
        ) from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Verify one checkpoint folder. Raises FathomError naming the file that is missing, cut short, changed or of
    another version.
    """
    state = _read_state(path / "state.json")
    if state.get("format_version") != FORMAT_VERSION:
        raise FathomError(
            f"{path} has checkpoint format {state.get('format_version')!r}; this Fathom reads format {FORMAT_VERSION}"
        )
    for name, expected in _listed_files(path, state).items():
        _verify_file(path / name, expected)
    return Checkpoint(path, int(state["step"]), state)


def _read_state(file: Path) -> dict[str, Any]:
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FathomError(f"{file} is missing: the checkpoint is not whole") from None
    except (ValueError, OSError) as error:
        raise FathomError(f"{file} cannot be read: {error}") from None
    if not isinstance(state, dict):
        raise FathomError(f"{file} is not a checkpoint's state: a JSON object was expected")
    return state


def _listed_files(path: Path, state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    files, wanted = state.get("files"), {f"{part}.safetensors" for part in _PARTS}
    step_ok = isinstance(state.get("step"), int)
    if not step_ok or not isinstance(files, dict) or files.keys() != wanted:
        raise FathomError(f"{path / 'state.json'} does not list the files {', '.join(sorted(wanted))} and a step")
    return files


def _verify_file(file: Path, expected: dict[str, Any]) -> None:
    if not file.is_file():
        raise FathomError(f"{file} is missing: the checkpoint is not whole")
    size = file.stat().st_size
    if size != expected.get("bytes"):
        raise FathomError(f"{file} has {size} bytes instead of {expected.get('bytes')}: it was cut short or replaced")
    if file_sha256(file) != expected.get("sha256"):
        raise FathomError(f"{file} does not have the SHA-256 that its checkpoint recorded: it was changed or damaged")


def check_room(run_directory: Path, bytes_needed: int) -> None:
    """Refuse to start a run whose first checkpoint cannot fit. Raises RunFailed with both numbers."""
    free = shutil.disk_usage(run_directory).free
    if free < bytes_needed:
        raise RunFailed(
            f"a checkpoint needs {bytes_needed / 1e6:,.0f} MB and the disk of {os.fspath(run_directory)} has "
            f"{free / 1e6:,.0f} MB free; "
            "free some space or choose another place with --runs"
        )
