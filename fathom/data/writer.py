"""Shards written as a stream: nothing but the document at hand is held in memory."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from fathom.data.records import FileRecord, ShardEntry


class _HashedFile:
    """A file being written, its size and SHA-256 kept along the way."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._path = directory / name
        self._stream: BinaryIO = self._path.open("wb")
        self._hash = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        self._stream.write(data)
        self._hash.update(data)
        self._bytes += len(data)

    def close(self) -> FileRecord:
        self._stream.close()
        return FileRecord(name=self.name, bytes=self._bytes, sha256=self._hash.hexdigest())

    def discard(self) -> None:
        self._stream.close()
        self._path.unlink()


class ShardWriter:
    """Writes one shard (see `fathom.data.shards`): tokens, offsets, bytes, and a mask if any token is masked."""

    def __init__(self, directory: Path, stem: str, dtype: str) -> None:
        (directory / "shards").mkdir(parents=True, exist_ok=True)
        self._dtype = np.dtype(dtype)
        self._files = {
            part: _HashedFile(directory, f"shards/{stem}.{part}") for part in ("tokens", "offsets", "mask", "bytes")
        }
        self._files["offsets"].write(np.zeros(1, np.uint64).tobytes())
        self._pending_bits = np.zeros(0, bool)
        self._masked = False
        self._documents = self._tokens = self._targets = self._text_bytes = 0

    def add(self, ids: list[int], text_bytes: int, mask: list[bool] | None = None) -> None:
        """One document's tokens, start and end included; `mask` says which are to be predicted (default: all)."""
        bits = np.ones(len(ids), bool) if mask is None else np.asarray(mask, bool)
        bits[0] = False  # the first token is never a target
        self._masked |= not bits[1:].all()
        self._write_bits(bits)
        self._documents += 1
        self._tokens += len(ids)
        self._targets += int(bits.sum())
        self._text_bytes += text_bytes
        self._files["tokens"].write(np.asarray(ids, self._dtype).tobytes())
        self._files["offsets"].write(np.uint64(self._tokens).tobytes())
        self._files["bytes"].write(np.uint64(text_bytes).tobytes())

    def _write_bits(self, bits: np.ndarray) -> None:
        bits = np.concatenate([self._pending_bits, bits])
        whole = len(bits) // 8 * 8
        self._files["mask"].write(np.packbits(bits[:whole], bitorder="little").tobytes())
        self._pending_bits = bits[whole:]

    def close(self) -> ShardEntry:
        self._files["mask"].write(np.packbits(self._pending_bits, bitorder="little").tobytes())
        if not self._masked:
            self._files.pop("mask").discard()
        return ShardEntry(
            documents=self._documents,
            tokens=self._tokens,
            targets=self._targets,
            text_bytes=self._text_bytes,
            files={part: file.close() for part, file in self._files.items()},
        )
