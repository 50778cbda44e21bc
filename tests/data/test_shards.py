"""Batches: every pair of tokens once an epoch, none across documents, any step on its own."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data.packing import pack, pack_pieces, pieces_of
from fathom.data.records import FileRecord, Manifest, ShardEntry, SourceEntry, TokenizerRecord
from fathom.data.shards import Batch, Batches
from fathom.data.shuffle import Permutation, interleave
from fathom.data.writer import ShardWriter
from fathom.errors import FathomError

START, END, PAD = 0, 1, 2


def build(directory: Path, sources: list[list[list[int]]], masks: bool = False, dtype: str = "uint16") -> Manifest:
    """A prepared directory of given documents (bodies, framed here); with `masks` every third token is predicted."""
    entries = []
    for index, documents in enumerate(sources):
        writers = {split: ShardWriter(directory, f"{index:03d}-{split}", dtype) for split in ("train", "held_out")}
        for body in documents:
            ids = [START, *body, END]
            mask = [place % 3 == 0 for place in range(len(ids))] if masks else None
            for writer in writers.values():
                writer.add(ids, len(body), mask)
        shards = {split: writer.close() for split, writer in writers.items()}
        counts = {"raw_bytes": 0, "documents_read": len(documents), "documents_kept": len(documents), "text_bytes": 0}
        names = {
            "name": f"s{index}",
            "domain": f"d{index % 2}",
            "kind": "files",
            "origin": "test",
            "license": "CC0-1.0",
        }
        entries.append(SourceEntry(**names, **counts, sha256="", identity="", **shards))
    record = TokenizerRecord(
        digest="",
        vocab_size=1 << 16,
        trained_here=True,
        document_start_id=START,
        document_end_id=END,
        pad_id=PAD,
        control_ids=(START, END, PAD),
    )
    manifest = Manifest(
        key="test", held_out_fraction=0.5, curation={}, tokenizer=record, token_dtype=dtype, sources=tuple(entries)
    )
    (directory / "manifest.json").write_text(manifest.to_json())
    return manifest


def numbered(lengths: list[int], first: int = 10) -> list[list[int]]:
    """Documents of given lengths whose tokens are all different."""
    documents = []
    for length in lengths:
        documents.append(list(range(first, first + length)))
        first += length
    return documents


def pairs(batch: Batch) -> list[tuple[int, int]]:
    """(token, target) where there is something to predict."""
    return list(zip(batch.tokens[batch.loss_mask].tolist(), batch.targets[batch.loss_mask].tolist(), strict=True))


_LENGTHS = st.lists(st.integers(0, 40), min_size=1, max_size=25)


@given(_LENGTHS, st.integers(1, 17))
@settings(max_examples=200)
def test_packing_holds_every_pair_once_and_cuts_only_what_is_longer_than_a_row(lengths: list[int], room: int) -> None:
    offsets = np.concatenate([[0], np.cumsum([length + 2 for length in lengths])]).astype(np.uint64)
    packing = pack(offsets, room)
    covered = [
        place
        for start, length in zip(packing.starts.tolist(), packing.lengths.tolist(), strict=True)
        for place in range(start, start + length)
    ]
    firsts_of_pairs = [
        place
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
        for place in range(start, end - 1)
    ]
    assert sorted(covered) == firsts_of_pairs
    for first, last in zip(packing.row_offsets[:-1].tolist(), packing.row_offsets[1:].tolist(), strict=True):
        assert 0 < packing.lengths[first:last].sum() <= room
    starts = set(offsets[:-1].tolist())
    for start, length in zip(packing.starts.tolist(), packing.lengths.tolist(), strict=True):
        document = int(np.searchsorted(offsets, start, side="right")) - 1
        if lengths[document] + 1 <= room:
            assert start in starts
            assert length == lengths[document] + 1


def test_packing_of_many_short_documents_leaves_little_room() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 5000)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    packing = pack(offsets, 512)
    assert (lengths.sum() - len(lengths)) / (packing.num_rows * 512) > 0.99


@given(st.integers(1, 3000), st.integers(0, 5))
@settings(max_examples=60)
def test_a_permutation_hits_every_place_once(size: int, key: int) -> None:
    assert sorted(Permutation(size, key)(np.arange(size)).tolist()) == list(range(size))


def test_permutations_of_different_keys_differ_and_look_random() -> None:
    first, second = Permutation(10_000, 1)(np.arange(10_000)), Permutation(10_000, 2)(np.arange(10_000))
    assert (first == second).mean() < 0.002
    assert abs(np.corrcoef(first, np.arange(10_000))[0, 1]) < 0.05
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.05


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any))
@settings(max_examples=100)
def test_groups_take_turns_in_proportion(shares: list[int]) -> None:
    total = sum(shares)
    seen: list[list[int]] = [[] for _ in shares]
    for place in range(2 * total):
        group, index = interleave(place, shares)
        seen[group].append(index)
        assert abs(len(seen[group]) - (place + 1) * shares[group] / total) <= len(shares)
    assert seen == [list(range(2 * share)) for share in shares]


@given(st.lists(_LENGTHS, min_size=1, max_size=3), st.integers(1, 12), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=40)
def test_every_pair_comes_exactly_once_an_epoch(
    tmp_path_factory: pytest.TempPathFactory, sources: list[list[int]], length: int, rows: int, seed: int
) -> None:
    directory = tmp_path_factory.mktemp("shards")
    first, documents = 10, []
    for lengths in sources:
        documents.append(numbered(lengths, first))
        first += sum(lengths)
    build(directory, documents)
    batches = Batches(directory, sequence_length=length, rows=rows, seed=seed)
    epochs = 3
    steps = -(-epochs * batches.rows_per_epoch // rows)
    surplus = steps * rows - epochs * batches.rows_per_epoch
    counted: Counter[tuple[int, int]] = Counter()
    samples: Counter[tuple[int, int]] = Counter()
    for step in range(steps):
        batch = batches.batch(step)
        if step == steps - 1:
            batch = batch.rows(0, rows - surplus)
        counted.update(pairs(batch))
        samples.update(zip(batch.source_ids.tolist(), batch.row_ids.tolist(), strict=True))
    expected = Counter(
        pair for group in documents for body in group for pair in zip([START, *body], [*body, END], strict=True)
    )
    assert counted == Counter({pair: epochs * count for pair, count in expected.items()})
    assert set(samples.values()) == {epochs}
    assert batches.tokens_per_epoch == batches.targets_per_epoch == sum(expected.values())


def test_91_samples_in_batches_of_10_for_10_epochs(tmp_path: Path) -> None:
    build(tmp_path, [numbered([8] * 91)])
    batches = Batches(tmp_path, sequence_length=9, rows=10, seed=0)
    seen = Counter(row for step in range(91) for row in batches.batch(step).row_ids.tolist())
    assert seen == dict.fromkeys(range(91), 10)


def test_a_row_is_documents_side_by_side_with_positions_that_restart(tmp_path: Path) -> None:
    build(tmp_path, [numbered([3, 4])])
    batch = Batches(tmp_path, sequence_length=12, rows=1, seed=0).batch(0)
    assert batch.tokens.tolist() == [[START, 13, 14, 15, 16, START, 10, 11, 12, PAD, PAD, PAD]]
    assert batch.targets.tolist() == [[13, 14, 15, 16, END, 10, 11, 12, END, PAD, PAD, PAD]]
    assert batch.documents.tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2]]
    assert batch.loss_mask.tolist() == [[True] * 9 + [False] * 3]
    assert all(array.dtype == np.int32 for array in (batch.tokens, batch.targets, batch.documents, batch.positions))


def test_a_batch_depends_on_step_and_seed_alone(tmp_path: Path) -> None:
    build(tmp_path, [numbered([20] * 30), numbered([5] * 50, 5000)])

    def tokens(step: int, seed: int = 0) -> list:
        return Batches(tmp_path, sequence_length=16, rows=4, seed=seed).batch(step).tokens.tolist()

    forward = Batches(tmp_path, sequence_length=16, rows=4, seed=0)
    in_order = [forward.batch(step).tokens.tolist() for step in range(40)]
    assert [tokens(step) for step in reversed(range(40))] == in_order[::-1]
    assert tokens(0, seed=1) != tokens(0)
    assert in_order[0] != in_order[20]


def test_the_mask_says_which_targets_count(tmp_path: Path) -> None:
    bodies = numbered([10, 11, 12])
    build(tmp_path, [bodies], masks=True)
    batches = Batches(tmp_path, sequence_length=8, rows=2, seed=0)
    found = sorted(
        target
        for step in range(-(-batches.rows_per_epoch // 2))
        for _, target in pairs(batches.batch(step))
        if target != END
    )
    assert batches.targets_per_epoch == sum((len(body) + 1) // 3 for body in bodies)
    assert sorted(set(found)) == sorted(
        token for body in bodies for place, token in enumerate(body, 1) if place % 3 == 0
    )


def test_large_vocabularies_keep_their_ids(tmp_path: Path) -> None:
    build(tmp_path, [[[70_000, 150_000]]], dtype="uint32")
    assert 150_000 in Batches(tmp_path, sequence_length=4, rows=1, seed=0).batch(0).targets


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]))
@settings(max_examples=60)
def test_shortened_rows_hold_the_same_tokens_and_restart_at_every_cut(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], short: int
) -> None:
    directory = tmp_path_factory.mktemp("shards")
    build(directory, [numbered(lengths)])
    batch = Batches(directory, sequence_length=24, rows=3, seed=0).batch(0)
    cut = batch.shortened(short)
    assert cut.tokens.shape == (3 * 24 // short, short)
    for name in ("tokens", "targets", "loss_mask", "documents"):
        assert getattr(cut, name).ravel().tolist() == getattr(batch, name).ravel().tolist()
    for row in range(len(cut.tokens)):
        for place in range(short):
            starts = place == 0 or cut.documents[row, place] != cut.documents[row, place - 1]
            assert cut.positions[row, place] == (0 if starts else cut.positions[row, place - 1] + 1)
    assert cut.row_ids.tolist() == [row for row in batch.row_ids.tolist() for _ in range(24 // short)]


def test_weights_mix_domains_as_asked(tmp_path: Path) -> None:
    build(tmp_path, [numbered([7] * 40), numbered([7] * 10, 1000), numbered([7] * 20, 3000)])  # d0, d1, d0
    batches = Batches(tmp_path, sequence_length=8, rows=10, seed=0, weights={"d0": 1, "d1": 3})
    seen = Counter(source for step in range(24) for source in batches.batch(step).source_ids.tolist())
    assert seen == {0: 40, 1: 180, 2: 20}


@pytest.mark.parametrize(
    ("weights", "part"),
    [
        ({"d9": 1.0}, "no data is called 'd9'"),
        ({"d0": -1.0}, "at least 0"),
        ({"d0": 0.0}, "all mixing weights are 0"),
        ({"d0": float("nan")}, "at least 0"),
    ],
)
def test_impossible_weights_are_refused(tmp_path: Path, weights: dict[str, float], part: str) -> None:
    build(tmp_path, [numbered([7])])
    with pytest.raises(FathomError, match=part):
        Batches(tmp_path, sequence_length=8, rows=1, seed=0, weights=weights)


def test_held_out_covers_every_text_token_of_a_domain_once(tmp_path: Path) -> None:
    bodies = [numbered([9, 30, 1]), numbered([4], 500), numbered([6, 7], 900)]
    build(tmp_path, bodies)
    held_out = Batches(tmp_path, sequence_length=8, rows=2, seed=0).held_out("d0")
    targets = [target for batch in held_out for _, target in pairs(batch)]
    assert sorted(targets) == sorted(token for group in (bodies[0], bodies[2]) for body in group for token in body)
    assert (held_out.num_documents, held_out.num_bytes) == (5, 53)
    assert sorted(target for batch in held_out for _, target in pairs(batch)) == sorted(targets)  # it can be read again


@pytest.mark.parametrize("max_tokens", [1, 20, 44, 200])
def test_part_of_the_held_out_is_taken_all_through_it(tmp_path: Path, max_tokens: int) -> None:
    """Every token spells one byte here, so the bytes must be as many as the targets that are scored."""
    build(tmp_path, [numbered([90, 300, 10]), [], numbered([100], 410)])
    held_out = Batches(tmp_path, sequence_length=8, rows=2, seed=0).held_out("d0", max_tokens=max_tokens)
    found = [target for batch in held_out for _, target in pairs(batch)]
    assert len(found) == len(set(found))
    assert abs(len(found) - max_tokens) <= 8
    assert held_out.num_bytes == pytest.approx(len(found), abs=1)
    if max_tokens == 200:
        assert held_out.num_documents == 4
        assert max(found) > 410  # the last source too
        assert max(b - a for a, b in itertools.pairwise(sorted(found))) <= 40  # no long stretch left out


@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.integers(3, 20))
def test_pieces_cover_documents_as_a_plan_does(lengths: list[int], row: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    starts, sizes, document = pieces_of(offsets, row)
    plan = pack(offsets, row)
    assert sorted(zip(starts, sizes, strict=True)) == sorted(zip(plan.starts, plan.lengths, strict=True))
    assert all(offsets[d] <= s and s + n < offsets[d + 1] for s, n, d in zip(starts, sizes, document, strict=True))
    again = pack_pieces(starts, sizes, row)
    assert sorted(again.starts) == sorted(plan.starts)
    rows = np.add.reduceat(again.lengths.astype(np.int64), again.row_offsets[:-1].astype(np.int64))
    assert rows.max() <= row


def test_an_unknown_domain_lists_those_that_exist(tmp_path: Path) -> None:
    build(tmp_path, [numbered([9])])
    with pytest.raises(FathomError, match="no domain 'x'; it has d0"):
        Batches(tmp_path, sequence_length=8, rows=2, seed=0).held_out("x")


@pytest.mark.parametrize(("change", "part"), [("cut", "has 16 bytes, the manifest says 22"), ("gone", "is missing")])
def test_a_shard_that_changed_is_refused(tmp_path: Path, change: str, part: str) -> None:
    build(tmp_path, [numbered([9])])
    path = tmp_path / "shards" / "000-train.tokens"
    if change == "cut":
        path.write_bytes(path.read_bytes()[:16])
    else:
        path.unlink()
    with pytest.raises(FathomError, match=part):
        Batches(tmp_path, sequence_length=8, rows=2, seed=0)


def test_a_plan_half_written_is_made_again(tmp_path: Path) -> None:
    build(tmp_path, [numbered([9] * 20)])
    expected = Batches(tmp_path, sequence_length=8, rows=2, seed=0).batch(3).tokens.tolist()
    plans = sorted((tmp_path / "packing").glob("*.npy"))
    assert len(plans) == 3
    for plan in plans:
        whole = plan.read_bytes()
        plan.write_bytes(whole[: len(whole) // 2])
        assert Batches(tmp_path, sequence_length=8, rows=2, seed=0).batch(3).tokens.tolist() == expected
        plan.write_bytes(whole)


def test_documents_of_nothing_but_their_frame_are_possible(tmp_path: Path) -> None:
    build(tmp_path, [[[], [5]]])
    batch = Batches(tmp_path, sequence_length=4, rows=1, seed=0).batch(0)
    assert sorted(pairs(batch)) == [(START, END), (START, 5), (5, END)]


def test_entry_paths_are_relative_to_the_directory(tmp_path: Path) -> None:
    entry = ShardEntry(files={"tokens": FileRecord(name="shards/a", bytes=1, sha256="")})
    assert entry.paths(tmp_path) == {"tokens": tmp_path / "shards" / "a"}
