"""Which pieces of which documents share a row: a plan made once for a sequence length, then memory-mapped.

A document of n tokens gives n - 1 pairs of (token, next token); no pair crosses a document. Documents longer than a
row are cut into whole rows and a rest; rests and short documents are packed best-fit-decreasing, so that a document
that fits into a row is never cut (Ding et al., "Fewer Truncations Improve Language Modeling", arXiv:2404.10830).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WINDOW = 1 << 16  # short pieces packed together; bounds time and memory, costs about one part-filled row a window


@dataclass(frozen=True)
class Packing:
    """Row r holds pieces `row_offsets[r]:row_offsets[r + 1]`; a piece is `lengths` pairs from token `starts` on."""

    row_offsets: np.ndarray  # uint64 [rows + 1]
    starts: np.ndarray  # uint64 [pieces], index of the piece's first token in the shard
    lengths: np.ndarray  # uint32 [pieces], in pairs

    @property
    def num_rows(self) -> int:
        return len(self.row_offsets) - 1


def pack(offsets: np.ndarray, sequence_length: int) -> Packing:
    """Plan for documents at `offsets` (uint64 [documents + 1], in tokens) and rows of `sequence_length` pairs."""
    first_token = offsets[:-1].astype(np.int64)
    pairs = np.maximum(np.diff(offsets.astype(np.int64)) - 1, 0)
    whole, rest = np.divmod(pairs, sequence_length)
    full_starts = np.repeat(first_token, whole) + _counting(whole) * sequence_length
    has_rest = rest > 0
    rest_starts = (first_token + whole * sequence_length)[has_rest]
    rest_lengths = rest[has_rest]
    order, sizes = _pack_short(rest_lengths, sequence_length)
    pieces_in_row = np.concatenate([np.ones(len(full_starts), np.int64), sizes])
    return Packing(
        row_offsets=np.concatenate([[0], np.cumsum(pieces_in_row)]).astype(np.uint64),
        starts=np.concatenate([full_starts, rest_starts[order]]).astype(np.uint64),
        lengths=np.concatenate([np.full(len(full_starts), sequence_length), rest_lengths[order]]).astype(np.uint32),
    )


def pack_pieces(starts: np.ndarray, lengths: np.ndarray, sequence_length: int) -> Packing:
    """Plan for pieces that were chosen already, none longer than a row (see `pieces_of`)."""
    order, sizes = _pack_short(lengths, sequence_length)
    return Packing(
        row_offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64),
        starts=starts[order].astype(np.uint64),
        lengths=lengths[order].astype(np.uint32),
    )


def pieces_of(offsets: np.ndarray, sequence_length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pieces that documents are cut into, in order: first tokens, lengths in pairs, and whose they are."""
    pairs = np.maximum(np.diff(offsets.astype(np.int64)) - 1, 0)
    counts = -(-pairs // sequence_length)
    document = np.repeat(np.arange(len(pairs)), counts)
    before = _counting(counts) * sequence_length
    lengths = np.minimum(pairs[document] - before, sequence_length)
    return offsets[:-1].astype(np.int64)[document] + before, lengths, document


def _counting(counts: np.ndarray) -> np.ndarray:
    """0, 1, ..., counts[0] - 1, 0, 1, ..., counts[1] - 1, ..."""
    total = int(counts.sum())
    starts = np.cumsum(counts) - counts
    return np.arange(total) - np.repeat(starts, counts)


def _pack_short(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Best-fit-decreasing, window by window: (piece order by row, pieces in each row)."""
    orders: list[int] = []
    sizes: list[int] = []
    for start in range(0, len(lengths), WINDOW):
        for row in _best_fit(lengths[start : start + WINDOW], capacity):
            orders += [start + piece for piece in row]
            sizes.append(len(row))
    return np.array(orders, np.int64), np.array(sizes, np.int64)


def _best_fit(lengths: np.ndarray, capacity: int) -> list[list[int]]:
    """Rows of piece indices. Open rows are kept by room left; a bit set of rooms in use finds the tightest fit."""
    rows: list[list[int]] = []
    by_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rooms_in_use = 0
    for piece in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[piece])
        fitting = rooms_in_use >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = by_room[room].pop()
            if not by_room[room]:
                rooms_in_use &= ~(1 << room)
            rows[row].append(piece)
        else:
            room, row = capacity, len(rows)
            rows.append([piece])
        left = room - length
        if left:
            by_room[left].append(row)
            rooms_in_use |= 1 << left
    return rows


def load_or_pack(offsets: np.ndarray, sequence_length: int, cache: Path) -> Packing:
    """`pack`, kept in files that start with `cache`, so that a large set is planned once and never held in memory."""
    paths = {name: cache.with_name(f"{cache.name}-{name}.npy") for name in ("row_offsets", "starts", "lengths")}
    try:
        return Packing(**{name: np.load(path, mmap_mode="r") for name, path in paths.items()})
    except (OSError, ValueError):
        packing = pack(offsets, sequence_length)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        for name, path in paths.items():
            partial = path.with_name(f".{os.getpid()}-{path.name}")
            np.save(partial.with_suffix(".tmp.npy"), getattr(packing, name))
            partial.with_suffix(".tmp.npy").replace(path)
    except OSError:
        pass  # a read-only or full disk: the plan in memory serves as well
    return packing
