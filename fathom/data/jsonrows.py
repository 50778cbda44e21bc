"""JSON as it comes: lines, an array, pretty-printed objects one after the other, whatever the file is called."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from fathom.data.sources import ReadCounts
from fathom.errors import FathomError

MAX_ROW_BYTES = 256_000_000  # one row is held in memory whole
_BLOCK_BYTES = 1 << 20
_SPACE = " \t\r\n"


def read_json_rows(path: Path, stream: BinaryIO, counts: ReadCounts) -> Iterator[Any]:
    """Every row of a JSON file, by content: an array's elements, or the values that follow each other.

    Byte order marks, CRLF, blank lines and a missing last newline are fine. Bytes that are no UTF-8 are replaced and
    counted. Raises `FathomError` with file and place for JSON that breaks off or is none.
    """
    lines = _lines(path, stream)
    first = next(lines, None)
    if first is None:
        return
    if _text(first[1], counts).lstrip(_SPACE).startswith("["):
        yield from _array(path, _Buffer(_pieces(first, lines)))
        return
    try:
        row = json.loads(_text(first[1], counts))
    except (ValueError, RecursionError):
        yield from _values(path, _Buffer(_pieces(first, lines)))
        return
    yield row
    for number, line in lines:
        try:
            yield json.loads(_text(line, counts))
        except (ValueError, RecursionError) as error:
            raise FathomError(f"{path}: line {number} is not valid JSON: {_reason(error, 0)} of the line") from error


def _reason(error: Exception, passed: int) -> str:
    """What is wrong and at which character, counted from 1."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg.removesuffix(' at')} at character {passed + error.pos + 1}"
    what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return f"{what}, in the value at character {passed + 1}"


def _lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of every line that is not blank."""
    number = 0
    while line := stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES:
            raise FathomError(
                f"{path}: line {number} is longer than {MAX_ROW_BYTES // 1_000_000} MB, more than one document may have"
            )
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.isspace():
            yield number, line


def _text(line: bytes, counts: ReadCounts) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        counts.changed["invalid_utf8"] += 1
        return line.decode("utf-8", "replace")


def _pieces(first: tuple[int, bytes], lines: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    yield first[1]
    for _, line in lines:
        yield line


class _Buffer:
    """Text that is read on as far as the next value needs it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text, self.at, self.passed = "", 0, 0

    def more(self) -> bool:
        """Read about a block more, or as much again as is waiting (so that a long value costs linear time)."""
        waiting = self.text[self.at :]
        parts, size = [waiting], 0
        for piece in self._pieces:
            parts.append(self._decoder.decode(piece))
            size += len(piece)
            if size >= max(_BLOCK_BYTES, len(waiting)):
                break
        if size:
            self.passed += self.at
            self.text, self.at = "".join(parts), 0
        return size > 0

    def peek(self) -> str:
        """The next character that is not white space, '' at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    @property
    def place(self) -> int:
        return self.passed + self.at + 1


_DECODER = json.JSONDecoder()


def _value(path: Path, buffer: _Buffer) -> Any:
    """The next value; one that breaks off where the buffer ends is tried again with more."""
    while True:
        try:
            value, end = _DECODER.raw_decode(buffer.text, buffer.at)
        except json.JSONDecodeError as error:
            if len(buffer.text) - buffer.at > MAX_ROW_BYTES:
                raise FathomError(
                    f"{path}: the value at character {buffer.place} is longer than {MAX_ROW_BYTES // 1_000_000} MB"
                ) from error
            if not buffer.more():
                raise FathomError(f"{path} is not valid JSON: {_reason(error, buffer.passed)}") from error
            continue
        except (ValueError, RecursionError) as error:
            raise FathomError(f"{path} is not valid JSON: {_reason(error, buffer.place - 1)}") from error
        if end == len(buffer.text) and isinstance(value, int | float) and buffer.more():
            continue  # a number could go on
        buffer.at = end
        return value


def _values(path: Path, buffer: _Buffer) -> Iterator[Any]:
    """Values that follow each other, with white space between."""
    while buffer.peek():
        yield _value(path, buffer)


def _array(path: Path, buffer: _Buffer) -> Iterator[Any]:
    """The elements of an array, after which the file must end."""
    buffer.peek()
    buffer.at += 1
    if buffer.peek() == "]":
        buffer.at += 1
    else:
        while True:
            if not buffer.peek():
                raise FathomError(f"{path} is cut off: its JSON array is not closed at character {buffer.place}")
            yield _value(path, buffer)
            after = buffer.peek()
            buffer.at += 1
            if after == "]":
                break
            if after != ",":
                raise FathomError(
                    f"{path} is not valid JSON: its array "
                    f"{'is not closed' if not after else f'goes on with {after!r}'} at character {buffer.place - 1}"
                )
    if buffer.peek():
        raise FathomError(
            f"{path} goes on after the end of its JSON array, at character {buffer.place}; give one array, or one "
            "object a line"
        )
