"""Safetensors files, believed only after their header has been held against the file.

A file shorter than its header promises still maps into memory and reads as zeros or garbage, so lengths, shapes and
offsets are checked first (format: https://huggingface.co/docs/safetensors). Pickled weights are never opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fathom.errors import FathomError

# Bytes of one element. 8-bit floats are left out on purpose: they mean nothing without their scales.
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> {dtype, shape, data_offsets} of a file that holds every byte it promises; else raises FathomError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
            raise FathomError(
                f"{path} is no whole safetensors file: its header claims {length} bytes, the file has {size}"
            )
        text = file.read(length)
    try:
        header = json.loads(text)
        header.pop("__metadata__", None)
        ends = [_check_tensor(path, name, entry) for name, entry in header.items()]
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise FathomError(f"{path} is no safetensors file: its header cannot be read ({error})") from None
    missing = max(ends, default=0) - (size - 8 - length)
    if missing > 0:
        raise FathomError(f"{path} is cut short: {missing} bytes are missing from its end; fetch or copy it again")
    return header


def _check_tensor(path: Path, name: str, entry: Mapping[str, Any]) -> int:
    start, end = entry["data_offsets"]
    if entry["dtype"] not in _ITEM_BYTES:
        raise FathomError(f"{path}: tensor {name} has type {entry['dtype']}; Fathom reads {', '.join(_ITEM_BYTES)}")
    expected = math.prod(entry["shape"]) * _ITEM_BYTES[entry["dtype"]]
    if start < 0 or end - start != expected or any(side < 0 for side in entry["shape"]):
        raise FathomError(
            f"{path}: tensor {name} of shape {entry['shape']} needs {expected} bytes, its header gives {end - start}"
        )
    return end


class Checkpoint:
    """All tensors of a folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file_of = {name: path for path in _files(directory) for name in read_header(path)}
        self._open: dict[Path, Any] = {}

    def names(self) -> set[str]:
        return set(self._file_of)

    def read(self, name: str) -> Tensor:
        """One tensor, in its stored type. Raises FathomError if it is not there."""
        if name not in self._file_of:
            raise FathomError(f"{self.directory} lacks the tensor {name}")
        path = self._file_of[name]
        try:
            if path not in self._open:
                self._open[path] = safe_open(path, framework="pt")
            return self._open[path].get_tensor(name)
        except SafetensorError as error:
            raise FathomError(f"{path} cannot be read: {error}") from None


def _files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if (directory / "model.safetensors").is_file():
        return [directory / "model.safetensors"]
    if not index.is_file():
        pickled = [path.name for path in directory.glob("*.bin")] if directory.is_dir() else []
        hint = f"; {pickled[0]} is a pickle, which can run code and is never opened" if pickled else ""
        raise FathomError(f"{directory} has no model.safetensors{hint}")
    return [_shard(directory, name) for name in sorted(_shard_names(index))]


def _shard_names(index: Path) -> set[str]:
    try:
        names = set(json.loads(index.read_text())["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError, UnicodeDecodeError):
        raise FathomError(
            f"{index} is no index of shards: it needs an object 'weight_map' of tensor names to files"
        ) from None
    if not all(isinstance(name, str) for name in names):
        raise FathomError(f"{index} is no index of shards: the files in 'weight_map' must be names")
    return names


def _shard(directory: Path, name: str) -> Path:
    if Path(name).name != name:
        raise FathomError(
            f"model.safetensors.index.json names the shard {name!r}; a shard must lie in the folder itself"
        )
    if not (directory / name).is_file():
        raise FathomError(f"{directory} lacks the shard {name} that model.safetensors.index.json names")
    return directory / name


def write_shards(directory: Path, tensors: Iterable[tuple[str, Tensor]], max_shard_bytes: int) -> None:
    """Write tensors as `model.safetensors`, or as numbered shards with an index where one file would be too large."""
    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name, tensor in tensors:
        if filled and filled + tensor.nbytes > max_shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    if len(shards) == 1:
        _write(directory / "model.safetensors", shards[0])
        return
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file_name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        _write(directory / file_name, shard)
        weight_map |= dict.fromkeys(shard, file_name)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Whole or not at all: a half-written file never bears the name."""
    partial = path.with_suffix(".partial")
    try:
        save_file({name: _owned(tensor) for name, tensor in tensors.items()}, partial, metadata={"format": "pt"})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise FathomError(f"{path} cannot be written: {error}") from None


def _owned(tensor: Tensor) -> Tensor:
    """Contiguous and sharing no memory with another tensor, as the format demands."""
    whole = tensor.untyped_storage().nbytes() == tensor.nbytes and tensor.is_contiguous()
    return tensor if whole else tensor.clone(memory_format=torch.contiguous_format)
