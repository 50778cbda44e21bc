"""Token shards on disk and the batches read from them.

A shard is four files beside each other, memory-mapped, one shard for each source and split:
  tokens   uint16 or uint32, documents one after the other, each with its start and end token
  offsets  uint64 [documents + 1], where each document begins, in tokens
  mask     one bit a token: is it to be predicted? Absent where every token is (plain text)
  bytes    uint64 [documents], UTF-8 bytes of the text to be predicted, for bits per byte

Letters: B rows of a batch, T positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from fathom.data.packing import Packing, load_or_pack, pack, pack_pieces, pieces_of
from fathom.data.records import Manifest, ShardEntry, SourceEntry
from fathom.data.shuffle import Permutation, interleave
from fathom.errors import FathomError

Split = Literal["train", "held_out"]
_WEIGHT_UNIT = 1 << 32  # mixing weights become integers of this resolution


@dataclass(frozen=True)
class Batch:
    """Rows to learn from or to score. All arrays are [B, T] unless said otherwise.

    `documents` numbers the pieces of a row 0, 1, ...; attention stays within equal numbers. `positions` restart at 0
    with each piece. `loss_mask` is False on padding and on tokens that are not to be predicted; padding is a document
    of its own, so no position is without anything to attend to.
    """

    tokens: np.ndarray  # int32
    targets: np.ndarray  # int32, the token after each token, always of the same document
    documents: np.ndarray  # int32
    positions: np.ndarray  # int32
    loss_mask: np.ndarray  # bool
    source_ids: np.ndarray  # int32 [B], index into the manifest's sources
    row_ids: np.ndarray  # int64 [B], which row of that source's packing

    @property
    def num_targets(self) -> int:
        return int(self.loss_mask.sum())

    def rows(self, start: int, stop: int) -> Batch:
        """Rows start..stop-1, a micro-batch of this batch."""
        return Batch(**{name: array[start:stop] for name, array in vars(self).items()})

    def shortened(self, sequence_length: int) -> Batch:
        """The same tokens as rows of `sequence_length`, a divisor of T: attention starts anew at every cut."""
        rows, length = self.tokens.shape
        if sequence_length == length:
            return self
        if sequence_length <= 0 or length % sequence_length:
            raise FathomError(f"sequence length {sequence_length} does not divide the rows of {length} tokens")
        cuts = length // sequence_length
        arrays = {
            name: getattr(self, name).reshape(rows * cuts, sequence_length)
            for name in ("tokens", "targets", "documents", "loss_mask")
        }
        origin = np.repeat(np.arange(0, length, sequence_length), sequence_length)
        position_in_cut = np.arange(length) - origin  # a piece that began before the cut starts at 0 there
        positions = np.minimum(self.positions, position_in_cut.astype(np.int32)).reshape(rows * cuts, sequence_length)
        return Batch(
            **arrays,
            positions=positions,
            source_ids=np.repeat(self.source_ids, cuts),
            row_ids=np.repeat(self.row_ids, cuts),
        )


class Shard:
    """One source's documents of one split, memory-mapped."""

    def __init__(self, directory: Path, entry: ShardEntry, dtype: str) -> None:
        self.entry = entry
        paths = entry.paths(directory)
        self.tokens = _map(paths["tokens"], np.dtype(dtype), entry.files["tokens"].bytes)
        self.offsets = _map(paths["offsets"], np.dtype(np.uint64), entry.files["offsets"].bytes)
        self.num_bytes = _map(paths["bytes"], np.dtype(np.uint64), entry.files["bytes"].bytes)
        self.mask = _map(paths["mask"], np.dtype(np.uint8), entry.files["mask"].bytes) if "mask" in paths else None

    def predicted(self, start: int, length: int) -> np.ndarray:
        """bool [length]: are tokens start..start+length-1 to be predicted?"""
        if self.mask is None:
            return np.ones(length, bool)
        first = start // 8
        bits = np.unpackbits(self.mask[first : (start + length + 7) // 8], bitorder="little")
        return bits[start - 8 * first : start - 8 * first + length].astype(bool)

    def bytes_of(self, start: int, length: int, document: int, control_ids: Sequence[int]) -> float:
        """Bytes of the text in a piece: its share, by tokens that spell text, of its document's."""

        def spelling(first: int, last: int) -> int:
            return int((~np.isin(self.tokens[first:last], control_ids)).sum())

        whole = spelling(int(self.offsets[document]) + 1, int(self.offsets[document + 1]))
        return int(self.num_bytes[document]) * spelling(start + 1, start + 1 + length) / whole if whole else 0.0


def _map(path: Path, dtype: np.dtype, expected_bytes: int) -> np.ndarray:
    """Memory-map a shard's file; one of another size than the manifest says is refused."""
    try:
        size = path.stat().st_size
    except OSError as error:
        raise FathomError(
            f"the prepared data is incomplete: {path} is missing ({error.strerror}); prepare it again"
        ) from error
    if size != expected_bytes:
        raise FathomError(
            f"the prepared data changed: {path} has {size} bytes, the manifest says {expected_bytes}; prepare it again"
        )
    return np.memmap(path, dtype, "r").view(np.ndarray) if size else np.zeros(0, dtype)


def fill_rows(
    shard: Shard, packing: Packing, row_ids: Sequence[int], sequence_length: int, pad_id: int, source_id: int
) -> Batch:
    """The given rows of a shard's packing."""
    shape = (len(row_ids), sequence_length)
    tokens, targets = np.full(shape, pad_id, np.int32), np.full(shape, pad_id, np.int32)
    documents, positions, loss_mask = np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape, bool)
    counting = np.arange(sequence_length, dtype=np.int32)
    for row, row_id in enumerate(row_ids):
        at, document = 0, 0
        first, last = int(packing.row_offsets[row_id]), int(packing.row_offsets[row_id + 1])
        for document, piece in enumerate(range(first, last)):
            start, length = int(packing.starts[piece]), int(packing.lengths[piece])
            end = at + length
            tokens[row, at:end] = shard.tokens[start : start + length]
            targets[row, at:end] = shard.tokens[start + 1 : start + 1 + length]
            documents[row, at:end] = document
            positions[row, at:end] = counting[:length]
            loss_mask[row, at:end] = shard.predicted(start + 1, length)
            at = end
        documents[row, at:] = document + 1
        positions[row, at:] = counting[: sequence_length - at]
    source_ids = np.full(len(row_ids), source_id, np.int32)
    return Batch(tokens, targets, documents, positions, loss_mask, source_ids, np.asarray(row_ids, np.int64))


class Batches:
    """Training batches of a prepared directory: `batch(step)` is a pure function of manifest, seed and step.

    Without `weights` every row comes exactly once an epoch, sources mixed evenly throughout. `weights` (domain or
    source name to a relative share) mixes them otherwise; a source then starts its next epoch when it is used up.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        sequence_length: int,
        rows: int,
        seed: int,
        split: Split = "train",
        weights: Mapping[str, float] | None = None,
    ) -> None:
        if sequence_length < 1 or rows < 1:
            raise FathomError(
                f"a batch of {rows} rows of {sequence_length} tokens is not possible; both must be at least 1"
            )
        self.directory = Path(directory)
        self.manifest = Manifest.load(self.directory)
        self.sequence_length, self.rows, self.seed, self.split = sequence_length, rows, seed, split
        self._shards: list[Shard] = []
        self._packings: list[Packing] = []
        self._source_ids: list[int] = []
        for source_id, source in enumerate(self.manifest.sources):
            self._open(source_id, source)
        if not self._shards:
            raise FathomError(f"the prepared data at {self.directory} has no {split.replace('_', '-')} documents")
        self._shares = self._mixing(weights)
        self._permutations: dict[tuple[int, int], Permutation] = {}

    def _open(self, source_id: int, source: SourceEntry) -> None:
        entry = source.split(self.split)
        if entry.tokens <= entry.documents:
            return
        shard = Shard(self.directory, entry, self.manifest.token_dtype)
        cache = (
            self.directory
            / "packing"
            / f"{self.split}-{source_id}-{self.sequence_length}-{entry.files['offsets'].sha256[:16]}"
        )
        self._shards.append(shard)
        self._packings.append(load_or_pack(shard.offsets, self.sequence_length, cache))
        self._source_ids.append(source_id)

    def _mixing(self, weights: Mapping[str, float] | None) -> list[int]:
        """Integer shares of the open sources: their row counts, or the weights given."""
        rows = [packing.num_rows for packing in self._packings]
        if weights is None:
            return rows
        sources = [self.manifest.sources[source_id] for source_id in self._source_ids]
        known = {name for source in sources for name in (source.name, source.domain)}
        if unknown := sorted(set(weights) - known):
            raise FathomError(f"no data is called {unknown[0]!r}; weights can be given to {', '.join(sorted(known))}")
        shares = []
        for source, count in zip(sources, rows, strict=True):
            weight = weights.get(source.name, weights.get(source.domain, 0.0))
            if not 0 <= weight < float("inf"):
                raise FathomError(f"the weight of {source.name!r} is {weight}; it must be a number of at least 0")
            alike = sum(n for other, n in zip(sources, rows, strict=True) if other.domain == source.domain)
            part = 1.0 if source.name in weights else count / alike  # a domain's weight is shared by its sources' sizes
            shares.append(round(weight * part * _WEIGHT_UNIT))
        if not any(shares):
            raise FathomError("all mixing weights are 0; give at least one source more")
        return shares

    @property
    def rows_per_epoch(self) -> int:
        """Rows of all sources together; without weights, an epoch."""
        return sum(packing.num_rows for packing in self._packings)

    @property
    def tokens_per_epoch(self) -> int:
        """Pairs of token and next token of all sources together, padding not counted."""
        return sum(int(shard.entry.tokens - shard.entry.documents) for shard in self._shards)

    @property
    def targets_per_epoch(self) -> int:
        """Tokens to be predicted in all sources together."""
        return sum(shard.entry.targets for shard in self._shards)

    def batch(self, step: int) -> Batch:
        """Rows `step * rows` to `(step + 1) * rows - 1` of the endless sequence of samples."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        chosen = [interleave(step * self.rows + row, self._shares) for row in range(self.rows)]
        parts, places = [], []
        for group in sorted({group for group, _ in chosen}):
            where = [row for row, (which, _) in enumerate(chosen) if which == group]
            row_ids = self._row_ids(group, np.array([chosen[row][1] for row in where], np.int64))
            parts.append(self._fill(group, row_ids.tolist()))
            places += where
        if len(parts) == 1:
            return parts[0]
        order = np.argsort(places)
        return Batch(
            **{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in vars(parts[0])}
        )

    def _row_ids(self, group: int, indices: np.ndarray) -> np.ndarray:
        """The source's rows at its places `indices`: a fresh permutation every epoch."""
        size = self._packings[group].num_rows
        epochs, places = np.divmod(indices, size)
        row_ids = np.empty_like(indices)
        for epoch in np.unique(epochs).tolist():
            now = epochs == epoch
            row_ids[now] = self._permutation(group, epoch)(places[now])
        return row_ids

    def _permutation(self, group: int, epoch: int) -> Permutation:
        key = (group, epoch)
        if key not in self._permutations:
            if len(self._permutations) > 256:
                self._permutations.clear()
            self._permutations[key] = Permutation(
                self._packings[group].num_rows, self.seed, self._source_ids[group], epoch
            )
        return self._permutations[key]

    def _fill(self, group: int, row_ids: list[int]) -> Batch:
        return fill_rows(
            self._shards[group],
            self._packings[group],
            row_ids,
            self.sequence_length,
            self.manifest.tokenizer.pad_id,
            self._source_ids[group],
        )

    def held_out(self, domain: str, *, max_tokens: int | None = None) -> HeldOut:
        """The held-out documents of a domain in order, for bits per byte; see `HeldOut`."""
        return HeldOut.open(self.directory, self.manifest, domain, self.sequence_length, self.rows, max_tokens)


@dataclass(frozen=True)
class HeldOut:
    """Held-out text of one domain. Iterating gives `Batch`es that cover every token of it once.

    All documents, or pieces of them taken at equal distances through all of them: a few whole ones would say what those
    few are like. Control tokens are masked out: they carry none of the text's bytes, so the sum of bits over
    `loss_mask` divided by `num_bytes` compares models of different tokenizers.
    """

    domain: str
    num_documents: int
    num_bytes: int  # UTF-8 bytes of the text that the masked targets spell; of a piece, its share of its document's
    num_tokens: int  # pairs, before masking
    _parts: tuple[tuple[int, Shard, Packing], ...]
    _shape: tuple[int, int]
    _manifest: Manifest

    @classmethod
    def open(
        cls, directory: Path, manifest: Manifest, domain: str, sequence_length: int, rows: int, max_tokens: int | None
    ) -> HeldOut:
        """About `max_tokens` of the domain, a piece at least; all of it without."""
        if domain not in manifest.domains:
            raise FathomError(f"the data has no domain {domain!r}; it has {', '.join(manifest.domains)}")
        found = [
            (source_id, Shard(directory, source.held_out, manifest.token_dtype))
            for source_id, source in enumerate(manifest.sources)
            if source.domain == domain and source.held_out.documents
        ]
        tokens = sum(len(shard.tokens) - shard.entry.documents for _, shard in found)
        shape = (rows, sequence_length)
        if max_tokens is None or tokens <= max_tokens:
            parts = tuple(
                (source_id, shard, pack(np.asarray(shard.offsets), sequence_length)) for source_id, shard in found
            )
            documents, num_bytes = (
                sum(shard.entry.documents for _, shard in found),
                sum(int(shard.num_bytes.sum()) for _, shard in found),
            )
            return cls(domain, documents, num_bytes, tokens, parts, shape, manifest)
        return cls._sampled(domain, found, shape, manifest, max_tokens / tokens)

    @classmethod
    def _sampled(
        cls, domain: str, found: list[tuple[int, Shard]], shape: tuple[int, int], manifest: Manifest, share: float
    ) -> HeldOut:
        parts, documents, tokens, num_bytes = [], 0, 0, 0.0
        cut = [pieces_of(np.asarray(shard.offsets), shape[1]) for _, shard in found]
        total = sum(len(starts) for starts, _, _ in cut)
        count = max(1, round(total * share))
        chosen = ((np.arange(count) + 0.5) * total / count).astype(np.int64)
        first = 0
        for (source_id, shard), (starts, lengths, document) in zip(found, cut, strict=True):
            mine = chosen[(chosen >= first) & (chosen < first + len(starts))] - first
            first += len(starts)
            if not len(mine):
                continue
            documents += len(np.unique(document[mine]))
            tokens += int(lengths[mine].sum())
            num_bytes += sum(
                shard.bytes_of(int(starts[i]), int(lengths[i]), int(document[i]), manifest.tokenizer.control_ids)
                for i in mine
            )
            parts.append((source_id, shard, pack_pieces(starts[mine], lengths[mine], shape[1])))
        return cls(domain, documents, round(num_bytes), tokens, tuple(parts), shape, manifest)

    def __iter__(self) -> Iterator[Batch]:
        rows, sequence_length = self._shape
        control_ids = np.array(self._manifest.tokenizer.control_ids, np.int32)
        for source_id, shard, packing in self._parts:
            for first in range(0, packing.num_rows, rows):
                row_ids = range(first, min(first + rows, packing.num_rows))
                batch = fill_rows(shard, packing, row_ids, sequence_length, self._manifest.tokenizer.pad_id, source_id)
                yield replace(batch, loss_mask=batch.loss_mask & ~np.isin(batch.targets, control_ids))
