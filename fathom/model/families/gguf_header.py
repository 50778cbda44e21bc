"""The header of a GGUF file: metadata and the table of tensors, every length checked before it is believed.

Layout (ggml's `docs/gguf.md`): magic, version, tensor count, key count, the key-value pairs, one record a tensor,
padding, data. All numbers are little-endian. The `gguf` package has a reader too; it trusts the lengths that it reads
and makes an array for each string (2.4 s for a vocabulary of 49,152 against 0.1 s here), so it is used only for the
quantised formats.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.errors import FathomError, MissingExtra

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MAX_DIMS = 4  # GGML_MAX_DIMS
_MAX_NAME_BYTES = 65_535  # of a key, by the specification; tensor names have 64
_MAX_STRINGS = 1 << 24  # in one array; the largest published vocabularies have about 2**18 entries
_SMALLEST_PAIR_BYTES, _SMALLEST_TENSOR_BYTES = 13, 24  # what one record takes at the least


@dataclass(frozen=True)
class TensorRecord:
    """Where one tensor lies. `shape` is row-major (outermost first), `offset` counts from the start of the file."""

    name: str
    shape: tuple[int, ...]
    kind: str  # ggml's name of the format: F32, Q4_1, ...
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says about itself, with all its tensors known to lie inside the file and apart from each
    other.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorRecord]


def read_header(path: Path | str) -> GgufHeader:
    """Read and check the header of a GGUF file of version 2 or 3; no tensor is read.

    Raises `FathomError` with one sentence for a file that is missing, truncated, of another kind, or lies about a
    length.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise FathomError(f"{path} has {path.stat().st_size} bytes: too short for a GGUF file")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(path, data).header()
    except OSError as error:
        raise FathomError(f"cannot read {path}: {error.strerror or error}") from error


