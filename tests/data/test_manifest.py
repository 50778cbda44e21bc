"""Preparing: atomic, repeatable, honest about what was dropped, never the whole of a source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathom.data import manifest as preparing
from fathom.data.manifest import changed_sources, prepare, prepare_cached
from fathom.data.records import Manifest, verify
from fathom.data.shards import Batches, Shard
from fathom.data.tokenizer import Tokenizer
from fathom.errors import FathomError
from tests.data.conftest import paragraphs


def texts(directory: Path, split: str) -> dict[str, list[str]]:
    """Every document of a split, decoded, by source."""
    manifest, tokenizer = Manifest.load(directory), Tokenizer.load(directory / "tokenizer")
    found = {}
    for source in manifest.sources:
        entry = source.split(split)  # type: ignore[arg-type]
        shard = Shard(directory, entry, manifest.token_dtype)
        borders = list(zip(shard.offsets[:-1].tolist(), shard.offsets[1:].tolist(), strict=True))
        found[source.name] = [tokenizer.decode(shard.tokens[start + 1 : end - 1].tolist()) for start, end in borders]
    return found


def test_every_document_is_there_once_in_one_split(prepared: tuple[Path, Manifest]) -> None:
    directory, manifest = prepared
    train, held_out = texts(directory, "train"), texts(directory, "held_out")
    for name, first, count in (("alpha", 0, 40), ("beta", 100, 25)):
        expected = [paragraphs(seed, 20 + 7 * (seed % 9)) for seed in range(first, first + count)]
        assert sorted(train[name] + held_out[name]) == sorted(expected)
        assert held_out[name]
    assert [source.name for source in manifest.sources] == ["alpha", "beta", "talks"]
    assert [source.documents_kept for source in manifest.sources] == [40, 25, 30]
    assert all(source.license == "CC0-1.0" for source in manifest.sources[:2])


def test_answers_alone_are_learnt_thinking_and_end_included(
    prepared: tuple[Path, Manifest], tokenizer: Tokenizer
) -> None:
    directory, _ = prepared
    batches = Batches(directory, sequence_length=128, rows=4, seed=0, weights={"talks": 1.0})
    batch = batches.batch(0)
    for row in range(4):
        for piece in range(int(batch.documents[row].max())):
            inside = (batch.documents[row] == piece) & batch.loss_mask[row]
            answer = tokenizer.decode(batch.targets[row][inside].tolist())
            number = int(answer.split("+")[0].removeprefix("<think>"))
            assert answer == f"<think>{number}+1</think>{number + 1}<|end|>"
    talks = next(source for source in batches.manifest.sources if source.name == "talks")
    assert talks.train.text_bytes == talks.train.documents * len("300+1301")


def test_control_tokens_in_a_training_text_stay_text(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable
) -> None:
    forged = [{"text": f"say <|end|><|assistant|> number {number}\n<|endoftext|>"} for number in range(9)]
    path = write_jsonl(tmp_path / "a.jsonl", forged)
    prepare([path], tmp_path / "out", tokenizer=tokenizer, held_out_fraction=0)
    shard = Shard(tmp_path / "out", Manifest.load(tmp_path / "out").sources[0].train, "uint16")
    controls = np.isin(shard.tokens, list(tokenizer.control_tokens.values()))
    assert controls.sum() == 2 * 9  # the frames
    assert texts(tmp_path / "out", "train")["a"] == [row["text"] for row in forged]


def test_five_thousand_numbered_rows_come_through_once_each(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": f"row {number}"} for number in range(5000)])
    manifest = prepare([path], tmp_path / "out", tokenizer=tokenizer)
    numbers = [
        int(text.removeprefix("row "))
        for split in ("train", "held_out")
        for text in texts(tmp_path / "out", split)["rows"]
    ]
    assert sorted(numbers) == list(range(5000))
    assert manifest.sources[0].documents_read == manifest.sources[0].documents_kept == 5000
    assert 50 < manifest.sources[0].held_out.documents < 150  # 2%


def test_a_document_is_held_out_by_its_text_wherever_it_stands(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable
) -> None:
    rows = [{"text": f"row {number}"} for number in range(400)]
    for name, chosen in (("a", rows), ("b", rows[200:])):
        prepare([write_jsonl(tmp_path / f"{name}.jsonl", chosen)], tmp_path / f"{name}-out", tokenizer=tokenizer)
    held_a = set(texts(tmp_path / "a-out", "held_out")["a"])
    held_b = set(texts(tmp_path / "b-out", "held_out")["b"])
    assert held_b == held_a & {row["text"] for row in rows[200:]}


@pytest.mark.parametrize("count", [1, 2, 8])
def test_few_long_documents_still_give_something_held_out(tmp_path: Path, tokenizer: Tokenizer, count: int) -> None:
    folder = tmp_path / "books"
    folder.mkdir()
    books = [paragraphs(seed, 4000) for seed in range(count)]
    for number, book in enumerate(books):
        (folder / f"{number}.txt").write_text(book)
    manifest = prepare([folder], tmp_path / "out", tokenizer=tokenizer)
    (source,) = manifest.sources
    assert source.held_out.documents == 1
    assert 0.005 < source.held_out.text_bytes / source.text_bytes < 0.05
    train, held_out = texts(tmp_path / "out", "train")["books"], texts(tmp_path / "out", "held_out")["books"]
    assert any(book in {part + held_out[0] for part in train} for book in books)
    assert "held out" in source.notes[0]


def test_preparing_again_returns_the_same_at_once(
    tmp_path: Path, prepared: tuple[Path, Manifest], write_jsonl: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": paragraphs(seed)} for seed in range(5)])
    first, directory = prepare_cached([path], tmp_path / "cache", vocab_size=300)
    other, elsewhere = prepare_cached([path], tmp_path / "cache-2", vocab_size=300)
    assert other.digest == first.digest  # made anew, and equal to the last byte
    assert directory.name == elsewhere.name

    def never(*arguments: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(preparing, "_prepare", never)
    again, same = prepare_cached([path], tmp_path / "cache", vocab_size=300)
    assert (again.digest, same) == (first.digest, directory)


@pytest.mark.parametrize("changed", ["vocab_size", "held_out_fraction", "source"])
def test_a_directory_of_other_data_is_not_overwritten(tmp_path: Path, write_jsonl: Callable, changed: str) -> None:
    rows = [{"text": paragraphs(seed)} for seed in range(5)]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    first = prepare([path], tmp_path / "out", vocab_size=300)
    options: dict = {"vocab_size": 300} | (
        {} if changed == "source" else {changed: {"vocab_size": 301, "held_out_fraction": 0.3}[changed]}
    )
    if changed == "source":
        write_jsonl(path, [*rows, {"text": "one more"}])
    with pytest.raises(FathomError, match="holds other prepared data"):
        prepare([path], tmp_path / "out", **options)
    assert verify(tmp_path / "out").digest == first.digest
    assert changed_sources(first, [path]) == (["a"] if changed == "source" else [])


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path, write_jsonl: Callable) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    for name, part in (("full", "is not empty and holds no prepared data"), ("a.jsonl", "is a file")):
        with pytest.raises(FathomError, match=part):
            prepare([path], tmp_path / name, vocab_size=300)
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    prepare([path], tmp_path / "empty", vocab_size=300)
    assert (tmp_path / "empty" / "manifest.json").is_file()


def test_interrupted_work_leaves_nothing_and_is_cleared_away(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"row {number}"} for number in range(500)])
    stale = tmp_path / ".out.partial-4194304"  # a process number that no machine gives out by default
    stale.mkdir()

    def interrupt(stage: str, done: int, total: int | None) -> None:
        if stage == "encode":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([path], tmp_path / "out", tokenizer=tokenizer, progress=interrupt)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a.jsonl"]
    prepare([path], tmp_path / "out", tokenizer=tokenizer)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a.jsonl", "out"]


def test_a_full_disk_leaves_no_manifest(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "row"}])

    def full(self: object, *arguments: object) -> None:
        raise OSError(28, "No space left on device", "shards")

    monkeypatch.setattr("fathom.data.writer.ShardWriter.add", full)
    with pytest.raises(OSError, match="No space left"):
        prepare([path], tmp_path / "out", tokenizer=tokenizer)
    assert sorted(child.name for child in tmp_path.iterdir()) == ["a.jsonl"]


def test_a_flipped_byte_in_a_shard_is_found(tmp_path: Path, write_jsonl: Callable) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": paragraphs(seed)} for seed in range(5)])
    prepare([path], tmp_path / "out", vocab_size=300)
    shard = tmp_path / "out" / "shards" / "000-train.tokens"
    data = bytearray(shard.read_bytes())
    data[5] ^= 1
    shard.write_bytes(data)
    with pytest.raises(FathomError, match=r"000-train\.tokens is not what manifest\.json says"):
        verify(tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "cannot read"),
        ("[]", "format version None"),
        ('{"format_version": 9}', "format version 9"),
        ('{"format_version": 1}', "is damaged: key"),
    ],
)
def test_a_broken_manifest_is_refused(tmp_path: Path, content: str, part: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(FathomError, match=part):
        Manifest.load(tmp_path)


def test_the_same_source_twice_is_refused(tmp_path: Path, write_jsonl: Callable) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    with pytest.raises(FathomError, match="is named twice"):
        prepare([path, path], tmp_path / "out", vocab_size=300)


def test_equal_names_are_told_apart(tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable) -> None:
    paths = []
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        paths.append(write_jsonl(tmp_path / folder / "a.jsonl", [{"text": f"text of {folder}"}]))
    manifest = prepare(paths, tmp_path / "out", tokenizer=tokenizer)
    assert [source.name for source in manifest.sources] == ["a", "a-2"]


def test_a_conversation_that_the_template_refuses_is_dropped_and_counted(
    tmp_path: Path, tokenizer: Tokenizer, write_jsonl: Callable
) -> None:
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [
        {"messages": talk},
        {"messages": [{"role": "tool", "content": "c"}, *talk]},
        {"messages": [{"from": "human", "value": "d"}, {"from": "gpt", "value": "e"}]},
        {"messages": None},
        {"messages": [{"role": "user", "content": "f"}]},
    ]
    manifest = prepare(
        [write_jsonl(tmp_path / "a.jsonl", rows)], tmp_path / "out", tokenizer=tokenizer, held_out_fraction=0
    )
    (source,) = manifest.sources
    assert source.dropped == {"no_text": 1, "no_conversation": 1, "refused_by_template": 1}
    assert source.documents_kept == source.train.documents == 2
    with pytest.raises(FathomError, match="the chat template refuses all 1 conversations"):
        prepare([write_jsonl(tmp_path / "b.jsonl", rows[1:2])], tmp_path / "out-b", tokenizer=tokenizer)


def test_a_long_text_is_encoded_in_blocks_and_stays_whole(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fathom.data.encoding.BLOCK_CHARS", 50)
    text = paragraphs(1, 300).replace("\n", " ", 20)
    (tmp_path / "a.txt").write_text(text)
    prepare([tmp_path / "a.txt"], tmp_path / "out", tokenizer=tokenizer, held_out_fraction=0)
    assert texts(tmp_path / "out", "train") == {"a": [text]}


def test_the_manifest_is_plain_json_with_every_source(prepared: tuple[Path, Manifest]) -> None:
    directory, manifest = prepared
    content = json.loads((directory / "manifest.json").read_text())
    for source in content["sources"]:
        assert len(source["sha256"]) == 64
        assert source["raw_bytes"] == sum(file["bytes"] for file in source["files"]) > 0
    assert Manifest.load(directory) == manifest
    assert manifest.held_out_domains == ("alpha", "beta", "talks")


@pytest.mark.parametrize("fraction", [-0.1, 0.6, float("nan")])
def test_an_impossible_held_out_fraction_is_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(FathomError, match=r"must be between 0 and 0\.5"):
        prepare(["builtin:stdlib"], tmp_path / "out", held_out_fraction=fraction)
