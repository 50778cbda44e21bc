"""Compressed files read as streams that know where they are: a cut or spoilt file is named with its byte position."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fathom.errors import FathomError, MissingExtra

_READ_BYTES = 1 << 18
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = tuple(bytes([0x50 + low, 0x2A, 0x4D, 0x18]) for low in range(16))
_ZSTD_MAX_WINDOW = 1 << 31  # what `zstd --long=31` writes


def open_bytes(path: Path) -> BinaryIO:
    """The file's bytes, decompressed if its name ends in `.gz` or `.zst`.

    Reading raises `FathomError` with file and byte position for a stream that is cut off, spoilt or followed by
    something else. Several members or frames one after the other are read through.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise FathomError(f"cannot read {path}: {error.strerror}") from error
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return io.BufferedReader(
            _Stream(_members(path, raw, "gzip", lambda: zlib.decompressobj(wbits=31), (_GZIP_MAGIC,)), raw), _READ_BYTES
        )
    if suffix == ".zst":
        return io.BufferedReader(
            _Stream(_members(path, raw, "zstd", _zstd_decompressor(), (_ZSTD_MAGIC, *_ZSTD_SKIPPABLE)), raw),
            _READ_BYTES,
        )
    return raw


def _zstd_decompressor() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtra("zstandard") from error
    return lambda: zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW).decompressobj()


class _Stream(io.RawIOBase):
    """A readable stream over an iterator of blocks."""

    def __init__(self, blocks: Iterator[bytes], raw: BinaryIO) -> None:
        self._blocks, self._raw, self._left = blocks, raw, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._left = block
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _members(path: Path, raw: BinaryIO, kind: str, new: Any, magics: tuple[bytes, ...]) -> Iterator[bytes]:
    """Decompressed blocks of one compressed member after the other."""
    waiting = raw.read(_READ_BYTES)
    position = len(waiting)
    while waiting:
        start = position - len(waiting)
        while len(waiting) < 4 and (more := raw.read(4)):
            waiting, position = waiting + more, position + len(more)
        if start and not waiting.strip(b"\0") and not raw.read(1):
            return  # padding with zeros, as tapes and some tools leave it
        if not waiting.startswith(magics):
            place = (
                f"holds something else than {kind} data from byte {start}"
                if start
                else f"is not {kind} data although its name says so"
            )
            raise FathomError(f"{path} {place}; mend or remove the file")
        member = new()
        while not member.eof:
            if not waiting:
                waiting = raw.read(_READ_BYTES)
                position += len(waiting)
            if not waiting:
                raise FathomError(
                    f"{path} is cut off: its {kind} stream breaks off at byte {position}; fetch the file again"
                )
            try:
                block = member.decompress(waiting)
            except Exception as error:  # zlib.error or ZstdError, of two libraries
                raise FathomError(
                    f"{path} is spoilt: its {kind} data cannot be read near byte {position}: {error}"
                ) from error
            waiting = b""
            if block:
                yield block
        waiting = member.unused_data
        if not waiting:
            waiting = raw.read(_READ_BYTES)
            position += len(waiting)