class _Reader:
    """A cursor over the mapped file that refuses to step past its end."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path, self.data, self.size, self.at = path, data, len(data), 0

    def fail(self, what: str) -> FathomError:
        return FathomError(f"{self.path} is not a usable GGUF file: {what}")

    def need(self, num_bytes: int, what: str) -> None:
        if num_bytes > self.size - self.at:
            raise self.fail(f"{what} at byte {self.at} needs {num_bytes} bytes, but the file ends at byte {self.size}")

    def number(self, form: str, what: str) -> Any:
        width = struct.calcsize(form)
        self.need(width, what)
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += width
        return value

    def string(self, what: str, limit: int | None = None) -> str:
        start = self.at
        length = self.number("<Q", what)
        if limit is not None and length > limit:
            raise self.fail(f"{what} at byte {start} claims {length} bytes; at most {limit} are allowed")
        self.need(length, what)
        raw = self.data[self.at : self.at + length]
        self.at += length
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.fail(f"{what} at byte {start} is not valid UTF-8") from error

    def value(self, kind: int, what: str) -> Any:
        if kind == _STRING:
            return self.string(what)
        if kind == _ARRAY:
            return self.array(what)
        if kind not in _SCALARS:
            raise self.fail(f"{what} has the unknown value type {kind}")
        return self.number(_SCALARS[kind], what)

    def array(self, what: str) -> list[Any]:
        kind = self.number("<I", what)
        length = self.number("<Q", what)
        if kind == _STRING:
            if length > _MAX_STRINGS:
                raise self.fail(f"{what} claims {length} strings; at most {_MAX_STRINGS} are allowed")
            self.need(8 * length, what)
            return [self.string(what) for _ in range(length)]
        if kind not in _SCALARS:
            raise self.fail(f"{what} is an array of the unsupported value type {kind}")
        form = _SCALARS[kind]
        self.need(struct.calcsize(form) * length, what)
        values = list(struct.unpack_from(f"<{length}{form[1]}", self.data, self.at))
        self.at += struct.calcsize(form) * length
        return values

    def header(self) -> GgufHeader:
        magic = self.data[:4]
        if magic != b"GGUF":
            raise FathomError(f"{self.path} is not a GGUF file: it begins with {magic!r}, not b'GGUF'")
        self.at = 4
        version = self.number("<I", "the version")
        if version not in (2, 3):
            raise self.fail(f"version {version} cannot be read; versions 2 and 3, little-endian, can")
        num_tensors = self.number("<Q", "the tensor count")
        num_pairs = self.number("<Q", "the key count")
        self.need(
            num_pairs * _SMALLEST_PAIR_BYTES + num_tensors * _SMALLEST_TENSOR_BYTES,
            f"a header of {num_pairs} keys and {num_tensors} tensors",
        )
        metadata = self.pairs(num_pairs)
        records = [self.record() for _ in range(num_tensors)]
        return GgufHeader(self.path, metadata, self.placed(records, self.data_start(metadata)))

    def pairs(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for index in range(count):
            key = self.string(f"the name of key {index}", _MAX_NAME_BYTES)
            if key in metadata:
                raise self.fail(f"the key '{_short(key)}' occurs twice")
            metadata[key] = self.value(self.number("<I", "a value type"), f"the value of '{_short(key)}'")
        return metadata

    def record(self) -> TensorRecord:
        """One tensor's record; its offset is still relative to the data section."""
        name = self.string("a tensor name", _MAX_NAME_BYTES)
        what = f"tensor '{_short(name)}'"
        num_dims = self.number("<I", what)
        if not 1 <= num_dims <= _MAX_DIMS:
            raise self.fail(f"{what} has {num_dims} dimensions; 1 to {_MAX_DIMS} are possible")
        shape = tuple(self.number("<Q", what) for _ in range(num_dims))[::-1]
        kind_number = self.number("<I", what)
        offset = self.number("<Q", what)
        kind, block, block_bytes = _format(kind_number)
        if not kind:
            raise self.fail(f"{what} has the unknown format number {kind_number}")
        if 0 in shape or shape[-1] % block:
            raise self.fail(f"{what} has the shape {shape}; in {kind} each row must be a positive multiple of {block}")
        return TensorRecord(name, shape, kind, offset, math.prod(shape) // block * block_bytes)

    def data_start(self, metadata: dict[str, Any]) -> int:
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1) or alignment > 1 << 20:
            raise self.fail(f"general.alignment is {alignment!r}; it must be a power of two")
        return -(-self.at // alignment) * alignment

    def placed(self, records: list[TensorRecord], start: int) -> dict[str, TensorRecord]:
        """The tensors by name, with offsets in the file; none may overlap, be twice there, or pass the end."""
        tensors: dict[str, TensorRecord] = {}
        end = start
        for record in sorted(records, key=lambda r: r.offset):
            offset = start + record.offset
            if record.name in tensors:
                raise self.fail(f"tensor '{_short(record.name)}' occurs twice")
            if offset < end:
                raise self.fail(f"tensor '{_short(record.name)}' overlaps the one before it")
            end = offset + record.num_bytes
            if end > self.size:
                raise self.fail(
                    f"tensor '{_short(record.name)}' ends at byte {end}, but the file has {self.size}: it "
                    f"was cut short, or lies"
                )
            tensors[record.name] = TensorRecord(record.name, record.shape, record.kind, offset, record.num_bytes)
        return tensors


def _short(name: str) -> str:
    """A name as a message may show it: printable and not longer than a line."""
    shown = name if len(name) <= 60 else name[:57] + "..."
    return shown.encode("unicode_escape").decode("ascii")


def _format(number: int) -> tuple[str, int, int]:
    """(name, values a block, bytes a block) of a ggml tensor format; an empty name if there is none of that number."""
    try:
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    except ImportError as error:
        raise MissingExtra("gguf") from error
    try:
        kind = GGMLQuantizationType(number)
        return kind.name, *GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        return "", 1, 0
